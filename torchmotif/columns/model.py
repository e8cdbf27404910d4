"""The model image: round columns of one shape on a smooth background, with noise that grows with intensity."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torchmotif._windows import gather_windows

__all__ = ["Noise", "Profiles", "gaussians", "profiles", "spline_basis"]

_USUAL = 0.999  # share of the pixels that are no sparks
_SAMPLE = 200_000  # pixels that tell the noise to half a per cent
_REACH = 3.5  # widths beyond which a column's Gaussian is nothing


@dataclass(frozen=True, eq=False)
class Noise:
    """Variance of a pixel whose expected value is m: at_low + (at_high - at_low) (m - low) / (high - low).

    Poisson noise of any gain, offset and read noise has this form.
    """

    low: float
    high: float
    at_low: float
    at_high: float

    def variance(self, expected: Tensor) -> Tensor:
        """Of pixels with the given expected values, never below a fiftieth of the middle of the range."""
        return _variance(expected, (self.low, self.high), (self.at_low, self.at_high))

    def likelihood(self, data: Tensor, expected: Tensor) -> Tensor:
        """Logarithm of the quasi-likelihood of pixels, but for what depends on the data alone.

        The integral of (data - m) / variance(m) over m (Wedderburn 1974); for Poisson counts it is that of Poisson.
        """
        floor = 0.02 * (self.at_low + self.at_high) / 2
        span = self.at_high - self.at_low
        if abs(span) <= 1e-3 * (self.at_low + self.at_high):  # the same noise everywhere
            return -0.5 * (data - expected).square() / ((self.at_low + self.at_high) / 2)
        slope = span / (self.high - self.low)
        turn = self.low + (floor - self.at_low) / slope  # from here on the variance is no longer at its least
        beyond, over = expected - turn, data - turn
        flat = (over * beyond - 0.5 * beyond.square()) / floor
        growth = (slope * beyond / floor).clamp(min=0)
        rising = (over + floor / slope) * torch.log1p(growth) / slope - beyond / slope
        return torch.where(growth > 0, rising, flat)

    def fitted(
        self,
        expected: Float[Tensor, " p"],
        residual: Float[Tensor, " p"],
        *,
        unknowns: int = 0,
        settled: bool = True,
    ) -> "Noise":
        """The noise of residuals about their expected values, by weighted least squares; outliers are left out.

        `unknowns` were fitted, and the residuals are smaller for it. Where one end of the range has no noise, all
        pixels count the same; the dark ones the more as long as the columns are not `settled`, whose misfit is no noise.
        """
        residual = residual * math.sqrt(len(residual) / max(len(residual) - unknowns, len(residual) / 2, 1))
        every = max(1, len(expected) // _SAMPLE)
        expected, residual = expected[::every], residual[::every]
        ends = [expected.kthvalue(max(1, round(share * len(expected)))).values for share in (0.01, 0.99)]
        low, high = torch.stack(ends).tolist()
        if not high > low:
            return self
        square = residual.square()
        share = ((expected - low) / (high - low)).clamp(
            0, 1
        )  # beyond the range a variance would turn negative
        variance = self.variance(expected)
        for _ in range(3):
            usual = square < 100 * variance  # sparks are not noise
            usual |= usual.double().mean() < _USUAL  # single electrons are, however few the dose leaves
            weight = usual / variance.square()
            a, b, c = ((weight * v).sum() for v in ((1 - share) ** 2, share * (1 - share), share**2))
            p, q = ((weight * square * v).sum() for v in (1 - share, share))
            determinant = a * c - b * b
            first, last = (c * p - b * q) / determinant, (a * q - b * p) / determinant
            fine = (first > 0) & (last > 0)  # else the better of the two solutions on the border
            if settled:  # there the few counts of the dark pixels are fitted too well to tell
                weight = usual / variance
                a, c = ((weight * v**2).sum() for v in (1 - share, share))
                p, q = ((weight * square * v).sum() for v in (1 - share, share))
            at_low = p * p / a > q * q / c
            first = torch.where(fine, first, torch.where(at_low, p / a, 0 * p)).double()
            last = torch.where(fine, last, torch.where(at_low, 0 * q, q / c)).double()
            variance = _variance(expected, (low, high), (first, last))
        return Noise(low, high, *torch.stack([first, last]).tolist())


def _variance(expected: Tensor, ends: tuple[float, float], values: tuple[Any, Any]) -> Tensor:
    """A line through two values at the ends of a range, never below a fiftieth of that in its middle."""
    slope = (values[1] - values[0]) / (ends[1] - ends[0])
    line: Tensor = values[0] + slope * (expected - ends[0])
    return line.clamp(min=0.02 * (values[0] + values[1]) / 2)


@dataclass(frozen=True, eq=False)
class Profiles:
    """The separable Gaussians of columns on the pixels around them.

    Along each axis: the Gaussian, its derivative with respect to the centre, and to the width.
    """

    start: Int[Tensor, "n 2"]  # first pixel of each window in an image padded by `reach`
    rows: Float[Tensor, "n 3 s"]
    cols: Float[Tensor, "n 3 s"]
    reach: int

    @property
    def size(self) -> int:
        """Side of the windows in pixels."""
        return 2 * self.reach + 1

    def render(
        self, amplitude: Float[Tensor, " n"], shape: tuple[int, int], row: int = 0, col: int = 0
    ) -> Tensor:
        """The sum over columns of amplitude times the given profiles, in a padded image of `shape`."""
        rows = amplitude[:, None] * self.rows[:, row]
        return self._placed(rows[:, :, None] * self.cols[:, col][:, None, :], shape)

    def mixed(self, amplitudes: Float[Tensor, "n 3 3"], shape: tuple[int, int]) -> Tensor:
        """The sum over columns of all products of one profile along rows and one along columns, as `render`."""
        return self._placed(self.rows.mT @ amplitudes @ self.cols, shape)

    def _placed(self, value: Float[Tensor, "n s s"], shape: tuple[int, int]) -> Tensor:
        step = torch.arange(self.size, device=value.device)
        index = (
            (self.start[:, 0, None, None] + step[:, None]) * shape[1] + self.start[:, 1, None, None] + step
        )
        return (
            value.new_zeros(shape[0] * shape[1]).index_add_(0, index.flatten(), value.flatten()).view(shape)
        )

    def windows(self, padded: Float[Tensor, "h w"]) -> Float[Tensor, "n s s"]:
        """Each column's pixels of a padded image."""
        return gather_windows(padded, self.start, self.size)


def profiles(
    positions: Float[Tensor, "n 2"],
    width: Float[Tensor, " 2"],
    shape: tuple[int, int],
    widest: float | None = None,
) -> Profiles:
    """The profiles of columns in an image of `shape`, with standard deviations `width` along (rows, columns).

    `widest` is the larger of the widths, where that is known: to ask an accelerator for it takes time.
    """
    reach = max(2, math.ceil(_REACH * (float(width.max()) if widest is None else widest)))
    start = torch.minimum(
        torch.round(positions).long().clamp(min=0), torch.tensor(shape, device=positions.device) - 1
    )
    step = torch.arange(-reach, reach + 1, device=positions.device)
    offset = ((start - positions)[:, :, None] + step).to(width.dtype)
    rows, cols = (gaussians(offset[:, axis], width[axis]) for axis in range(2))
    return Profiles(start, rows, cols, reach)


def gaussians(offset: Float[Tensor, "n s"], width: Tensor) -> Float[Tensor, "n 3 s"]:
    """Normalised Gaussian at pixel minus centre, its derivative by the centre and by the width."""
    scaled = offset / width
    value = torch.exp(-0.5 * scaled**2) / (math.sqrt(2 * math.pi) * width)
    return torch.stack([value, value * scaled / width, value * (scaled**2 - 1) / width], dim=1)


def spline_basis(length: int, step: float, like_: Tensor) -> Float[Tensor, "length m"]:
    """Cubic B-splines at least `step` pixels apart, sampled at the pixels of an axis (de Boor 1978)."""
    intervals = max(1, int(length / step))
    pixel = torch.arange(length, device=like_.device, dtype=like_.dtype) * (intervals / length)
    centre = torch.arange(-1, intervals + 2, device=like_.device, dtype=like_.dtype)
    return cubic_spline(pixel[:, None] - centre)


def cubic_spline(x: Tensor) -> Tensor:
    """The cubic B-spline with unit knots, centred at 0."""
    x = x.abs()
    inner = 2 / 3 - x**2 + x**3 / 2
    outer = (2 - x).clamp(min=0) ** 3 / 6
    return torch.where(x < 1, inner, outer)
