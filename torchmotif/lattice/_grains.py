"""What grains are told apart by, and the mean lattice of one."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

from torchmotif.lattice._local import LocalFits, Points, reduced, sparse_rows, times

__all__ = ["POLAR", "aligned", "inwards", "mean_lattice", "polarity_angle", "same_lattice"]

Floats = NDArray[np.float64]

_FIRST = 1.3  # spacings within which neighbours show on which side of a column the brighter ones are
_EQUAL = 0.03  # relative difference of a and b below which they count as equal
_RIGHT = np.radians(1.5)  # by which an angle may differ from 90 or 120 degrees
POLAR = 0.1  # of the brightness around, from which the side of the brighter neighbours is known


def polarity_angle(
    positions: Floats, intensities: Floats, spacing: float, radius: float
) -> NDArray[np.complex128]:
    """On which side the brighter columns are around each, as exp(3i angle) times how clearly, shape (n,).

    In a honeycomb of two kinds the neighbours of a bright column lie where those of a dark one do not; the difference in
    brightness to each neighbour times exp(3i angle) has the same sign around both. Means over a radius; 0 where there is no such
    side.
    """
    n, first = len(positions), _FIRST * spacing
    pairs = cKDTree(positions).query_pairs(max(first, radius), output_type="ndarray").reshape(-1, 2)
    step = positions[pairs[:, 1]] - positions[pairs[:, 0]]
    away = np.hypot(step[:, 0], step[:, 1])
    bright = np.nan_to_num(np.asarray(intensities, np.float64))
    (i, j), next_to = pairs.T, away <= first
    one, other, along = i[next_to], j[next_to], step[next_to]
    # From its other end a step is turned by 180 degrees, and so is its third moment.
    value = (bright[one] - bright[other]) * np.exp(3j * np.arctan2(-along[:, 0], along[:, 1]))
    parts = np.stack([value.real, value.imag, np.abs(bright[one] + bright[other]) / 2])
    own = _summed(parts, one, n) + _summed(parts, other, n)
    one, other = i[away <= radius], j[away <= radius]
    real, imaginary, total = own + _summed(own[:, other], one, n) + _summed(own[:, one], other, n)
    found: NDArray[np.complex128] = (real + 1j * imaginary) / np.maximum(total, 1e-300)
    return found


def _summed(values: Floats, of: NDArray[np.int64], n: int) -> Floats:
    """Sums (c, n) of values (c, p) by the column that each is of."""
    return np.stack([np.bincount(of, one, minlength=n).astype(np.float64) for one in values])


def same_lattice(
    one: Floats,
    other: Floats,
    side: NDArray[np.complex128],
    other_side: NDArray[np.complex128],
    tolerance: float,
) -> NDArray[np.bool_]:
    """Whether pairs of bases, (p, 2, 2), are of one lattice, with the brighter columns on the same side."""
    whole = one @ np.linalg.inv(other)
    cells = np.rint(whole)
    away = np.linalg.norm((whole - cells) @ other, axis=2)
    length = np.linalg.norm(one, axis=2)
    fits = (np.abs(np.abs(np.linalg.det(cells)) - 1) < 0.5) & (away < tolerance * length).all(axis=1)
    clear = (np.abs(side) > POLAR) & (np.abs(other_side) > POLAR)
    opposite = (side * other_side.conj()).real < 0
    answer: NDArray[np.bool_] = fits & ~(clear & opposite)
    return answer


def aligned(fits: LocalFits, labels: NDArray[np.int64], inside: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Bases in the cell of the grain of each column, and the whole-numbered matrices that make them of the fits' own.

    Both have the shape (n, 2, 2), NaN and zero where no lattice is known.
    """
    n = len(labels)
    bases, move = np.full((n, 2, 2), np.nan), np.zeros((n, 2, 2))
    for number in range(int(labels.max(initial=-1)) + 1):
        here = (labels == number) & inside
        if not here.any():
            continue
        usual = _cell(fits.basis[here])
        known = (labels == number) & fits.known
        cells = np.rint(fits.basis[known] @ np.linalg.inv(usual))
        whole = np.abs(np.abs(np.linalg.det(cells)) - 1) < 0.5
        rows = np.flatnonzero(known)[whole]
        move[rows] = np.rint(np.linalg.inv(cells[whole]))
        bases[rows] = move[rows] @ fits.basis[rows]
    return bases, move


def _cell(bases: Floats) -> Floats:
    """The usual cell of some bases of one lattice."""
    first = reduced(bases[:1])[0]
    cells = np.rint(bases @ np.linalg.inv(first))
    whole = np.abs(np.abs(np.linalg.det(cells)) - 1) < 0.5
    mean = np.median(np.linalg.solve(cells[whole], bases[whole]), axis=0)
    cell = np.asarray(reduced(mean[None])[0], np.float64)
    fold = _fold(cell)
    if fold == 2:
        return cell
    # Of translations that are equal but for their errors, the shortest would be too short: take them by their direction.
    steps = np.concatenate(
        [cell, -cell] if fold == 4 else [cell, cell[:1] + cell[1:], -cell, -cell[:1] - cell[1:]]
    )
    angle = np.arctan2(-steps[:, 0], steps[:, 1]) % (2 * np.pi)
    order = np.argsort(angle)
    return np.asarray(steps[order[[0, 1 if fold == 4 else 2]]], np.float64)


def _fold(cell: Floats) -> int:
    """How often a turn brings a reduced cell (2, 2) back onto itself: 6, 4, or else 2."""
    a, b = np.linalg.norm(cell, axis=1)
    if not abs(a - b) < _EQUAL * (a + b) / 2:
        return 2
    gamma = np.arccos(np.clip(cell[0] @ cell[1] / (a * b), -1, 1))
    return 4 if abs(gamma - np.pi / 2) < _RIGHT else 6 if abs(gamma - 2 * np.pi / 3) < _RIGHT else 2


def inwards(
    positions: Floats, triangles: NDArray[np.int64], labels: NDArray[np.int64], spacing: float
) -> Floats:
    """Weights of local lattices in the mean lattice of their grain, shape (n,): a parabola of the distance from its outline.

    The mean of all slopes of a line is what its ends say, which have the errors of two points. The slope of the least-squares line is
    the mean of local slopes with weights that fall to zero at its ends as a parabola does; in the plane, those of a disc do.

    Parameters
    ----------
    positions : array of shape (n, 2)
    triangles : array of shape (t, 3), int64
        Between neighbouring columns.
    labels : array of shape (n,), int64
        Grain of each column inside one, -1 for others.
    spacing : float
        Distance between neighbouring columns: half of it beyond the outermost the grain ends.
    """
    corner = labels[triangles]
    own = triangles[(corner >= 0).all(axis=1) & (corner == corner[:, :1]).all(axis=1)]
    sides = np.sort(np.concatenate([own[:, [0, 1]], own[:, [1, 2]], own[:, [2, 0]]]), axis=1)
    n, weights = len(positions), np.ones(len(positions))
    once, count = np.unique(sides[:, 0] * n + sides[:, 1], return_counts=True)
    outline = np.unique(np.divmod(once[count == 1], max(n, 1)))
    rows = np.flatnonzero(np.isin(labels, labels[outline]) & (labels >= 0))
    if not len(rows):
        return weights
    # The grain as a third coordinate: one search for all of them.
    far = 2 * np.ptp(positions, axis=0).max()
    apart = np.column_stack([positions, far * labels])
    depth = np.zeros(n)
    depth[rows] = cKDTree(apart[outline]).query(apart[rows])[0] + spacing / 2
    deepest = np.zeros(int(labels.max()) + 1)
    np.maximum.at(deepest, labels[rows], depth[rows])
    weights[rows] = depth[rows] * (2 * deepest[labels[rows]] - depth[rows])
    return weights


def mean_lattice(
    points: Points,
    fits: LocalFits,
    move: Floats,
    here: NDArray[np.bool_],
    polar: NDArray[np.complex128],
    *,
    importance: Floats,
) -> tuple[Floats, dict[str, tuple[float, float]]]:
    """Mean translations (2, 2) of some columns, and a, b, gamma_deg, orientation_deg and fold with their standard errors.

    The mean is weighted by the importance (n,) of each, see `inwards`.
    """
    rows = np.flatnonzero(here & (np.abs(np.linalg.det(move)) > 0.5))
    n = len(points.positions)
    weights = times(fits.weights[rows], move[rows].swapaxes(1, 2))
    kernel = csr_array(importance[None, rows] / importance[rows].sum())
    paths = [(kernel @ sparse_rows(fits.neighbours[rows], weights[..., p], n)).toarray()[0] for p in (0, 1)]
    basis = np.stack([path @ points.positions for path in paths])
    # Covariance of (a_row, a_col, b_row, b_col): positions along rows and columns are independent.
    covariance = np.zeros((4, 4))
    for axis in (0, 1):
        for p in (0, 1):
            for q in (0, 1):
                covariance[2 * p + axis, 2 * q + axis] = (paths[p] * paths[q]) @ points.variance[:, axis]
    covariance *= points.together
    a, b = np.linalg.norm(basis, axis=1)
    directions = np.arctan2(-basis[:, 0], basis[:, 1])
    gamma = float((directions[1] - directions[0]) % (2 * np.pi))
    # How the direction of (row, col) turns with each.
    turn = np.stack([-basis[:, 1], basis[:, 0]], axis=1) / (basis**2).sum(1)[:, None]
    zero = np.zeros(2)
    slopes: dict[str, Floats] = {
        "a": np.concatenate([basis[0] / a, zero]),
        "b": np.concatenate([zero, basis[1] / b]),
        "gamma_deg": np.degrees(np.concatenate([-turn[0], turn[1]])),
    }
    fold, orientation, slope = _orientation(basis, directions, turn, gamma, polar[rows])
    slopes["orientation_deg"] = np.degrees(slope)
    values = {"a": a, "b": b, "gamma_deg": np.degrees(gamma), "orientation_deg": np.degrees(orientation)}
    found: dict[str, Any] = {
        name: (float(values[name]), float(np.sqrt(max(float(one @ covariance @ one), 0.0))))
        for name, one in slopes.items()
    }
    return basis, found | {"fold": (float(fold), 0.0)}


def _orientation(
    basis: Floats,
    directions: Floats,
    turn: Floats,
    gamma: float,
    polar: NDArray[np.complex128],
) -> tuple[int, float, Floats]:
    """Fold, least direction equivalent to a, and how that depends on (a_row, a_col, b_row, b_col).

    Of square and hexagonal cells, the mean of a and of b turned back by 90 or 120 degrees, which is surer.
    """
    fold = _fold(basis)
    if fold == 2:
        return 2, float(directions[0] % np.pi), np.concatenate([turn[0], np.zeros(2)])
    angle = directions[0] + (gamma - (np.pi / 2 if fold == 4 else 2 * np.pi / 3)) / 2
    slope = np.concatenate([turn[0], turn[1]]) / 2
    side = polar.mean()
    if fold == 6 and abs(side) > POLAR:
        # Bonds lie midway between translations: the side of the brighter columns is that of a, or of its opposite.
        fold = 3
        if (side * np.exp(-3j * (angle + np.pi / 6))).real < 0:
            angle += np.pi
    return fold, float(angle % (2 * np.pi / fold)), slope
