"""The mean cells of the crystals in an image: which there are, what each holds, and layers on each other."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from torchmotif.columns._bases import ALIKE, alike, separation
from torchmotif.columns._beside_steps import weights_in_cells
from torchmotif.columns._cell_bins import cells_around
from torchmotif.columns._coarse import Coarse
from torchmotif.columns._contents import contents
from torchmotif.columns._filters import without_slow
from torchmotif.columns._folding import (
    CRYSTAL,
    above,
    first_cell,
    mean_cell,
    strength,
)
from torchmotif.columns._held_by_cells import UNEVEN, Weighed, by_contents
from torchmotif.columns._reciprocal import Lattice, lattices
from torchmotif.columns._superlattice import doubled, evened
from torchmotif.columns._territories import (
    Located,
    expected,
    explained,
    lattice_constant,
    located,
    sum_of,
    without_mixtures,
)
from torchmotif.columns.model import Cell, Pair, Tiles

__all__ = ["cells_of", "nearest_sites"]

# Tried on simulated MX2 and perovskites at 1 to 1/100 of the dose (`benchmarks/columns/end_to_end.py`; docs/decisions/0200); by how much each
# of these may be changed is not recorded.
_AGREES = (
    0.6  # of the image with the mean cell, by regression: where it is less, there is another crystal, or none
)
_ADDS = 0.05  # of the pixels of the largest crystal: what another has at least
_EXPLAINED = 0.65
# Of the pixels, that no cell explains at first: where it is more a crystal ends, or what looks like one are layers. Crystals that fill the image leave up to 0.11, a
# bilayer that looks even 0.37.
_OPEN = 0.25
# Of reciprocal vectors, by which two grains on nearly one lattice differ at least, 1.4 degrees: tried on four grains of MoSe2, two of them 2.8
# degrees apart, at 1/50 and 1/100. Asked only where the cell of both is uneven; with more, grains nearer to each other guide nothing, as before.
_TURNED = 0.025
# Spacings: blocks whose spectra tell layers apart that are turned by 2.9 degrees (24) to 9 degrees, in MoS2.
_WIDE_BLOCKS = (40.0, 24.0)
# Standard deviations of a window's spectrum by which the orders of two layers are apart in it: with 4 and 5 the columns of bilayers of 2.9 and 5.7
# degrees are the same to a hundredth.
_RESOLVED = 3.0
_NOT_ONE = (
    0.6  # of the spacing, at least: two sites; of maxima nearer to each other than `CLOSEST` one counts
)


def cells_of(tiles: Tiles, spacing: float, *, hum: bool = False) -> tuple[Cell, ...]:
    """The mean cells of the crystals in some windows, that of the largest first; none where no lattice is seen.

    Where there is `hum`, rows have offsets, and what all pixels of a row share tells nothing.
    """
    found = _cells_of(tiles, spacing, hum=hum)
    if hum and not found:
        found = _cells_of(tiles, spacing, hum=hum, across=True)
    if found or tiles.step is None:
        return found
    return _cells_of(tiles, spacing, hum=hum, falling=True)


def _cells_of(
    tiles: Tiles, spacing: float, *, hum: bool, falling: bool = False, across: bool = False
) -> tuple[Cell, ...]:
    """The same by lattices that are seen in all usable pixels alike, or with weights `falling` beside steps; of all orders, or of those `across` rows."""
    level, usable, steps = tiles.level, tiles.usable, tiles.step is not None and not falling
    first, beside = _first_cells(
        tiles, lattices(level, usable, spacing, steps=steps, falling=falling, across=across), [], hum=hum
    )
    if not first:
        return ()
    coarse = Coarse.of(tiles, first)
    where = located(coarse.tiles, coarse.cells(first))
    rest = usable & ~coarse.pixels(_crystals(where))
    left = float(rest.sum() / usable.sum().clamp(min=1))
    if left > _ADDS:
        # Small grains that the spectra do not show beside large ones.
        more, turned = _first_cells(
            tiles,
            lattices(level, rest, spacing, beside=True, steps=steps, falling=falling, across=across),
            first,
            hum=hum,
        )
        where = located(coarse.tiles, coarse.cells(first + more)) if more else where
        left = 0.0 if more else left
        first, beside = first + more, beside + [one for one in turned if not _is_known(one, beside, _TURNED)]
    told = _told(coarse.cells(first), where, coarse.tiles, hum=hum)
    # Of two grains a few degrees apart the lattice is taken for one, in which hardly any place holds what others do.
    apart = [one for one in coarse.cells(beside) if _is_known(one, told.uneven)]
    if apart:
        every = without_mixtures(coarse.tiles, [*coarse.cells(first), *apart])
        told = _told(every, located(coarse.tiles, every), coarse.tiles, hum=hum)
    if told.uneven or told.parted or len(beside) > len(apart) or left > _OPEN:
        # Two on nearly one lattice, or what differs from place to place on it, may be layers turned by little.
        layers = _layers(tiles, spacing, coarse, hum=hum)
        if layers and explained(coarse.tiles, layers) > explained(coarse.tiles, told.cells):
            where = located(coarse.tiles, layers)
            told = _Told(layers, [at.inside for at in where], where, sum_of(layers, where))
    return coarse.fine(
        _doubled(coarse.tiles, without_mixtures(coarse.tiles, _crystals_of(told)), told, hum=hum)
    )


def _doubled(tiles: Tiles, cells: Sequence[Cell], told: "_Told", *, hum: bool) -> tuple[Cell, ...]:
    """Cells, those of a superlattice twice as large, but where rows have offsets, or several are on one lattice, as domains are."""
    if hum or len({cell.orders for cell in cells}) < len(cells):
        return tuple(cells)
    found = []
    for cell in cells:
        number = next(n for n, one in enumerate(told.cells) if one is cell)
        at = told.where[number]
        found.append(doubled(tiles, cell, at, at.level - told.model, told.inside[number]))
    return tuple(found)


class _Told(NamedTuple):
    """Mean cells in some tiles."""

    cells: list[Cell]
    inside: list[Tensor]  # pixels that tell each
    where: list[Located]  # of each
    model: Tensor  # what all let expect
    uneven: Sequence[Cell] = ()  # cells that hold no crystal
    parted: bool = False  # whether what one lattice holds is of two kinds


def _crystals_of(told: _Told) -> list[Cell]:
    """Those of many pixels in which nothing is left over, that of most first."""
    if not told.cells:
        return []
    asked = [
        torch.stack([inside.sum(), _explains(at.level - told.model, at.level, inside, cell.width)])
        for cell, inside, at in zip(told.cells, told.inside, told.where, strict=True)
    ]
    counts = torch.stack(asked).tolist()
    least = _ADDS * max(seen for seen, _ in counts)
    order = sorted(range(len(counts)), key=lambda number: -counts[number][0])

    def is_crystal(number: int) -> bool:
        cell, inside, own = told.cells[number], told.inside[number], told.where[number].level
        seen, clear = counts[number]
        # What a step leaves beside it is no crystal's, and may be more than its columns.
        return seen > least and bool(
            clear or _explains(*_fine((own - told.model, own), inside, cell), inside, cell.width)
        )

    return [told.cells[number] for number in order if is_crystal(number)]


def _told(cells: Sequence[Cell], where: list[Located], tiles: Tiles, *, hum: bool) -> _Told:
    """What cells hold, found anew from the pixels that agree with them."""
    told = _Told([], [], [], torch.zeros_like(tiles.data))
    none, parted = [], False
    for cell, at in zip(cells, where, strict=True):
        agreeing = above(at.inside, at.agrees.field[:, :1], _AGREES)
        crystal = above(at.inside, strength(at), CRYSTAL)
        weighed: Weighed = at, None
        of_kinds = weighed
        if not tiles.is_even:
            # Of the pixels as they are: what is taken off as a step follows the columns, by a thirtieth of their height.
            image, rest = at._replace(level=tiles.data), tiles.data - expected(cell, at.place)
            weighed = image, weights_in_cells(tiles, rest, agreeing, lattice_constant(cell))
            if tiles.step is None:
                of_kinds = image, weights_in_cells(tiles, rest, crystal, lattice_constant(cell))
        kinds = by_contents(cell, at, crystal, agreeing, weighed=weighed, of_kinds=of_kinds, hum=hum)
        parted |= len(kinds) > 1
        if not kinds:
            none.append(cell)
        for one, inside in kinds:
            told.model.add_(torch.where(inside, expected(one, at.place), 0.0))
            told.cells.append(one)
            told.inside.append(inside)
            told.where.append(at)
    return told._replace(uneven=none, parted=parted)


def _layers(tiles: Tiles, spacing: float, coarse: Coarse, *, hum: bool) -> list[Cell]:
    """The cells, in coarse pixels, of two lattices turned by so little that the usual windows hold both; none where there are none.

    Their windows are as wide as it takes to tell their orders apart. Each cell is the mean of what the other one leaves, which must be the
    same in all places.
    """
    level, usable = tiles.level, tiles.usable
    steps = tiles.step is not None
    seen = lattices(level, usable, spacing, beside=True, steps=steps, blocks=_WIDE_BLOCKS, within=_TURNED)
    wide = _RESOLVED / (2 * math.pi)
    for other in seen[1:]:
        apart = separation(seen[0].vectors, other.vectors)
        if apart == math.inf or 2 * wide > apart * min(level.shape[1:]):
            continue
        cells = [first_cell(tiles, one, wide / apart, hum=hum) for one in (seen[0], other)]
        alone = _without_others(coarse.tiles, coarse.cells([cell for cell in cells if cell is not None]))
        refined = [
            (mean_cell(at, at.inside, np.array(cell.orders), cell.window, hum=hum), at) for cell, at in alone
        ]
        # Layers that have relaxed towards each other hold no cell of their own.
        same = [cell for cell, at in refined if cell is not None and _uneven(cell, at) < UNEVEN]
        return same if len(same) == 2 else []
    return []


def _without_others(tiles: Tiles, cells: Sequence[Cell]) -> list[tuple[Cell, Located]]:
    """Cells and where they are in the tiles, each without what the others let expect; of fewer than two, none."""
    if len(cells) < 2:
        return []
    where = located(tiles, cells)
    every = sum_of(cells, where)
    return [
        (cell, at._replace(level=at.level - every + torch.where(at.inside, expected(cell, at.place), 0.0)))
        for cell, at in zip(cells, where, strict=True)
    ]


def _uneven(cell: Cell, at: Located) -> float:
    """How much what a cell's lattice holds differs from place to place, see `Contents`."""
    return contents(at, at.inside, np.linalg.inv(np.array(cell.orders)).T, cell.width).uneven


def _explains(rest: Tensor, level: Tensor, inside: Tensor, width: float) -> Bool[Tensor, ""]:
    """Whether what is left has little of what some pixels share with those a column's width away, which is not noise."""
    lag = max(1, round(width))
    pairs = inside[:, lag:] & inside[:, :-lag]
    left, every = ((one[:, lag:] * one[:, :-lag] * pairs).sum() for one in (rest, level))
    return every - left > _EXPLAINED * every


def _fine(images: tuple[Tensor, Tensor], inside: Tensor, cell: Cell) -> tuple[Tensor, Tensor]:
    """Images without what changes slowly in some pixels; others, such as those over a step, do not count."""
    rest, level = (without_slow(image, inside, lattice_constant(cell)) for image in images)
    return rest, level


def _first_cells(
    tiles: Tiles, seen: list[Lattice], known: list[Cell], *, hum: bool
) -> tuple[list[Cell], list[Cell]]:
    """Cells of lattices where these are seen best, but of those that are known; and such of known lattices that are turned a little."""
    found: list[Cell] = []
    beside: list[Cell] = []
    for lattice in seen:
        cell = first_cell(tiles, lattice, hum=hum)
        if cell is None:
            continue
        if not _is_known(cell, known + found):
            found.append(cell)
        elif not _is_known(cell, known + found + beside, _TURNED):
            beside.append(cell)
    return found, beside


def _crystals(where: list[Located]) -> Tensor:
    """Pixels where some cell agrees with the image."""
    return torch.stack([above(at.inside, at.agrees.field[:, :1], _AGREES) for at in where]).any(0)


def _is_known(cell: Cell, found: Sequence[Cell], within: float = ALIKE) -> bool:
    return any(alike(np.array(cell.orders), np.array(one.orders), within) for one in found)


def nearest_sites(cell: Cell, axes: Pair) -> float:
    """Distance between nearest sites of a cell: the median over its sites, and no more than the closest two let tell."""
    real = np.linalg.inv(np.array(cell.orders)).T
    sites = np.array(cell.sites) if cell.antiphase is None else evened(cell)
    gap = sites[:, None] - sites
    away = np.linalg.norm(((gap - np.round(gap))[:, :, None] + cells_around(2)) @ real / axes, axis=3)
    away[away < 1e-6] = np.inf
    nearest = away.min((1, 2))
    return float(min(np.median(nearest), nearest.min() / _NOT_ONE))
