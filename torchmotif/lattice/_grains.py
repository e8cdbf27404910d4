"""What grains are told apart by, and the mean lattice of one."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

from torchmotif.lattice._local import LocalFits, Points, reduced, sparse_rows

__all__ = ["POLAR", "aligned", "mean_lattice", "polarity_angle", "same_lattice"]

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
    tree = cKDTree(positions)
    pairs = tree.query_pairs(_FIRST * spacing, output_type="ndarray").reshape(-1, 2)
    i, j = np.concatenate([pairs, pairs[:, ::-1]]).T
    step = positions[j] - positions[i]
    bright = np.nan_to_num(np.asarray(intensities, np.float64))
    turn = np.exp(3j * np.arctan2(-step[:, 0], step[:, 1]))
    n = len(positions)
    value = np.zeros(n, np.complex128)
    np.add.at(value, i, (bright[i] - bright[j]) * turn)
    usual = np.zeros(n)
    np.add.at(usual, i, np.abs(bright[i] + bright[j]) / 2)
    near = tree.sparse_distance_matrix(tree, radius, output_type="coo_matrix").tocsr()
    near.data[:] = 1.0
    total = near @ usual + usual
    found: NDArray[np.complex128] = (near @ value + value) / np.maximum(total, 1e-300)
    return found


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
    return np.asarray(reduced(mean[None])[0], np.float64)


def mean_lattice(
    points: Points,
    fits: LocalFits,
    move: Floats,
    here: NDArray[np.bool_],
    polar: NDArray[np.complex128],
) -> tuple[Floats, dict[str, tuple[float, float]]]:
    """Mean translations (2, 2) of some columns, and a, b, gamma_deg, orientation_deg and fold with their standard errors."""
    rows = np.flatnonzero(here & (np.abs(np.linalg.det(move)) > 0.5))
    n = len(points.positions)
    weights = np.einsum("mpq,mkq->mkp", move[rows], fits.weights[rows])
    kernel = csr_array(np.full((1, len(rows)), 1 / len(rows)))
    paths = [(kernel @ sparse_rows(fits.neighbours[rows], weights[..., p], n)).toarray()[0] for p in (0, 1)]
    basis = np.stack([path @ points.positions for path in paths])
    # Covariance of (a_row, a_col, b_row, b_col): positions along rows and columns are independent.
    covariance = np.zeros((4, 4))
    for axis in (0, 1):
        for p in (0, 1):
            for q in (0, 1):
                covariance[2 * p + axis, 2 * q + axis] = (paths[p] * paths[q]) @ points.variance[:, axis]
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
    a, b = np.linalg.norm(basis, axis=1)
    equal = abs(a - b) < _EQUAL * (a + b) / 2
    square, hexagonal = (equal and abs(gamma - right) < _RIGHT for right in (np.pi / 2, 2 * np.pi / 3))
    if not (square or hexagonal):
        return 2, float(directions[0] % np.pi), np.concatenate([turn[0], np.zeros(2)])
    angle = directions[0] + (gamma - (np.pi / 2 if square else 2 * np.pi / 3)) / 2
    slope = np.concatenate([turn[0], turn[1]]) / 2
    fold = 4 if square else 6
    side = polar.mean()
    if hexagonal and abs(side) > POLAR:
        # Bonds lie midway between translations: the side of the brighter columns is that of a, or of its opposite.
        fold = 3
        if (side * np.exp(-3j * (angle + np.pi / 6))).real < 0:
            angle += np.pi
    return fold, float(angle % (2 * np.pi / fold)), slope
