"""Which motifs single columns tell apart, at this dose and at others."""

from dataclasses import dataclass

__all__ = ["Resolution"]


@dataclass(frozen=True)
class Resolution:
    """How two motifs, or two groups of them, are told apart.

    Attributes
    ----------
    motifs : (tuple of int, tuple of int)
        The motifs on either side.
    detectability : float
        Distance between the sides in standard deviations of one column (d').
    share : float
        Of the columns of both sides that are on the smaller one.
    evidence : float
        Difference of the Bayesian information criterion in favour of two sides; above 10 it is very strong
        (Kass & Raftery, 1995).
    least_relative_dose : float
        Down to which dose, relative to the learnt one, single columns tell the sides apart; above 1 where they do not.
    """

    motifs: tuple[tuple[int, ...], tuple[int, ...]]
    detectability: float
    share: float
    evidence: float
    least_relative_dose: float

    def __str__(self) -> str:
        """Say it in a line."""
        first, second = (" ".join(str(motif) for motif in side) for side in self.motifs)
        return (
            f"{first} | {second}: d' {self.detectability:.1f}, {self.share:.1%} on the smaller side, "
            f"evidence {self.evidence:.0f}, down to {self.least_relative_dose:.3g} of this dose"
        )
