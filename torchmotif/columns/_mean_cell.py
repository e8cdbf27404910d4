"""The mean cell of a crystal: the image folded with the local phase of two orders of its lattice, and the sites it shows."""

import math
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from scipy.ndimage import uniform_filter
from torch import Tensor

from torchmotif._arrays import Budget, sent
from torchmotif.columns._cell_fit import cells_around, sites_of
from torchmotif.columns._contents import contents
from torchmotif.columns._filters import blur
from torchmotif.columns._local_phase import Placed, local_orders, placed
from torchmotif.columns._reciprocal import ALIKE, Lattice, alike, lattices
from torchmotif.columns._territories import (
    WINDOW,
    Located,
    bin_of,
    bins_of,
    expected,
    lattice_constant,
    located,
    without_mixtures,
)
from torchmotif.columns.model import Cell, Pair, Tiles

__all__ = ["cells_of", "folded", "nearest_sites"]

# Tried on simulated MX2 and perovskites at 1 to 1/100 of the dose (`benchmarks/columns/end_to_end.py`; docs/decisions/0200); by how much each
# of these may be changed is not recorded.
_CRYSTAL = 0.4  # of the usual amplitude: where orders have less, there is another crystal, or none
_AGREES = 0.6  # the same by the regression of the image on the mean cell
_ADDS = 0.05  # of the pixels of the largest crystal: what another has at least
# Times that what a lattice holds is told apart, and the least share of the pixels of each of the two kinds.
_DEPTH, _PART = 2, 0.15
# Share of the squares of its structure factors that differs from place to place, from which on a lattice holds no crystal: up to 0.004 in
# simulated MX2, perovskites and strain gradients, 0.04 to 0.13 in twisted bilayers and in average cells of the pentagonal oxide.
_UNEVEN = 0.025
# Widths by which sites, and share of the brightest by which intensities differ between the two.
_MOVED, _BRIGHTER = 0.5, 0.15
_EXPLAINED = 0.65
# Of reciprocal vectors, by which two grains on nearly one lattice differ at least, 1.4 degrees: tried on four grains of MoSe2, two of them 2.8
# degrees apart, at 1/50 and 1/100. Asked only where the cell of both is uneven; with more, grains nearer to each other guide nothing, as before.
_TURNED = 0.025
_SLOW = 0.5  # lattice constants: a blur of this width has none of its orders
# Translations of half a cell, and the orders of the cell that repeats by them, as multiples of those of the whole.
_HALVES = (
    ((0.5, 0.0), ((2.0, 0.0), (0.0, 1.0))),
    ((0.0, 0.5), ((1.0, 0.0), (0.0, 2.0))),
    ((0.5, 0.5), ((1.0, 1.0), (1.0, -1.0))),
)
_FULL = 8  # pixels in a bin of a mean cell, on average
# Of the mean number of pixels in a bin: where some have less, it is not by chance. Perovskites, polar or not, and rock salt at any angle have 0.4 and
# more, those whose sides are 26.03 px along the pixels' grid 0 to 0.05.
_THIN = 0.25
_ONE_OF_NINE = 0.1  # a mean over nine bins of which one holds a pixel is more than this
_CHUNK = Budget(1 << 19, 1 << 25)  # pixels that are folded at a time
_REFINED = 3  # times that reciprocal vectors are corrected by the slope of their phases
_SHOWN_IN = 14.0  # lattice constants: side of the part of a window that shows a cell first
_NOT_ONE = (
    0.6  # of the spacing, at least: two sites; of maxima nearer to each other than `CLOSEST` one counts
)


def cells_of(tiles: Tiles, spacing: float) -> tuple[Cell, ...]:
    """The mean cells of the crystals in some windows, that of the largest first; none where no lattice is seen."""
    level, usable = tiles.level, tiles.usable
    first, beside = _first_cells(level, usable, lattices(level, usable, spacing), [])
    if not first:
        return ()
    where = located(tiles, first)
    rest = usable & ~_crystals(where)
    if bool(rest.sum() > _ADDS * usable.sum()):
        # Small grains that the spectra do not show beside large ones.
        more, _ = _first_cells(level, usable, lattices(level, rest, spacing, beside=True), first)
        where = located(tiles, first + more) if more else where
        first += more
    found, model, uneven = _told(first, where, level)
    # Of two grains a few degrees apart the lattice is taken for one, in which hardly any place holds what others do.
    apart = [one for one in beside if _is_known(one, uneven)]
    if apart:
        found, model, _ = _told(first + apart, located(tiles, first + apart), level)
    if not found:
        return ()
    asked = [
        torch.stack([inside.sum(), _explains(own - model, own, inside, cell.width)])
        for cell, inside, own in found
    ]
    told = torch.stack(asked).tolist()
    least = _ADDS * max(seen for seen, _ in told)
    order = sorted(range(len(found)), key=lambda number: -told[number][0])

    def is_crystal(number: int) -> bool:
        cell, inside, own = found[number]
        seen, explained = told[number]
        # What a step leaves beside it is no crystal's, and may be more than its columns.
        return seen > least and bool(
            explained or _explains(*_fine((own - model, own), cell), inside, cell.width)
        )

    return without_mixtures(tiles, [found[number][0] for number in order if is_crystal(number)])


def _told(
    cells: list[Cell], where: list[Located], level: Tensor
) -> tuple[list[tuple[Cell, Tensor, Tensor]], Tensor, list[Cell]]:
    """Mean cells with the pixels that tell them and these less their local mean, what all let expect, and cells that are none."""
    found, model, none = [], torch.zeros_like(level), []
    for cell, at in zip(cells, where, strict=True):
        agreeing = _above(at.inside, at.agrees.field[:, :1], _AGREES)
        told = _by_contents(cell, at, _above(at.inside, _strength(at), _CRYSTAL), agreeing)
        if not told:
            none.append(cell)
        for one, inside in told:
            model += torch.where(inside, expected(one, at.place), 0.0)
            found.append((one, inside, at.level))
    return found, model, none


def _explains(rest: Tensor, level: Tensor, inside: Tensor, width: float) -> Bool[Tensor, ""]:
    """Whether what is left has little of what some pixels share with those a column's width away, which is not noise."""
    lag = max(1, round(width))
    pairs = inside[:, lag:] & inside[:, :-lag]
    left, every = ((one[:, lag:] * one[:, :-lag] * pairs).sum() for one in (rest, level))
    return every - left > _EXPLAINED * every


def _fine(images: tuple[Tensor, Tensor], cell: Cell) -> tuple[Tensor, Tensor]:
    """Images without what changes little within a lattice constant."""
    rest, level = (image - blur(image, _SLOW * lattice_constant(cell)) for image in images)
    return rest, level


def _first_cells(
    level: Tensor, usable: Tensor, seen: list[Lattice], known: list[Cell]
) -> tuple[list[Cell], list[Cell]]:
    """Cells of lattices where these are seen best, but of those that are known; and such of known lattices that are turned a little."""
    found: list[Cell] = []
    beside: list[Cell] = []
    for lattice in seen:
        cell = _first_cell(level, usable, lattice)
        if cell is None:
            continue
        if not _is_known(cell, known + found):
            found.append(cell)
        elif not _is_known(cell, known + found + beside, _TURNED):
            beside.append(cell)
    return found, beside


def _crystals(where: list[Located]) -> Tensor:
    """Pixels where some cell agrees with the image."""
    return torch.stack([_above(at.inside, at.agrees.field[:, :1], _AGREES) for at in where]).any(0)


def _by_contents(
    cell: Cell, at: Located, inside: Tensor, agreeing: Tensor, depth: int = _DEPTH
) -> list[tuple[Cell, Tensor]]:
    """The mean cell of the pixels that agree with a cell, if all inside its lattice hold the same, or those of the two kinds, and so on.

    With each, the pixels that tell it. None where they differ without end, as those of layers on each other do.
    """
    vectors = np.array(cell.orders)
    refined = _cell(at, agreeing, vectors, cell.window)
    if refined is None:
        return []
    held = contents(at, inside, np.linalg.inv(vectors).T, refined.width)
    if len(held.groups) == 2 and depth:
        kinds = [_cell(at, group, vectors, cell.window) for group in held.groups]
        every, *shares = torch.stack([one.sum() for one in (inside, *held.groups)]).tolist()
        if min(shares) > _PART * every and _differ(*kinds):
            return [
                found for group in held.groups for found in _by_contents(cell, at, group, group, depth - 1)
            ]
    refined = _with_faint(refined, at, agreeing)
    return [(refined, agreeing)] if held.uneven < _UNEVEN else []


def _with_faint(cell: Cell, at: Located, inside: Tensor) -> Cell:
    """A cell with the faint sites that show once it is folded by a translation that takes all its sites to such of another brightness."""
    orders, sites = np.array(cell.orders), np.array(cell.sites)
    for half, folding in _HALVES:
        if _off(orders, sites + half, sites).max() > _MOVED * cell.width:
            continue
        place = torch.einsum("ij,tjhw->tihw", sent(folding, at.place), at.place) % 1
        folded = at._replace(place=torch.where(place >= 1, 0.0, place))
        smaller = _cell(folded, inside, np.array(folding) @ orders, cell.window)
        if smaller is None:
            continue
        once = np.array(smaller.sites) @ np.linalg.inv(folding).T
        every = np.concatenate([once, once + half]) % 1
        new = _off(orders, every, sites) > cell.width
        bright = np.tile(smaller.intensities, 2)[new].tolist()
        places = tuple((float(a), float(b)) for a, b in every[new])
        return replace(cell, sites=cell.sites + places, intensities=cell.intensities + tuple(bright))
    return cell


def _off(orders: np.ndarray, sites: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Distance of each of some sites to the nearest of others, in pixels."""
    gap = sites[:, None] - others
    steps = (gap - np.round(gap))[:, :, None] + cells_around(1)
    off: np.ndarray = np.linalg.norm(steps @ np.linalg.inv(orders).T, axis=3).min((1, 2))
    return off


def _differ(one: Cell | None, other: Cell | None) -> bool:
    """Whether two cells on one lattice have columns in different places, or of different brightness."""
    if one is None or other is None:
        return False
    real = np.linalg.inv(np.array(one.orders)).T
    gap = np.array(one.sites)[:, None] - np.array(other.sites)
    away = np.linalg.norm(((gap - np.round(gap))[:, :, None] + cells_around(1)) @ real, axis=3).min(2)
    nearest = away.argmin(1)
    if len(set(nearest.tolist())) < max(away.shape) or away.min(1).max() > _MOVED * one.width:
        return True
    bright, beside = (np.array(cell.intensities) / sum(cell.intensities) for cell in (one, other))
    return bool(np.abs(bright - beside[nearest]).max() > _BRIGHTER * bright.max())


def _is_known(cell: Cell, found: list[Cell], within: float = ALIKE) -> bool:
    return any(alike(np.array(cell.orders), np.array(one.orders), within) for one in found)


def nearest_sites(cell: Cell, axes: Pair) -> float:
    """Distance between nearest sites of a cell: the median over its sites, and no more than the closest two let tell."""
    real = np.linalg.inv(np.array(cell.orders)).T
    gap = np.array(cell.sites)[:, None] - np.array(cell.sites)
    away = np.linalg.norm(((gap - np.round(gap))[:, :, None] + cells_around(2)) @ real / axes, axis=3)
    away[away < 1e-6] = np.inf
    nearest = away.min((1, 2))
    return float(min(np.median(nearest), nearest.min() / _NOT_ONE))


def _first_cell(level: Tensor, usable: Tensor, lattice: Lattice) -> Cell | None:
    """The mean cell of one crystal where its lattice is seen best, if it shows sites: of where its orders are strong."""
    longest = float(np.linalg.norm(np.linalg.inv(lattice.vectors), axis=0).max())
    sigma, side = WINDOW * longest, max(lattice.side, math.ceil(_SHOWN_IN * longest))
    corner = (
        min(max(first - (side - lattice.side) // 2, 0), max(length - side, 0))
        for first, length in zip(lattice.corner, level.shape[1:], strict=True)
    )
    rows, cols = (slice(first, first + side) for first in corner)
    level, usable = (one[lattice.window, None, rows, cols].contiguous() for one in (level, usable))
    if 2 * sigma > min(level.shape[1:]):
        return None
    chosen = _refined(level, usable, _strongest(level, usable, lattice.vectors, sigma), sigma)
    at = placed(level, usable, sent(chosen, level), sigma)
    return _cell(at, _above(usable, _strength(at), _CRYSTAL), chosen, sigma)


def _strength(at: Placed | Located) -> Float[Tensor, "t 1 m n"]:
    """Amplitude of the weaker order, as a share of what it usually has where it is strong."""
    usual = at.amplitude.transpose(0, 1).flatten(1).quantile(0.9, dim=1)[:, None, None]
    return (at.amplitude / usual).amin(1, keepdim=True)


def _above(usable: Tensor, field: Float[Tensor, "t 1 m n"], least: float) -> Tensor:
    """Usable pixels where something known at nodes is more than that."""
    values = F.interpolate(field, usable.shape[1:], mode="bilinear", align_corners=True)[:, 0]
    return usable & (values > least)


def _cell(at: Placed | Located, inside: Tensor, vectors: np.ndarray, sigma: float) -> Cell | None:
    """The mean cell of some pixels, if it shows sites."""
    real = np.linalg.inv(vectors).T
    shown = folded(at.level, inside, at.place, real)
    if shown is None:
        return None
    sites, strength, width = sites_of(*shown, real)
    if len(sites) == 0:
        return None
    (a, b), (c, d) = vectors.tolist()
    places = tuple((float(row), float(col)) for row, col in sites)
    return Cell(((a, b), (c, d)), sigma, places, tuple(strength.tolist()), width)


def _strongest(level: Tensor, usable: Tensor, vectors: np.ndarray, sigma: float) -> np.ndarray:
    """Of the pairs of low orders that span the same lattice the one whose weaker order is the strongest."""
    numbers = np.array([[1, 0], [0, 1], [1, 1], [1, -1], [2, 1], [1, 2], [2, -1], [1, -2]])
    orders = local_orders(level, usable, sent(numbers @ vectors, level), sigma)
    strength = torch.hypot(orders.field[:, 0:-1:2], orders.field[:, 1:-1:2]).mean((0, 2, 3)).tolist()
    pairs = [
        (a, b) for a in range(8) for b in range(a) if abs(round(float(np.linalg.det(numbers[[a, b]])))) == 1
    ]
    best = max(pairs, key=lambda p: min(strength[p[0]], strength[p[1]]))
    chosen: np.ndarray = numbers[list(best)] @ vectors
    return chosen


def _refined(level: Tensor, usable: Tensor, vectors: np.ndarray, sigma: float) -> np.ndarray:
    """Reciprocal vectors whose local phases have no slope on the whole."""
    chosen = sent(vectors, level, torch.float64)
    for _ in range(_REFINED):
        orders = local_orders(level, usable, chosen.to(level.dtype), sigma)
        real, imaginary = (orders.field[:, i:4:2].double() for i in (0, 1))
        slopes = []
        for axis, step in zip((2, 3), orders.step, strict=True):
            count = real.shape[axis] - 1
            a, b, c, d = (one.narrow(axis, first, count) for first in (0, 1) for one in (real, imaginary))
            turn = torch.atan2((d * a - c * b).sum((0, 2, 3)), (c * a + d * b).sum((0, 2, 3)))
            slopes.append(turn / (2 * math.pi * step))
        chosen = chosen + torch.stack(slopes, dim=1)
    found: np.ndarray = chosen.cpu().numpy()
    return found


def folded(
    level: Tensor, inside: Tensor, place: Tensor, real: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Mean of the pixels in every bin of the cell, and its variance; None where bins have few."""
    a, b = bins_of(real)
    sums = torch.zeros(3, a * b + 1, dtype=torch.float64, device=level.device)
    for where, some, pixels in _CHUNK.split(inside, place, level):
        index = torch.where(where, bin_of(some, (a, b)), a * b).flatten().long()
        values = pixels.flatten().double()
        powers = (values.new_ones(()).expand_as(values), values, values.square())
        for total, power in zip(sums, powers, strict=True):
            total.scatter_add_(0, index, power)
    count, total, square = sums[:, :-1].view(3, a, b).cpu().numpy()
    if count.mean() < _FULL:
        return None
    if count.min() < _THIN * count.mean():
        # Where a cell fits on the pixels' grid most of these lie in few bins, and others hold none: means over three by three.
        count, total, square = (uniform_filter(one, 3, mode="wrap") for one in (count, total, square))
        if count.min() < _ONE_OF_NINE:
            return None
    mean = total / count
    # What noise has on average, with the columns' own scatter.
    spread = float(np.average(np.maximum(square / count - mean**2, 1e-12), weights=count))
    return mean, spread / count
