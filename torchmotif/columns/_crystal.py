"""Which columns are those of a crystal, and which are speckle: a crystal's neighbours share the vectors to theirs."""

from typing import Any

import numpy as np
from scipy.spatial import cKDTree

__all__ = ["SEEN", "speckle", "supports"]

SEEN = ("positions", "intensities", "position_errors", "is_rim")  # of columns, by which they are told

# Tried on speckle, 25 simulated crystals at three doses and ten real images (benchmarks/archive/2026-11.md, "Speckle and crystals"); by how
# much each of these may be changed is not recorded, but where a comment says so.
#
# Neighbours from which a column is looked at, those of each at which the same vector is tried, and those among which its end is
# sought: few first, which tell nearly every column of a simple lattice, and for the others enough to hold the shortest vectors of
# dumbbells and of an oxide with many columns in a cell.
_LOOKS = ((8, 6, 16), (24, 8, 32))
_TOLERANCE = 0.12  # spacings by which strain and defects may move the end of a vector
_OF_ERRORS = 4.0  # times the standard deviation of a position, along both axes: four positions have a part in each trial
_LOOSE = 0.3  # spacings: no end is looked for farther away
_OVER_STEP = 0.5  # of the tolerance, for columns over a step of the background, which draws them aside
_THERE = 0.85  # share of a crystal's vectors that end at a column, beside vacancies and edges
# Log of how much likelier a vector that neighbours share is in a crystal than among as many columns at random, from which the second
# best of a column's tells: of 5,400 columns of speckle 0.1 % have more, of those in 25 crystals at three doses all but 0 to 2 %, but in
# the pentagonal oxide and a bilayer at a fiftieth of the dose, where half have less.
_CLEAR = 4.0
_BESIDE = 0.0  # the same beside three columns that are clear: at corners and edges there are fewer trials
# Neighbours that may surround a column, and median nearest distances within which they do.
_ROUND, _NEAR = 8, 2.5
_ONE_SIDE = 0.5  # length of their mean direction: half a plane has 0.64
_FEWEST = 10  # clear columns that are a crystal
# Share of pairs of a clear and another column in which the clear one is brighter. Speckle on which particles lie has 0.94 to 1.0;
# in colloids, oxides, implanted and low-dose crystals, whose columns without a shared vector are columns all the same, it is
# 0.4 to 0.82.
_BRIGHTER = 0.88
_CHUNK = 1024  # columns at a time: some ten megabytes of trials


def speckle(
    columns: dict[str, np.ndarray], spacing: float, axes: tuple[float, float], shape: tuple[int, int]
) -> np.ndarray:
    """Which columns of an image no neighbourhood supports, where there is a crystal beside which they are none.

    Beside columns that a crystal supports are those that it surrounds, such as interstitials and those of grain boundaries.
    All others are speckle if they are fainter; as bright as the crystal's they are kept, for they may be a packing without
    order, and so are all where no crystal is found.

    Parameters
    ----------
    columns : dict of arrays
        positions (n, 2) in pixels, intensities (n,), and where there was a fit position_errors (n, 2), is_rim (n,).
    spacing, axes
        See `ImageModel`.
    shape : (int, int)
        Of the image.

    Returns
    -------
    boolean array of shape (n,)
    """
    clear, supported = supports(columns, spacing, axes, shape)
    rest = ~supported
    none = np.zeros_like(rest)
    if clear.sum() < _FEWEST or not rest.any():
        return none
    bright = np.sort(columns["intensities"][clear])
    fainter = np.searchsorted(bright, columns["intensities"][rest]) / len(bright)
    return rest if 1 - fainter.mean() >= _BRIGHTER else none


def supports(
    columns: dict[str, np.ndarray], spacing: float, axes: tuple[float, float], shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Which columns share vectors with their neighbours, and which of all are in a crystal: those, and those beside and between.

    See `speckle` for the parameters.
    """
    at, last = columns["positions"] / np.array(axes), np.array(shape) / axes - 1
    n = len(at)
    if n <= 3:
        return np.zeros(n, bool), np.zeros(n, bool)
    tolerance = np.full(n, _TOLERANCE * spacing)
    if "position_errors" in columns:
        errors = (columns["position_errors"] / np.array(axes)).mean(1)
        tolerance = np.hypot(tolerance, _OF_ERRORS * np.nan_to_num(errors, posinf=spacing))
    tolerance = tolerance.clip(max=_LOOSE * spacing)
    if "is_rim" in columns:
        inside = ((at > spacing) & (at < last - spacing)).all(1)
        tolerance = np.where(columns["is_rim"] & inside, _OVER_STEP * tolerance, tolerance)
    around = _Around(at, tolerance, last)
    score = np.full(n, -np.inf)
    for look in _LOOKS:
        some = np.flatnonzero(score <= _CLEAR)
        for first in range(0, len(some), _CHUNK):
            part = some[first : first + _CHUNK]
            score[part] = np.maximum(score[part], around.score(part, *look))
    clear = score > _CLEAR
    beside = around.near(clear)
    supported = clear | ((score > _BESIDE) & (beside.sum(1) >= 3))
    return clear, supported | around.surrounded(supported, spacing)


class _Around:
    """The nearest neighbours of all columns."""

    def __init__(self, at: np.ndarray, tolerance: np.ndarray, last: np.ndarray) -> None:
        self.at, self.tolerance, self.last = at, tolerance, last
        most = min(_LOOKS[-1][2], len(at) - 1)
        found: Any = cKDTree(at).query(at, most + 1)
        self.distance, self.index = found[0][:, 1:], found[1][:, 1:]
        self.ends = np.stack([one[self.index] for one in at.T])  # what is looked up together lies together

    def score(self, some: np.ndarray, neighbours: int, trials: int, ends: int) -> np.ndarray:
        """Log likelihood ratio of the second best vector by which a neighbour leads to each of some columns."""
        most = self.index.shape[1]
        k, j, m = (min(count, most) for count in (neighbours, trials, ends))
        hits, tried = np.zeros((2, len(some), k))
        near, tolerance = self.index[some, :k], self.tolerance[some][:, None]
        vector = self.at[some][:, None] - self.at[near]
        length = np.hypot(*vector.transpose(2, 0, 1))
        for number in range(j):
            other = self.index[near, number]
            end = self.at[other] + vector
            known = ((end > 0) & (end < self.last)).all(2) & (other != some[:, None])
            known &= self.distance[other, m - 1] > length + tolerance
            row, col = (end[:, :, axis, None] - self.ends[axis, :, :m][other] for axis in (0, 1))
            row *= row
            col *= col
            row += col
            hits += known & (row.min(2) < tolerance**2)
            tried += known
        density = k / (np.pi * self.distance[some, k - 1] ** 2)
        chance = np.minimum(density[:, None] * np.pi * tolerance**2, 0.5)
        ratio = hits * np.log(_THERE / chance) + (tried - hits) * np.log((1 - _THERE) / (1 - chance))
        second: np.ndarray = np.sort(ratio, axis=1)[:, -2]
        return second

    def near(self, which: np.ndarray) -> np.ndarray:
        """Which of the nearest neighbours of each column are so, and near."""
        reach = _NEAR * np.median(self.distance[:, 0])
        near: np.ndarray = which[self.index[:, :_ROUND]] & (self.distance[:, :_ROUND] < reach)
        return near

    def surrounded(self, which: np.ndarray, spacing: float) -> np.ndarray:
        """Which columns have such on all sides, as far as there is an image."""
        near = self.near(which)
        away = (self.at[self.index[:, :_ROUND]] - self.at[:, None]) / self.distance[:, :_ROUND, None].clip(
            1e-9
        )
        mean = (away * near[:, :, None]).sum(1) / near.sum(1).clip(1)[:, None]
        mean[(self.at < 2 * spacing) | (self.at > self.last - 2 * spacing)] = 0
        found: np.ndarray = (near.sum(1) >= 3) & (np.hypot(*mean.T) < _ONE_SIDE)
        return found
