"""like: names of all columns from a few examples of each kind, by a mixture in moment space."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from torchmotif.errors import InputError
from torchmotif.names._starts import BEYOND_NOISE, start_from, turned, turns_of, within_motifs
from torchmotif.names.examples import Examples, Features
from torchmotif.names.names import CLEAR, Names, likeliest

__all__ = ["name_like", "without_scatter"]

Floats = NDArray[np.float64]

_TOLD = 0.5  # standard deviations of one column by which kinds must differ along a direction of their own
_PASSES = 2  # with the coordinates of what the examples are, then of what all columns like them are
_LEARNT = 20_000  # columns that kinds are learnt from
_STEPS, _SETTLED = 60, 1e-2  # of the expectation maximisation; change of a probability that ends it
_PRIOR = 1.0  # columns that each kind has before any is seen
_SAME_SIZE = 0.02  # of a patch: by how much those of two images may differ
_FOREIGN = 5.0  # standard deviations of the intensity of a kind beyond which a column may be none of it
_STRAYS = 4.0  # standard deviations beyond its usual distance that a column of a kind may be from its mean


@dataclass(frozen=True, eq=False)
class _Space:
    """Coordinates in which columns of one kind scatter by 1, without those that hold noise alone."""

    centre: Floats  # (k,)
    axes: Floats  # (k, q)

    def of(self, values: Floats) -> Floats:
        """Coordinates of feature vectors."""
        return np.asarray((values - self.centre) @ self.axes)


class _Learnt(NamedTuple):
    """What the kinds are in an image."""

    means: Floats  # (j, k): features of each
    of_kind: Floats  # (n, j + 1): probability of every column to be of each kind, and last of none
    contrast: Floats  # (j, j): distance between the kinds in standard deviations of one column, inf from each to itself


def name_like(
    features: Features, labels: NDArray[np.int64], examples: Examples, own: NDArray[np.int64]
) -> Names:
    """Name columns by examples.

    Every kind, and every motif that no example is of, is a Gaussian in the space of moments and intensity; all scatter alike,
    and lie in the orientations that the crystal has. Their means start from the examples and are learnt from all columns.

    Parameters
    ----------
    features : Features
        Of the columns to name.
    labels : array of shape (n,), int
        Their motifs.
    examples : Examples
    own : array of shape (n,), int
        Kind of the columns that are examples themselves, -1 of all others.

    Returns
    -------
    Names

    Raises
    ------
    InputError
        If the examples are of patches of another size.
    """
    if (
        abs(features.size / examples.size - 1) > _SAME_SIZE
        or features.values.shape[1] != examples.features.shape[1]
    ):
        raise InputError(
            f"examples: their patches are {examples.size:.3g} wide, those here {features.size:.3g}; analyse both images "
            "with the same patch_size, or together as a list"
        )
    whole = np.asarray(np.isfinite(features.values).all(axis=1))
    learnt = _learnt(features.values[whole], labels[whole], examples, own[whole])
    return _names(learnt, whole, examples)


def without_scatter(
    features: Features, labels: NDArray[np.int64], examples: Examples, own: NDArray[np.int64]
) -> Examples:
    """Examples as other images are to know them: each is as the mean of all columns of its kind in its own image.

    What a column shows beyond that is the noise and the soil of its image. In another image, where they are less, it would be
    taken for what sets kinds apart: V_Se of TiWSe2 (11, ADF2) scatter by 0.12, of which two in five examples lie at the
    brightness of half empty sites of 25, where V_Se scatter by 0.06.

    Parameters
    ----------
    features : Features
        Of all columns of the image that the examples are of.
    labels : array of shape (n,), int
        Their motifs.
    examples : Examples
    own : array of shape (n,), int
        Kind of the columns that are examples, -1 of all others.

    Returns
    -------
    learnt : Examples
    """
    whole = np.asarray(np.isfinite(features.values).all(axis=1))
    learnt = _learnt(features.values[whole], labels[whole], examples, own[whole])
    return replace(examples, features=learnt.means[examples.kind])


def _learnt(values: Floats, motif: NDArray[np.int64], examples: Examples, own: NDArray[np.int64]) -> _Learnt:
    """Learn what the kinds are from all columns of an image, which start from the examples."""
    turns = turns_of(values, motif)
    within = within_motifs(values, motif, turns)
    starts = start_from(examples, values, motif, within, turns)
    kinds, every, weight = len(examples.kinds), starts.means, starts.weight
    for _ in range(_PASSES):
        space = _space(values, within, every, np.sqrt(starts.scatter / weight), turns)
        foreign = _foreign(values[:, -1], every[:, -1], float(np.sqrt(within[-1, -1])))
        found, apart = _mixture(values, space, turns, every, weight, own=own, foreign=foreign)
        every, weight = _relearnt(values, found, turns, every, weight)
        found = found.sum(axis=0)
    of_kind = np.concatenate([found[:, :kinds], found[:, kinds:].sum(axis=1, keepdims=True)], axis=1)
    return _Learnt(every[:kinds], of_kind, np.sqrt(apart[:kinds, :kinds]))


def _space(values: Floats, within: Floats, starts: Floats, noise: Floats, turns: list[float]) -> _Space:
    """Coordinates that tell kinds apart, and intensity: what else varies around columns makes them no other kind."""
    scale, vectors = np.linalg.eigh(within)
    white = vectors / np.sqrt(scale)
    centre = np.mean([turned(values, angle).mean(axis=0) for angle in turns], axis=0)
    copies = [(turned(values, angle) - centre) @ white for angle in turns]
    size, directions = np.linalg.eigh(sum(one.T @ one for one in copies) / (len(turns) * len(values)))
    kept = directions[
        :, size > (1 + np.sqrt(values.shape[1] / len(values))) ** 2
    ]  # beyond what noise alone reaches
    between = np.concatenate([(turned(starts, angle) - centre) @ white for angle in turns])
    between = between - between.mean(axis=0)
    told = between @ kept @ kept.T
    rest = between - told
    # Kinds too rare to be in `kept`.
    beyond = np.where(np.linalg.norm(rest, axis=1) > BEYOND_NOISE * np.tile(noise, len(turns)), 1.0, 0.0)
    # As long as what tells the kinds; one kind without anything beside it is told from outliers by its intensity.
    intensity = white[-1:] / np.linalg.norm(white[-1]) * (np.linalg.norm(told, axis=1).max() or 1.0)
    _, strength, right = np.linalg.svd(
        np.concatenate([told + beyond[:, None] * rest, intensity]), full_matrices=False
    )
    return _Space(centre, white @ right[strength > _TOLD].T)


def _mixture(
    values: Floats,
    space: _Space,
    turns: list[float],
    starts: Floats,
    weight: Floats,
    *,
    own: NDArray[np.int64],
    foreign: Floats,
) -> tuple[Floats, Floats]:
    """Probability of every start in every orientation, and last of none, of every column, and how far apart the starts are.

    Returns
    -------
    probabilities : array of shape (g, n, j + 1)
    apart : array of shape (j, j)
        Squared distance in standard deviations of one column, inf from each to itself.
    """
    at = np.stack([space.of(turned(values, angle)) for angle in turns])  # (g, n, q)
    learnt = np.flatnonzero(_spread_evenly(len(values)) | (own >= 0))
    copies = np.stack([space.of(turned(starts, angle)) for angle in turns])
    means = known = space.of(starts)
    parts, size = means.shape
    shares, scatter = np.full(parts, 1 / parts), np.eye(size)
    before = np.zeros((1, len(learnt), parts + 1))
    some, mine = at[:, learnt], own[learnt]
    for _ in range(_STEPS):
        found = _weights(
            some,
            means,
            scatter,
            shares,
            limits=_limits(_apart(copies, means, scatter), size),
            own=mine,
            foreign=foreign[learnt],
        )
        if np.abs(found - before).max(initial=0.0) < _SETTLED:
            break
        before = found
        taken = found[..., :parts].sum(axis=(0, 1))
        shares = (taken + _PRIOR) / (taken + _PRIOR).sum()
        sums = np.einsum("gnj,gnq->jq", found[..., :parts], some)
        means = (weight[:, None] * known + sums) / (weight + taken)[:, None]
        # One scatter of all kinds: with its own, a rare kind grows over its neighbours (V_Se of TiWSe2, ADF2: F1 0.65, not 0.87).
        squares = sum(_scatter(found[..., j], some, means[j]) for j in range(parts))
        scatter = (squares + size * np.eye(size)) / (taken.sum() + size)
    apart = _apart(copies, means, scatter)
    limits = _limits(apart, size)
    return _weights(at, means, scatter, shares, limits=limits, own=own, foreign=foreign), apart


def _foreign(bright: Floats, kinds: Floats, spread: float) -> Floats:
    """By how much none is likelier than each kind by intensity alone, shape (n, j).

    It is above 0 where a column is farther from the kind than the kind is from the next, and than scatter takes it.
    """
    apart = np.abs(kinds[:, None] - kinds)
    np.fill_diagonal(apart, np.inf)
    nearest = apart.min(axis=1) if len(kinds) > 1 else np.zeros(1)
    gap = np.maximum(nearest, _FOREIGN * spread)
    return np.asarray(0.5 * ((bright[:, None] - kinds) ** 2 - gap**2) / spread**2)


def _apart(copies: Floats, means: Floats, scatter: Floats) -> Floats:
    """Squared distance of each mean from each other in its nearest orientation, inf from itself, shape (j, j)."""
    step = means[:, None, None] - copies  # (j, g, j, q)
    apart = np.einsum("agbq,qr,agbr->agb", step, np.linalg.inv(scatter), step).min(axis=1)
    np.fill_diagonal(apart, np.inf)
    return np.asarray(apart)


def _limits(apart: Floats, size: int) -> Floats:
    """How far from each kind a column may be and still be of it: no nearer than to the next kind, nor than scatter takes it."""
    least = (np.sqrt(size) + _STRAYS) ** 2
    nearest = apart.min(axis=1)
    return np.asarray(np.where(np.isfinite(nearest), np.maximum(nearest, least), least))


def _spread_evenly(n: int) -> NDArray[np.bool_]:
    """Which of n columns the kinds are learnt from."""
    chosen = np.zeros(n, bool)
    chosen[np.linspace(0, n - 1, min(n, _LEARNT)).astype(np.int64)] = True
    return chosen


def _scatter(weights: Floats, at: Floats, mean: Floats) -> Floats:
    """Sum of squares about a mean."""
    step = (at - mean).reshape(-1, len(mean))
    return np.asarray((step * weights.reshape(-1, 1)).T @ step)


def _weights(
    at: Floats,
    means: Floats,
    scatter: Floats,
    shares: Floats,
    *,
    limits: Floats,
    own: NDArray[np.int64],
    foreign: Floats,
) -> Floats:
    """Probability of every part in every orientation, and of none, shape (g, n, j + 1); of examples, what they are."""
    turns, n, size = at.shape
    white = np.linalg.inv(np.linalg.cholesky(scatter)).T
    coordinates, centres = at.reshape(-1, size) @ white, means @ white
    away = (coordinates**2).sum(axis=1)[:, None] - 2 * coordinates @ centres.T + (centres**2).sum(axis=1)
    away = away.reshape(turns, n, len(means))
    log = -0.5 * away + np.log(shares / turns)
    # None is as likely as the nearest kind where that is as far as it may be.
    nearest = away.min(axis=0).argmin(axis=1)
    row = np.arange(n)
    by_place = np.log(shares[nearest] / turns) - 0.5 * limits[nearest]
    by_intensity = log.max(axis=0)[row, nearest] + foreign[row, nearest]
    none = np.broadcast_to(
        np.where(foreign[row, nearest] > 0, np.maximum(by_place, by_intensity), by_place), (turns, n)
    )
    log = np.concatenate([log, none[..., None]], axis=2)
    given = np.flatnonzero(own >= 0)
    other = np.arange(len(means) + 1) != own[given, None]
    log[:, given] = np.where(other, -np.inf, log[:, given])
    return np.asarray(softmax(log, axis=(0, 2)))


def _relearnt(
    values: Floats, found: Floats, turns: list[float], means: Floats, weight: Floats
) -> tuple[Floats, Floats]:
    """Means of all columns by their probability of being each, and how many columns those are."""
    parts = len(means)
    taken = found[..., :parts].sum(axis=(0, 1))
    sums = sum(found[g, :, :parts].T @ turned(values, angle) for g, angle in enumerate(turns))
    return (weight[:, None] * means + sums) / (weight + taken)[:, None], weight + taken


def _names(learnt: _Learnt, whole: NDArray[np.bool_], examples: Examples) -> Names:
    """Names by the probability of every kind, and last of none."""
    of_kind = learnt.of_kind
    n, kinds = len(whole), len(examples.kinds)
    first, second = np.full(n, -1), np.full(n, -1)
    p_first, p_second = np.zeros(n), np.zeros(n)
    names, probabilities = likeliest(of_kind, [*range(kinds), -1])
    first[whole], second[whole] = names.T
    p_first[whole], p_second[whole] = probabilities.T
    counts = np.bincount(names[:, 0] + 1, minlength=kinds + 1)[1:]
    nearest, contrast = learnt.contrast.argmin(axis=1), learnt.contrast.min(axis=1)
    rows = [
        {
            "name": name,
            "examples": int((examples.kind == k).sum()),
            "count": int(counts[k]),
            "expected": float(of_kind[:, k].sum()),
            "error": float(np.sqrt((of_kind[:, k] * (1 - of_kind[:, k])).clip(0.0).sum())),
            "contrast": float(contrast[k]) if np.isfinite(contrast[k]) else None,
            "next": examples.kinds[nearest[k]] if np.isfinite(contrast[k]) else None,
        }
        for k, name in enumerate(examples.kinds)
    ]
    warnings = [
        f"names: {examples.kinds[a]} and {examples.kinds[b]} are {learnt.contrast[a, b]:.1f} standard deviations of a column apart "
        "by their examples: single columns may be either; check the examples, or give more"
        for a, b in np.argwhere(np.triu(learnt.contrast < CLEAR)).tolist()
    ]
    record = {"by": "examples", "atoms": None, "table": rows, "warnings": warnings}
    return Names(list(examples.kinds), first, p_first, second, p_second, record=record)
