"""PlaneGraph: columns, who neighbours whom, and the faces they enclose."""

from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from torchmotif._arrays import as_positions
from torchmotif.errors import InputError
from torchmotif.plane_graph import neighbours
from torchmotif.plane_graph.checks import as_labels, checked_edges
from torchmotif.plane_graph.codes import Code, Corners, canonical_shapes
from torchmotif.plane_graph.embedding import Embedding
from torchmotif.plane_graph.faces import Faces, darts_by_angle
from torchmotif.plane_graph.tiling import Tiling, describe_tiling, vertex_figures

__all__ = ["PlaneGraph"]


class PlaneGraph:
    """A graph drawn in the plane without crossings. It is held in numpy, on the host.

    Parameters
    ----------
    positions : array of shape (n, 2)
        (row, col) in pixels.
    edges : array of shape (e, 2)
        Pairs of node indices; order and repeats do not matter.
    labels : array of shape (n,), optional
        The motif of each node: integers or strings.
    max_face : int, optional
        Faces with more sides are holes: as open as the outside. By default every bounded face counts.

    Attributes
    ----------
    labels : array of shape (n,) or None
    embedding : Embedding
        How the graph lies in the plane; shared by graphs that differ in their labels only.

    Raises
    ------
    InputError
        If the edges name nodes that are not there, or cross, or the labels have another length.

    Examples
    --------
    >>> import numpy as np
    >>> import torchmotif as tm
    >>> square = np.stack(np.meshgrid(range(4), range(4), indexing="ij"), axis=-1).reshape(-1, 2) * 10.0
    >>> graph = tm.PlaneGraph.from_positions(square)
    >>> graph
    PlaneGraph(16 nodes, 24 edges, 9 faces)
    >>> graph.vertex_figures()[5]
    (4, 4, 4, 4)
    """

    def __init__(
        self, positions: Any, edges: Any, labels: Any = None, *, max_face: int | None = None
    ) -> None:
        points = as_positions(positions, device="cpu").detach().numpy()
        pairs = checked_edges(edges, len(points))
        self.embedding = Embedding(points, pairs, darts_by_angle(points, pairs), max_face)
        self.labels = None if labels is None else as_labels(labels, len(points))

    @classmethod
    def of(cls, embedding: Embedding, labels: Any = None) -> "PlaneGraph":
        """The graph of an embedding that is there already.

        Parameters
        ----------
        embedding : Embedding
        labels : array of shape (n,), optional

        Returns
        -------
        PlaneGraph

        Raises
        ------
        InputError
            If the labels have another length.
        """
        graph = cls.__new__(cls)
        graph.embedding = embedding
        graph.labels = None if labels is None else as_labels(labels, len(embedding))
        return graph

    @classmethod
    def from_positions(
        cls,
        positions: Any,
        labels: Any = None,
        *,
        radius: float | None = None,
        k: int | None = None,
        max_face: int | None = None,
    ) -> "PlaneGraph":
        """The graph of neighbouring columns.

        Neighbours share a side of their Voronoi cells and lie within the first shell, whose end is found in the
        distances themselves. All edges are Delaunay edges, so none cross.

        Parameters
        ----------
        positions : array of shape (n, 2)
            (row, col) in pixels.
        labels : array of shape (n,), optional
            The motif of each column.
        radius : float, optional
            Join Delaunay neighbours within this distance in pixels, instead.
        k : int, optional
            Join each column with its `k` nearest Delaunay neighbours, instead; with `radius`, those within it.
        max_face : int, optional
            Faces with more sides are holes.

        Returns
        -------
        PlaneGraph

        Raises
        ------
        InputError
            If there are fewer than three positions, or some coincide, or all lie on one line, or one is not finite;
            if the labels have another length; if `radius` or `k` is not positive.
        """
        points = as_positions(positions, device="cpu").detach().numpy()
        neighbours.check_positions(points)
        if radius is not None and not radius > 0:
            raise InputError(f"radius must be a positive distance in pixels, got {radius}")
        if k is not None and k < 1:
            raise InputError(f"k must be at least 1, got {k}")
        edges = neighbours.chosen_edges(points, radius, k)
        return cls(points, edges, labels, max_face=max_face)

    def __len__(self) -> int:
        """Count the nodes."""
        return len(self.positions)

    def __repr__(self) -> str:
        """Say how large it is."""
        return f"PlaneGraph({len(self)} nodes, {len(self.edges)} edges, {len(self.faces)} faces)"

    @property
    def positions(self) -> np.ndarray:
        """(row, col) of each node in pixels, shape (n, 2)."""
        return self.embedding.points

    @property
    def edges(self) -> np.ndarray:
        """Pairs of neighbours, each once, the smaller index first, shape (e, 2)."""
        return self.embedding.edges

    @property
    def degrees(self) -> np.ndarray:
        """Number of neighbours of each node, shape (n,)."""
        return self.embedding.degrees

    @property
    def components(self) -> np.ndarray:
        """The connected component of each node, shape (n,)."""
        return self.embedding.components

    @property
    def faces(self) -> Faces:
        """Bounded faces; iterates as index arrays, counter-clockwise. A walk passes a dangling edge twice."""
        return self.embedding.faces

    @property
    def boundary(self) -> list[np.ndarray]:
        """The walks around the outside, one for each component with an edge, and around each hole."""
        return self.embedding.boundary

    @property
    def rim(self) -> np.ndarray:
        """Nodes beside the outside or a hole, and lone ones, shape (n,)."""
        return self.embedding.rim

    @cached_property
    def _labelled(self) -> tuple[np.ndarray, np.ndarray]:
        labels = np.zeros(len(self), np.int64) if self.labels is None else self.labels
        return np.unique_inverse(labels)

    @property
    def label_names(self) -> np.ndarray:
        """The different labels, sorted; 0 where there are none."""
        return self._labelled[0]

    @property
    def label_index(self) -> np.ndarray:
        """Place of each node's label in `label_names`, shape (n,)."""
        return self._labelled[1]

    def dual(self) -> "PlaneGraph":
        """The plane graph whose nodes are the bounded faces, joined where they share an edge.

        Faces that share several edges are joined once. Nodes lie at the mean corner of their face.

        Returns
        -------
        PlaneGraph
            Its labels are the numbers of sides.

        Raises
        ------
        InputError
            If the graph has no bounded face.
        """
        sides = self._some_faces().sizes
        return PlaneGraph.of(self.embedding.dual(), sides)

    def cells(self) -> tuple[np.ndarray, Faces]:
        """The cell of each node off the rim: the polygon of the centroids of the faces around it.

        Returns
        -------
        nodes : array of shape (m,)
            The nodes off the rim.
        cells : Faces
            One for each; the corners are indices of `faces`.
        """
        return self.embedding.cells()

    def vertex_figures(self) -> list[tuple[int, ...] | None]:
        """Sides of the faces around each node, in cyclic order.

        Returns
        -------
        list of tuple or None
            Per node, least under rotation and mirror; None on the rim.
        """
        return vertex_figures(self.embedding.rotation[2], self.degrees, self.rim)

    def ring_statistics(self) -> dict[int, int]:
        """How many bounded faces there are of each number of sides."""
        return {int(k): int(n) for k, n in enumerate(np.bincount(self.faces.sizes)) if n}

    def tiling(self) -> Tiling:
        """Which tiling the nodes off the rim form, and the mean cell of its dual.

        Returns
        -------
        Tiling

        Raises
        ------
        InputError
            If the graph has no bounded face, or every node is on the rim.
        """
        self._some_faces()
        nodes, cells = self.cells()
        if not len(nodes):
            raise InputError(
                "graph has no node off the rim: a tiling needs at least one with faces all around"
            )
        return describe_tiling(self.vertex_figures(), self.faces, cells)

    def canonical_code(
        self, nodes: Any = None, *, reflections: bool = True, corners: Corners = "none"
    ) -> Code:
        """The code of a connected piece, equal for two pieces if and only if they match under rotation.

        Parameters
        ----------
        nodes : array of int, optional
            The piece: these nodes and all edges among them. By default all.
        reflections : bool
            Whether a piece matches its mirror image.
        corners : {"none", "gaps", "faces"}
            What else must match: nothing; the places of neighbours outside the piece; and the sides of all faces
            around its nodes.

        Returns
        -------
        tuple of (labels, structure)

        Raises
        ------
        InputError
            If the piece is empty, not connected, or names nodes that are not there.
        """
        piece = np.arange(len(self)) if nodes is None else np.unique(np.asarray(nodes))
        if not len(piece) or piece[0] < 0 or piece[-1] >= len(self):
            raise InputError(f"nodes must be indices from 0 to {len(self) - 1}, at least one, got {piece}")
        among = self.adjacency()[piece][:, piece]
        if connected_components(among, directed=False)[0] != 1:
            raise InputError("nodes must form one connected piece; take its components one by one")
        shapes = canonical_shapes(
            self.embedding, piece[None], reflections=reflections, corners=corners, colours=self.label_index
        )
        return shapes.named_code(0, self.label_names)

    def adjacency(self) -> csr_array:
        """The adjacency matrix, shape (n, n), bool."""
        return self.embedding.adjacency

    def to_networkx(self) -> Any:
        """A `networkx.Graph` whose nodes carry `pos` (row, col) and, where there are labels, `label`."""
        import networkx as nx

        graph = nx.Graph()
        graph.add_nodes_from((i, {"pos": tuple(p)}) for i, p in enumerate(self.positions.tolist()))
        graph.add_edges_from(self.edges.tolist())
        if self.labels is not None:
            nx.set_node_attributes(graph, dict(enumerate(self.labels.tolist())), "label")
        return graph

    def with_labels(self, labels: Any) -> "PlaneGraph":
        """The same graph with other labels.

        Parameters
        ----------
        labels : array of shape (n,)

        Returns
        -------
        PlaneGraph

        Raises
        ------
        InputError
            If the labels have another length.
        """
        return PlaneGraph.of(self.embedding, labels)

    def _some_faces(self) -> Faces:
        if not len(self.faces):
            raise InputError("graph has no bounded face; join more neighbours, by a larger radius or k")
        return self.faces
