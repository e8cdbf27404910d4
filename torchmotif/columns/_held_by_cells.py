"""What the cells of a lattice hold: all the same, or one of two kinds, of which each has a mean cell of its own."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from torchmotif._arrays import sent
from torchmotif.columns._beside_steps import flattened, weights_of_some
from torchmotif.columns._cell_bins import cells_around
from torchmotif.columns._contents import contents
from torchmotif.columns._folding import along_rows, mean_cell, scattered
from torchmotif.columns._territories import Located, expected
from torchmotif.columns.model import FOLDINGS, Cell

__all__ = ["UNEVEN", "Weighed", "by_contents"]

Weighed = tuple[Located, Tensor | None]

# Tried on simulated MX2 and perovskites at 1 to 1/100 of the dose (`benchmarks/columns/end_to_end.py`; docs/decisions/0200); by how much each
# of these may be changed is not recorded.
# Times that what a lattice holds is told apart, and the least share of the pixels of each of the two kinds.
_DEPTH, _PART = 2, 0.15
# Share of the squares of its structure factors that differs from place to place, from which on a lattice holds no crystal: up to 0.004 in
# simulated MX2, perovskites and strain gradients, 0.04 to 0.13 in twisted bilayers and in average cells of the pentagonal oxide. Of one layer where the other
# is taken off: up to 0.011, and 0.005 to 0.09 and 0.03 to 0.25 where both have relaxed by 0.3 and 0.8 of the most.
UNEVEN = 0.025
# Widths by which sites, and share of the brightest by which intensities differ between the two.
_MOVED, _BRIGHTER = 0.5, 0.15
# Of the brightest site, below which sites are asked for their scatter; false ones have up to 0.1. Standard errors by which they stand out of it: of 144 crystals of six kinds half of which lie on
# carbon or end on it (10 to 80 e/px, carbon beside graphene a fifth of that) those that are none have up to 3.7, one 4.8, and oxygen 4.7 and more; of 44 without carbon, at 1 to 1/33 of the dose, columns have 16 and more.
_FAINT, _STANDS_OUT = 0.15, 4.0


def by_contents(
    cell: Cell,
    at: Located,
    inside: Tensor,
    agreeing: Tensor,
    *,
    weighed: Weighed,
    of_kinds: Weighed,
    hum: bool,
) -> list[tuple[Cell, Tensor]]:
    """The mean cell of the pixels that agree with a cell, if all inside its lattice hold the same, or those of the two kinds, and so on.

    With each, the pixels that tell it. Cells are those of an image and the weights of its pixels, those of all pixels of the one that is `weighed`, those of two kinds of the other. None where they differ without end, as those of layers on each other do.
    """
    kinds = _kinds(cell, at, inside, agreeing, _DEPTH, weighed=weighed, of_kinds=of_kinds, hum=hum)
    if not kinds:
        return []
    # What stands out of one kind may be in another, too, of which fewer or noisier pixels tell.
    known, vectors = (
        np.concatenate([np.array(kind.cell.sites)[kind.clear] for kind in kinds]),
        np.array(cell.orders),
    )
    return [
        (its.some((_off(vectors, np.array(its.sites), known) < its.width).tolist()), pixels)
        for its, pixels, _ in kinds
    ]


class _Kind(NamedTuple):
    """What some cells of a lattice hold."""

    cell: Cell
    inside: Tensor  # pixels that tell it
    clear: np.ndarray  # sites that stand out of their scatter


def _kinds(
    cell: Cell,
    at: Located,
    inside: Tensor,
    agreeing: Tensor,
    depth: int,
    *,
    weighed: Weighed,
    of_kinds: Weighed,
    hum: bool,
) -> list[_Kind]:
    """See `by_contents`; with sites that do not stand out."""
    vectors = np.array(cell.orders)
    image, weights = weighed
    refined = mean_cell(image, agreeing, vectors, cell.window, hum=hum, known=cell, weights=weights)
    if refined is None:
        return []
    held = contents(at, inside, np.linalg.inv(vectors).T, refined.width, along_rows(inside, hum=hum))
    if len(held.groups) == 2 and depth:
        its, every = of_kinds
        parts = [(group, None if every is None else weights_of_some(every, group)) for group in held.groups]
        kinds = [mean_cell(its, group, vectors, cell.window, hum=hum, weights=own) for group, own in parts]
        if min(held.shares) > _PART and _differ(*kinds):
            return [
                found
                for group, own in parts
                for found in _kinds(
                    cell, at, group, group, depth - 1, weighed=(its, own), of_kinds=of_kinds, hum=hum
                )
            ]
    refined = _with_faint(refined, image, agreeing, weights, hum=hum)
    return (
        [_Kind(refined, agreeing, _clear(refined, image, agreeing, weights))] if held.uneven < UNEVEN else []
    )


def _with_faint(cell: Cell, at: Located, inside: Tensor, weights: Tensor | None, *, hum: bool) -> Cell:
    """A cell with the faint sites that show once it is folded by a translation that takes all its sites to such of another brightness."""
    orders, sites = np.array(cell.orders), np.array(cell.sites)
    for half, folding in FOLDINGS.items():
        if _off(orders, sites + half, sites).max() > _MOVED * cell.width:
            continue
        place = torch.einsum("ij,tjhw->tihw", sent(folding, at.place), at.place) % 1
        folded = at._replace(place=torch.where(place >= 1, 0.0, place))
        smaller = mean_cell(folded, inside, np.array(folding) @ orders, cell.window, hum=hum, weights=weights)
        if smaller is None:
            continue
        once = np.array(smaller.sites) @ np.linalg.inv(folding).T
        every = np.concatenate([once, once + half]) % 1
        new = _off(orders, every, sites) > cell.width
        bright = np.tile(smaller.intensities, 2)[new].tolist()
        places = tuple((float(a), float(b)) for a, b in every[new])
        return replace(cell, sites=cell.sites + places, intensities=cell.intensities + tuple(bright))
    return cell


def _clear(cell: Cell, at: Located, inside: Tensor, weights: Tensor | None) -> np.ndarray:
    """Which sites of a cell are bright, or no mean of what scatters as much from cell to cell, as that of speckle is."""
    bright = np.array(cell.intensities)
    clear: np.ndarray = bright >= _FAINT * bright.max()
    if clear.all():
        return clear
    constant = float(np.linalg.norm(np.linalg.inv(np.array(cell.orders)), axis=0).max())
    rest = flattened(at.level - expected(cell, at.place), inside, weights, constant, steps=False)
    rest = rest if weights is None else rest * weights
    return clear | (bright > _STANDS_OUT * scattered(rest, at.place, inside, cell))


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
