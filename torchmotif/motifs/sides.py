"""What the classifier is expected to make of two motifs at some dose and number of columns."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import pearson3

__all__ = ["Sides"]

_GRID = 401  # points of the density
_WIDEST = 7.0  # standard deviations beyond both means
_STEPS = 60  # of expectation and maximisation
_LEAST_SKEW = 1e-3  # below which a density is taken for a Gaussian
_FURTHEST = 30.0  # distance in standard deviations beyond which nothing changes

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Sides:
    """Two motifs at b doses, each along the direction that tells them apart best there.

    Attributes
    ----------
    step : array of shape (b,)
        Distance of their means.
    intrinsic : array of shape (b,)
        Variance of either beyond the noise.
    noise : array of shape (b, 2)
        Variance of the noise of each.
    skew : array of shape (b, 2)
        Third cumulant of the noise of each: that of few electrons has a tail towards more of them.
    share : float
        Of the columns that belong to the second.
    """

    step: Values
    intrinsic: Values
    noise: Values
    skew: Values
    share: float

    def found(self, kept: Values | float = 1.0) -> tuple[Values, Values]:
        """What a mixture of two Gaussians of one width, nowhere narrower than the noise, finds in many columns.

        The noise of a darker motif is less, and few electrons scatter askew; Gaussians of one width make of it less than
        there is. So the mixture is fitted to the density that is expected.

        Parameters
        ----------
        kept : array of shape (b,) or a number
            Share of the distance that is left when the direction has to be found.

        Returns
        -------
        detectability : array of shape (b,)
            Distance of the Gaussians in their width.
        gain : array of shape (b,)
            Mean gain in log-likelihood of a column over one Gaussian.
        """
        least = (self.noise @ [1 - self.share, self.share])[:, None]  # of any variance
        reach = _FURTHEST * np.sqrt(least + self.intrinsic[:, None])
        step = np.clip((self.step * kept)[:, None], -reach, reach)
        x, density = self._density(step)
        mean = (density * x).sum(1, keepdims=True)
        total = (density * (x - mean) ** 2).sum(1, keepdims=True)
        one = np.maximum(total, least)
        single = -0.5 * (np.log(one) + total / one)[:, 0]
        middle = np.sign(step) * (x - step / 2) / np.sqrt(least)
        second = 1 / (1 + np.exp(-np.clip(4 * middle, -50, 50)))
        for _ in range(_STEPS):
            part = np.clip((density * second).sum(1, keepdims=True), 1e-9, 1 - 1e-9)
            m1 = (density * second * x).sum(1, keepdims=True) / part
            m0 = (mean - part * m1) / (1 - part)
            width = np.maximum(total - part * (1 - part) * (m1 - m0) ** 2, least)
            odds = (m1 - m0) * (x - (m0 + m1) / 2) / width + np.log(part / (1 - part))
            second = 1 / (1 + np.exp(-np.clip(odds, -500, 500)))
        below = np.log1p(-part) - 0.5 * ((x - m0) ** 2 / width + np.log(width))
        both = (density * (below + np.logaddexp(0, odds))).sum(1)
        return (np.abs(m1 - m0) / np.sqrt(width))[:, 0], np.maximum(both - single, 0.0)

    def _density(self, step: Values) -> tuple[Values, Values]:
        """Places (b, p) and the share of the columns at each, for steps (b, 1)."""
        spread = _WIDEST * np.sqrt(self.intrinsic + self.noise.max(1))[:, None]
        low, high = np.minimum(step, 0) - spread, np.maximum(step, 0) + spread
        x = low + (high - low) * np.linspace(0, 1, _GRID)
        density = np.zeros_like(x)
        for side, (share, mean) in enumerate(((1 - self.share, 0 * step), (self.share, step))):
            variance = (self.intrinsic + np.maximum(self.noise[:, side], 1e-9))[:, None]
            skew = self.skew[:, side, None] / variance**1.5
            skew = np.where(np.abs(skew) < _LEAST_SKEW, 0.0, skew)
            with np.errstate(divide="ignore"):  # beyond the end of a density that has one
                density += share * pearson3.pdf(x, skew, loc=mean, scale=np.sqrt(variance))
        return x, density / density.sum(1, keepdims=True)
