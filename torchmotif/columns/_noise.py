"""The noise of an image: a variance that grows with what is expected of a pixel, as counts of electrons have it."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["Noise"]

_USUAL = 0.999  # share of the pixels that are no X-ray spikes
_SAMPLE = 200_000  # pixels that tell the noise to half a per cent
_LEAST = 0.02  # of the variance in the middle of the range: no pixel has less, be it ever so dark


@dataclass(frozen=True, eq=False)
class Noise:
    """Variance of a pixel whose expected value is m: at_low + (at_high - at_low) (m - low) / (high - low).

    Poisson noise of any gain, offset and read noise has this form. The numbers are float64 tensors of no dimension, so that
    an accelerator need not be asked for them.
    """

    low: Float[Tensor, ""]
    high: Float[Tensor, ""]
    at_low: Float[Tensor, ""]
    at_high: Float[Tensor, ""]

    @staticmethod
    def of(values: tuple[float, float, float, float], device: torch.device | None = None) -> "Noise":
        """From four numbers."""
        return Noise(*torch.tensor(values, dtype=torch.float64).to(device, non_blocking=True).unbind())

    def numbers(self) -> tuple[float, float, float, float]:
        """The four numbers."""
        low, high, at_low, at_high = torch.stack([self.low, self.high, self.at_low, self.at_high]).tolist()
        return low, high, at_low, at_high

    @property
    def slope(self) -> Float[Tensor, ""]:
        """Variance by which a pixel has more for each unit that is expected in it."""
        return self._line[0]

    @cached_property
    def _line(self) -> tuple[Tensor, Tensor, Tensor]:
        """Slope of the variance, what it would be where nothing is expected, and its least."""
        slope = (self.at_high - self.at_low) / (self.high - self.low)
        return slope, self.at_low - slope * self.low, _LEAST * (self.at_low + self.at_high) / 2

    @cached_property
    def _turn(self) -> tuple[Tensor, Tensor, Tensor]:
        """Whether the variance is the same everywhere, its slope elsewhere, and where it is no longer at its least."""
        both = self.at_low + self.at_high
        even = (self.at_high - self.at_low).abs() <= 1e-3 * both
        slope, start, floor = self._line
        slope = torch.where(even, 1.0, slope)
        return even, slope, (floor - start) / slope

    def variance(self, expected: Tensor) -> Tensor:
        """Of pixels with the given expected values."""
        slope, start, floor = self._line
        return torch.addcmul(start.to(expected.dtype), expected, slope.to(expected.dtype)).clamp(
            min=floor.to(expected.dtype)
        )

    def likelihood(self, data: Tensor, expected: Tensor) -> Tensor:
        """Logarithm of the quasi-likelihood of pixels, but for what depends on the data alone.

        The integral of (data - m) / variance(m) over m (Wedderburn 1974); for Poisson counts it is that of Poisson.
        """
        even, slope, turn = self._turn
        floor = self._line[2]
        beyond, over = expected - turn, data - turn
        rise = floor / slope
        flat = (over - 0.5 * beyond) * beyond / floor
        growth = (beyond / rise).clamp(min=0)
        rising = ((over + rise) * torch.log1p(growth) - beyond) / slope
        uneven = torch.where(growth > 0, rising, flat)
        return torch.where(even, -(data - expected).square() / (self.at_low + self.at_high), uneven)

    def fitted(
        self,
        expected: Float[Tensor, " p"],
        residual: Float[Tensor, " p"],
        *,
        unknowns: int = 0,
        converged: bool = True,
    ) -> "Noise":
        """The noise of residuals about their expected values, by weighted least squares; outliers are left out.

        `unknowns` were fitted, and the residuals are smaller for it. Where one end of the range has no noise, all
        pixels count the same; the dark ones the more as long as the columns have not `converged`, whose misfit is no noise.
        """
        residual = residual * math.sqrt(len(residual) / max(len(residual) - unknowns, len(residual) / 2, 1))
        every = max(1, len(expected) // _SAMPLE)
        expected, residual = expected[::every], residual[::every]
        ends = [expected.kthvalue(max(1, round(share * len(expected)))).values for share in (0.01, 0.99)]
        low, high = (end.double() for end in ends)
        known = high > low
        span = torch.where(known, high - low, 1.0)
        square = residual.square()
        share = ((expected - low) / span).clamp(0, 1)  # beyond the range a variance would turn negative
        rest = 1 - share
        # Their weighted sums are the normal equations of the variances at both ends.
        terms = torch.stack([rest * rest, share * share, rest * square, share * square, rest * share], dim=1)
        variance = self.variance(expected)
        before = torch.stack([self.low, self.high, self.at_low, self.at_high])
        found = self
        for _ in range(2):
            certain = _usual(square, variance) / variance
            weights = torch.stack([certain / variance, certain])
            sums = (weights.to(terms.dtype) @ terms).double()
            diagonal, right, across = sums.split([2, 2, 1], dim=1)
            both = diagonal[0].flip(0) * right[0] - across[0] * right[0].flip(0)
            both = both / (diagonal[0].prod() - across[0].square())
            # Else the better of the two solutions on the border; if columns have converged, the few counts of the dark
            # pixels are fitted too well to tell.
            alone = right[int(converged)] / diagonal[int(converged)]
            gain = alone * right[int(converged)]
            alone = torch.where(gain == gain.amax(), alone, 0.0)
            variances = torch.where((both > 0).all(), both, alone)
            new = torch.cat([torch.stack([low, low + span]), variances])
            found = Noise(*torch.where(known, new, before).unbind())
            variance = found.variance(expected)
        return found


def _usual(square: Float[Tensor, " p"], variance: Float[Tensor, " p"]) -> Bool[Tensor, " p"]:
    """Pixels that are no X-ray spikes; single electrons are none, however few the dose leaves."""
    usual = square < 100 * variance
    return usual | (usual.double().mean() < _USUAL)
