"""Which motifs single columns tell apart, at this dose and number of columns and at others."""

import math
from dataclasses import dataclass

__all__ = ["Resolution", "found_detectability"]


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
            return f"{known}, evidence {self.evidence:.0f}, down to {dose} of this dose"
        needs = [f"about {round(self.least_columns, -2):,.0f} columns"] * math.isfinite(self.least_columns)
        needs += [f"{dose} times this dose"] * math.isfinite(self.least_relative_dose)
        return f"{known}, not resolvable here: needs {' or '.join(needs) or 'another kind of image'}"


def found_detectability(detectability: float, share: float, moments: int, columns: float) -> float:
    """What is left of the distance between two sides when the direction between them has to be found among moments.

    The leading principal direction of columns in noise lies askew to that of what varies: the square of the cosine
    between them is (1 - g / l^2) / (1 + g / l), with the variance l that the two sides add and the number g of moments
    per column (Paul, 2007); 0 where the direction is lost in the noise.

    Examples
    --------
    >>> round(found_detectability(2.7, 0.06, 66, 2350), 1)
    2.4
    """
    added, ratio = share * (1 - share) * detectability**2, moments / max(columns, 1.0)
    if added**2 <= ratio:
        return 0.0
    return detectability * math.sqrt((1 - ratio / added**2) / (1 + ratio / added))
