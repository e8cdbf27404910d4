"""Under what conditions splits are seen."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from torchmotif.motifs.report import Resolution, found_detectability
from torchmotif.motifs.sides import Sides
from torchmotif.motifs.split import Split

__all__ = ["FEWEST", "Conditions", "Rules", "expected", "least_factor"]

FEWEST = 5  # columns of a motif
_ENOUGH = 50  # columns that are no accident, be they ever so rare

_POWERS = (-16.0, 16.0)  # of 2, between which factors of dose and columns are looked for
_TRIED = 17  # of them at once
_ROUNDS = 3
_ITERATIONS = 6
_MOST_LOST = 1.5  # by which factor a measured distance may be too small

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Rules:
    """What a split needs to be kept; see the parameters of `MotifClassifier`."""

    min_evidence: float
    min_detectability: float
    max_valley: float
    min_share: float

    def are_met(self, detectability: Values, evidence: Values) -> NDArray[np.bool_]:
        """Whether single columns can tell the sides apart and the data support them."""
        return (detectability >= self.min_detectability) & (evidence >= self.min_evidence)

    def fewest(self, columns: Values | float) -> NDArray[np.float64]:
        """The least number of columns that is a motif, of so many in all."""
        return np.asarray(np.clip(self.min_share * np.asarray(columns, dtype=float), FEWEST, _ENOUGH))


@dataclass(frozen=True)
class Conditions:
    """A dose and a number of columns, and what a split needs.

    Attributes
    ----------
    rules : Rules
    learnt : int
        Columns that the splits were learnt on.
    columns : int
        Columns in all that splits are to be seen with.
    relative_dose : float
        Dose, relative to the learnt one.
    """

    rules: Rules
    learnt: int
    columns: int
    relative_dose: float = 1.0

    def resolution(self, split: Split, motifs: tuple[tuple[int, ...], tuple[int, ...]]) -> Resolution:
        """Whether a split is seen, and what it takes."""
        as_learnt = self.relative_dose == 1 and self.columns == self.learnt
        seen = _Seen(split)
        here = split.columns * self.columns / self.learnt
        detectability, evidence = (
            float(value[0])
            for value in seen.at(np.full(1, float(self.relative_dose)), np.full(1, float(here)))
        )

        def is_enough(dose: Values, columns: Values) -> NDArray[np.bool_]:
            return self.rules.are_met(*seen.at(dose * self.relative_dose, columns * here))

        dose = least_factor(lambda x: is_enough(x, np.ones_like(x)))
        more = least_factor(lambda x: is_enough(np.ones_like(x), x))
        enough = bool(is_enough(np.ones(1), np.ones(1))[0])
        return Resolution(
            motifs,
            split.detectability() if as_learnt else detectability,
            seen.share,
            split.evidence if as_learnt else evidence,
            motifs[0] != motifs[1] if as_learnt else enough,
            dose,
            more * self.columns,
        )


def expected(
    sides: Sides, columns: Values | float, axes: int, kept: Values | float = 1.0
) -> tuple[Values, Values]:
    """Detectability and evidence that are expected of two motifs.

    The evidence is twice the gain in log-likelihood less the price of as many means as there are axes and of a share
    (Schwarz, 1978).
    """
    detectability, gain = sides.found(kept)
    return detectability, 2 * columns * gain - (axes + 1) * np.log(np.maximum(columns, 1.0))


def least_factor(is_enough: Callable[[Values], NDArray[np.bool_]]) -> float:
    """The least factor, of dose or columns, that is enough; inf where none is."""
    low, high = _POWERS
    for _ in range(_ROUNDS):
        powers = np.linspace(low, high, _TRIED)
        enough = is_enough(2.0**powers)
        if not enough[-1]:
            return math.inf
        short = np.nonzero(~enough)[0]  # what more would spoil, less does not mend
        first = int(short[-1]) + 1 if len(short) else 0
        low, high = float(powers[max(first - 1, 0)]), float(powers[first])
    return float(2.0**high)


class _Seen:
    """What is expected of a split at other doses and numbers of columns."""

    def __init__(self, split: Split) -> None:
        self._split = split
        self.share = min(split.share, 1 - split.share)
        used = int((split.axes != 0).any(1).sum())
        self._axes = split.axes.shape[1]
        # Where all directions are looked into, none has to be found; nor where it was known beforehand.
        self._moments = used if used > self._axes > 1 else 0
        self._whole = 1.0
        # What was measured is less than there is: by how much, the same expectation says.
        measured = split.detectability()
        for _ in range(_ITERATIONS):
            seen = float(self.at(np.ones(1), np.full(1, float(split.columns)))[0][0])
            step = min(max(measured / max(seen, 1e-9), 1 / _MOST_LOST), _MOST_LOST)
            self._whole = min(self._whole * step, _MOST_LOST)

    def at(self, relative_dose: Values, columns: Values) -> tuple[Values, Values]:
        """Detectability and evidence, at b doses with as many columns."""
        split, share = self._split, self.share
        whole = [self._whole * split.detectability(dose) for dose in relative_dose.tolist()]
        kept = [
            found_detectability(d, share, self._moments, n) / max(d, 1e-9)
            for d, n in zip(whole, columns.tolist(), strict=True)
        ]
        return expected(split.sides(relative_dose), columns, self._axes, self._whole * np.array(kept))
