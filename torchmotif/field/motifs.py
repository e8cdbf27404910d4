"""Motifs learnt once, on a sample of the columns that no tiling has a part in, and labels from moments alone."""

from collections.abc import Sequence

import numpy as np

from torchmotif.errors import InputError
from torchmotif.field.engine import single_threaded
from torchmotif.field.plan import Job
from torchmotif.motifs import MotifClassifier
from torchmotif.motifs.sample import with_unlike
from torchmotif.patches import offsets

__all__ = ["labelled", "learn", "sample_level", "spread_evenly"]

_SCANNED = 4  # times the columns that are learnt on are looked through for what is unlike the common motifs


def learn(
    jobs: Sequence[Job],
    rows: Sequence[Sequence[np.ndarray]],
    *,
    n_motifs: int | None,
    most: int,
    electrons_per_count: float | None,
    offset: float | None,
    random_state: int,
) -> MotifClassifier:
    """The motifs of all columns of some images.

    Parameters
    ----------
    jobs : sequence of Job
        The images, their first pass done.
    rows : sequence of sequence of arrays
        For each image and block, the rows of the part that count.
    n_motifs : int or None
    most : int
        Columns that are learnt on.
    electrons_per_count, offset : float or None
        Of the pixels, see `MotifClassifier`.
    random_state : int

    Raises
    ------
    InputError
        If no column has a whole patch.
    """
    total = sum(len(kept) for image in rows for kept in image)
    chosen = spread_evenly(total, most, random_state)
    level, size = sample_level(jobs), jobs[0].survey.patch_size

    def learnt_on(chosen: np.ndarray) -> MotifClassifier:
        moments, shifts, _ = _sample(jobs, rows, chosen)
        if not len(moments):
            raise InputError(
                f"patch_size: no column has a whole patch of {size} px; set a smaller patch_size="
            )
        classifier = MotifClassifier(
            n_motifs if n_motifs is None else min(n_motifs, len(moments)),
            electrons_per_count=electrons_per_count,
            offset=offset,
            random_state=random_state,
        )
        return classifier.fit_moments(moments, size, shifts, level=level)

    def unlike(first: np.ndarray) -> np.ndarray:
        classifier = learnt_on(first)
        moments, _, index = _sample(jobs, rows, spread_evenly(total, _SCANNED * most, random_state))
        labels = np.asarray(classifier.predict_moments(moments, level=level).labels)
        return np.asarray(index[labels < 0])

    with single_threaded():
        if total > most and n_motifs is None:
            in_random_order = np.random.default_rng(random_state).permutation(chosen)
            chosen = with_unlike(in_random_order, unlike, random_state)
        return learnt_on(chosen)


def labelled(classifier: MotifClassifier, moments: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Motif (n,) int64 and its probability (n,) float64 of columns; -1 and 0 without a whole patch."""
    labels, probabilities = np.full(len(moments), -1), np.zeros(len(moments))
    whole = np.isfinite(moments[:, 0])
    if whole.any():
        found = classifier.predict_moments(moments[whole], level=level)
        labels[whole], probabilities[whole] = found.labels, found.probabilities
    return labels, probabilities


def sample_level(jobs: Sequence[Job]) -> float:
    """What was taken off the pixels of all images, on the scale to which they were brought."""
    return float(np.median([job.survey.level * job.survey.gain for job in jobs]))


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
    jobs: Sequence[Job], rows: Sequence[Sequence[np.ndarray]], chosen: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Moments and offsets of columns that have a whole patch, and which they are of those chosen.

    Columns are numbered over all images, in an order that does not depend on tiles.
    """
    moments, shifts, index, before = [], [], [], 0
    for job, image in zip(jobs, rows, strict=True):
        for number, kept in enumerate(image):
            first, last = np.searchsorted(chosen, [before, before + len(kept)])
            mine, numbers = kept[chosen[first:last] - before], chosen[first:last]
            before += len(kept)
            if not len(mine):
                continue
            found = job.work.load(job.name("moments", number))["moments"][mine]
            whole = np.isfinite(found[:, 0])
            positions = job.work.load(job.name("columns", number))["positions"][mine[whole]]
            moments.append(found[whole])
            index.append(numbers[whole])
            zero = job.survey.zoom != 1.0  # there patches are cut about the true centres
            at = offsets(positions, job.survey.patch_size)
            shifts.append(np.zeros_like(at) if zero else at)
    if not moments:
        return np.zeros((0, 1), np.float32), np.zeros((0, 2)), np.zeros(0, np.int64)
    return np.concatenate(moments), np.concatenate(shifts), np.concatenate(index)
