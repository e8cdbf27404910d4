"""Neighbours of columns: Delaunay edges with real Voronoi contact, no longer than the first shell."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import Delaunay, QhullError

from torchmotif.errors import InputError

__all__ = [
    "DelaunayEdges",
    "check_positions",
    "chosen_edges",
    "delaunay_edges",
    "first_shell",
    "nearest",
    "shell_end",
]

# Shared Voronoi side over distance: 0 across a square or hexagon, 0.58 in a triangular lattice.
_LEAST_CONTACT = 0.25
_OPEN = 1.5  # a triangle whose circle is larger than this, in units of the local spacing, lies in no crystal
_SHELL = (1.25, 1.65)  # the first shell ends in this range of distances, in units of the local spacing
_BINS = 60
_NONE = 0.01  # a density of distances this small, in units of the mean one, counts as none


def check_positions(points: np.ndarray) -> None:
    """Refuse positions that span no plane graph.

    Raises
    ------
    InputError
        If there are fewer than three, two coincide, or all lie on one line.
    """
    if len(points) < 3:
        raise InputError(f"positions must hold at least 3 columns to span a plane graph, got {len(points)}")
    order = np.lexsort(points.T)
    twice = order[1:][(np.diff(points[order], axis=0) == 0).all(axis=1)]
    if len(twice):
        raise InputError(
            f"positions holds {len(twice)} duplicates, the first at index {twice[0]}; "
            "keep one of each, for example with numpy.unique(positions, axis=0)"
        )
    spread = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    if spread[1] <= 1e-9 * spread[0]:
        raise InputError(
            "positions all lie on one line: they enclose no face; check that (row, col) were read"
        )


@dataclass(frozen=True, eq=False)
class DelaunayEdges:
    """Edges of a Delaunay triangulation, and the two triangles beside each.

    Attributes
    ----------
    ends : array of shape (e, 2)
    triangles : array of shape (e, 2)
        The last number stands for the outside of the hull.
    cot : array of shape (e, 2)
        Cotangent of the angle that faces the edge in each triangle, 0 outside.
    circumradius : array of shape (t + 1,)
        Of each triangle, infinite outside.
    """

    ends: np.ndarray
    triangles: np.ndarray
    cot: np.ndarray
    circumradius: np.ndarray


def delaunay_edges(points: np.ndarray) -> DelaunayEdges:
    """Edges of the Delaunay triangulation.

    Parameters
    ----------
    points : array of shape (n, 2)

    Returns
    -------
    DelaunayEdges

    Raises
    ------
    InputError
        If qhull cannot triangulate the points.
    """
    try:
        mesh = Delaunay(points)
    except QhullError as error:
        raise InputError(
            f"positions cannot be triangulated: {str(error).splitlines()[0]}; check their spread"
        ) from error
    if len(mesh.coplanar):
        raise InputError(
            f"positions holds {len(mesh.coplanar)} columns that coincide with others within rounding, "
            f"the first at index {mesh.coplanar[0, 0]}; merge them"
        )
    triangles, across = mesh.simplices.astype(np.int64), mesh.neighbors
    corner = points[triangles]
    a, b = np.roll(corner, -1, axis=1) - corner, np.roll(corner, -2, axis=1) - corner
    twice_area = np.abs(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0])
    twice_area = np.maximum(
        twice_area, 1e-12 * (a**2).sum(axis=2)
    )  # on the hull three points may lie on one line
    cot = np.pad((a * b).sum(axis=2) / twice_area, ((0, 1), (0, 0)))  # the last row is the outside
    radius = np.append(np.linalg.norm(a, axis=2).prod(axis=1) / (2 * twice_area[:, 0]), np.inf)
    triangle, k = np.nonzero(across < np.arange(len(triangles))[:, None])  # each edge once, the hull's too
    other = across[triangle, k].astype(np.int64)
    facing = (across[other] == triangle[:, None]).argmax(axis=1)
    return DelaunayEdges(
        np.stack([triangles[triangle, (k + 1) % 3], triangles[triangle, (k + 2) % 3]], axis=1),
        np.stack([triangle, other % len(radius)], axis=1),
        np.stack([cot[triangle, k], cot[other, facing]], axis=1),
        radius,
    )


def chosen_edges(points: np.ndarray, radius: float | None, k: int | None) -> np.ndarray:
    """Delaunay edges within `radius`, of the `k` nearest, or of the first shell where neither is given; shape (e, 2)."""
    delaunay = delaunay_edges(points)
    edges = delaunay.ends
    if radius is None and k is None:
        edges = first_shell(points, delaunay)
    if radius is not None:
        edges = edges[np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1) <= radius]
    if k is not None:
        edges = nearest(points, edges, k)
    return edges


def first_shell(points: np.ndarray, edges: DelaunayEdges, end: float | None = None) -> np.ndarray:
    """Edges to true neighbours: with Voronoi contact, and shorter than where the first shell ends.

    The side that two Voronoi cells share, divided by the distance of their centres, is (cot a + cot b) / 2, with
    the angles a and b that face the edge in its two triangles (Pinkall & Polthier 1993); it vanishes where four
    points lie on a circle. Triangles of the outside or of a hole do not count: those with a large circle, and all
    that no neighbours part from them. Lengths are in units of the local spacing, the second shortest edge of the
    denser end; the shell ends where fewest lengths lie.

    Parameters
    ----------
    points : array of shape (n, 2)
    edges : DelaunayEdges
    end : float, optional
        Where the shell ends, in units of the local spacing; by default it is found in the lengths.

    Returns
    -------
    array of shape (f, 2)
    """
    ends, beside = edges.ends, edges.triangles
    local, ratio = _local_spacing(points, ends)
    outside = np.isinf(edges.circumradius)
    wide = edges.circumradius[beside] >= _OPEN * local[:, None]
    outside[beside[wide]] = True
    near = np.ones(len(ends), bool)
    while True:
        solid = ~outside[beside]
        contact = np.where(solid, edges.cot, 0).sum(axis=1) / np.maximum(solid.sum(axis=1), 1)
        touching = (contact > _LEAST_CONTACT) | ~solid.any(axis=1)
        near &= touching & (ratio < (_shell_end(ratio[touching]) if end is None else end))
        left, right = beside[~near].T
        links = csr_array((np.ones(len(left), np.int8), (left, right)), shape=(len(outside), len(outside)))
        _, region = connected_components(links, directed=False)
        reached = np.isin(region, region[outside])
        if (reached == outside).all():
            found: np.ndarray = ends[near]
            return found
        outside = reached


def shell_end(points: np.ndarray, edges: DelaunayEdges) -> float:
    """Where the first shell of some points ends, in units of the local spacing: for other points of the same kind.

    Parameters
    ----------
    points : array of shape (n, 2)
    edges : DelaunayEdges

    Returns
    -------
    float
    """
    local, ratio = _local_spacing(points, edges.ends)
    solid = edges.circumradius[edges.triangles] < _OPEN * local[:, None]
    contact = np.where(solid, edges.cot, 0).sum(axis=1) / np.maximum(solid.sum(axis=1), 1)
    return _shell_end(ratio[(contact > _LEAST_CONTACT) & solid.any(axis=1)])


def _local_spacing(points: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The local spacing at every edge, and the edge's length in units of it."""
    length = np.linalg.norm(points[ends[:, 0]] - points[ends[:, 1]], axis=1)
    ranked = _by_length(ends, length)
    first = np.searchsorted(ends.T.ravel()[ranked], np.arange(len(points)))
    spacing = np.tile(length, 2)[ranked[first + 1]]  # every point of a triangulation has two edges or more
    local = np.minimum(spacing[ends[:, 0]], spacing[ends[:, 1]])
    return local, length / local


def _shell_end(ratio: np.ndarray) -> float:
    """Where fewest of the lengths lie, in the middle of the widest gap."""
    count, bounds = np.histogram(np.log(ratio), _BINS, tuple(np.log(_SHELL)))
    density = gaussian_filter1d(count.astype(float), 2.0)
    emptiest = np.flatnonzero(density <= density.min() + _NONE * len(ratio) / _BINS)
    widest = max(np.split(emptiest, np.flatnonzero(np.diff(emptiest) > 1) + 1), key=len)
    return float(np.exp((bounds[widest[0]] + bounds[widest[-1] + 1]) / 2))


def _by_length(ends: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Order of the 2 e ends of edges by node, and by length around each node."""
    return np.lexsort((np.tile(length, 2), ends.T.ravel()))


def nearest(points: np.ndarray, edges: np.ndarray, k: int) -> np.ndarray:
    """Edges that are among the `k` shortest of at least one of their ends.

    Parameters
    ----------
    points : array of shape (n, 2)
    edges : array of shape (e, 2)
    k : int

    Returns
    -------
    array of shape (f, 2)
    """
    length = np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
    ranked = _by_length(edges, length)
    ends = edges.T.ravel()[ranked]
    place = np.empty(len(ends), np.int64)
    place[ranked] = np.arange(len(ends)) - np.searchsorted(ends, ends)
    near: np.ndarray = edges[(place.reshape(2, -1) < k).any(axis=0)]
    return near
