"""The part of MotifClassifier that works on moments, and sets what is learnt."""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from torchmotif._arrays import keeps_digits, like, solvable
from torchmotif.errors import InputError, TorchMotifWarning
from torchmotif.motifs.limit import DetectionLimit, Question
from torchmotif.motifs.model import Assignment, learn
from torchmotif.motifs.noise import CountingNoise
from torchmotif.motifs.report import Resolution
from torchmotif.motifs.resolve import Conditions, Rules
from torchmotif.motifs.sample import MOST, with_unlike
from torchmotif.motifs.scale import MomentScale
from torchmotif.motifs.source import PatchSource, check_parameters, checked_moments, checked_offsets, n_max_of
from torchmotif.zernike import ZernikeBasis

__all__ = ["MomentClassifier", "add_by_label", "joined"]

_SUBPIXEL = 8  # steps of the offsets per pixel; with 4, rounding them is structure enough to split a motif
_FINER = 4  # orders more for the noise
_BATCH = 65_536  # moments that are labelled at a time


class MomentClassifier(ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """Learns motifs from moments and sorts moments into them; see `MotifClassifier`, whose parameters it reads."""

    @keeps_digits
    def fit_moments(
        self, moments: Any, size: int, offsets: Any = None, *, level: float = 0.0
    ) -> "MomentClassifier":
        """Learn the motifs from Zernike moments, where the patches themselves are no longer at hand.

        Everything is learnt but `templates_` and `template_errors_`; `reconstructions_` stand for them.

        Parameters
        ----------
        moments : array of shape (n, k)
            As `ZernikeBasis.project(image - level, positions)` gives them, to the order `n_max`, or better
            `n_max` + 4: the noise is known from them, and told the more exactly.
        size : int
            Side of the patches in pixels.
        offsets : array of shape (n, 2), optional
            True centre minus window centre of the patches, as in `fit`.
        level : float
            What was subtracted from the pixels. Any constant near their mean keeps the moments of unlike offsets alike.

        Returns
        -------
        MomentClassifier
            Itself.

        Examples
        --------
        >>> import torch
        >>> import torchmotif as tm
        >>> specimen = tm.datasets.mose2((300, 300), vacancy_rate=0.0)
        >>> scan = specimen.draw(generator=torch.Generator().manual_seed(0)).data
        >>> positions = specimen.truth.positions[tm.patches.inside(specimen.truth.positions, scan.shape, 37)]
        >>> moments = tm.ZernikeBasis(14, 37).project(scan - scan.mean(), positions)
        >>> offsets = tm.patches.offsets(positions, 37)
        >>> tm.MotifClassifier().fit_moments(moments, 37, offsets, level=float(scan.mean())).n_motifs_
        2
        """
        values = checked_moments(moments, self.device)
        n, k = values.shape
        shifts = checked_offsets(offsets, n, values.device)
        check_parameters(self, n)
        unit = float(values.square().sum(1).mean().sqrt())
        self._set_scale(min(self.n_max, n_max_of(k)), size, values.device, (level, unit, 0.0))
        lower = values[:, : len(self.basis_.basis)].split(_BATCH)

        def learn_on(rows: Tensor) -> None:
            self._learn(self._scale.of_moments(values[rows], level), None if shifts is None else shifts[rows])

        with solvable("moments"):
            self._learn_on_most(n, learn_on, lambda: (self._assigned(part, level) for part in lower))
        self._keep([self._assigned(part, level) for part in lower], moments)
        return self

    @keeps_digits
    def predict_moments(self, moments: Any, *, level: float = 0.0, relative_dose: float = 1.0) -> Assignment:
        """Motif of every column with its probability and the distance from it, from Zernike moments.

        Parameters
        ----------
        moments : array of shape (n, k)
            As in `fit_moments`; also after `fit`, with its `n_max` and patch size. Higher orders are not looked at.
        level : float
            What was subtracted from the pixels.
        relative_dose : float
            Dose of these columns relative to those the motifs were learnt on.

        Returns
        -------
        Assignment
        """
        check_is_fitted(self)
        values = checked_moments(moments, self.device)
        k = len(self.basis_.basis)
        if values.shape[1] < k:
            raise InputError(f"moments must be at least {k} a column as in fit, got {values.shape[1]}")
        parts = [self._assigned(part, level, relative_dose) for part in values[:, :k].split(_BATCH)]
        return joined(parts, moments)

    def resolutions_at(self, relative_dose: float = 1.0, columns: int | None = None) -> list[Resolution]:
        """Which of the motifs would be found at another dose and in another number of columns.

        Parameters
        ----------
        relative_dose : float
            Relative to the dose that the motifs were learnt at.
        columns : int, optional
            In all; by default as many as were learnt on.

        Returns
        -------
        list of Resolution
            As `resolutions_`, with what is expected there of two Gaussians and Poisson noise.
        """
        check_is_fitted(self)
        conditions = self._conditions(relative_dose, columns)
        return self._model.tree.resolutions(self._model.motif, conditions)[0]

    def detection_limits(
        self,
        change: float = -0.5,
        share: float = 0.05,
        *,
        relative_dose: float = 1.0,
        columns: int | None = None,
    ) -> list[DetectionLimit]:
        """Whether a motif that was not found would have been found, were it there, and what it would take.

        The motif that is asked for are some columns of a known motif that are brighter or darker in the middle, such as
        those that lack one atom of two. What the classifier would make of them follows from the noise, the scatter of
        the known motif and the number of its columns.

        Parameters
        ----------
        change : float
            Of the intensity of the column in the middle, from -1, where it is missing, over -0.5, half of it missing.
        share : float
            Of the columns of a motif, up to 0.5.
        relative_dose : float
            Relative to the dose that the motifs were learnt at.
        columns : int, optional
            In all; by default as many as were learnt on.

        Returns
        -------
        list of DetectionLimit
            One for each motif.

        Raises
        ------
        InputError
            If a number is out of range.

        Examples
        --------
        >>> import torch
        >>> import torchmotif as tm
        >>> specimen = tm.datasets.mose2((300, 300), vacancy_rate=0.0)
        >>> scan = specimen.draw(1 / 50, torch.Generator().manual_seed(0)).data
        >>> positions = specimen.truth.positions[tm.patches.inside(specimen.truth.positions, scan.shape, 37)]
        >>> patches, offsets = tm.extract_patches(scan, positions, 37), tm.patches.offsets(positions, 37)
        >>> model = tm.MotifClassifier().fit(patches, offsets)
        >>> [one.found for one in model.detection_limits(-0.5, 0.05)]
        [False, False]
        >>> [one.found for one in model.detection_limits(-0.5, 0.05, relative_dose=5)]
        [True, True]
        """
        check_is_fitted(self)
        if not (change >= -1 and change != 0 and math.isfinite(change) and 0 < share <= 0.5):
            raise InputError(
                "change must be at least -1 and not 0, and share lie between 0 and 0.5, "
                f"got change={change}, share={share}"
            )
        question = Question(self._conditions(relative_dose, columns), float(change), float(share))
        return [question.answer(motif, column) for motif, column in enumerate(self._model.columns)]

    def _conditions(self, relative_dose: float, columns: int | None) -> Conditions:
        if not relative_dose > 0 or (columns is not None and columns < 1):
            raise InputError(
                f"relative_dose and columns must be positive, got relative_dose={relative_dose}, columns={columns}"
            )
        return Conditions(self._rules(), self._learnt, columns or self._learnt, float(relative_dose))

    def _rules(self) -> Rules:
        return Rules(self.min_evidence, self.min_detectability, self.max_valley, self.min_share)

    def _learn_on_most(
        self, n: int, learn_on: Callable[[Tensor], None], assigned: Callable[[], Iterable[Assignment]]
    ) -> None:
        """Learn on all columns, or on a sample that keeps what is rare; with the number of motifs given on any sample."""
        device = self.basis_.basis.device

        def unlike(first: np.ndarray) -> np.ndarray:
            learn_on(torch.from_numpy(first).to(device))
            return torch.nonzero(torch.cat([part.labels for part in assigned()]) < 0)[:, 0].cpu().numpy()

        chosen = np.arange(n)
        if n > MOST:
            chosen = np.random.default_rng(self.random_state).permutation(n)[:MOST]
            if self.n_motifs is None:
                chosen = with_unlike(chosen, unlike, self.random_state)
        learn_on(torch.from_numpy(np.sort(chosen)).to(device))

    def _set_scale(self, n_max: int, size: int, device: torch.device, pixels: tuple[float, ...]) -> None:
        """Set the basis, and in what units moments are compared: mean, standard deviation and least of the pixels."""
        highest = min(n_max, size // 2)
        self.basis_ = ZernikeBasis(highest, size, subpixel=_SUBPIXEL, device=device)
        finer = ZernikeBasis(min(highest + _FINER, size - 1), size, subpixel=_SUBPIXEL, device=device)
        level, unit, least = pixels
        dark = min(least, 0.0) if self.offset is None else self.offset
        self._scale = MomentScale(self.basis_, finer, level, unit or 1.0, dark)

    def _in_batches(self, patches: Any, offsets: Any, relative_dose: float) -> Iterator[Tensor]:
        """Moments of new patches."""
        check_is_fitted(self)
        source = PatchSource(patches, self.device)
        if source.size != self.basis_.size:
            raise InputError(f"patches must be {self.basis_.size} px a side as in fit, got {source.size} px")
        shifts = checked_offsets(offsets, len(source), source.device)
        for rows, windows in source:
            yield self._scale.of_patches(windows, None if shifts is None else shifts[rows], relative_dose)

    def _assigned(self, moments: Tensor, level: float, relative_dose: float = 1.0) -> Assignment:
        scaled = self._scale.of_moments(moments, level, relative_dose)
        return self._model.assign(scaled, self.outlier_distance, relative_dose)

    def _learn(self, moments: Tensor, shifts: Tensor | None) -> None:
        """Set the model and what it says of the motifs."""
        unit, level = self._scale.unit, self._scale.counts_at_level
        gain = self.electrons_per_count
        self._model = learn(
            moments,
            lambda values: CountingNoise(self.basis_, values, level, shifts),
            self.basis_,
            self._rules(),
            scale=None if gain is None else 1 / (gain * unit),
            n_motifs=self.n_motifs,
            equivalence=self.equivalence,
            outlier_distance=self.outlier_distance,
            random_state=self.random_state,
        )
        self.electrons_per_count_ = 1 / (self._model.scale * unit)
        self.n_motifs_ = len(self._model.shapes.centres)
        self.folds_ = self._model.shapes.folds.cpu().numpy()
        self._learnt = len(moments)
        self.resolutions_, self.unresolved_ = self._model.tree.resolutions(
            self._model.motif, Conditions(self._rules(), self._learnt, self._learnt)
        )
        if self.n_motifs is not None and self.n_motifs_ < self.n_motifs:
            warnings.warn(
                f"n_motifs: only {self.n_motifs_} of {self.n_motifs} motifs differ at all; ask for fewer",
                TorchMotifWarning,
                stacklevel=3,
            )

    def _keep(self, parts: list[Assignment], original: Any) -> None:
        """Set what is known of the columns, and the reconstructions."""
        (self.labels_, self.probabilities_, self.outlier_scores_, self.angles_, self.mirrored_) = joined(
            parts, original
        )
        labels = torch.cat([part.labels for part in parts])
        self.counts_ = torch.bincount(labels + 1, minlength=self.n_motifs_ + 1)[1:].cpu().numpy()
        self.reconstructions_ = like(self._scale.reconstructed(self._model.shapes.centres), original)

    def _assignments(self, source: PatchSource, shifts: Tensor | None) -> Iterator[tuple[Tensor, Assignment]]:
        """The patches that are learnt from, batch by batch, with what the model says of them."""
        for rows, windows in source:
            moments = self._scale.of_patches(windows, None if shifts is None else shifts[rows])
            yield windows, self._model.assign(moments, self.outlier_distance)

    def _summarise(self, source: PatchSource, shifts: Tensor | None, patches: Any) -> None:
        """Label all patches, and set their mean in every motif."""
        parts = []
        total = torch.zeros(self.n_motifs_ + 1, source.size**2, dtype=torch.float64, device=source.device)
        for windows, part in self._assignments(source, shifts):
            parts.append(part)
            add_by_label(total, part.labels + 1, windows)
        self._keep(parts, patches)
        count = torch.from_numpy(self.counts_).to(source.device)[:, None, None].clamp(min=1)
        mean = (total[1:].reshape(-1, source.size, source.size) / count).float()
        if self.equivalence is not None:  # the patches lie in all orientations
            mean = self._scale.reconstructed(self._model.shapes.centres)
        electrons = (mean - self._scale.dark).clamp(min=0) / self.electrons_per_count_
        self.templates_ = like(mean, patches)
        self.template_errors_ = like((electrons / count).sqrt(), patches)


def add_by_label(
    total: Float[Tensor, "m p"], labels: Int[Tensor, " n"], windows: Float[Tensor, "n s s"]
) -> None:
    """Add a batch of patches to the sum of each label; float64, as beyond 2^24 single electrons no longer count."""
    part = torch.zeros_like(total, dtype=windows.dtype)
    total += part.index_add_(0, labels, windows.flatten(1))


def joined(parts: list[Assignment], original: Any) -> Assignment:
    """The batches as one, numpy or torch as `original` came."""
    return Assignment(*(like(torch.cat(part), original) for part in zip(*parts, strict=True)))
