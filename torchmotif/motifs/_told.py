"""What a classifier tells of its motifs once they are learnt: how they are told apart, and what would have been found."""

import math

from sklearn.utils.validation import check_is_fitted

from torchmotif._threads import single_threaded
from torchmotif.errors import InputError
from torchmotif.motifs._model import MotifModel
from torchmotif.motifs._moments import OFFSETS_PER_PIXEL, MomentScale
from torchmotif.motifs._noise import CountingNoise
from torchmotif.motifs._tree import MotifTree
from torchmotif.motifs.detectability import (
    Acquisition,
    CentralColumn,
    DetectionLimit,
    Resolution,
    SplitCriteria,
)
from torchmotif.zernike import ZernikeBasis

__all__ = ["ToldMotifs"]


class ToldMotifs:
    """The part of `MotifClassifier` that asks what was learnt, and changes nothing of it but for what it has told."""

    min_evidence: float
    min_detectability: float
    max_valley: float
    min_share: float
    basis_: ZernikeBasis
    _model: MotifModel
    _scale: MomentScale
    _orders: int  # of the moments that were learnt on
    _learnt: int  # columns that were learnt on
    # What `resolutions_` and `unresolved_` say, once asked for:
    _told: tuple[list[Resolution], list[Resolution]] | None

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
        basis = ZernikeBasis(self.basis_.n_max, self.basis_.size, subpixel=OFFSETS_PER_PIXEL)
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
