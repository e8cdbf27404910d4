"""Motifs learnt once, on a sample of the columns that no batching has a part in."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from torchmotif._threads import single_threaded
from torchmotif.analysis.plan import Batch, Image
from torchmotif.errors import InputError
from torchmotif.motifs import MotifClassifier
from torchmotif.motifs._groups import FLAT
from torchmotif.motifs.sample import MOST, with_unlike
from torchmotif.patches import offsets

__all__ = ["images_of", "learn", "sample_level", "spread_evenly"]

# Of what moments beyond those of the background have: what the finest scatter by at least where there is noise, and the noise that is given to those with less; and to those of
# images without any. At 1,000 electrons per pixel squares, honeycombs and perovskites have 0.014 to 0.075 of it, without noise 0.0002 to 0.035. With 0.01 for 0.015 a rectangular crystal falls into
# two motifs by where its columns lie between pixels, with 0.02 for 0.03 oxygen of a perovskite into three.
_FINEST, _LEAST_NOISE, _OF_NOISELESS = 0.05, 0.015, 0.03
_LEARNT = MOST  # columns that motifs are learnt on
_SCANNED = 4  # times the columns that are learnt on are looked through for what is unlike the common motifs


def learn(
    batches: Sequence[Batch],
    rows: Sequence[np.ndarray],
    options: dict[str, Any],
    device: str | None = None,
) -> MotifClassifier:
    """The motifs of all columns of some images, their first pass done; `rows` are those of each batch that count.

    What is known of each column that they were learnt on is left out. An InputError says that there is no column, or none
    has a whole patch.
    """
    total = sum(map(len, rows))
    if not total:
        raise InputError(
            "image: no atomic columns stand out of its noise; set spacing, or polarity='dark' for a bright-field image"
        )
    images, random_state = images_of(batches), options["random_state"]
    gain, dark = _electrons(images)
    level, size = sample_level(images), images[0].survey.patch_size

    def learnt_on(chosen: np.ndarray) -> MotifClassifier:
        moments, shifts, _ = _sample(batches, rows, chosen)
        if not len(moments):
            raise InputError(
                f"patch_size: none of the {total} columns has a whole patch of {size} px in the image; "
                "set a smaller patch_size=, or take a larger image"
            )
        asked = options["n_motifs"]
        classifier = MotifClassifier(
            asked if asked is None or len(images) == 1 else min(asked, len(moments)),
            n_max=options["n_max"],
            equivalence=options["equivalence"],
            electrons_per_count=gain,
            offset=dark,
            random_state=random_state,
        )
        noiseless = all(image.survey.model.rounding for image in images)
        told = _with_least_noise(moments, random_state, noiseless=noiseless)
        values = torch.from_numpy(told).to(device or "cpu")
        classifier.fit_moments(values, size, shifts, level=level)
        for name in ("labels_", "probabilities_", "outlier_scores_", "angles_", "mirrored_"):
            classifier.__dict__.pop(name, None)
        return classifier

    def unlike(classifier: MotifClassifier) -> np.ndarray:
        moments, _, index = _sample(batches, rows, spread_evenly(total, _SCANNED * _LEARNT, random_state))
        labels = np.asarray(classifier.predict_moments(moments, level=level).labels)
        return np.asarray(index[labels < 0])

    with single_threaded():
        chosen = spread_evenly(total, _LEARNT, random_state)
        classifier = learnt_on(chosen)
        if total > _LEARNT and options["n_motifs"] is None:
            in_random_order = np.random.default_rng(random_state).permutation(chosen)
            again = with_unlike(in_random_order, unlike(classifier), classifier.min_share, random_state)
            classifier = classifier if again is None else learnt_on(again)
        return classifier


def _with_least_noise(moments: np.ndarray, random_state: int, *, noiseless: bool) -> np.ndarray:
    """Moments as they are; with a little noise where the image has none, as simulated ones may.

    What tells motifs apart is judged by the noise: without any, columns are unlike by where they lie between pixels.
    """
    if len(moments) < 2:
        return moments
    contrast = float(np.sqrt(np.mean(np.square(moments[:, FLAT:], dtype=np.float64))))
    # The finest hold hardly more than noise.
    finest = float(np.median(moments[:, -(moments.shape[1] // 4) :].std(0)))
    if not noiseless and finest >= _FINEST * contrast:
        return moments
    least = (_OF_NOISELESS if noiseless else _LEAST_NOISE) * contrast
    noise = np.random.default_rng(random_state).standard_normal(moments.shape)
    return (moments + least * noise).astype(moments.dtype)


def images_of(batches: Sequence[Batch]) -> list[Image]:
    """The images of some batches, each once, in order."""
    return list({image.number: image for batch in batches for image in batch.images}.values())


def sample_level(images: Sequence[Image]) -> float:
    """What was taken off the pixels of all images, on the scale to which they were brought."""
    return float(np.median([image.survey.level * image.survey.gain for image in images]))


def _electrons(images: Sequence[Image]) -> tuple[float | None, float]:
    """Electrons per unit of the pixels, where every image says how many it has, and the value of a pixel without any."""
    surveys = [image.survey for image in images]
    dark = float(np.median([one.dark * one.gain for one in surveys]))
    known = [
        stated / one.gain
        for image, one in zip(images, surveys, strict=True)
        if (stated := image.stated_gain) is not None
    ]
    return float(np.median(known)) if len(known) == len(images) else None, dark


def spread_evenly(count: int, most: int, random_state: int) -> np.ndarray:
    """At most `most` of `count` things in a row: one, at random, of each of as many equal stretches.

    Examples
    --------
    >>> spread_evenly(3, 10, 0)
    array([0, 1, 2])
    >>> len(spread_evenly(1000, 10, 0))
    10
    """
    if count <= most:
        return np.arange(count)
    edges = np.linspace(0, count, most + 1)
    at = edges[:-1] + np.random.default_rng(random_state).random(most) * np.diff(edges)
    return np.unique(at.astype(np.int64).clip(0, count - 1))


def _sample(
    batches: Sequence[Batch], rows: Sequence[np.ndarray], chosen: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Moments and offsets of columns that have a whole patch, and which they are of those chosen.

    Columns are numbered over all images, in the order of the batches.
    """
    moments, shifts, index = [np.zeros((0, 1), np.float32)], [np.zeros((0, 2))], [np.zeros(0, np.int64)]
    before = 0
    for batch, kept in zip(batches, rows, strict=True):
        first, last = np.searchsorted(chosen, [before, before + len(kept)])
        mine, numbers = kept[chosen[first:last] - before], chosen[first:last]
        before += len(kept)
        if not len(mine):
            continue
        found = batch.load("moments")["moments"][mine]
        whole = np.isfinite(found[:, 0])
        at = offsets(batch.load("columns")["positions"][mine[whole]], batch.survey.patch_size)
        moments.append(found[whole])
        index.append(numbers[whole])
        # Where pixels are of another size, patches have the true centres.
        shifts.append(np.zeros_like(at) if batch.survey.zoom != 1.0 else at)
    return np.concatenate(moments[1:] or moments), np.concatenate(shifts), np.concatenate(index)
