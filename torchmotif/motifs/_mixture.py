"""Mixtures of two Gaussians, neither narrower than the noise, many of them at once."""

from dataclasses import dataclass, field
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
_LEAST_SHARE = 1e-6  # of a component
# Of the smaller component that a leap may add or take: without it, a twisted bilayer at full dose, of 16 images, has 2 motifs for 24.
_MOST_LOST = 0.5
_FURTHEST = 16.0  # times the way of two steps that a leap may go


@dataclass(frozen=True, eq=False)
class Points:
    """Columns of g groups as coordinates, in blocks that each hold columns of one group.

    Coordinates are those in which the noise is the identity and the columns of a group are centred and uncorrelated.
    """

    x: Float[Tensor, "p w q1"]  # coordinates, and 1; nothing but 0 where a block has no column
    weighted: Float[Tensor, "p w q1"]  # the same times the weight of each column; those of a group sum to 1
    group: Int[Tensor, " p"]
    count: Float[Tensor, " g"]  # number of columns
    variance: Float[Tensor, "g q"]  # of each coordinate
    _nothing: dict[torch.Size, Tensor] = field(default_factory=dict, repr=False)  # what sums begin with

    @cached_property
    def across(self) -> Float[Tensor, "p q1 w"]:
        """The coordinates, those of one axis after the other."""
        return self.x.mT

    @cached_property
    def bounded(self) -> Float[Tensor, "g 1 q"]:
        """The variances, none less than the noise's."""
        return self.variance[:, None].clamp(min=1.0)

    @cached_property
    def precisions(self) -> Float[Tensor, "g 1 q"]:
        """Their inverses."""
        return self.bounded.reciprocal()

    @cached_property
    def inverses(self) -> Float[Tensor, "g q 3"]:
        """Of these variances, of what they are above the least that is inverted, and of them in units of the variances."""
        shrunk = self.variance[:, None] * self.precisions.square()
        return torch.stack([self.precisions, (self.bounded - _NARROWEST).reciprocal(), shrunk], -1)[:, 0]

    @cached_property
    def scale(self) -> Float[Tensor, "g 1 q1"]:
        """What makes coordinates and numbers of columns comparable."""
        return F.pad(self.variance.rsqrt(), (0, 1), value=1.0)[:, None]

    @cached_property
    def one(self) -> Float[Tensor, "1"]:
        """What is taken from, in one operation."""
        return self.variance.new_ones(1)

    @cached_property
    def tiny(self) -> Float[Tensor, "1"]:
        """What is added to squares that are divided by one another."""
        return self.variance.new_full((1,), 1e-30)

    def odds(self, pairs: "Pairs") -> Float[Tensor, "p w b"]:
        """Logarithm of the odds of the second component."""
        return self.along(pairs.discriminant)

    def along(self, direction: Float[Tensor, "g b q1"]) -> Float[Tensor, "p w b"]:
        """Places of the columns along directions of their groups."""
        return torch.bmm(self.x, direction[self.group].mT)

    def sums(self, responsibilities: Float[Tensor, "p w b"]) -> Float[Tensor, "g b q1"]:
        """What the second components hold: sums of the weighted coordinates, and their share of the columns."""
        return self.total(torch.bmm(responsibilities.mT, self.weighted))

    def mean(self, values: Float[Tensor, "p w b"]) -> Float[Tensor, "g b"]:
        """Mean over the columns of each group."""
        return self.total(torch.bmm(self.weighted[..., -1:].mT, values)[:, 0])

    def total(self, of_blocks: Float[Tensor, "p ..."]) -> Float[Tensor, "g ..."]:
        """Sum over the blocks of each group."""
        shape = of_blocks.shape[1:]
        if shape not in self._nothing:
            self._nothing[shape] = of_blocks.new_zeros(len(self.count), *shape)
        return self._nothing[shape].index_add(0, self.group, of_blocks)


class Pairs(NamedTuple):
    """b mixtures for each of g groups: two Gaussians with one covariance, that of all columns less what the means explain.

    With the scatter S of the columns diagonal, the covariance S - c d d' of means d apart has the inverse and the determinant of
    a rank-one change (Sherman & Morrison, 1950), so that no step needs a decomposition. Of its variances one at most, u, is less
    than the noise's, 1; along its axis v, the covariance is widened to 1. It solves the secular equation
    sum of c d^2 / (S - u) = 1 (Golub, 1973), and v is along d / (S - u).

    A mixture follows from the sums of its second component alone: as the columns of a group are centred, both means are along
    the sum of the coordinates.
    """

    sums: Float[Tensor, "g b q1"]  # of coordinates of the second component, along its axes, and its share
    step: Float[Tensor, "g b q"]  # from the mean of the first component to that of the second
    explained: Float[Tensor, "g b"]  # c
    narrowest: Float[Tensor, "g b"]  # u, at most 1
    discriminant: Float[Tensor, "g b q1"]  # from coordinates and 1 to the log-odds of the second
    fixed: Float[Tensor, "g b"]  # of the gain in likelihood of each column, what does not depend on its odds

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
        means = _Means.of(points, sums, _with_share(axes))
        guess = torch.full_like(means.share, _WIDEST) if narrowest is None else narrowest[..., None]
        narrowest = _Secular.of(points, means, guess).better
        return means.pairs(points, _Secular.of(points, means, narrowest))

    @property
    def share(self) -> Float[Tensor, "g b"]:
        """Of the second component."""
        return self.sums[..., -1]

    @property
    def first(self) -> Float[Tensor, "g b q"]:
        """Mean of the first component."""
        return self.sums[..., :-1] / (self.sums[..., -1:] - 1)

    def gains(self, points: Points, odds: Float[Tensor, "p w b"]) -> Float[Tensor, "g b"]:
        """Log-likelihood over that of one Gaussian."""
        return points.count[:, None] * (points.mean(F.softplus(odds)) + self.fixed)

    def detectability(self) -> Float[Tensor, "g b"]:
        """Distance between the components in standard deviations of one column (d' of signal detection)."""
        return (self.discriminant[..., :-1] * self.step).sum(-1).sqrt()

    def at(self, which: Int[Tensor, "g c"]) -> "Pairs":
        """Some of the mixtures of each group."""
        return Pairs(*(part.gather(1, _along(which, part)) for part in self))

    @classmethod
    def after(cls, points: Points, sums: Tensor, axes: Float[Tensor, "... b q"], steps: int) -> "Pairs":
        """The mixtures so many steps of expectation and maximisation after second components that hold `sums`."""
        along, narrowest = _with_share(axes), torch.full_like(sums[..., -1:], _WIDEST)
        for _ in range(steps):
            sums, narrowest = _stepped(points, sums, along, narrowest)
        return cls.maximising(points, sums, axes, narrowest[..., 0])

    def settled(self, points: Points, axes: Float[Tensor, "g b q"], leaps: int) -> "Pairs":
        """The mixtures after so many leaps.

        A leap is two steps of expectation and maximisation, as far as they lead (`ahead`), and one more step from there.
        """
        sums, narrowest, along = self.sums, self.narrowest[..., None], _with_share(axes)
        for _ in range(leaps):
            one, narrowest = _stepped(points, sums, along, narrowest)
            two, narrowest = _stepped(points, one, along, narrowest)
            before, share = ahead(sums, one, two, points.scale), two[..., -1:]
            # A leap that would empty a component is not made.
            room = _MOST_LOST * torch.minimum(share, 1 - share)
            before = torch.where((before[..., -1:] - share).abs() < room, before, two)
            sums, narrowest = _stepped(points, before, along, narrowest)
        return Pairs.maximising(points, sums, axes, narrowest[..., 0])


class _Means(NamedTuple):
    """What follows from the sums of second components for their means; all but the vectors are (g, b, 1)."""

    pull: Float[Tensor, "g b q"]  # sums of the coordinates along the axes of each
    share: Float[Tensor, "g b 1"]
    step: Float[Tensor, "g b q"]  # between the means
    square: Float[Tensor, "g b q"]
    # Sums of the squares in units of the scatter, and of its inverse's square in units of the variances:
    flat: Float[Tensor, "g b 1"]
    shrunk: Float[Tensor, "g b 1"]
    explained: Float[Tensor, "g b 1"]  # c, so that no variance is less than the least that is inverted

    @classmethod
    def of(cls, points: Points, sums: Tensor, along: Tensor) -> "_Means":
        """From sums, those of axes that are left out with them."""
        pull, share = (sums * along).split([sums.shape[-1] - 1, 1], -1)
        share = share.clamp(_LEAST_SHARE, 1 - _LEAST_SHARE)
        product = torch.addcmul(share, share, share, value=-1)
        step = pull / product
        square = torch.addcmul(points.tiny, step, step)
        flat, least, shrunk = torch.bmm(square, points.inverses).split(1, -1)
        return cls(pull, share, step, square, flat, shrunk, torch.minimum(product, least.reciprocal()))

    def discriminant(self, points: Points, secular: "_Secular") -> Float[Tensor, "g b q1"]:
        """From coordinates and 1 to the log-odds of the second component."""
        bare, narrowing = self.bare(points), secular.narrowing
        direction = self.step * torch.addcdiv(bare * points.precisions, narrowing, secular.gap)
        # Half of the way between the means is along the step, too.
        middle = torch.addcmul(bare * self.flat, narrowing, secular.tilt)
        return torch.cat([direction, torch.addcmul(self.share.logit(), self.share - 0.5, middle)], -1)

    def bare(self, points: Points) -> Float[Tensor, "g b 1"]:
        """By how much the step is longer in units of the components' covariance, were none widened, than of the scatter."""
        return torch.addcmul(points.one, self.explained, self.flat, value=-1).reciprocal()

    def pairs(self, points: Points, secular: "_Secular") -> Pairs:
        """The mixtures with a least variance."""
        bare, rest, square = self.bare(points), 1 - self.share, self.share.square()
        own = (
            self.explained * bare * torch.addcmul(self.shrunk, square, self.flat.square())
            + square * self.flat
        )
        truth = (secular.curve * points.variance[:, None]).sum(-1, keepdim=True)
        wide = (secular.narrowest.reciprocal() - 1) * torch.addcmul(truth, square, secular.tilt.square())
        fixed = rest.log() - 0.5 * (own - wide / secular.slope - (bare * secular.narrowest).log())
        return Pairs(
            torch.cat([self.pull, self.share], -1),
            self.step,
            self.explained[..., 0],
            secular.narrowest[..., 0],
            self.discriminant(points, secular),
            fixed[..., 0],
        )


class _Secular(NamedTuple):
    """The secular equation at the least variance, as the step before left it; see `Pairs`. All but the vectors are (g, b, 1)."""

    narrowest: Float[Tensor, "g b 1"]
    gap: Float[Tensor, "g b q"]  # by how much the scatter is more
    curve: Float[Tensor, "g b q"]  # parts of the slope
    tilt: Float[Tensor, "g b 1"]  # sum of the equation over c
    slope: Float[Tensor, "g b 1"]  # its derivative
    ratio: Float[Tensor, "g b 1"]  # of both
    better: Float[
        Tensor, "g b 1"
    ]  # the least variance after one step of Newton's method on one over the equation, nearly straight

    @classmethod
    def of(cls, points: Points, means: _Means, narrowest: Tensor) -> "_Secular":
        """For means, at a guess."""
        gap = points.bounded - narrowest
        parts = means.square / gap
        curve = parts / gap
        tilt, slope = parts.sum(-1, keepdim=True), curve.sum(-1, keepdim=True)
        ratio = tilt / slope
        left = torch.addcmul(points.one, means.explained, tilt, value=-1)
        better = torch.addcmul(narrowest, ratio, left).clamp(_NARROWEST, _WIDEST)
        return cls(narrowest, gap, curve, tilt, slope, ratio, better)

    @property
    def narrowing(self) -> Float[Tensor, "g b 1"]:
        """What widening takes from the discriminant, along the step over the gap."""
        return torch.addcdiv(self.ratio, self.ratio, self.narrowest, value=-1)


def _stepped(
    points: Points, sums: Float[Tensor, "g b q1"], along: Float[Tensor, "... b q1"], narrowest: Tensor
) -> tuple[Float[Tensor, "g b q1"], Float[Tensor, "g b 1"]]:
    """What the second components hold after a step of expectation and maximisation, and the least variance for the next."""
    means = _Means.of(points, sums, along)
    secular = _Secular.of(points, means, narrowest)
    second = torch.bmm(means.discriminant(points, secular)[points.group], points.across).sigmoid_()
    return points.total(torch.bmm(second, points.weighted)), secular.better


def _with_share(axes: Float[Tensor, "... b q"]) -> Float[Tensor, "... b q1"]:
    """Axes of mixtures, and 1 for the share."""
    return F.pad(axes, (0, 1), value=1.0)


def ahead(sums: Tensor, one: Tensor, two: Tensor, scale: Tensor | None = None) -> Tensor:
    """Where two steps lead that go on shrinking as they do (SQUAREM, Varadhan & Roland, 2008)."""
    speed = one - sums
    slowing = two - one - speed
    sizes = (speed, slowing) if scale is None else (speed * scale, slowing * scale)
    far, slow = (part.norm(dim=-1, keepdim=True) for part in sizes)
    far = (far / slow).nan_to_num_(1.0).clamp_(1.0, _FURTHEST)
    return torch.addcmul(sums, far, torch.addcmul(2 * speed, far, slowing))


def _along(which: Int[Tensor, "g c"], part: Tensor) -> Tensor:
    """Indices along the second dimension, for all that lie beyond it."""
    return which if part.ndim == 2 else which[..., None].expand(-1, -1, part.shape[2])
