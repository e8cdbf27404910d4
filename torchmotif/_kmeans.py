"""k-means on whatever device the points lie on: all starts at once, few questions to the host."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["lloyd"]

_STARTS = 10  # of which the best is kept, as in scikit-learn's n_init=10
_MOST_STEPS, _LOOK = 300, 10  # of Lloyd's algorithm, and between two looks at whether it converged


def lloyd(points: Float[Tensor, "n d"], count: int, random_state: int) -> Int[Tensor, " n"]:
    """The cluster of every point, of least squared distance from the clusters' means (Lloyd, 1982).

    Parameters
    ----------
    points : Tensor of shape (n, d)
        At least `count` of them; in float64 or float32, which it computes in.
    count : int
        Clusters.
    random_state : int
        Seed of ten starts, drawn as k-means++ (Arthur & Vassilvitskii, 2007).

    Returns
    -------
    Tensor of shape (n,), int64
        In no order.

    Examples
    --------
    >>> lloyd(torch.tensor([[0.0], [0.1], [5.0]]), 2, 0).unique(return_counts=True)[1].sort().values
    tensor([1, 2])
    """
    centred = points - points.mean(0)  # a common offset would cost digits of the distances
    centres = _seeds(centred, count, torch.Generator().manual_seed(random_state))
    for step in range(1, _MOST_STEPS + 1):
        before = centres
        member = F.one_hot(_squares(centred, centres).argmin(2), count).to(centred)
        size = member.sum(1)[..., None]
        centres = torch.where(size > 0, member.mT @ centred / size.clamp(min=1), before)
        if step % _LOOK == 0 and bool(torch.equal(before, centres)):
            break
    squares = _squares(centred, centres)
    best = squares.amin(2).sum(1).argmin()
    labels: Tensor = squares.argmin(2).index_select(0, best[None])[0]
    return labels


def _squares(points: Float[Tensor, "n d"], centres: Float[Tensor, "s k d"]) -> Float[Tensor, "s n k"]:
    """Squared distances, less the points' own squares, which are the same for all centres."""
    return centres.square().sum(2)[:, None] - 2 * points @ centres.mT + points.square().sum(1)[:, None]


def _seeds(points: Float[Tensor, "n d"], count: int, generator: torch.Generator) -> Float[Tensor, "s k d"]:
    """Points far from one another: each is drawn with a probability as the square of its distance from those before."""
    draws = torch.rand(count, _STARTS, 1, generator=generator, dtype=torch.float64).to(points)
    first = (draws[0] * len(points)).long().clamp(max=len(points) - 1)
    centres = points[first]
    for draw in draws[1:]:
        squares = _squares(points, centres).clamp(min=0).amin(2)
        total = squares.cumsum(1)
        chosen = torch.searchsorted(total, draw * total[:, -1:]).clamp(max=len(points) - 1)
        centres = torch.cat([centres, points[chosen]], 1)
    return centres
