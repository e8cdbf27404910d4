"""Variance of what is computed from counts, and the transform that makes it constant."""

import math
from typing import Any

import torch
from torch import Tensor

from torchmotif._arrays import as_tensor, keeps_digits, like
from torchmotif.errors import InputError

__all__ = ["anscombe", "inverse_anscombe", "moment_variance"]


@keeps_digits
def moment_variance(
    patches: Any, basis: Any, *, electrons_per_unit: float = 1.0, area: float | None = None
) -> Any:
    """Variance of every moment of every patch, from the patches themselves.

    A moment is a weighted sum of independent Poisson counts, so its variance is the sum of the same counts with the
    squared weights. The counts stand for their expectation, which makes the estimate unbiased at any dose.

    Parameters
    ----------
    patches : array of shape (n, s, s)
        Counts of electrons, or electrons divided by `electrons_per_unit`. An expected image gives the exact variance.
    basis : array of shape (k, s, s) or (k, s * s)
        The polynomials, as `zernike_basis` gives them, or `ZernikeBasis.basis`.
    electrons_per_unit : float
        Electrons that one unit of the patches stands for.
    area : float, optional
        What the moments are divided by, pi s^2 / 4 (the disk's area) by default, as in `ZernikeBasis`.

    Returns
    -------
    array of shape (n, k), numpy or torch as `patches` came

    Raises
    ------
    InputError
        If the shapes do not fit together, or the gain or area is not positive.

    Examples
    --------
    >>> moment_variance(torch.full((1, 4, 4), 3.0), torch.ones(1, 4, 4), area=16.0)
    tensor([[0.1875]])
    """
    data = as_tensor(patches, name="patches")
    weights = as_tensor(basis, device=data.device, name="basis").flatten(1)
    if data.ndim != 3 or data.shape[1] * data.shape[2] != weights.shape[1]:
        raise InputError(
            f"patches must be (n, s, s) with as many pixels as the basis functions, got {tuple(data.shape)} "
            f"and a basis of {tuple(as_tensor(basis, dtype=None).shape)}"
        )
    area = math.pi * data.shape[1] * data.shape[2] / 4 if area is None else area
    for name, value in (("electrons_per_unit", electrons_per_unit), ("area", area)):
        if not (value > 0 and math.isfinite(value)):
            raise InputError(f"{name} must be positive and finite, got {value}")
    variance = data.flatten(1) @ weights.square().T / (electrons_per_unit * area**2)
    return like(variance, patches)


def anscombe(counts: Any) -> Any:
    """Counts on a scale where Poisson noise has a standard deviation of 1, for means above about 4 (Anscombe, 1948).

    Parameters
    ----------
    counts : array of any shape
        Detected electrons, at least -3/8.

    Returns
    -------
    array, numpy or torch as `counts` came: 2 sqrt(counts + 3/8)

    Raises
    ------
    InputError
        If a value lies below -3/8.

    Examples
    --------
    >>> anscombe(torch.tensor([0.625]))
    tensor([2.])
    """
    values = _floating(counts, "counts")
    if bool((values < -0.375).any()):
        raise InputError(
            "counts must not lie below -3/8; subtract the detector's offset and clip at zero first"
        )
    return like(2 * torch.sqrt(values + 0.375), counts)


def inverse_anscombe(values: Any) -> Any:
    """The Poisson mean whose Anscombe transform has the given mean, without bias.

    Parameters
    ----------
    values : array of any shape
        Means on the scale of `anscombe`, for example a denoised image.

    Returns
    -------
    array, numpy or torch as `values` came
        The closed form of the exact unbiased inverse (Mäkitalo & Foi, 2011), never below 0.

    Examples
    --------
    >>> round(float(inverse_anscombe(torch.tensor(20.0))), 2)
    99.89
    """
    data = _floating(values, "values")
    least = 2 * math.sqrt(0.375)
    d = data.clamp(min=least)
    root = math.sqrt(1.5)
    mean = d**2 / 4 + root / 4 / d - 11 / 8 / d**2 + 5 / 8 * root / d**3 - 1 / 8
    return like(mean.clamp(min=0.0), values)


def _floating(array: Any, name: str) -> Tensor:
    tensor = as_tensor(array, dtype=None, name=name)
    return tensor if tensor.is_floating_point() else tensor.to(torch.float32)
