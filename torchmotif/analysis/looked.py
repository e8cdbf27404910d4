"""What is looked at of an image before it is judged: the columns of some of its tiles, and what these leave over."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree

from torchmotif._threads import single_threaded
from torchmotif.analysis.plan import Batch, Image, measured
from torchmotif.columns._crystal import SEEN, counting_alone, supports
from torchmotif.columns._rest import Rest, rest_of, together

__all__ = ["Looked", "looked_at"]

_PROBES = 9  # batches of an image that are looked at
# Side of the windows in which is asked what columns leave over: pixels, and spacings, at least.
_WINDOW = 512, 32.0


@dataclass(frozen=True, eq=False)
class Looked:
    """What is looked at of an image.

    Attributes
    ----------
    image : Image
    positions : array of shape (n, 2)
        In square pixels.
    quality, significance : array of shape (n,)
        See `Columns`, and intensities over their errors; empty where nothing was fitted.
    labels : array of shape (n,)
    whole : boolean array of shape (n,)
    inner : boolean array of shape (n,)
        Columns all of whose neighbours were looked at, too.
    overlapping : boolean array of shape (n,)
        See `Columns`; none where `layered`: they are told from those so near by their places.
    layered : bool
        Whether most columns that overlap are held at the places of several lattices, as those of two layers are.
    supported : boolean array of shape (n,)
        Columns whose neighbours share the vectors that lead to them, see `supports`, or that are held at places of several lattices, of layers or grains.
    thinned : bool
        Whether a threshold left out columns that may be there.
    area : float
        Square pixels.
    rest : Rest
        What its columns leave over, see `together`.
    """

    image: Image
    positions: np.ndarray
    quality: np.ndarray
    significance: np.ndarray
    labels: np.ndarray
    whole: np.ndarray
    inner: np.ndarray
    overlapping: np.ndarray
    layered: bool
    supported: np.ndarray
    thinned: bool
    area: float
    rest: Rest

    def nearest(self) -> np.ndarray:
        """Distances to the nearest column, of those that are not at the end of what is looked at."""
        if len(self.positions) < 2:
            return np.zeros(0)
        distance = np.asarray(cKDTree(self.positions).query(self.positions, 2)[0])
        nearest: np.ndarray = distance[self.inner, 1]
        return nearest


def looked_at(batches: Sequence[Batch], image: Image) -> Looked:
    """Some batches of an image, spread evenly."""
    few = [batches[i] for i in np.unique(np.linspace(0, len(batches) - 1, _PROBES).round().astype(int))]
    axes, reach = np.array(image.survey.model.axes), 2 * image.survey.model.spacing
    found: list[list[np.ndarray]] = [[] for _ in range(10)]
    area, rests = 0.0, list[Rest]()
    for batch in few:
        known, columns = batch.load("labels"), batch.load("columns")
        here = known["image"] == image.number
        rows, at = known["rows"][here], known["positions"][here]
        cores = batch.places[batch.places[:, 0] == image.number, 2:6]
        low, high = cores[:, :2].min(0), cores[:, 2:].max(0)
        area += float(((cores[:, 2] - cores[:, 0]) * (cores[:, 3] - cores[:, 1])).sum())
        inner = ((at >= low + reach) & (at <= high - reach)).all(1)
        core = cores[len(cores) // 2]
        if not batch.threshold:
            rests.append(_rest(image, core, at, columns["intensities"][rows]))
        quality = columns["fit_quality"][rows] if "fit_quality" in columns else np.zeros(0)
        parts = (
            at / axes,
            quality,
            _significance(columns, rows),
            known["labels"][here],
            known["whole"][here],
            inner,
            columns["position_errors"][rows],
            columns["is_rim"][rows],
            columns["is_overlapping"][rows],
            columns["is_fixed"][rows] if "is_fixed" in columns else np.zeros(len(rows), bool),
        )
        for one, new in zip(found, parts, strict=True):
            one.append(new)
    at, quality, significance, labels, whole, inner, errors, rim, over, held = (
        np.concatenate(one) for one in found
    )
    model = image.survey.model
    seen = dict(
        zip(SEEN, (at * axes, np.zeros(0), counting_alone(errors, model.correlation), rim), strict=True)
    )
    held &= len(model.cells) > 1  # a single cell may be the mean of layers that were not told apart
    layered = bool(2 * (over & held).sum() > over.sum())
    supported = supports(seen, model.spacing, model.axes, image.survey.shape)[1].numpy() | held
    thinned = any(bool(batch.threshold) for batch in few)
    return Looked(
        image,
        at,
        quality,
        significance,
        labels,
        whole,
        inner,
        over & (not layered),
        layered,
        supported,
        thinned,
        area,
        together(rests),
    )


def _rest(image: Image, core: np.ndarray, positions: np.ndarray, intensities: np.ndarray) -> Rest:
    """What columns leave over in the middle of the core of a tile."""
    survey, model = image.survey, image.survey.model
    side = round(max(_WINDOW[0], _WINDOW[1] * model.spacing))
    top, left = (int(max(a, (a + b - side) // 2)) for a, b in zip(core[:2], core[2:], strict=True))
    box = (top, left, int(min(core[2], top + side)), int(min(core[3], left + side)))
    local = positions - box[:2]
    there = ((local > -0.5) & (local < np.subtract(box[2:], box[:2]) - 0.5)).all(1)
    if not there.any():
        return Rest()
    pixels = image.source.read(box)
    if survey.unmeasured is not None:
        pixels = measured(pixels, survey.unmeasured, box)
    with single_threaded(), np.errstate(over="ignore"):
        tiles = model.normalised(torch.from_numpy(pixels.astype(np.float32))[None])
        at, intensity = torch.from_numpy(local[there]), torch.from_numpy(intensities[there] / model.scale)
        return rest_of(tiles, model, at, intensity).moved(top, left)


def _significance(columns: dict[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Intensities over their errors."""
    if "intensity_errors" not in columns:
        return np.zeros(0)
    errors = columns["intensity_errors"][rows]
    ratio: np.ndarray = columns["intensities"][rows] / np.where(errors > 0, errors, np.inf)
    return ratio
