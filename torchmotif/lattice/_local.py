"""Local lattices: the two translations that best describe the columns around a place, and how they depend on each of them."""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.spatial import cKDTree
from scipy.stats import chi2

from torchmotif._threads import in_threads
from torchmotif.columns.lattice import find_lattice

__all__ = [
    "RADIUS",
    "LocalFits",
    "Points",
    "everywhere",
    "fit_around",
    "reduced",
    "sparse_rows",
    "start_bases",
    "times",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_FINER = 0.7  # of its own spacing is what a sublattice's lattice is looked for with, as in `sites`
_OFF = 0.3  # shortest translations beside its site from which a column is none of the lattice
# Longest translations within which the first fit looks, before indices reach farther, if they reach farther than so many: up to
# there, translations that are a tenth off lead to the right ones.
_SHELL, _FAR = 1.3, 2.0
_SPARE = 3  # columns needed beyond one for each sublattice: two translations, and one to tell their misfit
# Longest translations within which a lattice is fitted: of a square or hexagonal one, six to eight neighbours. Noise decides which
# columns at that distance are in a fit, and makes it too small: 1.65 lies between the shells of honeycombs (1.53 and 1.73) and of
# square lattices one within the other (1.58 and 1.8).
RADIUS = 1.65
_MOST = 96  # neighbours of one fit
_FLAT = 1e-3  # of a fit's spread along its longest direction: with less along the other, there is one translation only
_SOME = 64  # places that are asked how many columns are in reach
_BATCH = 4_096  # fits that are made together
_WORSE = 3.0  # times that columns may be as far off their sites as they usually are,
_EXACT = 0.01  # or so many shortest translations
# Probability of a misfit as large, below which it is none of chance. With 1e-4 to 1e-2 the same grains of simulated MoSe2 at 1 electron
# per pixel were found, two turned by 2.2 degrees among them; without, a boundary of so little passes as a bend.
_CHANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Points:
    """What local fits are made from: columns that were measured well.

    Attributes
    ----------
    positions : array of shape (n, 2), float64
        (row, col) in pixels that are square: those of the image, stretched where its pixels are not.
    variance : array of shape (n, 2), float64
        Of each position along (row, col).
    group : array of shape (n,), int64
        Sublattice of each column; -1 for columns that no fit uses.
    jitter : array of shape (2,)
        Standard deviation along (row, col) in pixels by which columns of all sublattices scatter beyond their errors; the variance
        has it.
    together : float
        By how many times the variance of the mean lattice of many columns exceeds that from independent errors: neighbours that
        overlap are drawn aside together.
    start : (array of shape (n, 2, 2), array of shape (n,)), optional
        What `start_bases` has found for them.
    bright : boolean array of shape (n,), optional
        Columns of the brightest sublattices, which scatter least; None where it is not known.
    moved : boolean array of shape (n,), optional
        Columns next to those that unseen ones draw aside, which move with them a little: no strain and no lattice constant is
        made from them.
    """

    positions: Floats
    variance: Floats
    group: Ints
    jitter: Floats
    together: float = 1.0
    start: tuple[Floats, Ints] | None = None
    bright: NDArray[np.bool_] | None = None
    moved: NDArray[np.bool_] | None = None

    @property
    def steady(self) -> "Points":
        """The same, where fits use none that have moved."""
        return self if self.moved is None else replace(self, group=np.where(self.moved, -1, self.group))

    def only(self, which: NDArray[np.bool_]) -> "Points":
        """The same, where fits use some of the columns, as one sublattice."""
        # Half of a sublattice has another lattice than all of it.
        parted = np.intersect1d(self.group[which], self.group[~which & (self.group >= 0)]).size > 0
        return replace(self, group=np.where(which, 0, -1), start=None if parted else self.start)


@dataclass(frozen=True, eq=False)
class LocalFits:
    """Lattices fitted around m places. Rows without one are NaN, their neighbours' weights zero.

    Attributes
    ----------
    basis : array of shape (m, 2, 2)
        Two translations (row, col) in pixels.
    neighbours : array of shape (m, k), int64
        Columns of each fit.
    weights : array of shape (m, k, 2)
        ``basis[i, p] == weights[i, :, p] @ positions[neighbours[i]]``.
    middle, middle_index : arrays of shape (m, 2)
        Weighted mean of the columns' positions, and of their indices: the lattice has a site at ``middle - middle_index @ basis``.
        They mean something where fits use one sublattice.
    middle_weights : array of shape (m, k)
        ``middle[i] == middle_weights[i] @ positions[neighbours[i]]``.
    misfit : array of shape (m, 2)
        Squared residuals along (row, col) over their expected variance, for each degree of freedom: 1 where positions scatter as
        they should.
    freedom : array of shape (m,), int64
        Degrees of freedom along each.
    offset : array of shape (m,)
        Root mean square of the residuals in pixels.
    near : array of shape (m,), int64
        How many columns that fits may use are in reach.
    """

    basis: Floats
    neighbours: Ints
    weights: Floats
    middle: Floats
    middle_index: Floats
    middle_weights: Floats
    misfit: Floats
    freedom: Ints
    offset: Floats
    near: Ints

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which places have a lattice."""
        return np.isfinite(self.basis[:, 0, 0])

    def of(self, rows: Any) -> "LocalFits":
        """Those of some places, by a mask or their numbers."""
        return LocalFits(*(getattr(self, field.name)[rows] for field in fields(self)))

    def replaced(self, rows: Ints, other: "LocalFits") -> "LocalFits":
        """The same with those of some rows from others, one for each."""
        k = max(self.neighbours.shape[1], other.neighbours.shape[1])
        parts = []
        for field in fields(self):
            mine, theirs = (getattr(one, field.name) for one in (self, other))
            if field.name in _OF_NEIGHBOURS:
                mine, theirs = _widened(mine, k), _widened(theirs, k)
            mine = mine.copy()
            mine[rows] = theirs
            parts.append(mine)
        return LocalFits(*parts)

    def operators(self, n: int) -> tuple[csr_array, csr_array]:
        """Matrices (m, n) that lead from the positions of all n columns, along one axis, to both translations."""
        first, second = (sparse_rows(self.neighbours, self.weights[..., axis], n) for axis in (0, 1))
        return first, second

    def even(self, usual: float) -> NDArray[np.bool_]:
        """Which places have columns around them that are not much farther off their sites than is usual, in pixels."""
        shortest = np.linalg.norm(self.basis, axis=2).min(axis=1)
        # Rounding makes no grains where columns do not scatter.
        return np.asarray(self.offset < np.maximum(_WORSE * usual, _EXACT * shortest), bool)

    def likely(self, usual: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which places have columns around them that are off their sites by chance, where columns scatter as around the usual ones."""
        freedom = 2 * np.maximum(self.freedom, 1)
        total = self.misfit.sum(axis=1) * self.freedom
        middle = np.median((total / freedom)[usual] / _median_of(freedom[usual])) if usual.any() else 1.0
        return np.asarray(total < max(float(middle), 1.0) * chi2.isf(_CHANCE, freedom), bool)

    @property
    def scatter(self) -> Floats:
        """Variance of positions along (row, col) over that which their errors say, from the median misfit of all fits."""
        seen = self.known & (self.freedom > 0)
        if not seen.any():
            return np.ones(2)
        usual = _median_of(self.freedom[seen])
        return np.asarray(np.median(self.misfit[seen] / usual[:, None], axis=0), np.float64)


def _median_of(freedom: Ints) -> Floats:
    """The median of a chi-squared over its degrees of freedom (Wilson & Hilferty, 1931)."""
    return np.asarray((1 - 2 / (9 * freedom)) ** 3, np.float64)


def sparse_rows(columns: Ints, weights: Floats, n: int) -> csr_array:
    """A sparse matrix (m, n) from the columns and weights, (m, k) each, of its rows."""
    m, k = columns.shape
    starts = np.arange(m + 1) * k
    # A copy: zeros are taken out in place.
    found = csr_array((weights.ravel(), columns.ravel(), starts), shape=(m, n), copy=True)
    found.eliminate_zeros()
    return found


def start_bases(points: Points) -> tuple[Floats, Ints]:
    """Translations to begin with around each column, and the number of the lattice that has them.

    Each sublattice has its own; columns without take those of the nearest that has.

    Returns
    -------
    array of shape (n, 2, 2), array of shape (n,) int64
        NaN and -1 where there is no lattice at all.
    """
    if points.start is not None:
        return points.start
    n = len(points.positions)
    bases, number, count = np.full((n, 2, 2), np.nan), np.full(n, -1), 0
    for group in np.unique(points.group[points.group >= 0]).tolist():
        here = np.flatnonzero(points.group == group)
        if len(here) < 9:
            continue
        own = float(np.median(cKDTree(points.positions[here]).query(points.positions[here], k=[2])[0]))
        lattice = find_lattice(torch.from_numpy(points.positions[here]), _FINER * own)
        grain, vectors = lattice.grain.numpy(), reduced(lattice.vectors.numpy())
        inside = grain >= 0
        bases[here[inside]], number[here[inside]] = vectors[grain[inside]], count + grain[inside]
        count += len(vectors)
    return everywhere(points.positions, bases, number)


def everywhere(positions: Floats, bases: Floats, number: Ints) -> tuple[Floats, Ints]:
    """Translations (n, 2, 2) and numbers (n,) of lattices: columns without, numbered -1, take those of the nearest that has."""
    known = number >= 0
    if known.any() and not known.all():
        nearest = cKDTree(positions[known]).query(positions[~known])[1]
        bases[~known], number[~known] = bases[known][nearest], number[known][nearest]
    return bases, number


def reduced(bases: Floats) -> Floats:
    """The shortest bases of the same lattices, right-handed, with the angle between 90 and 120 degrees (Gauss; Niggli, 1928)."""
    a, b = bases[:, 0].copy(), bases[:, 1].copy()
    for _ in range(8):
        swap = (a**2).sum(1) > (b**2).sum(1)
        a[swap], b[swap] = b[swap], a[swap]
        size = np.maximum((a**2).sum(1), 1e-300)
        b = b - np.rint((a * b).sum(1) / size)[:, None] * a
    acute = (a * b).sum(1) > 0
    b[acute] *= -1
    # Counter-clockwise from a to b, with rows pointing down.
    clockwise = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0] < 0
    a[clockwise], b[clockwise] = b[clockwise], a[clockwise]
    return np.stack([a, b], axis=1)


def fit_around(
    points: Points,
    centres: Floats,
    start: Floats,
    radius: Any,
    *,
    own: Ints | None = None,
    grains: tuple[Ints, Ints] | None = None,
) -> LocalFits:
    """Lattices of the columns within a radius of places, by weighted least squares.

    All sublattices share the translations, each has its own origin. Columns that lie off their site by 0.3 of the shortest
    translation are left out. The solution is linear in the positions, and its weights are given back.

    Parameters
    ----------
    points : Points
    centres : array of shape (m, 2)
        (row, col) in pixels.
    start : array of shape (m, 2, 2)
        Translations to begin with; a tenth off is near enough.
    radius : float
        In pixels.
    own : array of shape (m,), int, optional
        Column that each place is and that its fit leaves out.
    grains : (array of shape (n,), array of shape (m,)), int64, optional
        Grain of each column, and of each place: only columns of its own make its lattice.

    Returns
    -------
    LocalFits
    """
    used = np.flatnonzero(points.group >= 0)
    known = np.isfinite(start).all(axis=(1, 2))
    if not len(used) or not known.any():
        return _joined([_nothing(len(centres))], 1)
    tree = cKDTree(points.positions[used])
    longest = np.linalg.norm(start, axis=2).max(axis=1)
    usual = float(np.median(longest[known]))

    def work(part: slice) -> tuple[Any, ...]:
        excluded = None if own is None else own[part]
        columns, there, distance = _within(tree, used, centres[part], radius, excluded)
        if grains is not None:
            there &= grains[0][columns] == grains[1][part, None]
        basis = start[part]
        if radius > _FAR * usual:
            near = there & (distance <= _SHELL * usual)
            close = int(np.flatnonzero(near.any(axis=0)).max(initial=1)) + 1
            begun = _fit(points, columns[:, :close], near[:, :close], basis)[0]
            basis = np.where(np.isfinite(begun), begun, basis)
        return _fit(points, columns, there, basis)

    batches = [slice(low, low + _BATCH) for low in range(0, len(centres), _BATCH)]
    parts = in_threads(work, batches, torch.device("cpu"))
    return _joined(parts, max(part[1].shape[1] for part in parts))


def _within(
    tree: cKDTree, used: Ints, centres: Floats, radius: float, own: Ints | None
) -> tuple[Ints, NDArray[np.bool_], Floats]:
    """Columns within a radius of each place, the nearest first, which of them there are, and how far they are."""
    # Some places say how many there are about everywhere; where there are more, it is looked for again.
    some = centres[:: max(len(centres) // _SOME, 1)]
    count = tree.query_ball_point(some, radius, return_length=True).max(initial=1)
    k = int(np.clip(count + 2, 2, _MOST))
    distance, index = map(np.asarray, tree.query(centres, k=k, distance_upper_bound=radius))
    while k < _MOST and (index[:, -1] < tree.n).any():
        k = min(2 * k, _MOST)
        distance, index = map(np.asarray, tree.query(centres, k=k, distance_upper_bound=radius))
    k = max(int(np.flatnonzero((index < tree.n).any(axis=0)).max(initial=0)) + 1, 2)
    distance, index = distance[:, :k], index[:, :k]
    there = np.asarray(index < tree.n, bool)
    columns = used[np.where(there, index, 0)]
    if own is not None:
        there &= columns != own[:, None]
    return columns, there, np.asarray(distance, np.float64)


def _fit(points: Points, columns: Ints, there: NDArray[np.bool_], start: Floats) -> tuple[Any, ...]:
    """Fits around some places: basis, columns, weights, middle, its index and weights, misfit, freedom, offset, how many are near."""
    place, variance = points.positions[columns], points.variance[columns]
    numbers, which = np.unique(points.group[columns], return_inverse=True)
    which = which.reshape(columns.shape)
    start = np.where(np.isfinite(start), start, np.eye(2))
    of = [(which == g) & there for g in range(len(numbers))]  # a few sublattices
    anchors = np.stack([one.argmax(axis=1) for one in of], axis=1)  # the nearest of each
    step = place - np.take_along_axis(place, np.take_along_axis(anchors, which, axis=1)[..., None], axis=1)
    index = np.rint(times(step, _inverse(start)))
    shortest = np.linalg.norm(start, axis=2).min(axis=1)[:, None]
    on = there & (_length(step - times(index, start)) < _OFF * shortest)
    for again in (True, False):
        weight = np.where(on, 2 / variance.sum(axis=2), 0.0)
        centred, apart = index.copy(), place.copy()
        groups = np.zeros(len(columns), np.int64)
        for one in of:
            mine = weight * one
            total = mine.sum(axis=1)
            share = (mine / np.maximum(total, 1e-300)[:, None])[:, None, :]
            centred -= one[..., None] * (share @ index)
            apart -= one[..., None] * (share @ place)
            groups += total > 0
        weighted = (centred * weight[..., None]).swapaxes(1, 2)
        gram = weighted @ centred
        mean, half = (gram[:, 0, 0] + gram[:, 1, 1]) / 2, (gram[:, 0, 0] - gram[:, 1, 1]) / 2
        root = np.hypot(half, gram[:, 0, 1])
        count = on.sum(axis=1)
        solved = (mean - root > _FLAT * (mean + root)) & (count - groups >= _SPARE)
        gram[~solved] = np.eye(2)
        weights = (_inverse(gram) @ weighted).swapaxes(1, 2)
        weights[~solved] = 0.0
        basis = weights.swapaxes(1, 2) @ place
        rest = apart - times(centred, basis)
        if again:
            # The first anchor may itself have been off its site.
            on &= (_length(rest) < _OFF * shortest) | ~solved[:, None]
    freedom = np.where(solved, count - groups - 2, 0).astype(np.int64)
    squares = np.where(on[..., None], rest**2, 0.0)
    misfit = (squares / variance).sum(axis=1) / np.maximum(freedom, 1)[:, None]
    offset = np.sqrt(squares.sum(axis=(1, 2)) / np.maximum(freedom, 1))
    middle_weights = weight / np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)
    basis[~solved], misfit[~solved], offset[~solved] = np.nan, np.nan, np.nan
    middle, middle_index = ((middle_weights[:, None, :] @ one)[:, 0] for one in (place, index))
    near = np.count_nonzero(there, axis=1)
    return basis, columns, weights, middle, middle_index, middle_weights, misfit, freedom, offset, near


def times(vectors: Floats, matrices: Floats) -> Floats:
    """Vectors (m, k, 2) times a matrix (2, 2) for each row: faster than products of so small matrices."""
    return vectors[..., :1] * matrices[:, None, 0] + vectors[..., 1:] * matrices[:, None, 1]


def _inverse(matrices: Floats) -> Floats:
    """Of matrices (m, 2, 2): in closed form it takes a tenth of the time."""
    (a, b), (c, d) = matrices[:, 0].T, matrices[:, 1].T
    found = np.stack([np.stack([d, -b], axis=-1), np.stack([-c, a], axis=-1)], axis=1)
    return np.asarray(found / (a * d - b * c)[:, None, None], np.float64)


def _length(vectors: Floats) -> Floats:
    return np.hypot(vectors[..., 0], vectors[..., 1])


def _nothing(m: int) -> tuple[Any, ...]:
    none, zero = np.full((m, 2), np.nan), np.zeros((m, 1))
    return (
        np.full((m, 2, 2), np.nan),
        np.zeros((m, 1), np.int64),
        np.zeros((m, 1, 2)),
        none,
        none,
        zero,
        none,
        np.zeros(m, np.int64),
        np.full(m, np.nan),
        np.zeros(m, np.int64),
    )


_OF_NEIGHBOURS = ("neighbours", "weights", "middle_weights")


def _widened(array: np.ndarray, k: int) -> np.ndarray:
    """An array (m, k or fewer, ...) with zeros for the neighbours that it lacks."""
    return np.pad(array, [(0, 0), (0, k - array.shape[1])] + [(0, 0)] * (array.ndim - 2))


def _joined(parts: list[tuple[Any, ...]], k: int) -> LocalFits:
    """Fits of all batches, whose neighbours are made as many as the most."""
    columns = []
    for i, field in enumerate(fields(LocalFits)):
        each = [part[i] for part in parts]
        columns.append(
            np.concatenate([_widened(one, k) for one in each] if field.name in _OF_NEIGHBOURS else each)
        )
    return LocalFits(*columns)
