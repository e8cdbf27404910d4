"""Exact canonical codes of pieces of a plane graph, many at a time.

A connected plane graph is fixed by a walk through it from one dart: number the nodes in the order in which a
breadth-first walk meets them, and write down, node by node, who lies around it. The least of these texts over all
darts on the outer face is the same for two pieces if and only if one can be laid onto the other (after Weinberg
1966). No two pieces are ever compared.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from torchmotif.plane_graph.canonical import OUTSIDE, PAD, PieceTable, least_codes
from torchmotif.plane_graph.embedding import Embedding

__all__ = ["Code", "Corners", "Shapes", "canonical_shapes", "trimmed", "unique_rows"]

Corners = Literal["none", "gaps", "faces"]
Code = tuple[tuple[Any, ...], tuple[int, ...]]

_CELLS = 20_000_000  # entries of the largest table at a time


@dataclass(frozen=True, eq=False)
class Shapes:
    """Pieces of one size, sorted by shape.

    Attributes
    ----------
    members : array of shape (p, m)
        Nodes of each piece in canonical order.
    shape : array of shape (p,)
        The shape of each piece.
    codes : array of shape (s, c)
        Code of each shape; the last m entries are colours where there are any.
    symmetries : list of arrays of shape (a, m)
        For each shape, the reorderings of its nodes that leave its code as it is, the identity among them.
    darts : array of shape (p, 2)
        For each piece, the place around its first node at which the walk starts, and whether it runs clockwise.
    """

    members: np.ndarray
    shape: np.ndarray
    codes: np.ndarray
    symmetries: list[np.ndarray]
    darts: np.ndarray

    def named_code(self, shape: int, label_names: np.ndarray) -> Code:
        """The code of a coloured shape, with the names of its labels."""
        size = self.members.shape[1]
        colours, structure = self.codes[shape, -size:], self.codes[shape, :-size]
        return tuple(label_names[colours].tolist()), trimmed(structure)


def trimmed(structure: np.ndarray) -> tuple[int, ...]:
    """A structure without its filling, so that codes do not depend on the largest degree of their graph."""
    return tuple(structure[structure != PAD].tolist())


def canonical_shapes(
    graph: Embedding,
    pieces: np.ndarray,
    *,
    reflections: bool = True,
    corners: Corners = "faces",
    colours: np.ndarray | None = None,
) -> Shapes:
    """Shapes of connected pieces of one size.

    Parameters
    ----------
    graph : Embedding
    pieces : array of shape (p, m)
        Nodes of each piece, in any order.
    reflections : bool
        Whether a piece matches its mirror image.
    corners : {"none", "gaps", "faces"}
        What of the graph around a piece must match.
    colours : array of shape (n,), optional
        Colours of the nodes, that must match as well.

    Returns
    -------
    Shapes
    """
    by_place = np.lexsort((graph.points[:, 0], graph.points[:, 1]))
    rank = np.empty(len(by_place), np.int64)
    rank[by_place] = np.arange(len(by_place))
    members = by_place[np.sort(rank[pieces], axis=1)]  # the first is the leftmost, hence on the outer face
    signature = _signatures(graph, members, corners, colours)
    kinds, kind = unique_rows(signature)
    table = PieceTable(kinds, members.shape[1], coloured=colours is not None)
    codes, best = least_codes(table, reflections=reflections)
    shape_codes, shape_of_kind = unique_rows(codes)
    _, representative = np.unique(shape_of_kind, return_index=True)
    first = best.offsets[:-1]
    return Shapes(
        np.take_along_axis(members, best.order[first][kind], axis=1),
        shape_of_kind[kind],
        shape_codes,
        [_symmetries(best.order[best.offsets[i] : best.offsets[i + 1]]) for i in representative],
        np.stack([best.slot[first], best.clockwise[first]], axis=1)[kind],
    )


def _symmetries(orders: np.ndarray) -> np.ndarray:
    """Reorderings that lead from the first walk to each of those with the same code."""
    return np.unique(np.argsort(orders[0])[orders], axis=0)


def unique_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Different rows of integers, and which of them each row is."""
    compact = np.ascontiguousarray(rows)
    view = compact.view(np.dtype((np.void, compact.dtype.itemsize * compact.shape[1]))).ravel()
    _, first, which = np.unique(view, return_index=True, return_inverse=True)
    return compact[first], which


def _signatures(
    graph: Embedding, members: np.ndarray, corners: Corners, colours: np.ndarray | None
) -> np.ndarray:
    """Everything a code can depend on, as seen from the piece: who is where around each node, backwards, corners."""
    around, back, sides = graph.rotation
    size, degree = members.shape[1], around.shape[1]
    kind = np.int16 if max(size, sides.max(initial=0), degree) < 2**15 - 2 else np.int32
    width = 3 * size * degree + (size if colours is not None else 0)
    rows = np.empty((len(members), width), kind)
    chunk = max(1, _CELLS // (size * degree * size))
    for start in range(0, len(members), chunk):
        part = members[start : start + chunk]
        near = around[part]
        same = near[..., None] == part[:, None, None, :]
        local = np.where(same.any(axis=-1), same.argmax(axis=-1), np.where(near < 0, PAD, OUTSIDE))
        behind = np.where(local >= 0, back[part], -1)
        corner = sides[part] if corners == "faces" else np.zeros_like(local)
        if corners == "none":
            local, behind = _without_outside(local, behind)
        corner = np.where(local == PAD, PAD, corner)
        tables = [table.reshape(len(part), -1) for table in (local, behind, corner)]
        if colours is not None:
            tables.append(colours[part])
        rows[start : start + chunk] = np.concatenate(tables, axis=1)
    return rows


def _without_outside(local: np.ndarray, behind: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tables without the neighbours outside the piece."""
    inside = local >= 0
    slot = np.cumsum(inside, axis=2) - 1
    piece = np.arange(len(local))[:, None, None]
    behind = np.where(inside, slot[piece, np.maximum(local, 0), np.maximum(behind, 0)], -1)
    order = np.argsort(~inside, axis=2, kind="stable")
    local = np.where(inside, local, PAD)
    return np.take_along_axis(local, order, 2), np.take_along_axis(behind, order, 2)
