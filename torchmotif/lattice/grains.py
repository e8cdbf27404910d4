"""Grains: columns of one lattice and orientation, their lattice constants, boundaries and misorientations."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import Delaunay, cKDTree

from torchmotif.errors import InputError
from torchmotif.lattice._grains import POLAR, aligned, inwards, mean_lattice, polarity_angle, same_lattice
from torchmotif.lattice._local import RADIUS, LocalFits, Points, fit_around, start_bases

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Grain", "Grains", "find_grains", "joined_triangles"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_WHOLE = 0.9  # share of the columns in reach that lie on the lattice, from which a column is inside a grain
_FULL = 0.7  # of the usual number of neighbours, below which a lattice is not trusted by itself
_OFF = (
    0.12  # shortest translations by which the neighbours of a column inside a grain may be off their sites,
)
_WORSE = 3.0  # and as many times as they usually are,
_EXACT = 0.01  # unless that is less than this
_SIDED = 0.5  # of the usual share by which the brighter columns are on one side, below which a column is between two grains
_SURE = 4.0  # standard errors by which the lattices of neighbouring columns of a grain may differ, if that is more than the tolerance
_LINK = 1.6  # spacings within which columns may link a grain
_NEXT = 1.1  # shortest translations, where nothing is linked by that
_SMALLEST = 12  # columns of a grain, as of `columns.lattice`
_REACH = 4.0  # spacings within which the lattice of a grain decides about a column
_ANCHORS = 24  # columns inside grains that do
_ON = 0.35  # spacings from a site beyond which a column belongs to no grain
_NONE = 0.1  # of the columns in no grain, from which a warning says so
# Of the columns around which there is not one lattice, from which a warning says so: of 1,200 of MoSe2 in four grains 0.25, in a
# twisted bilayer of MoS2 0.38.
_LOST = 0.33
_EDGE = 2.6  # spacings: longer sides make no triangle between neighbouring columns; boundaries may gape


@dataclass(frozen=True, eq=False)
class Grain:
    """One grain. Lengths are in pixels along the rows of the image, and in nanometres where it is calibrated.

    Attributes
    ----------
    number : int
        0 is the one with the most columns.
    columns : int
        How many it has.
    a_px, b_px, gamma_deg : (float, float)
        Lattice constants of the reduced cell, and their standard errors: of the mean lattice of the columns inside the grain, those
        farther from its edge counting more, as in a least-squares fit of one lattice to all of them. Of cells that are square or
        hexagonal to 3 %, a is the translation of least direction; a, b are right-handed, and the angle between them is 90 to 120 degrees.
    a_nm, b_nm : (float, float) or None
    orientation_deg : (float, float)
        Direction of a, counter-clockwise from that in which columns count up, and its standard error; of equivalent
        directions the least.
    fold : int
        Equivalent directions of a: 6 or 4 or 2 as the lattice has; 3 where the brightness of columns tells a hexagonal
        cell from itself turned by 180 degrees.
    area_px : float
        Area between its columns in square pixels; `area_nm2` where the image is calibrated.
    basis : array of shape (2, 2)
        Mean translations a, b as (row, col) in pixels of the image.
    """

    number: int
    columns: int
    a_px: tuple[float, float]
    b_px: tuple[float, float]
    gamma_deg: tuple[float, float]
    a_nm: tuple[float, float] | None
    b_nm: tuple[float, float] | None
    orientation_deg: tuple[float, float]
    fold: int
    area_px: float
    area_nm2: float | None
    basis: Floats


@dataclass(frozen=True, eq=False)
class Grains:
    """The grains of an image, iterable and indexed by number; the largest first.

    Attributes
    ----------
    labels : array of shape (n,), int64
        Grain of each column; -1 where it lies on the lattice of none.
    inside : boolean array of shape (n,)
        Columns whose own surroundings show the lattice of their grain.
    positions : array of shape (n, 2)
        Of all columns, (row, col) in pixels.
    grains : tuple of Grain
    segments : array of shape (s, 2, 2)
        Pieces of the boundaries, from (row, col) to (row, col) in pixels, midway between columns of different grains.
    between : array of shape (s, 2), int64
        The two grains on their sides, the lower number first.
    bases : array of shape (n, 2, 2)
        Translations around each column in the cell of its grain, in pixels of the image; NaN where they are not known.
    scale : array of shape (2,)
        By how much (row, col) are stretched to square pixels.
    used : boolean array of shape (n,)
        Columns that fits of lattices use: those measured well, on a sublattice.
    """

    labels: Ints
    inside: NDArray[np.bool_]
    positions: Floats
    grains: tuple[Grain, ...]
    segments: Floats
    between: Ints
    bases: Floats
    scale: Floats
    used: NDArray[np.bool_]

    def __len__(self) -> int:
        """Count the grains."""
        return len(self.grains)

    def __getitem__(self, number: int) -> Grain:
        """One grain."""
        return self.grains[number]

    @property
    def warnings(self) -> list[str]:
        """What is doubtful, with what to do."""
        found, used = [], self.labels >= 0
        none, lost = 1 - float(used.mean()), 1 - float(self.inside[self.used].mean())
        if none > _NONE:
            found.append(
                f"grains: {none:.0%} of the columns lie in no grain; look at the map of grains and at the sublattices of the motifs"
            )
        if lost > _LOST and len(self) > 1:  # of a small crystal, many columns are at its edge
            found.append(
                f"grains: around {lost:.0%} of the columns there is not one lattice: many boundaries, or layers over one another, "
                "which are not told apart; what is said of grains, strain and displacement there means little"
            )
        return found

    def __repr__(self) -> str:
        """Say how many there are."""
        none = int((self.labels < 0).sum())
        return f"Grains({len(self)} grain{'s' * (len(self) != 1)}, {len(self.labels)} columns, {none} of them in none)"

    def misorientation_deg(self, one: int, other: int) -> tuple[float, float]:
        """Least angle that turns the lattice of one grain into that of another, and its standard error, in degrees.

        Raises
        ------
        InputError
            If there is no such grain.
        """
        for number in (one, other):
            if not 0 <= number < len(self):
                raise InputError(f"there are {len(self)} grains, numbered from 0, got {number}")
        first, second = self.grains[one], self.grains[other]
        turn = 360 / max(np.gcd(first.fold, second.fold), 1)
        apart = (second.orientation_deg[0] - first.orientation_deg[0]) % turn
        error = float(np.hypot(first.orientation_deg[1], second.orientation_deg[1]))
        return float(min(apart, turn - apart)), error

    @cached_property
    def boundaries(self) -> "pd.DataFrame":
        """One row for each pair of grains that touch.

        grain, other; misorientation_deg and its error; length_px, length of the boundary between the columns of both, in
        pixels along the rows.
        """
        import pandas as pd

        pairs, which = np.unique(self.between.reshape(-1, 2), axis=0, return_inverse=True)
        step = (self.segments[:, 1] - self.segments[:, 0]) * self.scale / self.scale[1]
        length = np.bincount(which.ravel(), np.linalg.norm(step, axis=1), minlength=len(pairs))
        rows = []
        for (one, other), long in zip(pairs.tolist(), length.tolist(), strict=True):
            apart, error = self.misorientation_deg(one, other)
            rows.append((one, other, apart, error, long))
        names = ("grain", "other", "misorientation_deg", "misorientation_deg_error", "length_px")
        return pd.DataFrame(rows, columns=list(names))

    def distance(self, positions: Any = None, *, of: int | None = None) -> Floats:
        """Distance of places from the nearest boundary, in pixels along the rows; negative in one grain.

        Parameters
        ----------
        positions : array of shape (m, 2), optional
            (row, col) in pixels; by default those of all columns.
        of : int, optional
            Only boundaries of this grain count, and inside it the distance is negative.

        Returns
        -------
        array of shape (m,)

        Raises
        ------
        InputError
            If there is no boundary.
        """
        taken = np.ones(len(self.segments), bool) if of is None else (self.between == of).any(axis=1)
        if not taken.any():
            raise InputError("there is no boundary" + ("" if of is None else f" of grain {of}"))
        places = self.positions if positions is None else np.asarray(positions, np.float64)
        share = np.linspace(0, 1, 5)[:, None]
        ends = self.segments[taken]
        stops = (ends[:, 0, None] + share * (ends[:, 1] - ends[:, 0])[:, None]).reshape(-1, 2)
        stretch = self.scale / self.scale[1]
        away = cKDTree(stops * stretch).query(places * stretch)[0]
        if of is not None:
            own = self.labels[cKDTree(self.positions * stretch).query(places * stretch)[1]] == of
            away = np.where(own, -away, away)
        return np.asarray(away, np.float64)

    def to_dataframe(self) -> "pd.DataFrame":
        """One row for each grain: its number, columns, lattice constants and orientation with errors, and area."""
        import pandas as pd

        rows = []
        for grain in self.grains:
            row: dict[str, Any] = {"grain": grain.number, "columns": grain.columns}
            for name in ("a_px", "b_px", "a_nm", "b_nm", "gamma_deg", "orientation_deg"):
                value = getattr(grain, name)
                if value is not None:
                    row |= {name: value[0], f"{name}_error": value[1]}
            row |= {"fold": grain.fold, "area_px": grain.area_px}
            rows.append(row if grain.area_nm2 is None else row | {"area_nm2": grain.area_nm2})
        return pd.DataFrame(rows)


def find_grains(
    points: Points,
    intensities: Floats,
    spacing: float,
    *,
    scale: Any = (1.0, 1.0),
    pixel_size_nm: tuple[float, float] | None = None,
    tolerance_deg: float = 1.0,
    on_sites: NDArray[np.bool_] | None = None,
) -> Grains:
    """Columns grouped by the lattice around them.

    Columns whose neighbours lie on one lattice are linked with those near them that have the same: translations that agree
    within a tolerance and, of hexagonal cells, the same side of bright and dark columns. All others belong to the grain on
    one of whose sites, carried on from the columns inside it, they lie nearest.

    Parameters
    ----------
    points : Points
        Positions in pixels that are square.
    intensities : array of shape (n,)
    spacing : float
        Distance between neighbouring columns in the same pixels.
    scale : (float, float)
        By how much `points` are stretched along (row, col).
    pixel_size_nm : (float, float), optional
        Of the image.
    tolerance_deg : float
        By which neighbouring columns of one grain may be turned, or strained by as much; a lattice may bend more than that
        from one end of a grain to the other.
    on_sites : boolean array of shape (n,), optional
        Columns that sit on a sublattice. Those that no fit uses, such as ones too faint for a fit of their place, belong to the
        grain of the columns around them even where none of its used sublattices has a site.

    Returns
    -------
    Grains

    Raises
    ------
    InputError
        If no lattice is found.
    """
    if not 0 < tolerance_deg < 30:
        raise InputError(f"tolerance_deg must lie between 0 and 30, got {tolerance_deg}")
    stretch = np.asarray(scale, np.float64)
    bases, _ = start_bases(points)
    if not np.isfinite(bases).any():
        raise InputError("the columns form no lattice: no motif repeats by translations of its own")
    longest = float(np.nanmedian(np.linalg.norm(bases, axis=2).max(axis=1)))
    fits = fit_around(points, points.positions, bases, RADIUS * longest)
    polar = polarity_angle(points.positions, intensities, spacing, RADIUS * longest)
    inside = _inside(points, fits, polar, RADIUS * longest)
    tolerance = max(float(np.tan(np.radians(tolerance_deg))), _SURE * _turn_error(points, fits, inside))
    # Fits may use fewer columns than there are, which are farther apart.
    apart = max(spacing, _usual_distance(points.positions[inside]))
    labels = _linked(points, fits, polar, inside, reach=_LINK * apart, tolerance=tolerance)
    if (labels < 0).all():
        # Pairs of columns, as in dumbbells, are nearer to each other than to the next pair.
        reach = _NEXT * float(np.nanmedian(np.linalg.norm(bases, axis=2).min(axis=1)))
        labels = _linked(points, fits, polar, inside, reach=reach, tolerance=tolerance)
    inside &= labels >= 0
    if not inside.any():
        raise InputError(
            f"no {_SMALLEST} columns side by side show one lattice: the columns are too few or too scattered for grains"
        )
    labels = _assigned(points.positions, fits, labels, inside, spacing)
    if on_sites is not None:
        left = np.flatnonzero((labels < 0) & on_sites & (points.group < 0))
        anchors = np.flatnonzero(inside)
        away, nearest = cKDTree(points.positions[anchors]).query(points.positions[left])
        labels[left] = np.where(away < _REACH * apart, labels[anchors[nearest]], -1)
    order = np.argsort(-np.bincount(labels[labels >= 0]), kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    labels = np.where(labels >= 0, rank[labels], -1)
    triangles = joined_triangles(points.positions, _EDGE * spacing)
    shifted, move = aligned(fits, labels, inside)
    nm = None if pixel_size_nm is None else pixel_size_nm[1] / stretch[1]
    areas = _areas(points.positions, triangles, labels, len(order))
    weights = inwards(points.positions, triangles, np.where(inside, labels, -1), spacing)
    grains = []
    for number in range(len(order)):
        basis, found = mean_lattice(
            points, fits, move, (labels == number) & inside, polar, importance=weights
        )
        along = {name: (v / stretch[1], e / stretch[1]) for name, (v, e) in list(found.items())[:2]}
        grains.append(
            Grain(
                number,
                int((labels == number).sum()),
                along["a"],
                along["b"],
                found["gamma_deg"],
                None if nm is None else (found["a"][0] * nm, found["a"][1] * nm),
                None if nm is None else (found["b"][0] * nm, found["b"][1] * nm),
                found["orientation_deg"],
                int(found["fold"][0]),
                float(areas[number] / stretch.prod()),
                None if nm is None else float(areas[number] * nm**2),
                basis / stretch,
            )
        )
    segments, between = _boundaries(points.positions / stretch, triangles, labels)
    return Grains(
        labels,
        inside,
        points.positions / stretch,
        tuple(grains),
        segments,
        between,
        shifted / stretch,
        stretch,
        points.group >= 0,
    )


def joined_triangles(positions: Floats, longest: float) -> Ints:
    """Triangles (t, 3) between neighbouring columns, counter-clockwise or not, none with a side longer than given."""
    if len(positions) < 4:
        return np.zeros((0, 3), np.int64)
    corners = Delaunay(positions).simplices.astype(np.int64)
    sides = positions[corners] - positions[np.roll(corners, 1, axis=1)]
    return np.asarray(corners[np.linalg.norm(sides, axis=2).max(axis=1) < longest], np.int64)


def _inside(
    points: Points, fits: LocalFits, polar: NDArray[np.complex128], radius: float
) -> NDArray[np.bool_]:
    """Columns around which nearly all columns lie on one lattice, and the brighter ones on one side if there is one."""
    used = points.group >= 0
    on = (fits.middle_weights > 0).sum(axis=1)
    near = cKDTree(points.positions[used]).query_ball_point(points.positions, radius, return_length=True)
    shortest = np.linalg.norm(fits.basis, axis=2).min(axis=1)
    usual = np.median(on[fits.known]) if fits.known.any() else 1.0
    found: NDArray[np.bool_] = (
        used & fits.known & (on >= _WHOLE * near) & (on >= _FULL * usual) & (fits.offset < _OFF * shortest)
    )
    if found.any():
        side = np.abs(polar)
        # Rounding makes no grains where columns do not scatter.
        found &= fits.offset < np.maximum(_WORSE * np.median(fits.offset[found]), _EXACT * shortest)
        found &= (side > _SIDED * np.median(side[found])) | (np.median(side[found]) < POLAR)
    return found


def _usual_distance(positions: Floats) -> float:
    """Median distance of positions from the nearest other one; 0 where there are fewer than two."""
    if len(positions) < 2:
        return 0.0
    return float(np.median(cKDTree(positions).query(positions, k=[2])[0]))


def _turn_error(points: Points, fits: LocalFits, inside: NDArray[np.bool_]) -> float:
    """Usual standard error of the direction of a translation, in radians."""
    if not inside.any():
        return 0.0
    weights, variance = fits.weights[inside], points.variance[fits.neighbours[inside]].mean(axis=2)
    error = np.sqrt(np.einsum("mkp,mkp,mk->mp", weights, weights, variance))
    return float(np.median(error / np.linalg.norm(fits.basis[inside], axis=2)))


def _linked(
    points: Points,
    fits: LocalFits,
    polar: NDArray[np.complex128],
    inside: NDArray[np.bool_],
    *,
    reach: float,
    tolerance: float,
) -> Ints:
    """Number of the linked set of each column inside a grain, -1 for others and for sets that are too small."""
    n = len(points.positions)
    rows = np.flatnonzero(inside)
    pairs = rows[cKDTree(points.positions[rows]).query_pairs(reach, output_type="ndarray")]
    one, other = pairs.reshape(-1, 2).T
    alike = same_lattice(fits.basis[one], fits.basis[other], polar[one], polar[other], tolerance)
    links = coo_array((np.ones(alike.sum()), (one[alike], other[alike])), shape=(n, n))
    number = connected_components(links, directed=False)[1]
    size = np.bincount(number[rows], minlength=n)
    kept = np.flatnonzero(size >= _SMALLEST)
    rank = np.full(len(size), -1)
    rank[kept] = np.arange(len(kept))
    return np.where(inside, rank[number], -1)


def _assigned(
    positions: Floats, fits: LocalFits, labels: Ints, inside: NDArray[np.bool_], spacing: float
) -> Ints:
    """Labels of all columns: of those outside, that of the grain on a site of which they lie nearest."""
    rest, anchors = np.flatnonzero(~inside), np.flatnonzero(inside)
    if not len(rest):
        return labels
    found = labels.copy()
    k = min(_ANCHORS, len(anchors))
    distance, near = cKDTree(positions[anchors]).query(
        positions[rest], k=k, distance_upper_bound=_REACH * spacing
    )
    distance = np.asarray(distance, np.float64).reshape(len(rest), k)
    near = np.asarray(near, np.int64).reshape(len(rest), k)
    there = np.isfinite(distance)
    anchor = anchors[np.where(there, near, 0)]
    step = positions[rest][:, None] - positions[anchor]
    cells = np.einsum("mki,mkij->mkj", step, np.linalg.inv(fits.basis[anchor]))
    off = np.linalg.norm(np.einsum("mki,mkij->mkj", cells - np.rint(cells), fits.basis[anchor]), axis=2)
    off = np.where(there, off, np.inf)
    best = off.argmin(axis=1)[:, None]
    on = np.take_along_axis(off, best, axis=1)[:, 0] < _ON * spacing
    found[rest] = np.where(on, np.take_along_axis(labels[anchor], best, axis=1)[:, 0], -1)
    return found


def _areas(positions: Floats, triangles: Ints, labels: Ints, n_grains: int) -> Floats:
    """Area of the triangles between columns of each grain, a third of each for each corner."""
    a, b, c = (positions[triangles[:, i]] for i in range(3))
    one, other = b - a, c - a
    area = np.abs(one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0]) / 2
    corner = labels[triangles]
    found = np.bincount(corner.ravel() + 1, np.repeat(area / 3, 3), minlength=n_grains + 1)[1:]
    return np.asarray(found, np.float64)


def _boundaries(positions: Floats, triangles: Ints, labels: Ints) -> tuple[Floats, Ints]:
    """Pieces of boundaries in triangles with columns of two grains, from the middle of one side to that of another."""
    corner = labels[triangles]
    mixed = (corner >= 0).all(axis=1) & (corner != corner[:, :1]).any(axis=1)
    corner, corners = corner[mixed], triangles[mixed]
    ends, pairs = [], []
    for apex in range(3):
        left, right = (apex + 1) % 3, (apex + 2) % 3
        alone = (corner[:, left] == corner[:, right]) & (corner[:, apex] != corner[:, left])
        tip = positions[corners[alone, apex]]
        sides = [(tip + positions[corners[alone, side]]) / 2 for side in (left, right)]
        ends.append(np.stack(sides, axis=1))
        pairs.append(np.sort(corner[alone][:, [apex, left]], axis=1))
    return np.concatenate(ends), np.concatenate(pairs)
