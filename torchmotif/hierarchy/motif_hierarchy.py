"""MotifHierarchy: every assembly of up to so many motifs, and which contains which."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from torchmotif.errors import InputError, InputTypeError
from torchmotif.hierarchy.groups import connected_groups, estimate_groups
from torchmotif.hierarchy.levels import build_level
from torchmotif.hierarchy.surroundings import Coronas, Inclusions, coronas, inclusions
from torchmotif.plane_graph import Corners, PlaneGraph, canonical_shapes

__all__ = ["MotifHierarchy"]

_BYTES_PER_ENTRY = 24  # of the tables over (group, node, place around it): three 8-byte numbers, an estimate


class MotifHierarchy(BaseEstimator):  # type: ignore[misc]
    """All assemblies of motifs in a labelled plane graph, counted exactly.

    An assembly is a connected group of nodes, the same as another if one can be laid onto the other by a rotation
    (and reflection) of the graph. Groups on the rim are left out where their surroundings count.

    Parameters
    ----------
    max_size : int
        Number of motifs in the largest assemblies.
    corners : {"faces", "gaps", "none"}
        What else must match: the sides of all faces around the group's nodes; only the places of neighbours outside
        it; nothing, the group is a bare graph.
    reflections : bool
        Whether an assembly matches its mirror image.
    matrix : sequence of labels, optional
        What is no inclusion. By default the most frequent labels, down to where frequencies fall by the largest
        factor, if by 3 or more.
    memory_limit_gb : float
        Refuse to start where the estimate is above it.
    random_state : int
        Seed of the estimate of the memory; results do not depend on it.

    Attributes
    ----------
    graph_ : PlaneGraph
    levels_ : list of Level
        Assemblies of 1, 2, ... `max_size` motifs.
    inclusions_ : Inclusions
    coronas_ : Coronas
    n_features_in_ : int
        Always 2, the coordinates.

    Examples
    --------
    >>> import numpy as np
    >>> import torchmotif as tm
    >>> square = np.stack(np.meshgrid(range(6), range(6), indexing="ij"), axis=-1).reshape(-1, 2) * 10.0
    >>> graph = tm.PlaneGraph.from_positions(square, labels=square.sum(axis=1).astype(int) // 10 % 2)
    >>> tm.MotifHierarchy(max_size=3).fit(graph).levels_
    [Level(2 assemblies of 1 motifs, 16 occurrences), Level(1 assemblies of 2 motifs, 24 occurrences),
     Level(4 assemblies of 3 motifs, 52 occurrences)]
    """

    def __init__(
        self,
        max_size: int = 4,
        *,
        corners: Corners = "faces",
        reflections: bool = True,
        matrix: Sequence[Any] | None = None,
        memory_limit_gb: float = 4.0,
        random_state: int = 0,
    ) -> None:
        self.max_size = max_size
        self.corners = corners
        self.reflections = reflections
        self.matrix = matrix
        self.memory_limit_gb = memory_limit_gb
        self.random_state = random_state

    def fit(self, graph: Any, y: Any = None) -> "MotifHierarchy":  # noqa: ARG002 - scikit-learn's signature
        """Count all assemblies of a graph.

        Parameters
        ----------
        graph : PlaneGraph
            With labels.
        y : None
            Not used.

        Returns
        -------
        MotifHierarchy

        Raises
        ------
        InputTypeError
            If `graph` is no PlaneGraph.
        InputError
            If the graph has no labels; if `max_size` is not positive, or needs more memory than allowed; if
            `corners` is unknown; if every node is on the rim and surroundings count.
        """
        self._check(graph)
        counted = np.arange(len(graph)) if self.corners == "none" else np.flatnonzero(~graph.rim)
        if not len(counted):
            raise InputError(
                "graph has no node off the rim, so no group has all its surroundings; use corners='none'"
            )
        neighbours = _among(graph.embedding.rotation[0], counted)
        self._check_memory(neighbours)
        self.graph_ = graph
        self.n_features_in_ = 2
        self.levels_ = [
            build_level(
                graph.embedding,
                counted[groups],
                graph.label_names,
                graph.label_index,
                reflections=self.reflections,
                corners=self.corners,
            )
            for groups in connected_groups(neighbours, self.max_size)
            if len(groups)
        ]
        self.inclusions_: Inclusions = inclusions(
            graph, self.matrix, reflections=self.reflections, corners=self.corners
        )
        self.coronas_: Coronas = coronas(graph, reflections=self.reflections)
        return self

    def containment(self, level: int) -> np.ndarray:
        """Which assemblies of a level contain which of the level below.

        Parameters
        ----------
        level : int
            Index of the larger assemblies in `levels_`, from 1.

        Returns
        -------
        array of shape (c, 3)
            (larger assembly, smaller assembly, number of ways to leave out one motif).
        """
        check_is_fitted(self)
        larger, smaller = self.levels_[level], self.levels_[level - 1]
        _, first = np.unique(larger.assembly, return_index=True)
        members = larger.pieces.members[first]
        adjacency = self.graph_.adjacency()
        count, size = members.shape
        joined = np.asarray(
            adjacency[np.repeat(members, size, axis=1).ravel(), np.tile(members, size).ravel()]
        )
        joined = joined.reshape(count, size, size)
        parents, parts = [], []
        for out in range(size):
            rest = np.delete(np.arange(size), out)
            whole = np.flatnonzero(_connected(joined[:, rest][:, :, rest]))
            parents.append(whole)
            parts.append(members[whole][:, rest])
        parent = np.concatenate(parents)
        shapes = canonical_shapes(
            self.graph_.embedding,
            np.concatenate(parts),
            reflections=self.reflections,
            corners=self.corners,
        )
        order, child = smaller.find(shapes, self.graph_.label_index)
        pairs, ways = np.unique(np.stack([parent[order], child], axis=1), axis=0, return_counts=True)
        return np.concatenate([pairs, ways[:, None]], axis=1)

    def to_networkx(self) -> Any:
        """The growth of assemblies as a `networkx.DiGraph` without cycles: from each to those with one motif more.

        Nodes are (size, index in the level) with `size`, `count`, `labels` and `structure`; edges carry `ways`, the
        number of motifs whose removal leads back.
        """
        import networkx as nx

        check_is_fitted(self)
        graph = nx.DiGraph()
        for level in self.levels_:
            for i, (labels, structure) in enumerate(level.codes):
                graph.add_node(
                    (level.size, i),
                    size=level.size,
                    count=int(level.counts[i]),
                    labels=labels,
                    structure=structure,
                )
        for i, level in enumerate(self.levels_[1:], start=1):
            for larger, smaller, ways in self.containment(i).tolist():
                graph.add_edge((level.size - 1, smaller), (level.size, larger), ways=ways)
        return graph

    def to_json(self) -> str:
        """Levels, inclusions and containment as JSON.

        Returns
        -------
        str
        """
        check_is_fitted(self)
        levels = [
            {
                "size": level.size,
                "assemblies": [
                    {"labels": labels, "structure": structure, "count": int(count)}
                    for (labels, structure), count in zip(level.codes, level.counts, strict=True)
                ],
                "contains": self.containment(i).tolist() if i else [],
            }
            for i, level in enumerate(self.levels_)
        ]
        found = self.inclusions_
        included = [
            {"labels": labels, "structure": structure, "count": int(count)}
            for (labels, structure), count in zip(found.codes, found.counts, strict=True)
        ]
        return json.dumps(
            {
                "n_columns": len(self.graph_),
                "corners": self.corners,
                "reflections": self.reflections,
                "levels": levels,
                "inclusions": included,
                "matrix": found.matrix,
            }
        )

    def _check(self, graph: Any) -> None:
        if not isinstance(graph, PlaneGraph):
            raise InputTypeError(
                f"graph must be a PlaneGraph, got {type(graph).__name__}; use PlaneGraph.from_positions"
            )
        if graph.labels is None:
            raise InputError("graph has no labels; use graph.with_labels(labels)")
        if self.max_size < 1:
            raise InputError(f"max_size must be at least 1, got {self.max_size}")
        if self.corners not in {"none", "gaps", "faces"}:
            raise InputError(f"corners must be 'faces', 'gaps' or 'none', got {self.corners!r}")

    def _check_memory(self, neighbours: np.ndarray) -> None:
        expected = estimate_groups(neighbours, self.max_size, random_state=self.random_state)
        entries = (expected * np.arange(1, self.max_size + 1)).sum() * neighbours.shape[1]
        need = entries * _BYTES_PER_ENTRY / 1e9
        if need > self.memory_limit_gb:
            raise InputError(
                f"max_size={self.max_size} means about {expected[-1]:.2g} groups and {need:.3g} GB of memory, more "
                f"than memory_limit_gb={self.memory_limit_gb}; lower max_size, or raise the limit"
            )


def _among(neighbours: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """The table of neighbours among some nodes, which are numbered anew."""
    number = np.full(len(neighbours) + 1, -1)
    number[nodes] = np.arange(len(nodes))
    among: np.ndarray = number[neighbours[nodes]]
    return among


def _connected(joined: np.ndarray) -> np.ndarray:
    """Whether each of many small graphs, given as adjacency matrices (n, m, m), is connected."""
    reach = np.asarray(joined, np.int64) + np.eye(joined.shape[1], dtype=np.int64)
    for _ in range(joined.shape[1].bit_length()):
        reach = np.minimum(reach @ reach, 1)
    return np.asarray(reach.all(axis=(1, 2)))
