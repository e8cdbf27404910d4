"""Under what conditions splits are seen."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torchmotif.motifs.report import Resolution, expected_evidence, found_detectability
from torchmotif.motifs.split import Split

__all__ = ["Conditions", "Rules"]

_POWERS = (-20.0, 20.0)  # of 2, between which factors of dose and columns are looked for
_BISECTIONS = 25
_ITERATIONS = 10
_MOST_LOST = 1.5  # by which factor a measured distance may be too small


@dataclass(frozen=True)
class Rules:
    """What a split needs to be kept; see the parameters of `MotifClassifier`."""

    min_evidence: float
    min_detectability: float
    max_valley: float
    min_share: float


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
        seen = _Seen(split, self.rules)
        here = split.columns * self.columns / self.learnt
        detectability, evidence = seen.at(self.relative_dose, here)
        dose = _least(lambda x: seen.is_enough(x * self.relative_dose, here))
        more = _least(lambda x: seen.is_enough(self.relative_dose, x * here))
        return Resolution(
            motifs,
            split.detectability() if as_learnt else detectability,
            seen.share,
            split.evidence if as_learnt else evidence,
            motifs[0] != motifs[1] if as_learnt else seen.is_enough(self.relative_dose, here),
            dose,
            more * self.columns,
        )


class _Seen:
    """What is expected of a split at other doses and numbers of columns."""

    def __init__(self, split: Split, rules: Rules) -> None:
        self._split, self._rules = split, rules
        self.share = min(split.share, 1 - split.share)
        used = int((split.axes != 0).any(1).sum())
        self._axes = split.axes.shape[1]
        # Where all directions are looked into, none has to be found.
        self._moments = used if used > self._axes else 0
        # What was measured lies askew already.
        measured, whole = split.detectability(), split.detectability()
        for _ in range(_ITERATIONS):
            seen = found_detectability(whole, self.share, self._moments, split.columns)
            whole *= min(max(measured / max(seen, 1e-9), 0.5), _MOST_LOST)
        self._lost = min(whole / max(measured, 1e-9), _MOST_LOST)

    def at(self, relative_dose: float, columns: float) -> tuple[float, float]:
        """Detectability and evidence."""
        whole = self._lost * self._split.detectability(relative_dose)
        detectability = found_detectability(whole, self.share, self._moments, columns)
        return detectability, expected_evidence(detectability, self.share, self._axes, columns)

    def is_enough(self, relative_dose: float, columns: float) -> bool:
        """Whether both are enough."""
        detectability, evidence = self.at(relative_dose, columns)
        return detectability >= self._rules.min_detectability and evidence >= self._rules.min_evidence


def _least(is_enough: Callable[[float], bool]) -> float:
    """The least factor that is enough; inf where none is."""
    low, high = _POWERS
    if not is_enough(2.0**high):
        return math.inf
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if is_enough(2.0**middle) else (middle, high)
    return float(2.0**high)
