"""Full, partly occupied or empty: states of like sites, learnt from their intensities, whose noise is known."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from torchmotif.errors import InputError
from torchmotif.lattice._residuals import residuals_of

__all__ = ["States", "learn_states"]

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
# Of a full site's intensity: a state that lacks less counts as full. One atom of four is a quarter; what a column lacks by
# its surroundings, such as the tails of missing neighbours, is a tenth at most in simulated MX2.
_LEAST_MISSING = 0.18
_PRICES = {"e": 1, "h": 1, "p": 2, "b": 3}  # parameters of a state that is empty, half, any part, or broad
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
        residuals = residuals_of(self.fractions, 1.0, y, s, self.slope)
        return _joint(residuals, self.shares, self.spreads)


def _joint(residuals: tuple[Values, Values, Values], shares: Values, spreads: Values) -> Values:
    """As `States.joint`, from `residuals_of`."""
    far, gain, noise = residuals
    variance = gain**2 * (noise + spreads[..., None, :] ** 2)
    joint: Values = np.log(shares)[..., None, :] - 0.5 * (far**2 / variance + np.log(variance))
    return joint


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
    [(states, best)] = _fitted([States(one, one, spread * one, 1.0, slope)], sites, ["f"], _STEPS)
    kinds, price = "f", math.log(sites.weight.sum())
    while len(states.shares) < _MOST:
        more = [kind for kind in _PRICES if not (kind in "eh" and kind in kinds)]
        found = [
            (2 * (gain - best) - price * _PRICES[kind], tried, gain, kinds + kind)
            for kind, (tried, gain) in zip(more, _added(states, sites, kinds, more), strict=True)
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


def _added(states: States, sites: _Sites, kinds: str, more: list[str]) -> list[tuple[States, float]]:
    """The states with one more of each kind, and their log-likelihoods."""
    partly = _fitted(
        [_started(states, start, "p") for start in _STARTS], sites, [kinds + "p"] * len(_STARTS), _TRIED
    )
    starts = {"e": 0.0, "h": 0.5, "b": 1.0}
    tried = [
        max(partly, key=lambda one: one[1])[0] if kind == "p" else _started(states, starts[kind], kind)
        for kind in more
    ]
    return _fitted(tried, sites, [kinds + kind for kind in more], _STEPS)


def _started(states: States, start: float, kind: str) -> States:
    """The states with one more, from which its fit sets out."""
    return replace(
        states,
        fractions=np.append(states.fractions, start * states.fractions[0]),
        shares=np.append(states.shares * (1 - _FIRST_SHARE), _FIRST_SHARE),
        spreads=np.append(states.spreads, (3.0 if kind == "b" else 1.0) * states.spreads[0]),
    )


def _fitted(starts: list[States], sites: _Sites, kinds: list[str], steps: int) -> list[tuple[States, float]]:
    """Expectation and maximisation of c mixtures of k states side by side; the mixtures and their log-likelihoods."""
    y, s, weight = sites
    free, broad, half = (
        np.array([[one in group for one in kind] for kind in kinds]) for group in ("fpb", "b", "h")
    )
    # Fractions, shares and spreads, (3, c, k), of those that still change, and of the best that each had.
    now = np.array([[getattr(one, name) for one in starts] for name in ("fractions", "shares", "spreads")])
    best, most, at = now.copy(), np.full(len(starts), -np.inf), np.arange(len(starts))
    for _ in range(steps):
        fractions, shares, spreads = now
        residuals = residuals_of(fractions, 1.0, y, s, starts[0].slope)
        share, likelihood = _expected(_joint(residuals, shares, spreads), weight)
        better = likelihood > most[at]
        best[:, at[better]] = now[:, better]
        goes_on = ~(likelihood - most[at] < _CONVERGED * weight.sum())
        most[at] = np.maximum(most[at], likelihood)
        if not goes_on.any():
            break
        at, share, (far, gain, noise) = at[goes_on], share[goes_on], (one[goes_on] for one in residuals)
        fractions, spreads = fractions[goes_on], spreads[goes_on]
        pull = share / (noise + spreads[:, None] ** 2)
        far = far / gain
        now = np.stack(
            [
                _moved(fractions, pull, far, free[at], half[at]),
                np.maximum(share.sum(1) / weight.sum(), 1e-12),
                _widened(spreads, pull, far, noise, broad[at]),
            ]
        )
    return [
        (replace(start, fractions=one[0], shares=one[1], spreads=one[2]), float(most[number]))
        for number, (start, one) in enumerate(zip(starts, best.swapaxes(0, 1), strict=True))
    ]


def _expected(joint: Values, weight: Values) -> tuple[Values, Values]:
    """Share that each state has of each site, times its weight, (c, n, k); and the log-likelihoods, (c,)."""
    most = joint.max(axis=2, keepdims=True)
    density = np.exp(joint - most)
    total = density.sum(axis=2, keepdims=True)
    likelihood: Values = (most + np.log(total))[..., 0] @ weight
    return density / total * weight[:, None], likelihood


def _moved(
    fractions: Values, pull: Values, far: Values, free: NDArray[np.bool_], half: NDArray[np.bool_]
) -> Values:
    """Fractions that fit better, of states that may have any; of halves, half of the first; (c, k)."""
    step = (pull * far).sum(1) / np.maximum(pull.sum(1), 1e-300)
    moved = np.where(free, np.maximum(fractions + step, _LEAST_FRACTION), fractions)
    return np.where(half, moved[:, :1] / 2, moved)


def _widened(spreads: Values, pull: Values, far: Values, noise: Values, broad: NDArray[np.bool_]) -> Values:
    """Spreads that fit better, one of all states but the broad ones, which have their own; (c, k).

    By Fisher's score: expectation and maximisation come ever more slowly to a spread that is none.
    """
    before = spreads**2
    certain = pull / (noise + before[:, None])
    excess = (certain * (far**2 - noise - before[:, None])).sum(1)
    certain = certain.sum(1)
    excess, certain = (
        np.where(broad, one, (one * ~broad).sum(1, keepdims=True)) for one in (excess, certain)
    )
    wide: Values = np.sqrt(np.maximum(before + excess / np.maximum(certain, 1e-300), _LEAST_SPREAD**2))
    return wide


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
