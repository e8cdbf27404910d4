"""Calibration: what all columns of an image have in common, from some windows of it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import compress, islice
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from torchmotif._arrays import DeviceLike, as_tensor
from torchmotif.columns._amorphous import is_amorphous
from torchmotif.columns._detectable import NoColumnsError, detectable
from torchmotif.columns._learned import ABOUT, Learned, learned_from
from torchmotif.columns._mean_cell import cells_of, nearest_sites
from torchmotif.columns._predicted import predicted, without_rows
from torchmotif.columns._sought_cells import is_hummed, sought_cells
from torchmotif.columns._steps import stepped
from torchmotif.columns._superlattice import halved, repeats
from torchmotif.columns._windows_spacing import FIRST_LOOK, spacing_of, telling
from torchmotif.columns.grid import Grid
from torchmotif.columns.model import Cell, ImageModel, Pair, Tiles
from torchmotif.columns.pixels import levels
from torchmotif.errors import InputError

__all__ = ["calibrate", "calibrate_image", "first_windows", "without_empty"]

_SECOND_LOOK = 8  # windows along each axis, where those of the first look show no columns
# Distances of nearest columns after the fit, over the spacing before it, that agree with it; and how often the width is learned anew where they do not.
_NEARLY, _AGAIN = 1.03, 2
# Ratio of both widths, and width over spacing, above which a mean cell is not that of round columns: simulated crystals have up to
# 1.05 and 0.36; dumbbells of which it shows one column 1.9 and 0.25, and 0.5 in the cell.
_LONG, _WIDEST = 1.4, 0.45
# Share of what repeats that columns may leave over before a finer spacing is tried, shares of the spacing that are tried, and by how much what is
# left must fall: the layers of a twisted bilayer together show the distance of their hollows. At 3 to 9 degrees 0.16 to 0.23 are left
# and a third of the columns are found, with the distance of neighbours 0.01 to 0.08 and half to four fifths.
_UNEXPLAINED, _FINER, _LESS = 0.06, (3**-0.5, 0.5**0.5), 0.5
# Of its brightest site, below which sites of a cell that turn out to be empty are what a step of the background leaves, or chance, and do not speak against the others. Of 96
# backgrounds with steps (a honeycomb, squares) three cells have such, of 0.03 to 0.06; 36 images of crystals without steps, twelve of them the oxide whose columns have no fixed places, have the same columns without.
_FAINT = 0.1
_SAMPLE_SPACINGS = 24.0  # least side of the windows


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
    for per_axis in (FIRST_LOOK, _SECOND_LOOK):
        boxes = Grid.samples(shape, per_axis)
        try:
            model = calibrate(
                _windows(reads, boxes),
                spacing=spacing,
                measured=measured if per_axis == FIRST_LOOK else None,
                seen=seen if per_axis == FIRST_LOOK else None,
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
    every = _windows([read], Grid.samples(shape, FIRST_LOOK))
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
        spacing, cells = (
            (measured, ()) if measured is not None else _looked_at(tiles, axes, guided=guided, hum=model.hum)
        )
    if model.drifts and is_hummed(stepped(tiles, spacing, axes), model, spacing):
        model = replace(model, hum=True)
        tiles = model.normalised(windows)
        spacing, cells = _looked_at(tiles, axes, guided=guided, hum=True) if sought else (spacing, ())
    tiles = stepped(tiles, spacing, axes)
    if guided and not cells:
        tiles, cells = sought_cells(tiles, model, spacing)
    guided_model = _guided(tiles, model, cells, None if sought else spacing)
    if guided_model is not None:
        return guided_model
    model, at, tile = detectable(tiles, replace(model, spacing=spacing))
    if sought and is_amorphous(tiles, model, at, tile):
        raise NoColumnsError(model, amorphous=True)
    learned = learned_from(tiles, model, at, tile)
    model, nearest = learned.model, learned.nearest
    for _ in range(_AGAIN if sought else 0):
        off = nearest / model.spacing
        if 1 / _NEARLY < off < _NEARLY:
            break
        model, at, tile = detectable(tiles, replace(model, spacing=nearest))
        if 1 / ABOUT < off < ABOUT:  # columns are as wide as before
            break
        learned = learned_from(tiles, model, at, tile)
        model, nearest = learned.model, learned.nearest
    return _finer(tiles, model, learned) if sought else model


def _finer(tiles: Tiles, model: ImageModel, learned: Learned) -> ImageModel:
    """The model with a finer spacing, where columns so far apart leave much of what repeats and nearer ones leave less."""
    left = learned.unexplained()
    if left <= _UNEXPLAINED:
        return model
    for share in _FINER:
        # Columns so wide have no valley between two so near (Sparrow): none can be found there. Those of bilayers have 0.24 of the finer spacing.
        if math.sqrt(math.prod(model.width)) > _WIDEST * share * model.spacing:
            continue
        try:
            nearer = detectable(tiles, replace(model, spacing=share * model.spacing))
        except NoColumnsError:
            continue
        found = learned_from(tiles, *nearer)
        # Columns that are farther apart do not have that spacing: beside a step what is left may fall all the same.
        if found.nearest > ABOUT * found.model.spacing:
            continue
        # Where hardly any are found, nothing may stand out that could be left.
        if found.unexplained() < _LESS * left and found.density() > learned.density():
            return found.model
    return model


def _looked_at(tiles: Tiles, axes: Pair, *, guided: bool, hum: bool) -> tuple[float, tuple[Cell, ...]]:
    """The spacing that windows show; where too few electrons show none but a lattice, its mean cells and theirs."""
    try:
        return spacing_of(tiles.some(telling(tiles)), axes), ()
    except InputError:
        cells = cells_of(tiles, 0.0, hum=hum) if guided else ()
        if not cells:
            raise
        return nearest_sites(cells[0], axes), cells


def _guided(
    tiles: Tiles, model: ImageModel, cells: tuple[Cell, ...], spacing: float | None
) -> ImageModel | None:
    """The model of an image with mean cells, and with their spacing where none is given; None where the maxima contradict them all."""
    best = None
    # Its columns overlap so that none can be found by its places: another may hold what it does, as of two lattices that share orders.
    while not spacing and cells and cells[0].width > _WIDEST * nearest_sites(cells[0], model.axes):
        cells = cells[1:]
    while cells:
        nearest = spacing or nearest_sites(cells[0], model.axes)
        # What is a step depends on the spacing: the tiles will be told that one.
        flat = stepped(without_rows(tiles, model, cells), nearest, model.axes, crystal=True)
        found = _with_cells(flat, model, cells, nearest)
        best = found or best
        # Sites that turned out to be none may have been the nearest. Cells but lose sites, so that this ends.
        if found is None or spacing or nearest_sites(found.cells[0], model.axes) == nearest:
            break
        cells = found.cells
    return best


def _with_cells(
    tiles: Tiles, model: ImageModel, cells: tuple[Cell, ...], spacing: float
) -> ImageModel | None:
    """The model of an image with mean cells, from its maxima and the places that the cells predict; None where the maxima contradict them."""
    width = cells[0].width
    if width > _WIDEST * spacing:
        return None
    model = replace(model, spacing=spacing, cells=cells, width=(width * model.axes[0], width * model.axes[1]))
    try:
        model, at, tile = detectable(tiles, model)
    except NoColumnsError:  # no single one stands out
        model = replace(model, least=math.inf)
        at = torch.zeros(0, 2, dtype=torch.float64, device=tiles.data.device)
        tile = torch.zeros(0, dtype=torch.long, device=tiles.data.device)
    while model.cells:
        sites = predicted(tiles, model, at, tile)
        wrong = [
            is_wrong
            for is_wrong, cell in zip(sites.doubted.tolist(), model.cells, strict=True)
            for _ in cell.sites
        ]
        if not any(wrong):
            places = sites.with_maxima(at, tile, model)
            learned = learned_from(tiles, model, places.positions, places.tile, places.fixed)
            # Of a cell that is none, places are empty.
            wrong = sites.are_empty(learned.fit, learned.window, learned.origin).tolist()
            if not any(wrong):
                wide, high = (one / side for one, side in zip(learned.model.width, model.axes, strict=True))
                # One whose column is a pair is longer than wide, and as wide as a gap.
                is_pair = max(wide / high, high / wide) > _LONG or max(wide, high) > _WIDEST * spacing
                return None if is_pair else learned.model
        model = replace(model, cells=without_empty(model.cells, wrong))
    return None


def without_empty(cells: tuple[Cell, ...], wrong: Sequence[bool]) -> tuple[Cell, ...]:
    """Cells without the faint ones of their sites that are `wrong`, of all cells one after the other; none of those whose brighter sites are.

    Of a superlattice that is none without them, or has others, the cell of its lattice is left.
    """
    kept, every = [], iter(wrong)
    for cell in cells:
        empty = list(islice(every, len(cell.sites)))
        right = [not one for one in empty]
        if all(right):
            kept.append(cell)
            continue
        faint = max(compress(cell.intensities, empty)) < _FAINT * max(cell.intensities)
        less = cell.some(right) if faint else cell
        if less.antiphase is not None and any(right) and (not faint or repeats(less, less.antiphase)):
            kept.append(halved(less))
        elif faint:
            kept.append(less)
    return tuple(kept)
