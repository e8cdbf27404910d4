"""The sampled Zernike basis."""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from torchmotif._arrays import DeviceLike
from torchmotif.errors import InputError
from torchmotif.zernike.indices import n_modes
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
        Highest radial order; k = (n_max + 1)(n_max + 2) / 2.
    size : int
        Side of the window in pixels; the disk's radius is size / 2 pixels.
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
        If `n_max` is negative or higher than `size` pixels can carry, or `offset` is beyond a pixel.

    Examples
    --------
    >>> zernike_basis(10, 33).shape
    torch.Size([66, 33, 33])
    """
    n_modes(n_max)
    if not isinstance(size, int | np.integer) or size < 3 or n_max > size - 1:
        raise InputError(
            f"size must be a whole number of at least 3 and more than n_max, got size={size}, n_max={n_max}; "
            f"use n_max <= {max(int(size) - 1, 0)}"
        )
    if not all(abs(o) <= 1 for o in offset):
        raise InputError(
            f"offset must lie within one pixel, got {tuple(offset)}; take the window around the nearest pixel"
        )
    kernels = disk_kernels(int(n_max), int(size), (float(offset[0]), float(offset[1])))
    if orthonormal:
        kernels = _nearest_orthonormal(kernels, disk_area(size))
    return kernels.to(device=device, dtype=dtype)


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
    return f"n_max={n_max} is more than {size} px determine; use n_max <= {size // 2}"
