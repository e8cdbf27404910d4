"""Neighbours within a distance, on the device of the positions."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["as_index", "pairs_within", "strongest_first"]

_ROW = 1 << 31  # cells from one row of cells to the next: more than there are


def as_index(which: Tensor) -> Int[Tensor, " k"]:
    """Numbers of the rows that a mask or an index picks: each indexing by a mask has the host wait for its size."""
    return torch.nonzero(which)[:, 0] if which.dtype == torch.bool else which


def pairs_within(
    positions: Float[Tensor, "n 2"], radius: float, *, once: bool = False
) -> tuple[Int[Tensor, " p"], Int[Tensor, " p"]]:
    """All ordered pairs (i, j), i != j, of positions at most `radius` apart; with `once` those with i < j.

    Linear in their number.

    Positions are sorted into square cells of side `radius`; the candidates of a position are the three runs of
    sorted positions that fill the three rows of cells around it.
    """
    n, device = len(positions), positions.device
    if n < 2:
        none = torch.zeros(0, dtype=torch.long, device=device)
        return none, none
    cell = ((positions - positions.min(dim=0).values) / radius).long()
    key = cell[:, 0] * _ROW + cell[:, 1] + 1
    ordered, order = torch.sort(key)
    first, count = [], []
    for row in (-_ROW, 0, _ROW):
        begin = torch.searchsorted(ordered, key + (row - 1))
        first.append(begin)
        count.append(torch.searchsorted(ordered, key + (row + 1), right=True) - begin)
    starts, counts = torch.cat(first), torch.cat(count)
    run = torch.repeat_interleave(counts)
    within = torch.arange(len(run), device=device) - (counts.cumsum(0) - counts)[run]
    i, j = run % n, order[starts[run] + within]
    near = (positions[i] - positions[j]).square().sum(dim=1) <= radius**2
    near &= i < j if once else i != j
    kept = as_index(near)
    return i[kept], j[kept]


def strongest_first(
    positions: Float[Tensor, "n 2"], strength: Float[Tensor, " n"], radius: float
) -> Bool[Tensor, " n"]:
    """Which positions stay when each in turn, from the strongest on, removes all others within `radius`.

    Ties go to the first. All local winners are settled at once, so a few rounds suffice.
    """
    i, j = pairs_within(positions, radius)
    rank = torch.empty(len(positions), dtype=torch.long, device=positions.device)
    rank[torch.argsort(strength, descending=True, stable=True)] = torch.arange(
        len(positions), device=positions.device
    )
    weaker = as_index(rank[i] > rank[j])  # j may remove i
    i, j = i[weaker], j[weaker]
    open_ = torch.ones(len(positions), dtype=torch.bool, device=positions.device)
    kept = torch.zeros_like(open_)

    def reached(by: Tensor) -> Tensor:
        """Which positions a stronger one of the given ones is near to."""
        hits = torch.zeros(len(positions), dtype=torch.int32, device=positions.device)
        return hits.index_add_(0, i, by[j].int()) > 0

    while bool(open_.any()):
        winners = open_ & ~reached(open_)
        kept |= winners
        open_ &= ~(winners | reached(winners))
    return kept
