"""Mixtures of Gaussians, none of which is narrower than the noise: its variance is 1 in all of them."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.stats import pearson3
from torch import Tensor

__all__ = ["Components", "Pairs", "fit_pairs", "saddle_ratio"]

_STARTS = (0.0, 1.2, -1.2, 2.2, -2.2)  # standard scores that part an axis to begin with
_SOFT = 0.02  # of every column begins in the other component
_STEPS_OF_ALL, _MOST_STEPS = 8, 100  # of expectation and maximisation: of all starts, and of the best of them
# Starts that are followed to the end. With half of them a gradient of the background crowded a vacancy out, depending on
# a thousandth of a pixel in the positions.
_MOST_KEPT = 16
_CONVERGED = 1e-4  # mean change of the responsibilities between two steps
_STEPS_1D = 60  # of expectation and maximisation along one axis
_BINS = 1024  # of the values of columns along one axis
_MOST_COMPONENTS = 6  # along it
_SADDLE_POINTS = 129  # at which the density between two peaks is looked at
# Standard errors of its variance, by which a peak may be wider than it came out: with none, 11 of 540 continua had a saddle,
# so 2 have. Of rare motifs that would be more than there is; a quarter of the noise's variance is the most.
_PEAK_ERRORS, _MOST_WIDER = 2.0, 0.25
_DENSITY_POINTS = 401  # of an expected density
_DENSITY_REACH = 7.0  # standard deviations beyond both means
_MOST_APART = 30.0  # standard deviations, beyond which nothing changes

Values = NDArray[np.float64]


class Pairs(NamedTuple):
    """Mixtures of two Gaussians with one covariance, b at a time; `share` is that of the second."""

    means: Float[Tensor, "b 2 q"]
    covariance: Float[Tensor, "b q q"]
    share: Float[Tensor, " b"]


def fit_pairs(x: Float[Tensor, "n q"]) -> tuple[Pairs, Float[Tensor, "b n"], Float[Tensor, " b"]]:
    """The best mixtures, the responsibilities of their second components and the evidence for two; by many starts.

    The evidence is twice the gain in log-likelihood over one Gaussian, less the price of the parameters (Schwarz, 1978).
    """
    n, q = x.shape
    score = (x - x.mean(0)) / x.std(0, correction=0).clamp(min=1e-12)
    parted = torch.cat([score > start if start >= 0 else score < start for start in _STARTS], dim=1).T
    second = _SOFT + (1 - 2 * _SOFT) * parted.to(x.dtype)
    scatter = torch.cov(x.T, correction=0).reshape(q, q)
    for _ in range(_STEPS_OF_ALL):
        second = torch.sigmoid(_log_odds(x, _maximised(x, scatter, second)))
    pairs = _maximised(x, scatter, second)
    second = second[_distinct(_log_likelihood(x, pairs), pairs.share)]
    for _ in range(_MOST_STEPS):
        before, pairs = second, _maximised(x, scatter, second)
        second = torch.sigmoid(_log_odds(x, pairs))
        if bool((second - before).abs().mean(1).max() < _CONVERGED):
            break
    single = _maximised(x, scatter, x.new_full((1, n), 0.5))
    evidence = 2 * (_log_likelihood(x, pairs) - _log_likelihood(x, single)) - (q + 1) * math.log(n)
    best = _distinct(evidence, pairs.share)
    return Pairs(*(part[best] for part in pairs)), second[best], evidence[best]


def _maximised(x: Tensor, scatter: Tensor, responsibilities: Tensor) -> Pairs:
    """The mixtures of greatest likelihood for given responsibilities; no variance is less than the noise, 1."""
    n = len(x)
    second = responsibilities.sum(1).clamp(1e-9, n - 1e-9)
    pull = responsibilities @ x
    m1, m0 = pull / second[:, None], (x.sum(0) - pull) / (n - second)[:, None]
    between = (second * (n - second) / n**2)[:, None, None] * (m1 - m0)[:, :, None] * (m1 - m0)[:, None, :]
    values, vectors = torch.linalg.eigh(scatter - between)
    covariance = (vectors * values.clamp(min=1.0)[:, None, :]) @ vectors.mT
    return Pairs(torch.stack([m0, m1], 1), covariance, second / n)


def _log_odds(x: Tensor, pairs: Pairs) -> Tensor:
    """Logarithm of the odds of the second component, shape (b, n)."""
    first, second = pairs.means.unbind(1)
    direction = torch.linalg.solve(pairs.covariance, second - first)
    middle = (direction * (first + second)).sum(1, keepdim=True) / 2
    odds: Tensor = direction @ x.T - middle + torch.logit(pairs.share)[:, None]
    return odds


def _log_likelihood(x: Tensor, pairs: Pairs) -> Tensor:
    """Log-likelihood of every mixture, but for a constant, shape (b,)."""
    factor = torch.linalg.cholesky(pairs.covariance)
    white = torch.linalg.solve_triangular(factor, x.T - pairs.means[:, 0, :, None], upper=False)
    first = torch.log1p(-pairs.share)[:, None] - 0.5 * white.square().sum(1)
    log_root = factor.diagonal(dim1=1, dim2=2).log().sum(1)
    likelihood: Tensor = (first + F.softplus(_log_odds(x, pairs))).sum(1) - len(x) * log_root
    return likelihood


def _distinct(value: Tensor, share: Tensor) -> Tensor:
    """Indices of the mixtures of highest value, one of each kind."""
    order = torch.argsort(value, descending=True, stable=True)
    spread = torch.minimum(share, 1 - share)[order]
    near = (value[order][:, None] - value[order]).abs() < 0.01 + 1e-3 * value[order].abs()
    alike = near & ((spread[:, None] - spread).abs() < 1e-3 + 0.02 * spread)
    return order[~alike.tril(-1).any(1)][:_MOST_KEPT]


def _fit_along(
    x: Tensor,
    weight: Tensor,
    responsibilities: Float[Tensor, "b c p"],
    steps: int = _STEPS_1D,
    *,
    tied: bool = False,
) -> tuple[Float[Tensor, "3 b c"], Float[Tensor, " b"]]:
    """Mixtures (log share, mean, variance) along one axis, and their log-likelihoods.

    The places x and their weights have the shape (p,) or (b, p); `tied` components have one variance.
    """
    powers = torch.stack([torch.ones_like(x), x, x.square()], -1)
    whole = weight.sum(-1)[..., None]
    for _ in range(steps):
        count, first, second = ((responsibilities * weight[..., None, :]) @ powers).unbind(-1)
        count = count.clamp(min=1e-9)
        mean = first / count
        square = second - first * mean
        variance = (square.sum(-1, keepdim=True) / whole).expand_as(count) if tied else square / count
        mixture = torch.stack([(count / whole).log(), mean, variance.clamp(min=1.0)])
        joint = _log_joint(x[..., None, :], mixture)
        responsibilities = torch.softmax(joint, 1)
    return mixture, (torch.logsumexp(joint, 1) * weight).sum(-1)


def _log_joint(x: Tensor, mixture: Tensor) -> Tensor:
    """Logarithm of share times density of every component, (..., c, p), but for a constant."""
    log_share, mean, variance = mixture[..., None]
    joint: Tensor = log_share - 0.5 * ((x - mean).square() / variance + variance.log())
    return joint


def saddle_ratio(values: Float[Tensor, " n"], threshold: float, second: Float[Tensor, " n"]) -> float:
    """Lowest density, without the noise, between the highest peaks on both sides of a threshold, over the lower peak.

    1 where there is no saddle, towards 0 where the components stand apart. The density is a mixture of as many Gaussians as the
    Bayesian information criterion supports, each of at least the noise's variance, 1, which is then taken away from them. The
    search begins with `second`, the probability that each column belongs above the threshold.
    """
    least, most = values.min(), values.max()
    if not bool(most > least):
        return 1.0
    index = ((values - least) / (most - least) * (_BINS - 1)).round().long()
    axis = torch.arange(_BINS, dtype=values.dtype, device=values.device)
    x = least + (most - least) * axis / (_BINS - 1)
    sums = values.new_zeros(2, _BINS).index_add_(1, index, torch.stack([1 - second, second]))
    weight = sums.sum(0)
    mixture, best = _best_along(x, weight, (sums / weight.clamp(min=1e-12))[None])
    while mixture.shape[1] < _MOST_COMPONENTS:
        larger, likelihood = _best_along(x, weight, _with_one_split(x, mixture))
        if 2 * (likelihood - best) < 3 * math.log(len(values)):
            break
        mixture, best = larger, likelihood
    return _saddle_of(mixture, threshold, len(values))


def _best_along(x: Tensor, weight: Tensor, responsibilities: Tensor) -> tuple[Tensor, float]:
    mixtures, likelihood = _fit_along(x, weight, responsibilities)
    best = int(likelihood.argmax())
    return mixtures[:, best], float(likelihood[best])


def _with_one_split(x: Tensor, mixture: Float[Tensor, "3 c"]) -> Float[Tensor, "c c1 p"]:
    """Responsibilities where each component in turn is parted at its mean."""
    c = mixture.shape[1]
    present = torch.softmax(_log_joint(x, mixture), 0)
    below = torch.sigmoid((mixture[1][:, None] - x) / mixture[2].sqrt()[:, None] * 4)
    start = present.repeat(c, 1, 1)
    own = torch.arange(c, device=x.device)
    start[own, own] = present * below
    return torch.cat([start, (present * (1 - below))[:, None]], dim=1)


def _saddle_of(mixture: Float[Tensor, "3 c"], threshold: float, n: int) -> float:
    """That of a mixture of n values from which the noise is taken away; no narrower peaks than n values can tell."""
    log_share, mean, variance = mixture
    error = variance * (2 / (n * log_share.exp()).clamp(min=1)).sqrt()  # of a Gaussian's variance
    bare = torch.stack([log_share, mean, variance - 1 + (_PEAK_ERRORS * error).clamp(max=_MOST_WIDER)])
    below = mean <= threshold
    if bool(below.all()) or not bool(below.any()):
        return 1.0
    # The density at the components' means stands for that at the modes.
    peak = torch.logsumexp(_log_joint(mean, bare), 0)
    low, high = (int(torch.where(side, peak, -math.inf).argmax()) for side in (below, ~below))
    steps = torch.linspace(0, 1, _SADDLE_POINTS, dtype=mean.dtype, device=mean.device)
    between = torch.lerp(mean[low], mean[high], steps)
    bottom = torch.logsumexp(_log_joint(between, bare), 0).min()
    return min(1.0, float(torch.exp(bottom - torch.minimum(peak[low], peak[high]))))


@dataclass(frozen=True)
class Components:
    """Two motifs at b doses, each along the direction that tells them apart best there."""

    step: Values  # distance of their means
    intrinsic: Values  # variance of either beyond the noise
    noise: Values  # variance of the noise of each
    skew: Values  # third cumulant of the noise of each: that of few electrons has a tail towards more of them
    share: Values | float  # of the columns that belong to the second

    def found(self, kept: Values | float = 1.0) -> tuple[Values, Values]:
        """What a mixture of two Gaussians of one width, nowhere narrower than the noise, finds in many columns.

        The noise of a darker motif is less, and few electrons scatter askew; Gaussians of one width make of it less than
        there is. So the mixture is fitted to the density that is expected, where `kept` of the distance is left. Given are the
        Gaussians' distance in their width, and a column's mean gain in log-likelihood over one Gaussian, both of shape (b,).
        """
        share = np.broadcast_to(self.share, self.step.shape)
        least = (1 - share) * self.noise[:, 0] + share * self.noise[
            :, 1
        ]  # of any variance: the unit from here on
        reach = _MOST_APART * np.sqrt(1 + self.intrinsic / least)
        step = np.clip(self.step * kept / np.sqrt(least), -reach, reach)[:, None]
        x, density = map(torch.from_numpy, self._density(step, least[:, None]))
        second = torch.sigmoid(torch.from_numpy(4 * np.sign(step)) * (x - torch.from_numpy(step) / 2))
        mixture, both = _fit_along(x, density, torch.stack([1 - second, second], 1), tied=True)
        _, single = _fit_along(x, density, torch.ones_like(x)[:, None], steps=1)
        _, mean, variance = mixture
        apart = (mean[:, 1] - mean[:, 0]).abs() / variance[:, 0].sqrt()
        return apart.numpy(), (both - single).clamp(min=0).numpy()

    def _density(self, step: Values, least: Values) -> tuple[Values, Values]:
        """Places (b, p) and the share of the columns at each, for steps (b, 1), in units of the least variance (b, 1)."""
        noise = np.maximum(self.noise, 1e-9)
        spread = _DENSITY_REACH * np.sqrt((self.intrinsic + noise.max(1))[:, None] / least)
        low, high = np.minimum(step, 0) - spread, np.maximum(step, 0) + spread
        x = low + (high - low) * np.linspace(0, 1, _DENSITY_POINTS)
        density = np.zeros_like(x)
        second = np.broadcast_to(self.share, self.step.shape)[:, None]
        for i, (share, mean) in enumerate(((1 - second, 0 * step), (second, step))):
            variance = (self.intrinsic + noise[:, i])[:, None]
            skew = self.skew[:, i, None] / variance**1.5
            with np.errstate(divide="ignore"):  # beyond the end of a density that has one
                density += share * pearson3.pdf(x, skew, loc=mean, scale=np.sqrt(variance / least))
        return x, density / density.sum(1, keepdims=True)
