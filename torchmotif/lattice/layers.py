"""Layers that lie over one another, such as those of a twisted bilayer: the lattice of each, and which columns are on it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import fft2, next_fast_len
from scipy.ndimage import gaussian_filter, map_coordinates, maximum_filter
from scipy.spatial import cKDTree

from torchmotif.errors import InputError
from torchmotif.lattice._local import Points, reduced

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Layers", "find_layers"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_FEWEST = 50  # columns in which layers are looked for
_SHELLS = {
    4: (1.0, np.sqrt(2)),
    6: (2 / np.sqrt(3), 2.0),
}  # waves of the reciprocal lattice, over its constant
_BINS = 4  # to the distance of nearest columns, of the picture whose spectrum is looked at
_PADDED = 3  # times its size
_LARGEST = 5.0  # distances of nearest columns, up to which lattice constants are looked for
_FINE = 0.15  # of the width of a peak, by which angles and constants are tried
_ALSO = 0.2  # of the strongest peak, from which one of a larger constant counts: of a honeycomb, that of a third of its cell has twice
_WITHIN = 0.04  # of one constant, within which that of the other layer lies
_APART = 1.5  # widths of a peak, by which two layers must be turned against each other
# Of the strongest peak, from which a second one is a layer. In twisted bilayers of MoS2 at 10 and 1 electrons per pixel the second has 0.95
# to 1, and what is none of both at most 0.08.
_SECOND = 0.3
# Bins along a cell, their blur, and share of the rise to the bin with most columns, from which another is a site. Of S2 in twisted bilayers
# of MoS2 it is 0.14 and more, as few of them as are found at 1 electron per pixel, and between the sites 0.05 at most.
_CELL, _BLUR, _PLACES = 24, 1.5, 0.1
_ROUNDS, _FALL = 24, 0.85  # rounds of refinement, and how the distance at which columns count falls with each
_FIRST, _LAST = 0.13, 0.025  # of the lattice constant: that distance at first, and at least
# Lattice constants beside the sites of the other layer, from which columns make the lattice of their own. At 10 electrons per pixel the twist of
# a bilayer of MoS2 was off by 0.028 degrees with 0.25, by 0.013 with 0.35, 0.011 with 0.4.
_CLEAR = 0.35
_TOLD = 3.0  # usual distances from a site, by which one layer must be nearer to a column than the other
# Blocks along each side of an image, without each of which lattices are fitted for their errors. They must be wider than the windows in which phases are measured:
# of 512 px, 18 draws of MoS2, the twist is off by 0.1 to 2.6 such errors, and once by 5.5.
_SIDES = 4
_OFF = 0.2  # lattice constants beside all sites, from which a column is on no layer
# Of columns that have one of the other layer nearest to them: with less, they are grains side by side.
_MIXED = 0.2


@dataclass(frozen=True, eq=False)
class Layers:
    """Two layers over one another.

    Attributes
    ----------
    labels : array of shape (n,), int64
        Layer on a site of which each column lies nearest: 0 or 1, and -1 off the sites of both.
    shared : boolean array of shape (n,)
        Columns that lie as near to a site of the other layer, by their scatter: both layers have a column there, or two are seen as one.
    positions : array of shape (n, 2)
        Of all columns, (row, col) in pixels of the image.
    basis : array of shape (2, 2, 2)
        Translations (row, col) of each layer in pixels of the image.
    a_px : array of shape (2, 2)
        Lattice constant of each layer in pixels along the rows, the mean of both translations, and its standard error.
    a_nm : array of shape (2, 2) or None
        The same in nanometres, where the image is calibrated.
    orientation_deg : array of shape (2, 2)
        Direction of each layer, counter-clockwise from that in which columns count up, and its standard error; of equivalent
        directions the least.
    twist_deg : (float, float)
        By how much layer 1 is turned counter-clockwise against layer 0, up to the symmetry of the lattice, and its standard error. Where the layers have
        no mean cells, columns of both near each other draw together, which it does not hold: the twist of simulated bilayers of MoS2 is then up to
        0.025 degrees too small.
    """

    labels: Ints
    shared: NDArray[np.bool_]
    positions: Floats
    basis: Floats
    a_px: Floats
    a_nm: Floats | None
    orientation_deg: Floats
    twist_deg: tuple[float, float]

    @property
    def parts(self) -> Ints:
        """What a map shows of each column, shape (n,): 0 or 1 for one layer alone, 2 for both, -1 for none."""
        return np.where(self.shared, 2, self.labels)

    def to_dataframe(self) -> "pd.DataFrame":
        """One row for each layer: its number, columns it alone has, lattice constant and orientation with errors, and the twist.

        The twist is that against layer 0; columns of both layers are in no row.
        """
        import pandas as pd

        table: dict[str, Any] = {"layer": [0, 1], "columns": np.bincount(self.parts + 1, minlength=4)[1:3]}
        for name in ("a_px", "a_nm", "orientation_deg"):
            values = getattr(self, name)
            if values is not None:
                table |= {name: values[:, 0], f"{name}_error": values[:, 1]}
        twist, error = self.twist_deg
        return pd.DataFrame(table | {"twist_deg": [0.0, twist], "twist_deg_error": [0.0, error]})

    def __repr__(self) -> str:
        """How far they are turned, and how many columns each has."""
        count = np.bincount(self.parts + 1, minlength=4)[1:3].tolist()
        twist, error = self.twist_deg
        return f"Layers({count[0]} and {count[1]} columns, {int(self.shared.sum())} of both; turned by {twist:.3f} +- {error:.3f} degrees)"


def find_layers(
    points: Points,
    spacing: float,
    *,
    scale: Any = (1.0, 1.0),
    pixel_size_nm: tuple[float, float] | None = None,
) -> Layers:
    """Two lattices of one constant that are turned against each other, and the columns on each.

    Their angles are the two strongest peaks of the spectrum of all columns. Both lattices are then fitted to the columns near their
    sites; at last to those only that are far from the other layer's, since columns near each other are drawn together.

    Parameters
    ----------
    points : Points
        Positions in pixels that are square.
    spacing : float
        Distance between neighbouring columns in the same pixels.
    scale : (float, float)
        By how much `points` are stretched along (row, col).
    pixel_size_nm : (float, float), optional
        Of the image.

    Returns
    -------
    Layers

    Raises
    ------
    InputError
        If there is no square or hexagonal lattice, no second one, or they lie side by side.
    """
    stretch = np.asarray(scale, np.float64)
    if len(points.positions) < _FEWEST:
        raise InputError(f"layers are told from {_FEWEST} columns or more, got {len(points.positions)}")
    middle = points.positions.mean(axis=0)
    used = points.positions - middle
    bases, fold = _turned(used)
    size = float(np.linalg.norm(bases, axis=2).mean())
    lattices = [(basis, _sites(used, basis)) for basis in bases]
    distance = _FIRST * size
    for number in range(_ROUNDS):
        away = [_nearest(used, *one)[0] for one in lattices]
        near = [np.exp(-0.5 * (one / distance) ** 2) for one in away]
        total = near[0] + near[1] + 1e-3
        last = number == _ROUNDS - 1
        shares = [
            mine / total if not last else (mine > 0.1) & (other > _CLEAR * size)
            for mine, other in zip(near, away[::-1], strict=True)
        ]
        if last and min(share.sum() for share in shares) < _FEWEST / 2:
            raise InputError(
                "the columns do not lie on two lattices: too few of either are clear of the other; see grains"
            )
        fitted = [
            _fitted(used, one, np.asarray(share, np.float64), last=last)
            for one, share in zip(lattices, shares, strict=True)
        ]
        lattices = [(basis, places) for basis, places, _ in fitted]
        distance = max(_FALL * distance, _LAST * size)
    both = np.stack([_nearest(used, *one)[0] for one in lattices])
    nearest = both.min(axis=0)
    usual_off = float(np.sqrt(np.mean(nearest[np.asarray(shares).any(axis=0)] ** 2)))
    labels = np.where(nearest < _OFF * size, both.argmin(axis=0), -1)
    shared = (np.abs(both[0] - both[1]) < _TOLD * usual_off) & (labels >= 0)
    _check_mixed(points.positions, np.where(shared, -1, labels), spacing)
    angles = [_angle(basis, error, fold) for basis, _, error in fitted]
    turn = 360 / fold
    twist = (angles[1][0] - angles[0][0] + turn / 2) % turn - turn / 2
    constants = [
        (float(np.linalg.norm(basis, axis=1).mean()) / stretch[1], error / np.sqrt(2) / stretch[1])
        for basis, _, error in fitted
    ]
    nm = None if pixel_size_nm is None else pixel_size_nm[1]
    return Layers(
        labels.astype(np.int64),
        shared,
        points.positions / stretch,
        np.stack([basis for basis, _ in lattices]) / stretch,
        np.array(constants),
        None if nm is None else nm * np.array(constants),
        np.array([(angle % turn, error) for angle, error in angles]),
        (float(twist), float(np.hypot(angles[0][1], angles[1][1]))),
    )


def _turned(positions: Floats) -> tuple[Floats, int]:
    """Translations (2, 2, 2) of the two square or hexagonal lattices of one constant that most columns are on, and their fold."""
    nearest = float(np.median(cKDTree(positions).query(positions, k=[2])[0]))
    bins = np.floor((positions - positions.min(axis=0)) / (nearest / _BINS)).astype(np.int64)
    picture = np.zeros(tuple(bins.max(axis=0) + 1))
    np.add.at(picture, tuple(bins.T), 1.0)
    side = next_fast_len(_PADDED * max(picture.shape))
    power = np.abs(fft2(picture, (side, side))) ** 2
    width = 1 / max(picture.shape)  # of a peak, in waves to a bin
    least = nearest / _BINS
    tried = []
    for fold in (4, 6):
        # Along the first shell of waves, the finest step that any constant needs.
        constants = _LARGEST * nearest * np.exp(-np.arange(0, np.log(_LARGEST), _FINE * width * _BINS))
        angles = np.arange(0, 2 * np.pi / fold, _FINE * width * _BINS)
        score = _score(power, angles, constants / least, fold)
        tried.append((score.max(), fold, angles, constants, score))
    _, fold, angles, constants, score = max(tried, key=lambda one: one[0])
    # Waves of a lattice are also those of finer ones.
    largest = constants[(score >= _ALSO * score.max()).any(axis=0)].max()
    score = np.where(np.abs(np.log(constants / largest)) < _WITHIN, score, 0)
    best = np.unravel_index(score.argmax(), score.shape)
    apart = np.abs((angles - angles[best[0]] + np.pi / fold) % (2 * np.pi / fold) - np.pi / fold)
    clear = apart > _APART * width * constants[best[1]] / least
    peak = (score == maximum_filter(score, size=5, mode=("wrap", "nearest"))) & clear[:, None]
    second = np.unravel_index(np.where(peak, score, 0).argmax(), score.shape)
    if score[second] < _SECOND * score[best]:
        raise InputError(
            "the columns lie on one lattice: a second layer is not seen, or turned by less than the image resolves; see grains"
        )
    found = []
    for i, j in (best, second):
        at = angles[i] + np.array([0.0, 2 * np.pi / fold])
        waves = np.stack([-np.sin(at), np.cos(at)], axis=1) * _SHELLS[fold][0] / constants[j]
        found.append(reduced(np.linalg.inv(waves).T[None])[0])
    return np.stack(found), fold


def _score(power: Floats, angles: Floats, constants: Floats, fold: int) -> Floats:
    """Geometric mean of the power of the first two shells of waves, of lattices of some angles and constants in bins."""
    total = np.zeros((len(angles), len(constants)))
    for shell, length in enumerate(_SHELLS[fold]):
        for k in range(fold // 2):
            at = angles[:, None] + (2 * k + shell) * np.pi / fold
            wave = np.stack([-np.sin(at) / constants, np.cos(at) / constants]) * length * len(power)
            total += np.log(map_coordinates(power, wave, order=1, mode="grid-wrap") + 1.0)
    return np.asarray(np.exp(total / fold), np.float64)


def _sites(positions: Floats, basis: Floats) -> Floats:
    """Where in the cell of a lattice columns gather, (s, 2) in pixels."""
    cells = (positions @ np.linalg.inv(basis)) % 1
    count = np.histogram2d(cells[:, 0], cells[:, 1], bins=_CELL, range=((0, 1), (0, 1)))[0]
    count = gaussian_filter(count, _BLUR, mode="wrap")
    rise = count - np.median(count)
    top = (count == maximum_filter(count, size=5, mode="wrap")) & (rise > _PLACES * rise.max())
    return np.asarray((np.argwhere(top) + 0.5) / _CELL @ basis, np.float64)


def _nearest(positions: Floats, basis: Floats, places: Floats) -> tuple[Floats, Ints, Floats]:
    """Distance of positions from the nearest site, which of the cell's sites it is, and in which cell (n, 2)."""
    step = positions[:, None] - places
    cell = np.rint(step @ np.linalg.inv(basis))
    away = np.linalg.norm(step - cell @ basis, axis=2)
    which = away.argmin(axis=1)
    rows = np.arange(len(positions))
    return away[rows, which], which, cell[rows, which]


def _fitted(
    positions: Floats, lattice: tuple[Floats, Floats], weights: Floats, *, last: bool
) -> tuple[Floats, Floats, float]:
    """Translations and sites by weighted least squares, and the standard error of a translation along each axis: at last with what errors have in common."""
    _, which, cell = _nearest(positions, *lattice)
    design = np.column_stack([cell, which[:, None] == np.arange(len(lattice[1]))]).astype(np.float64)
    normal = design.T @ (weights[:, None] * design)
    solved = np.linalg.lstsq(normal, design.T @ (weights[:, None] * positions), rcond=None)[0]
    # A site that no column shows stays where it was.
    unseen = 2 + np.flatnonzero(weights @ design[:, 2:] < 1)
    solved[unseen] = lattice[1][unseen - 2]
    rest = positions - design @ solved
    variance = (weights @ rest**2).sum() / max(2 * (weights.sum() - len(normal)), 1.0)
    error = np.sqrt(variance * np.diag(np.linalg.pinv(normal))[:2].mean())
    if last:
        error = max(error, _jackknife(positions, design, weights))
    return np.asarray(solved[:2], np.float64), np.asarray(solved[2:], np.float64), float(error)


def _jackknife(positions: Floats, design: Floats, weights: Floats) -> float:
    """Standard error of a translation along each axis from fits without one of the blocks of the image each (Quenouille, 1956).

    Columns held at the places of a lattice have errors in common, which their scatter does not show.
    """
    low, high = positions.min(axis=0), positions.max(axis=0)
    block = np.minimum((positions - low) / (high - low) * _SIDES, _SIDES - 1).astype(np.int64)
    number, count = block[:, 0] * _SIDES + block[:, 1], _SIDES**2
    weighted = design * weights[:, None]
    parts = np.zeros((count, design.shape[1], design.shape[1] + 2))
    np.add.at(parts, number, weighted[:, :, None] * np.concatenate([design, positions], axis=1)[:, None])
    left = parts.sum(axis=0) - parts
    normal, right = left[:, :, :-2], left[:, :, -2:]
    bases = (np.linalg.pinv(normal) @ right)[:, :2]
    return float(np.sqrt((count - 1) * bases.var(axis=0).mean()))


def _angle(basis: Floats, error: float, fold: int) -> tuple[float, float]:
    """Direction of a lattice, counter-clockwise in degrees, and its standard error: the mean of both translations, turned back."""
    first, second = np.arctan2(-basis[:, 0], basis[:, 1])
    between = np.pi / 2 if fold == 4 else 2 * np.pi / 3
    off = (second - between - first + np.pi) % (2 * np.pi) - np.pi
    return float(np.degrees(first + off / 2)), float(
        np.degrees(error / np.sqrt(2) / np.linalg.norm(basis[0]))
    )


def _check_mixed(positions: Floats, labels: Ints, spacing: float) -> None:
    """Raise an error if the columns of both layers are not beside one another."""
    told = np.flatnonzero(labels >= 0)
    if len(told) > 1:
        tree = cKDTree(positions[told])
        near = np.asarray(tree.query(positions[told], k=2, distance_upper_bound=2 * spacing)[1], np.int64)[
            :, 1
        ]
        there = near < len(told)
        mixed = labels[told[there]] != labels[told[near[there]]]
        if mixed.mean() > _MIXED:
            return
    raise InputError("two lattices lie side by side, not over one another: they are grains; see grains")
