"""What is learnt of motifs: how moments are sorted into them, and which columns are outliers."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchmotif._arrays import like, sent
from torchmotif.motifs import _orientation as orientation
from torchmotif.motifs._groups import FLAT, UNKNOWN, Groups
from torchmotif.motifs._growth import Grower
from torchmotif.motifs._noise import CountingNoise, noise_edge, noise_scale, principal_axes
from torchmotif.motifs._orientation import MOTIF_TOLERANCE, SEED_TOLERANCE, Symmetries, averaged
from torchmotif.motifs._tree import MotifTree
from torchmotif.motifs.detectability import FEWEST, Middle, SplitCriteria
from torchmotif.zernike import ZernikeBasis

__all__ = ["Assignment", "Equivalence", "Learner", "MotifModel", "Spread"]

Equivalence = Literal["rotation", "euclidean"] | None
_REFERENCES = 2  # that are learnt from motifs
_MOST_LEAVES = 6  # of the tree per motif asked for, where rotated copies are joined
# Weight of a column that was set aside, in the mean of a motif: nothing beside one that was not.
_SET_ASIDE = 1e-6


class Assignment(NamedTuple):
    """What `MotifClassifier` says of n columns: arrays of shape (n,), as its attributes of these names."""

    labels: Any  # int64: motif of every column; -1 fits none
    probabilities: Any  # float64: of that motif; 0 where the label is -1
    scores: Any  # float64: distance of every column from its motif in standard deviations
    angles: Any  # float64: radians by which the motif is rotated to lie on the patch; 0 without `equivalence`
    mirrored: Any  # bool: whether it is mirrored at the direction of the columns before it is rotated

    @classmethod
    def joined(cls, parts: "Iterable[Assignment]", original: Any) -> "Assignment":
        """The batches as one, numpy or torch as `original` came."""
        return cls(*(like(torch.cat(part), original) for part in zip(*parts, strict=True)))


@dataclass(frozen=True, eq=False)
class Spread:
    """Motifs in moment space: where they are, and how their columns scatter by the noise and by what varies within them."""

    centres: Float[Tensor, "m k"]  # mean moments of every motif
    # From moments to uncorrelated coordinates in which the noise of the learnt columns has the variance 1:
    axes: Float[Tensor, "k k"]
    excess: Float[Tensor, " k"]  # variance within motifs beyond the noise along each of them
    stretch: float = 1.0  # by what factor squared distances are larger than Gaussian scatter makes them

    @property
    def white(self) -> Float[Tensor, "k k"]:
        """From moments to coordinates in which one column of a motif scatters by 1."""
        return self.axes / (self.excess + 1).sqrt()

    @classmethod
    def learn(
        cls,
        moments: Float[Tensor, "n k"],
        labels: Int[Tensor, " n"],
        covariance: Float[Tensor, "k k"],
        motifs: int,
        usual: Int[Tensor, " u"] | None = None,
    ) -> "Spread":
        """The spread of columns in so many motifs, whose noise has a known covariance.

        Where others than the `usual` columns were set aside, it is that of these, and how high and steep the background under a column is tells nothing.
        """
        k, weight = moments.shape[1], torch.ones_like(labels)
        if usual is not None:
            # A leaf of others alone has their mean.
            weight = torch.full_like(moments[:, 0], _SET_ASIDE).index_fill(0, usual, 1.0)
        centres = averaged(moments, weight, labels, motifs)
        if usual is not None:
            moments, labels = moments[usual], labels[usual]
        n, beyond = len(moments), moments - centres[labels]
        scatter = (beyond.T @ beyond).double() / n
        if usual is not None:
            scatter.diagonal()[:FLAT] += UNKNOWN * scatter.diagonal().sum()
        variances, axes = principal_axes(scatter, covariance)
        edge = noise_edge(torch.tensor(float(n)), k)
        gaussian = cls(centres.double(), axes, torch.where(variances > edge, variances - 1, 0.0))
        return replace(gaussian, stretch=max(1.0, float(gaussian.distances(moments, labels).median()) / k))

    def distances(
        self, moments: Float[Tensor, "n k"], labels: Int[Tensor, " n"], relative_dose: float = 1.0
    ) -> Float[Tensor, " n"]:
        """Squared distance of every column from its motif; k on average where it belongs there."""
        scale = (self.excess + 1 / relative_dose).rsqrt() / self.stretch**0.5
        along = (moments - self.centres.to(moments)[labels]) @ (self.axes * scale).to(moments)
        squares: Tensor = along.square().sum(1).double()
        return squares

    def scores(
        self, moments: Float[Tensor, "n k"], labels: Int[Tensor, " n"], relative_dose: float = 1.0
    ) -> Float[Tensor, " n"]:
        """Distances on the scale of a standard normal variable (Wilson & Hilferty, 1931)."""
        width = 2 / (9 * len(self.axes))
        root = (self.distances(moments, labels, relative_dose) / len(self.axes)) ** (1 / 3)
        return (root - (1 - width)) / math.sqrt(width)


@dataclass(frozen=True, eq=False)
class MotifModel:
    """The motifs in moment space."""

    tree: MotifTree  # which leaf a column belongs to
    spread: Spread  # how far it is from it
    scale: float  # by what factor the noise is larger than that of one electron per unit of the moments
    motif: list[int]  # which motif each leaf is, in some orientation; -1 where its columns fit none
    counts: list[int]  # learnt columns of every motif
    reference: Symmetries | None  # onto which columns are rotated first
    shapes: Symmetries  # mean moments and symmetries of the motifs
    middles: list[Middle]  # what stands in the middle of each motif

    def log_probabilities(
        self, moments: Float[Tensor, "n k"], relative_dose: float = 1.0
    ) -> Float[Tensor, "n m"]:
        """Logarithm of the probability of every motif, for moments scaled to the learnt dose."""
        return self._of_motifs(self.tree.log_probabilities(self._aligned(moments), relative_dose))

    def expected_counts(self, batches: Sequence[Float[Tensor, "_ k"]]) -> np.ndarray:
        """Sums of the probabilities of every motif, (m, 2), and their standard errors by the information on each share (Louis, 1982)."""
        n = sum(map(len, batches))
        present = [self.log_probabilities(moments).exp() for moments in batches]
        sums = [torch.stack([part.sum(0), part.square().sum(0)]) for part in present]
        total, squares = torch.stack(sums).sum(0).cpu().numpy()
        share = total / n
        information = np.maximum(squares - n * share**2, 1e-12)  # of the probabilities about their mean
        errors = n * share * (1 - share) / np.sqrt(information)
        return np.stack([total, np.minimum(errors, n)], 1)

    def assign(
        self, moments: Float[Tensor, "n k"], outlier_distance: float, relative_dose: float = 1.0
    ) -> Assignment:
        """Motif, its probability, the distance from it and its angle, for moments scaled to the learnt dose."""
        aligned = self._aligned(moments)
        leaves = self.tree.log_probabilities(aligned, relative_dose)
        of = self._of_leaf.to(moments.device)
        probability, motif = self._of_motifs(leaves).max(1)
        leaf = torch.where(of == motif[:, None], leaves, -torch.inf).argmax(1)
        score = self.spread.scores(aligned, leaf, relative_dose)
        fits = (score <= outlier_distance) & (of[leaves.argmax(1)] >= 0)
        angle, mirrored = torch.zeros_like(score), torch.zeros_like(fits)
        if self.reference is not None:
            angle, mirrored = self.shapes.angles(moments.double(), motif)
        labels, probability = torch.where(fits, motif, -1), torch.where(fits, probability.exp(), 0.0)
        return Assignment(labels, probability, score, angle, mirrored)

    @cached_property
    def _of_leaf(self) -> Int[Tensor, " l"]:
        """Which motif each leaf is, where they were learnt."""
        return sent(self.motif, self.spread.centres, torch.int64)

    def _aligned(self, moments: Tensor) -> Tensor:
        return moments if self.reference is None else self.reference.align(moments.double()).to(moments)

    def _of_motifs(self, leaves: Float[Tensor, "n l"]) -> Float[Tensor, "n m"]:
        """From leaves to motifs."""
        parts = [[leaf for leaf, of in enumerate(self.motif) if of == i] for i in range(len(self.counts))]
        if all(len(mine) == 1 for mine in parts):
            return leaves[:, sent([mine[0] for mine in parts], leaves, torch.int64)].log_softmax(1)
        columns = leaves.unbind(1)
        joined = [torch.stack([columns[j] for j in mine]).logsumexp(0) for mine in parts]
        return torch.stack(joined, 1).log_softmax(1)


@dataclass(frozen=True, eq=False)
class Learner:
    """Learns motifs from the moments of columns."""

    basis: ZernikeBasis
    criteria: SplitCriteria  # what a motif needs
    noise: CountingNoise  # of the columns that are learnt on
    # By what factor the noise is larger than that of one electron per unit; by default it is told from the moments:
    scale: float | None
    n_motifs: int | None  # by default it is found
    equivalence: Equivalence  # whether motifs that are rotated, or rotated and mirrored, are one
    outlier_distance: float  # columns further from their motif fit none
    random_state: int

    def learn(self, finer: Float[Tensor, "n l"]) -> MotifModel:
        """The motifs; of moments of higher order than the basis has, float32, only the noise is told."""
        if self.equivalence is None:
            return self._model(finer, None)
        _, covariance = self._noise_of(finer)
        white = torch.linalg.inv(torch.linalg.cholesky(covariance)).T
        least, mirror = self.criteria.min_detectability, self._mirror
        moments = finer[:, : len(self.basis.basis)].double()
        reference = orientation.learn_reference(
            moments, white, least, mirror=mirror, random_state=self.random_state
        )
        for _ in range(_REFERENCES):
            model = self._model(finer, reference)
            # The motifs themselves are better seeds than what was told apart before there were any.
            seeds = Symmetries.of(
                model.shapes.centres, model.spread.white, least, SEED_TOLERANCE, mirror=mirror
            )
            reference = orientation.reference_of(seeds, sent(model.counts, finer, torch.int64))
        return self._model(finer, reference)

    @property
    def _mirror(self) -> bool:
        return self.equivalence == "euclidean"

    def _model(self, finer: Tensor, reference: Symmetries | None) -> MotifModel:
        """The motifs of the columns rotated onto a reference."""
        finer = finer if reference is None else reference.align(finer.double()).float()
        scale, covariance = self._noise_of(finer)
        grower = Grower(finer, self.noise, self.basis, self.criteria, scale)
        copies = reference is not None
        tree, usual = grower.grown()
        found = self._found(tree, finer, covariance, copies=copies, usual=usual)
        if self.n_motifs is not None:
            found = self._as_many(found, grower, covariance, copies=copies)
        tree, leaf, _, spread, motif, motif_, counts, shapes, _ = found
        # One sort tells the columns of every motif.
        parts = torch.argsort(torch.where(motif < 0, len(counts), motif)[leaf], stable=True).split(
            [*counts, len(leaf) - sum(counts)]
        )
        groups = Groups(finer, parts[:-1], self.noise, self.basis, scale)
        return MotifModel(tree, spread, scale, motif_, counts, reference, shapes, Middle.of(groups))

    def _as_many(self, found: "_Found", grower: Grower, covariance: Tensor, *, copies: bool) -> "_Found":
        """As many motifs as were asked for: of what the evidence gives by itself, less what is least supported, or more.

        What is more is forced on columns that fit; a leaf with fewer than `fewest` of them is none, as long as there are others.
        """
        wanted, finer = self.n_motifs or 1, grower.finer
        while len(found.counts) > wanted:
            tree = found.tree.pruned(found.motif_)
            found = self._found(tree, finer, covariance, copies=copies, usual=found.usual)
        fewest = max(1, min(FEWEST, int(found.fits.sum()) // (4 * wanted)))
        while len(found.counts) < wanted and len(found.tree.leaves) < _MOST_LEAVES * wanted:
            rows = [
                torch.nonzero((found.leaf == i) & found.fits)[:, 0] for i in range(len(found.tree.leaves))
            ]
            tree = grower.forced(found.tree, rows, wanted - len(found.counts), fewest)
            if len(tree.splits) == len(found.tree.splits):
                break
            found = self._found(tree, finer, covariance, copies=copies, usual=found.usual, fewest=fewest)
        if len(found.counts) == wanted:
            return found
        return self._found(
            found.tree, finer, covariance, copies=copies, usual=found.usual, fewest=1, most=wanted
        )

    def _found(
        self,
        tree: MotifTree,
        finer: Tensor,
        covariance: Tensor,
        *,
        copies: bool,
        usual: Tensor | None,
        fewest: int = FEWEST,
        most: int | None = None,
    ) -> "_Found":
        """What a tree makes of the columns."""
        moments = finer[:, : len(self.basis.basis)]
        leaf = tree.log_probabilities(moments).argmax(1)
        spread = Spread.learn(moments, leaf, covariance, len(tree.leaves), usual)
        fits = spread.scores(moments, leaf) <= self.outlier_distance
        return _Found(
            tree,
            leaf,
            fits,
            spread,
            *self._joined(spread, leaf, fits, copies=copies, fewest=fewest, most=most),
            usual,
        )

    def _noise_of(self, finer: Tensor) -> tuple[float, Float[Tensor, "k k"]]:
        """The scale of the noise, and the mean covariance of the moments in that scale."""
        mean = finer.mean(0)
        beyond = finer[:, : len(self.basis.basis)] - mean[: len(self.basis.basis)]
        rows = torch.arange(len(finer), device=finer.device)
        covariance = self.noise.covariances(mean[None].double(), self.noise.offsets_of(rows).mean(0)[None])[0]
        scatter = (beyond.T @ beyond).double() / len(finer)
        scale = self.scale or noise_scale(scatter, covariance, len(finer)) or 1.0
        return scale, scale * covariance

    def _joined(
        self, spread: Spread, leaf: Tensor, fits: Tensor, *, copies: bool, fewest: int, most: int | None
    ) -> tuple[Tensor, list[int], list[int], Symmetries]:
        """Which motif each leaf is, also on the host, the most frequent first, their columns and shapes; rotated copies are one where asked for.

        A leaf of fewer columns that fit is none, where there are others; nor is what comes after so many motifs as are the most.
        """
        counts, fitting = (
            F.one_hot(leaf, len(spread.centres)).mul(of[:, None]).sum(0)
            for of in (torch.ones_like(fits), fits)
        )
        # Leaves without columns that fit them only gather what is unlike anything.
        kept = torch.nonzero(fitting >= fitting.max().clamp(max=fewest))[:, 0]
        least, centres = self.criteria.min_detectability, spread.centres[kept]
        counts, fitting = counts[kept], fitting[kept]
        group = torch.arange(len(counts), device=leaf.device)
        if copies:
            group, rotated = orientation.rotated_copies(
                centres, counts, spread.white, least, mirror=self._mirror
            )
            centres = averaged(rotated, counts, group)
        size, fit = (of.new_zeros(len(centres)).index_add(0, group, of) for of in (counts, fitting))
        order = torch.argsort(fit, descending=True, stable=True)
        motif, rank = torch.full((len(spread.centres),), -1, device=leaf.device), torch.argsort(order)
        order = order[:most]
        motif[kept] = torch.where(rank < len(order), rank, -1)[group]
        if copies:
            shapes = Symmetries.of(centres[order], spread.white, least, MOTIF_TOLERANCE, mirror=self._mirror)
        else:
            shapes = Symmetries(
                centres[order], torch.ones_like(order), torch.zeros_like(order, dtype=torch.bool)
            )
        told = torch.cat([motif, size[order]]).tolist()  # read at once
        return motif, told[: len(motif)], told[len(motif) :], shapes


class _Found(NamedTuple):
    """What a tree makes of the n columns that are learnt on."""

    tree: MotifTree
    leaf: Int[Tensor, " n"]  # of every column
    fits: Bool[Tensor, " n"]  # whether it belongs there
    spread: Spread
    motif: Int[Tensor, " l"]  # of every leaf, -1 for none
    motif_: list[int]  # the same on the host
    counts: list[int]  # columns of every motif
    shapes: Symmetries  # of the motifs
    usual: Int[Tensor, " u"] | None  # the columns that the tree was grown from, None for all
