"""Whether intensities vary from column to column as thickness does, rather than by what sits on each site."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.spatial import cKDTree
from scipy.special import logsumexp, softmax

from torchmotif.lattice._residuals import noise_at
from torchmotif.names._mixture import Fitted

__all__ = ["hosts_of_other_thickness"]

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_AROUND = 12  # columns around one that tell how bright it would be: three shells of a square lattice, two of a hexagonal one
_FEWEST = 4 * _AROUND  # columns of a sublattice that are compared
_STEPS = 8  # of each fit: robust planes settle in 6, shares in 5
_BIWEIGHT = 4.685  # of Tukey's function: 95 % as precise as least squares where all is Gaussian
_SCATTERS = (0.0, 0.01, 0.02, 0.04, 0.08, 0.16)  # beyond the errors, of the host's intensity
_SHARE = 1.0  # columns around one that the shares of the whole sublattice stand for
# Standard errors of the gain, and half the logarithm of the factor by which the variance that names leave is more than what surroundings
# leave: 2. Of discs, halves and stripes of vacancies 3 to 12 standard errors of a column from the host, with a brightness that changes by a
# tenth, columns that the host may be gain 0.15 at most, of particles of gold 0.95 to 3.9: 0.2 to 0.9 says the same. Five real
# images have 2.1 standard errors and less.
_CLEAR, _GAIN = 3.0, 0.5 * float(np.log(2.0))


def hosts_of_other_thickness(
    positions: Floats, intensities: Floats, errors: Floats, fitted: Fitted, slope: float
) -> Flags:
    """Columns that names take for something else than the host, but are the host by what surrounds them.

    Two descriptions of a sublattice are compared by their likelihoods (Vuong, 1989). By names, every column has one of a few levels, as
    frequent as around it, so that vacancies may cluster. By surroundings, the host is as bright as a plane through the columns
    around a column, which has no part in it; what else may be there is brighter or darker in the same ratio.

    Parameters
    ----------
    positions : array of shape (n, 2)
        (row, col) in square pixels of the columns of one sublattice.
    intensities, errors : arrays of shape (n,)
    fitted : Fitted
        The mixture of the names, the host first.
    slope : float
        By how much the variance of an intensity grows with it.

    Returns
    -------
    boolean array of shape (n,)
        None where the names are as likely.
    """
    none = np.zeros(len(positions), bool)
    if len(positions) < _FEWEST or fitted.means[0] <= 0:
        return none
    near = np.asarray(cKDTree(positions).query(positions, k=_AROUND + 1)[1])[:, 1:]
    named = fitted.probabilities.argmax(axis=1)
    by_names = _by_names(near, intensities, errors, fitted, slope)
    planes = _planes(positions, near, intensities, errors)
    by_plane, host = _by_surroundings(planes, intensities, errors, fitted, slope)
    gain = by_plane - by_names
    other = (named > 0) & (host > 0.5)
    clear = gain.sum() > 0 and other.sum() > 1 and _is_clear(gain) and _is_clear(gain[other])
    return other if clear and gain[other].mean() > _GAIN else none


def _is_clear(gain: Floats) -> bool:
    """Whether a sum of gains is above nothing by more than they scatter."""
    return bool(gain.sum() > _CLEAR * np.sqrt(len(gain)) * gain.std(ddof=1))


def _by_names(
    near: NDArray[np.int64],
    intensities: Floats,
    errors: Floats,
    fitted: Fitted,
    slope: float,
) -> Floats:
    """Log-likelihood of each column where every name has one level."""
    means = fitted.means
    noise = noise_at(means, intensities, errors, slope)
    best = np.full(len(intensities), -np.inf)
    # Times the probabilities this adds up those of the columns around each one.
    around = csr_array(
        (np.ones(near.size), near.ravel(), np.arange(0, near.size + 1, near.shape[1])), shape=(len(near),) * 2
    )
    for scatter in _SCATTERS:
        variance = noise + (scatter * np.maximum(means, means[0])) ** 2
        log = _with_none(_gaussian(intensities[:, None] - means, variance), fitted.reach)
        found = fitted.probabilities
        for _ in range(_STEPS):
            shares = (around @ found + _SHARE * fitted.shares) / (near.shape[1] + _SHARE)
            found = softmax(log + np.log(shares), axis=1)
        here = logsumexp(log + np.log(shares), axis=1)
        best = here if here.sum() > best.sum() else best
    return best


def _by_surroundings(
    planes: tuple[Floats, Floats],
    intensities: Floats,
    errors: Floats,
    fitted: Fitted,
    slope: float,
) -> tuple[Floats, Floats]:
    """Log-likelihood of each column where the host is as bright as what surrounds it, and its probability to be the host."""
    level, lever = planes
    host = float(fitted.means[0])
    ratios = fitted.means / host
    levels = np.maximum(level, 1e-3 * host)[:, None] * ratios
    known = errors[:, None] ** 2
    noise = np.maximum(known + slope * (levels - intensities[:, None]), known / 4)
    best, probability = np.full(len(intensities), -np.inf), np.zeros(len(intensities))
    for scatter in _SCATTERS:
        wide = (scatter * host) ** 2
        variance = noise + wide * np.maximum(ratios, 1.0) ** 2 + (lever * (errors**2 + wide))[:, None]
        log = _with_none(_gaussian(intensities[:, None] - levels, variance), fitted.reach)
        shares = fitted.shares
        for _ in range(_STEPS):
            found = softmax(log + np.log(shares), axis=1)
            shares = (found.sum(axis=0) + _SHARE / len(shares)) / (len(found) + _SHARE)
        here = logsumexp(log + np.log(shares), axis=1)
        if here.sum() > best.sum():
            best, probability = here, found[:, 0]
    return best, probability


def _planes(
    positions: Floats, near: NDArray[np.int64], intensities: Floats, errors: Floats
) -> tuple[Floats, Floats]:
    """What planes through the columns around each one predict, and the variance of that in units of theirs; robust (Tukey's biweight)."""
    away = positions[near] - positions[:, None]
    design = np.concatenate([np.ones((*near.shape, 1)), away / np.abs(away).max()], axis=2)
    values, weights = intensities[near], np.ones(near.shape)
    usual = float(np.median(errors))
    for _ in range(_STEPS):
        normal = np.einsum("nkp,nk,nkq->npq", design, weights, design) + 1e-9 * np.eye(3)
        right = np.einsum("nkp,nk,nk->np", design, weights, values)
        plane = np.linalg.solve(normal, right[..., None])
        left = values - (design @ plane)[..., 0]
        scatter = np.maximum(1.4826 * np.median(np.abs(left), axis=1), usual)[:, None]
        weights = np.maximum(1 - (left / (_BIWEIGHT * scatter)) ** 2, 1e-3) ** 2
    return plane[:, 0, 0], np.linalg.inv(normal)[:, 0, 0]


def _gaussian(away: Floats, variance: Floats) -> Floats:
    return np.asarray(-0.5 * (away**2 / variance + np.log(2 * np.pi * variance)))


def _with_none(log: Floats, reach: float) -> Floats:
    """Log-likelihoods of what may be there, and last of none of it."""
    return np.concatenate([log, np.full((len(log), 1), -np.log(reach))], axis=1)
