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
# The least variance of a component on the way, where none is widened but the means are taken to explain less. Of 100 images only bilayers, one
# perovskite and one TiWSe2 tell it from widening in every step, by no more than their errors; that axes without more than noise are left out of the
# means matters: with them, two of 12 bilayers are one motif.
_BOUND = 0.99
_NEWTON = (
    2  # steps of Newton's method to the least variance; the second changes a discriminant by less than 2 %
)
_LEAST_SHARE = 1e-6  # of a component
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
    def inverses(self) -> Float[Tensor, "g q 4"]:
        """Of these variances, of what they are above either bound of a component's, and of them in units of the variances."""
        above = (self.bounded - _BOUND).reciprocal(), (self.bounded - _NARROWEST).reciprocal()
        shrunk = self.variance[:, None] * self.precisions.square()
        return torch.stack([self.precisions, *above, shrunk], -1)[:, 0]

    @cached_property
    def told(self) -> Float[Tensor, "g 1 q1"]:
        """1 along axes that hold more than noise, and for the number of columns; else 0."""
        return F.pad((self.variance > 1).to(self.x), (0, 1), value=1.0)[:, None]

    @cached_property
    def scale(self) -> Float[Tensor, "g 1 q1"]:
        """What makes coordinates and numbers of columns comparable."""
        return F.pad(self.variance.rsqrt(), (0, 1), value=1.0)[:, None]

    @cached_property
    def one(self) -> Float[Tensor, "1"]:
        """What is taken from, in one operation."""
        return self.variance.new_ones(1)

    def along_told(self, axes: Float[Tensor, "... b q"]) -> Float[Tensor, "g b q1"]:
        """Axes of mixtures, those of them that hold no more than noise left out, and 1."""
        return F.pad(axes, (0, 1), value=1.0) * self.told

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
    explained: Float[Tensor, "g b"]  # c
    narrowest: Float[Tensor, "g b"]  # u, at most 1
    discriminant: Float[Tensor, "g b q1"]  # from coordinates and 1 to the log-odds of the second
    fixed: Float[Tensor, "g b"]  # of the gain in likelihood of each column, what does not depend on its odds

    @classmethod
    def maximising(
        cls, points: Points, sums: Float[Tensor, "g b q1"], axes: Float[Tensor, "... b q"]
    ) -> "Pairs":
        """The most likely mixtures where the second components hold `sums`; each has means along its axes only."""
        of = _Sums.of(points, sums, F.pad(axes, (0, 1), value=1.0))
        pull, product = of.pull, of.product
        power = torch.maximum(product, of.least_widened).reciprocal()
        square, narrowest = pull.square(), torch.full_like(product, _WIDEST)
        for _ in range(_NEWTON):
            # On one over the secular equation, which is nearly straight.
            inverse = (points.bounded - narrowest).reciprocal()
            parts = square * inverse
            curve = parts * inverse
            tilt, slope = parts.sum(-1, keepdim=True), curve.sum(-1, keepdim=True).clamp(min=1e-12)
            ratio, before = tilt / slope, narrowest
            left = torch.addcmul(points.one, power, tilt, value=-1)
            narrowest = torch.addcmul(narrowest, ratio, left).clamp(_NARROWEST, _WIDEST)
        left = torch.addcmul(points.one, power, of.flat, value=-1)
        narrowing, rest = before.reciprocal() - 1, 1 - of.share
        direction = pull * torch.addcmul(points.precisions / left, -narrowing * ratio, inverse)
        middle = torch.addcmul(of.flat / left, -narrowing * ratio, tilt)
        truth = (curve * points.variance[:, None]).sum(-1, keepdim=True)
        wide = narrowing * (truth + (tilt / rest).square()) / slope
        fixed = of.fixed(power, left) + 0.5 * (wide + before.log())
        return of.pairs(power, before, direction, middle, fixed)

    @classmethod
    def bounded(cls, points: Points, sums: Tensor, along: Float[Tensor, "... b q1"]) -> "Pairs":
        """The same where the share of the scatter that the means explain is bounded, in place of widening a component."""
        of = _Sums.of(points, sums, along)
        power = torch.maximum(of.product, of.least).reciprocal()
        left = torch.addcmul(points.one, power, of.flat, value=-1)
        direction, middle = of.pull * points.precisions / left, of.flat / left
        return of.pairs(power, torch.ones_like(power), direction, middle, of.fixed(power, left))

    @property
    def share(self) -> Float[Tensor, "g b"]:
        """Of the second component."""
        return self.sums[..., -1]

    @property
    def first(self) -> Float[Tensor, "g b q"]:
        """Mean of the first component."""
        return self.sums[..., :-1] / (self.sums[..., -1:] - 1)

    @property
    def step(self) -> Float[Tensor, "g b q"]:
        """From it to the mean of the second."""
        pull, share = self.sums.split([self.sums.shape[-1] - 1, 1], -1)
        step: Tensor = pull / (share * (1 - share))
        return step

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
        along = points.along_told(axes)
        for _ in range(steps):
            sums = _stepped(points, sums, along)
        return cls.bounded(points, sums, along)

    @classmethod
    def settled(
        cls, points: Points, sums: Float[Tensor, "g b q1"], axes: Float[Tensor, "g b q"], leaps: int
    ) -> "Pairs":
        """The mixtures so many leaps after second components that hold `sums`.

        A leap is two steps of expectation and maximisation, as far as they lead (`ahead`), and one more step from there.
        """
        along = points.along_told(axes)
        for _ in range(leaps):
            one = _stepped(points, sums, along)
            two = _stepped(points, one, along)
            before, share = ahead(sums, one, two, points.scale), two[..., -1:]
            # A leap that would empty a component is not made.
            room = torch.addcmul(share, share, share, value=-1)
            before = torch.where((before[..., -1:] - share).abs() < room, before, two)
            sums = _stepped(points, before, along)
        return Pairs.maximising(points, sums, axes)


class _Sums(NamedTuple):
    """What second components hold, and what follows for any covariance; all but the vectors are (g, b, 1)."""

    pull: Float[Tensor, "g b q"]  # sums of the coordinates along the axes of each
    share: Float[Tensor, "g b 1"]
    product: Float[Tensor, "g b 1"]  # of both shares: the step between the means is the pull over it
    # Squares of the pull in units of the scatter, of what that is above either bound, and with its inverse twice:
    flat: Float[Tensor, "g b 1"]
    least: Float[Tensor, "g b 1"]
    least_widened: Float[Tensor, "g b 1"]
    shrunk: Float[Tensor, "g b 1"]

    @classmethod
    def of(cls, points: Points, sums: Tensor, along: Tensor) -> "_Sums":
        """From sums, those of axes that are left out with them."""
        pull, share = (sums * along).split([sums.shape[-1] - 1, 1], -1)
        share = share.clamp(_LEAST_SHARE, 1 - _LEAST_SHARE)
        product = torch.addcmul(share, share, share, value=-1)
        return cls(pull, share, product, *torch.bmm(pull.square(), points.inverses).split(1, -1))

    def bias(self, middle: Tensor) -> Float[Tensor, "g b 1"]:
        """Log-odds of a column at the mean of all, where the discriminant times the pull over the product is `middle` over it."""
        return torch.addcdiv(self.share.logit(), (0.5 - self.share) * middle, self.product.square(), value=-1)

    def fixed(self, power: Tensor, left: Tensor) -> Float[Tensor, "g b 1"]:
        """What no odds change in the gain of likelihood, where the pull's square times `power` is taken from the scatter."""
        rest = 1 - self.share
        first = self.flat / rest.square()
        own = torch.addcmul(first, power / left, torch.addcmul(self.shrunk, self.flat, first))
        return rest.log() - 0.5 * (own + left.log())

    def pairs(
        self, power: Tensor, narrowest: Tensor, direction: Tensor, middle: Tensor, fixed: Tensor
    ) -> Pairs:
        """The mixtures, by their discriminants times the product of both shares."""
        return Pairs(
            torch.cat([self.pull, self.share], -1),
            (power * self.product.square())[..., 0],
            narrowest[..., 0],
            torch.cat([direction / self.product, self.bias(middle)], -1),
            fixed[..., 0],
        )


def _stepped(
    points: Points, sums: Float[Tensor, "g b q1"], along: Float[Tensor, "g b q1"]
) -> Float[Tensor, "g b q1"]:
    """What the second components hold after a step of expectation and maximisation; see `Pairs.bounded`."""
    of = _Sums.of(points, sums, along)
    left = torch.addcmul(of.product, of.product, of.flat / torch.maximum(of.product, of.least), value=-1)
    bias = torch.addcdiv(of.share.logit(), (0.5 - of.share) * (of.flat / left), of.product, value=-1)
    discriminant = torch.cat([of.pull * points.precisions / left, bias], -1)
    second = torch.bmm(discriminant[points.group], points.across).sigmoid_()
    return points.total(torch.bmm(second, points.weighted))


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
