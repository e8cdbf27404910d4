"""Neighbours within a distance, on the device of the positions."""

from dataclasses import dataclass
from itertools import count

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchmotif._groups import within_group

__all__ = [
    "Neighbours",
    "as_index",
    "as_indices",
    "candidates",
    "distances_within",
    "is_near",
    "nearest_within",
    "pairs_within",
    "picked",
    "strongest_first",
    "strongest_of",
]

_ROW = 1 << 31  # cells from one row of cells to the next: more than there are
_LOOK = 2  # rounds after which it is asked whether any position is undecided: of 207 searches in 14 images, 205 are done


def as_index(which: Tensor) -> Int[Tensor, " k"]:
    """Numbers of the rows that a mask or an index picks: each indexing by a mask has the host wait for its size."""
    return torch.nonzero(which)[:, 0] if which.dtype == torch.bool else which


def picked(mask: Bool[Tensor, " n"], count: int) -> Int[Tensor, " k"]:
    """Numbers of the rows that a mask picks, whose number is known: the host need not wait for it."""
    return torch.argsort(~mask, stable=True)[:count]


def as_indices(*masks: Bool[Tensor, " _"]) -> list[Int[Tensor, " k"]]:
    """Numbers of the rows that each of several masks picks, for one wait."""
    counts = torch.stack([mask.sum() for mask in masks]).tolist()
    return [picked(mask, count) for mask, count in zip(masks, counts, strict=True)]


def candidates(
    queries: Float[Tensor, "m 2"], positions: Float[Tensor, "n 2"], radius: float
) -> tuple[Int[Tensor, " c"], Int[Tensor, " c"], Bool[Tensor, " c"]]:
    """Pairs (query, position) among which are all at most `radius` apart, and which those are.

    Positions are sorted into square cells of side `radius`; the candidates of a query are the three runs of
    sorted positions that fill the three rows of cells around it.
    """
    m, device = len(queries), queries.device
    if m == 0 or len(positions) == 0:
        none = torch.zeros(0, dtype=torch.long, device=device)
        return none, none, none > 0
    first = positions.amin(dim=0)

    def cell_of(at: Tensor) -> Tensor:
        """Number of the cell that each of some positions lies in."""
        row, col = (at - first).div(radius, rounding_mode="floor").long().unbind(1)
        return row * _ROW + col

    key = cell_of(positions)
    wanted = key if queries is positions else cell_of(queries)
    ordered, order = torch.sort(key)
    rows = torch.arange(-_ROW, _ROW + 1, _ROW, device=device)[:, None] + wanted
    starts = torch.searchsorted(ordered, (rows - 1).flatten())
    counts = torch.searchsorted(ordered, (rows + 1).flatten(), right=True) - starts
    ends = counts.cumsum(0)
    run = torch.repeat_interleave(counts, output_size=int(ends[-1]))
    within = torch.arange(len(run), device=device) - (ends - counts)[run]
    i, j = run % m, order[starts[run] + within]
    return i, j, (queries[i] - positions[j]).square().sum(dim=1) <= radius**2


def pairs_within(
    positions: Float[Tensor, "n 2"], radius: float, *, once: bool = False
) -> tuple[Int[Tensor, " p"], Int[Tensor, " p"]]:
    """All ordered pairs (i, j), i != j, of positions at most `radius` apart; with `once` those with i < j.

    Linear in their number.
    """
    i, j, near = candidates(positions, positions, radius)
    kept = as_index(near & (i < j) if once else near & (i != j))
    return i[kept], j[kept]


def is_near(few: Float[Tensor, "n 2"], other: Float[Tensor, "m 2"], radius: float) -> Bool[Tensor, " n"]:
    """Which of a few positions have one of many others within a radius."""
    i, _, near = candidates(few, other, radius)
    hits = torch.zeros(len(few), dtype=torch.int32, device=few.device)
    return hits.index_add_(0, i, near.int()) > 0


def distances_within(positions: Float[Tensor, "n 2"], radius: float) -> Float[Tensor, " n"]:
    """Distance of each position to the nearest other one within a radius; infinite where there is none."""
    i, j, near = candidates(positions, positions, radius)
    away = torch.where(near & (i != j), (positions[i] - positions[j]).norm(dim=1), torch.inf)
    return away.new_full((len(positions),), torch.inf).scatter_reduce_(0, i, away, "amin")


def nearest_within(
    queries: Float[Tensor, "m 2"], positions: Float[Tensor, "n 2"], radius: float
) -> Int[Tensor, " m"]:
    """Number of the nearest of some positions within a radius of each query, the first of equally near ones; -1 for none."""
    i, j, near = candidates(queries, positions, radius)
    square = torch.where(near, (queries[i] - positions[j]).square().sum(dim=1), torch.inf)
    least = square.new_full((len(queries),), torch.inf).scatter_reduce_(0, i, square, "amin")
    n = len(positions)
    number = torch.full((len(queries),), n, device=i.device)
    number.scatter_reduce_(0, i, torch.where(near & (square <= least[i]), j, n), "amin")
    return torch.where(number < n, number, -1)


def strongest_first(
    positions: Float[Tensor, "n 2"], strength: Float[Tensor, " n"], radius: float
) -> Bool[Tensor, " n"]:
    """Which positions stay when each in turn, from the strongest on, removes all others within `radius`.

    Ties go to the first.
    """
    return strongest_of(strength, *candidates(positions, positions, radius))


def strongest_of(
    strength: Float[Tensor, " n"], i: Int[Tensor, " c"], j: Int[Tensor, " c"], near: Bool[Tensor, " c"]
) -> Bool[Tensor, " n"]:
    """See `strongest_first`, of some pairs among which those are `near` that remove each other.

    All local winners are decided at once, so a few rounds suffice.
    """
    n, device = len(strength), strength.device
    rank = torch.empty(n, dtype=torch.long, device=device)
    rank[torch.argsort(strength, descending=True, stable=True)] = torch.arange(n, device=device)
    removes = near & (rank[i] > rank[j])  # j may remove i
    undecided = torch.ones(n, dtype=torch.bool, device=device)
    kept = torch.zeros_like(undecided)

    def reached(by: Tensor) -> Tensor:
        """Which positions a stronger one of the given ones is near to."""
        hits = torch.zeros(n, dtype=torch.int32, device=device)
        return hits.index_add_(0, i, (by[j] & removes).int()) > 0

    for number in count(1):  # what is decided stays so, and one more round does no harm
        winners = undecided & ~reached(undecided)
        kept |= winners
        undecided &= ~(winners | reached(winners))
        if len(i) == 0 or (number % _LOOK == 0 and not bool(undecided.any())):
            break
    return kept


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Columns that share information with each other, as tables with one row for each column.

    Attributes
    ----------
    later : Tensor of shape (n, k), int64
        The neighbours of each column that have a greater number; n stands for none.
    every : Tensor of shape (n, l), int64
        All its neighbours; n stands for none.
    block : Tensor of shape (n, l), int64
        Which of the n k entries of `later` tells what it shares with each of `every`; n k more where that is the
        transposed one; 2 n k for none.
    """

    later: Int[Tensor, "n k"]
    every: Int[Tensor, "n l"]
    block: Int[Tensor, "n l"]

    @staticmethod
    def within(positions: Float[Tensor, "n 2"], radius: float) -> "Neighbours":
        """Those of positions at most `radius` apart."""
        n, device = len(positions), positions.device
        i, j, near = candidates(positions, positions, radius)
        near = near & (i != j)
        counts = near.new_zeros(2, n, dtype=torch.long)
        counts[0].index_add_(0, i, (near & (i < j)).long())
        counts[1].index_add_(0, i, near.long())
        width, most, pairs = torch.cat([counts.amax(1), near.sum()[None]]).tolist() if n else (0, 0, 0)
        # In an order that the positions have no part in: sums are taken in it.
        key = torch.where(near, i * n + j, n * n).sort().values[:pairs]
        i, j = key // max(n, 1), key % max(n, 1)
        place = within_group(i)
        every, block = (
            torch.full((n, most), n, device=device),
            torch.full((n, most), 2 * n * width, device=device),
        )
        every[i, place] = j
        # Neighbours come by number: those that are later are the last, and the first of a column's own table.
        slot = place - (counts[1] - counts[0])[i]
        later = torch.full((n, width + 1), n, device=device)
        later[i, torch.where(slot >= 0, slot, width)] = torch.where(slot >= 0, j, n)
        own = i * width + slot
        entry = torch.empty(pairs, dtype=torch.long, device=device)
        swapped = torch.argsort(j * n + i)  # the same pairs, seen from the other
        entry[swapped] = own
        block[i, place] = torch.where(slot >= 0, own, entry + n * width)
        return Neighbours(later[:, :width], every, block)

    def shared(
        self, blocks: Float[Tensor, "n k 3 3"], rows: Int[Tensor, " r"] | slice
    ) -> Float[Tensor, "r l 3 3"]:
        """For some columns and their neighbours the block of derivatives (of the one, of the other); zero for none."""
        once = blocks.flatten(0, 1)
        return torch.cat([once, once.mT, once.new_zeros(1, 3, 3)])[self.block[rows]]
