"""The saddle between two peaks: whether columns along an axis are two kinds, or vary continuously."""

import math
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from torchmotif.motifs._mixture import Pairs, Points, ahead

__all__ = ["saddle_ratios"]

_BINS = 512  # of the values of columns along one axis; also places between two peaks
# Along one axis, each of three steps: with 3, F1 of V_Se in six polycrystals is 0.983 for 0.993, with 10 it is 0.987 (one column more
# or less); of 26 other images only bilayers and one TiWSe2 move.
_LEAPS_1D = 8
# Standard errors of its variance, by which a peak may be wider than it came out: with none, 11 of 540 continua had a saddle,
# so 2 have. Of rare motifs that would be more than there is; a quarter of the noise's variance is the most.
_PEAK_ERRORS, _MOST_WIDER = 2.0, 0.25


def saddle_ratios(points: Points, odds: Float[Tensor, "p w b"], pairs: Pairs) -> Float[Tensor, "g b"]:
    """Lowest density, without the noise, between the highest peaks on both sides of a threshold, over the lower peak.

    1 where there is no saddle, towards 0 where the components stand apart. The density along the discriminant is a mixture of as
    many Gaussians as the Bayesian information criterion supports, each of at least the noise's variance, 1, which is then
    taken away from them. Two to four are tried at once, from the two components or from halves of these. The threshold is midway
    between the two, as a rare one that is hard to tell lies where the common one is still the likelier.
    """
    length = pairs.discriminant[..., :-1].norm(dim=-1).clamp(min=1e-12)
    prior = pairs.share.logit(1e-6)
    values = (odds - prior[points.group][:, None]) / length[points.group][:, None]
    x, sums = (part.flatten(0, 1) for part in _histograms(points, values, odds.sigmoid()))
    n = points.count.repeat_interleave(length.shape[1])
    return _saddles(_best_along(x, sums, n), n).view(length.shape)


def _histograms(points: Points, values: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Places (g, b, bins) along each axis, and the weights (g, b, 2, bins) of both components there."""
    weight, b = points.weighted[..., -1:], values.shape[2]
    there = torch.where(weight > 0, values, math.nan)
    none, of = values.new_full((len(points.count), b), math.inf), points.group[:, None].expand(-1, b)
    low = none.scatter_reduce(0, of, there.nan_to_num(math.inf).amin(1), "amin")
    high = (-none).scatter_reduce(0, of, there.nan_to_num(-math.inf).amax(1), "amax")
    width = (high - low).clamp(min=1e-6) / (_BINS - 1)
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
    x: Float[Tensor, "b p"], sums: Float[Tensor, "b 2 p"], n: Float[Tensor, " b"]
) -> Float[Tensor, "3 b c"]:
    """The mixtures (log share, mean, variance) along each axis that n columns support most, from two components."""
    starts = _starts(x.device)
    s, c = starts.dead.shape
    weight = sums.sum(1)
    middle = (x * weight).sum(-1, keepdim=True)
    x = x - middle
    places = torch.stack([torch.ones_like(x), x, x.square()], 1)
    _, mean, variance = _mixture(torch.bmm(sums, places.mT))
    below = torch.sigmoid((mean[..., None] - x[:, None]) * (4 * variance.rsqrt())[..., None]) * sums
    halves = torch.bmm(torch.stack([sums, below], 2).flatten(1, 2), places.mT)
    moments = torch.bmm(starts.parts.expand(len(x), -1, -1), halves)
    # All starts of all axes are one batch.
    moments, dead = moments.view(-1, c, 3), starts.dead.repeat(len(x), 1)
    powers = torch.stack([0.5 * places[:, 0], x, -0.5 * places[:, 2], places[:, 0]], 1).repeat_interleave(
        s, 0
    )
    weighted = (places * weight[:, None]).mT.repeat_interleave(s, 0)

    def joint(moments: Float[Tensor, "bs c 3"]) -> Float[Tensor, "bs c p"]:
        """Logarithm of share times density of each component, but for a constant."""
        share, mean, variance = _mixture(moments)
        precision = variance.reciprocal()
        slope = mean * precision
        constant = torch.addcmul((share.square() * precision).log(), slope, mean, value=-1)
        return torch.bmm(torch.stack([constant, slope, precision, dead], -1), powers)

    def stepped(moments: Float[Tensor, "bs c 3"]) -> Float[Tensor, "bs c 3"]:
        return torch.bmm(joint(moments).softmax(1), weighted)

    for _ in range(_LEAPS_1D):
        one = stepped(moments)
        moments = stepped(ahead(moments, one, stepped(one)))
    likelihood = n[:, None] * (joint(moments).logsumexp(1) * weighted[..., 0]).sum(-1).view(-1, s)
    best = (2 * likelihood - 3 * n.log()[:, None] * starts.components).argmax(1)
    share, mean, variance = _mixture(moments.view(-1, s, c, 3)[torch.arange(len(x), device=x.device), best])
    return torch.stack([share.log() + starts.dead[best], mean + middle, variance])


def _mixture(moments: Float[Tensor, "... c 3"]) -> tuple[Tensor, Tensor, Tensor]:
    """Share, mean and variance, at least that of the noise, of components that hold sums of 1, x and its square."""
    share, first, second = moments.unbind(-1)
    share = share.clamp(min=1e-9)
    mean = first / share
    return share, mean, torch.addcmul(second / share, mean, mean, value=-1).clamp(min=1.0)


class _Starts(NamedTuple):
    """Mixtures of two to four components: of two of them, either is whole or parted at its mean."""

    parts: Float[
        Tensor, "16 4"
    ]  # from both, and what of either lies below its mean, to the components of each start
    dead: Float[Tensor, "4 4"]  # 0, -inf where there is no component
    components: Float[Tensor, " 4"]  # their number


@lru_cache(maxsize=16)
def _starts(device: torch.device) -> _Starts:
    """Those on a device."""
    whole, parted = [[1.0, 0.0]], [[0.0, 1.0], [1.0, -1.0]]
    parts, components = torch.zeros(4, 4, 2, 2), []
    for start, (first, second) in zip(parts, product((whole, parted), repeat=2), strict=True):
        many = len(first) + len(second)
        start[: len(first), 0], start[len(first) : many, 1] = torch.tensor(first), torch.tensor(second)
        components.append(float(many))
    dead = torch.where((parts != 0).flatten(2).any(-1), 0.0, -torch.inf)
    # Sent in one piece.
    sent = (
        torch.cat([parts.flatten(), dead.flatten(), torch.tensor(components)]).to(device).split([64, 16, 4])
    )
    return _Starts(sent[0].view(16, 4), sent[1].view(4, 4), sent[2])


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
