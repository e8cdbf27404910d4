"""From polynomials to pixels: the kernel that integrates an image against them over a disk.

The value at a pixel's centre stands for the pixel's square well inside the disk, where the sum over pixels converges
faster than any power of their size. Across the rim it does not: rotating a patch of 65 px changes moments up to n = 20
by 5 %, whichever fraction of its area an edge pixel counts for. So the rim is integrated by Gauss quadrature in polar
coordinates, with the image interpolated between its pixels by cubics; as this is linear in the pixels, it becomes part
of the kernel, and the moments remain weighted sums of the raw counts.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from torchmotif.zernike.indices import n_modes, orders
from torchmotif.zernike.polynomials import radial_polynomials, zernike_polynomials

__all__ = ["disk_kernels", "mirrored"]

_RIM = 6.0  # depth in pixels over which the rim's quadrature takes over from the pixel centres
_STEEPNESS = 5.5  # of that transition: 1e-4 is left at either end
_RADII = 8  # Gauss nodes across the rim; 12 change nothing
_TAPS = 4  # pixels a side that a cubic interpolates between


def disk_kernels(n_max: int, size: int, offset: tuple[float, float]) -> Float[Tensor, "k size size"]:
    """Weight of every pixel of a window in the integrals over its disk, float64.

    Parameters
    ----------
    n_max : int
        Highest radial order.
    size : int
        Side of the window in pixels; the disk's radius is size / 2.
    offset : (float, float)
        Centre of the disk minus centre of the window, (row, col) in pixels.

    Returns
    -------
    Tensor of shape (k, size, size)
        The product with the pixels of a patch is the integral of patch times polynomial, in pixels.
    """
    if any(offset):
        return _kernels(n_max, size, offset, 0)
    return _unfold(_kernels(n_max, size, offset, size // 2), n_max, size)


def _unfold(quadrant: Tensor, n_max: int, size: int) -> Tensor:
    """The whole window from its last quadrant, by the mirror symmetries of every polynomial."""
    half = size // 2
    whole = quadrant.new_empty(n_modes(n_max), size, size)
    whole[:, half:, half:] = quadrant
    whole[:, half:, :half] = mirrored(quadrant[:, :, -half:], n_max, rows=False, columns=True)
    whole[:, :half] = mirrored(whole[:, size - half :], n_max, rows=True, columns=False)
    return whole


def mirrored(
    kernels: Float[Tensor, "... k h w"], n_max: int, *, rows: bool, columns: bool
) -> Float[Tensor, "... k h w"]:
    """The kernels of a disk mirrored with its window: every polynomial is then itself, or its negative."""
    along = [axis for axis, chosen in ((-2, rows), (-1, columns)) if chosen]
    return kernels.flip(along) * _signs(n_max, rows, columns, kernels.dtype, kernels.device)


@lru_cache(maxsize=16)
def _signs(
    n_max: int,
    rows: bool,
    columns: bool,
    dtype: torch.dtype,
    device: torch.device,
) -> Float[Tensor, "k 1 1"]:
    """Of every polynomial in the mirror."""
    m = orders(n_max)[:, 1]
    sign = torch.ones_like(m)
    if rows:  # theta to -theta
        sign = torch.where(m < 0, -sign, sign)
    if columns:  # theta to pi - theta
        sign = torch.where((m % 2 == 0) == (m < 0), -sign, sign)
    return sign.to(device, dtype)[:, None, None]


def transposed(kernels: Float[Tensor, "k h w"], n_max: int) -> Float[Tensor, "k w h"]:
    """The kernels of a disk whose rows and columns are exchanged: theta becomes -pi / 2 - theta."""
    n, m = orders(n_max).unbind(1)
    odd = m % 2 == 1
    # Of odd |m|, cosines become sines, and the other way round.
    partner = torch.where(odd, (n * (n + 2) - m) // 2, (n * (n + 2) + m) // 2)
    turn = torch.where(m.abs() % 4 < 2, 1.0, -1.0)
    sign = torch.where(odd, -turn, torch.where(m < 0, -turn, turn))
    return kernels[partner].mT * sign.to(kernels)[:, None, None]


def _kernels(n_max: int, size: int, offset: tuple[float, float], first: int) -> Tensor:
    """As `disk_kernels`, for the pixels from row and column `first` on."""
    radius = size / 2
    depth = min(_RIM, radius)
    side = size - first
    axis = torch.arange(first, size, dtype=torch.float64) - (size - 1) / 2
    y = -(axis - offset[0])[:, None].expand(side, side).flatten()  # rows point down, angles turn up
    x = (axis - offset[1])[None, :].expand(side, side).flatten()
    if depth < radius:
        r = torch.hypot(x, y)
        share = _inner_share(r, radius, depth)
        kernels: Tensor = zernike_polynomials(n_max, (r / radius).clamp(max=1), torch.atan2(y, x), share)
    else:  # so small a disk is rim throughout
        kernels = x.new_zeros(n_modes(n_max), side**2)
    _add_rim(kernels, n_max, size, offset, first)
    return kernels.view(-1, side, side)


def _inner_share(r: Tensor, radius: float, depth: float) -> Tensor:
    """Share of the integrand at radius `r` that the pixel centres carry: 1 inside, falling smoothly to 0 at the rim."""
    share = torch.special.erfc(((r - (radius - depth)) / depth - 0.5) * _STEEPNESS) / 2
    return torch.where(r < radius, share, 0.0)


class _Rim(NamedTuple):
    """The nodes of the rim's quadrature, and what the polynomials are there; the same for all offsets."""

    r: Float[Tensor, " r"]  # in pixels
    ring: Float[Tensor, " r"]  # weight of the nodes of each radius
    theta: Float[Tensor, " t"]
    waves: Float[Tensor, "t w"]  # cosines, then sines, of all multiples of the angles
    radial: Float[
        Tensor, "w o r"
    ]  # radial polynomials that each wave is multiplied by; 0 beyond their number
    row: Int[Tensor, " k"]  # where each polynomial is among them


@lru_cache(maxsize=4)
def _rim(n_max: int, size: int) -> _Rim:
    """Those of a disk."""
    radius, depth = size / 2, min(_RIM, size / 2)
    node, weight = np.polynomial.legendre.leggauss(_RADII)
    r = radius - depth * (1 - torch.from_numpy(node)) / 2
    ring = torch.from_numpy(weight) * depth / 2 * r
    if depth < radius:
        ring = ring * (1 - _inner_share(r, radius, depth))
    # One node per pixel, and enough for cos(n theta):
    count = 4 * max(math.ceil(math.pi / 2 * radius), n_max + 1)
    theta = (torch.arange(count, dtype=torch.float64) + 0.5) * (2 * math.pi / count)
    angles = theta[:, None] * torch.arange(n_max + 1, dtype=torch.float64)
    waves = torch.cat([torch.cos(angles), torch.sin(angles)], dim=1)
    table = radial_polynomials(n_max, r / radius)
    radial = r.new_zeros(2, n_max + 1, n_max // 2 + 1, _RADII)
    row = torch.empty(n_modes(n_max), dtype=torch.long)
    for number, (n, m) in enumerate(orders(n_max).tolist()):
        which = (n - abs(m)) // 2
        radial[int(m < 0), abs(m), which] = table[n][which] * math.sqrt((n + 1) * (1 if m == 0 else 2))
        row[number] = ((m < 0) * (n_max + 1) + abs(m)) * (n_max // 2 + 1) + which
    return _Rim(r, ring * (2 * math.pi / count), theta, waves, radial.flatten(0, 1), row)


def _add_rim(kernels: Tensor, n_max: int, size: int, offset: tuple[float, float], first: int) -> None:
    """Add what the nodes in the rim give to the pixels around them."""
    rim = _rim(n_max, size)
    pixel, which_r, weighted = _taps(n_max, size, offset, first)
    # Sum over the angles once per wave, not once per polynomial: to (radius, pixel), wave.
    seen = torch.bincount(pixel, minlength=kernels.shape[1]) > 0
    pixels, which_pixel = torch.nonzero(seen)[:, 0], (torch.cumsum(seen, 0) - 1)[pixel]
    sums = weighted.new_zeros(_RADII * len(pixels), rim.waves.shape[1])
    sums.index_add_(0, which_r * len(pixels) + which_pixel, weighted)
    each = torch.bmm(rim.radial, sums.view(_RADII, len(pixels), -1).permute(2, 0, 1))
    kernels.index_add_(1, pixels, each.flatten(0, 1)[rim.row])


def _taps(
    n_max: int, size: int, offset: tuple[float, float], first: int
) -> tuple[Int[Tensor, " t"], Int[Tensor, " t"], Float[Tensor, "t w"]]:
    """Which pixel, which radius, and the waves times the weight: how a cubic interpolates at the nodes."""
    rim = _rim(n_max, size)
    rows, row_weights = _taps_along(n_max, size, offset[0], 0)
    columns, column_weights = _taps_along(n_max, size, offset[1], 1)
    rows, columns = rows[:, None] - first, columns[None] - first
    pixel = rows * (size - first) + columns
    radius = torch.arange(_RADII)[:, None].expand_as(pixel)
    weighted = (row_weights[:, None] * column_weights * rim.ring[:, None])[..., None] * rim.waves
    if first == 0:
        return pixel.flatten(), radius.flatten(), weighted.flatten(0, -2)
    kept = (rows >= 0) & (columns >= 0)
    return pixel[kept], radius[kept], weighted[kept]


@lru_cache(maxsize=16)  # all that a grid of eight offsets a pixel needs
def _taps_along(
    n_max: int, size: int, offset: float, axis: int
) -> tuple[Int[Tensor, "a r t"], Float[Tensor, "a r t"]]:
    """Along one axis, pixels between which a cubic interpolates at the nodes, and their weights."""
    rim = _rim(n_max, size)
    way = torch.cos(rim.theta) if axis else -torch.sin(rim.theta)  # rows point down, angles turn up
    return _cubic((size - 1) / 2 + offset + rim.r[:, None] * way, size)


def _cubic(position: Tensor, size: int) -> tuple[Int[Tensor, "t ..."], Float[Tensor, "t ..."]]:
    """Pixels along one axis between which a cubic interpolates, and their weights; one-sided at the window's edge."""
    taps = min(_TAPS, size)
    start = (torch.floor(position) - (taps // 2 - 1)).clamp(0, size - taps)
    at = position - start
    weights = torch.ones(taps, *position.shape, dtype=position.dtype)
    for i in range(taps):
        for j in range(taps):
            if i != j:
                weights[i] *= (at - j) / (i - j)
    step = torch.arange(taps).view(-1, *(1,) * position.ndim)
    return start.long() + step, weights
