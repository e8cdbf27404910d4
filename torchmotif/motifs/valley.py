"""Whether two sides of a threshold are apart, or a continuum cut in two."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["valley_at"]

_BINS = 1024
_MAX_COMPONENTS = 6
_STEPS = 60  # of expectation and maximisation
_BETWEEN = 129  # points between two peaks
_UNSURE = 2.0  # standard errors of its variance, by which a peak may be wider than it came out
_NARROWEST = 0.05, 0.5  # that width, in the noise's, at least and at most


def valley_at(
    values: Float[Tensor, " n"], threshold: float, first: Float[Tensor, " n"], second: Float[Tensor, " n"]
) -> float:
    """Lowest density, without the noise, between the highest peaks on both sides of a threshold, over the lower peak.

    The density is a mixture of as many Gaussians as the Bayesian information criterion supports, each of at least
    the noise's variance, 1, which is then taken away from them.

    Parameters
    ----------
    values : Tensor of shape (n,)
        Coordinates of columns in which the noise has a standard deviation of 1.
    threshold : float
    first, second : Tensor of shape (n,)
        To what degree each column lies on either side: where the search for the mixture starts.

    Returns
    -------
    float
        1 where there is no valley, towards 0 where the sides stand apart.
    """
    least, most = values.min(), values.max()
    if not bool(most > least):
        return 1.0
    index = ((values - least) / (most - least) * (_BINS - 1)).round().long()
    place = least + (most - least) * torch.arange(_BINS, dtype=values.dtype, device=values.device) / (
        _BINS - 1
    )
    sides = values.new_zeros(2, _BINS).index_add_(1, index, torch.stack([first, second]))
    weight = sides.sum(0)
    mixture, best = _fitted(place, weight, (sides / weight.clamp(min=1e-12))[None])
    price = 3 * math.log(len(values))
    while mixture.shape[-1] < _MAX_COMPONENTS:
        larger, likelihood = _fitted(place, weight, _with_one_split(place, mixture))
        if 2 * (likelihood - best) < price:
            break
        mixture, best = larger, likelihood
    return _ratio(mixture, threshold, len(values))


def _fitted(place: Tensor, weight: Tensor, degrees: Float[Tensor, "b c p"]) -> tuple[Tensor, float]:
    """The best of b mixtures, rows (log share, mean, variance) of shape (3, c), and its log-likelihood."""
    for _ in range(_STEPS):
        mixture = _maximised(place, weight, degrees)
        joint = _log_joint(place, mixture)
        degrees = torch.softmax(joint, 1)
    likelihood = torch.logsumexp(joint, 1) @ weight
    best = int(likelihood.argmax())
    return mixture[:, best], float(likelihood[best])


def _maximised(place: Tensor, weight: Tensor, degrees: Tensor) -> Tensor:
    """Mixtures (3, b, c) of greatest likelihood for given degrees of membership."""
    part = degrees * weight
    count = part.sum(-1).clamp(min=1e-9)
    mean = (part @ place) / count
    variance = (part * (place - mean[..., None]).square()).sum(-1) / count
    return torch.stack([(count / weight.sum()).log(), mean, variance.clamp(min=1.0)])


def _log_joint(place: Tensor, mixture: Tensor) -> Tensor:
    """Logarithm of share times density of every component, (b, c, p), but for a constant."""
    log_share, mean, variance = mixture[..., None]
    joint: Tensor = log_share - 0.5 * ((place - mean).square() / variance + variance.log())
    return joint


def _with_one_split(place: Tensor, mixture: Float[Tensor, "3 c"]) -> Float[Tensor, "c c1 p"]:
    """Degrees of membership where each component in turn is parted at its mean."""
    c = mixture.shape[1]
    degrees = torch.softmax(_log_joint(place, mixture), 0)
    below = torch.sigmoid((mixture[1][:, None] - place) / mixture[2].sqrt()[:, None] * 4)
    start = degrees.repeat(c, 1, 1)
    own = torch.arange(c, device=place.device)
    start[own, own] = degrees * below
    return torch.cat([start, (degrees * (1 - below))[:, None]], dim=1)


def _ratio(mixture: Float[Tensor, "3 c"], threshold: float, n: int) -> float:
    """Lowest density between the highest peaks on both sides of the threshold over the lower one, noise taken away.

    A peak is not taken for narrower than n values can tell: such peaks part a continuum.
    """
    log_share, mean, variance = mixture
    error = variance * (2 / (n * log_share.exp()).clamp(min=1)).sqrt()  # of a Gaussian's variance
    least, most = (width**2 for width in _NARROWEST)
    bare = torch.stack([log_share, mean, variance - 1 + (_UNSURE * error).clamp(least, most)])
    below = mean <= threshold
    if bool(below.all()) or not bool(below.any()):
        return 1.0
    # The density at the components' means stands for that at the modes.
    peak = torch.logsumexp(_log_joint(mean, bare[:, None])[0], 0)
    low, high = (int(torch.where(side, peak, -math.inf).argmax()) for side in (below, ~below))
    between = torch.linspace(
        float(mean[low]), float(mean[high]), _BETWEEN, dtype=mean.dtype, device=mean.device
    )
    bottom = torch.logsumexp(_log_joint(between, bare[:, None])[0], 0).min()
    return min(1.0, float(torch.exp(bottom - torch.minimum(peak[low], peak[high]))))
