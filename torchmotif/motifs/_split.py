"""Two motifs where one was: the splits of sets of columns that their moments, and the known noise, support most."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from torchmotif.motifs._mixture import Pairs, Points
from torchmotif.motifs._noise import (
    CountingNoise,
    matched_filter,
    bent,
    noise_edge,
    principal_axes,
    straightened,
)
from torchmotif.motifs._single_columns import MOST_NEIGHBOURS, central_columns, neighbouring_columns
from torchmotif.zernike import ZernikeBasis, orders

__all__ = ["Blocks", "Candidates", "Groups", "Split", "propose", "splits_of", "stands_out"]

_MOST_AXES = 10  # directions of moment space in which one split is looked for
_STARTS = (0.0, 1.2, -1.2, 2.2, -2.2)  # standard scores that part an axis to begin with
_SOFT = 0.02  # of every column begins in the other component
_STEPS_OF_ALL = 8  # of expectation and maximisation, of all starts
_MOST_LEAPS = 6  # of the best of them, each of three steps
# Starts that are followed to the end in each space. With half of them a gradient of the background crowded a vacancy out,
# depending on a thousandth of a pixel in the positions.
_MOST_KEPT = 16
_KEPT_ALONG = 3  # along the direction of a single column
_BY_CHANCE = 6.0  # twice the gain in log-likelihood per parameter that noise alone hardly reaches: at most 5 in crystals
_BLOCK = 256  # columns that are multiplied at a time

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


class Blocks(ABC):
    """Sets of rows of a table of values, in which splits are looked for: each less its mean, in blocks of rows of one set.

    Blocks are of one size, so that one batched product serves all sets, be they large or small. In which directions splits are
    looked for depends on what is known of the noise: a subclass says it, in `spaces`.
    """

    def __init__(self, finer: Float[Tensor, "n l"], rows: Sequence[Int[Tensor, " _"]], used: int) -> None:
        self.used = used  # splits are looked for in the first so many values; the means are of all
        self.counts = [len(mine) for mine in rows]
        blocks = [-(-count // _BLOCK) for count in self.counts]
        starts = [sum(blocks[:i]) * _BLOCK for i in range(len(blocks))]
        self.slices = [slice(i, i + count) for i, count in zip(starts, self.counts, strict=True)]
        # All that the device has to know of the sets, in one piece: each number that is sent by itself is waited for.
        group = np.repeat(np.arange(len(blocks)), blocks)
        before = np.cumsum([0, *self.counts[:-1]])
        layout = np.concatenate([self.counts, np.subtract(starts, before), group]).astype(np.int64)
        counts, shift, group_ = (
            torch.from_numpy(layout).to(finer.device).tensor_split((len(blocks), 2 * len(blocks)))
        )
        self.order, self.group = torch.cat(list(rows)), group_
        n = len(self.order)
        self.set = torch.repeat_interleave(counts, output_size=n)  # of each column
        self.place = torch.arange(n, device=finer.device) + shift[self.set]
        self.size = counts.double()
        moments = finer.new_zeros(sum(blocks) * _BLOCK, finer.shape[1] + 1)  # what is left over is 0
        moments[self.place] = F.pad(finer[self.order], (0, 1), value=1.0)
        moments = moments.view(-1, _BLOCK, moments.shape[1])
        self.present = moments[..., -1:]
        self.means = self.total(moments[..., :-1].sum(1).double()) / self.size[:, None]
        self.blocks = moments[..., :-1] - self.means.float()[group_][:, None] * self.present

    @property
    def moments(self) -> Float[Tensor, "m l"]:
        """Of the columns of all sets, less the mean of each; those of a set are in its slice, and 0 in between."""
        return self.blocks.flatten(0, 1)

    def total(self, of_blocks: Float[Tensor, "p ..."]) -> Float[Tensor, "g ..."]:
        """Sum over the blocks of each set."""
        sums = of_blocks.new_zeros(len(self.counts), *of_blocks.shape[1:])
        return sums.index_add_(0, self.group, of_blocks)

    @property
    @abstractmethod
    def spaces(self) -> list[tuple[Float[Tensor, "g q"], Float[Tensor, "g k q"]]]:
        """Variances, 0 where there is no such axis, and axes from values to coordinates in units of the noise."""

    @cached_property
    def bend(self) -> Float[Tensor, "g q 2"]:
        """Skewness that was taken out of each coordinate, and the mean that was subtracted after."""
        return self.size.new_zeros(len(self.counts), self.axes.shape[2], 2)

    def gains_askew(
        self, odds: Float[Tensor, "p w c"], discriminants: Float[Tensor, "g c q1"]
    ) -> Float[Tensor, "g c"]:
        """Log-likelihood of one component whose noise is askew over that of one Gaussian, along discriminants."""
        return torch.zeros_like(discriminants[..., 0])

    @cached_property
    def scatter(self) -> Float[Tensor, "g k k"]:
        """Mean squares and products of the values that are used."""
        each = self.blocks[..., : self.used]
        return self.total(torch.bmm(each.mT, each).double()) / self.size[:, None, None]

    @cached_property
    def axes(self) -> Float[Tensor, "g k q"]:
        """Those of all spaces."""
        return torch.cat([axes for _, axes in self.spaces], -1)

    @cached_property
    def points(self) -> Points:
        """The columns in these coordinates."""
        x = torch.bmm(self.blocks[..., : self.used], self.axes.float()[self.group])
        x = torch.cat([x, self.present], -1)
        variance = torch.cat([values for values, _ in self.spaces], -1).float()
        return Points(x, x, self.group, self.size.float(), torch.where(variance > 0, variance, 1.0))

    def of_columns(self, of_points: Bool[Tensor, "p w"]) -> Bool[Tensor, " m"]:
        """What was computed of every point, for the columns in their order."""
        return of_points.reshape(-1)[self.place]


class Groups(Blocks):
    """Sets of columns by their moments, and what is known of the noise of each."""

    def __init__(
        self,
        finer: Float[Tensor, "n l"],
        rows: Sequence[Int[Tensor, " _"]],
        noise: CountingNoise,
        basis: ZernikeBasis,
        scale: float,
    ) -> None:
        super().__init__(finer, rows, len(basis.basis))
        self.basis, self.noise, self.scale = basis, noise, scale
        shares = torch.stack([noise.shares(mine) for mine in rows])
        self.covariance = scale * noise.covariances(self.means, shares)
        self.column = central_columns(self.means[:, : self.used], basis)
        self.filter = matched_filter(self.column, self.covariance)
        around = neighbouring_columns(self.means[:, : self.used], basis)
        self.neighbours = matched_filter(around, self.covariance[:, None])

    @cached_property
    def spaces(self) -> list[tuple[Float[Tensor, "g q"], Float[Tensor, "g k q"]]]:
        """Variances, 0 where there is no such axis, and axes from moments to coordinates in units of the noise.

        They are the principal directions of the moments that stand out of the noise; the radial moments (m = 0), which all
        orientations of a motif share; and the one direction in which the column in the middle is brighter or darker, for
        which the fewest columns suffice.
        """
        k, scatter = self.used, self.scatter
        radial = _radial(self.basis.n_max, scatter.device)
        values, axes = _leading(scatter, self.covariance, noise_edge(self.size[:, None], k))
        within, noise = (part[:, radial][:, :, radial] for part in (scatter, self.covariance))
        inner_values, inner_axes = _leading(within, noise, 1e-9)
        whole = axes.new_zeros(len(axes), k, inner_axes.shape[2]).index_copy(1, radial, inner_axes)
        known = torch.cat([self.filter[:, None], self.neighbours], 1).mT
        power = (known * (scatter @ known)).sum(1)
        alone = zip(power.split(1, -1), known.split(1, -1), strict=True)
        return [(values, axes), (inner_values, whole), *alone]

    @cached_property
    def points(self) -> Points:
        """Along the directions of single columns, the noise's skewness is taken out: it would look like a few unlike columns."""
        plain = super().points
        first = self.axes.shape[2] - 1 - MOST_NEIGHBOURS
        known = self.noise.askew(self.means, self.axes[..., first:].mT, self.scale)[0]
        straight = straightened(plain.x[..., first:-1], known[self.group][:, None])[0] * self.present
        mean = self.total(straight.sum(1)) / plain.whole
        straight = (straight - mean[self.group][:, None]) * self.present
        variance = self.total(straight.square().sum(1)) / plain.whole
        there = self.axes[:, 0, first:] != 0
        self.bend = torch.stack([F.pad(part, (first, 0)) for part in (known, mean)], -1).double()
        x = torch.cat([plain.x[..., :first], straight, self.present], -1)
        variance = torch.cat([plain.variance[:, :first], torch.where(variance > 1e-9, variance, 1.0)], 1)
        return Points(x, x, self.group, plain.count, variance)

    def gains_askew(
        self, odds: Float[Tensor, "p w c"], discriminants: Float[Tensor, "g c q1"]
    ) -> Float[Tensor, "g c"]:
        """See `Blocks`."""
        first = self.axes.shape[2] - 1 - MOST_NEIGHBOURS
        directions = discriminants[..., :first]
        width = (directions.square() * self.points.variance[:, None, :first]).sum(-1).sqrt().clamp(min=1e-9)
        third, fourth = self.noise.askew(self.means, directions @ self.axes[..., :first].float().mT, self.scale)
        skewness = third / width**3
        # What the fourth cumulant is beyond that of a gamma variable (Comon, 1994):
        more = (fourth / width**4 - 1.5 * skewness.square()).square() / 48
        x = (odds - discriminants[self.group][:, None, :, -1]) / width[self.group][:, None]
        y, slope = straightened(x, skewness[self.group][:, None])
        gain = self.points.total((self.present.mT @ (0.5 * (x.square() - y.square()) + slope))[:, 0])
        return torch.where(directions.any(-1), gain + self.points.whole * more, 0.0)


@lru_cache(maxsize=16)
def _radial(n_max: int, device: torch.device) -> Int[Tensor, " r"]:
    """Which moments are radial, of m = 0."""
    return torch.nonzero(orders(n_max)[:, 1] == 0).flatten().to(device)


def _leading(scatter: Tensor, covariance: Tensor, least: Tensor | float) -> tuple[Tensor, Tensor]:
    """Leading variances above the least, else 0, and their axes."""
    values, axes = (part[..., :_MOST_AXES] for part in principal_axes(scatter, covariance))
    usable = values > least
    return torch.where(usable, values, 0.0), torch.where(usable[:, None], axes, 0.0)


class Candidates(NamedTuple):
    """c splits of each group, and what decides which of them is made."""

    pairs: Pairs
    odds: Float[Tensor, "p w c"]
    axes: Bool[Tensor, "g c q"]  # which coordinates each is a split in
    evidence: Float[Tensor, "g c"]  # -inf where there is none


def propose(groups: Blocks) -> Candidates:
    """Splits of the columns of each group in two, from many starts, followed until they no longer change."""
    points, widths = groups.points, tuple(values.shape[1] for values, _ in groups.spaces)
    usable = torch.cat([values for values, _ in groups.spaces], 1) > 0
    along, sign, least = _starts(widths, points.x.device)
    scores = points.x[..., :-1] / points.variance.sqrt()[points.group][:, None]
    parted = sign * scores[..., None] > least
    second = _SOFT + (1 - 2 * _SOFT) * parted.flatten(2).float()
    pairs = Pairs.after(points, points.sums(second), along, _STEPS_OF_ALL - 1)
    value = pairs.gains(points, points.odds(pairs))
    value = torch.where(usable.repeat_interleave(len(_STARTS), 1), value, -math.inf)
    which, there = _distinct_of(value, pairs.share, widths)
    pairs, along = pairs.at(which), along[which]
    pairs = pairs.settled(points, along, _MOST_LEAPS)
    odds = points.odds(pairs)
    usable = along.bool() & usable[:, None]
    price = (usable.sum(-1) + 1) * points.count[:, None].log()
    gains = pairs.gains(points, odds) - groups.gains_askew(odds, pairs.discriminant).clamp(min=0)
    evidence = torch.where(there, 2 * gains - price, -math.inf)
    return Candidates(pairs, odds, usable, evidence)


@lru_cache(maxsize=16)
def _starts(
    widths: tuple[int, ...], device: torch.device
) -> tuple[Float[Tensor, "b q"], Float[Tensor, " s"], Float[Tensor, " s"]]:
    """The axes of each start's space, and the signs and the least scores of the starts along an axis."""
    space = torch.repeat_interleave(torch.arange(len(widths)), torch.tensor(widths))
    along = (space.repeat_interleave(len(_STARTS))[:, None] == space).float()
    starts = torch.tensor(_STARTS)
    sign = torch.where(starts < 0, -1.0, 1.0)
    return along.to(device), sign.to(device), starts.abs().to(device)


def _distinct_of(value: Float[Tensor, "g b"], share: Tensor, widths: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Those of each space; spaces of one width that follow one another are looked at together."""
    found, start = [], 0
    for width, alike in groupby(widths):
        count, starts = len(list(alike)), len(_STARTS) * width
        of = slice(start, start + count * starts)
        which, there = _distinct(
            *(part[:, of].reshape(-1, starts) for part in (value, share)), _MOST_KEPT if width > 1 else _KEPT_ALONG
        )
        first = start + starts * torch.arange(count, device=value.device)[:, None]
        found.append(((which.view(len(value), count, -1) + first).flatten(1), there.view(len(value), -1)))
        start = of.stop
    which, there = (torch.cat(parts, 1) for parts in zip(*found, strict=True))
    return which, there


def _distinct(value: Float[Tensor, "g b"], share: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Indices of the mixtures of highest value among some, one of each kind, and whether there are so many."""
    value, order = value.sort(dim=1, descending=True, stable=True)
    share = share.gather(1, order)
    spread = torch.minimum(share, 1 - share)[:, :, None]
    near = (value[:, :, None] - value[:, None]).abs() < 0.01 + 1e-3 * value.abs()[:, :, None]
    alike = near & ((spread - spread.mT).abs() < 1e-3 + 0.02 * spread)
    dropped = alike.tril(-1).any(2) | (value == -math.inf)
    dropped, first = dropped.to(torch.uint8).sort(dim=1, stable=True)
    return order.gather(1, first[:, :most]), dropped[:, :most] == 0


def splits_of(
    groups: Blocks, found: Candidates, which: Int[Tensor, "g b"]
) -> tuple[list[list[Split]], Tensor]:
    """The chosen candidates as splits on the host, and which column belongs to the second component of the first one."""
    points = groups.points
    odds = found.odds.gather(2, which[points.group][:, None].expand(-1, found.odds.shape[1], -1))
    second = odds.sigmoid()
    pairs = found.pairs.at(which)
    sums = points.total(second.mT @ groups.blocks).double()
    n, count = points.count[:, None].double(), points.sums(second)[..., -1].double().clamp(min=1e-6)
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
    flat = torch.cat([part.double().flatten() for part in told]).cpu().split([part.numel() for part in told])
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
                Split(basis, means, intrinsic, share, float(evidence_), columns, sides[i, j].clone(), straight)
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
