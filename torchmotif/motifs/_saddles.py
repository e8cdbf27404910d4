"""The saddle between two peaks: whether columns along an axis are two kinds, or vary continuously."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from torchmotif.motifs._mixture import Pairs, Points, ahead

__all__ = ["saddle_ratios"]

_BINS = 512  # of the values of columns along one axis; also places between two peaks
_LEAPS_1D = 5  # along one axis
# Along it, a limit of the loop: 8 move nothing, 3 move TiWSe2 by up to 0.07 in AMI.
_MOST_COMPONENTS = 5
# Standard errors of its variance, by which a peak may be wider than it came out: with none, 11 of 540 continua had a saddle,
# so 2 have. Of rare motifs that would be more than there is; a quarter of the noise's variance is the most.
_PEAK_ERRORS, _MOST_WIDER = 2.0, 0.25


def saddle_ratios(points: Points, odds: Float[Tensor, "p w b"], pairs: Pairs) -> Float[Tensor, "g b"]:
    """Lowest density, without the noise, between the highest peaks on both sides of a threshold, over the lower peak.

    1 where there is no saddle, towards 0 where the components stand apart. The density along the discriminant is a mixture of as
    many Gaussians as the Bayesian information criterion supports, each of at least the noise's variance, 1, which is then
    taken away from them. The search begins with the two components; the threshold is midway between them, as a rare one that is hard
    to tell lies where the common one is still the likelier.
    """
    length = pairs.discriminant[..., :-1].norm(dim=-1).clamp(min=1e-12)
    prior = pairs.share.logit(1e-6)
    values = (odds - prior[points.group][:, None]) / length[points.group][:, None]
    x, sums = _histograms(points, values, odds.sigmoid())
    g, b = length.shape
    x, sums, n = x.flatten(0, 1), sums.flatten(0, 1), points.count.repeat_interleave(b)
    weight = sums.sum(1)
    mixture, best = _best_along(x, weight, (sums / weight.clamp(min=1e-12)[:, None])[:, None])
    grows = torch.ones_like(n, dtype=torch.bool)
    while mixture.shape[2] < _MOST_COMPONENTS:
        larger, likelihood = _best_along(x, weight, _with_one_split(x, mixture))
        grows = grows & (2 * (likelihood - best) >= 3 * n.log())
        if not bool(grows.any()):
            break
        none = torch.zeros_like(mixture[:, :, :1])
        none[0], none[2] = -math.inf, 1.0
        mixture = torch.where(grows[:, None], larger, torch.cat([mixture, none], 2))
        best = torch.where(grows, likelihood, best)
    return _saddles(mixture, n).view(g, b)


def _histograms(points: Points, values: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Places (g, b, bins) along each axis, and the weights (g, b, 2, bins) of both components there."""
    weight, b = points.weighted[..., -1:], values.shape[2]
    mine = points.group == torch.arange(len(points.count), device=values.device)[:, None]
    ends = [
        torch.where(mine[..., None], torch.where(weight > 0, sign * values, math.inf).amin(1), math.inf).amin(
            1
        )
        for sign in (1, -1)
    ]
    low, width = ends[0], (-ends[1] - ends[0]).clamp(min=1e-6) / (_BINS - 1)
    steps = torch.arange(_BINS, dtype=values.dtype, device=values.device)
    bins = ((values - low[points.group][:, None]) / width[points.group][:, None]).round().clamp(0, _BINS - 1)
    axis = points.group[:, None, None] * b + torch.arange(b, device=values.device)
    place = (axis * 2 * _BINS + torch.where(weight > 0, bins, 0.0).long()).flatten()
    sums = values.new_zeros(len(points.count) * b * 2 * _BINS)
    sums.index_add_(0, place, ((1 - second) * weight).flatten()).index_add_(
        0, place + _BINS, (second * weight).flatten()
    )
    return low[..., None] + width[..., None] * steps, sums.view(-1, b, 2, _BINS)


def _best_along(
    x: Float[Tensor, "b p"], weight: Float[Tensor, "b p"], responsibilities: Float[Tensor, "b s c p"]
) -> tuple[Float[Tensor, "3 b c"], Float[Tensor, " b"]]:
    """The most likely mixtures (log share, mean, variance) along each axis from s starts, and their log-likelihoods."""
    b, s, c, _ = responsibilities.shape
    middle = (x * weight).sum(-1, keepdim=True) / weight.sum(-1, keepdim=True)
    x = x - middle
    # All starts of all axes are one batch.
    powers, of_columns = (part.repeat_interleave(s, 0) for part in (_powers(x), weight[:, None]))
    weighted = (torch.stack([torch.ones_like(x), x, x.square()], 2) * weight[..., None]).repeat_interleave(
        s, 0
    )
    whole = of_columns.sum(-1)

    def mixture(sums: Float[Tensor, "bs c 3"]) -> tuple[Tensor, Tensor, Tensor]:
        count, first, second = sums.unbind(-1)
        count = count.clamp(min=1e-9)
        mean = first / count
        return count, mean, torch.addcmul(second / count, mean, mean, value=-1).clamp(min=1.0)

    def stepped(sums: Float[Tensor, "bs c 3"]) -> Float[Tensor, "bs c 3"]:
        return torch.bmm(torch.bmm(_natural(*mixture(sums)), powers).softmax(1), weighted)

    sums = torch.bmm(responsibilities.flatten(0, 1), weighted)
    for _ in range(_LEAPS_1D):
        one = stepped(sums)
        sums = stepped(ahead(sums, one, stepped(one)))
    count, mean, variance = mixture(sums)
    share = count / whole
    joint = torch.bmm(_natural(share, mean, variance), powers)
    likelihood = (joint.logsumexp(1) * of_columns[:, 0]).sum(-1).view(b, s)
    best = likelihood.argmax(1)
    chosen = best[None, :, None, None].expand(3, -1, 1, c)
    parts = torch.stack([share.log(), mean, variance]).view(3, b, s, c).gather(2, chosen)[:, :, 0]
    parts[1] += middle
    return parts, likelihood.gather(1, best[:, None])[:, 0]


def _powers(x: Float[Tensor, "b p"]) -> Float[Tensor, "b 3 p"]:
    """What the logarithm of a Gaussian's density is linear in."""
    return torch.stack([torch.ones_like(x), x, -0.5 * x.square()], 1)


def _natural(share: Tensor, mean: Tensor, variance: Tensor) -> Float[Tensor, "... c 3"]:
    """From these powers of a place to the logarithm of share times density there, but for a constant."""
    root = variance.rsqrt()
    precision = root.square()
    slope = mean * precision
    return torch.stack([torch.addcmul((share * root).log(), slope, mean, value=-0.5), slope, precision], -1)


def _with_one_split(x: Float[Tensor, "b p"], mixture: Float[Tensor, "3 b c"]) -> Float[Tensor, "b c c1 p"]:
    """Responsibilities where each component in turn is parted at its mean."""
    log_share, mean, variance = mixture
    present = torch.bmm(_natural(log_share.exp(), mean, variance), _powers(x)).softmax(1)
    below = torch.sigmoid(4 * (mean[..., None] - x[:, None]) / variance.sqrt()[..., None])
    own = torch.eye(mixture.shape[2], dtype=x.dtype, device=x.device)[None, :, :, None]
    kept = present[:, None] * (1 - own * (1 - below[:, :, None]))
    return torch.cat([kept, (present * (1 - below))[:, :, None]], dim=2)


def _saddles(mixture: Float[Tensor, "3 b c"], n: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Those of mixtures of n values, parted at 0, without the noise; no narrower peaks than n values can tell."""
    log_share, mean, variance = mixture
    error = variance * (2 / (n[:, None] * log_share.exp()).clamp(min=1)).sqrt()  # of a Gaussian's variance
    bare = torch.stack([log_share, mean, variance - 1 + (_PEAK_ERRORS * error).clamp(max=_MOST_WIDER)])

    def density(x: Float[Tensor, "b p"]) -> Tensor:
        centred = x[:, None] - bare[1][..., None]  # not by powers: bare peaks are narrow and may be far off
        exponent = bare[0] - 0.5 * bare[2].log()
        return (exponent[..., None] - 0.5 * centred.square() / bare[2][..., None]).logsumexp(1)

    # The density at the components' means stands for that at the modes.
    peak, present = density(mean), log_share > -math.inf
    sides = [
        torch.where((mean <= 0) == below, peak, -math.inf).masked_fill(~present, -math.inf)
        for below in (True, False)
    ]
    (low, at_low), (high, at_high) = (side.max(1) for side in sides)
    steps = torch.linspace(0, 1, _BINS, dtype=mean.dtype, device=mean.device)
    ends = [mean.gather(1, at[:, None]) for at in (at_low, at_high)]
    bottom = density(torch.lerp(ends[0], ends[1], steps[None])).amin(1)
    ratio = (bottom - torch.minimum(low, high)).exp().clamp(max=1.0)
    return torch.where(torch.isfinite(low) & torch.isfinite(high), ratio, 1.0)
