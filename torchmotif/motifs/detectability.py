"""Which motifs single columns tell apart, and which would be found if they were there; here and at other doses."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import pearson3
from torch import Tensor

from torchmotif.motifs._expectation import (
    Components,
    Expectation,
    Flags,
    Numbers,
    expected,
    least_enough,
    min_scale,
)
from torchmotif.motifs._groups import Groups
from torchmotif.motifs._noise import CountingNoise
from torchmotif.motifs._split import Split, Values

__all__ = ["Acquisition", "CentralColumn", "DetectionLimit", "Motifs", "Resolution", "SplitCriteria"]

Motifs = tuple[tuple[int, ...], tuple[int, ...]]  # on either side of a split

FEWEST = 5  # columns of a motif
_ENOUGH = 50  # columns that are no accident, be they ever so rare
QUANTILES = 0.1587, 0.5, 0.8413  # a standard deviation of a Gaussian below its mean, its mean, and one above
# Of the dose, below which no number is said: it is extrapolated from columns that are found now, and benchmarks go down to 1/100.
LEAST_DOSE = 1 / 1000
_BRIGHTEST = 4.0  # times as bright, at most


@dataclass(frozen=True)
class Resolution:
    """How two motifs, or two groups of them, are told apart, or would be.

    Attributes
    ----------
    motifs : (tuple of int, tuple of int)
        The motifs on either side; the same one twice where a motif may be two that this dose and number of columns do
        not tell apart.
    detectability : float
        Distance between the sides in standard deviations of one column (d').
    share : float
        Of the columns of both sides that are on the smaller one.
    evidence : float
        Difference of the Bayesian information criterion in favour of two sides; above 10 it is very strong
        (Kass & Raftery, 1995).
    resolved : bool
        Whether both are found at this dose with this number of columns.
    least_relative_dose : float
        Down to which dose, relative to this one, this number of columns tells the sides apart; above 1 where more is
        needed, inf where no dose would do.
    least_columns : float
        How many columns in all (of every motif) tell them apart at this dose; inf where single columns are too much
        alike.
    """

    motifs: tuple[tuple[int, ...], tuple[int, ...]]
    detectability: float
    share: float
    evidence: float
    resolved: bool
    least_relative_dose: float
    least_columns: float

    def __str__(self) -> str:
        """Say it in a line."""
        first, second = (" ".join(str(motif) for motif in side) for side in self.motifs)
        sides = f"{first} | {second}" if first != second else f"{first}, perhaps two motifs"
        known = f"{sides}: d' {self.detectability:.1f}, {self.share:.1%} on the smaller side"
        dose = f"{self.least_relative_dose:.2g}"
        if self.resolved:
            told = f"down to {dose}" if self.least_relative_dose >= LEAST_DOSE else f"even at {LEAST_DOSE:g}"
            return f"{known}, evidence {self.evidence:.0f}, {told} of this dose"
        needs = [f"about {round(self.least_columns, -2):,.0f} columns"] * math.isfinite(self.least_columns)
        needs += [f"{dose} times this dose"] * math.isfinite(self.least_relative_dose)
        return f"{known}, not resolvable here: needs {' or '.join(needs) or 'another kind of image'}"


@dataclass(frozen=True)
class DetectionLimit:
    """Whether some columns of a motif, were they brighter or darker in the middle, would be a motif of their own.

    Attributes
    ----------
    motif : int
        Of which they would be part now.
    change : float
        Of the intensity of the column in the middle, relative to it; below 0 where they are darker.
    share : float
        Of the columns of the motif that are so.
    detectability : float
        Distance of two Gaussians that would be found, in standard deviations of one column.
    evidence : float
        Difference of the Bayesian information criterion that is expected.
    found : bool
        Whether both would be enough.
    least_relative_dose : float
        From which dose on, relative to this one, this number of columns would be enough; inf where no dose would do.
    least_columns : float
        From how many columns in all (of every motif) on this dose would be enough; inf where no number would do.
    least_share : float
        From which share of the motif on they would be found here; nan where none would do.
    least_change : float
        From which change on, in the same direction, they would be found here; nan where none would do.
    """

    motif: int
    change: float
    share: float
    detectability: float
    evidence: float
    found: bool
    least_relative_dose: float
    least_columns: float
    least_share: float
    least_change: float

    def __str__(self) -> str:
        """Say it in a line."""
        word = "darker" if self.change < 0 else "brighter"
        known = f"motif {self.motif}: a part of {self.share:.2g} of it, {abs(self.change):.0%} {word} in the middle,"
        here = [f"{self.least_share:.2g} of it"] * (not math.isnan(self.least_share))
        here += [f"{abs(self.least_change):.0%} {word}"] * (not math.isnan(self.least_change))
        limit = f"; here from {' or '.join(here)} on" if here else ""
        if self.found:
            return f"{known} would be found (d' {self.detectability:.1f}){limit}"
        dose = self.least_relative_dose
        needs = [f"about {self.least_columns:,.0f} columns"] * math.isfinite(self.least_columns)
        needs += [f"about {dose:.2g} times this dose"] * math.isfinite(dose)
        wanted = " or ".join(needs) or "another kind of image"
        return f"{known} would not be found (d' {self.detectability:.1f}): needs {wanted}{limit}"


@dataclass(frozen=True)
class SplitCriteria:
    """What a split needs to be kept; see the parameters of `MotifClassifier`."""

    min_evidence: float
    min_detectability: float
    max_valley: float
    min_share: float

    def are_met(self, detectability: Values, evidence: Values) -> Flags:
        """Whether single columns can tell the components apart and the data support them."""
        return (detectability >= self.min_detectability) & (evidence >= self.min_evidence)

    def min_columns(self, columns: Values | float) -> Values:
        """The least number of columns that is a motif, of so many in all."""
        return min_columns(self.min_share, columns)


def min_columns(min_share: float, columns: Values | float) -> Values:
    """The least number of columns that is a motif, of so many in all."""
    return np.asarray(np.clip(min_share * np.asarray(columns, dtype=float), FEWEST, _ENOUGH))


class Middle(NamedTuple):
    """What is measured in the middle of the patches of a motif, on the host."""

    columns: int  # of the motif that were learnt on
    mean: Float[Tensor, " l"]  # of their moments
    column: Float[Tensor, " k"]  # what the column in the middle adds to them; zero where there is none
    axis: Float[Tensor, " k"]  # along which it stands out of the noise most, which scatters by 1 there
    quantiles: list[float]  # of the moments along it: `QUANTILES`

    @classmethod
    def of(cls, groups: Groups) -> "list[Middle]":
        """Those of groups of columns."""
        k = groups.column.shape[1]
        along = torch.bmm(groups.blocks[..., :k], groups.filters[:, 0].float()[groups.group][..., None])
        values = groups.quantiles(groups.of_columns(along), QUANTILES)
        told = [groups.means, groups.column, groups.filters[:, 0], values.double()]
        means, columns, axes, places = torch.cat(told, 1).cpu().split([part.shape[1] for part in told], 1)
        return [
            cls(count, means[i].clone(), columns[i].clone(), axes[i].clone(), places[i].tolist())
            for i, count in enumerate(groups.counts)
        ]


@dataclass(frozen=True)
class CentralColumn:
    """The column in the middle of a motif's patches, along the direction in which it stands out of the noise most."""

    count: int  # learnt columns of the motif
    # The whole column, in standard deviations of the noise; 0 where there is none in the middle:
    strength: float = 0.0
    # Variance beyond the noise of the motif's columns, told from those darker and those brighter than the middle one:
    scatter: tuple[float, float] = (0.0, 0.0)
    noise_of_column: float = 0.0  # what the column itself adds to the noise's variance, 1

    @classmethod
    def of(cls, middle: "Middle", noise: CountingNoise, scale: float) -> "CentralColumn":
        """That of a motif, whose noise is larger by a factor."""
        if not bool(middle.axis.any()):
            return cls(middle.columns)
        axis = middle.axis[:, None]
        skew = scale**2 * float(noise.cumulants(middle.mean, axis)[1])
        darker, brighter = (np.diff(middle.quantiles) / np.diff(pearson3.ppf(QUANTILES, skew))) ** 2 - 1
        second, _ = noise.cumulants(middle.column, axis, level=False)
        return cls(
            middle.columns,
            float(middle.column @ middle.axis),
            (max(float(darker), 0.0), max(float(brighter), 0.0)),
            scale * float(second),
        )

    def changed(self, change: Values, share: Values, dose: Values) -> Components:
        """The motif, and columns of it changed in the middle."""
        # What is hidden on one side does not widen the other.
        scatter = np.where(change < 0, self.scatter[1], self.scatter[0]).astype(float)
        noise = np.stack([np.ones_like(change), 1 + change * self.noise_of_column], 1) / dose[:, None]
        # Skewness is taken out along this direction before splits are looked for.
        return Components(change * self.strength, scatter, noise.clip(min=1e-9), np.zeros_like(noise), share)


@dataclass(frozen=True)
class Acquisition:
    """A dose and a number of columns, and what a split needs there."""

    criteria: SplitCriteria
    learnt: int  # columns that the splits were learnt on
    columns: int  # columns in all that splits are to be seen with
    relative_dose: float = 1.0  # dose, relative to the learnt one

    def resolutions(self, splits: Sequence[Split], motifs: Sequence[Motifs]) -> list[Resolution]:
        """Whether splits between these motifs are seen, and what it takes; all are looked at together."""
        if not splits:
            return []
        expectation, n = Expectation(splits), len(splits)
        here = np.array([[split.columns * self.columns / self.learnt] for split in splits])

        def at(which: Numbers, dose: Values, columns: Values) -> tuple[Values, Values]:
            return expectation.at(which, dose * self.relative_dose, columns * here[which])

        def is_enough(tried: Values) -> Flags:
            """Of the first n rows the factor of the dose, of the others that of the number of columns."""
            one = np.ones_like(tried[:n])
            dose, columns = np.concatenate([tried[:n], one]), np.concatenate([one, tried[n:]])
            return self.criteria.are_met(*at(np.tile(np.arange(n), 2), dose, columns))

        detectability, evidence = (part[:, 0] for part in at(np.arange(n), np.ones((n, 1)), np.ones((n, 1))))
        resolved = self.criteria.are_met(detectability, evidence)
        if self.relative_dose == 1 and self.columns == self.learnt:
            detectability = np.array([split.detectability() for split in splits])
            evidence = np.array([split.evidence for split in splits])
            resolved = np.array([one != other for one, other in motifs])
        scales = min_scale(is_enough, 2 * n)
        return [
            Resolution(
                motifs[i],
                float(detectability[i]),
                min(split.share, 1 - split.share),
                float(evidence[i]),
                bool(resolved[i]),
                float(scales[i]),
                float(scales[n + i]) * self.columns,
            )
            for i, split in enumerate(splits)
        ]

    def detection_limit(
        self, motif: int, column: CentralColumn, change: float, share: float
    ) -> DetectionLimit:
        """Whether a changed share of a motif's columns would be found, and what it takes."""

        def at(changes: Values, shares: Values, dose: Values, more: Values) -> tuple[Values, Values, Flags]:
            whole = more * self.columns
            mine = whole * column.count / self.learnt
            components = column.changed(changes, shares, dose * self.relative_dose)
            detectability, evidence = expected(components, mine, 1)
            enough = self.criteria.are_met(detectability, evidence)
            return detectability, evidence, enough & (shares * mine >= self.criteria.min_columns(whole))

        def enough(x: Values, **varied: Values) -> Flags:
            one = np.ones(x.size)
            known = {"changes": change * one, "shares": share * one, "dose": one, "more": one}
            known |= {name: values.ravel() for name, values in varied.items()}
            return at(**known)[2].reshape(x.shape)

        most = -1.0 if change < 0 else _BRIGHTEST
        one = np.ones(1)
        detectability, evidence, found = (part[0] for part in at(change * one, share * one, one, one))
        return DetectionLimit(
            motif,
            change,
            share,
            float(detectability),
            float(evidence),
            bool(found),
            float(min_scale(lambda x: enough(x, dose=x))[0]),
            float(min_scale(lambda x: enough(x, more=x))[0]) * self.columns,
            # Half of the motif is the most.
            float(least_enough(lambda x: enough(x, shares=x), 0 * one, 0.5 * one)[0]),
            float(least_enough(lambda x: enough(x, changes=x * most), 0 * one, one)[0]) * most,
        )
