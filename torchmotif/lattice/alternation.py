"""Which columns of a square lattice are on its black fields and which on its white ones."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.spatial import cKDTree

from torchmotif.lattice._errors import SIGMA
from torchmotif.lattice.grains import Grains

__all__ = ["chessboard"]

_CLEAR = 5.0  # standard errors by which halves must differ in brightness: else all are of one kind
_NEAR = 0.25  # translations from where a translation leads, within which the column there is met


def chessboard(grains: Grains, intensities: NDArray[np.float64]) -> NDArray[np.int64]:
    """The two halves of the columns of each grain that alternate along both translations: 0 the brighter half, 1 the darker.

    In a perovskite along a cubic axis A and B make one square lattice. Where their brightness differs too little, or changes
    from one material to another, to make two sublattices of them, their order still does.

    Parameters
    ----------
    grains : Grains
    intensities : array of shape (n,)

    Returns
    -------
    array of shape (n,), int64
        -1 for columns of grains whose halves are equally bright, without a grain, that fits of lattices do not use, or that no translations join with most others of it.
    """
    n = len(grains.labels)
    found = np.full(n, -1)
    bright = np.nan_to_num(np.asarray(intensities, np.float64))
    for grain in grains.grains:
        known = np.isfinite(grains.bases).all(axis=(1, 2)) & grains.used
        rows = np.flatnonzero((grains.labels == grain.number) & known)
        if not len(rows):
            continue
        place = grains.positions[rows] * grains.scale
        tree = cKDTree(place)
        reach = _NEAR * float(np.linalg.norm(grain.basis * grains.scale, axis=1).min())
        pairs = []
        for axis in (0, 1):
            away, met = tree.query(place + grains.bases[rows, axis] * grains.scale)
            pairs.append(np.stack([np.arange(len(rows)), met])[:, away < reach])
        one, other = np.concatenate(pairs, axis=1)
        links = coo_array((np.ones(len(one)), (one, other)), shape=(len(rows),) * 2).tocsr()
        part = connected_components(links, directed=False)[1]
        start = int(np.flatnonzero(part == np.bincount(part).argmax())[0])
        steps = dijkstra(links, directed=False, indices=[start], unweighted=True)[0]
        joined = np.asarray(np.isfinite(steps), bool)
        colour = np.where(joined, steps, 0).astype(np.int64) % 2
        light = [
            float(np.median(bright[rows][joined & (colour == side)]))
            for side in (0, 1)
            if (joined & (colour == side)).any()
        ]
        if len(light) < 2 or abs(light[1] - light[0]) < _CLEAR * _median_error(
            bright[rows[joined]], colour[joined]
        ):
            continue
        found[rows[joined]] = (colour[joined] + int(light[1] > light[0])) % 2
    return found


def _median_error(bright: NDArray[np.float64], colour: NDArray[np.int64]) -> float:
    """Standard error of the difference between the medians of two halves."""
    halves = [bright[colour == side] for side in (0, 1)]
    scatter = [SIGMA * float(np.median(np.abs(one - np.median(one)))) / np.sqrt(len(one)) for one in halves]
    return float(np.sqrt(np.pi / 2) * np.hypot(*scatter))
