"""Darts and faces of a plane graph: the cycles of the next-dart permutation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

__all__ = ["Darts", "Faces", "darts_by_angle", "walks"]


@dataclass(frozen=True, eq=False)
class Darts:
    """The directed halves of the edges, sorted by source and counter-clockwise around it.

    Attributes
    ----------
    source, target : array of shape (d,)
        Nodes at the two ends.
    twin : array of shape (d,)
        Index of the opposite dart.
    offsets : array of shape (n + 1,)
        Darts of node i are ``offsets[i]:offsets[i + 1]``; the first is the first one past the direction to the left.
    """

    source: np.ndarray
    target: np.ndarray
    twin: np.ndarray
    offsets: np.ndarray

    @cached_property
    def slot(self) -> np.ndarray:
        """Place of each dart around its source, from 0."""
        slot: np.ndarray = np.arange(len(self.source)) - self.offsets[self.source]
        return slot

    @cached_property
    def following(self) -> np.ndarray:
        """The dart after each one on the walk around the face to its left."""
        node = self.target
        degree = np.diff(self.offsets)[node]
        place = self.twin - self.offsets[node]
        following: np.ndarray = self.offsets[node] + np.where(place == 0, degree, place) - 1
        return following


def darts_by_angle(points: np.ndarray, edges: np.ndarray) -> Darts:
    """Darts of straight edges.

    Parameters
    ----------
    points : array of shape (n, 2)
        (row, col); rows point down, so counter-clockwise is as seen.
    edges : array of shape (e, 2)
        Each once, no loops.

    Returns
    -------
    Darts
    """
    source, target = np.concatenate([edges, edges[:, ::-1]]).T
    step = points[target] - points[source]
    turn = np.arctan2(-step[:, 0], step[:, 1]) / (2 * np.pi) + 0.5
    turn[turn == 1] = 0
    order = np.argsort(
        source + turn
    )  # one sort for both: turns stay apart by 1e-9 and more up to a million nodes
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    twin = np.roll(place, len(edges))[order]  # dart i and dart i + e are twins
    offsets = np.concatenate([[0], np.cumsum(np.bincount(source, minlength=len(points)))])
    return Darts(source[order], target[order], twin, offsets)


def walks(darts: Darts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every walk around a face, as darts in order.

    Returns
    -------
    face : array of shape (d,)
        The walk each dart is on.
    order : array of shape (d,)
        Darts, walk by walk.
    offsets : array of shape (f + 1,)
        Darts of walk i are ``order[offsets[i]:offsets[i + 1]]``.
    """
    following, count = darts.following, len(darts.source)
    links = csr_array(
        (np.ones(count, np.int8), following, np.arange(count + 1)),
        shape=(count, count),
    )
    n_faces, face = connected_components(links, directed=True, connection="weak")
    size = np.bincount(face, minlength=n_faces)
    offsets = np.concatenate([[0], np.cumsum(size)])
    current = np.zeros(n_faces, np.int64)
    current[face[::-1]] = np.arange(count)[::-1]  # the first dart of each
    order = np.empty(count, np.int64)
    active = np.argsort(-size, kind="stable")
    current = current[active]
    still = np.bincount(size, minlength=1)[::-1].cumsum()[::-1]  # how many have at least that many darts
    for step in range(size.max(initial=0)):
        walking = still[step + 1]
        current = current[:walking]
        order[offsets[active[:walking]] + step] = current
        current = following[current]
    return face, order, offsets


class Faces(Sequence[np.ndarray]):
    """Bounded faces: each an array of node indices, counter-clockwise.

    Attributes
    ----------
    nodes : array of shape (s,)
        Corners of all faces, one face after the other.
    offsets : array of shape (f + 1,)
        Face i is ``nodes[offsets[i]:offsets[i + 1]]``.
    sizes : array of shape (f,)
        Number of sides.
    """

    def __init__(self, points: np.ndarray, nodes: np.ndarray, offsets: np.ndarray) -> None:
        self._points, self.nodes, self.offsets = points, nodes, offsets
        self.sizes = np.diff(offsets)

    @cached_property
    def areas(self) -> np.ndarray:
        """In square pixels, shape (f,)."""
        return signed_areas(self._points, self.nodes, self.offsets)

    @cached_property
    def centroids(self) -> np.ndarray:
        """(row, col) of the mean corner, shape (f, 2)."""
        sums = np.stack([_sums(self._points[self.nodes, k], self.offsets) for k in (0, 1)], axis=1)
        return np.asarray(sums / np.maximum(self.sizes, 1)[:, None])

    def __len__(self) -> int:
        """Count the faces."""
        return len(self.sizes)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> list[np.ndarray]: ...
    def __getitem__(self, index: int | slice) -> np.ndarray | list[np.ndarray]:
        """Give the corners of one face, or a list of them."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        return self.nodes[self.offsets[place] : self.offsets[place + 1]]

    def __iter__(self) -> Iterator[np.ndarray]:
        """Iterate over the corners of each face."""
        return iter(np.split(self.nodes, self.offsets[1:-1]) if len(self) else [])

    def __repr__(self) -> str:
        """Say how many there are of each size."""
        sizes = ", ".join(f"{n} of {k} sides" for k, n in enumerate(np.bincount(self.sizes)) if n)
        return f"Faces({sizes or 'none'})"


def signed_areas(points: np.ndarray, nodes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Area inside each closed walk, positive where it is counter-clockwise as seen."""
    if not len(nodes):
        return np.zeros(0)
    after = np.arange(1, len(nodes) + 1)
    after[offsets[1:] - 1] = offsets[:-1]
    x, y = points[nodes, 1], -points[nodes, 0]
    x, y = x - points[:, 1].mean(), y + points[:, 0].mean()
    return _sums((x * y[after] - x[after] * y) / 2, offsets)


def _sums(values: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    return np.add.reduceat(values, offsets[:-1]) if len(offsets) > 1 else np.zeros(0)
