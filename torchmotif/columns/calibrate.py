"""Calibration: what all columns of an image have in common, from some windows of it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from torchmotif._arrays import DeviceLike, as_tensor, sent
from torchmotif.columns._amorphous import is_amorphous
from torchmotif.columns._filters import (
    filter_gain,
    level_between_peaks,
    noise_around,
    noise_level,
    significance,
)
from torchmotif.columns._fit import Fit
from torchmotif.columns._guided import predicted
from torchmotif.columns._mean_cell import cells_of, nearest_sites
from torchmotif.columns._neighbours import as_index, picked
from torchmotif.columns._noise import Noise
from torchmotif.columns._pairs import overdispersion
from torchmotif.columns._peaks import maxima, outstanding, running_max
from torchmotif.columns._periodic import repeats
from torchmotif.columns._search import FAINTEST, converge_common, revised
from torchmotif.columns._start import Shape, Start
from torchmotif.columns._steps import stepped
from torchmotif.columns._unexplained import left_over
from torchmotif.columns.grid import Grid
from torchmotif.columns.model import Cell, ImageModel, Pair, Tiles
from torchmotif.columns.pixels import levels
from torchmotif.columns.spacing import UNEVEN, flattened, measured_spacing, nearest_quartiles
from torchmotif.errors import InputError

__all__ = [
    "START_WIDTH",
    "NoColumnsError",
    "calibrate",
    "calibrate_image",
    "first_windows",
    "spacing_of",
    "telling",
]

START_WIDTH = 0.22  # of the spacing: width of a column from which the fit sets out
# Pixels: of columns nearer than that 2 x 2 pixels hold the contrast, which would be taken for noise. A square lattice has 1.7 times
# the noise at 2.5 px, 1.2 times at 3.5 px, where all columns are found all the same.
_CLOSE = 4.0
_SIGNIFICANT = 0.2  # of the maxima must be rare even among single electrons
_LEARNED = 32.0  # spacings: side of the part from which the common shape is learned
_FIRST_LOOK, _SECOND_LOOK = 3, 8  # windows along each axis, and where those show no columns
_MEASURED = 5  # of the first windows, that tell the spacing
_LEAST_SIDE = 256  # pixels of it
# Steps that learn the shape, at most, before columns are revised: fewer where the width no longer changes, and no further ones where
# the revision has not changed it either. With (4, 2, 3) wide, blurred columns come out up to 2.8 % narrower. Where mean cells give the width and the
# places at first two do: of 39 simulated and real images of all kinds a third moves no recall and no precision by more than 0.001.
_LESSONS, _LESSONS_WITH_CELLS = (6, 3, 3), (6, 3)
# Distances of nearest columns after the fit, over the spacing before it: those that agree, and those for which the width need not
# be learned anew; how often it is, and how far neighbours are looked for in spacings.
_NEARLY, _ABOUT, _AGAIN, _FAR = 1.03, 1.2, 2, 3.0
# Ratio of both widths, and width over spacing, above which a mean cell is not that of round columns: simulated crystals have up to
# 1.05 and 0.36; dumbbells of which it shows one column 1.9 and 0.25, and 0.5 in the cell.
_LONG, _WIDEST = 1.4, 0.45
# Share of what repeats that columns may leave over before a finer spacing is tried, shares of the spacing that are tried, and by how much what is
# left must fall: the layers of a twisted bilayer together show the distance of their hollows. At 3 to 9 degrees 0.16 to 0.23 are left
# and a third of the columns are found, with the distance of neighbours 0.01 to 0.08 and half to four fifths.
_UNEXPLAINED, _FINER, _LESS = 0.06, (3**-0.5, 0.5**0.5), 0.5
_SAMPLE_SPACINGS = 24.0  # least side of the windows
# Of a window's side: distance between columns that is taken for granted where a step hides it. Of 16 images of 256 px with columns 8 to
# 32 px apart and steps of ten or thirty times the contrast the spacing is right in 14 with 1/16 and in nine with 1/6
# (`benchmarks/columns/constants.py hidden`). A spacing so many times wider may be the size of what steps.
_HIDDEN = 1 / 16
_WIDE = 2.0
_TOPS = 0.97  # share of the pixels that are lower than the columns' tops


class NoColumnsError(InputError):
    """An image whose columns do not stand out of its noise; `model` is what is known of it."""

    def __init__(self, model: ImageModel, *, amorphous: bool = False) -> None:
        self.model, self.amorphous = model, amorphous
        super().__init__(
            "image: nothing in it repeats, and its maxima are those of noise of their size, as an amorphous film has them: no "
            "atomic columns; set spacing= to have them all the same"
            if amorphous
            else "image: no atomic columns stand out of its noise; set spacing, or polarity='dark' for a bright-field image"
        )


def calibrate_image(
    reads: Sequence[Callable[[tuple[int, int, int, int]], Any]],
    shape: tuple[int, int],
    *,
    spacing: float | None = None,
    measured: float | None = None,
    seen: ImageModel | None = None,
    **known: Any,
) -> ImageModel:
    """The model of an image, or of the frames of a stack, from few windows; from more where these show no columns.

    Parameters
    ----------
    reads : sequence of functions
        For the image, or each frame, from (first row, first column, end row, end column) to the pixels there.
    shape : (int, int)
        Of each.
    spacing, **known
        See `calibrate`, also for the errors.
    measured : float, optional
        The spacing in the first windows, see `spacing_of`, where it was measured before.
    seen : ImageModel, optional
        The levels in the first windows, where they were measured before.
    """
    for per_axis in (_FIRST_LOOK, _SECOND_LOOK):
        boxes = Grid.samples(shape, per_axis)
        try:
            model = calibrate(
                _windows(reads, boxes),
                spacing=spacing,
                measured=measured if per_axis == _FIRST_LOOK else None,
                seen=seen if per_axis == _FIRST_LOOK else None,
                **known,
            )
            side, extent = round(_SAMPLE_SPACINGS * model.spacing), np.array(boxes[0][2:]) - boxes[0][:2]
            if not ((side > extent) & (extent < shape)).any():
                return model
            # Hardly any columns fit into so small windows.
            larger = Grid.samples(shape, per_axis, side)
            return calibrate(_windows(reads, larger), spacing=model.spacing, **known)
        except InputError:
            if per_axis == _SECOND_LOOK or len(boxes) == 1:
                raise
    raise AssertionError  # the loop returns or raises


def first_windows(
    read: Callable[[tuple[int, int, int, int]], Any], shape: tuple[int, int], device: DeviceLike
) -> Float[Tensor, "t h w"]:
    """Those of an image at which the calibration looks first."""
    every = _windows([read], Grid.samples(shape, _FIRST_LOOK))
    return torch.stack([as_tensor(one, device=device) for one in every])


def _windows(
    reads: Sequence[Callable[[tuple[int, int, int, int]], Any]], boxes: Sequence[tuple[int, int, int, int]]
) -> list[Any]:
    """Windows of an image, or of frames: each of one frame, each frame with one window, whichever are more."""
    return [reads[i % len(reads)](boxes[i % len(boxes)]) for i in range(max(len(reads), len(boxes)))]


def calibrate(
    windows: Sequence[Any] | Tensor,
    *,
    axes: Pair = (1.0, 1.0),
    limit: float | None = None,
    dark: bool = False,
    spacing: float | None = None,
    measured: float | None = None,
    seen: ImageModel | None = None,
    guided: bool = False,
    device: DeviceLike = None,
) -> ImageModel:
    """What the columns of an image, or of the frames of a stack, have in common, from some windows of them.

    Parameters
    ----------
    windows : Tensor of shape (t, h, w), or sequence of arrays of shape (h, w)
        At least 16 pixels a side, all of one shape; not finite where a pixel was not measured.
    axes, limit, dark
        See `ImageModel`.
    spacing
        See `find_columns`.
    measured : float, optional
        What `spacing_of` gave for those of these windows that are `telling`.
    seen : ImageModel, optional
        What `levels` gave for these windows.
    guided : bool
        Whether the model holds the mean cells by which columns are predicted.
    device : str or torch.device, optional

    Returns
    -------
    ImageModel

    Raises
    ------
    InputError
        If there is no finite pixel, no contrast, no regular spacing and none is given, or no column.
    """
    if not isinstance(windows, Tensor):
        windows = torch.stack([as_tensor(one, device=device) for one in windows])
    model = (
        replace(seen, limit=limit, dark=dark)
        if seen is not None
        else levels(windows, axes=axes, limit=limit, dark=dark)
    )
    tiles = model.normalised(windows)
    sought = spacing is None
    cells: tuple[Cell, ...] = ()
    if spacing is None:
        spacing, cells = (measured, ()) if measured is not None else _looked_at(tiles, axes, guided=guided)
    tiles = stepped(tiles, spacing, axes)
    cells = cells_of(tiles, spacing) if guided and not cells else cells
    if cells:
        nearest = nearest_sites(cells[0], axes) if sought else spacing
        # What is a step depends on the spacing: the tiles will be told that one.
        guided_model = _with_cells(stepped(tiles, nearest, axes, crystal=True), model, cells, nearest)
        if guided_model is not None:
            return guided_model
    model, at, tile = _detectable(tiles, replace(model, spacing=spacing))
    if sought and is_amorphous(tiles, model, at, tile):
        raise NoColumnsError(model, amorphous=True)
    learned = _learned(tiles, model, at, tile)
    model, nearest = learned.model, learned.nearest
    for _ in range(_AGAIN if sought else 0):
        off = nearest / model.spacing
        if 1 / _NEARLY < off < _NEARLY:
            break
        model, at, tile = _detectable(tiles, replace(model, spacing=nearest))
        if 1 / _ABOUT < off < _ABOUT:  # columns are as wide as before
            break
        learned = _learned(tiles, model, at, tile)
        model, nearest = learned.model, learned.nearest
    return _finer(tiles, model, learned) if sought else model


def _finer(tiles: Tiles, model: ImageModel, learned: "_Learned") -> ImageModel:
    """The model with a finer spacing, where columns so far apart leave much of what repeats and nearer ones leave less."""
    left = learned.unexplained()
    if left <= _UNEXPLAINED:
        return model
    for share in _FINER:
        try:
            nearer = _detectable(tiles, replace(model, spacing=share * model.spacing))
        except NoColumnsError:
            continue
        found = _learned(tiles, *nearer)
        # Where hardly any are found, nothing may stand out that could be left.
        if found.unexplained() < _LESS * left and found.density() > learned.density():
            return found.model
    return model


def _looked_at(tiles: Tiles, axes: Pair, *, guided: bool) -> tuple[float, tuple[Cell, ...]]:
    """The spacing that windows show; where too few electrons show none but a lattice, its mean cells and theirs."""
    try:
        return spacing_of(tiles.some(telling(tiles)), axes), ()
    except InputError:
        cells = cells_of(tiles, 0.0) if guided else ()
        if not cells:
            raise
        return nearest_sites(cells[0], axes), cells


def _with_cells(
    tiles: Tiles, model: ImageModel, cells: tuple[Cell, ...], spacing: float
) -> ImageModel | None:
    """The model of an image with mean cells, from its maxima and the places that the cells predict; None where the maxima contradict them."""
    width = cells[0].width
    if width > _WIDEST * spacing:
        return None
    model = replace(model, spacing=spacing, cells=cells, width=(width * model.axes[0], width * model.axes[1]))
    try:
        model, at, tile = _detectable(tiles, model)
    except NoColumnsError:  # no single one stands out
        model = replace(model, least=math.inf)
        at = torch.zeros(0, 2, dtype=torch.float64, device=tiles.data.device)
        tile = torch.zeros(0, dtype=torch.long, device=tiles.data.device)
    while model.cells:
        sites = predicted(tiles, model, at, tile)
        wrong = sites.doubted
        if not bool(wrong.any()):
            learned = _learned(tiles, model, *sites.with_maxima(at, tile, model))
            wide, high = learned.model.width
            # A cell whose column is a pair is longer than wide, and as wide as a gap.
            if max(wide / high, high / wide) > _LONG or max(wide, high) > _WIDEST * spacing:
                return None
            # Of one that is none, places are empty.
            wrong = sites.are_empty(learned.fit, learned.window, learned.origin, model.cells)
            if not bool(wrong.any()):
                return learned.model
        right = zip(model.cells, (~wrong).tolist(), strict=True)
        model = replace(model, cells=tuple(cell for cell, kept in right if kept))
    return None


def spacing_of(tiles: Tiles, axes: Pair) -> float:
    """The spacing in some windows, without the steps of the background if there are any."""
    usual = _HIDDEN * min(tiles.shape[1:])
    try:
        found = measured_spacing(tiles, axes)
    except InputError:
        if stepped(tiles, usual, axes).step is None:
            raise
        found = usual
    if stepped(tiles, found, axes).step is None and not _is_of_a_step(tiles, found, usual, axes):
        return found
    # The noise of a bright patch, many times that of the rest, would have a ring of its own.
    noise = noise_around(tiles.data, usual / 2).sqrt()
    usually = noise.where(tiles.measured, torch.nan).flatten(1).nanmedian(1).values.nan_to_num(torch.inf)
    even = (usually[:, None, None] / noise).clamp(max=1)
    flat = replace(tiles, data=stepped(tiles, usual, axes).level, step=None)
    evened = replace(flat, data=flat.data * even)
    # Of a particle in vacuum it would take the columns: what is left must repeat.
    repeat = any(one is not None for one in repeats(*flattened(evened), axes))
    return measured_spacing(evened if repeat else flat, axes)


def _is_of_a_step(tiles: Tiles, found: float, usual: float, axes: Pair) -> bool:
    """Whether a wide spacing, by which nothing repeats, is but the size of what steps: of a patch brighter than all columns."""
    if found < _WIDE * usual or any(one is not None for one in repeats(*flattened(tiles), axes)):
        return False
    return stepped(tiles, usual, axes).step is not None


def _detectable(tiles: Tiles, model: ImageModel) -> tuple[ImageModel, Tensor, Tensor]:
    """The model with the least height of a column, and the positions and windows of those that have it."""
    spacing, axes = model.spacing, model.axes
    at, height, tile = maxima(tiles, tiles.level, spacing, axes)
    # Windows that were hardly measured have hardly any noise.
    share = tiles.usable.flatten(1).float().mean(1)
    noise = noise_level(tiles.data)
    if spacing * min(axes) < _CLOSE:
        noise = torch.minimum(noise, level_between_peaks(tiles.data))
    level = torch.where(share >= share.max() / 2, noise, torch.nan).nanmedian()
    area = tiles.data.numel()
    keep = outstanding(height, level * filter_gain(spacing), spacing, area)
    score = significance(height, tiles.data, level, spacing, axes)
    rare = outstanding(height, height / score, spacing, area)
    # Where most are but a few electrons together, only those that are rare even then.
    keep = torch.where(rare.sum() < _SIGNIFICANT * keep.sum(), rare, keep)
    keep &= tiles.at(tiles.measured, at, tile)
    if len(height) == 0:
        raise NoColumnsError(model)
    least, count = torch.stack([torch.where(keep, height, torch.inf).min(), keep.sum()]).tolist()
    if count == 0:
        raise NoColumnsError(model)
    kept = picked(keep, int(count))
    return replace(model, least=least), at[kept], tile[kept]


def telling(tiles: Tiles) -> Tensor | slice:
    """A few windows that tell the spacing: of those that were measured most, spread evenly; all where few were not enough."""
    t = len(tiles.data)
    if not _MEASURED < t <= _FIRST_LOOK**2:
        return slice(None)
    spread = torch.cat([torch.arange(0, t, 2), torch.arange(1, t, 2)]).to(tiles.data.device)
    measured = tiles.measured.flatten(1).float().mean(1)[spread].mul(8).round()
    return spread[torch.argsort(measured, descending=True, stable=True)[:_MEASURED]]


class _Learned(NamedTuple):
    """What a part of the windows tells."""

    model: ImageModel
    nearest: float  # distance between nearest columns of the fit
    fit: Fit
    window: int
    origin: Tensor  # of the part in its window

    def density(self) -> float:
        """Columns per pixel."""
        return len(self.fit) / self.fit.data.numel()

    def unexplained(self) -> float:
        """Share of what repeats in it that its columns leave over."""
        fit, columns = self.fit, self.fit.profile.crop(self.fit.canvas)
        return float(left_over(fit.tiles, columns, fit.spacing, self.model.axes, self.model.width))


def _learned(
    tiles: Tiles, model: ImageModel, at: Tensor, tile: Tensor, fixed: Tensor | None = None
) -> _Learned:
    """The common shape of the columns, from where they are most frequent, and their least intensity."""
    window, origin, part, positions, chosen = _densest(tiles, model, at, tile)
    spacing, device = model.spacing, part.data.device
    one_tile = torch.zeros_like(positions[:, 0], dtype=torch.long)
    start = Start.at(positions, one_tile, None if fixed is None else fixed[chosen])
    around = model.cells[0].width if model.cells else START_WIDTH * spacing
    width = sent(model.axes, part.data) * around
    one = width.new_ones(())
    shape = Shape(
        width,
        around * max(model.axes),
        model.axes,
        Noise.of((-1.0, 1.0, 1.0, 1.0), device),
        one,
        one * 0,
    )
    usable = as_index(part.usable.flatten())
    lessons = _LESSONS_WITH_CELLS if model.cells else _LESSONS
    for number, steps in enumerate(lessons, start=1):
        fit = Fit(part, start, shape, spacing)
        usual, settled = converge_common(fit, steps, usable, fresh=number == 1)
        fit.weigh(fit.expected)
        shape = replace(fit.shape, overdispersion=overdispersion(fit), usual=usual)
        fit.shape = shape
        if (settled and number > 1) or number == len(lessons):
            break
        fit.assemble(fit.expected)
        start, _, _, _ = revised(fit, FAINTEST * usual)
    quartiles = nearest_quartiles(
        fit.spread[as_index(fit.intensity > FAINTEST * fit.shape.usual)], _FAR * spacing
    )
    noise = shape.noise
    numbers = [*shape.width, shape.overdispersion, FAINTEST * shape.usual, *quartiles]
    numbers += [noise.low, noise.high, noise.at_low, noise.at_high]
    told = torch.stack([n.double() for n in numbers]).tolist()
    wide, high, over, faintest, lower, nearest, upper, *ends = told
    model = replace(model, width=(wide, high), noise=tuple(ends), faintest=faintest, overdispersion=over)
    # Noise makes the nearest distances shorter, by less than their spread; false columns make them uneven. Where they are longer,
    # columns that only the mean of cells shows were not fitted.
    even, off = upper - lower <= UNEVEN * nearest, abs(nearest - spacing) > upper - lower
    told = lower > 0 and ((even and off) or nearest > _ABOUT * spacing)
    return _Learned(model, nearest if told else spacing, fit, window, origin)


def _densest(
    tiles: Tiles, model: ImageModel, at: Tensor, tile: Tensor
) -> tuple[int, Tensor, Tiles, Tensor, Tensor]:
    """The part of the windows with the most columns: its window and first pixel, it itself, their positions in it, their numbers."""
    side = round(max(_LEARNED * model.spacing, _LEAST_SIDE))
    t, h, w = tiles.shape
    grid = Grid((h, w), side, model.margin)
    parts = [grid[number] for number in range(len(grid))]
    cores = sent([part.core for part in parts], at)
    inside = ((at[:, None] >= cores[:, :2] - 0.5) & (at[:, None] < cores[:, 2:] - 0.5)).all(2)
    count = torch.zeros(t, len(parts), dtype=torch.long, device=at.device).index_add_(0, tile, inside.long())
    window, part = divmod(int(count.argmax()), len(parts))
    top, left, bottom, right = parts[part].window
    chosen = tiles.some(slice(window, window + 1)).cut(slice(top, bottom), slice(left, right))
    origin = sent([top, left], at)
    local = at - origin
    end = sent([bottom - top, right - left], local) - 0.5
    here = (tile == window) & ((local >= -0.5) & (local <= end)).all(1)
    if chosen.step is not None:
        flat = _beside_steps(chosen, chosen.step, model)
        there = here & flat.at(flat.measured, local, torch.zeros_like(tile))
        # The step of a small particle is the particle.
        if bool(2 * there.sum() > here.sum()):
            chosen, here = flat, there
    number = as_index(here)
    return window, origin, chosen, local[number], number


def _beside_steps(tiles: Tiles, step: Float[Tensor, "t h w"], model: ImageModel) -> Tiles:
    """Tiles without the pixels over which the background steps by more than columns are high: what is left there of a step is no column's."""
    reach = max(1, round(model.spacing * min(model.axes) / 2))
    top, low = (running_max(running_max(one, reach, -1), reach, -2) for one in (step, -step))
    usual = tiles.level[tiles.usable].sort().values
    high = usual[int(_TOPS * len(usual))] - usual[len(usual) // 2]
    flat = top + low <= high
    return replace(tiles, usable=tiles.usable & flat, saturated=tiles.saturated & flat)
