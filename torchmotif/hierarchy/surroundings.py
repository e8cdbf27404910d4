"""Inclusions, the connected groups of what is not matrix, and coronas, what surrounds each motif."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse.csgraph import connected_components

from torchmotif.errors import InputError
from torchmotif.plane_graph import Code, Corners, PlaneGraph, canonical_shapes
from torchmotif.plane_graph.codes import unique_rows
from torchmotif.plane_graph.cyclic import least_cyclic

__all__ = ["Coronas", "Inclusions", "coronas", "inclusions", "matrix_labels"]

_RARE = 3.0  # where the frequency of labels falls by this factor or more, the matrix ends


@dataclass(frozen=True, eq=False)
class Inclusions:
    """Connected groups of nodes that are not matrix, for example complexes of vacancies.

    Attributes
    ----------
    matrix : tuple
        Labels of the matrix.
    members : list of arrays
        Nodes of each inclusion that touches no rim.
    kind : array of shape (i,)
        Which of `codes` each is.
    codes : list of Code
        The different inclusions, the most frequent first.
    counts : array of shape (c,)
        How often each occurs.
    cut : list of arrays
        Nodes of the inclusions that touch the rim: they may go on outside, and are not counted.
    """

    matrix: tuple[Any, ...]
    members: list[np.ndarray]
    kind: np.ndarray
    codes: list[Code]
    counts: np.ndarray
    cut: list[np.ndarray]

    def __len__(self) -> int:
        """Count the inclusions that touch no rim."""
        return len(self.members)

    def __repr__(self) -> str:
        """Say how many there are."""
        return f"Inclusions({len(self)} of {len(self.codes)} kinds, {len(self.cut)} cut by the rim)"


@dataclass(frozen=True, eq=False)
class Coronas:
    """What surrounds the nodes off the rim: labels of the neighbours and sides of the faces, in cyclic order.

    Attributes
    ----------
    nodes : array of shape (m,)
        The nodes off the rim.
    kind : array of shape (m,)
        Which of `codes` surrounds each.
    codes : list of tuple
        (label, labels of the neighbours, sides of the faces after each), the most frequent first.
    counts : array of shape (c,)
    """

    nodes: np.ndarray
    kind: np.ndarray
    codes: list[tuple[Any, tuple[Any, ...], tuple[int, ...]]]
    counts: np.ndarray

    def __repr__(self) -> str:
        """Say how many there are."""
        return f"Coronas({len(self.codes)} kinds around {len(self.nodes)} nodes)"


def matrix_labels(graph: PlaneGraph, matrix: Sequence[Any] | None = None) -> np.ndarray:
    """Which of the graph's labels are matrix.

    Parameters
    ----------
    graph : PlaneGraph
    matrix : sequence of labels, optional
        By default the most frequent labels, down to where frequencies fall by the largest factor, if by 3 or more.

    Returns
    -------
    array of shape (l,), bool
        For each of `graph.label_names`.

    Raises
    ------
    InputError
        If a label given does not occur.
    """
    names = graph.label_names
    if matrix is not None:
        chosen = np.isin(names, np.asarray(list(matrix)))
        unknown = [label for label in matrix if label not in names.tolist()]
        if unknown:
            raise InputError(f"matrix must name labels of the graph, {names.tolist()}, got {unknown}")
        return chosen
    counts = np.bincount(graph.label_index)
    ranked = np.argsort(-counts)
    drop = counts[ranked][:-1] / counts[ranked][1:]
    keep = int(drop.argmax()) + 1 if len(drop) and drop.max() >= _RARE else len(counts)
    return np.isin(np.arange(len(counts)), ranked[:keep])


def inclusions(
    graph: PlaneGraph,
    matrix: Sequence[Any] | None = None,
    *,
    reflections: bool = True,
    corners: Corners = "faces",
) -> Inclusions:
    """Connected groups of nodes that are not matrix.

    Parameters
    ----------
    graph : PlaneGraph
    matrix : sequence of labels, optional
        By default the most frequent labels, down to where frequencies fall by the largest factor, if by 3 or more.
    reflections : bool
        Whether an inclusion matches its mirror image.
    corners : {"none", "gaps", "faces"}
        What of the graph around it must match.

    Returns
    -------
    Inclusions

    Raises
    ------
    InputError
        If a label given as matrix does not occur.
    """
    is_matrix = matrix_labels(graph, matrix)
    nodes = np.flatnonzero(~is_matrix[graph.label_index])
    _, component = connected_components(graph.adjacency()[nodes][:, nodes], directed=False)
    ranked = np.argsort(component, kind="stable")
    groups = np.split(nodes[ranked], np.flatnonzero(np.diff(component[ranked])) + 1) if len(nodes) else []
    cut = [group for group in groups if graph.rim[group].any()]
    whole = sorted((group for group in groups if not graph.rim[group].any()), key=len)
    found: dict[Code, list[int]] = {}
    sizes = np.array([len(group) for group in whole], np.int64)
    for size in np.unique(sizes):
        rows = np.flatnonzero(sizes == size)
        shapes = canonical_shapes(
            graph.embedding,
            np.stack([whole[i] for i in rows]),
            reflections=reflections,
            corners=corners,
            colours=graph.label_index,
        )
        for i, row in enumerate(rows.tolist()):
            whole[row] = shapes.members[i]
            found.setdefault(shapes.named_code(int(shapes.shape[i]), graph.label_names), []).append(row)
    codes = sorted(found, key=lambda code: -len(found[code]))
    kind = np.empty(len(whole), np.int64)
    for i, code in enumerate(codes):
        kind[found[code]] = i
    counts = np.array([len(found[code]) for code in codes], np.int64)
    return Inclusions(tuple(graph.label_names[is_matrix].tolist()), whole, kind, codes, counts, cut)


def coronas(graph: PlaneGraph, *, reflections: bool = True) -> Coronas:
    """What surrounds each node off the rim.

    Parameters
    ----------
    graph : PlaneGraph
    reflections : bool
        Whether a corona matches its mirror image.

    Returns
    -------
    Coronas
    """
    neighbour, _, sides = graph.embedding.rotation
    width = neighbour.shape[1]
    nodes = np.flatnonzero(~graph.rim)
    rows = np.full((len(nodes), 2 * width + 1), -1, np.int64)
    rows[:, 0] = graph.label_index[nodes]
    for degree in np.unique(graph.degrees[nodes]):
        some = graph.degrees[nodes] == degree
        around = nodes[some][:, None], np.arange(degree)
        ring = np.stack([graph.label_index[neighbour[around]], sides[around]], axis=2)
        rows[some, 1 : 2 * degree + 1] = least_cyclic(
            ring.reshape(-1, 2 * degree), step=2, mirror=reflections
        )
    found, kind = unique_rows(rows)
    counts = np.bincount(kind, minlength=len(found))
    ranked = np.argsort(-counts, kind="stable")
    names = graph.label_names.tolist()
    codes = [
        (names[row[0]], tuple(names[i] for i in row[1::2] if i >= 0), tuple(s for s in row[2::2] if s >= 0))
        for row in found[ranked].tolist()
    ]
    return Coronas(nodes, np.argsort(ranked)[kind], codes, counts[ranked])
