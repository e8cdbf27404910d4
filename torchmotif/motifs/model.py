"""What is learnt of motifs: how moments are sorted into them."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from torchmotif.motifs.noise import CountingNoise, noise_scale
from torchmotif.motifs.outliers import Spread
from torchmotif.motifs.tree import MotifTree, Rules, grow
from torchmotif.zernike import ZernikeBasis

__all__ = ["Assignment", "MotifModel", "learn"]


class Assignment(NamedTuple):
    """What `MotifClassifier` says of n columns.

    Attributes
    ----------
    labels : array of shape (n,), int64
        Motif of every column; -1 fits none.
    probabilities : array of shape (n,), float64
        Of that motif; 0 where the label is -1.
    scores : array of shape (n,), float64
        Distance of every column from its motif in standard deviations.
    """

    labels: Any
    probabilities: Any
    scores: Any


@dataclass(frozen=True, eq=False)
class MotifModel:
    """The motifs in moment space.

    Attributes
    ----------
    tree : MotifTree
        Which motif a column belongs to.
    spread : Spread
        How far it is from it.
    scale : float
        By what factor the noise is larger than that of one electron per unit of the moments.
    """

    tree: MotifTree
    spread: Spread
    scale: float

    def log_probabilities(
        self, moments: Float[Tensor, "n k"], relative_dose: float = 1.0
    ) -> Float[Tensor, "n m"]:
        """Logarithm of the probability of every motif, for moments scaled to the learnt dose."""
        return self.tree.log_probabilities(moments, relative_dose)

    def assign(
        self, moments: Float[Tensor, "n k"], outlier_distance: float, relative_dose: float = 1.0
    ) -> Assignment:
        """Motif, its probability, and the distance from it, for moments scaled to the learnt dose."""
        best = self.log_probabilities(moments, relative_dose).max(1)
        score = self.spread.scores(moments, best.indices, relative_dose)
        fits = score <= outlier_distance
        return Assignment(
            torch.where(fits, best.indices, -1), torch.where(fits, best.values.exp(), 0.0), score
        )


def learn(
    moments: Float[Tensor, "n k"],
    noise: CountingNoise,
    basis: ZernikeBasis,
    rules: Rules,
    *,
    scale: float | None = None,
    n_motifs: int | None = None,
) -> MotifModel:
    """The motifs of n columns.

    Parameters
    ----------
    moments : Tensor of shape (n, k), float64
    noise : CountingNoise
        Of the same moments.
    basis : ZernikeBasis
    rules : Rules
        What a motif needs.
    scale : float, optional
        By what factor the noise is larger than that; by default it is told from the moments.
    n_motifs : int, optional
        By default it is found.
    """
    rows = torch.arange(len(moments), device=moments.device)
    if scale is None:
        scale = noise_scale(moments, noise.covariance(rows)) or 1.0
    tree = grow(moments, noise, basis, rules, scale=scale, n_motifs=n_motifs)
    labels = tree.log_probabilities(moments).argmax(1)
    return MotifModel(tree, Spread.learn(moments, labels, scale * noise.covariance(rows)), scale)
