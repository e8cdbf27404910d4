"""MotifClassifier: from patches to motifs, without supervision."""

from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from torchmotif._arrays import DeviceLike, as_positions, as_tensor, like
from torchmotif.cluster import Mixture, fit_mixture, mixture_modes
from torchmotif.errors import InputError
from torchmotif.zernike import ZernikeBasis

__all__ = ["MotifClassifier"]

_MAX_COMPONENTS = 12  # of the mixture that the motifs are modes of
_MAX_DIRECTIONS = 12  # of moment space that are looked at
_COLUMNS_PER_DIRECTION = 40  # a covariance from fewer is mostly noise
_MAX_LEARNT = 10_000  # columns that the mixture is learnt on


class MotifClassifier(ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """Sorts patches into structural motifs.

    The patches are projected on Zernike polynomials about their true centres; the directions of moment space that
    stand out of the noise are kept; a Gaussian mixture is fitted to the columns there; and every mode of its density
    is a motif. Nobody says how many there are.

    Parameters
    ----------
    n_motifs : int, optional
        Number of motifs; by default it is found.
    n_max : int
        Highest radial order of the moments; less where the patches are too small for it.
    max_valley : float
        Two modes are one motif when the density between them is at least this share of the lower one.
    outlier_distance : float
        A column further than this many standard deviations from its motif fits no motif: label -1.
    random_state : int
        Seed of the mixture's start.
    device : str or torch.device, optional
        Where the moments are computed; by default where the patches are.

    Attributes
    ----------
    labels_ : array of shape (n,), int64
        Motif of every patch, 0 the most frequent; -1 fits no motif.
    probabilities_ : array of shape (n,), float64
        Probability of that motif; 0 where the label is -1.
    templates_ : array of shape (n_motifs, s, s), float32
        Mean patch of every motif.
    counts_ : array of shape (n_motifs,), int64
        Patches in every motif.
    n_motifs_ : int
        Number of motifs.
    valleys_ : list of float
        Depth of the valley at each merge, the shallowest one kept last: the evidence for `n_motifs_`.

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
        max_valley: float = 0.2,
        outlier_distance: float = 6.0,
        random_state: int = 0,
        device: DeviceLike = None,
    ) -> None:
        self.n_motifs = n_motifs
        self.n_max = n_max
        self.max_valley = max_valley
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
            True centre minus window centre, (row, col) in pixels.

        Returns
        -------
        MotifClassifier
            Itself.
        """
        windows = self._check(patches)
        n, size = len(windows), windows.shape[1]
        if self.n_motifs is not None and not 1 <= self.n_motifs <= n:
            raise InputError(
                f"n_motifs must lie between 1 and the number of patches, {n}, got {self.n_motifs}"
            )
        if not 0 < self.max_valley <= 1:
            raise InputError(f"max_valley must lie between 0 and 1, got {self.max_valley}")
        self.basis_ = ZernikeBasis(min(self.n_max, size - 1), size, device=windows.device)
        # The mean pixel goes first: a constant has moments of its own on a sampled disk, other ones at every offset.
        self.level_ = float(windows.mean())
        self.scale_ = float(windows.std(correction=0)) or 1.0
        moments = self._moments(windows, offsets)
        self._find_directions(moments)
        features = self._features(moments)
        rng = np.random.default_rng(self.random_state)
        learnt = features[rng.permutation(n)[:_MAX_LEARNT]] if n > _MAX_LEARNT else features
        mixture = fit_mixture(
            learnt, _MAX_COMPONENTS, min_components=self.n_motifs or 1, random_state=self.random_state
        )
        groups, self.valleys_ = mixture_modes(mixture, self.max_valley, n_modes=self.n_motifs)
        self._order(mixture, groups, features)
        self._summarise(windows, features, patches)
        return self

    def predict(self, patches: Any, offsets: Any = None) -> Any:
        """The motif of every patch, -1 where it fits none.

        Parameters
        ----------
        patches : array of shape (n, s, s)
        offsets : array of shape (n, 2), optional

        Returns
        -------
        array of shape (n,), int64
        """
        features = self._features(self._moments(self._check(patches, fitted=True), offsets))
        return like(torch.from_numpy(self._label(features)[0]), patches)

    def predict_proba(self, patches: Any, offsets: Any = None) -> Any:
        """The probability of every motif for every patch.

        Parameters
        ----------
        patches : array of shape (n, s, s)
        offsets : array of shape (n, 2), optional

        Returns
        -------
        array of shape (n, n_motifs), float64
        """
        features = self._features(self._moments(self._check(patches, fitted=True), offsets))
        return like(torch.from_numpy(self._responsibilities(features)), patches)

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

    def _moments(self, windows: Tensor, offsets: Any) -> Tensor:
        """Moments of the patches about their true centres, in units of the patches' standard deviation."""
        shifts = None if offsets is None else as_positions(offsets, device=windows.device, name="offsets")
        if shifts is not None and len(shifts) != len(windows):
            raise InputError(
                f"offsets must have one row for each of the {len(windows)} patches, got {len(shifts)}"
            )
        moments: Tensor = self.basis_((windows - self.level_) / self.scale_, shifts)
        return moments

    def _find_directions(self, moments: Tensor) -> None:
        """Principal directions of moment space whose variance white noise alone would not reach."""
        n, k = moments.shape
        values = moments.double()
        self._centre = values.mean(dim=0)
        centred = values - self._centre
        variances, directions = torch.linalg.eigh(centred.T @ centred / n)
        # White noise has the same variance in all moments: the lower half of the spectrum shows it, and
        # Marchenko & Pastur (1967) give the largest variance that a sample of n makes of it.
        edge = variances[: k // 2].median() * (1 + (k / n) ** 0.5) ** 2 if k > 1 else variances.new_zeros(())
        count = int((variances > edge).sum())
        count = max(1, min(count, _MAX_DIRECTIONS, n // _COLUMNS_PER_DIRECTION))
        self._directions = directions.flip(1)[:, :count]

    def _features(self, moments: Tensor) -> np.ndarray:
        """Coordinates along the significant directions."""
        features: np.ndarray = ((moments.double() - self._centre) @ self._directions).cpu().numpy()
        return features

    def _order(self, mixture: Mixture, groups: list[list[int]], features: np.ndarray) -> None:
        """Number the motifs by size, the largest first."""
        self._mixture, self._groups = mixture, groups
        sizes = np.bincount(self._label(features)[0] + 1, minlength=len(groups) + 1)[1:]
        self._groups = [groups[i] for i in np.argsort(-sizes, kind="stable")]

    def _responsibilities(self, features: np.ndarray) -> np.ndarray:
        """Probability of every motif, shape (n, n_motifs)."""
        log_density = self._mixture.log_densities(features)
        log_density -= np.logaddexp.reduce(log_density, axis=1, keepdims=True)
        return np.stack([np.exp(log_density[:, group]).sum(axis=1) for group in self._groups], axis=1)

    def _label(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Motif and its probability for every row."""
        probabilities = self._responsibilities(features)
        labels = probabilities.argmax(axis=1)
        fits = self._mixture.squared_distances(features).min(axis=1) <= self.outlier_distance**2
        best = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0].clip(0.0, 1.0)
        return np.where(fits, labels, -1), np.where(fits, best, 0.0)

    def _summarise(self, windows: Tensor, features: np.ndarray, patches: Any) -> None:
        """Set the learnt attributes that end in an underscore."""
        labels, probabilities = self._label(features)
        self.n_motifs_ = len(self._groups)
        self.counts_ = np.bincount(labels + 1, minlength=self.n_motifs_ + 1)[1:]
        member = torch.from_numpy(labels).to(windows.device) == torch.arange(
            self.n_motifs_, device=windows.device
        ).unsqueeze(1)
        weight = member.to(windows.dtype) / member.sum(dim=1, keepdim=True).clamp(min=1)
        templates = (weight @ windows.flatten(1)).reshape(self.n_motifs_, *windows.shape[1:])
        self.labels_ = like(torch.from_numpy(labels), patches)
        self.probabilities_ = like(torch.from_numpy(probabilities), patches)
        self.templates_ = like(templates, patches)
