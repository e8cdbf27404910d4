"""How far a column is from its motif, measured by the noise and by what varies within motifs."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Spread"]


@dataclass(frozen=True, eq=False)
class Spread:
    """Motifs in moment space: where they are, and how their columns scatter.

    Attributes
    ----------
    centres : Tensor of shape (m, k)
        Mean moments of every motif.
    axes : Tensor of shape (k, k)
        From moments to uncorrelated coordinates in which the noise of the learnt columns has the variance 1.
    excess : Tensor of shape (k,)
        Variance within motifs beyond the noise along each of them.
    stretch : float
        By what factor squared distances are larger than Gaussian scatter makes them.
    """

    centres: Float[Tensor, "m k"]
    axes: Float[Tensor, "k k"]
    excess: Float[Tensor, " k"]
    stretch: float

    @property
    def white(self) -> Float[Tensor, "k k"]:
        """From moments to coordinates in which one column of a motif scatters by 1."""
        return self.axes / (self.excess + 1).sqrt()

    @classmethod
    def learn(
        cls, moments: Float[Tensor, "n k"], labels: Int[Tensor, " n"], covariance: Float[Tensor, "k k"]
    ) -> "Spread":
        """The spread of labelled columns whose noise has a known covariance."""
        n, k = moments.shape
        m = int(labels.max()) + 1
        count = torch.bincount(labels, minlength=m).clamp(min=1)
        centres = moments.new_zeros(m, k).index_add_(0, labels, moments) / count[:, None]
        factor = torch.linalg.cholesky(covariance)
        white = torch.linalg.solve_triangular(factor, (moments - centres[labels]).T, upper=False)
        variances, directions = torch.linalg.eigh(white @ white.T / n)
        axes = torch.linalg.solve_triangular(factor.T, directions, upper=True)
        edge = (1 + math.sqrt(k / n)) ** 2  # of what noise alone reaches (Marchenko & Pastur, 1967)
        excess = torch.where(variances > edge, variances - 1, 0.0)
        plain = cls(centres, axes, excess, 1.0)
        middle = float(plain.distances(moments, labels).median())
        return cls(centres, axes, excess, max(1.0, middle / k))

    def distances(
        self, moments: Float[Tensor, "n k"], labels: Int[Tensor, " n"], relative_dose: float = 1.0
    ) -> Float[Tensor, " n"]:
        """Squared distance of every column from its motif; k on average where it belongs there."""
        along = ((moments - self.centres[labels]) @ self.axes).square()
        return (along / (self.excess + 1 / relative_dose)).sum(1) / self.stretch

    def scores(
        self, moments: Float[Tensor, "n k"], labels: Int[Tensor, " n"], relative_dose: float = 1.0
    ) -> Float[Tensor, " n"]:
        """Distances on the scale of a standard normal variable (Wilson & Hilferty, 1931)."""
        width = 2 / (9 * self.axes.shape[0])
        root = (self.distances(moments, labels, relative_dose) / self.axes.shape[0]) ** (1 / 3)
        return (root - (1 - width)) / math.sqrt(width)
