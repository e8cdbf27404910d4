"""How grains are found: columns grouped by the lattice around them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import Delaunay, cKDTree

from torchmotif.errors import InputError
from torchmotif.lattice._grains import POLAR, aligned, inwards, mean_lattice, polarity_angle, same_lattice
from torchmotif.lattice._local import RADIUS, LocalFits, Points, fit_around, start_bases
from torchmotif.lattice.grains import Grain, Grains

__all__ = ["find_grains", "joined_triangles"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_WHOLE = 0.9  # share of the columns in reach that lie on the lattice, from which a column is inside a grain
_FULL = 0.7  # of the usual number of neighbours, below which a lattice is not trusted by itself
_OFF = 0.12  # shortest translations by which the neighbours of a column inside a grain may be off their sites
_SIDED = 0.5  # of the usual share by which the brighter columns are on one side, below which a column is between two grains
_SURE = 4.0  # standard errors by which the lattices of neighbouring columns of a grain may differ, if that is more than the tolerance
_LINK = 1.6  # spacings within which columns may link a grain
_NEXT = 1.1  # shortest translations, where nothing is linked by that
_SMALLEST = 12  # columns of a grain, as of `columns.lattice`
_REACH = 6.0  # spacings within which the lattice of a grain decides about a column
_ANCHORS = 48  # columns inside grains that do: with 24 within 4 spacings, 1 % of the columns in tips of small grains had none
_BARE = 0.1  # of the columns of a sublattice inside grains, below which these columns do not tell where its sites are
_ON = 0.35  # spacings from a site beyond which a column belongs to no grain
_EDGE = 2.6  # spacings: longer sides make no triangle between neighbouring columns; boundaries may gape


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
    # A third moment knows two sides of cells that are nearer to 120 than to 90 degrees; of a square one it is that of displaced columns.
    polar = np.where(
        _right_angled(bases), 0, polarity_angle(points.positions, intensities, spacing, RADIUS * longest)
    )
    inside = _inside(points, fits, polar)
    fits, inside = _by_the_brightest(points, (fits, inside), bases, polar, RADIUS * longest)
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
    labels = _assigned(points.positions, fits, labels, inside, apart)
    if on_sites is not None:
        # Sublattices of which none is inside, beside brighter ones that are, say nothing of sites of their own.
        size, own = (np.bincount(points.group[one] + 1, minlength=1) for one in (slice(None), inside))
        size, own = (np.pad(one, (0, int(points.group.max()) + 2 - len(one))) for one in (size, own))
        bare = (own < _BARE * size)[points.group + 1] | (points.group < 0)
        left = np.flatnonzero((labels < 0) & on_sites & bare)
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
    fits, shown = _steady(points, fits, np.where(inside, labels, -1), bases, RADIUS * longest)
    weights = inwards(points.positions, triangles, shown, spacing)
    grains = []
    for number in range(len(order)):
        basis, found = mean_lattice(points, fits, move, shown == number, polar, importance=weights)
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


def _right_angled(bases: Floats) -> NDArray[np.bool_]:
    """Which reduced cells (n, 2, 2) have an angle nearer to 90 than to 120 degrees; of one that is not known, no."""
    a, b = bases[:, 0], bases[:, 1]
    size = np.linalg.norm(bases, axis=2).prod(axis=1)
    return np.asarray(np.abs((a * b).sum(axis=1)) < np.cos(np.radians(75)) * size, bool)


def joined_triangles(positions: Floats, longest: float) -> Ints:
    """Triangles (t, 3) between neighbouring columns, counter-clockwise or not, none with a side longer than given."""
    if len(positions) < 4:
        return np.zeros((0, 3), np.int64)
    corners = Delaunay(positions).simplices.astype(np.int64)
    sides = positions[corners] - positions[np.roll(corners, 1, axis=1)]
    return np.asarray(corners[np.linalg.norm(sides, axis=2).max(axis=1) < longest], np.int64)


def _inside(
    points: Points,
    fits: LocalFits,
    polar: NDArray[np.complex128],
    *,
    rows: Ints | None = None,
    usual: float | None = None,
) -> NDArray[np.bool_]:
    """Columns around which nearly all columns lie on one lattice, and the brighter ones on one side if there is one.

    Of some rows, by default all; `usual` is the offset of columns inside a grain, by default that of these.
    """
    here = slice(None) if rows is None else rows
    on = (fits.middle_weights > 0).sum(axis=1)
    shortest = np.linalg.norm(fits.basis, axis=2).min(axis=1)
    full = np.median(on[fits.known]) if fits.known.any() else 1.0
    found: NDArray[np.bool_] = (
        fits.known & (on >= _WHOLE * fits.near) & (on >= _FULL * full) & (fits.offset < _OFF * shortest)
    )
    if rows is None:
        found &= points.group >= 0
    side = np.abs(polar)
    if found.any():
        found &= fits.even(float(np.median(fits.offset[found])) if usual is None else usual)
        if rows is None:
            found &= fits.likely(found)
    if found.any():  # those that are left
        found &= (side[here] > _SIDED * np.median(side[here][found])) | (np.median(side[here][found]) < POLAR)
    return found


def _by_the_brightest(
    points: Points,
    found: tuple[LocalFits, NDArray[np.bool_]],
    bases: Floats,
    polar: NDArray[np.complex128],
    radius: float,
) -> tuple[LocalFits, NDArray[np.bool_]]:
    """Fits, and which columns are inside a grain, where of those outside the brightest sublattices alone may show one lattice.

    At a wall between two domains the cages go on as they were, and what is in them jumps.
    """
    fits, inside = found
    rows = np.flatnonzero(~inside & (points.group >= 0))
    if points.bright is None or not len(rows) or not inside.any():
        return fits, inside
    brightest = points.only(points.bright & (points.group >= 0))
    if (brightest.group >= 0).sum() == (points.group >= 0).sum():
        return fits, inside
    own = fit_around(brightest, points.positions[rows], bases[rows], radius)
    usual = float(np.median(fits.offset[inside]))
    shown = _inside(brightest, own, polar, rows=rows, usual=usual)
    inside = inside.copy()
    inside[rows[shown]] = True
    return fits.replaced(rows[shown], own.of(shown)), inside


def _steady(
    points: Points, fits: LocalFits, labels: Ints, bases: Floats, radius: float
) -> tuple[LocalFits, Ints]:
    """Fits without columns that have moved, and the labels of those that did not, -1 for others; of grains with few, of all."""
    if points.moved is None:
        return fits, labels
    stays = (labels >= 0) & ~points.moved
    count = np.bincount(labels[stays] + 1, minlength=int(labels.max()) + 2)[1:]
    stays &= (count >= _SMALLEST)[labels]
    rows = np.flatnonzero(stays & (points.moved[fits.neighbours] & (fits.middle_weights > 0)).any(axis=1))
    again = fit_around(points.steady, points.positions[rows], bases[rows], radius)
    few = (count < _SMALLEST)[labels] & (labels >= 0)
    fits = fits.replaced(rows, again)
    return fits, np.where((stays | few) & fits.known, labels, -1)


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
