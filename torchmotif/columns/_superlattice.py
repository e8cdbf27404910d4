"""Cells twice as large as the lattice of the brightest columns: light ones alternate between its cells, and the mean over all is that of both.

Their orders lie halfway between those of the lattice, and are too weak to be found by themselves.
"""

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.special import comb, fdtrc
from torch import Tensor

from torchmotif._arrays import sent
from torchmotif.columns._beside_steps import fine_level, flattened, weights_in_cells
from torchmotif.columns._cell_bins import APART, away_from, cells_around
from torchmotif.columns._cell_fit import FAINTEST_SITE
from torchmotif.columns._folding import mean_cell
from torchmotif.columns._local_phase import WIDER, Local, placed
from torchmotif.columns._territories import Located, lattice_constant, superlattice_by
from torchmotif.columns.model import FOLDINGS, Cell, Pair, Tiles

__all__ = ["doubled", "evened", "halved", "repeats"]

# Orders between those of the lattice that are looked at, for each way to double its cell: the shortest. Rutile has its four strongest among the first six.
_BETWEEN = 8
_FARTHEST = 7  # halves of vectors: beyond, none is so short
# Least probability of what they show: of 162 images of 54 crystals without superlattice (`benchmarks/columns/any_crystal.py`, seeds 21 and 31, three draws) one has less, an oxide, which loses
# nothing; the next has 2e-3. SnO2 at 1/50 of the dose (450 px) has less in two orientations.
_CHANCE = 1e-3
# The same of all but the strongest: one alone is a wave, such as a step leaves, and columns have several. Superlattices have 0.03 (a tilted perovskite at 0.3 electrons per pixel) and less (others, SnO2,
# RuO2, TiO2), WS2 beside steps of the background 8.
_OTHERS = 0.05
_ALIKE = 0.5  # mean of unit vectors of the windows' phases, at least: superlattices have 0.94 and more (tests/columns/test_superlattice.py); the order of another lattice would have another phase in each window
_SAME = 0.2  # of its intensity, by which the site half of a cell away may differ that is the same; what moves with it was not measured


class _Seen(NamedTuple):
    """Orders of the pixels beside what a cell lets expect, in n windows.

    Attributes
    ----------
    factors : complex array of shape (k, n)
        Of k orders, turned to the place of the cell in each window.
    weight : array of shape (n,)
        Pixels of each, over those of a whole one, of sum 1.
    windows : float
        How many hold different pixels.
    """

    factors: np.ndarray
    weight: np.ndarray
    windows: float

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Over windows."""
        return np.asarray(values @ self.weight)

    def some(self, which: np.ndarray) -> "_Seen":
        """Some of the orders."""
        return self._replace(factors=self.factors[which])


def doubled(
    tiles: Tiles,
    cell: Cell,
    where: Located,
    rest: Float[Tensor, "t h w"],
    inside: Bool[Tensor, "t h w"],
) -> Cell:
    """The cell twice as large, where some pixels show orders halfway between those of its lattice, in all windows alike; else the cell."""
    between, quarters, near = _numbers(np.array(cell.orders))
    steps, weights = tiles.step is not None, None
    if not tiles.is_even:
        weights = weights_in_cells(tiles, rest, inside, lattice_constant(cell))
        rest = flattened(rest, inside, weights, lattice_constant(cell), steps=steps)
    told = inside if weights is None else weights
    seen = _seen(cell, where, rest, told, np.concatenate([between, quarters]))
    power = seen.mean(np.abs(seen.factors) ** 2)
    # Noise gives all the same: their mean, from the median of a gamma distribution (Wilson & Hilferty 1931). Steps, walls and domains give more to some: there
    # the direction in which more is beside.
    beside = power[len(between) :]
    noise = np.median(beside) / (1 - 1 / (9 * seen.windows)) ** 3
    least = np.maximum(noise, beside[near].mean(2).max(1))
    ratio = power[: len(between)] / np.maximum(least, np.finfo(float).tiny)
    kinds = {half: (between % 1 == half).all(1) for half in FOLDINGS}
    chances = {half: _by_chance(ratio[mine], seen.windows, len(quarters)) for half, mine in kinds.items()}
    half = min(chances, key=lambda one: chances[one])
    mine = np.flatnonzero(kinds[half])
    others = np.sort(ratio[mine])[:-1]
    if len(chances) * chances[half] > _CHANCE or _by_chance(others, seen.windows, len(quarters)) > _OTHERS:
        return cell
    factors, alike = _aligned(seen.some(mine), int(ratio[mine].argmax()))
    if alike < _ALIKE:
        return cell
    factors *= np.maximum(0, 1 - 1 / ratio[mine])  # without noise and disorder (Wiener)
    folding = np.array(FOLDINGS[half])
    inverse = np.linalg.inv(folding)
    own = inverse @ np.array(cell.orders)
    by = superlattice_by(half, own, between[mine] @ folding, factors, tiles.data)
    vectors = sent(own, tiles.data)
    fine = fine_level(tiles, inside, lattice_constant(cell))
    at = placed(tiles.level, inside, vectors, cell.window, steps=steps, superlattice=by, fine=fine)
    once = np.array(cell.sites) @ inverse.T
    sites = tuple((float(a), float(b)) for a, b in np.concatenate([once, once + half]))
    known = replace(cell, sites=sites, intensities=cell.intensities * 2)
    found = mean_cell(at, inside, own, cell.window, known=known, weights=weights)
    if found is None or repeats(found, half) or not _keeps(found, once, half):
        return cell
    return replace(found, antiphase=half)


def _numbers(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shortest orders (k, 2) halfway between those of a lattice, and those a quarter of its vectors beside them (n, 2), as multiples of its vectors.

    One of each pair of opposite ones. Numbers (k, 2, 2) of those beside each: before and behind it, along both vectors.
    """
    steps = np.arange(-_FARTHEST, _FARTHEST + 1)
    order = np.stack(np.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2) / 2
    order = order[len(order) // 2 + 1 :]
    order = order[np.argsort(np.linalg.norm(order @ vectors, axis=1))]
    between = np.concatenate([order[(order % 1 == half).all(1)][:_BETWEEN] for half in FOLDINGS])
    beside = between[:, None, None] + np.array([[(-0.25, 0), (0.25, 0)], [(0, -0.25), (0, 0.25)]])
    quarters, near = np.unique(beside.reshape(-1, 2), axis=0, return_inverse=True)
    return between, quarters, near.reshape(beside.shape[:3])


def _seen(
    cell: Cell,
    where: Located,
    rest: Float[Tensor, "t h w"],
    told: Tensor,
    numbers: np.ndarray,
) -> _Seen:
    """What some orders, as multiples of the cell's, have in the rest of some pixels, or of all with weights."""
    vectors, sigma = np.array(cell.orders), WIDER * cell.window
    orders = Local.of(rest, told, sigma).orders(sent(numbers @ vectors, rest))
    nodes = [np.arange(n) * step for n, step in zip(orders.field.shape[2:], orders.step, strict=True)]
    row, col = (sent(np.rint(one), rest, torch.long) for one in nodes)
    place = where.place[:, :, row[:, None], col]
    host = torch.cat([place, orders.field], dim=1).transpose(0, 1).flatten(1).cpu().double().numpy()
    # From the carrier's phases: where one begins anew, all orders between those of the lattice change sign.
    at = np.stack(np.meshgrid(*map(np.rint, nodes), indexing="ij")).reshape(2, -1)
    moved = host[:2] - np.tile(vectors @ at, len(rest))
    factors = (host[2:-2:2] + 1j * host[3:-2:2]) * np.exp(-2j * np.pi * numbers @ moved)
    pixels = host[-1].sum() * math.prod(orders.step) / (2 * math.pi * sigma**2)
    return _Seen(factors, host[-1] / host[-1].sum(), max(1.0, pixels / (4 * math.pi * sigma**2)))


def _by_chance(ratio: np.ndarray, windows: float, beside: int) -> float:
    """Bound on the probability that noise gives the strongest of some orders what they have over those beside, for the number of them that makes it the least (Bonferroni; may exceed 1)."""
    number, count = np.arange(1, len(ratio) + 1), len(ratio)
    strongest = np.sort(ratio)[::-1].cumsum() / number
    chance = count * comb(count, number) * fdtrc(2 * windows * number, 2 * windows * beside, strongest)
    return float(chance.min())


def _aligned(seen: _Seen, number: int) -> tuple[np.ndarray, float]:
    """Structure factors of orders but for a sign that all have in common, by the one of most evidence; and how far its phases are the same in all windows, of 1."""
    told = seen.factors[number]
    square = told**2
    alike = seen.mean(square / np.maximum(np.abs(square), 1e-30))
    turn = np.exp(0.5j * np.angle(seen.mean(square)))
    return seen.mean(seen.factors * told.conj()) / np.sqrt(seen.mean(np.abs(square))) * turn, float(
        np.abs(alike)
    )


def _keeps(cell: Cell, once: np.ndarray, half: Pair) -> bool:
    """Whether each of some sites has one of a cell near it, or half of the cell away."""
    real, sites = np.linalg.inv(np.array(cell.orders)).T, np.array(cell.sites)
    return all(
        any(
            (away_from(sites, one + shift, real) < APART * cell.width).any()
            for shift in (np.zeros(2), np.array(half))
        )
        for one in once
    )


def repeats(cell: Cell, half: Pair) -> bool:
    """Whether all sites of a cell have like ones half of it away."""
    real, sites, bright = (
        np.linalg.inv(np.array(cell.orders)).T,
        np.array(cell.sites),
        np.array(cell.intensities),
    )
    for site, one in zip(sites, bright, strict=True):
        near = away_from(sites, site + half, real) < cell.width
        if not (near & (np.abs(bright - one) < _SAME * one)).any():
            return False
    return True


def halved(cell: Cell) -> Cell:
    """The cell of the lattice of a superlattice cell's brightest columns: the mean of both halves, without sites too faint in it."""
    assert cell.antiphase is not None  # noqa: S101
    folding = np.array(FOLDINGS[cell.antiphase])
    orders = folding @ np.array(cell.orders)
    real, sites, bright = np.linalg.inv(orders).T, evened(cell) @ folding.T, np.array(cell.intensities) / 2
    kept: list[tuple[np.ndarray, float]] = []
    for number in np.argsort(-bright):
        near = [
            n for n, (at, _) in enumerate(kept) if away_from(at[None], sites[number], real)[0] < cell.width
        ]
        if near:
            at, high = kept[near[0]]
            kept[near[0]] = at, high + float(bright[number])
        else:
            kept.append((sites[number] % 1, float(bright[number])))
    least = FAINTEST_SITE * max(high for _, high in kept)
    shown = [(at, high) for at, high in kept if high > least]
    (a, b), (c, d) = orders.tolist()
    return replace(
        cell,
        orders=((a, b), (c, d)),
        sites=tuple((float(row), float(col)) for (row, col), _ in shown),
        intensities=tuple(high for _, high in shown),
        antiphase=None,
        lobes=(),
    )


def evened(cell: Cell) -> np.ndarray:
    """Sites of a superlattice cell, those that nearly repeat half of it away at the mean of both places: of few electrons chance moves each, and some nearer."""
    real, sites = np.linalg.inv(np.array(cell.orders)).T, np.array(cell.sites)
    gap = sites[:, None] + np.array(cell.antiphase) - sites
    gap -= np.round(gap)
    away = np.linalg.norm((gap[:, :, None] + cells_around(1)) @ real, axis=3).min(2)
    nearest = away.argmin(1)
    off = np.take_along_axis(gap, nearest[:, None, None], axis=1)[:, 0]
    found: np.ndarray = np.where(away.min(1)[:, None] < 2 * cell.width, sites - off / 2, sites)
    return found
