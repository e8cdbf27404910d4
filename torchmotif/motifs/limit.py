"""Which motifs would have been found if they were there: the limit of detection."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.stats import pearson3
from torch import Tensor

from torchmotif.motifs.centre import central_column
from torchmotif.motifs.noise import CountingNoise
from torchmotif.motifs.resolve import Conditions, expected, least_factor
from torchmotif.motifs.sides import Sides
from torchmotif.motifs.split import matched_filter
from torchmotif.zernike import ZernikeBasis

__all__ = ["CentralColumn", "DetectionLimit", "Question"]

_ONE_SIGMA = 0.8413  # of a Gaussian lies below its mean and one standard deviation
_TRIED = 33  # shares, or changes, at once
_ROUNDS = 2
_BRIGHTEST = 4.0  # times as bright, at most

Values = NDArray[np.float64]


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
        here = []
        if not math.isnan(self.least_share):
            here.append(f"{self.least_share:.2g} of it")
        if not math.isnan(self.least_change):
            here.append(f"{abs(self.least_change):.0%} {word}")
        limit = f"; here from {' or '.join(here)} on" if here else ""
        if self.found:
            return f"{known} would be found (d' {self.detectability:.1f}){limit}"
        needs = [f"about {self.least_columns:,.0f} columns"] * math.isfinite(self.least_columns)
        needs += [f"about {self.least_relative_dose:.2g} times this dose"] * math.isfinite(
            self.least_relative_dose
        )
        wanted = " or ".join(needs) or "another kind of image"
        return f"{known} would not be found (d' {self.detectability:.1f}): needs {wanted}{limit}"


@dataclass(frozen=True)
class CentralColumn:
    """The column in the middle of a motif's patches, along the direction in which it stands out of the noise most.

    Attributes
    ----------
    count : int
        Learnt columns of the motif.
    strength : float
        The whole column, in standard deviations of the noise; 0 where there is none in the middle.
    scatter : (float, float)
        Variance beyond the noise of the motif's columns, told from those darker and those brighter than the middle one.
    skew : float
        Third cumulant of the noise.
    noise_of_column, skew_of_column : float
        What the column itself adds to the noise's variance, 1, and to its third cumulant.
    """

    count: int
    strength: float
    scatter: tuple[float, float]
    skew: float
    noise_of_column: float
    skew_of_column: float

    @classmethod
    def of(
        cls,
        finer: Float[Tensor, "n l"],
        noise: CountingNoise,
        basis: ZernikeBasis,
        scale: float,
        rows: Tensor,
    ) -> "CentralColumn":
        """That of the columns `rows`, whose moments may reach to higher orders than the basis."""
        mine = finer[rows]
        mean = mine.mean(0)
        k = len(basis.basis)
        column = central_column(mean[:k], basis)
        covariance = scale * noise.covariance(rows)
        axis = matched_filter(column, covariance)
        if not bool(axis.any()):
            return cls(len(rows), 0.0, (0.0, 0.0), 0.0, 0.0, 0.0)
        values = mine[:, :k] @ axis
        levels = values.new_tensor([1 - _ONE_SIGMA, 0.5, _ONE_SIGMA])
        low, middle, high = torch.quantile(values, levels).tolist()
        _, third = noise.cumulants(mean, axis[:, None])
        skew = scale**2 * float(third)
        alone = np.asarray(pearson3.ppf([1 - _ONE_SIGMA, 0.5, _ONE_SIGMA], skew))
        darker = ((middle - low) / float(alone[1] - alone[0])) ** 2 - 1
        brighter = ((high - middle) / float(alone[2] - alone[1])) ** 2 - 1
        second, of_column = noise.cumulants(column, axis[:, None], level=False)
        return cls(
            len(rows),
            float(column @ axis),
            (max(darker, 0.0), max(brighter, 0.0)),
            skew,
            scale * float(second),
            scale**2 * float(of_column),
        )

    def changed(self, change: Values, share: float, dose: Values) -> Sides:
        """The motif, and columns of it changed in the middle."""
        # What is hidden on one side does not widen the other.
        scatter = np.where(change < 0, self.scatter[1], self.scatter[0]).astype(float)
        noise = np.stack([np.ones_like(change), 1 + change * self.noise_of_column], 1) / dose[:, None]
        skew = np.stack([np.full_like(change, self.skew), self.skew + change * self.skew_of_column], 1)
        return Sides(change * self.strength, scatter, noise.clip(min=1e-9), skew / dose[:, None] ** 2, share)


@dataclass(frozen=True)
class Question:
    """What is asked: a change of some columns of a motif, under some conditions.

    Attributes
    ----------
    conditions : Conditions
    change, share : float
        See `DetectionLimit`.
    """

    conditions: Conditions
    change: float
    share: float

    def answer(self, motif: int, column: CentralColumn) -> DetectionLimit:
        """For one motif."""
        one = np.ones(1)
        detectability, evidence, enough = self._of(column, self.change * one, self.share, one, one)

        def at(dose: Values, more: Values) -> NDArray[np.bool_]:
            return self._of(column, np.full_like(dose, self.change), self.share, dose, more)[2]

        def of_share(shares: Values) -> NDArray[np.bool_]:
            found = [self._of(column, self.change * one, float(s) / 2, one, one)[2] for s in shares]
            return np.concatenate(found)

        def of_change(changes: Values) -> NDArray[np.bool_]:
            here = np.ones_like(changes)
            return self._of(column, changes * most, self.share, here, here)[2]

        most = -1.0 if self.change < 0 else _BRIGHTEST
        dose = least_factor(lambda x: at(x, np.ones_like(x)))
        columns = least_factor(lambda x: at(np.ones_like(x), x)) * self.conditions.columns
        return DetectionLimit(
            motif,
            self.change,
            self.share,
            float(detectability[0]),
            float(evidence[0]),
            bool(enough[0]),
            dose,
            columns,
            _least(of_share) / 2,  # the half is the part
            _least(of_change) * most,
        )

    def _of(
        self, column: CentralColumn, change: Values, share: float, dose: Values, more: Values
    ) -> tuple[Values, Values, NDArray[np.bool_]]:
        """Detectability, evidence and whether they are enough, for factors of dose and columns."""
        rules, whole = self.conditions.rules, more * self.conditions.columns
        mine = whole * column.count / self.conditions.learnt
        sides = column.changed(change, share, dose * self.conditions.relative_dose)
        detectability, evidence = expected(sides, mine, 1)
        enough = rules.are_met(detectability, evidence) & (share * mine >= rules.fewest(whole))
        return detectability, evidence, enough


def _least(is_enough: Callable[[Values], NDArray[np.bool_]]) -> float:
    """The least number between 0 and 1 that is enough; nan where none is."""
    low, high = 0.0, 1.0
    for _ in range(_ROUNDS):
        tried = np.linspace(low, high, _TRIED)[1:]
        enough = is_enough(tried)
        if not enough.any():
            return math.nan
        first = int(np.argmax(enough))
        low, high = (float(tried[first - 1]) if first else low), float(tried[first])
    return high
