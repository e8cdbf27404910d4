"""Clusters as the modes of a Gaussian mixture: components that no valley parts are one cluster."""

import warnings
from itertools import combinations
from typing import NamedTuple

import numpy as np

__all__ = ["Mixture", "fit_mixture", "mixture_modes", "ridgeline_ratio"]

_STEPS = np.linspace(0.0, 1.0, 33)  # points along a ridgeline
_PATIENCE = 2  # mixtures tried after the best one


class Mixture(NamedTuple):
    """A Gaussian mixture: weights (c,), means (c, d), covariances (c, d, d)."""

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray

    def squared_distances(self, X: np.ndarray) -> np.ndarray:
        """Squared Mahalanobis distance of every row of X from every component, shape (n, c)."""
        factors = np.linalg.cholesky(self.covariances)
        centred = X[None, :, :] - self.means[:, None, :]
        white = np.linalg.solve(factors, centred.swapaxes(1, 2))
        distances: np.ndarray = (white**2).sum(axis=1).T
        return distances

    def log_densities(self, X: np.ndarray) -> np.ndarray:
        """Logarithm of weight times density of every component at every row of X, shape (n, c)."""
        d = self.means.shape[1]
        _, log_determinant = np.linalg.slogdet(self.covariances)
        constant = np.log(self.weights) - 0.5 * (log_determinant + d * np.log(2 * np.pi))
        densities: np.ndarray = constant - 0.5 * self.squared_distances(X)
        return densities


def fit_mixture(
    X: np.ndarray, max_components: int, *, min_components: int = 1, random_state: int = 0
) -> Mixture:
    """The Gaussian mixture of least Bayesian information criterion.

    Parameters
    ----------
    X : array of shape (n, d), float64
    max_components, min_components : int
        The numbers of components to try; never more than n / (d + 1), and the least one always.
    random_state : int

    Returns
    -------
    Mixture

    Notes
    -----
    Schwarz (1978); the search stops when two larger mixtures in turn were no better.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    X = np.repeat(X, 2, axis=0) if len(X) == 1 else X  # a mixture wants two rows
    n, d = X.shape
    most = max(min_components, min(max_components, n // (d + 1)))
    floor = 1e-6 * max(float(X.var(axis=0).max()), 1e-12)
    best, least, since = None, np.inf, 0
    for k in range(min_components, most + 1):
        candidate = GaussianMixture(k, reg_covar=floor, n_init=2, max_iter=300, random_state=random_state)
        with warnings.catch_warnings():
            # A mixture that does not converge loses by its criterion; fewer distinct points than k is no fault.
            warnings.simplefilter("ignore", ConvergenceWarning)
            criterion = candidate.fit(X).bic(X)
        if best is None or criterion < least:
            best, least, since = candidate, criterion, 0
        else:
            since += 1
        if since == _PATIENCE:
            break
    assert best is not None  # noqa: S101  # min_components >= 1
    return Mixture(best.weights_, best.means_, best.covariances_)


def ridgeline_ratio(pair: Mixture) -> float:
    """Depth of the valley between two components: density at its bottom over that of the lower of the peaks beside it.

    Parameters
    ----------
    pair : Mixture of two components

    Returns
    -------
    float
        1 where there is no valley, towards 0 where the components stand apart.

    Notes
    -----
    All modes of a mixture of two Gaussians lie on its ridgeline (Ray & Lindsay, 2005); the ratio along it is the
    merging criterion of Hennig (2010).
    """
    first, second = np.linalg.inv(pair.covariances)
    share = _STEPS[:, None, None]
    precision = (1 - share) * first + share * second
    pull = (1 - share[..., 0]) * (first @ pair.means[0]) + share[..., 0] * (second @ pair.means[1])
    ridge = np.linalg.solve(precision, pull[..., None])[..., 0]
    log_density = np.logaddexp.reduce(pair.log_densities(ridge), axis=1)
    left = np.maximum.accumulate(log_density)
    right = np.maximum.accumulate(log_density[::-1])[::-1]
    return float(np.exp((log_density - np.minimum(left, right)).min()))


def mixture_modes(
    mixture: Mixture, max_ratio: float, *, n_modes: int | None = None
) -> tuple[list[list[int]], list[float]]:
    """Components gathered into modes: the pair with the shallowest valley is merged until all valleys are deep.

    Parameters
    ----------
    mixture : Mixture
    max_ratio : float
        Pairs whose `ridgeline_ratio` is at least this are one mode.
    n_modes : int, optional
        Merge until so many are left, whatever their valleys.

    Returns
    -------
    groups : list of lists of int
        The components of every mode.
    ratios : list of float
        The ratio at each merge in turn, and last that of the shallowest valley which was kept: the evidence.

    Notes
    -----
    Hennig (2010), with merged components taken as one Gaussian of the same moments.
    """
    groups = [[i] for i in range(len(mixture.weights))]
    ratios = []
    while len(groups) > 1:
        pairs = list(combinations(range(len(groups)), 2))
        valleys = [ridgeline_ratio(Mixture(*(part[[a, b]] for part in mixture))) for a, b in pairs]
        shallowest = int(np.argmax(valleys))
        ratios.append(valleys[shallowest])
        if len(groups) <= n_modes if n_modes is not None else ratios[-1] < max_ratio:
            break
        a, b = pairs[shallowest]
        mixture = _merged(mixture, a, b)
        groups[a] += groups.pop(b)
    return groups, ratios


def _merged(mixture: Mixture, a: int, b: int) -> Mixture:
    """The mixture with component b drawn into a: same weight, mean and covariance as the two together."""
    weights, means, covariances = (part.copy() for part in mixture)
    weight = weights[a] + weights[b]
    mean = (weights[a] * means[a] + weights[b] * means[b]) / weight
    apart = [means[i] - mean for i in (a, b)]
    covariance = sum(
        weights[i] * (covariances[i] + np.outer(step, step)) for i, step in zip((a, b), apart, strict=True)
    )
    weights[a], means[a], covariances[a] = weight, mean, covariance / weight
    return Mixture(*(np.delete(part, b, axis=0) for part in (weights, means, covariances)))
