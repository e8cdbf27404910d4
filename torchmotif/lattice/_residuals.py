"""How far intensities are from levels, whose noise is known: in a power in which few electrons are not askew."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["noise_at", "residuals_of"]

Values = NDArray[np.float64]

_LEAST_NOISE = 0.25  # of the variance of a site's noise, that it has in any state


def residuals_of(
    levels: Values, reference: float, y: Values, s: Values, slope: float
) -> tuple[Values, Values, Values]:
    """How far n intensities are from k levels in the power 2/3 of their counts, in which noise is not askew (Anscombe, 1953).

    Parameters
    ----------
    levels : array of shape (k,), or (c, k) of c mixtures
    reference : float
        The level at which the power has the slope 1: that of most intensities.
    y, s : arrays of shape (n,)
        Intensities and their standard deviations.
    slope : float
        By how much the variance grows with the intensity; at 0 there is no power.

    Returns
    -------
    far : array of shape (n, k), or (c, n, k)
        Intensity less level, both in the power.
    gain : array of shape (n, k), or (c, n, k)
        Derivative of the power at the levels.
    noise : array of shape (n, k), or (c, n, k)
        Variance of the noise at the levels, not in the power.
    """
    noise = noise_at(levels, y, s, slope)
    if slope <= 0:
        return y[:, None] - levels[..., None, :], np.ones_like(noise), noise
    # Of counts, the variance is the count: relative to that at the reference, to the power 2/3.
    full = noise_at(np.array([reference]), y, s, slope)
    root = np.cbrt(noise / full)
    far = 1.5 * full / slope * (np.cbrt(s[:, None] ** 2 / full) ** 2 - root**2)
    return far, 1 / root, noise


def noise_at(levels: Values, y: Values, s: Values, slope: float) -> Values:
    """Variance that the noise of each of n intensities y, with standard deviation s, would have at each of k levels, shape (n, k); or (c, n, k)."""
    here = s[:, None] ** 2
    return np.maximum(here + slope * (levels[..., None, :] - y[:, None]), here * _LEAST_NOISE)
