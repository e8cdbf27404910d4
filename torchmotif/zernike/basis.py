"""The sampled Zernike basis."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from torchmotif._arrays import DeviceLike
from torchmotif._checks import whole_number
from torchmotif.errors import InputError
from torchmotif.zernike.polynomials import zernike_polynomials
from torchmotif.zernike.quadrature import disk_kernels

__all__ = ["disk_area", "synthesis_basis", "zernike_basis"]

_CONDITION = 1e8  # beyond it the pixels do not determine the moments


def disk_area(size: int) -> float:
    """Area in pixels of the disk inscribed in a window of `size` pixels a side."""
    return math.pi * size**2 / 4


def zernike_basis(
    n_max: int,
    size: int,
    *,
    orthonormal: bool = False,
    offset: tuple[float, float] = (0.0, 0.0),
    dtype: torch.dtype = torch.float32,
    device: DeviceLike = None,
) -> Float[Tensor, "k size size"]:
    """Zernike polynomials sampled on the pixels of a square window: the integration kernels of the moments.

    The moments of a patch are ``(patch * basis).sum((-2, -1)) / (pi * size**2 / 4)``.

    Parameters
    ----------
    n_max : int
        Highest radial order; k = (n_max + 1)(n_max + 2) / 2. At most size - 1; the pixels surely determine all moments
        up to size // 2, see the notes.
    size : int
        Side of the window in pixels, at least 3; the disk's radius is size / 2 pixels.
    orthonormal : bool
        Give, of all bases whose products summed over the pixels are exactly orthonormal (to the disk's area), the one
        nearest to the integration kernels (Löwdin, 1950). White noise then gives uncorrelated moments of equal variance.
    offset : (float, float)
        Centre of the disk minus centre of the window, (row, col) in pixels, at most one pixel.
    dtype : torch.dtype
        Type of the result; it is computed in float64.
    device : str or torch.device, optional

    Returns
    -------
    Tensor of shape (k, size, size)
        In OSA/ANSI order. Well inside the disk the polynomials at the pixel centres, sqrt(2 (n + 1) / (1 + [m = 0]))
        R_n^|m|(r) times cos(m theta) for m >= 0 and sin(|m| theta) for m < 0, with theta counter-clockwise from the
        direction of the columns; at the rim their integrals over the part of the disk that each pixel stands for.

    Raises
    ------
    InputError
        If `n_max` is negative or above size - 1; if it is above size // 2, `orthonormal` is asked for and the pixels
        do not determine the moments; if `offset` is beyond a pixel.

    Notes
    -----
    Up to n_max = size // 2 the pixels determine the moments: this is the sensible limit, and `MotifClassifier` and
    `analyze` go no further. Above it, moments are still integrals, but depend more and more on each other; where
    rounding would decide (a condition beyond 1e8), `orthonormal` and `ZernikeBasis.reconstruct` refuse: at 33 px from
    n_max = 31 and 28 on.

    Examples
    --------
    >>> zernike_basis(10, 33).shape
    torch.Size([66, 33, 33])
    """
    n_max, size = whole_number("n_max", n_max, 0), whole_number("size", size, 3)
    if n_max > size - 1:
        raise InputError(
            f"n_max must be less than size, got n_max={n_max}, size={size}; use n_max <= {size - 1}, "
            f"or {size // 2} where the pixels shall determine the moments"
        )
    kernels = disk_kernels(n_max, size, _within_a_pixel(offset))
    if orthonormal:
        kernels = _nearest_orthonormal(kernels, disk_area(size))
    return kernels.to(device=device, dtype=dtype)


def _within_a_pixel(offset: Any) -> tuple[float, float]:
    try:
        row, column = (float(o) for o in offset)
    except (TypeError, ValueError):
        raise InputError(f"offset must be two numbers, (row, col) in pixels, got {offset!r}") from None
    if not (abs(row) <= 1 and abs(column) <= 1):
        raise InputError(
            f"offset must lie within one pixel, got {(row, column)}; take the window around the nearest pixel"
        )
    return row, column


def _nearest_orthonormal(kernels: Tensor, area: float) -> Tensor:
    """The set with orthonormal products that is nearest to `kernels` in the sum of squares: G^(-1/2) kernels."""
    flat = kernels.flatten(1)
    values, vectors = torch.linalg.eigh(flat @ flat.T / area)
    if float(values[0]) * _CONDITION < float(values[-1]):
        raise InputError(_too_high(len(flat), kernels.shape[-1]))
    nearest: Tensor = (vectors * values.rsqrt()) @ vectors.T @ flat
    return nearest.view_as(kernels)


def synthesis_basis(n_max: int, kernels: Float[Tensor, "k size size"]) -> Float[Tensor, "k size size"]:
    """The patches of which moments are the coefficients: polynomials on the disk, zero outside, dual to `kernels`.

    Parameters
    ----------
    n_max : int
        Highest radial order.
    kernels : Tensor of shape (k, size, size), float64
        As `zernike_basis` gives them.

    Returns
    -------
    Tensor of shape (k, size, size)
        The moments of its sums are exactly the coefficients of those sums.

    Raises
    ------
    InputError
        If the pixels are too few to determine that many moments.
    """
    size = kernels.shape[-1]
    axis = (torch.arange(size, dtype=kernels.dtype) - (size - 1) / 2) / (size / 2)
    y, x = (grid.flatten() for grid in torch.meshgrid(-axis, axis, indexing="ij"))
    r = torch.hypot(x, y)
    inside = torch.where(r <= 1, 1.0, 0.0).to(r)
    polynomials = zernike_polynomials(n_max, r.clamp(max=1), torch.atan2(y, x), inside)
    mixing = kernels.flatten(1) @ polynomials.T / disk_area(size)
    if float(torch.linalg.cond(mixing)) > _CONDITION:
        raise InputError(_too_high(len(kernels), size))
    dual: Tensor = torch.linalg.solve(mixing.T, polynomials)
    return dual.view_as(kernels)


def _too_high(k: int, size: int) -> str:
    n_max = (math.isqrt(8 * k + 1) - 3) // 2
    return (
        f"n_max={n_max} is more than {size} px determine, as an orthonormal basis and reconstruct need; "
        f"n_max <= {size // 2} surely works"
    )
