"""Polarity by the mean cell: whether bright or dark columns describe what repeats in an image, without most of its noise."""

import math
from typing import NamedTuple

import numpy as np

from torchmotif.columns._cell_bins import APART, away_from, matched, middles
from torchmotif.columns._cell_fit import CLEAR, MOST_SITES, NARROW, Shown, fitted, grown
from torchmotif.columns._cell_model import CellFit
from torchmotif.columns._folding import along_rows, folded, seen_best
from torchmotif.columns._reciprocal import lattices
from torchmotif.columns.model import Tiles

__all__ = ["CellPolarity", "polarity_of_cell"]

# Of what a cell holds, that its columns may leave beyond its noise. Simulated crystals of 20 kinds leave up to 0.05, the mean cell of a bilayer or of an oxide
# whose lattice is another 0.12 to 0.28: one of the latter, a pentagonal oxide, is described by dark columns twice as well as by bright ones, which it has.
_LEFT_OVER = 0.1
# Widths of columns, over the side of the cell, at which all maxima of a cell are its first columns; and of the highest, what counts as one.
_WIDTHS, _SEEN = (0.06, 0.12), 0.05


class CellPolarity(NamedTuple):
    """What the mean cell of a crystal tells."""

    dark: bool
    fits: bool  # whether columns of that polarity are what the cell holds


def polarity_of_cell(tiles: Tiles, spacing: float, *, hum: bool = False) -> CellPolarity | None:
    """Whether dark columns are likelier than bright ones, by the mean cell of the crystal that is seen best.

    A sum of positive Gaussians is not the negative of one: the gaps of a square lattice are squares, those of a hexagonal one triangles,
    and of a honeycomb that looks like a hexagonal lattice the second order has the other sign. By how much the one describes a cell better is a log
    likelihood ratio, that of a misfit many times the noise over that misfit.

    Returns
    -------
    CellPolarity or None
        None where no lattice is seen, or neither describes its cell significantly better.
    """
    seen = lattices(tiles.level, tiles.usable, spacing, steps=tiles.step is not None)
    where = seen_best(tiles, seen[0], hum=hum) if seen else None
    if where is None:
        return None
    real = np.linalg.inv(where.vectors).T
    cell = folded(where.at, where.inside, real, hum=hum)
    if cell is None:
        return None
    mean, variance = cell
    along = along_rows(where.inside, hum=hum)
    shown = [Shown.of(sign * mean, variance, real, along) for sign in (1, -1)]
    bright, dark = (_misfit(one) for one in shown)
    every, count = shown[0].cost(shown[0].none(1.0)), 2 * len(shown[0].waves.order)
    least = min(bright, dark)
    if abs(bright - dark) < CLEAR**2 * max(1.0, least / count):
        return None
    return CellPolarity(dark < bright, least - count <= _LEFT_OVER * every)


def _misfit(shown: Shown) -> float:
    """Chi-squared that the columns which describe a cell best leave of it, with what each must lower it by.

    They are sought one after another, see `sites_of`, and from all maxima of the cell at once: of two near each other the first may grow over both.
    """
    side = math.sqrt(shown.waves.area)
    fits = [grown(shown, shown.none(NARROW * side))]
    for share in _WIDTHS:
        start = _at_maxima(shown, share * side)
        if 0 < len(start.sites) <= MOST_SITES:
            found = fitted(shown, start)
            if _is_possible(found, shown.real):
                fits.append(grown(shown, found))
    return min(shown.cost(fit) for fit in fits)


def _at_maxima(shown: Shown, width: float) -> CellFit:
    """Columns at the maxima of a cell that stand out at some width."""
    score = matched(shown.mean, shown.variance, shown.real, width, shown.along)
    around = [np.roll(score, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    top = (score == np.max(around, axis=0)) & (score > max(CLEAR, _SEEN * score.max()))
    strength = (shown.mean[top] - shown.mean.min()) * 2 * math.pi * width**2
    sites = middles(shown.mean.shape)[top.ravel()]
    return shown.none(width)._replace(sites=sites, strength=strength)


def _is_possible(fit: CellFit, real: np.ndarray) -> bool:
    """Whether all columns of a fit are positive, and far enough from each other to be told apart: nearer ones describe anything."""
    others = (np.delete(fit.sites, number, axis=0) for number in range(len(fit.sites)))
    nearest = [
        away_from(some, site, real).min(initial=math.inf)
        for some, site in zip(others, fit.sites, strict=True)
    ]
    return bool(fit.strength.min() > 0 and min(nearest) > APART * fit.width)
