"""Maxima of a matched-filtered image that stand out of its noise."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchmotif._arrays import Budget
from torchmotif.columns._filters import matched_filter, maxima_density
from torchmotif.columns._neighbours import strongest_first
from torchmotif.columns.model import Pair, Tiles

__all__ = ["CLOSEST", "FAINTEST_MAXIMUM", "maxima", "outstanding", "running_max"]

CLOSEST = 0.55  # of the spacing: two maxima nearer than this are one column
_FINE = 8.0  # detection works on a grid of at least this many pixels between columns
_FALSE_SHARE = 0.02  # of all maxima kept, at most this share may be noise
_CHUNK = Budget(1 << 20, 1 << 26)  # pixels of that grid that are filtered at a time
FAINTEST_MAXIMUM = 0.1  # of the 90th percentile of heights: what is lower is a ripple of the filter


def maxima(
    tiles: Tiles, data: Float[Tensor, "t h w"], spacing: float, axes: Pair
) -> tuple[Float[Tensor, "n 2"], Float[Tensor, " n"], Int[Tensor, " n"]]:
    """Positions in pixels (float64), heights and tiles of all maxima at the scale of columns `spacing` apart.

    Of two that are nearer to each other than columns are, the lower has the height 0.
    """
    zoom = max(1, math.ceil(_FINE / (spacing * min(axes))))
    few = max(1, _CHUNK.on(data) // (data[0].numel() * zoom**2))
    parts = [_maxima(some, few * i, spacing, axes, zoom) for i, some in enumerate(data.split(few))]
    positions, height, tile = (torch.cat(part) for part in zip(*parts, strict=True))
    square = positions / torch.stack([positions.new_full((), along) for along in axes])
    alone = strongest_first(tiles.spread(square, tile), height, CLOSEST * spacing)
    return positions, height * alone, tile


def _maxima(
    data: Float[Tensor, "c h w"], first: int, spacing: float, axes: Pair, zoom: int
) -> tuple[Float[Tensor, "n 2"], Float[Tensor, " n"], Int[Tensor, " n"]]:
    """All maxima of some tiles, from that numbered `first` on."""
    filtered = matched_filter(data, spacing, axes, zoom)
    pooled = filtered
    for axis, along in enumerate(axes):
        pooled = running_max(pooled, max(1, round(0.3 * spacing * along * zoom)), axis - 2)
    index = torch.nonzero((filtered == pooled) & (filtered > 0))
    height = filtered[tuple(index.unbind(1))]
    return _vertices(filtered, index) / zoom, height, index[:, 0] + first


def running_max(image: Float[Tensor, "t h w"], reach: int, axis: int) -> Float[Tensor, "t h w"]:
    """Greatest value within `reach` pixels along an axis, -1 or -2, by doubling: no cost that grows with the reach."""
    wide = 2 * reach + 1
    margin = (reach, reach, 0, 0) if axis == -1 else (0, 0, reach, reach)
    result, span = F.pad(image, margin, value=-math.inf), 1
    while span < wide:
        shift = min(span, wide - span)
        length = result.shape[axis] - shift
        result = torch.maximum(result.narrow(axis, 0, length), result.narrow(axis, shift, length))
        span += shift
    return result


def outstanding(
    height: Float[Tensor, " n"], noise: Tensor, spacing: float, area: int, faintest: float = FAINTEST_MAXIMUM
) -> Bool[Tensor, " n"]:
    """Which maxima found in `area` pixels are columns: of those that stay, at most a fiftieth is noise.

    `noise` is the standard deviation of the filtered noise, or of that at each maximum; what is lower than `faintest`
    times the 90th percentile is a ripple of the filter.
    Where few of those as high are expected of the noise alone, low maxima count too; pure noise has none.
    """
    if len(height) == 0:
        return height > 0
    ordered, order = torch.sort(height, descending=True)
    score = ordered / noise.expand_as(height)[order].clamp(min=torch.finfo(height.dtype).tiny)
    expected = area * maxima_density(score, spacing)
    rank = torch.arange(1, len(height) + 1, device=height.device)
    good = (expected <= _FALSE_SHARE * rank) & (score > 2)
    last = torch.where(good, rank, 0).max()
    keep = torch.zeros_like(height, dtype=torch.bool).index_copy(0, order, rank <= last)
    upper = ordered.index_select(0, (last // 10).clamp(max=len(height) - 1).view(1))
    return keep & (height >= faintest * upper)


def _vertices(filtered: Float[Tensor, "t h w"], index: Int[Tensor, "n 3"]) -> Float[Tensor, "n 2"]:
    """Vertex of the parabola through the three points around each maximum, along each axis, float64."""
    tile, row, col = index.unbind(1)
    _, h, w = filtered.shape
    middle = filtered[tile, row, col]
    shifts = []
    for before, after in (
        (filtered[tile, (row - 1).clamp(min=0), col], filtered[tile, (row + 1).clamp(max=h - 1), col]),
        (filtered[tile, row, (col - 1).clamp(min=0)], filtered[tile, row, (col + 1).clamp(max=w - 1)]),
    ):
        curvature = before - 2 * middle + after
        shift = 0.5 * (before - after) / torch.where(curvature == 0, torch.ones_like(curvature), curvature)
        shifts.append(shift.clamp(-0.5, 0.5))
    return index[:, 1:].double() + torch.stack(shifts, dim=1).double()
