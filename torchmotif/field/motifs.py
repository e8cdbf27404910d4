"""Motifs learnt once, on a sample of the columns that no tiling has a part in, and labels from moments alone."""

from collections.abc import Sequence

import numpy as np

from torchmotif.errors import InputError
from torchmotif.field.engine import single_threaded
from torchmotif.field.plan import Job
from torchmotif.motifs import MotifClassifier
from torchmotif.patches import offsets

__all__ = ["labelled", "learn", "sample_level", "spread_evenly"]


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
    moments, shifts = _sample(jobs, rows, most, random_state)
    survey = jobs[0].survey
    if not len(moments):
        raise InputError(
            f"patch_size: no column has a whole patch of {survey.patch_size} px; set a smaller patch_size="
        )
    classifier = MotifClassifier(
        n_motifs if n_motifs is None else min(n_motifs, len(moments)),
        electrons_per_count=electrons_per_count,
        offset=offset,
        random_state=random_state,
    )
    with single_threaded():
        return classifier.fit_moments(moments, survey.patch_size, shifts, level=sample_level(jobs))


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
    jobs: Sequence[Job], rows: Sequence[Sequence[np.ndarray]], most: int, random_state: int
) -> tuple[np.ndarray, np.ndarray]:
    """Moments and offsets of columns spread evenly over all images; their order does not depend on tiles."""
    total = sum(len(kept) for image in rows for kept in image)
    chosen = spread_evenly(total, most, random_state)
    moments, shifts, before = [], [], 0
    for job, image in zip(jobs, rows, strict=True):
        for number, kept in enumerate(image):
            first, last = np.searchsorted(chosen, [before, before + len(kept)])
            mine = kept[chosen[first:last] - before]
            before += len(kept)
            if not len(mine):
                continue
            found = job.work.load(job.name("moments", number))["moments"][mine]
            whole = np.isfinite(found[:, 0])
            positions = job.work.load(job.name("columns", number))["positions"][mine[whole]]
            moments.append(found[whole])
            zero = job.survey.zoom != 1.0  # there patches are cut about the true centres
            at = offsets(positions, job.survey.patch_size)
            shifts.append(np.zeros_like(at) if zero else at)
    if not moments:
        return np.zeros((0, 1), np.float32), np.zeros((0, 2))
    return np.concatenate(moments), np.concatenate(shifts)
