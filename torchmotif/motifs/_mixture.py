"""Mixtures of two Gaussians, neither narrower than the noise, many of them at once; and the saddle between two peaks."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["Pairs", "Points", "saddle_ratios"]

# Least variance of a component before it is widened to that of the noise, 1: a bound of what float32 can invert, which no
# specimen measured reaches.
_NARROWEST = 0.3
_NEWTON = 3  # steps of Newton's method to the least variance; within the steps of expectation and maximisation one each
_LOOK = 3  # leaps between two looks at whether it converged, at each of which the host waits
_MOST_LOST = 0.5  # of the smaller component that a leap may add or take
_FURTHEST = 16.0  # times the way of two steps that a leap may go
_CONVERGED = 1e-4  # change of the shares and mean positions in one step
_BINS = 512  # of the values of columns along one axis
_LEAPS_1D = 8  # along one axis
_MOST_COMPONENTS = 5  # along it
_SADDLE_POINTS = 129  # at which the density between two peaks is looked at
# Standard errors of its variance, by which a peak may be wider than it came out: with none, 11 of 540 continua had a saddle,
# so 2 have. Of rare motifs that would be more than there is; a quarter of the noise's variance is the most.
_PEAK_ERRORS, _MOST_WIDER = 2.0, 0.25


@dataclass(frozen=True, eq=False)
class Points:
    """Columns of g groups as coordinates, in blocks that each hold columns of one group.

    Coordinates are those in which the noise is the identity and the columns of a group are centred and uncorrelated.
    """

    x: Float[Tensor, "p w q1"]  # coordinates, and 1; nothing but 0 where a block has no column
    weighted: Float[Tensor, "p w q1"]  # the same times the weight of each column
    group: Int[Tensor, " p"]
    count: Float[Tensor, " g"]  # sum of the weights
    variance: Float[Tensor, "g q"]  # of each coordinate

    @cached_property
    def bounded(self) -> Float[Tensor, "g 1 q"]:
        """The variances, none less than the noise's."""
        return self.variance[:, None].clamp(min=1.0)

    @cached_property
    def inverses(self) -> Float[Tensor, "g q 2"]:
        """Of these variances, and of what they are above the least that is inverted."""
        variance = self.bounded[:, 0]
        return torch.stack([1 / variance, 1 / (variance - _NARROWEST)], -1)

    @cached_property
    def whole(self) -> Float[Tensor, "g 1"]:
        """Number of columns."""
        return self.count[:, None]

    @cached_property
    def ends(self) -> tuple[Float[Tensor, "g 1"], Float[Tensor, "g 1"]]:
        """The least and the greatest number of columns of a component."""
        return 1e-6 * self.whole, (1 - 1e-6) * self.whole

    @cached_property
    def units(self) -> Float[Tensor, "g 1 q1"]:
        """What sums of coordinates, and numbers of columns, are small beside."""
        return (F.pad(self.variance.sqrt(), (0, 1), value=1.0) * self.whole)[:, None]

    def odds(self, pairs: "Pairs") -> Float[Tensor, "p w b"]:
        """Logarithm of the odds of the second component."""
        return self.along(pairs.discriminant)

    def along(self, direction: Float[Tensor, "g b q1"]) -> Float[Tensor, "p w b"]:
        """Places of the columns along directions of their groups."""
        return torch.bmm(self.x, direction[self.group].mT)

    def sums(self, responsibilities: Float[Tensor, "p w b"]) -> Float[Tensor, "g b q1"]:
        """What the second components hold: sums of the coordinates, and number of columns."""
        return self.total(torch.bmm(responsibilities.mT, self.weighted))

    def total(self, of_blocks: Float[Tensor, "p ..."]) -> Float[Tensor, "g ..."]:
        """Sum over the blocks of each group."""
        sums = of_blocks.new_zeros(len(self.count), *of_blocks.shape[1:])
        return sums.index_add_(0, self.group, of_blocks)


class Pairs(NamedTuple):
    """b mixtures for each of g groups: two Gaussians with one covariance, that of all columns less what the means explain.

    With the scatter S of the columns diagonal, the covariance S - c d d' of means d apart has the inverse and the determinant of
    a rank-one change (Sherman & Morrison, 1950), so that no step needs a decomposition. Of its variances one at most, u, is less
    than the noise's, 1; along its axis v, the covariance is widened to 1. It solves the secular equation
    sum of c d^2 / (S - u) = 1 (Golub, 1973), and v is along d / (S - u).

    A mixture follows from the sums of its second component alone: as the columns of a group are centred, both means are along
    the sum of the coordinates.
    """

    sums: Float[
        Tensor, "g b q1"
    ]  # of coordinates of the second component, along its axes, and its number of columns
    whole: Float[Tensor, "g b"]  # number of columns
    explained: Float[Tensor, "g b"]  # c
    narrowest: Float[Tensor, "g b"]  # u, at most 1
    discriminant: Float[Tensor, "g b q1"]  # from coordinates and 1 to the log-odds of the second

    @classmethod
    def maximising(
        cls,
        points: Points,
        sums: Float[Tensor, "g b q1"],
        axes: Float[Tensor, "... b q"],
        narrowest: Tensor | None = None,
    ) -> "Pairs":
        """The most likely mixtures where the second components hold `sums`; each has means along its axes only.

        The least variance is found by Newton's method, from a guess.
        """
        guess = torch.ones_like(sums[..., -1]) if narrowest is None else narrowest
        step = _Step.of(points, sums, axes, guess)
        square, narrowest = step.pull.square(), step.narrowest
        for _ in range(_NEWTON):
            _, tilt, steep = _secular(points, square, narrowest)
            narrowest = _bettered(step.power, tilt, steep, narrowest)
        step = _Step.of(points, sums, axes, narrowest)
        return cls(
            torch.cat([step.pull, step.second[..., None]], -1),
            points.whole.expand_as(step.second),
            step.power / step.lever.square(),
            narrowest,
            step.discriminant,
        )

    @property
    def share(self) -> Float[Tensor, "g b"]:
        """Of the second component."""
        return self.sums[..., -1] / self.whole

    @property
    def first(self) -> Float[Tensor, "g b q"]:
        """Mean of the first component."""
        return self.sums[..., :-1] / (self.sums[..., -1] - self.whole)[..., None]

    @property
    def step(self) -> Float[Tensor, "g b q"]:
        """From it to the mean of the second."""
        return self.sums[..., :-1] / self.sums[..., -1:] - self.first

    def gains(self, points: Points, odds: Float[Tensor, "p w b"]) -> Float[Tensor, "g b"]:
        """Log-likelihood over that of one Gaussian."""
        truth, variance = points.variance[:, None], points.bounded
        first, step = self.first, self.step
        square = step.square() / variance
        left = 1 - self.explained * square.sum(-1)
        along = (step * first / variance).sum(-1).square() + (square * truth / variance).sum(-1)
        axis = step / _gap(variance, self.narrowest)
        wide = (axis.square() * truth).sum(-1) + (axis * first).sum(-1).square()
        wide = (1 / self.narrowest - 1) * wide / axis.square().sum(-1).clamp(min=1e-12)
        root = left.log() - self.narrowest.log()
        fixed = torch.log1p(-self.share) - 0.5 * (
            self.explained / left * along + (first.square() / variance).sum(-1) - wide + root
        )
        free = points.total((points.weighted[..., -1:].mT @ F.softplus(odds))[:, 0].double())
        return free + self.whole * fixed

    def detectability(self) -> Float[Tensor, "g b"]:
        """Distance between the components in standard deviations of one column (d' of signal detection)."""
        return (self.discriminant[..., :-1] * self.step).sum(-1).sqrt()

    def at(self, which: Int[Tensor, "g c"]) -> "Pairs":
        """Some of the mixtures of each group."""
        return Pairs(*(part.gather(1, _along(which, part)) for part in self))

    @classmethod
    def after(cls, points: Points, sums: Tensor, axes: Float[Tensor, "... b q"], steps: int) -> "Pairs":
        """The mixtures so many steps of expectation and maximisation after second components that hold `sums`."""
        narrowest = torch.ones_like(sums[..., -1])
        for _ in range(steps):
            step = _Step.of(points, sums, axes, narrowest)
            sums, narrowest = step.expected(points), step.narrowest
        return cls.maximising(points, sums, axes, narrowest)

    def settled(self, points: Points, axes: Float[Tensor, "g b q"], most: int) -> "Pairs":
        """The mixtures when they no longer change, or after so many leaps."""
        sums, narrowest, along = self.sums, self.narrowest, axes
        all_sums, all_narrowest = sums, narrowest
        which = torch.arange(self.whole.shape[1], device=axes.device).expand_as(self.whole)
        for leaps in range(0, most, _LOOK):
            sums, narrowest, changing = _leapt(points, sums, along, narrowest, min(_LOOK, most - leaps))
            all_sums = all_sums.scatter(1, _along(which, sums), sums)
            all_narrowest = all_narrowest.scatter(1, which, narrowest)
            left = int(changing.sum(1).max()) if leaps + _LOOK < most else 0
            if not left:
                break
            first = torch.argsort((~changing).to(torch.uint8), dim=1, stable=True)[:, :left]
            which, narrowest = which.gather(1, first), narrowest.gather(1, first)
            sums, along = (part.gather(1, _along(first, part)) for part in (sums, along))
        return Pairs.maximising(points, all_sums, axes, all_narrowest)


class _Step(NamedTuple):
    """What a step of maximisation makes of the sums of second components; see `Pairs`."""

    pull: Float[Tensor, "g b q"]  # the sums along the axes of each
    second: Float[Tensor, "g b"]  # number of columns of the second component
    lever: Float[Tensor, "g b"]  # from the pull to the step between the means
    power: Float[Tensor, "g b"]  # c, for the pull in place of the step
    narrowest: Float[Tensor, "g b"]  # the least variance for the next step, by one step of Newton's method
    discriminant: Float[Tensor, "g b q1"]  # with the least variance as it was

    def expected(self, points: Points) -> Float[Tensor, "g b q1"]:
        """What the second components hold by the odds."""
        return points.sums(points.along(self.discriminant).sigmoid_())

    @classmethod
    def of(cls, points: Points, sums: Tensor, axes: Tensor, narrowest: Tensor) -> "_Step":
        """From sums, and the least variances of the step before."""
        second = sums[..., -1].clamp(*points.ends)
        pull = sums[..., :-1] * axes
        square, rest = pull.square(), points.whole - second
        flat, least = torch.bmm(square, points.inverses).unbind(-1)
        product = second * rest
        lever = points.whole / product
        power = torch.minimum(1 / product, 1 / least.clamp(min=1e-12))
        inverse, tilt, steep = _secular(points, square, narrowest)
        bare, widening = lever / (1 - power * flat), lever * (1 / narrowest - 1) * tilt / steep
        direction = pull * (bare[..., None] / points.bounded - widening[..., None] * inverse)
        # Half of the way between the means is along the pull, too.
        middle = (0.5 - second / points.whole) * lever * (bare * flat - widening * tilt)
        bias = (second / rest).log() - middle
        discriminant = torch.cat([direction, bias[..., None]], -1)
        better = _bettered(power, tilt, steep, narrowest)
        return cls(pull, second, lever, power, better, discriminant)


def _leapt(
    points: Points, sums: Tensor, axes: Float[Tensor, "... b q"], narrowest: Tensor, leaps: int
) -> tuple[Float[Tensor, "g b q1"], Float[Tensor, "g b"], Bool[Tensor, "g b"]]:
    """What second components hold some leaps later, the least variances, and which mixtures still change.

    A leap is two steps of expectation and maximisation, as far as they lead (`_ahead`), and one more step from there.
    """
    scale = 1 / points.units
    for _ in range(leaps):
        step = _Step.of(points, sums, axes, narrowest)
        one = step.expected(points)
        step = _Step.of(points, one, axes, step.narrowest)
        two = step.expected(points)
        before, second = _ahead(sums, one, two, scale), two[..., -1:]
        # A leap that would empty a component is not made.
        room = _MOST_LOST * torch.minimum(second, points.whole[..., None] - second)
        before = torch.where((before[..., -1:] - second).abs() < room, before, two)
        step = _Step.of(points, before, axes, step.narrowest)
        sums, narrowest = step.expected(points), step.narrowest
    changing = ((sums - before).abs() > _CONVERGED * points.units) & (F.pad(axes, (0, 1), value=1.0) > 0)
    return sums, narrowest, changing.any(-1)


def _secular(
    points: Points, square: Float[Tensor, "g b q"], narrowest: Float[Tensor, "g b"]
) -> tuple[Float[Tensor, "g b q"], Float[Tensor, "g b"], Float[Tensor, "g b"]]:
    """One over what the scatter is above a variance; the sum of the secular equation there, and its slope."""
    inverse = 1 / _gap(points.bounded, narrowest)
    parts = square * inverse
    return inverse, parts.sum(-1), (parts * inverse).sum(-1).clamp(min=1e-12)


def _bettered(power: Tensor, tilt: Tensor, steep: Tensor, narrowest: Tensor) -> Tensor:
    """The least variance after one step of Newton's method on one over the secular equation, which is nearly straight."""
    share = power * tilt
    return (narrowest + (share - share.square()) / (power * steep)).clamp(_NARROWEST, 1.0)


def _ahead(sums: Tensor, one: Tensor, two: Tensor, scale: Tensor | float = 1.0) -> Tensor:
    """Where two steps lead that go on shrinking as they do (SQUAREM, Varadhan & Roland, 2008)."""
    speed = one - sums
    slowing = two - one - speed
    far = (speed * scale).norm(dim=-1, keepdim=True) / (slowing * scale).norm(dim=-1, keepdim=True)
    far = far.nan_to_num(1.0).clamp(1.0, _FURTHEST)
    ahead: Tensor = sums + far * (2 * speed + far * slowing)
    return ahead


def _gap(variance: Tensor, narrowest: Tensor) -> Tensor:
    """By how much the scatter along each axis is more than the least variance."""
    return (variance - narrowest[..., None]).clamp(min=1e-6)


def _along(which: Int[Tensor, "g c"], part: Tensor) -> Tensor:
    """Indices along the second dimension, for all that lie beyond it."""
    return which if part.ndim == 2 else which[..., None].expand(-1, -1, part.shape[2])


def saddle_ratios(points: Points, odds: Float[Tensor, "p w b"], pairs: Pairs) -> Float[Tensor, "g b"]:
    """Lowest density, without the noise, between the highest peaks on both sides of a threshold, over the lower peak.

    1 where there is no saddle, towards 0 where the components stand apart. The density along the discriminant is a mixture of as
    many Gaussians as the Bayesian information criterion supports, each of at least the noise's variance, 1, which is then
    taken away from them. The search begins with the two components; the threshold is where they are equally likely.
    """
    length = pairs.discriminant[..., :-1].norm(dim=-1).clamp(min=1e-12)
    values = odds / length[points.group][:, None]
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
    b, s, c, p = responsibilities.shape
    middle = (x * weight).sum(-1, keepdim=True) / weight.sum(-1, keepdim=True)
    x = x - middle
    powers = torch.stack([torch.ones_like(x), x, x.square()], 1)
    weighted = (powers * weight[:, None]).mT.contiguous()
    whole = weight.sum(-1)[:, None]

    def mixture(sums: Float[Tensor, "b sc 3"]) -> tuple[Tensor, Tensor, Tensor]:
        count, first, second = sums.unbind(-1)
        count = count.clamp(min=1e-9)
        mean = first / count
        variance = torch.addcmul(second / count, mean, mean, value=-1).clamp(min=1.0)
        return (count / whole).log(), mean, variance

    def stepped(sums: Float[Tensor, "b sc 3"]) -> Float[Tensor, "b sc 3"]:
        present = torch.bmm(_natural(*mixture(sums)), powers).view(b, s, c, p).softmax(2)
        return torch.bmm(present.view(b, s * c, p), weighted)

    sums = torch.bmm(responsibilities.reshape(b, s * c, p), weighted)
    for _ in range(_LEAPS_1D):
        one = stepped(sums)
        sums = stepped(_ahead(sums, one, stepped(one)))
    parts = mixture(sums)
    joint = torch.bmm(_natural(*parts), powers).view(b, s, c, p)
    likelihood = (joint.logsumexp(2) * weight[:, None]).sum(-1)
    best = likelihood.argmax(1)
    log_share, mean, variance = parts
    chosen = best[None, :, None, None].expand(3, -1, 1, c)
    whole_mixture = torch.stack([log_share, mean + middle, variance]).view(3, b, s, c)
    return whole_mixture.gather(2, chosen)[:, :, 0], likelihood.gather(1, best[:, None])[:, 0]


def _natural(log_share: Tensor, mean: Tensor, variance: Tensor) -> Float[Tensor, "... c 3"]:
    """From the powers 0, 1 and 2 of a place to the logarithm of share times density there, but for a constant."""
    slope = mean / variance
    level = log_share - 0.5 * torch.addcmul(variance.log(), slope, mean)
    return torch.stack([level, slope, -0.5 / variance], -1)


def _with_one_split(x: Float[Tensor, "b p"], mixture: Float[Tensor, "3 b c"]) -> Float[Tensor, "b c c1 p"]:
    """Responsibilities where each component in turn is parted at its mean."""
    powers = torch.stack([torch.ones_like(x), x, x.square()], 1)
    present = torch.bmm(_natural(*mixture.unbind(0)), powers).softmax(1)
    _, mean, variance = mixture
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
    steps = torch.linspace(0, 1, _SADDLE_POINTS, dtype=mean.dtype, device=mean.device)
    ends = [mean.gather(1, at[:, None]) for at in (at_low, at_high)]
    bottom = density(torch.lerp(ends[0], ends[1], steps[None])).amin(1)
    ratio = (bottom - torch.minimum(low, high)).exp().clamp(max=1.0)
    return torch.where(torch.isfinite(low) & torch.isfinite(high), ratio, 1.0)
