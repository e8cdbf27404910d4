"""The dual of a plane graph, with the order of neighbours taken from the walks around faces."""

import numpy as np

from torchmotif.plane_graph.faces import Darts

__all__ = ["dual_darts"]


def dual_darts(
    centroids: np.ndarray, darts: Darts, face: np.ndarray, order: np.ndarray
) -> tuple[Darts, np.ndarray]:
    """Darts and edges of the dual.

    Parameters
    ----------
    centroids : array of shape (f, 2)
        Where its nodes lie.
    darts : Darts
        Of the graph.
    face : array of shape (d,)
        The bounded face to the left of each dart, -1 where there is none.
    order : array of shape (d,)
        Darts, walk by walk.

    Returns
    -------
    darts : Darts
    edges : array of shape (e, 2)
    """
    across = face[darts.twin]
    crossing = np.flatnonzero((face >= 0) & (across >= 0) & (face != across))
    key = np.minimum(face, across)[crossing] * len(centroids) + np.maximum(face, across)[crossing]
    edge = np.minimum(crossing, darts.twin[crossing])
    ranked = np.lexsort((edge, key))
    first = np.unique(key[ranked], return_index=True)[1]
    kept_edges = edge[ranked][first]
    kept = np.isin(edge, kept_edges)
    crossing, edge = crossing[kept], edge[kept]

    on_walk = np.empty(len(order), np.int64)
    on_walk[order] = np.arange(len(order))
    source, target = face[crossing], across[crossing]
    by_walk = np.lexsort((on_walk[crossing], source))
    crossing, source, target = crossing[by_walk], source[by_walk], target[by_walk]
    degree = np.bincount(source, minlength=len(centroids))
    offsets = np.concatenate([[0], np.cumsum(degree)])

    step = centroids[target] - centroids[source]
    angle = np.arctan2(-step[:, 0], step[:, 1])
    angle[angle == np.pi] = -np.pi
    leftmost = np.lexsort((angle, source))[offsets[:-1][degree > 0]]
    shift = np.zeros(len(centroids), np.int64)
    shift[degree > 0] = leftmost - offsets[:-1][degree > 0]
    slot = (np.arange(len(source)) - offsets[source] - shift[source]) % degree[source]
    place = offsets[source] + slot
    at = np.empty(len(source), np.int64)
    at[place] = np.arange(len(source))
    position = np.full(len(darts.source), -1)
    position[crossing] = place
    twin = position[darts.twin[crossing]]
    edges = np.sort(np.stack([face[kept_edges], across[kept_edges]], axis=1), axis=1)
    return Darts(source[at], target[at], twin[at], offsets), edges
