"""Elements that belong to numbered groups."""

import torch
from jaxtyping import Int
from torch import Tensor

__all__ = ["within_group"]


def within_group(group: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Running number of each element among those of its group; groups are ascending numbers, side by side."""
    place = torch.arange(len(group), device=group.device)
    new = torch.ones_like(group, dtype=torch.bool)
    new[1:] = group[1:] != group[:-1]
    return place - torch.where(new, place, 0).cummax(0).values if len(group) else place
