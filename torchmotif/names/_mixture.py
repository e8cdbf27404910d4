"""The mixture of occupations of one sublattice: intensities with their errors, expected means, unknown shares."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from torchmotif.lattice._residuals import noise_at, residuals_of

__all__ = ["Fitted", "Levels", "fit_mixture", "main_level"]

Floats = NDArray[np.float64]

# Columns that each occupation has before any is seen, of all that there are. With a tenth of it rare kinds of ten columns in
# 10,000 are not named, with ten times as much 1 in 1,000 hosts is named otherwise (simulated MX2, 10 to 0.5 electrons per pixel).
_PRIOR = 0.2
_STEPS, _SETTLED = 200, 1e-4  # of the expectation maximisation; change of a probability that ends it
_BEYOND = 1.5  # times the brightest occupation: where intensities that fit none lie


@dataclass(frozen=True)
class Levels:
    """Where the intensities of the occupations of a sublattice are expected."""

    expected: Floats  # (k,), the host first
    tolerance: Floats  # (k,): by how much each may be off


@dataclass(frozen=True, eq=False)
class Fitted:
    """A mixture of k occupations, and of columns that are none of them."""

    means: Floats  # (k,)
    shares: Floats  # (k + 1,), the last of none of them
    probabilities: Floats  # (n, k + 1)
    scatter: Floats  # (k,): standard deviation of a column of each occupation, by its noise at that level and beyond it
    excess: Floats  # (k, k): covariance of the numbers of columns beyond that of independent columns
    reach: float  # width of the intensities that what is none of them may have

    def only(self, rows: NDArray[np.bool_]) -> "Fitted":
        """The same mixture of some of the columns."""
        return replace(self, probabilities=self.probabilities[rows])


def fit_mixture(
    intensities: Floats, errors: Floats, levels: Levels, slope: float, learnt: NDArray[np.bool_]
) -> Fitted:
    """Expectation maximisation with known errors (Dempster, Laird & Rubin, 1977).

    Parameters
    ----------
    intensities, errors : arrays of shape (n,)
    levels : Levels
    slope : float
        By how much the variance of an intensity grows with it, that of counted electrons.
    learnt : boolean array of shape (n,)
        From which columns means and shares are learnt.

    Returns
    -------
    Fitted
    """
    k, n = len(levels.expected), len(intensities)
    means, spread = (
        levels.expected.copy(),
        _host_spread(intensities[learnt], errors[learnt], levels.expected[0]),
    )
    prior = np.full(k + 1, _PRIOR)
    shares = np.full(k + 1, _PRIOR)
    shares[0] += max(learnt.sum(), 1)
    shares /= shares.sum()
    reach = _BEYOND * levels.expected.max() + 4 * np.median(errors)
    probabilities = np.zeros((n, k + 1))
    trust = 1 / levels.tolerance**2
    off = levels.tolerance  # standard errors of the means: the tolerance, less what the columns have told
    for _ in range(_STEPS):
        before, probabilities = (
            probabilities,
            _expected(
                intensities,
                errors,
                means,
                off,
                shares,
                spread=spread,
                slope=slope,
                reach=reach,
                host=float(levels.expected[0]),
            ),
        )
        if np.abs(probabilities - before).max(initial=0.0) < _SETTLED:
            break
        here = probabilities[learnt]
        shares = here.sum(axis=0) + prior
        shares /= shares.sum()
        # By the noise at the level, not the column's own: what is dim by chance has less, and would draw the mean down by one count.
        noise = noise_at(means, intensities[learnt], errors[learnt], slope)
        precision = here[:, :k] / (noise + spread**2)
        means = (trust * levels.expected + (precision * intensities[learnt, None]).sum(axis=0)) / (
            trust + precision.sum(axis=0)
        )
        off = 1 / np.sqrt(trust + precision.sum(axis=0))
    some = learnt if learnt.any() else np.ones(n, bool)
    usual = np.median(noise_at(means, intensities[some], errors[some], slope), axis=0)
    scatter = np.sqrt(usual + _wider(spread, means, float(levels.expected[0])) ** 2)
    return Fitted(means, shares, probabilities, scatter, _excess(probabilities[learnt], shares), float(reach))


def main_level(intensities: Floats, errors: Floats) -> float:
    """The intensity of most columns: the highest peak of their density, smoothed by their errors."""
    width = max(float(np.median(errors)), 0.02 * float(np.median(np.abs(intensities))), 1e-30)
    low, high = np.quantile(intensities, [0.01, 0.99]).tolist()
    edges = np.linspace(low - 3 * width, high + 3 * width, 1025)
    counts, _ = np.histogram(intensities, edges)
    centres = (edges[1:] + edges[:-1]) / 2
    reach = max(round(3 * width / (edges[1] - edges[0])), 1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) * (edges[1] - edges[0]) / width) ** 2)
    at = float(centres[np.convolve(counts, kernel, mode="same").argmax()])
    near = np.abs(intensities - at) < 2 * width
    return float(np.median(intensities[near])) if near.any() else at


def _host_spread(intensities: Floats, errors: Floats, host: float) -> float:
    """What the host's columns scatter by beyond their errors, by the half of them nearest to it."""
    if not len(intensities):
        return 0.0
    away = np.abs(intensities - host)
    near = away < max(0.2 * host, 3 * float(np.median(errors)))
    if near.sum() < 8:
        return 0.0
    variance = (1.4826 * float(np.median(away[near]))) ** 2 - float(np.median(errors[near] ** 2))
    return float(np.sqrt(max(variance, 0.0)))


def _wider(spread: float, means: Floats, host: float) -> Floats:
    """What columns of each level scatter by beyond their errors: as the host's, more where they are brighter."""
    return np.asarray(spread * np.maximum(means / host, 1.0))


def _expected(
    intensities: Floats,
    errors: Floats,
    means: Floats,
    off: Floats,
    shares: Floats,
    *,
    spread: float,
    slope: float,
    reach: float,
    host: float,
) -> Floats:
    """Probability of every occupation, and of none, of every column."""
    far, gain, noise = residuals_of(means, host, intensities, errors, slope)
    variance = gain**2 * (noise + _wider(spread, means, host) ** 2 + off**2)
    log = -0.5 * (far**2 / variance + np.log(2 * np.pi * variance))
    log = np.concatenate([log, np.full((len(log), 1), -np.log(reach))], axis=1) + np.log(shares)
    return np.asarray(softmax(log, axis=1))


def _excess(probabilities: Floats, shares: Floats) -> Floats:
    """What the numbers of columns err by because shares are learnt from the same columns (Louis, 1982), shape (k, k).

    The inverse of the information that the columns hold on the shares, less that of columns whose occupation is known. What
    stands for columns before any is seen counts as known in both: a kind that no column is doubtful to be of adds nothing.
    """
    n, k = len(probabilities), len(shares) - 1
    out = np.zeros((k, k))
    there = np.flatnonzero(shares * n > 1)
    if n == 0 or len(there) < 2:
        return out
    share = shares[there] / shares[there].sum()
    # Shares in units of their standard deviation, but for the first, which takes what the others leave.
    change = np.vstack([-np.ones(len(there) - 1), np.eye(len(there) - 1)]) * np.sqrt(share[1:] / n)
    told = (probabilities[:, there] / share) @ change
    before = change.T @ np.diag(_PRIOR / share**2) @ change
    whole = change.T @ np.diag(probabilities[:, there].sum(axis=0) / share**2) @ change + before
    seen = told.T @ told + before
    covariance = n**2 * change @ (np.linalg.inv(seen) - np.linalg.inv(whole)) @ change.T
    inner = there < k
    out[np.ix_(there[inner], there[inner])] = covariance[np.ix_(inner, inner)]
    return out
