"""Two motifs where one was: the splits of sets of columns that their moments, and the known noise, support most."""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from torchmotif.motifs._groups import Blocks
from torchmotif.motifs._mixture import Pairs
from torchmotif.motifs._noise import CountingNoise, bent

__all__ = ["Candidates", "Split", "propose", "splits_of", "stands_out"]

_STARTS = (0.0, 1.2, -1.2, 2.2, -2.2)  # standard scores that part an axis to begin with
_SOFT = 0.02  # of every column begins in the other component
_STEPS_OF_ALL = 8  # of expectation and maximisation, of all starts
# Of the best of them, each of three steps. With 5, the report says 9 % for the 6 % of vacancies of MoSe2 at 1/110 of the dose.
_LEAPS = 6
# Starts that are followed to the end in each space. With half of them a gradient of the background crowded a vacancy out,
# depending on a thousandth of a pixel in the positions.
_MOST_KEPT = 16
# The same along the direction of a single column, of five starts: all of them move nothing; with one, the report said 9 % for the 6 %
# of vacancies of MoSe2 at 1/110 of the dose.
_KEPT_ALONG = 3
# Twice the gain in log-likelihood per parameter that noise alone hardly reaches: at most 5 in crystals. It parts no columns, but says which
# motifs may be two: of 16 images, the report named 2 with it, 73 with 0, 16 with 3, 1 with 12.
_BY_CHANCE = 6.0

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Split:
    """Two Gaussians of one shape in a few directions of moment space, as wide as the known noise or wider; on the host."""

    axes: Float[
        Tensor, "k q"
    ]  # from moments to coordinates in which the noise of the columns is the identity
    means: Float[Tensor, "2 q"]  # of the two components
    intrinsic: Float[Tensor, "q q"]  # covariance of either beyond the noise
    share: float  # of the columns that belong to the second
    # Twice the gain in log-likelihood, less the price of the parameters (Schwarz, 1978): the odds of two components
    # against one are its exponential's root:
    evidence: float
    columns: int  # number n of columns it was learnt on
    sides: Float[Tensor, "2 l"]  # mean moments of the columns of both components
    straight: bool = False  # whether skewness of the noise was taken out along its one axis
    # Second and third cumulants of the noise of both along the axes, as far as they were not taken out:
    cumulants: tuple[Float[Tensor, "2 q q"], Float[Tensor, "2 q q q"]] | None = None

    def detectability(self, relative_dose: float = 1.0) -> float:
        """Distance between the components in standard deviations of one column (d' of signal detection)."""
        step = self.means[1] - self.means[0]
        return math.sqrt(max(float(step @ self._discriminant(relative_dose)), 0.0))

    def detectabilities(self, relative_doses: Values) -> Values:
        """The same at many doses."""
        values, vectors = torch.linalg.eigh(self.intrinsic)
        square = ((self.means[1] - self.means[0]) @ vectors).square()
        within = values + 1 / torch.from_numpy(relative_doses)[:, None]
        return np.asarray((square / within.clamp(min=1e-12)).sum(1).sqrt())

    def with_cumulants(self, noise: CountingNoise, scale: float) -> "Split":
        """The split that also knows how the noise of its components is askew."""
        second, third = zip(*(noise.cumulants(side, self.axes) for side in self.sides), strict=True)
        askew = 0.0 if self.straight else scale**2
        return replace(self, cumulants=(scale * torch.stack(second), askew * torch.stack(third)))

    def stands_out(self) -> bool:
        """Whether the gain in likelihood is more than the best of many starts finds in noise."""
        return stands_out(self.evidence, self.axes.shape[1], self.columns)

    def log_odds(self, moments: Float[Tensor, "n k"], relative_dose: float = 1.0) -> Float[Tensor, " n"]:
        """Logarithm of the odds of the second component against the first, for moments scaled to the learnt dose."""
        direction, bias = self.weights(relative_dose)
        return moments @ direction.to(moments) + bias

    def weights(self, relative_dose: float = 1.0) -> tuple[Float[Tensor, " k"], float]:
        """From moments to the log-odds: a direction, and what is added."""
        direction = self._discriminant(relative_dose)
        prior = math.log(self.share / (1 - self.share))
        return self.axes @ direction, prior - float(self.means.mean(0) @ direction)

    def _discriminant(self, relative_dose: float) -> Tensor:
        """The linear discriminant of Fisher (1936)."""
        within = self.intrinsic + torch.eye(len(self.intrinsic), dtype=self.means.dtype) / relative_dose
        discriminant: Tensor = torch.linalg.solve(within, self.means[1] - self.means[0])
        return discriminant


def stands_out(evidence: float, axes: int, columns: int) -> bool:
    """Whether a gain in likelihood is more than the best of many starts finds in noise."""
    return evidence + (axes + 1) * math.log(columns) > _BY_CHANCE * (axes + 1)


class Candidates(NamedTuple):
    """c splits of each group, and what decides which of them is made."""

    pairs: Pairs
    odds: Float[Tensor, "p w c"]
    axes: Bool[Tensor, "g c q"]  # which coordinates each is a split in
    evidence: Float[Tensor, "g c"]  # -inf where there is none


def propose(groups: Blocks) -> Candidates:
    """Splits of the columns of each group in two, from many starts, of which the best are followed."""
    points, widths = groups.points, tuple(values.shape[1] for values, _ in groups.spaces)
    usable = groups.variances > 0
    starts = _starts(widths, points.x.device)
    along = starts.along
    scores = points.x[..., :-1] / points.variance.sqrt()[points.group][:, None]
    parted = starts.sign * scores[..., None] > starts.least
    second = _SOFT + (1 - 2 * _SOFT) * parted.flatten(2).float()
    pairs = Pairs.after(points, points.sums(second), along, _STEPS_OF_ALL - 1)
    value = pairs.gains(points, points.odds(pairs))
    value = torch.where(usable.repeat_interleave(len(_STARTS), 1), value, -math.inf)
    which, there = _distinct(value, pairs.share, widths)
    pairs, along = pairs.at(which), along[which]
    pairs = pairs.settled(points, along, _LEAPS)
    odds = points.odds(pairs)
    usable = along.bool() & usable[:, None]
    price = (usable.sum(-1) + 1) * points.count[:, None].log()
    gains = pairs.gains(points, odds) - groups.gains_askew(odds, pairs.discriminant).clamp(min=0)
    evidence = torch.where(there, 2 * gains - price, -math.inf)
    return Candidates(pairs, odds, usable, evidence)


class _Starts(NamedTuple):
    """How mixtures begin, and how many of them are followed."""

    along: Float[Tensor, "b q"]  # the axes of each start's space
    space: Float[Tensor, " b"]  # the number of that space
    most: Float[Tensor, " b"]  # of it that are followed
    sign: Float[Tensor, " s"]  # of the starts along an axis
    least: Float[Tensor, " s"]  # score of what begins in the second component


@lru_cache(maxsize=16)
def _starts(widths: tuple[int, ...], device: torch.device) -> _Starts:
    """Those of spaces with so many axes."""
    space = torch.repeat_interleave(torch.arange(len(widths)), torch.tensor(widths))
    of = space.repeat_interleave(len(_STARTS))
    most = torch.tensor([_followed(width) for width in widths])[of]
    starts = torch.tensor(_STARTS)
    made = (of[:, None] == space).float(), of, most, torch.where(starts < 0, -1.0, 1.0), starts.abs()
    # Sent in one piece.
    packed = torch.cat([part.flatten() for part in made]).to(device)
    parts = packed.split([part.numel() for part in made])
    return _Starts(parts[0].view(made[0].shape), *parts[1:])


def _followed(width: int) -> int:
    """How many mixtures are followed in a space of so many axes."""
    return min(_MOST_KEPT if width > 1 else _KEPT_ALONG, width * len(_STARTS))


def _distinct(value: Float[Tensor, "g b"], share: Tensor, widths: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Indices of the mixtures of highest value in each space, one of each kind, and whether there are so many."""
    starts = _starts(widths, value.device)
    value, order = value.sort(dim=1, descending=True, stable=True)
    share, space = share.gather(1, order), starts.space[order]
    spread = torch.minimum(share, 1 - share)[:, :, None]
    near = (value[:, :, None] - value[:, None]).abs() < 0.01 + 1e-3 * value.abs()[:, :, None]
    alike = near & ((spread - spread.mT).abs() < 1e-3 + 0.02 * spread)
    better = (space[:, :, None] == space[:, None]).tril(-1)
    kept = ~((alike & better).any(2) | (value == -math.inf))
    # Of those that are better in the same space, fewer are kept than are followed.
    kept = kept & (torch.bmm(better.float(), kept[..., None].float())[..., 0] < starts.most[order])
    dropped, first = (~kept).to(torch.uint8).sort(dim=1, stable=True)
    most = sum(map(_followed, widths))
    return order.gather(1, first[:, :most]), dropped[:, :most] == 0


def splits_of(
    groups: Blocks, found: Candidates, which: Int[Tensor, "g b"]
) -> tuple[list[list[Split]], Tensor]:
    """The chosen candidates as splits on the host, and which column belongs to the second component of the first one."""
    points = groups.points
    odds = found.odds.gather(2, which[points.group][:, None].expand(-1, found.odds.shape[1], -1))
    second = odds.sigmoid()
    pairs = found.pairs.at(which)
    sums = points.total(torch.bmm(second.mT, groups.blocks)).double()
    n = points.count[:, None].double()
    count = (n * points.mean(second).double()).clamp(min=1e-6)
    sides = torch.stack([-sums / (n - count).clamp(min=1e-6)[..., None], sums / count[..., None]], 2)
    sides = sides + groups.means[:, None, None]
    used = found.axes.gather(1, which[..., None].expand(-1, -1, found.axes.shape[2]))
    evidence = found.evidence.gather(1, which)
    numbers = torch.stack([pairs.share, pairs.explained, pairs.narrowest, evidence], -1)
    # Read at once.
    told = [
        sides,
        used,
        numbers,
        pairs.first,
        pairs.step,
        groups.means,
        groups.axes,
        points.variance.clamp(min=1.0),
        groups.bend,
    ]
    flat = torch.cat([part.flatten() for part in told]).cpu().split([part.numel() for part in told])
    shaped = [values.view(part.shape) for values, part in zip(flat, told, strict=True)]
    sides, used, numbers, first, step, means_, axes, variance, bend = shaped
    used = used > 0
    splits: list[list[Split]] = []
    for i, columns in enumerate(groups.counts):
        splits.append([])
        for j in range(which.shape[1]):
            mine, (share, explained, narrowest, evidence_) = used[i, j], numbers[i, j]
            intrinsic = _intrinsic(variance[i, mine], step[i, j, mine], explained, narrowest)
            share = min(max(float(share), 1e-9), 1 - 1e-9)
            # Coordinates are of centred columns: their mean, along the axes, goes to the means of the components.
            basis = axes[i][:, mine]
            means = torch.stack([first[i, j, mine], first[i, j, mine] + step[i, j, mine]])
            straight = bool(bend[i, mine].any())
            if straight:
                means = _bent(means, intrinsic, share, *bend[i, mine][0])
            means = means + means_[i, : len(basis)] @ basis
            splits[-1].append(
                Split(
                    basis, means, intrinsic, share, float(evidence_), columns, sides[i, j].clone(), straight
                )
            )
    return splits, groups.of_columns(odds[..., 0] > 0).long()


def _intrinsic(variance: Tensor, step: Tensor, explained: Tensor, narrowest: Tensor) -> Float[Tensor, "q q"]:
    """Covariance of either component of a pair beyond the noise; see `Pairs`."""
    axis = step / (variance - narrowest).clamp(min=1e-6)
    axis = axis / axis.norm().clamp(min=1e-12)
    within = torch.diag(variance - 1) - explained * torch.outer(step, step)
    return within + (1 - narrowest) * torch.outer(axis, axis)


def _bent(
    means: Float[Tensor, "2 1"], intrinsic: Float[Tensor, "1 1"], share: float, skewness: Tensor, mean: Tensor
) -> Float[Tensor, "2 1"]:
    """Means along an axis from which skewness was taken out, moved so that the limit between them is where it is on the axis itself.

    Log-odds are linear: that an axis is stretched by some per cent there is left out.
    """
    limit = means.mean(0) - (intrinsic[0] + 1) * math.log(share / (1 - share)) / (means[1] - means[0])
    # Of components that are hardly apart, no column may be as likely in both.
    limit = limit.clamp(means.min() - 1, means.max() + 1)
    return means + bent(limit + mean, skewness) - limit
