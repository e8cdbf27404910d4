"""Embedding: a graph as it lies in the plane, with its walks around faces, whatever its nodes are called."""

from functools import cached_property

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from torchmotif.errors import InputError
from torchmotif.plane_graph.dual import dual_darts
from torchmotif.plane_graph.faces import Darts, Faces, signed_areas, walks

__all__ = ["Embedding"]


class Embedding:
    """Nodes, edges, and the cyclic order of the edges around each node.

    Parameters
    ----------
    points : array of shape (n, 2)
        (row, col) in pixels.
    edges : array of shape (e, 2)
        Each once, the smaller index first.
    darts : Darts
    max_face : int, optional
        Faces with more sides are holes.
    """

    def __init__(self, points: np.ndarray, edges: np.ndarray, darts: Darts, max_face: int | None) -> None:
        self.points, self.edges, self.darts, self.max_face = points, edges, darts, max_face
        self.degrees = np.diff(darts.offsets)

    def __len__(self) -> int:
        """Count the nodes."""
        return len(self.points)

    @cached_property
    def adjacency(self) -> csr_array:
        """The adjacency matrix, shape (n, n), bool."""
        darts = self.darts
        entries = np.ones(len(darts.target), bool), darts.target, darts.offsets
        return csr_array(entries, shape=(len(self), len(self)))

    @cached_property
    def components(self) -> np.ndarray:
        """The connected component of each node, shape (n,)."""
        return connected_components(self.adjacency, directed=False)[1].astype(np.int64)

    @cached_property
    def _walks(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Walk of each dart, darts walk by walk, offsets of the walks, and which are around bounded faces.

        Raises
        ------
        InputError
            If Euler's formula shows that edges cross.
        """
        walk, order, offsets = walks(self.darts)
        lone = int((self.degrees == 0).sum())
        if len(self) - len(self.edges) + len(offsets) - 1 + lone != 2 * (self.components.max(initial=-1) + 1):
            raise InputError("edges cross: in a plane graph none do; use PlaneGraph.from_positions")
        area = signed_areas(self.points, self.darts.source[order], offsets)
        component = self.components[self.darts.source[order[offsets[:-1]]]]
        ranked = np.lexsort((area, component))
        closed = np.ones(len(area), bool)
        closed[ranked[np.flatnonzero(np.diff(component[ranked], prepend=-1))]] = False  # around its component
        if self.max_face is not None:
            closed &= np.diff(offsets) <= self.max_face
        return walk, order, offsets, closed

    @cached_property
    def face_of_dart(self) -> np.ndarray:
        """The bounded face to the left of each dart, -1 where that is the outside or a hole."""
        walk, _, _, closed = self._walks
        face: np.ndarray = np.where(closed, np.cumsum(closed) - 1, -1)[walk]
        return face

    @cached_property
    def faces(self) -> Faces:
        """Bounded faces."""
        _, order, offsets, closed = self._walks
        sizes = np.diff(offsets)
        corners = self.darts.source[order[np.repeat(closed, sizes)]]
        return Faces(self.points, corners, np.concatenate([[0], np.cumsum(sizes[closed])]))

    @cached_property
    def boundary(self) -> list[np.ndarray]:
        """The walks around the outside, one for each component with an edge, and around each hole."""
        _, order, offsets, closed = self._walks
        source = self.darts.source[order]
        return [source[offsets[i] : offsets[i + 1]] for i in np.flatnonzero(~closed)]

    @cached_property
    def rim(self) -> np.ndarray:
        """Nodes beside the outside or a hole, and lone ones, shape (n,)."""
        rim: np.ndarray = self.degrees == 0
        rim[self.darts.source[self.face_of_dart < 0]] = True
        return rim

    @cached_property
    def rotation(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Around each node, counter-clockwise: neighbours, the node's own place around them, sides of the next face.

        Each of shape (n, largest degree), filled up with -1; the outside and holes have 0 sides.
        """
        darts = self.darts
        shape = len(self), max(int(self.degrees.max(initial=0)), 1)
        neighbour, back, sides = (np.full(shape, -1, np.int64) for _ in range(3))
        neighbour[darts.source, darts.slot] = darts.target
        back[darts.source, darts.slot] = darts.slot[darts.twin]
        sides[darts.source, darts.slot] = np.append(self.faces.sizes, 0)[self.face_of_dart]
        return neighbour, back, sides

    def cells(self) -> tuple[np.ndarray, Faces]:
        """The nodes off the rim, and the polygon of the centroids of the faces around each."""
        inner = ~self.rim
        offsets = np.concatenate([[0], np.cumsum(self.degrees[inner])])
        corners = self.face_of_dart[inner[self.darts.source]]
        return np.flatnonzero(inner), Faces(self.faces.centroids, corners, offsets)

    def dual(self) -> "Embedding":
        """The embedding whose nodes are the bounded faces, joined where they share an edge."""
        centroids = self.faces.centroids
        darts, edges = dual_darts(centroids, self.darts, self.face_of_dart, self._walks[1])
        return Embedding(centroids, edges, darts, None)
