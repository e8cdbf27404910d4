"""How far the dose of an acquisition can be reduced: the image thinned to lower doses, and its motifs at each."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from torchmotif import plot
from torchmotif._arrays import as_tensor
from torchmotif._files import json_text, new_folder
from torchmotif.analysis.analyze import checked
from torchmotif.analysis.driver import run
from torchmotif.analysis.sources import as_sources
from torchmotif.columns import Columns, find_columns
from torchmotif.columns.model import ImageModel
from torchmotif.errors import InputError
from torchmotif.image import Micrograph
from torchmotif.metrics import ami, fmi, site_f1
from torchmotif.noise import dose_doubts, estimate_gain, thin

__all__ = ["DOSE_RECORD", "FRACTIONS", "DoseReport", "DoseStep", "dose_report"]

DOSE_RECORD = "dose.json"
FRACTIONS = (1 / 2, 1 / 5, 1 / 10, 1 / 20, 1 / 50, 1 / 100, 1 / 200)
_SURVIVES = 0.8  # F1 of a motif that is still there


@dataclass(frozen=True)
class DoseStep:
    """The motifs of the image at one relative dose.

    Attributes
    ----------
    relative_dose, electrons_per_pixel : float
    n_motifs : int
    ami, fmi : float
        Agreement of all labels with those of the full dose.
    f1 : list of float
        Of every motif of the full dose: each motif found here counts for the one that most of its columns have there.
    columns_found : float
        Share of the columns that are found again, within a quarter of their distance.
    """

    relative_dose: float
    electrons_per_pixel: float
    n_motifs: int
    ami: float
    fmi: float
    f1: list[float]
    columns_found: float


@dataclass(frozen=True)
class DoseReport:
    """What `dose_report` found.

    Attributes
    ----------
    counts : list of int
        Columns in every motif of the full dose.
    steps : list of DoseStep
        From the highest to the lowest dose.
    doubts : list of str
        Why the noise of the image is not that of the electrons that were given: then it is no image of their dose, and an
        image of a lower one would have more noise than it has when it is thinned.
    """

    counts: list[int]
    steps: list[DoseStep]
    doubts: list[str] = field(default_factory=list)

    def survives_to(self, motif: int) -> float:
        """Lowest relative dose at which a motif has an F1 of at least 0.8; 1 where none.

        At least four fifths of the columns must still be seen at that dose, and not all be in one motif.
        """
        lowest = 1.0
        for step in self.steps:
            told_apart = step.n_motifs > 1 or len(self.counts) == 1
            if step.f1[motif] < _SURVIVES or step.columns_found < _SURVIVES or not told_apart:
                break
            lowest = step.relative_dose
        return lowest

    def __str__(self) -> str:
        """Say for every motif how far the dose can fall, and how much larger the field could be."""
        lines = []
        for motif, count in enumerate(self.counts):
            lowest = self.survives_to(motif)
            larger = (
                f"a field {math.sqrt(1 / lowest):.1f} times longer per side" if lowest < 1 else "no lower"
            )
            lines.append(
                f"motif {motif}: {count:7,} columns, down to 1/{1 / lowest:.0f} of this dose ({larger})"
            )
        if self.doubts:
            lines.append(
                f"warning: {'; '.join(self.doubts)}. Lower doses are then worse than is said here; take the image as it was detected"
            )
        return "\n".join(lines)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> None:
        """Write dose.json and dose.png into a new folder."""
        with new_folder(Path(folder), DOSE_RECORD, overwrite=overwrite) as new:
            (new / DOSE_RECORD).write_text(json_text(asdict(self)) + "\n")
            self.figure().savefig(new / "dose.png", dpi=130)

    def figure(self) -> Any:
        """F1 of every motif against relative dose, as a matplotlib figure."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        plot.dose_curves(
            [step.relative_dose for step in self.steps],
            np.array([step.f1 for step in self.steps]),
            self.counts,
            survives=_SURVIVES,
            ax=figure.add_subplot(),
        )
        return figure


def dose_report(
    image: Any,
    fractions: Sequence[float] = FRACTIONS,
    *,
    electrons_per_count: float | None = None,
    electrons_per_pixel: float | None = None,
    offset: float | None = None,
    spacing: float | None = None,
    patch_size: int | None = None,
    random_state: int = 0,
    progress: bool = True,
) -> DoseReport:
    """Thin an image to lower doses, sort its columns into motifs at each, and compare with the image itself.

    Thinned counts of electrons are a true image of a lower dose (see `noise.thin`). The columns are those of the full
    dose, so that the motifs are compared column by column; how many of them would be found again is said apart.

    Parameters
    ----------
    image : Micrograph or array of shape (h, w)
    fractions : sequence of float
        Relative doses below 1.
    electrons_per_count : float, optional
        Detected electrons that one unit of the image stands for; by default what `estimate_gain` finds.
    electrons_per_pixel : float, optional
        Mean detected electrons per pixel of the image, which says the same; by default what the image says of itself.
    offset : float, optional
        Value of a pixel without electrons; by default 0 where the electrons are given, else estimated.
    spacing, patch_size, random_state, progress
        See `torchmotif.analyze`.

    Returns
    -------
    DoseReport

    Raises
    ------
    InputError
        If a fraction is not between 0 and 1, no column has a whole patch, or the electrons are not given and the noise of the
        image is not that of counted electrons, see `noise.dose_doubts`.

    Examples
    --------
    >>> import torchmotif as tm
    >>> scan = tm.datasets.mose2((256, 256)).draw(generator=torch.Generator().manual_seed(0))
    >>> report = dose_report(scan, (0.5,), electrons_per_count=1.0)
    >>> report.steps[0].f1[0] > 0.9
    True
    """
    doses = sorted(fractions, reverse=True)
    if not doses or not all(0 < dose < 1 for dose in doses):
        raise InputError(f"fractions must lie between 0 and 1, got {tuple(fractions)}")
    counts, doubts = _electrons(image, electrons_per_count, electrons_per_pixel, offset)
    options = checked(
        spacing=spacing, patch_size=patch_size, hierarchy=0, random_state=random_state, device=counts.device
    )
    first = run(as_sources(_counted(counts)), options, progress=progress, workers=1)
    full = first.result_of(0, _counted(counts))
    truth, places = full.labels[full.whole], full.columns.positions[full.whole]
    generator = torch.Generator(counts.device).manual_seed(random_state)
    images = [thin(counts, dose, generator=generator) for dose in doses]
    again = run(
        as_sources([_counted(one) for one in images]),
        options | {"learn": "each", "patch_size": full.templates.shape[-1]},
        given=(ImageModel.from_dict(first.record["surveys"][0]["model"]), places),
        progress=progress,
        workers=1,
    )
    steps = []
    for i, (dose, thinned) in enumerate(zip(doses, images, strict=True)):
        labels = again.labels[again.rows(i)][np.argsort(np.lexsort(places.T[::-1]))]
        scores = site_f1(truth, labels)
        steps.append(
            DoseStep(
                dose,
                float(thinned.mean()),
                int(again.record["motif_groups"][i]["n_motifs"]),
                ami(truth, labels),
                fmi(truth, labels),
                [scores.get(motif, 0.0) for motif in range(full.n_motifs)],
                _found_again(thinned, full.columns),
            )
        )
    return DoseReport(full.counts.tolist(), steps, doubts)


def _counted(counts: Tensor) -> Micrograph:
    """Counts of electrons as an image that says so."""
    return Micrograph(counts, electrons_per_pixel=max(float(counts.mean(dtype=torch.float64)), 1e-30))


def _electrons(
    image: Any, per_count: float | None, per_pixel: float | None, offset: float | None
) -> tuple[Tensor, list[str]]:
    """The image in whole electrons, and why its noise is not theirs, where they were given."""
    data = image.data if isinstance(image, Micrograph) else image
    for name, value in (("electrons_per_count", per_count), ("electrons_per_pixel", per_pixel)):
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise InputError(f"{name} must be positive and finite, got {value}")
    known = getattr(image, "electrons_per_pixel", None)
    if per_count is None and (per_pixel or known) is not None:
        above = float(as_tensor(data, dtype=torch.float64).mean()) - (offset or 0.0)
        if not above > 0:
            raise InputError(f"offset must lie below the mean of the image, got {offset}")
        per_count = (per_pixel or known or 1.0) / above
    if per_count is not None:
        counts = torch.round((as_tensor(data) - (offset or 0.0)) * per_count).clamp(min=0)
        return counts, _doubts(data) if per_pixel is not None else []
    gain = estimate_gain(image, offset=offset)
    doubts = dose_doubts(data, gain)
    if doubts:
        raise InputError(
            f"electrons_per_pixel must be given: the noise of the image is not that of counted electrons, and says no dose "
            f"({'; '.join(doubts)})"
        )
    return as_tensor(gain.counts(data)), []


def _doubts(data: Any) -> list[str]:
    """Doubts about the noise of an image whose dose was given."""
    try:
        return dose_doubts(data)
    except InputError:
        return []


def _found_again(counts: Tensor, columns: Columns) -> float:
    """Share of the columns that this image shows at the same places."""
    found = find_columns(counts, spacing=columns.spacing)
    if len(found) == 0:
        return 0.0
    distance, _ = cKDTree(found.positions.cpu().numpy()).query(columns.positions)
    return float(np.mean(distance < columns.spacing / 4))
