"""What a mixture of two Gaussians finds of two motifs at some dose, in so many columns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import pearson3

from torchmotif.motifs._mixture import Pairs, Points
from torchmotif.motifs._split import Split, Values

__all__ = ["Components", "Expectation", "expected", "found_detectability", "least_enough", "min_scale"]

_STEPS = 60  # of expectation and maximisation
_DENSITY_POINTS = 401  # of an expected density
_DENSITY_REACH = 7.0  # standard deviations beyond both means
_MOST_APART = 30.0  # standard deviations, beyond which nothing changes
_TRIED, _REFINED = 17, 3  # numbers at once, and how often the interval between two of them is looked into
_SCALE_POWERS = (-16.0, 16.0)  # of 2, between which factors of dose and columns are looked for
_CORRECTIONS = 6  # of what a measured distance stands for
_MOST_LOST = 1.5  # by which factor a measured distance may be too small

Flags = np.typing.NDArray[np.bool_]
Numbers = np.typing.NDArray[np.int64]


@dataclass(frozen=True)
class Components:
    """Two motifs at b doses, each along the direction that tells them apart best there."""

    step: Values  # distance of their means
    intrinsic: Values  # variance of either beyond the noise
    noise: Values  # variance of the noise of each
    skew: Values  # third cumulant of the noise of each: that of few electrons has a tail towards more of them
    share: Values | float  # of the columns that belong to the second

    @classmethod
    def of(cls, split: Split, relative_doses: Values) -> "Components":
        """Those of a split along the directions that tell its sides apart best at some doses."""
        dose = torch.from_numpy(relative_doses).to(split.means)[:, None]
        values, vectors = torch.linalg.eigh(split.intrinsic)
        step = split.means[1] - split.means[0]
        direction = (step @ vectors / (values + 1 / dose)) @ vectors.T
        direction = direction / direction.norm(dim=1, keepdim=True).clamp(min=1e-12)
        one = torch.eye(len(step), dtype=step.dtype)
        second, third = split.cumulants or (one.expand(2, -1, -1), one.new_zeros(2, *one.shape, len(one)))
        noise = torch.einsum("sab,da,db->ds", second, direction, direction) / dose
        skew = torch.einsum("sabc,da,db,dc->ds", third, direction, direction, direction) / dose**2
        intrinsic = torch.einsum("ab,da,db->d", split.intrinsic, direction, direction).clamp(min=0)
        return cls((direction @ step).numpy(), intrinsic.numpy(), noise.numpy(), skew.numpy(), split.share)

    @classmethod
    def of_many(cls, splits: Sequence[Split], relative_doses: Values) -> "Components":
        """Those of s splits, each at t doses, one after the other: s times t."""
        each = [cls.of(split, doses) for split, doses in zip(splits, relative_doses, strict=True)]
        share = np.repeat([split.share for split in splits], relative_doses.shape[1])
        step, intrinsic, noise, skew = (
            np.concatenate([getattr(one, name) for one in each])
            for name in ("step", "intrinsic", "noise", "skew")
        )
        return cls(step, intrinsic, noise, skew, share)

    def found(self, kept: Values | float = 1.0) -> tuple[Values, Values]:
        """What a mixture of two Gaussians of one width, nowhere narrower than the noise, finds in many columns.

        The noise of a darker motif is less, and few electrons scatter askew; Gaussians of one width make of it less than
        there is. So the mixture is fitted to the density that is expected, where `kept` of the distance is left. Given are the
        Gaussians' distance in their width, and a column's mean gain in log-likelihood over one Gaussian, both of shape (b,).
        """
        share = np.broadcast_to(self.share, self.step.shape)
        # Least of any variance, the unit from here on:
        least = (1 - share) * self.noise[:, 0] + share * self.noise[:, 1]
        reach = _MOST_APART * np.sqrt(1 + self.intrinsic / least)
        step = np.clip(self.step * kept / np.sqrt(least), -reach, reach)[:, None]
        x, density = map(torch.from_numpy, self._density(step, least[:, None]))
        second = torch.sigmoid(torch.from_numpy(4 * np.sign(step)) * (x - torch.from_numpy(step) / 2))
        x = x - (x * density).sum(1, keepdim=True)
        places = torch.stack([x, torch.ones_like(x)], -1)
        variance = (x.square() * density).sum(1, keepdim=True)
        points = Points(
            places, places * density[..., None], torch.arange(len(x)), torch.ones(len(x)), variance
        )
        along = torch.ones(1, 1, dtype=x.dtype)
        pairs = Pairs.after(points, points.sums(second[..., None]), along, _STEPS)
        gain = pairs.gains(points, points.odds(pairs))[:, 0]
        return pairs.detectability()[:, 0].numpy(), gain.clamp(min=0).numpy()

    def _density(self, step: Values, least: Values) -> tuple[Values, Values]:
        """Places (b, p) and the share of the columns at each, for steps (b, 1), in units of the least variance (b, 1)."""
        noise = np.maximum(self.noise, 1e-9)
        spread = _DENSITY_REACH * np.sqrt((self.intrinsic + noise.max(1))[:, None] / least)
        low, high = np.minimum(step, 0) - spread, np.maximum(step, 0) + spread
        x = low + (high - low) * np.linspace(0, 1, _DENSITY_POINTS)
        density = np.zeros_like(x)
        second = np.broadcast_to(self.share, self.step.shape)[:, None]
        for i, (share, mean) in enumerate(((1 - second, 0 * step), (second, step))):
            variance = (self.intrinsic + noise[:, i])[:, None]
            skew = self.skew[:, i, None] / variance**1.5
            with np.errstate(divide="ignore"):  # beyond the end of a density that has one
                density += share * pearson3.pdf(x, skew, loc=mean, scale=np.sqrt(variance / least))
        return x, density / density.sum(1, keepdims=True)


def expected(
    components: Components, columns: Values | float, axes: Numbers | int, kept: Values | float = 1.0
) -> tuple[Values, Values]:
    """Detectability and evidence that are expected of two motifs.

    The evidence is twice the gain in log-likelihood less the price of as many means as there are axes and of a share
    (Schwarz, 1978).
    """
    detectability, gain = components.found(kept)
    return detectability, 2 * columns * gain - (axes + 1) * np.log(np.maximum(columns, 1.0))


def found_detectability(
    detectability: Values | float, share: Values | float, moments: Numbers | int, columns: Values | float
) -> Values:
    """What is left of the distance between components when the direction between them has to be found among moments.

    The leading principal direction of columns in noise lies askew to that of what varies: the square of the cosine
    between them is (1 - g / l^2) / (1 + g / l), with the variance l that the two components add and the number g of moments
    per column (Paul, 2007); 0 where the direction is lost in the noise.

    Examples
    --------
    >>> found_detectability(np.array([2.7]), 0.06, 66, np.array([2350.0])).round(1)
    array([2.4])
    """
    added, ratio = share * (1 - share) * detectability**2, moments / np.maximum(columns, 1.0)
    lost = added**2 <= ratio
    added = np.where(lost, 1.0, added)
    square = np.where(lost, 0.0, (1 - ratio / added**2) / (1 + ratio / added))
    return np.asarray(detectability * np.sqrt(square))


def min_scale(is_enough: Callable[[Values], Flags], rows: int = 1) -> Values:
    """The least factors, of dose or columns, that are enough in each of some rows, shape (rows,); inf where none is."""
    low, high = (np.full(rows, power) for power in _SCALE_POWERS)
    powers = least_enough(lambda powers: is_enough(2.0**powers), low, high)
    return np.where(np.isnan(powers), np.inf, 2.0**powers)


def least_enough(is_enough: Callable[[Values], Flags], low: Values, high: Values) -> Values:
    """The least number of the interval in each row from which on all are enough; nan where none is. Tried are arrays (rows, t)."""
    never = np.zeros(len(low), bool)
    for _ in range(_REFINED):
        tried = np.linspace(low, high, _TRIED, axis=1)
        enough = is_enough(tried)
        never |= ~enough[:, -1]
        # What more would spoil, less does not mend: after the last that is not enough.
        first = np.where(enough.all(1), 0, _TRIED - np.argmin(enough[:, ::-1], axis=1)).clip(max=_TRIED - 1)
        low, high = (np.take_along_axis(tried, at[:, None], 1)[:, 0] for at in ((first - 1).clip(0), first))
    return np.where(never, np.nan, high)


class Expectation:
    """What detectability and evidence are expected of some splits at other doses and with other numbers of columns, in one batch."""

    def __init__(self, splits: Sequence[Split]) -> None:
        self.splits = splits
        self.share = np.array([min(split.share, 1 - split.share) for split in splits])
        self.axes = np.array([split.axes.shape[1] for split in splits])
        used = np.array([int((split.axes != 0).any(1).sum()) for split in splits])
        # Where all directions are looked into, none has to be found; nor where it was known beforehand.
        self.moments = np.where((used > self.axes) & (self.axes > 1), used, 0)
        # What was measured is less than there is: by how much, the same expectation says.
        self.lost = np.ones(len(splits))
        measured = np.array([split.detectability() for split in splits])
        columns = np.array([[float(split.columns)] for split in splits])
        for _ in range(_CORRECTIONS):
            seen = self.at(np.arange(len(splits)), np.ones_like(columns), columns)[0][:, 0]
            step = np.clip(measured / np.maximum(seen, 1e-9), 1 / _MOST_LOST, _MOST_LOST)
            self.lost = np.minimum(self.lost * step, _MOST_LOST)

    def at(self, which: Numbers, relative_dose: Values, columns: Values) -> tuple[Values, Values]:
        """Of the splits with these numbers, shape (r,), at doses and with columns of shape (r, t)."""
        one = [self.splits[number] for number in which]
        whole = np.stack(
            [split.detectabilities(dose) for split, dose in zip(one, relative_dose, strict=True)]
        )
        whole = whole * self.lost[which, None]
        share, moments = self.share[which, None], self.moments[which, None]
        kept = found_detectability(whole, share, moments, columns) / np.maximum(whole, 1e-9)
        components = Components.of_many(one, relative_dose)
        axes = np.repeat(self.axes[which], relative_dose.shape[1])
        found = expected(components, columns.ravel(), axes, (self.lost[which, None] * kept).ravel())
        return found[0].reshape(columns.shape), found[1].reshape(columns.shape)
