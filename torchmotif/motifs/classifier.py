"""MotifClassifier: from patches to motifs, without supervision."""

import math
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from torchmotif._arrays import DeviceLike, keeps_digits, like, solvable
from torchmotif._threads import single_threaded
from torchmotif.errors import InputError, TorchMotifWarning
from torchmotif.motifs import sample
from torchmotif.motifs._model import Assignment, Equivalence, Learner
from torchmotif.motifs._moments import (
    MomentScale,
    MomentSource,
    PatchSource,
    Source,
    add_by_label,
    finer_order,
    n_max_of,
)
from torchmotif.motifs._noise import CountingNoise
from torchmotif.motifs._parameters import check_parameters
from torchmotif.motifs._partial import assign_partial
from torchmotif.motifs._tree import MotifTree
from torchmotif.motifs.detectability import (
    Acquisition,
    CentralColumn,
    DetectionLimit,
    Resolution,
    SplitCriteria,
)
from torchmotif.zernike import ZernikeBasis

__all__ = ["MotifClassifier"]

# Steps of the offsets. With 4, rounding them is structure enough to split a motif: MoSe2 and perfect crystals at 1/400 lose 0.002 to 0.005 in
# AMI; with 16, nothing but bilayers moves by more than 0.006.
_OFFSETS_PER_PIXEL = 8
_BATCH = 65_536  # columns that are assigned at a time


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
        Highest radial order of the moments; at most half the patches' side in pixels is used (`basis_.n_max`).
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
        Greatest saddle ratio of a split: lowest density without noise between two motifs, over that of the lower peak.
        What varies continuously, such as strain, has no saddle and is not split.
    min_share : float
        Least share of the columns that is a motif; 5 columns are the least, and 50 are always enough.
    outlier_distance : float
        A column further than this many standard deviations from its motif fits no motif: label -1.
    equivalence : {"rotation", "euclidean"}, optional
        Whether a motif rotated, or rotated and mirrored, is the same motif, as in the grains of a polycrystal. By default
        every orientation is a motif of its own.
    random_state : int
        Seed of the choice of columns that are learnt on, where there are more than 50,000: so many at random. Where enough
        of all columns fit none of these motifs to be one, it is learnt again with up to 2,500 of them in the place of
        others, so that rare motifs are not lost.
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
    angles_ : array of shape (n,), float64
        By how many radians the motif's template is rotated counter-clockwise to lie on each patch, from 0 to 2 pi over
        the motif's fold; 0 without `equivalence`.
    mirrored_ : array of shape (n,), bool
        Whether it is mirrored at the direction of the columns before; False for a motif that is its mirror image.
    folds_ : array of shape (n_motifs,), int64
        Rotational symmetry of every motif, as far as single columns tell at this dose; 1 without `equivalence`.
    templates_ : array of shape (n_motifs, s, s), float32
        Mean patch of every motif; with `equivalence` its reconstruction.
    template_errors_ : array of shape (n_motifs, s, s), float32
        Standard error of it from counting electrons.
    reconstructions_ : array of shape (n_motifs, s, s), float32
        The same about the true centres, from Zernike moments alone: most of the noise is gone; zero outside the disk.
    counts_ : array of shape (n_motifs,), int64
        Patches in every motif.
    expected_counts_ : array of shape (n_motifs, 2), float64
        How many patches are of every motif, by the sum of their probabilities, and its standard error. Where single patches
        are hardly told apart, it is far better known than which ones they are.
    n_motifs_ : int
        Number of motifs.
    electrons_per_count_ : float
        As given, or as estimated.
    resolutions_ : list of Resolution
        How the motifs are told apart, one split after the other: the evidence for `n_motifs_`.
    unresolved_ : list of Resolution
        Motifs that may be two, which this dose and number of columns do not tell apart, and what it would take.

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

    _told: (
        tuple[list[Resolution], list[Resolution]] | None
    )  # what `resolutions_` and `unresolved_` say, once asked for

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
        equivalence: Equivalence = None,
        random_state: int = 0,
        device: DeviceLike = None,
    ) -> None:
        self.n_motifs, self.n_max = n_motifs, n_max
        self.electrons_per_count, self.offset = electrons_per_count, offset
        self.min_evidence, self.min_detectability = min_evidence, min_detectability
        self.max_valley, self.min_share = max_valley, min_share
        self.outlier_distance, self.equivalence = outlier_distance, equivalence
        self.random_state, self.device = random_state, device

    def __sklearn_tags__(self) -> Tags:
        """Say to scikit-learn that patches are three-dimensional."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags

    @keeps_digits
    def fit(self, patches: Any, offsets: Any = None) -> "MotifClassifier":
        """Learn the motifs.

        Parameters
        ----------
        patches : array of shape (n, s, s)
            Read a batch at a time, so a memory-mapped array need not fit into memory.
        offsets : array of shape (n, 2), optional
            True centre minus window centre, (row, col) in pixels, at most half a pixel.

        Returns
        -------
        MotifClassifier
            Itself.
        """
        source = PatchSource(patches, self.device, offsets)
        if len(source) == 0:
            raise InputError("patches is empty: at least one patch is needed to learn a motif")
        return self._fit(source, patches)

    @keeps_digits
    def fit_moments(
        self, moments: Any, size: int, offsets: Any = None, *, level: float = 0.0
    ) -> "MotifClassifier":
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
        MotifClassifier
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
        return self._fit(MomentSource(moments, self.device, size, level, offsets), moments)

    def predict(self, patches: Any, offsets: Any = None, *, relative_dose: float = 1.0) -> Any:
        """The motif of every patch, -1 where it fits none.

        Parameters
        ----------
        patches, offsets, relative_dose
            See `assign`.

        Returns
        -------
        array of shape (n,), int64
        """
        return self.assign(patches, offsets, relative_dose=relative_dose).labels

    def predict_proba(self, patches: Any, offsets: Any = None, *, relative_dose: float = 1.0) -> Any:
        """The probability of every motif for every patch.

        Parameters
        ----------
        patches, offsets, relative_dose
            See `assign`.

        Returns
        -------
        array of shape (n, n_motifs), float64
        """
        source = self._source(patches, offsets)
        parts = [
            self._model.log_probabilities(moments, relative_dose).exp()
            for moments in source.scaled(self._scale, relative_dose)
        ]
        return like(torch.cat(parts), patches)

    @keeps_digits
    def assign(self, patches: Any, offsets: Any = None, *, relative_dose: float = 1.0) -> Assignment:
        """Motif of every patch with its probability and the distance from it.

        Parameters
        ----------
        patches : array of shape (n, s, s)
            Read a batch at a time.
        offsets : array of shape (n, 2), optional
        relative_dose : float
            Dose of these patches relative to those the motifs were learnt on.

        Returns
        -------
        Assignment
        """
        batches = self._source(patches, offsets).scaled(self._scale, relative_dose)
        return Assignment.joined(self._assigned(batches, relative_dose), patches)

    def fit_predict(self, patches: Any, offsets: Any = None) -> Any:
        """Learn the motifs, and give the motif of every patch.

        Parameters
        ----------
        patches, offsets
            See `fit`.

        Returns
        -------
        array of shape (n,), int64
        """
        return self.fit(patches, offsets).labels_

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
        source = MomentSource(moments, self.device, self.basis_.size, level)
        k, least = source.values.shape[1], len(self.basis_.basis)
        if k < least:
            raise InputError(f"moments must be at least {least} a column as in fit, got {k}")
        batches = source.scaled(self._scale, relative_dose)
        return Assignment.joined(self._assigned(batches, relative_dose), moments)

    def predict_partial(self, patches: Any, present: Any, offsets: Any) -> tuple[Any, Any]:
        """Motif of patches of which only a part is there, such as at the image's border, and its probability.

        Parameters
        ----------
        patches : array of shape (n, s, s)
            Of the learnt size; what is not present may have any finite value.
        present : boolean array of shape (n, s, s)
            Pixels that are there.
        offsets : array of shape (n, 2)
            See `fit`.

        Returns
        -------
        labels : array of shape (n,), int64
            -1 where too few pixels are there to tell, or the patch fits no motif.
        probabilities : array of shape (n,), float64
            Of that motif, by the likelihood of the pixels that are there; 0 where the label is -1.

        Raises
        ------
        InputError
            If `present` has another shape, or motifs were learnt up to rotation: a part of a patch does not tell its angle.
        """
        source = self._source(patches, offsets)
        if self._model.reference is not None:
            raise InputError("equivalence: a part of a patch does not tell how its motif is rotated")
        there = torch.as_tensor(present, dtype=torch.bool, device=source.device)
        none = torch.zeros(0, source.size, source.size, device=source.device)
        windows = torch.cat([none, *(part for _, part in source)])
        if there.shape != windows.shape or source.offsets is None:
            raise InputError(
                f"present must have the shape of patches, {tuple(windows.shape)}, got {tuple(there.shape)}"
            )
        found = assign_partial(
            self._model, self._scale, self.outlier_distance, windows, present=there, offsets=source.offsets
        )
        return like(found[0], patches), like(found[1], patches)

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
        return self._tree().resolutions(self._model.motif, self._acquisition(relative_dose, columns))[0]

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
        >>> scan = specimen.draw(1 / 100, torch.Generator().manual_seed(0)).data
        >>> positions = specimen.truth.positions[tm.patches.inside(specimen.truth.positions, scan.shape, 37)]
        >>> patches, offsets = tm.extract_patches(scan, positions, 37), tm.patches.offsets(positions, 37)
        >>> model = tm.MotifClassifier().fit(patches, offsets)
        >>> [one.found for one in model.detection_limits(-0.5, 0.05)]
        [False, False]
        >>> [one.found for one in model.detection_limits(-0.5, 0.05, relative_dose=10)]
        [True, True]
        """
        check_is_fitted(self)
        if not (change >= -1 and change != 0 and math.isfinite(change) and 0 < share <= 0.5):
            raise InputError(
                "change must be at least -1 and not 0, and share lie between 0 and 0.5, "
                f"got change={change}, share={share}"
            )
        acquisition, noise = self._acquisition(relative_dose, columns), self._noise()
        columns_ = [CentralColumn.of(middle, noise, self._model.scale) for middle in self._model.middles]
        return [
            acquisition.detection_limit(motif, column, float(change), float(share))
            for motif, column in enumerate(columns_)
        ]

    @property
    def resolutions_(self) -> list[Resolution]:
        """How the motifs are told apart, one split after the other: the evidence for `n_motifs_`."""
        return self._resolved()[0]

    @property
    def unresolved_(self) -> list[Resolution]:
        """Motifs that may be two, which this dose and number of columns do not tell apart, and what it would take."""
        return self._resolved()[1]

    @single_threaded()
    def _resolved(self) -> tuple[list[Resolution], list[Resolution]]:
        """Both, computed when they are asked for first."""
        check_is_fitted(self)
        if self._told is None:
            self._told = self._tree().resolutions(self._model.motif, self._acquisition())
        return self._told

    def _noise(self) -> CountingNoise:
        """That of a patch whose centre is the centre of its window, on the host."""
        basis = ZernikeBasis(self.basis_.n_max, self.basis_.size, subpixel=_OFFSETS_PER_PIXEL)
        return CountingNoise(basis, self._orders, self._scale.counts_at_level, None)

    def _tree(self) -> MotifTree:
        """The splits, which know how the noise of their sides is askew."""
        return self._model.tree.with_cumulants(self._noise(), self._model.scale)

    def _acquisition(self, relative_dose: float = 1.0, columns: int | None = None) -> Acquisition:
        if not relative_dose > 0 or (columns is not None and columns < 1):
            raise InputError(
                f"relative_dose and columns must be positive, got relative_dose={relative_dose}, columns={columns}"
            )
        return Acquisition(self._criteria(), self._learnt, columns or self._learnt, float(relative_dose))

    def _criteria(self) -> SplitCriteria:
        return SplitCriteria(self.min_evidence, self.min_detectability, self.max_valley, self.min_share)

    def _source(self, patches: Any, offsets: Any) -> PatchSource:
        """New patches of the learnt size."""
        check_is_fitted(self)
        source = PatchSource(patches, self.device, offsets)
        if source.size != self.basis_.size:
            raise InputError(f"patches must be {self.basis_.size} px a side as in fit, got {source.size} px")
        return source

    def _assigned(self, batches: Iterable[Tensor], relative_dose: float = 1.0) -> Iterator[Assignment]:
        """What the model says of moments, batch by batch; higher orders than its own are not looked at."""
        for moments in batches:
            mine = moments[:, : len(self.basis_.basis)]
            yield self._model.assign(mine, self.outlier_distance, relative_dose)

    @single_threaded()
    def _fit(self, source: Source, original: Any) -> "MotifClassifier":
        """Learn on all columns, or on a sample that keeps what is rare; with the number of motifs given on any sample."""
        n, device = len(source), source.device
        check_parameters(self.get_params(deep=False), n)
        highest = min(self.n_max, source.n_max)
        finer = ZernikeBasis(
            finer_order(highest, source.size),
            source.size,
            subpixel=_OFFSETS_PER_PIXEL,
            device=device,
        )
        self.basis_ = finer.lower(highest)
        moments, level, deviation, least, self._parts = source.read(finer)
        dark = min(least, 0.0) if self.offset is None else self.offset
        self._scale = MomentScale(self.basis_, level, deviation or 1.0, dark, finer)
        moments = self._scale.of_moments(moments, level).float()

        batches = moments.split(_BATCH)

        def learnt_on(chosen: np.ndarray) -> list[Assignment]:
            self._learn(moments, source.offsets, torch.from_numpy(np.sort(chosen)).to(device))
            return list(self._assigned(batches))

        with solvable(source.name):
            chosen = np.random.default_rng(self.random_state).permutation(n)[: sample.MOST]
            parts = learnt_on(chosen)
            if n > sample.MOST:
                labels = torch.cat([part.labels for part in parts])
                unlike = torch.nonzero(labels < 0)[:, 0].cpu().numpy()
                again = sample.with_unlike(chosen, unlike, self.min_share, self.random_state)
                parts = parts if again is None else learnt_on(again)
        k = len(self.basis_.basis)
        self.expected_counts_ = self._model.expected_counts([part[:, :k] for part in batches])
        self._summarise(source, parts, original)
        return self

    def _learn(self, moments: Tensor, offsets: Tensor | None, rows: Tensor) -> None:
        """Set the model of some columns, and what it says of the motifs."""
        unit, gain = self._scale.unit, self.electrons_per_count
        self._orders, self._learnt = n_max_of(moments.shape[1]), len(rows)
        learner = Learner(
            self.basis_,
            self._criteria(),
            CountingNoise(
                self.basis_,
                self._orders,
                self._scale.counts_at_level,
                None if offsets is None else offsets[rows],
                self._parts,
            ),
            None if gain is None else 1 / (gain * unit),
            self.n_motifs,
            self.equivalence,
            self.outlier_distance,
            self.random_state,
        )
        self._model = learner.learn(moments[rows])
        self._told = None
        self.electrons_per_count_ = 1 / (self._model.scale * unit)
        self.n_motifs_ = len(self._model.counts)
        self.folds_ = np.ones(self.n_motifs_, dtype=np.int64)
        if self._model.reference is not None:
            self.folds_ = self._model.shapes.folds.cpu().numpy()
        if self.n_motifs is not None and self.n_motifs_ < self.n_motifs:
            message = (
                f"n_motifs: only {self.n_motifs_} of {self.n_motifs} motifs differ at all; ask for fewer"
            )
            warnings.warn(message, TorchMotifWarning, stacklevel=3)

    def _summarise(self, source: Source, parts: list[Assignment], original: Any) -> None:
        """Set the labels of all columns, and the mean patch of every motif."""
        whole = Assignment.joined(parts, original)
        self.labels_, self.probabilities_, self.outlier_scores_, self.angles_, self.mirrored_ = whole
        labels = torch.cat([part.labels for part in parts])
        counts = F.one_hot(labels + 1, self.n_motifs_ + 1).sum(0)[1:]
        self.counts_ = counts.cpu().numpy()
        reconstructions = self._scale.reconstructed(self._model.shapes.centres)
        self.reconstructions_ = like(reconstructions, original)
        if isinstance(source, MomentSource):
            return
        count = counts[:, None, None].clamp(min=1)
        mean = reconstructions  # where patches lie in all orientations
        if self.equivalence is None:
            total = torch.zeros(self.n_motifs_ + 1, source.size**2, dtype=torch.float64, device=source.device)
            for rows, windows in source:
                add_by_label(total, labels[rows] + 1, windows)
            mean = (total[1:].reshape(-1, source.size, source.size) / count).float()
        electrons = (mean - self._scale.dark).clamp(min=0) / self.electrons_per_count_
        self.templates_ = like(mean, original)
        self.template_errors_ = like((electrons / count).sqrt(), original)
