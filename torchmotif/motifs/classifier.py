"""MotifClassifier: from patches to motifs, without supervision."""

from collections.abc import Iterator
from typing import Any

import torch
from sklearn.utils import Tags
from torch import Tensor

from torchmotif._arrays import DeviceLike, keeps_digits, like, solvable
from torchmotif.errors import InputError
from torchmotif.motifs.estimator import MomentClassifier, joined
from torchmotif.motifs.model import Assignment, Equivalence
from torchmotif.motifs.source import PatchSource, check_parameters, checked_offsets

__all__ = ["MotifClassifier"]


class MotifClassifier(MomentClassifier):
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
        Two sides are one motif when their density without noise is nowhere between them below this share of the lower
        peak: what varies continuously, such as strain, is not split.
    min_share : float
        Least share of the columns that is a motif; 5 columns are the least, and 50 are always enough.
    outlier_distance : float
        A column further than this many standard deviations from its motif fits no motif: label -1.
    equivalence : {"rotation", "euclidean"}, optional
        Whether a motif turned, or turned and mirrored, is the same motif, as in the grains of a polycrystal. By default
        every orientation is a motif of its own.
    random_state : int
        Seed of the choice of columns that are learnt on, where there are more than 50,000: so many at random, in which
        up to 2,500 of those that are unlike the common motifs take the place of others, so that rare ones are not lost.
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
        By how many radians the motif's template is turned counter-clockwise to lie on each patch, from 0 to 2 pi over
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
        self.n_motifs = n_motifs
        self.n_max = n_max
        self.electrons_per_count = electrons_per_count
        self.offset = offset
        self.min_evidence = min_evidence
        self.min_detectability = min_detectability
        self.max_valley = max_valley
        self.min_share = min_share
        self.outlier_distance = outlier_distance
        self.equivalence = equivalence
        self.random_state = random_state
        self.device = device

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
        source = PatchSource(patches, self.device)
        n, size = len(source), source.size
        if n == 0:
            raise InputError("patches is empty: at least one patch is needed to learn a motif")
        shifts = checked_offsets(offsets, n, source.device)
        check_parameters(self, n)
        self._set_scale(self.n_max, size, source.device, source.mean_deviation_least())

        def learn_on(rows: Tensor) -> None:
            learnt = None if shifts is None else shifts[rows]
            self._learn(self._scale.of_patches(source.take(rows), learnt, finer=True), learnt)

        def assigned() -> Iterator[Assignment]:
            return (part for _, part in self._assignments(source, shifts))

        with solvable("patches"):
            self._learn_on_most(n, learn_on, assigned)
        self._summarise(source, shifts, patches)
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
        return self.assign(patches, offsets, relative_dose=relative_dose).labels

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
        parts = [
            self._model.log_probabilities(moments, relative_dose).exp()
            for moments in self._in_batches(patches, offsets, relative_dose)
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
        parts = [
            self._model.assign(moments, self.outlier_distance, relative_dose)
            for moments in self._in_batches(patches, offsets, relative_dose)
        ]
        return joined(parts, patches)

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
