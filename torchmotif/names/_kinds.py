"""The mixture of kinds: Gaussians of one scatter in every orientation of the crystal, and what is like none of them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

__all__ = ["Mixture", "fit_kinds", "foreign_by_intensity"]

Floats = NDArray[np.float64]

_LEARNT = 20_000  # columns that kinds are learnt from
_STEPS, _SETTLED = 60, 1e-2  # of the expectation maximisation; change of a probability that ends it
_PRIOR = 1.0  # columns that each kind has before any is seen
_FOREIGN = 5.0  # standard deviations of the intensity of a kind beyond which a column may be none of it
_STRAYS = 4.0  # standard deviations beyond its usual distance that a column of a kind may be from its mean


class Mixture(NamedTuple):
    """A mixture of all starts in every orientation."""

    probabilities: Floats  # (g, n, j + 1), the last of none
    apart: Floats  # (j, j): squared distance of the starts in standard deviations of one column, inf from each to itself
    alone: Floats  # (m, j + 1): of the m columns that are examples, if they were not known to be


def fit_kinds(
    at: Floats,
    known: Floats,
    copies: Floats,
    weight: Floats,
    *,
    own: NDArray[np.int64],
    foreign: Floats,
) -> Mixture:
    """Expectation maximisation of Gaussians of one scatter, each in every orientation, and of what is none of them.

    Parameters
    ----------
    at : array of shape (g, n, q), float64
        Coordinates of n columns in each of g orientations, in which columns of one kind scatter by about 1.
    known : array of shape (j, q), float64
        What each kind starts from.
    copies : array of shape (g, j, q), float64
        The same in each orientation.
    weight : array of shape (j,), float64
        Columns that each start is the mean of.
    own : array of shape (n,), int64
        Kind of the columns that are examples, -1 of all others.
    foreign : array of shape (n, j), float64
        See `foreign_by_intensity`.

    Returns
    -------
    Mixture
    """
    learnt = np.flatnonzero(_spread_evenly(at.shape[1]) | (own >= 0))
    means = known
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
    probabilities = _weights(at, means, scatter, shares, limits=limits, own=own, foreign=foreign)
    given = np.flatnonzero(own >= 0)
    # From a mean that a column is one of n columns of it is farther away than it seems by n / (n - 1).
    n = probabilities[..., :parts].sum(axis=(0, 1))[own[given]]
    farther = np.ones((len(given), parts))
    farther[np.arange(len(given)), own[given]] = np.where(n > 1.5, (n / np.maximum(n - 1, 0.5)) ** 2, 1.0)
    alone = _weights(
        at[:, given],
        means,
        scatter,
        shares,
        limits=limits,
        own=np.full(len(given), -1),
        foreign=foreign[given],
        farther=farther,
    )
    return Mixture(probabilities, apart, alone.sum(axis=0))


def foreign_by_intensity(bright: Floats, kinds: Floats, spread: float) -> Floats:
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
    farther: Floats | float = 1.0,
) -> Floats:
    """Probability of every part in every orientation, and of none, shape (g, n, j + 1); of examples, what they are.

    `farther`, of shape (n, j), is what squared distances are multiplied by.
    """
    turns, n, size = at.shape
    white = np.linalg.inv(np.linalg.cholesky(scatter)).T
    coordinates, centres = at.reshape(-1, size) @ white, means @ white
    away = (coordinates**2).sum(axis=1)[:, None] - 2 * coordinates @ centres.T + (centres**2).sum(axis=1)
    away = away.reshape(turns, n, len(means)) * farther
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
