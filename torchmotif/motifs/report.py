"""Which motifs single columns tell apart, at this dose and number of columns and at others."""

import math
from dataclasses import dataclass

import numpy as np

__all__ = ["Resolution", "expected_evidence", "found_detectability"]

_GRID = 2001  # points of the integrals
_WIDEST = 8.0  # standard deviations beyond both means
_FURTHEST = 30.0  # distance beyond which nothing changes


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


def expected_evidence(detectability: float, share: float, axes: int, columns: float) -> float:
    """Evidence that so many columns give on average for two sides of one shape.

    Twice the mean gain in log-likelihood of two Gaussians, d' apart, over the one of their mean and variance, less the
    price of as many means as there are axes and of a share (Schwarz, 1978).

    Examples
    --------
    >>> expected_evidence(3.0, 0.1, 6, 5000) > 10 > expected_evidence(1.5, 0.1, 6, 5000)
    True
    """
    return 2 * columns * _gain(detectability, share) - (axes + 1) * math.log(max(columns, 1.0))


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


def _gain(detectability: float, share: float) -> float:
    """Mean gain in log-likelihood of a column."""
    share, detectability = min(max(share, 1e-9), 1 - 1e-9), min(detectability, _FURTHEST)
    x = np.linspace(-_WIDEST, detectability + _WIDEST, _GRID)
    two = (1 - share) * np.exp(-0.5 * x**2) + share * np.exp(-0.5 * (x - detectability) ** 2)
    mean, variance = share * detectability, 1 + share * (1 - share) * detectability**2
    one = np.exp(-0.5 * (x - mean) ** 2 / variance) / math.sqrt(variance)
    density = two / math.sqrt(2 * math.pi)
    logarithm = np.log(np.maximum(two, 1e-300)) - np.log(np.maximum(one, 1e-300))
    return max(float(np.trapezoid(density * logarithm, x)), 0.0)
