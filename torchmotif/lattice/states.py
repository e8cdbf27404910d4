"""Full, partly occupied or empty: states of like sites, learnt from their intensities, whose noise is known."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from torchmotif.errors import InputError

__all__ = ["States", "learn_states", "noise_at", "residuals_of"]

Values = NDArray[np.float64]

_STARTS = (0.15, 0.3, 0.45, 0.6, 0.8, 1.2, 1.6)  # fractions from which a state sets out
_FIRST_SHARE = 0.02  # of the sites that it has there
_MOST = 6  # states: more were never supported
_TRIED, _STEPS = 25, 400  # of expectation and maximisation: of every start, and to the end
_CONVERGED = 1e-7  # change of the mean log-likelihood in a step
_PER_NOISE = 6  # values that are told apart within one standard deviation of the noise
_NOISES = 4  # groups of sites by their noise
_FARTHEST = -2.0, 5.0  # intensities beyond which it makes no difference how far
_LEAST_SPREAD = 1e-3  # of a full site: no crystal is more regular
_LEAST_FRACTION = 0.05  # of a full site, that a state has which is not empty
_LEAST_NOISE = 0.25  # of the variance of a site's noise, that it has in any state
# Of a full site's intensity: a state that lacks less counts as full. One atom of four is a quarter; what a column lacks by
# its surroundings, such as the tails of missing neighbours, is a tenth at most in simulated MX2.
_LEAST_MISSING = 0.18
FULL, PARTIAL, EMPTY = "full", "partial", "empty"


class _Sites(NamedTuple):
    """Sites of nearly one intensity and noise as one: intensity, standard deviation, number; arrays of shape (b,)."""

    y: Values
    s: Values
    weight: Values


@dataclass(frozen=True, eq=False)
class States:
    """States of the sites of a kind: a mixture of Gaussians, each as wide as the noise of a site and its own spread.

    Intensities are in units of a full site's. Of few electrons, noise is askew: in the power 2/3 of counts it is not
    (Anscombe, 1953), so that the Gaussians are those of that power.

    Attributes
    ----------
    fractions : array of shape (k,)
        Intensity of each state: 1 of the first, the most frequent one; 0 of empty sites.
    shares : array of shape (k,)
        Of the sites.
    spreads : array of shape (k,)
        Standard deviation of the intensities beyond their noise.
    level : float
        Intensity of the first state in the units of what they were learnt from.
    slope : float
        By how much the variance of an intensity grows with it: of counts, a dim site has less noise than a bright one.
    evidence : float
        Twice the gain in log-likelihood over one state less the price of the parameters (Schwarz, 1978).
    """

    fractions: Values
    shares: Values
    spreads: Values
    level: float = 1.0
    slope: float = 0.0
    evidence: float = 0.0

    @property
    def kinds(self) -> list[str]:
        """What each state is: full, partial or empty."""
        return [self._kind(number) for number in range(len(self.shares))]

    def _kind(self, number: int) -> str:
        fraction, full = self.fractions[number], self.fractions[0]
        if fraction == 0:
            return EMPTY
        # Two equal Gaussians that are nearer than two of their spreads have one mode.
        apart = 2 * max(self.spreads[number], self.spreads[0])
        return PARTIAL if full - fraction > max(apart, _LEAST_MISSING * full) else FULL

    def responsibilities(self, intensities: Values, errors: Values) -> Values:
        """Probability of every state, shape (n, k), for intensities and their standard deviations."""
        y, s = (np.asarray(values, np.float64) / self.level for values in (intensities, errors))
        return np.asarray(softmax(self.joint(y, s), axis=1))

    def probabilities(self, intensities: Values, errors: Values) -> dict[str, Values]:
        """Probability that a site is full, partly occupied or empty."""
        found, kinds = self.responsibilities(intensities, errors), np.array(self.kinds)
        return {kind: found[:, kinds == kind].sum(axis=1) for kind in (FULL, PARTIAL, EMPTY)}

    def fractions_of(self, intensities: Values, errors: Values) -> Values:
        """Intensity of the most probable state of every site, in units of a full one's; 1 of all that count as full."""
        of = np.where(np.array(self.kinds) == FULL, 1.0, self.fractions)
        found: Values = of[self.responsibilities(intensities, errors).argmax(axis=1)]
        return found

    def joint(self, y: Values, s: Values) -> Values:
        """Logarithm of the density of every state times its share, shape (n, k), in units of a full site."""
        far, gain, noise = self.residuals(y, s)
        variance = gain**2 * (noise + self.spreads**2)
        joint: Values = np.log(self.shares) - 0.5 * (far**2 / variance + np.log(variance))
        return joint

    def residuals(self, y: Values, s: Values) -> tuple[Values, Values, Values]:
        """Of every site from every state: how far it is in the power of it, the derivative of that, the noise; each (n, k)."""
        return residuals_of(self.fractions, 1.0, y, s, self.slope)


def residuals_of(
    levels: Values, reference: float, y: Values, s: Values, slope: float
) -> tuple[Values, Values, Values]:
    """How far n intensities are from k levels in the power 2/3 of their counts, in which noise is not askew (Anscombe, 1953).

    Parameters
    ----------
    levels : array of shape (k,)
    reference : float
        The level at which the power has the slope 1: that of most intensities.
    y, s : arrays of shape (n,)
        Intensities and their standard deviations.
    slope : float
        By how much the variance grows with the intensity; at 0 there is no power.

    Returns
    -------
    far : array of shape (n, k)
        Intensity less level, both in the power.
    gain : array of shape (n, k)
        Derivative of the power at the levels.
    noise : array of shape (n, k)
        Variance of the noise at the levels, not in the power.
    """
    noise = noise_at(levels, y, s, slope)
    if slope <= 0:
        return y[:, None] - levels, np.ones_like(noise), noise
    # Of counts, the variance is the count: relative to that at the reference, to the power 2/3.
    full = noise_at(np.array([reference]), y, s, slope)
    ratio = noise / full
    far = 1.5 * full / slope * ((s[:, None] ** 2 / full) ** (2 / 3) - ratio ** (2 / 3))
    return far, ratio ** (-1 / 3), noise


def noise_at(levels: Values, y: Values, s: Values, slope: float) -> Values:
    """Variance that the noise of each of n intensities y, with standard deviation s, would have at each of k levels, shape (n, k)."""
    here = s[:, None] ** 2
    return np.maximum(here + slope * (levels - y[:, None]), here * _LEAST_NOISE)


def learn_states(intensities: Values, errors: Values) -> States:
    """The states that the intensities of like sites support.

    One state is full. Further ones are added one by one, as long as the evidence for them (Schwarz, 1978) grows: sites
    that are empty; that have half of the intensity, as one atom of two; that have any other fraction of it; full sites that
    scatter more.

    Parameters
    ----------
    intensities : array of shape (n,)
        In units in which a full site has about 1.
    errors : array of shape (n,)
        Their standard deviations, all positive.

    Returns
    -------
    States

    Raises
    ------
    InputError
        If the shapes differ, a number is not finite, an error is not positive, or the median intensity is not.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> full = rng.random(2000) > 0.05
    >>> states = learn_states(np.where(full, 1.0, 0.5) + rng.normal(0, 0.1, 2000), np.full(2000, 0.1))
    >>> states.kinds, states.shares.round(2).tolist()
    (['full', 'partial'], [0.95, 0.05])
    """
    intensities, errors = np.asarray(intensities, np.float64), np.asarray(errors, np.float64)
    if intensities.ndim != 1 or intensities.shape != errors.shape or not len(intensities):
        raise InputError(
            f"intensities and errors must be one row of numbers each, of one length, got {intensities.shape} and {errors.shape}"
        )
    if not (np.isfinite(intensities).all() and np.isfinite(errors).all() and (errors > 0).all()):
        raise InputError(
            "intensities must be finite, and errors finite and positive; leave out the others first"
        )
    level = float(np.median(intensities))
    if not level > 0:
        raise InputError(
            f"intensities must have a positive median, got {level:.3g}: most sites must be occupied"
        )
    slope = _slope(intensities / level, errors / level)
    sites = _binned(intensities / level, errors / level)
    one = np.ones(1)
    noise = float(np.average(sites.s**2, weights=sites.weight))
    spread = math.sqrt(max(_robust_variance(sites) - noise, 1e-4))
    states, best = _fitted(States(one, one, spread * one, 1.0, slope), sites, "f", _STEPS)
    kinds, price = "f", math.log(sites.weight.sum())
    while len(states.shares) < _MOST:
        found = [
            (2 * (gain - best) - price * cost, tried, gain, kinds + kind)
            for kind, cost in (("e", 1), ("h", 1), ("p", 2), ("b", 3))
            if not (kind in "eh" and kind in kinds)
            for tried, gain in [_added(states, sites, kinds, kind)]
        ]
        evidence, tried, gain, chosen = max(found, key=lambda one: one[0])
        if evidence <= 0:
            break
        states, best, kinds = replace(tried, evidence=states.evidence + evidence), gain, chosen
    return replace(_scaled(states), level=level * float(states.fractions[0]))


def _scaled(states: States) -> States:
    """States in units of the first."""
    unit = float(states.fractions[0])
    return replace(
        states,
        fractions=states.fractions / unit,
        spreads=states.spreads / unit,
        slope=states.slope / unit,
    )


def _added(states: States, sites: _Sites, kinds: str, kind: str) -> tuple[States, float]:
    """The states with one more of a kind: empty, half, any part, or broad."""
    starts = {"e": (0.0,), "h": (0.5,), "b": (1.0,)}.get(kind, _STARTS)
    wide = 3.0 if kind == "b" else 1.0
    found = [
        _fitted(
            replace(
                states,
                fractions=np.append(states.fractions, start * states.fractions[0]),
                shares=np.append(states.shares * (1 - _FIRST_SHARE), _FIRST_SHARE),
                spreads=np.append(states.spreads, wide * states.spreads[0]),
            ),
            sites,
            kinds + kind,
            _TRIED if len(starts) > 1 else _STEPS,
        )
        for start in starts
    ]
    best = max(found, key=lambda one: one[1])
    return best if len(starts) == 1 else _fitted(best[0], sites, kinds + kind, _STEPS)


def _fitted(states: States, sites: _Sites, kinds: str, steps: int) -> tuple[States, float]:
    """Expectation and maximisation; the states and their log-likelihood."""
    y, s, weight = sites
    free, broad, half = (np.array([kind in group for kind in kinds]) for group in ("fpb", "b", "h"))
    before, best = -np.inf, states
    for _ in range(steps):
        joint = states.joint(y, s)
        most = joint.max(axis=1)
        density = np.exp(joint - most[:, None])
        total = density.sum(axis=1)
        now = float(weight @ (most + np.log(total)))
        if now > before:
            best = states
        if now - before < _CONVERGED * weight.sum():
            break
        before = now
        share = density / total[:, None] * weight[:, None]
        far, gain, noise = states.residuals(y, s)
        far = far / gain
        pull = share / (noise + states.spreads**2)
        step = (pull * far).sum(0) / np.maximum(pull.sum(0), 1e-300)
        fractions = np.where(free, np.maximum(states.fractions + step, _LEAST_FRACTION), states.fractions)
        fractions[half] = fractions[0] / 2
        # By Fisher's score: expectation and maximisation come ever more slowly to a spread that is none.
        certain = share / (noise + states.spreads**2) ** 2
        excess = certain * (far**2 - noise - states.spreads**2)
        groups = [~broad, *(np.arange(len(broad)) == number for number in np.flatnonzero(broad))]
        spreads = states.spreads.copy()
        for one in groups:
            better = spreads[one] ** 2 + excess[:, one].sum() / max(certain[:, one].sum(), 1e-300)
            spreads[one] = np.sqrt(np.maximum(better, _LEAST_SPREAD**2))
        states = replace(
            states,
            fractions=fractions,
            shares=np.maximum(share.sum(0) / weight.sum(), 1e-12),
            spreads=spreads,
        )
    return best, max(before, now)


def _slope(y: Values, s: Values) -> float:
    """How the variance of the noise grows with the intensity: the median of the slopes between like sites."""
    order = np.argsort(y)
    low, high = order[: len(y) // 2], order[len(y) - len(y) // 2 :]
    if not len(low):
        return 0.0
    apart = y[high] - y[low]
    slope = (s[high] ** 2 - s[low] ** 2)[apart > 0] / apart[apart > 0]
    return max(float(np.median(slope)), 0.0) if len(slope) else 0.0


def _binned(y: Values, s: Values) -> _Sites:
    """Sites of nearly one intensity and noise as one, with their number: the work no longer grows with the sites."""
    y = y.clip(*_FARTHEST)
    group = np.searchsorted(np.quantile(s, np.linspace(0, 1, _NOISES + 1)[1:-1]), s)
    step = max(float(np.quantile(s, 0.1)), _LEAST_SPREAD) / _PER_NOISE
    _, number = np.unique(np.stack([group, np.rint(y / step)]), axis=1, return_inverse=True)
    count = np.bincount(number.ravel()).astype(np.float64)
    mean, noise = (np.bincount(number.ravel(), values) / count for values in (y, s**2))
    return _Sites(mean, np.sqrt(noise), count)


def _robust_variance(sites: _Sites) -> float:
    """Variance by the middle half of the values."""
    y, _, weight = sites
    order = np.argsort(y)
    place = (np.cumsum(weight[order]) - weight[order] / 2) / weight.sum()
    lower, upper = np.interp([0.25, 0.75], place, y[order])
    return float(((upper - lower) / 1.349) ** 2)
