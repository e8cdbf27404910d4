"""MotifClassifier: from patches to motifs, without supervision."""

import math
import warnings
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from torchmotif._arrays import DeviceLike, as_positions, as_tensor, like, solvable
from torchmotif.errors import InputError, TorchMotifWarning
from torchmotif.motifs.noise import CountingNoise, noise_scale
from torchmotif.motifs.outliers import Spread
from torchmotif.motifs.tree import Rules, grow
from torchmotif.zernike import ZernikeBasis

__all__ = ["MotifClassifier"]

_SUBPIXEL = 8  # steps of the offsets per pixel; with 4, rounding them is structure enough to split a motif
_MAX_LEARNT = 50_000  # columns that the motifs are learnt on
_BATCH = 65_536  # columns that are labelled at a time


class MotifClassifier(ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """Sorts patches into structural motifs.

    The patches are projected on Zernike polynomials about their true centres. How much counting electrons scatters
    these moments is known; so a set of columns is one motif unless two Gaussians, neither narrower than that noise,
    describe it much better than one. Sets are split so until none is left to split. Nobody says how many motifs
    there are.

    Parameters
    ----------
    n_motifs : int, optional
        Number of motifs; by default it is found.
    n_max : int
        Highest radial order of the moments; at most half the patches' side in pixels.
    electrons_per_count : float, optional
        Detected electrons that one unit of the patches stands for (see `noise.estimate_gain`); by default it is told
        from the directions of moment space that hold nothing but noise.
    offset : float, optional
        Value of a pixel without electrons; by default 0, or the least pixel where there are negative ones.
    min_evidence : float
        Difference of the Bayesian information criterion that a split needs; above 10 it is very strong.
    min_detectability : float
        Distance between two motifs that a split needs, in standard deviations of one column at this dose.
    max_valley : float
        Two sides are one motif when their density without noise is nowhere between them below this share of the lower
        peak: what varies continuously, such as strain, is not split.
    min_share : float
        Least share of the columns that is a motif; it has 5 columns at least.
    outlier_distance : float
        A column further than this many standard deviations from its motif fits no motif: label -1.
    random_state : int
        Seed of the choice of columns that are learnt on, where there are more than 50,000.
    device : str or torch.device, optional
        Where to compute; by default where the patches are.

    Attributes
    ----------
    labels_ : array of shape (n,), int64
        Motif of every patch, 0 the most frequent; -1 fits no motif.
    probabilities_ : array of shape (n,), float64
        Probability of that motif; 0 where the label is -1.
    outlier_scores_ : array of shape (n,), float64
        Distance of every patch from its motif in standard deviations.
    templates_ : array of shape (n_motifs, s, s), float32
        Mean patch of every motif.
    template_errors_ : array of shape (n_motifs, s, s), float32
        Standard error of it from counting electrons.
    reconstructions_ : array of shape (n_motifs, s, s), float32
        The same about the true centres, from Zernike moments alone: most of the noise is gone; zero outside the disk.
    counts_ : array of shape (n_motifs,), int64
        Patches in every motif.
    n_motifs_ : int
        Number of motifs.
    electrons_per_count_ : float
        As given, or as estimated.
    resolutions_ : list of Resolution
        How the motifs are told apart, one split after the other: the evidence for `n_motifs_`.

    Raises
    ------
    InputError
        If the patches are not finite squares, or fewer than the motifs asked for.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> y, x = np.mgrid[-8:9, -8:9]
    >>> disk = 20.0 * np.exp(-(x**2 + y**2) / 18)
    >>> patches = rng.poisson(np.repeat([1.0 + disk, 1.0 + 0.5 * disk], 100, axis=0))
    >>> MotifClassifier().fit(patches).counts_.tolist()
    [100, 100]
    """

    def __init__(
        self,
        n_motifs: int | None = None,
        *,
        n_max: int = 10,
        electrons_per_count: float | None = None,
        offset: float | None = None,
        min_evidence: float = 10.0,
        min_detectability: float = 2.0,
        max_valley: float = 0.2,
        min_share: float = 0.003,
        outlier_distance: float = 6.0,
        random_state: int = 0,
        device: DeviceLike = None,
    ) -> None:
        self.n_motifs = n_motifs
        self.n_max = n_max
        self.electrons_per_count = electrons_per_count
        self.offset = offset
        self.min_evidence = min_evidence
        self.min_detectability = min_detectability
        self.max_valley = max_valley
        self.min_share = min_share
        self.outlier_distance = outlier_distance
        self.random_state = random_state
        self.device = device

    def __sklearn_tags__(self) -> Tags:
        """Say to scikit-learn that patches are three-dimensional."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags

    def fit(self, patches: Any, offsets: Any = None) -> "MotifClassifier":
        """Learn the motifs.

        Parameters
        ----------
        patches : array of shape (n, s, s)
        offsets : array of shape (n, 2), optional
            True centre minus window centre, (row, col) in pixels, at most half a pixel.

        Returns
        -------
        MotifClassifier
            Itself.
        """
        windows = self._check(patches)
        shifts = self._shifts(windows, offsets)
        self._check_parameters(len(windows))
        size = windows.shape[1]
        self.basis_ = ZernikeBasis(
            min(self.n_max, size // 2), size, subpixel=_SUBPIXEL, device=windows.device
        )
        self._level = float(windows.mean())
        self._unit = float(windows.std(correction=0)) or 1.0
        least = float(windows.min())
        self._dark = self.offset if self.offset is not None else min(least, 0.0)
        rng = np.random.default_rng(self.random_state)
        rows = torch.arange(len(windows), device=windows.device)
        if len(windows) > _MAX_LEARNT:
            rows = torch.from_numpy(np.sort(rng.permutation(len(windows))[:_MAX_LEARNT])).to(windows.device)
        with solvable("patches"):
            self._learn(windows[rows], None if shifts is None else shifts[rows])
        self._summarise(windows, shifts, patches)
        return self

    def predict(self, patches: Any, offsets: Any = None, *, relative_dose: float = 1.0) -> Any:
        """The motif of every patch, -1 where it fits none.

        Parameters
        ----------
        patches : array of shape (n, s, s)
        offsets : array of shape (n, 2), optional
        relative_dose : float
            Dose of these patches relative to those the motifs were learnt on.

        Returns
        -------
        array of shape (n,), int64
        """
        return like(self._label(*self._checked(patches, offsets), relative_dose)[0], patches)

    def predict_proba(self, patches: Any, offsets: Any = None, *, relative_dose: float = 1.0) -> Any:
        """The probability of every motif for every patch.

        Parameters
        ----------
        patches : array of shape (n, s, s)
        offsets : array of shape (n, 2), optional
        relative_dose : float
            Dose of these patches relative to those the motifs were learnt on.

        Returns
        -------
        array of shape (n, n_motifs), float64
        """
        moments = self._moments(*self._checked(patches, offsets), relative_dose)
        return like(self._tree.log_probabilities(moments, relative_dose).exp(), patches)

    def fit_predict(self, patches: Any, offsets: Any = None) -> Any:
        """Learn the motifs, and give the motif of every patch.

        Parameters
        ----------
        patches : array of shape (n, s, s)
        offsets : array of shape (n, 2), optional

        Returns
        -------
        array of shape (n,), int64
        """
        return self.fit(patches, offsets).labels_

    def _checked(self, patches: Any, offsets: Any) -> tuple[Tensor, Tensor | None]:
        windows = self._check(patches, fitted=True)
        return windows, self._shifts(windows, offsets)

    def _check(self, patches: Any, *, fitted: bool = False) -> Tensor:
        """The patches as a float32 tensor of the right shape, on the device."""
        if fitted:
            check_is_fitted(self)
        windows = as_tensor(patches, device=self.device, name="patches")
        if windows.ndim != 3 or windows.shape[1] != windows.shape[2] or windows.shape[1] < 3:
            raise InputError(
                f"patches must have the shape (n, s, s) with s of at least 3, got {tuple(windows.shape)}; "
                "see extract_patches"
            )
        if not fitted and len(windows) == 0:
            raise InputError("patches is empty: at least one patch is needed to learn a motif")
        if fitted and windows.shape[1] != self.basis_.size:
            raise InputError(
                f"patches must be {self.basis_.size} px a side as in fit, got {windows.shape[1]} px"
            )
        if not bool(torch.isfinite(windows).all()):
            raise InputError(
                "patches has values that are not finite; drop those patches, or fill their pixels first"
            )
        return windows

    def _shifts(self, windows: Tensor, offsets: Any) -> Tensor | None:
        if offsets is None:
            return None
        shifts = as_positions(offsets, device=windows.device, name="offsets")
        if len(shifts) != len(windows):
            raise InputError(
                f"offsets must have one row for each of the {len(windows)} patches, got {len(shifts)}"
            )
        return shifts

    def _check_parameters(self, n: int) -> None:
        for name, least in (("n_motifs", 1), ("n_max", 0), ("random_state", 0)):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, Integral) or value < least):
                raise InputError(f"{name} must be a whole number of at least {least}, got {value!r}")
        if self.n_motifs is not None and not 1 <= self.n_motifs <= n:
            raise InputError(
                f"n_motifs must lie between 1 and the number of patches, {n}, got {self.n_motifs}"
            )
        for name in ("max_valley", "min_share"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(f"{name} must lie between 0 and 1, got {getattr(self, name)}")
        gain = self.electrons_per_count
        if gain is not None and not (gain > 0 and math.isfinite(gain)):
            raise InputError(f"electrons_per_count must be positive and finite, got {gain}")

    def _moments(self, windows: Tensor, shifts: Tensor | None, relative_dose: float = 1.0) -> Tensor:
        """Moments about the true centres in units of the learnt patches' standard deviation, at their dose."""
        if not (relative_dose > 0 and math.isfinite(relative_dose)):
            raise InputError(f"relative_dose must be positive and finite, got {relative_dose}")
        counts = (windows - self._dark) / relative_dose + (self._dark - self._level)
        moments: Tensor = self.basis_(counts / self._unit, shifts)
        return moments.double()

    def _learn(self, windows: Tensor, shifts: Tensor | None) -> None:
        """Set the tree of motifs and their spread."""
        moments = self._moments(windows, shifts)
        # No pixel is without noise: a hundredth of the mean stands in for those below zero.
        counts = ((windows - self._dark) / self._unit).clamp(min=0)
        noise = CountingNoise(self.basis_, counts + (0.01 * counts.mean()).clamp(min=1e-6), shifts)
        rows = torch.arange(len(windows), device=windows.device)
        if self.electrons_per_count is None:
            scale = noise_scale(moments, noise.covariance(rows)) or 1.0
        else:
            scale = 1 / (self.electrons_per_count * self._unit)
        self.electrons_per_count_ = 1 / (scale * self._unit)
        rules = Rules(self.min_evidence, self.min_detectability, self.max_valley, self.min_share)
        self._tree = grow(moments, noise, self.basis_, rules, scale=scale, n_motifs=self.n_motifs)
        self.n_motifs_ = len(self._tree.leaves)
        if self.n_motifs is not None and self.n_motifs_ < self.n_motifs:
            warnings.warn(
                f"n_motifs: only {self.n_motifs_} of {self.n_motifs} motifs differ at all; ask for fewer",
                TorchMotifWarning,
                stacklevel=3,
            )
        labels = self._tree.log_probabilities(moments).argmax(1)
        self._spread = Spread.learn(moments, labels, scale * noise.covariance(rows))
        self.resolutions_ = self._tree.resolutions(self.min_detectability)

    def _label(
        self, windows: Tensor, shifts: Tensor | None, relative_dose: float = 1.0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Motif, its probability, and the distance from it for every patch, a batch at a time."""
        parts = []
        for first in range(0, len(windows), _BATCH):
            batch = slice(first, first + _BATCH)
            moments = self._moments(windows[batch], None if shifts is None else shifts[batch], relative_dose)
            best = self._tree.log_probabilities(moments, relative_dose).max(1)
            score = self._spread.scores(moments, best.indices, relative_dose)
            fits = score <= self.outlier_distance
            probability = torch.where(fits, best.values.exp(), 0.0)
            parts.append((torch.where(fits, best.indices, -1), probability, score))
        labels, probabilities, scores = (torch.cat(part) for part in zip(*parts, strict=True))
        return labels, probabilities, scores

    def _summarise(self, windows: Tensor, shifts: Tensor | None, patches: Any) -> None:
        """Set the learnt attributes that end in an underscore."""
        labels, probabilities, scores = self._label(windows, shifts)
        count = torch.bincount(labels + 1, minlength=self.n_motifs_ + 1)
        total = windows.new_zeros(self.n_motifs_ + 1, windows[0].numel())
        total.index_add_(0, labels + 1, windows.flatten(1))
        mean = (total / count[:, None].clamp(min=1))[1:].reshape(self.n_motifs_, *windows.shape[1:])
        electrons = (mean - self._dark).clamp(min=0) / self.electrons_per_count_
        self.counts_ = count[1:].cpu().numpy()
        self.labels_ = like(labels, patches)
        self.probabilities_ = like(probabilities, patches)
        self.outlier_scores_ = like(scores, patches)
        self.templates_ = like(mean, patches)
        ideal = (self._spread.centres * self._unit).to(windows.dtype)
        self.reconstructions_ = like(self.basis_.reconstruct(ideal) + self._level * self._disk(), patches)
        self.template_errors_ = like((electrons / count[1:, None, None].clamp(min=1)).sqrt(), patches)

    def _disk(self) -> Tensor:
        """1 inside the disk of the moments, 0 outside."""
        first = torch.zeros_like(self.basis_.basis[:1, 0].expand(len(self.basis_.basis))[None])
        first[0, 0] = 1.0  # the first polynomial is 1
        disk: Tensor = self.basis_.reconstruct(first)[0]
        return disk.round()
