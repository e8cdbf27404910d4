"""Columns that are set aside: the few that differ from the others by the background under and beside them."""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchmotif._arrays import sent
from torchmotif.motifs._groups import FLAT, Groups
from torchmotif.motifs._split import Candidates

__all__ = ["hiding", "rests"]

# Times the scatter of the others, that all columns of a leaf have where what was set aside hides something. Beside contamination (A/B squares, patches 5 to 9 times as high as the columns) it is
# 16 to 61 times; a real image of WSe2 with Ti, whose background slopes, has 1.02 to 1.22, and its Se was seven motifs where it was looked at again (AMI with its authors' labels 0.89 -> 0.68).
_SCATTER = 2.0


def hiding(
    moments: Float[Tensor, "n l"], leaves: list[Int[Tensor, " m"]], others: dict[int, Int[Tensor, " r"]]
) -> dict[int, Int[Tensor, " r"]]:
    """Of the columns of leaves that were not set aside those beside which what was has most of the scatter of moments, but for flat ones."""
    if not others:
        return {}

    def scatter(columns: Int[Tensor, " m"]) -> Tensor:
        return moments[columns, FLAT:].var(0).sum()

    asked = [scatter(leaves[leaf]) > _SCATTER * scatter(rest) for leaf, rest in others.items()]
    hides = torch.stack(asked).tolist()
    return {leaf: rest for (leaf, rest), one in zip(others.items(), hides, strict=True) if one}


def rests(
    groups: Groups, found: Candidates, evidence: Float[np.ndarray, "g c"], parting: Bool[np.ndarray, "g c"]
) -> list[Int[Tensor, " r"] | None]:
    """Of each group the columns less those on the smaller sides of its `parting` candidates; None where it has no such candidate.

    The candidates are taken in order of their evidence, as long as more than half of the columns are left.
    """
    most = int(parting.sum(1).max())
    if not most:
        return [None] * len(parting)
    order = np.argsort(np.where(parting, -evidence, np.inf), axis=1, kind="stable")[:, :most]
    which, there = sent(np.stack([order, np.take_along_axis(parting, order, 1)]), groups.order)
    points = groups.points
    group, n = points.group, points.count[:, None]
    odds = found.odds.gather(2, which[group][:, None].expand(-1, found.odds.shape[1], -1))
    second = (odds > 0).float()
    many = (2 * points.mean(second) > 1).float()[group][:, None]  # of the columns are second
    aside = ((second - many).abs() * groups.present * there[group][:, None]).cummax(2).values
    left = n - points.total(aside.sum(1))
    last = (2 * left > n).sum(1, keepdim=True) - 1  # the last candidate that is taken, -1 for none
    of = last.clamp(min=0)
    aside = aside.gather(2, of[group][:, None].expand(-1, aside.shape[1], -1)) * (last >= 0)[group][:, None]
    parted = groups.order[torch.argsort(2 * groups.set + groups.of_columns(aside[..., 0] > 0), stable=True)]
    kept = torch.where(last < 0, n, left.gather(1, of))[:, 0].round().long().tolist()  # read at once
    sizes = [size for count, some in zip(groups.counts, kept, strict=True) for size in (some, count - some)]
    sides = parted.split(sizes)
    return [
        rest if 0 < len(rest) < count else None for rest, count in zip(sides[::2], groups.counts, strict=True)
    ]
