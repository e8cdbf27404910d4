"""Where kinds start from: a few examples of each, the motifs that these lie in, and the motifs that none is of."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from torchmotif.names.examples import Examples
from torchmotif.zernike import rotate

__all__ = ["BEYOND_NOISE", "Starts", "start_from", "turned", "turns_of", "within_motifs"]

Floats = NDArray[np.float64]

_FOLDS = (6, 4, 3, 2)
_ALIGNMENTS = 3  # rounds of bringing examples into one orientation: the second changes none but in a tie
BEYOND_NOISE = 1.5  # times what noise makes of the mean of so many examples
# Standard deviations of one column that the mean of a common kind may change by when it is turned.
_SYMMETRIC = 1.0
_FEWEST = 8  # columns of a kind that was not pointed at
# By which the brightness of a motif must differ from what most examples of its kind lie in to be none of it, in units of the
# median brightness and in standard deviations of its columns. Half empty sites of TiWSe2 (25, ADF2) are 0.26 and 3.3 from empty ones.
# Where they count as empty, F1 of V_Se is 0.71, otherwise 0.85. Metal columns beside vacancies are within 0.02 of all others.
_BRIGHTER, _BRIGHTER_SPREADS = 0.1, 2.0
_POINTED = 0.3  # of a kind's examples that a motif of another brightness must have to be of it: two of five
_RIDGE = 1e-9


@dataclass(frozen=True, eq=False)
class Starts:
    """What kinds start from: those with examples, then motifs that no example is of."""

    means: Floats  # (j, k)
    weight: Floats  # (j,): columns of this image that each weighs as much as
    columns: Floats  # (j,): columns that each is the mean of, wherever they are
    scatter: Floats  # (j,): mean square of the distances of those columns from it, in units of all columns' covariance


def start_from(
    examples: Examples, values: Floats, motif: NDArray[np.int64], within: Floats, turns: list[float]
) -> Starts:
    """Start the kinds of the examples, and those of the motifs that no example is like.

    Parameters
    ----------
    examples : Examples
    values : array of shape (n, k), float64
        Of the columns to name.
    motif : array of shape (n,), int64
        Their motifs, -1 for none.
    within : array of shape (k, k), float64
        Covariance of columns of one motif.
    turns : list of float
        Angles by which the crystal comes to lie on itself.

    Returns
    -------
    Starts
    """
    precision: Floats = np.asarray(np.linalg.inv(within), np.float64)
    starts, scatter = _starts(examples, precision, turns)
    shown = np.bincount(examples.kind, minlength=len(starts)).astype(np.float64)
    counts = np.bincount(motif[motif >= 0], minlength=1)
    frequent = np.flatnonzero(counts >= _FEWEST)
    means = _means(values[motif >= 0], motif[motif >= 0])[frequent]
    spread = np.array([values[motif == one, -1].std() for one in frequent])
    noise = np.sqrt(scatter / shown)
    strange, starts = _strangers(
        means, spread, starts=starts, precision=precision, turns=turns, examples=examples, noise=noise
    )
    return Starts(
        np.concatenate([starts, means[strange]]),
        np.append(shown, counts[frequent][strange]),
        np.append(np.bincount(examples.kind, examples.columns), counts[frequent][strange]),
        np.append(scatter, np.full(int(strange.sum()), float(values.shape[1]))),
    )


def turned(values: Floats, angle: float) -> Floats:
    """Features turned counter-clockwise; the intensity stays."""
    moments = np.asarray(rotate(torch.from_numpy(np.ascontiguousarray(values[:, :-1])), angle))
    return np.concatenate([moments, values[:, -1:]], axis=1)


def within_motifs(values: Floats, motif: NDArray[np.int64], turns: list[float]) -> Floats:
    """Covariance of columns about the mean of their motif, the same in all orientations of the crystal."""
    here = motif >= 0
    if here.sum() < 2 * values.shape[1]:
        here, motif = np.ones(len(values), bool), np.zeros(len(values), np.int64)
    means = _means(values[here], motif[here])
    rest = values[here] - means[motif[here]]
    copies = [turned(rest, angle) for angle in turns]
    covariance = np.sum([one.T @ one for one in copies], axis=0) / (
        len(turns) * max(len(rest) - len(np.unique(motif[here])), 1)
    )
    return np.asarray(covariance + _RIDGE * np.trace(covariance) * np.eye(values.shape[1]))


def _means(values: Floats, motif: NDArray[np.int64]) -> Floats:
    means = np.zeros((int(motif.max()) + 1, values.shape[1]))
    np.add.at(means, motif, values)
    return means / np.maximum(np.bincount(motif), 1)[:, None]


def turns_of(values: Floats, motif: NDArray[np.int64]) -> list[float]:
    """Angles by which the crystal comes to lie on itself, in radians: those that leave its common motifs as they are."""
    counts = np.bincount(motif[motif >= 0], minlength=1)
    common = np.flatnonzero(counts >= max(0.1 * counts.max(), _FEWEST))
    if not len(common):
        return [0.0]
    precision = np.linalg.inv(within_motifs(values, motif, [0.0]))
    means = _means(values[motif >= 0], motif[motif >= 0])[common]
    for fold in _FOLDS:
        change = turned(means, 2 * np.pi / fold) - means
        if (np.einsum("ij,jk,ik->i", change, precision, change) < _SYMMETRIC**2).all():
            return [2 * np.pi * i / fold for i in range(fold)]
    return [0.0]


def _aligned(values: Floats, reference: Floats, precision: Floats, turns: list[float]) -> Floats:
    """Feature vectors in that of the crystal's orientations in which they are nearest to a reference."""
    copies = np.stack([turned(values, angle) for angle in turns])
    away = copies - reference
    nearest = np.einsum("gij,jk,gik->gi", away, precision, away).argmin(axis=0)
    return np.asarray(copies[nearest, np.arange(len(values))])


def _starts(examples: Examples, precision: Floats, turns: list[float]) -> tuple[Floats, Floats]:
    """The mean of the examples of each kind, brought into one orientation, and the mean square of the distances from it.

    Examples may be more unlike one another than columns of a common motif are; less than these they are by chance.
    """
    means, scatters = [], []
    for kind in range(len(examples.kinds)):
        mine = examples.features[examples.kind == kind]
        reference = mine[0]
        for _ in range(_ALIGNMENTS):
            mine = _aligned(mine, reference, precision, turns)
            reference = mine.mean(axis=0)
        means.append(reference)
        rest = mine - reference
        scatters.append(np.einsum("ij,jk,ik->", rest, precision, rest) / max(len(mine) - 1, 1))
    return np.array(means), np.maximum(scatters, float(reference.shape[0]))


def _strangers(
    means: Floats,
    spread: Floats,
    *,
    starts: Floats,
    precision: Floats,
    turns: list[float],
    examples: Examples,
    noise: Floats,
) -> tuple[NDArray[np.bool_], Floats]:
    """Motifs that no example is like, and the means of the kinds by the motifs that their examples lie in.

    A motif is like none if it is farther from the nearest kind than that is from any other kind (where that kind has a motif of
    its own, if it is not surely nearer), or if it is of another brightness than the examples of that kind. A kind starts from a
    motif where that is what most of its examples are as bright as, and their mean is as near to the motif's as the mean of so few
    is to its own. Where only one kind has examples, a motif is like them if its mean is that near to theirs.
    """
    if not len(means):
        return np.zeros(0, bool), starts
    copies = np.stack([turned(starts, angle) for angle in turns])

    def away(some: Floats) -> Floats:
        step = some[:, None, None] - copies  # (m, g, j, k)
        return np.asarray(np.einsum("mgjk,kl,mgjl->mgj", step, precision, step).min(axis=1))

    apart = away(starts) + np.diag(np.full(len(starts), np.inf))
    to = away(means)
    nearest = to.argmin(axis=1)
    away_from, own = np.sqrt(to.min(axis=1)), BEYOND_NOISE * noise
    known = np.bincount(nearest[away_from <= own[nearest]], minlength=len(starts)) > 0
    # Where a kind has a motif of its own, others must surely be nearer to it than the next kind is: Mo beside two vacancies is
    # from Mo beside one as far as that is from Mo beside none.
    next_kind = np.sqrt(apart.min(axis=1)) if len(starts) > 1 else own
    limit = np.where(known, np.maximum(next_kind - own, own), next_kind)
    strange = away_from > limit[nearest]
    found = starts.copy()
    for kind in np.unique(nearest).tolist():
        mine, shown = np.flatnonzero(nearest == kind), examples.features[examples.kind == kind, -1]
        votes = np.bincount(np.abs(shown[:, None] - means[mine, -1]).argmin(axis=1), minlength=len(mine))
        first = mine[votes.argmax()]
        step = np.abs(means[mine, -1] - means[first, -1])
        other = step > np.maximum(_BRIGHTER, _BRIGHTER_SPREADS * spread[mine])
        strange[mine] |= other & (votes < _POINTED * len(shown))
        if to[first, kind] < (BEYOND_NOISE * noise[kind]) ** 2 and not strange[first]:
            found[kind] = _aligned(means[first : first + 1], starts[kind], precision, turns)[0]
    return strange, found
