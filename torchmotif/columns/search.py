"""The search: maxima, joint fits of them by tiles, and what these leave over."""

from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from torchmotif.columns.detect import CLOSEST, maxima, outstanding
from torchmotif.columns.filters import filter_gain, maxima_density, noise_level, reach_of, significance
from torchmotif.columns.fit import Fit, fit_columns
from torchmotif.columns.lattice import dark_sites
from torchmotif.columns.model import Noise
from torchmotif.columns.neighbours import as_index, pairs_within, strongest_first
from torchmotif.columns.prepare import Prepared
from torchmotif.columns.shape import Shape, Start
from torchmotif.columns.split import retold, unevenness
from torchmotif.columns.tiles import Tile, each, tiles_of

__all__ = [
    "MARGIN",
    "WIDTH",
    "Found",
    "at_nearest",
    "completed",
    "credible",
    "fit_tile",
    "fitted",
    "learned",
    "seen",
]

WIDTH = 0.22  # of the spacing: width of a column from which the fit sets out
_SURELY = 0.2  # of the maxima must be rare even among single electrons
_SURE = 3.0  # standard deviations of its intensity that a column must stand above nothing
_FAINTEST = 0.05  # of the upper decile of intensities
_FALSE_EXTRA = 0.01  # columns that noise may add to those there, in the search of what is left over
_APART = 0.75  # of the spacing: what is left over nearer to a column than this is a misfit of that column
_MEDIAN = 1.75  # median height of the maxima of matched-filtered noise, in standard deviations
MARGIN = 4.0  # spacings around a tile that are fitted with it
_LEARNED = 40.0  # spacings: side of the part from which the common shape is learned
# Steps that learn the shape, and whether columns are settled by then.
_LESSONS = ((6, False), (3, False), (3, True))
_ROUNDS = 3  # times that a fit is searched for what it has left over or taken for one
_ROUGH = 2  # steps after which the residual shows what is missing


@dataclass(frozen=True, eq=False)
class Found:
    """Columns on the way to the result, in pixels of the image and units of the prepared data."""

    positions: Float[Tensor, "n 2"]
    intensity: Float[Tensor, " n"]
    covariance: Float[Tensor, "n 3 3"]  # of intensity, row, column
    quality: Float[Tensor, " n"]
    predicted: Bool[Tensor, " n"]  # by the lattice, not seen

    def __len__(self) -> int:
        """Count the columns."""
        return len(self.positions)

    def where(self, index: Tensor) -> "Found":
        """Those that a mask or an index picks."""
        index = as_index(index)
        return Found(*(getattr(self, field.name)[index] for field in fields(self)))

    @staticmethod
    def joined(parts: "list[Found]") -> "Found":
        """Several as one."""
        return Found(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Found)))


def seen(image: Prepared, spacing: float) -> tuple[Float[Tensor, "n 2"], Float[Tensor, " n"]]:
    """Positions and heights of the maxima of an image that stand out of its noise."""

    def look(tile: Tile) -> tuple[Tensor, Tensor, Tensor]:
        pixels = tile.cut(image.data)
        at, height = maxima(pixels, spacing, image.axes)
        at = at + tile.origin(at)
        mine = tile.owns(at, image.shape)
        return at[mine], height[mine], noise_level(pixels)

    parts = each(look, _tiles(image, reach_of(spacing)), image.data.device)
    positions, heights, levels = zip(*parts, strict=True)
    every, height = torch.cat(positions), torch.cat(heights)
    level, area = torch.stack(levels).median(), image.data.numel()
    keep = outstanding(height, level * filter_gain(spacing), spacing, area)
    score = significance(height, image.data, level, spacing, image.axes)
    sure = outstanding(height, height / score, spacing, area)
    if int(sure.sum()) < _SURELY * int(keep.sum()):  # most are but a few electrons together
        keep = sure
    keep &= at_nearest(image.usable | image.saturated, every)
    return every[keep], height[keep]


def fitted(image: Prepared, positions: Float[Tensor, "n 2"], spacing: float) -> tuple[Found, Shape]:
    """Columns fitted to an image from the positions of its maxima, and their common shape.

    The shape is learned where columns are most frequent, and held elsewhere.
    """
    shape, faintest = learned(image, positions, spacing)

    def fit(tile: Tile) -> Found:
        result = fit_tile(*_view(image, tile, positions), spacing, shape, faintest=faintest)
        return _owned(image, tile, result, credible(result, faintest))

    found = Found.joined(each(fit, _tiles(image, _margin(image, spacing)), image.data.device))
    square = found.positions / found.positions.new_tensor(image.axes)
    return found.where(strongest_first(square, found.intensity, CLOSEST * spacing)), shape


def learned(image: Prepared, positions: Float[Tensor, "n 2"], spacing: float) -> tuple[Shape, Tensor]:
    """The common shape, from where columns are most frequent, and the least intensity of a column."""
    side = round(max(_LEARNED * spacing, 256))
    parts = list(tiles_of(image.shape, _margin(image, spacing), side))
    densest = max(parts, key=lambda tile: int(tile.owns(positions, image.shape).sum()))
    (found,) = each(lambda tile: _learned(image, tile, positions, spacing), [densest], image.data.device)
    return found


def _learned(
    image: Prepared, tile: Tile, positions: Float[Tensor, "n 2"], spacing: float
) -> tuple[Shape, Tensor]:
    """The common shape of columns, from one tile, and the least intensity of a column."""
    width = image.data.new_tensor(image.axes) * (WIDTH * spacing)
    shape = Shape(width, Noise(-1.0, 1.0, 1.0, 1.0), width.new_ones(()))
    data, usable, local = _view(image, tile, positions)
    start = Start.at(local)
    for number, (steps, settled) in enumerate(_LESSONS, start=1):
        fit = fit_columns(
            data, usable, start, spacing, shape, steps=steps, learn=True, settled=settled, draft=True
        )
        shape = fit.shape.but(unevenness=unevenness(data, usable, fit))
        fit, faintest = replace(fit, shape=shape), _FAINTEST * _upper_decile(fit.intensity)
        if number < len(_LESSONS):
            start, _ = _revised(data, usable, fit, spacing, faintest=faintest)
    return shape, faintest


def completed(image: Prepared, found: Found, shape: Shape, spacing: float) -> Found:
    """Columns together with the sites that the lattice around them predicts, fitted anew with these held in place."""
    axes = found.positions.new_tensor(image.axes)
    sites = dark_sites(found.positions / axes, spacing) * axes
    last = sites.new_tensor(image.shape) - 0.5
    sites = sites[((sites >= -0.5) & (sites <= last)).all(dim=1)]
    every = torch.cat([found.positions, sites])
    is_site = torch.arange(len(every), device=every.device) >= len(found)

    def fit(tile: Tile) -> Found:
        data, usable, _ = _view(image, tile, every)
        here = _within(tile, every)
        start = Start.at(every[here] - tile.origin(every))
        result = fit_columns(data, usable, start, spacing, shape, held=is_site[here])
        return _owned(image, tile, result, torch.ones_like(result.held))

    return Found.joined(each(fit, _tiles(image, _margin(image, spacing)), image.data.device))


def _owned(image: Prepared, tile: Tile, fit: Fit, keep: Tensor) -> Found:
    """The columns of a fit to keep, of those that fall to its tile."""
    at = fit.positions + tile.origin(fit.positions)
    found = Found(at, fit.intensity, fit.covariance, fit.quality, fit.held)
    measured = at_nearest(image.usable | image.saturated, at)
    return found.where(keep & measured & tile.owns(at, image.shape))


def fit_tile(
    data: Tensor, usable: Tensor, positions: Tensor, spacing: float, shape: Shape, *, faintest: Tensor
) -> Fit:
    """The fit of one tile, with what a first fit leaves over, and without what it finds to be nothing."""
    fit = fit_columns(data, usable, Start.at(positions), spacing, shape, steps=_ROUGH, draft=True)
    start, changed = _revised(data, usable, fit, spacing, faintest=faintest)
    for _ in range(_ROUNDS - 1):
        if not changed:
            break
        fit = fit_columns(data, usable, start, spacing, shape, steps=_ROUGH, draft=True)
        start, changed = _revised(data, usable, fit, spacing, faintest=faintest)
    fit = fit_columns(data, usable, start, spacing, shape, draft=True)
    start, _ = _revised(data, usable, fit, spacing, faintest=faintest, more=False)
    return fit_columns(data, usable, start, spacing, shape)


def _revised(
    data: Tensor, usable: Tensor, fit: Fit, spacing: float, *, faintest: Tensor, more: bool = True
) -> tuple[Start, int]:
    """A fit without what it finds to be nothing, with pairs split or merged and `more` that it leaves over; how many changes."""
    axes = _axes(fit)
    told = retold(data, usable, fit, CLOSEST * spacing)
    standing = ~told.replaced
    keep = standing & credible(replace(fit, sure=told.sure), faintest)
    keep &= strongest_first(fit.positions / axes, fit.intensity * standing, CLOSEST * spacing)
    kept = as_index(keep)
    at, new = fit.positions[kept], told.columns[:, 1:]
    extra = _left_over(data, usable, fit, spacing) if more else at[:0]
    if len(new):
        extra = extra[~_near(extra / axes, new / axes, spacing)]
    dark = fit.intensity.new_zeros(len(extra))
    intensity = torch.cat([fit.intensity[kept], told.columns[:, 0].to(dark.dtype), dark])
    single = torch.cat([told.single[kept], told.single.new_ones(len(new) + len(extra))])
    sure = torch.cat([told.sure[kept], told.columns_sure, dark > 0])
    # Those that are new may still lie too near to others; the next revision, or the end of the search, sees to it.
    start = Start(torch.cat([at, new, extra]), intensity, fit.spline, single, sure)
    return start, told.changes + len(extra)


def _left_over(data: Tensor, usable: Tensor, fit: Fit, spacing: float) -> Float[Tensor, "n 2"]:
    """Positions of columns that the residual shows: those too near to brighter ones to be maxima themselves."""
    axes = _axes(fit)
    row, col = axes.tolist()
    score = (data - fit.expected) * usable / fit.shape.noise.variance(fit.expected).sqrt()
    at, height = maxima(score, spacing, (row, col))
    if len(height) == 0:
        return at
    # Where columns are not quite Gaussian the residual is rougher than noise: then that roughness is the noise.
    height = height / torch.clamp(height.median() / _MEDIAN, min=filter_gain(spacing))
    expected = data.numel() * maxima_density(height, spacing)
    at = at[(expected <= _FALSE_EXTRA * len(fit.positions)) & (height > 2)]
    return at[~_near(at / axes, fit.positions / axes, _APART * spacing)]


def _axes(fit: Fit) -> Float[Tensor, " 2"]:
    """Pixels along (rows, columns) per side of a square pixel of the same area, by the widths of the columns."""
    return (fit.shape.width / fit.shape.width.prod().sqrt()).double()


def _near(one: Float[Tensor, "n 2"], other: Float[Tensor, "m 2"], radius: float) -> Bool[Tensor, " n"]:
    """Which positions have one of some others within a radius."""
    i, j = pairs_within(torch.cat([one, other]), radius)
    near = torch.zeros(len(one) + len(other), dtype=torch.int32, device=one.device)
    return near.index_add_(0, i, (j >= len(one)).int())[: len(one)] > 0


def credible(fit: Fit, faintest: Tensor) -> Bool[Tensor, " n"]:
    """Which columns are bright enough to be there."""
    clear = fit.intensity > _SURE * fit.covariance[:, 0, 0].clamp(min=0).sqrt()
    return (clear | fit.sure) & (fit.intensity > faintest)


def _view(image: Prepared, tile: Tile, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels, usable pixels and positions in the window of a tile."""
    local = positions[_within(tile, positions)] - tile.origin(positions)
    return tile.cut(image.data), tile.cut(image.usable), local


def at_nearest(pixels: Tensor, positions: Float[Tensor, "n 2"]) -> Tensor:
    """The values of the pixels nearest to positions."""
    last = torch.tensor(pixels.shape, device=positions.device) - 1
    row, col = torch.minimum(positions.round().long().clamp(min=0), last).unbind(1)
    values: Tensor = pixels[row, col]
    return values


def _within(tile: Tile, positions: Tensor) -> Bool[Tensor, " n"]:
    """Which positions lie in the window of a tile."""
    low, high = positions.new_tensor(tile.window).view(2, 2) - 0.5
    inside: Tensor = ((positions >= low) & (positions <= high)).all(dim=1)
    return inside


def _tiles(image: Prepared, margin: int) -> list[Tile]:
    return list(tiles_of(image.shape, margin))


def _margin(image: Prepared, spacing: float) -> int:
    return round(MARGIN * spacing * max(image.axes))


def _upper_decile(values: Tensor) -> Tensor:
    if len(values) == 0:  # every one of them turned out to be nothing
        return values.sum()
    decile: Tensor = values.kthvalue(max(1, round(0.9 * len(values)))).values
    return decile
