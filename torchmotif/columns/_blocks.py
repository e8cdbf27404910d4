"""What the pixels tell of columns, of pairs of neighbours and of columns with the background under them."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torchmotif._windows import runs
from torchmotif.columns._profiles import Profiles, gaussians

__all__ = ["Blocks"]


class Blocks(NamedTuple):
    """The matrix of the normal equations for columns of intensity 1: it changes little from step to step."""

    own: Float[Tensor, "n 3 3"]
    shared: Float[Tensor, "n k 3 3"]  # with the neighbours of greater numbers
    to_nodes: Float[Tensor, "n 3 q"]
    nodes: Int[Tensor, "n q"]  # splines under a column, of all tiles

    @staticmethod
    def of(
        profile: Profiles,
        later: Float[Tensor, "n k 2"],
        weights: Float[Tensor, "th2 w2"],
        bases: tuple[Float[Tensor, "h a"], Float[Tensor, "w b"]],
        width: Float[Tensor, " 2"],
    ) -> "Blocks":
        """Of columns with their profiles and the places of their `later` neighbours, by the padded weights of the pixels."""
        parts = [_part(profile.at(part), later[part], weights, bases, width) for part in profile.chunks()]
        if not parts:
            parts = [_part(profile, later, weights, bases, width)]
        return Blocks(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _part(
    profile: Profiles,
    others: Float[Tensor, "c k 2"],
    padded: Float[Tensor, "th2 w2"],
    bases: tuple[Tensor, Tensor],
    width: Float[Tensor, " 2"],
) -> tuple[Tensor, ...]:
    """Information of columns with themselves, their later neighbours and the splines under them, and these."""
    n, k, s = len(profile), others.shape[1], profile.size
    pixel = profile.first[:, :, None] + torch.arange(s, device=padded.device)
    offset = (pixel[:, None] - others[..., None]).to(padded.dtype)
    left: list[Tensor] = []
    right: list[Tensor] = []
    nodes = []
    for axis, (basis, mine) in enumerate(zip(bases, (profile.rows, profile.cols), strict=True)):
        first, values = _splines(basis, pixel[:, axis])
        nodes.append(first)
        near = gaussians(offset[:, :, axis].reshape(n * k, s), width[axis], 2)
        both = torch.cat([mine[:, None, :2], near.view(n, k, 2, s)], dim=1)
        products = (
            (mine[:, None, :2, None] * both[:, :, None]).flatten(1, 3),
            (mine[:, :2, None] * values[:, None]).flatten(1, 2),
        )
        (left if axis == 0 else right).extend(products)
    sides = torch.bmm(torch.cat(left, dim=1), profile.windows(padded))
    near, under = sides.split([4 * (k + 1), sides.shape[1] - 4 * (k + 1)], dim=1)
    pairs = torch.bmm(near.reshape(-1, 4, s), right[0].view(-1, 4, s).mT).view(n, k + 1, 2, 2, 2, 2)
    # Intensity, row and column are the value along both axes, the derivative along rows, and that along columns.
    shared = pairs.permute(0, 1, 4, 2, 5, 3).reshape(n, k + 1, 4, 4)[:, :, :3, :3]
    q, p = (index.shape[1] for index in nodes)
    splines = torch.bmm(under, right[1].mT).view(n, 2, q, 2, p)
    to_nodes = splines.permute(0, 3, 1, 2, 4).reshape(n, 4, q * p)[:, :3]
    index = nodes[0][:, :, None] * bases[1].shape[1] + nodes[1][:, None, :]
    return shared[:, 0], shared[:, 1:], to_nodes, index.flatten(1)


def _splines(basis: Float[Tensor, "h a"], pixel: Int[Tensor, "n s"]) -> tuple[Tensor, Tensor]:
    """Numbers (n, q) of the splines that reach into windows along one axis, and their values (n, q, s) there."""
    length, count = basis.shape
    wide = min(count, 5)
    first = (pixel[:, 0] * (count - 3) // length).clamp(0, count - wide)
    inside = pixel.clamp(0, length - 1)  # beyond the border the weights are 0
    values = runs(basis, inside * count + first[:, None], wide).mT
    return first[:, None] + torch.arange(wide, device=first.device), values
