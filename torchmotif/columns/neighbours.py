"""Neighbours within a distance, on the device of the positions."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["pairs_within", "strongest_first"]


def pairs_within(
    positions: Float[Tensor, "n 2"], radius: float
) -> tuple[Int[Tensor, " p"], Int[Tensor, " p"]]:
    """All ordered pairs (i, j), i != j, of positions at most `radius` apart; linear in their number.

    Positions are sorted into square cells of side `radius`; the candidates of a position are the three runs of
    sorted positions that fill the three rows of cells around it.
    """
    n, device = len(positions), positions.device
    if n < 2:
        none = torch.zeros(0, dtype=torch.long, device=device)
        return none, none
    cell = ((positions - positions.min(dim=0).values) / radius).long()
    width = int(cell[:, 1].max()) + 3
    key = cell[:, 0] * width + cell[:, 1] + 1
    ordered, order = torch.sort(key)
    first, count = [], []
    for row in (-width, 0, width):
        begin = torch.searchsorted(ordered, key + (row - 1))
        first.append(begin)
        count.append(torch.searchsorted(ordered, key + (row + 1), right=True) - begin)
    starts, counts = torch.cat(first), torch.cat(count)
    run = torch.repeat_interleave(counts)
    within = torch.arange(len(run), device=device) - (counts.cumsum(0) - counts)[run]
    i, j = run % n, order[starts[run] + within]
    near = (positions[i] - positions[j]).square().sum(dim=1) <= radius**2
    near &= i != j
    return i[near], j[near]


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
    weaker = rank[i] > rank[j]  # j may remove i
    i, j = i[weaker], j[weaker]
    open_ = torch.ones(len(positions), dtype=torch.bool, device=positions.device)
    kept = torch.zeros_like(open_)
    while bool(open_.any()):
        beaten = torch.zeros_like(open_)
        beaten[i[open_[j]]] = True
        winners = open_ & ~beaten
        kept |= winners
        removed = torch.zeros_like(open_)
        removed[i[winners[j]]] = True
        open_ &= ~(winners | removed)
    return kept
