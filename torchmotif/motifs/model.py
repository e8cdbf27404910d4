"""What is learnt of motifs: how moments are sorted into them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torchmotif.motifs.limit import CentralColumn
from torchmotif.motifs.noise import CountingNoise, noise_scale
from torchmotif.motifs.orientation import (
    HARDLY,
    NEARLY,
    Frame,
    Symmetries,
    averaged,
    frame_of,
    learn_frame,
    same_turned,
)
from torchmotif.motifs.outliers import Spread
from torchmotif.motifs.resolve import FEWEST, Rules
from torchmotif.motifs.tree import MotifTree, grow
from torchmotif.zernike import ZernikeBasis

__all__ = ["Assignment", "Equivalence", "MotifModel", "learn"]

Equivalence = Literal["rotation", "euclidean"] | None
_FRAMES = 2  # that are learnt from motifs
_MOST_LEAVES = 6  # of the tree per motif asked for, where motifs that are one turned are joined


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
    angles : array of shape (n,), float64
        By how many radians the motif is turned counter-clockwise to lie on the column's patch, from 0 to 2 pi over the
        motif's fold; 0 without `equivalence`.
    mirrored : array of shape (n,), bool
        Whether the motif is mirrored at the direction of the columns before it is turned.
    """

    labels: Any
    probabilities: Any
    scores: Any
    angles: Any
    mirrored: Any


@dataclass(frozen=True, eq=False)
class MotifModel:
    """The motifs in moment space.

    Attributes
    ----------
    tree : MotifTree
        Which leaf a column belongs to.
    spread : Spread
        How far it is from it.
    scale : float
        By what factor the noise is larger than that of one electron per unit of the moments.
    motif : Tensor of shape (number of leaves,), int64
        Which motif each leaf is, in some orientation; -1 where its columns fit none.
    counts : Tensor of shape (number of motifs,), int64
        Learnt columns of every motif.
    frame : Frame, optional
        Into which columns are turned first.
    shapes : Symmetries
        Mean moments and symmetries of the motifs.
    columns : tuple of CentralColumn
        What stands in the middle of each motif.
    """

    tree: MotifTree
    spread: Spread
    scale: float
    motif: Int[Tensor, " l"]
    counts: Int[Tensor, " m"]
    frame: Frame | None
    shapes: Symmetries
    columns: tuple[CentralColumn, ...] = ()

    def log_probabilities(
        self, moments: Float[Tensor, "n k"], relative_dose: float = 1.0
    ) -> Float[Tensor, "n m"]:
        """Logarithm of the probability of every motif, for moments scaled to the learnt dose."""
        turned = moments if self.frame is None else self.frame.turned(moments)
        return self._joined(self.tree.log_probabilities(turned, relative_dose))

    def assign(
        self, moments: Float[Tensor, "n k"], outlier_distance: float, relative_dose: float = 1.0
    ) -> Assignment:
        """Motif, its probability, the distance from it and its angle, for moments scaled to the learnt dose."""
        turned = moments if self.frame is None else self.frame.turned(moments)
        leaves = self.tree.log_probabilities(turned, relative_dose)
        best = self._joined(leaves).max(1)
        leaf = torch.where(self.motif == best.indices[:, None], leaves, -torch.inf).argmax(1)
        score = self.spread.scores(turned, leaf, relative_dose)
        fits = (score <= outlier_distance) & (self.motif[leaves.argmax(1)] >= 0)
        if self.frame is None:
            angle, mirrored = torch.zeros_like(score), torch.zeros_like(fits)
        else:
            angle, mirrored = self.shapes.angles(moments, best.indices)
        return Assignment(
            torch.where(fits, best.indices, -1),
            torch.where(fits, best.values.exp(), 0.0),
            score,
            angle,
            mirrored,
        )

    def _joined(self, leaves: Float[Tensor, "n l"]) -> Float[Tensor, "n m"]:
        """From leaves to motifs."""
        number = torch.arange(len(self.counts), device=leaves.device)
        of = self.motif == number[:, None]
        motifs = torch.where(of, leaves[:, None], -torch.inf).logsumexp(2)
        return motifs.log_softmax(1)


def learn(
    finer: Float[Tensor, "n l"],
    noise_of: Callable[[Tensor], CountingNoise],
    basis: ZernikeBasis,
    rules: Rules,
    *,
    scale: float | None = None,
    n_motifs: int | None = None,
    equivalence: Equivalence = None,
    outlier_distance: float = 6.0,
    random_state: int = 0,
) -> MotifModel:
    """The motifs of n columns.

    Parameters
    ----------
    finer : Tensor of shape (n, l), float64
        Moments to the order of the basis or a higher one; only the noise is told from those of higher order.
    noise_of : function
        From these moments, perhaps turned, to their noise.
    basis : ZernikeBasis
    rules : Rules
        What a motif needs.
    scale : float, optional
        By what factor the noise is larger than that; by default it is told from the moments.
    n_motifs : int, optional
        By default it is found.
    equivalence : {"rotation", "euclidean"}, optional
        Whether motifs that are turned, or turned and mirrored, are one.
    outlier_distance : float
        Columns further from their motif fit none.
    random_state : int
    """
    grower = _Grower(
        finer, noise_of, basis, rules, scale, n_motifs, equivalence == "euclidean", outlier_distance
    )
    if equivalence is None:
        return grower.model(None)
    moments = finer[:, : len(basis.basis)]
    covariance = noise_of(finer).covariance(torch.arange(len(finer), device=finer.device))
    covariance *= scale or noise_scale(moments, covariance) or 1.0
    white = torch.linalg.inv(torch.linalg.cholesky(covariance)).T
    least, mirror = rules.min_detectability, equivalence == "euclidean"
    frame = learn_frame(moments, white, least, mirror=mirror, random_state=random_state)
    for _ in range(_FRAMES):
        model = grower.model(frame)
        # The motifs themselves are better seeds than what was told apart before there were any.
        seeds = Symmetries.of(model.shapes.centres, model.spread.white, least, NEARLY, mirror=mirror)
        frame = frame_of(seeds, model.counts)
    return grower.model(frame)


@dataclass(frozen=True, eq=False)
class _Grower:
    """What stays the same from frame to frame."""

    finer: Tensor
    noise_of: Callable[[Tensor], CountingNoise]
    basis: ZernikeBasis
    rules: Rules
    scale: float | None
    n_motifs: int | None
    mirror: bool
    outlier_distance: float

    def model(self, frame: Frame | None) -> MotifModel:
        """The motifs of the columns turned into a frame."""
        finer = self.finer if frame is None else frame.turned(self.finer)
        moments = finer[:, : len(self.basis.basis)]
        rows = torch.arange(len(moments), device=moments.device)
        noise = self.noise_of(finer)
        covariance = noise.covariance(rows)
        scale = self.scale or noise_scale(moments, covariance) or 1.0
        leaves = self.n_motifs
        while True:
            tree = grow(moments, noise, self.basis, self.rules, scale=scale, n_motifs=leaves)
            leaf = tree.log_probabilities(moments).argmax(1)
            spread = Spread.learn(moments, leaf, scale * covariance)
            counts = torch.bincount(leaf, minlength=len(spread.centres))
            fitting = self._fitting(moments, leaf, spread)
            # Leaves without columns that fit them only gather what is unlike anything.
            kept = counts > 0 if leaves is not None else fitting >= min(FEWEST, float(fitting.max()))
            model = self._joined(tree, spread, scale, (counts, fitting, kept), frame)
            if frame is None or leaves is None or len(tree.leaves) < leaves:
                break
            missing = (self.n_motifs or 0) - len(model.counts)
            if missing <= 0 or leaves + missing > _MOST_LEAVES * (self.n_motifs or 1):
                break
            leaves += missing
        motif = model.motif[leaf]
        middles = tuple(
            CentralColumn.of(finer, noise, self.basis, scale, torch.nonzero(motif == i).flatten())
            for i in range(len(model.counts))
        )
        return replace(model, columns=middles)

    def _fitting(self, moments: Tensor, leaf: Tensor, spread: Spread) -> Tensor:
        """How many columns of every leaf fit it."""
        fits = spread.scores(moments, leaf) <= self.outlier_distance
        return torch.zeros(len(spread.centres), device=leaf.device).index_add(0, leaf, fits.float())

    def _joined(
        self,
        tree: MotifTree,
        spread: Spread,
        scale: float,
        leaves: tuple[Tensor, Tensor, Tensor],
        frame: Frame | None,
    ) -> MotifModel:
        """Leaves as motifs, the most frequent first; in a frame those that are one motif turned as one.

        `leaves` says how many columns each has, how many of them fit it, and which are motifs.
        """
        counts, fitting, kept = leaves
        least, centres = self.rules.min_detectability, spread.centres[kept]
        counts, fitting = counts[kept], fitting[kept]
        motif = torch.full_like(kept, -1, dtype=torch.long)
        if frame is None:
            order = torch.argsort(fitting, descending=True, stable=True)
            motif[kept] = torch.argsort(order)
            plain = Symmetries(
                centres[order], torch.ones_like(order), torch.zeros_like(order, dtype=torch.bool)
            )
            return MotifModel(tree, spread, scale, motif, counts[order], None, plain)
        group, turned = same_turned(centres, counts, spread.white, least, mirror=self.mirror)
        size, fit = (
            torch.zeros_like(of).index_add(0, group, of)[: int(group.max()) + 1] for of in (counts, fitting)
        )
        order = torch.argsort(fit, descending=True, stable=True)
        motif[kept] = torch.argsort(order)[group]
        centres = averaged(turned, counts, group)[order]
        shapes = Symmetries.of(centres, spread.white, least, HARDLY, mirror=self.mirror)
        return MotifModel(tree, spread, scale, motif, size[order], frame, shapes)
