"""Mixtures of two Gaussians, neither narrower than the noise, many of them at once."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Pairs", "Points", "ahead"]

# Least variance of a component before it is widened to that of the noise, 1: a bound of what float32 can invert. Of 16 images only a
# twisted bilayer at full dose reaches it; at 0, AMI changes there by 0.002.
_NARROWEST = 0.3
_WIDEST = 1 - 1e-6  # what it is at most: the noise's variance, less what keeps its gap to that from being 0
# Of the smaller component that a leap may add or take: without it, a twisted bilayer at full dose, of 16 images, has 2 motifs for 24.
_MOST_LOST = 0.5
_FURTHEST = 16.0  # times the way of two steps that a leap may go


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
    def across(self) -> Float[Tensor, "p q1 w"]:
        """The coordinates, those of one axis after the other."""
        return self.x.mT

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
    def columns(self) -> Float[Tensor, "g 1 1"]:
        """The same for vectors."""
        return self.whole[..., None]

    @cached_property
    def one(self) -> Float[Tensor, "1"]:
        """What is taken from, in one operation."""
        return self.count.new_ones(1)

    @cached_property
    def half(self) -> Float[Tensor, "g 1 1"]:
        """Half of it."""
        return self.columns / 2

    @cached_property
    def ends(self) -> tuple[Float[Tensor, "g 1 1"], Float[Tensor, "g 1 1"]]:
        """The least and the greatest number of columns of a component."""
        return 1e-6 * self.columns, (1 - 1e-6) * self.columns

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

        The least variance is one step of Newton's method from a guess (g, b), which is that of the steps before.
        """
        guess = torch.full_like(sums[..., -1:], _WIDEST) if narrowest is None else narrowest[..., None]
        narrowest = _Step.of(points, sums, axes, guess).narrowest
        step = _Step.of(points, sums, axes, narrowest)
        return cls(
            torch.cat([step.pull, step.second], -1),
            points.whole.expand_as(step.second[..., 0]),
            (step.power / step.lever.square())[..., 0],
            narrowest[..., 0],
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
        scaled = step / variance
        square = step * scaled
        left = 1 - self.explained * square.sum(-1)
        along = (scaled * first).sum(-1).square() + (scaled.square() * truth).sum(-1)
        axis = step / _gap(variance, self.narrowest)
        power = axis.square()
        wide = (power * truth).sum(-1) + (axis * first).sum(-1).square()
        wide = (1 / self.narrowest - 1) * wide / power.sum(-1).clamp(min=1e-12)
        own = self.explained / left * along + (first.square() / variance).sum(-1)
        fixed = torch.log1p(-self.share) - 0.5 * (own - wide + (left / self.narrowest).log())
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
        narrowest = torch.full_like(sums[..., -1:], _WIDEST)
        for _ in range(steps):
            step = _Step.of(points, sums, axes, narrowest)
            sums, narrowest = step.expected(points), step.narrowest
        return cls.maximising(points, sums, axes, narrowest[..., 0])

    def settled(self, points: Points, axes: Float[Tensor, "g b q"], leaps: int) -> "Pairs":
        """The mixtures after so many leaps.

        A leap is two steps of expectation and maximisation, as far as they lead (`ahead`), and one more step from there.
        """
        sums, narrowest, scale = self.sums, self.narrowest[..., None], 1 / points.units
        for _ in range(leaps):
            step = _Step.of(points, sums, axes, narrowest)
            one = step.expected(points)
            step = _Step.of(points, one, axes, step.narrowest)
            two = step.expected(points)
            before, second = ahead(sums, one, two, scale), two[..., -1:]
            # A leap that would empty a component is not made.
            room = _MOST_LOST * torch.minimum(second, points.columns - second)
            before = torch.where((before[..., -1:] - second).abs() < room, before, two)
            step = _Step.of(points, before, axes, step.narrowest)
            sums, narrowest = step.expected(points), step.narrowest
        return Pairs.maximising(points, sums, axes, narrowest[..., 0])


class _Step(NamedTuple):
    """What a step of maximisation makes of the sums of second components; see `Pairs`. All but the vectors are (g, b, 1)."""

    pull: Float[Tensor, "g b q"]  # the sums along the axes of each
    second: Float[Tensor, "g b 1"]  # number of columns of the second component
    lever: Float[Tensor, "g b 1"]  # from the pull to the step between the means
    power: Float[Tensor, "g b 1"]  # c, for the pull in place of the step
    narrowest: Float[Tensor, "g b 1"]  # the least variance for the next step, by one step of Newton's method
    discriminant: Float[Tensor, "g b q1"]  # with the least variance as it was

    def expected(self, points: Points) -> Float[Tensor, "g b q1"]:
        """What the second components hold by the odds."""
        second = torch.bmm(self.discriminant[points.group], points.across).sigmoid_()
        return points.total(torch.bmm(second, points.weighted))

    @classmethod
    def of(cls, points: Points, sums: Tensor, axes: Tensor, narrowest: Tensor) -> "_Step":
        """From sums, and the least variances of the step before."""
        pull, second = sums.split([axes.shape[-1], 1], -1)
        pull, second = pull * axes, second.clamp(*points.ends)
        square, rest = pull.square(), points.columns - second
        flat, least = torch.bmm(square, points.inverses).split(1, -1)
        product = second * rest
        lever, power = points.columns / product, torch.maximum(product, least).reciprocal()
        inverse, tilt, ratio, better = _secular(points, square, power, narrowest)
        bare = lever / torch.addcmul(points.one, power, flat, value=-1)
        narrowing = lever * torch.addcdiv(ratio, ratio, narrowest, value=-1)
        direction = pull * torch.addcmul(bare / points.bounded, narrowing, inverse)
        # Half of the way between the means is along the pull, too.
        middle = torch.addcmul(bare * flat, narrowing, tilt)
        bias = torch.addcmul((second / rest).log(), (points.half - second) / product, middle, value=-1)
        return cls(pull, second, lever, power, better, torch.cat([direction, bias], -1))


def _secular(
    points: Points, square: Float[Tensor, "g b q"], power: Tensor, narrowest: Float[Tensor, "g b 1"]
) -> tuple[Float[Tensor, "g b q"], Float[Tensor, "g b 1"], Float[Tensor, "g b 1"], Float[Tensor, "g b 1"]]:
    """The secular equation at a variance: one over what the scatter is above it, the sum of the equation, that over its slope.

    The last one is the least variance after one step of Newton's method on one over the equation, which is nearly straight.
    """
    inverse = (points.bounded - narrowest).reciprocal()
    parts = square * inverse
    tilt = parts.sum(-1, keepdim=True)
    ratio = tilt / (parts * inverse).sum(-1, keepdim=True).clamp(min=1e-12)
    left = torch.addcmul(points.one, power, tilt, value=-1)
    return inverse, tilt, ratio, torch.addcmul(narrowest, ratio, left).clamp(_NARROWEST, _WIDEST)


def ahead(sums: Tensor, one: Tensor, two: Tensor, scale: Tensor | None = None) -> Tensor:
    """Where two steps lead that go on shrinking as they do (SQUAREM, Varadhan & Roland, 2008)."""
    speed = one - sums
    slowing = two - one - speed
    sizes = (speed, slowing) if scale is None else (speed * scale, slowing * scale)
    far, slow = (part.norm(dim=-1, keepdim=True) for part in sizes)
    far = (far / slow).nan_to_num_(1.0).clamp_(1.0, _FURTHEST)
    return torch.addcmul(sums, far, torch.addcmul(2 * speed, far, slowing))


def _gap(variance: Tensor, narrowest: Tensor) -> Tensor:
    """By how much the scatter along each axis is more than the least variance."""
    return (variance - narrowest[..., None]).clamp(min=1e-6)


def _along(which: Int[Tensor, "g c"], part: Tensor) -> Tensor:
    """Indices along the second dimension, for all that lie beyond it."""
    return which if part.ndim == 2 else which[..., None].expand(-1, -1, part.shape[2])
