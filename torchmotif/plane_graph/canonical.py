"""The least code of each of many small plane graphs, by walks from every dart on the outer face at once."""

from dataclasses import dataclass

import numpy as np

__all__ = ["OUTSIDE", "PAD", "LeastWalks", "PieceTable", "least_codes"]

PAD, OUTSIDE = -2, -1  # no neighbour in this place; a neighbour outside the piece
_CELLS = 20_000_000  # entries of all codes at a time


class PieceTable:
    """Pieces of one size as tables over (piece, node, place around the node, counter-clockwise).

    Parameters
    ----------
    rows : array of shape (p, 3 m d) or (p, 3 m d + m)
        The tables below, one after the other, and the colours.
    size : int
        Nodes of each piece, m.
    coloured : bool
        Whether there are colours.

    Attributes
    ----------
    local : array of shape (p, m, d)
        The neighbour's number in the piece, `OUTSIDE` or `PAD`. Node 0 is the leftmost, and its places start past
        the direction to the left.
    back : array of shape (p, m, d)
        The place of the node around that neighbour.
    corner : array of shape (p, m, d)
        What lies between this neighbour and the next.
    colours : array of shape (p, m) or (p, 0)
    """

    def __init__(self, rows: np.ndarray, size: int, *, coloured: bool) -> None:
        rows = rows.astype(np.int64)
        width = rows.shape[1] - size * coloured
        tables = rows[:, :width].reshape(len(rows), 3, size, -1)
        self.local, self.back, self.corner = tables[:, 0], tables[:, 1], tables[:, 2]
        self.colours = rows[:, width:]
        self.degree = (self.local != PAD).sum(axis=2)
        self.size = size

    def outer_darts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(piece, node, place) of each dart that has the outside of its piece to the left; a lone node's are all."""
        if self.size == 1:
            whole = self.local[:, 0] != PAD
            whole[:, 0] = True  # one with nothing around it starts nowhere else
            piece, slot = np.nonzero(whole)
            return piece, np.zeros_like(piece), slot
        outer = np.zeros(self.local.shape, bool)
        piece = np.arange(len(self.local))
        node = np.zeros_like(piece)
        slot = self._clockwise(piece, node, np.zeros_like(piece))
        while len(piece):
            outer[piece, node, slot] = True
            node, slot = self.local[piece, node, slot], self.back[piece, node, slot]
            slot = self._clockwise(piece, node, slot)
            going = ~outer[piece, node, slot]
            piece, node, slot = piece[going], node[going], slot[going]
        piece, node, slot = np.nonzero(outer)
        return piece, node, slot

    def _clockwise(self, piece: np.ndarray, node: np.ndarray, slot: np.ndarray) -> np.ndarray:
        """The next place clockwise that holds a node of the piece."""
        degree = self.degree[piece, node]
        slot = (slot - 1) % degree
        outside = self.local[piece, node, slot] < 0
        while outside.any():
            slot = np.where(outside, (slot - 1) % degree, slot)
            outside = self.local[piece, node, slot] < 0
        return slot


@dataclass(frozen=True, eq=False)
class LeastWalks:
    """The walks that give each piece its least code, piece by piece.

    Attributes
    ----------
    order : array of shape (w, m)
        Nodes of the piece as the walk meets them.
    slot : array of shape (w,)
        Place around the first node at which it starts.
    clockwise : array of shape (w,), bool
    offsets : array of shape (p + 1,)
        Walks of piece i are ``offsets[i]:offsets[i + 1]``.
    """

    order: np.ndarray
    slot: np.ndarray
    clockwise: np.ndarray
    offsets: np.ndarray


def least_codes(table: PieceTable, *, reflections: bool) -> tuple[np.ndarray, LeastWalks]:
    """The least code of each piece, and all walks that give it.

    Parameters
    ----------
    table : PieceTable
    reflections : bool
        Whether walks may run clockwise, too.

    Returns
    -------
    codes : array of shape (p, c)
    walks : LeastWalks
    """
    piece, node, slot = table.outer_darts()
    clockwise = np.zeros(len(piece), bool)
    if reflections:  # in the mirror, the outside lies to the left of the opposite darts
        mirrored = node, slot
        if table.size > 1:
            mirrored = table.local[piece, node, slot], table.back[piece, node, slot]
        piece, node = np.tile(piece, 2), np.concatenate([node, mirrored[0]])
        slot, clockwise = np.concatenate([slot, mirrored[1]]), np.repeat([False, True], len(slot))
        by_piece = np.argsort(piece, kind="stable")
        piece, node, slot, clockwise = piece[by_piece], node[by_piece], slot[by_piece], clockwise[by_piece]
    count = len(table.local)
    bounds = np.searchsorted(piece, np.arange(count + 1))
    width = 2 * table.size * table.local.shape[2] + table.colours.shape[1]
    chunk = max(1, _CELLS * count // max(len(piece) * width, 1))
    codes, orders, kept = [], [], []
    for first in range(0, count, chunk):
        rows = slice(bounds[first], bounds[min(first + chunk, count)])
        code, order = _walk(table, piece[rows], node[rows], slot[rows], clockwise[rows])
        least = _least(code, piece[rows] - first)
        codes.append(code[least][np.flatnonzero(np.diff(piece[rows][least], prepend=-1))])
        orders.append(order[least])
        kept.append(rows.start + np.flatnonzero(least))
    walks = np.concatenate(kept)
    offsets = np.searchsorted(piece[walks], np.arange(count + 1))
    return np.concatenate(codes), LeastWalks(np.concatenate(orders), slot[walks], clockwise[walks], offsets)


def _walk(
    table: PieceTable, piece: np.ndarray, node: np.ndarray, slot: np.ndarray, clockwise: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Codes and orders of the breadth-first walks that start at the given darts."""
    count, size, places = len(piece), table.size, table.local.shape[2]
    row = np.arange(count)
    number = np.full((count, size), -1)
    order, entry = np.zeros((2, count, size), np.int64)
    code = np.full((count, size, places, 2), PAD, np.int32)
    number[row, node], order[:, 0], entry[:, 0] = 0, node, slot
    met = np.ones(count, np.int64)
    step = np.where(clockwise, -1, 1)
    for t in range(size):
        at, place = order[:, t], entry[:, t]
        degree = table.degree[piece, at]
        for k in range(int(degree.max(initial=0))):
            seen = table.local[piece, at, place]
            some = row[(k < degree) & (seen >= 0)]
            new = some[number[some, seen[some]] < 0]
            number[new, seen[new]] = met[new]
            order[new, met[new]] = seen[new]
            entry[new, met[new]] = table.back[piece[new], at[new], place[new]]
            met[new] += 1
            whom = np.where(seen >= 0, number[row, np.maximum(seen, 0)], OUTSIDE)
            after = np.where(clockwise, (place - 1) % np.maximum(degree, 1), place)
            corner = table.corner[piece, at, after]
            code[:, t, k] = np.where((k < degree)[:, None], np.stack([whom, corner], axis=1), PAD)
            place = (place + step) % np.maximum(degree, 1)
    colours = np.take_along_axis(table.colours[piece], order[:, : table.colours.shape[1]], axis=1)
    return np.concatenate([code.reshape(count, -1), colours.astype(np.int32)], axis=1), order


def _least(code: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Which rows hold the least code of their group, in lexicographic order; groups are sorted."""
    alive = np.arange(len(code))
    for column in code.T:
        values, groups = column[alive], group[alive]
        first = np.flatnonzero(np.diff(groups, prepend=-1))
        least = np.minimum.reduceat(values, first)
        alive = alive[values == np.repeat(least, np.diff(np.append(first, len(groups))))]
    least_rows = np.zeros(len(code), bool)
    least_rows[alive] = True
    return least_rows
