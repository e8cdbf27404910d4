"""From what a user holds to pixels that can be calibrated: what was measured, their levels, their saturation."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from torchmotif._arrays import Budget, DeviceLike, as_tensor, pixels_of, sent
from torchmotif.columns._filters import plane_of
from torchmotif.columns._hot import stand_alone
from torchmotif.columns._rows import HUM, hum_of
from torchmotif.columns.model import ImageModel, Pair
from torchmotif.columns.unmeasured import unmeasured
from torchmotif.errors import InputError

__all__ = ["levels", "limit_of", "pixels_and_mask", "saturation_limit", "top_values"]

_OUTLIER = 30.0  # a pixel this many times the image's range away from the median is hot, not a column
# Of the variance of the pixels, that a slope has at least. Of 30 slopes of 1 to 20 times the contrast (`benchmarks/columns/disturbed.py`, 1000 to 1029 of slopes) 29 have 0.6 to 0.99 and one, most of
# which is noise, 0.23; of 50 other images (3000 to 3059) those without steps or streaks have up to 0.13.
_SLOPE = 0.3
# Pixels: side of the squares whose means show a slope. By single pixels windows of many frames would take much memory.
_POOL = 8
_LONE = 10.0  # and so is one this many times the range of all but 2 % at either end away, where such pixels stand alone
_STANDS_ALONE = 0.9  # of such pixels, from which on they are hot
_AT_LIMIT = 8  # pixels at the greatest value, from which on it may be a limit
# Standard deviations by which the value next to a limit is more frequent than the one after it; and times the square of the second of three numbers that the product of the others has,
# from which on the first is no count of electrons: half in a Poisson distribution, 0.51 to 0.63 in nine crystals with dark columns at 0.2 to 2 e/px, 8 to 26 in flat tops that are cut off.
_BY_CHANCE, _POISSON = 3.0, 2.0
# Steps of the usual range that pixels without noise are rounded to, as a file of 8 bits has them, and the deviation of noise, in such steps, below which there is none: rounding
# to 16 bits leaves 0.001, and 50 electrons per pixel beside a step of ten times the contrast 0.2. What columns leave is judged by the noise; without any, oxygen of one perovskite in
# eight was taken for the roughness of a fit.
_STEPS, _NO_NOISE = 256, 0.02
_CHUNK = Budget(1 << 20, 1 << 26)  # pixels that are looked at together
_NORMAL = 0.6745  # median of the absolute value of a normal variable of unit deviation
_SAMPLE = 250_000  # pixels that tell the range of an image, of which 250 lie beyond either outer quantile


def pixels_and_mask(
    image: Any, mask: Any, device: DeviceLike
) -> tuple[Float[Tensor, "h w"], Pair, float | None]:
    """Pixels, not finite where they are left out; their aspect; the side in nm of a square one of the same area.

    Left out are those of the mask, of the image's own, and those that look unmeasured, unless the mask is False.

    Raises
    ------
    InputError
        If the image has fewer than 16 pixels a side or no finite pixel, or the mask does not fit.
    """
    pixels = pixels_of(image)
    if min(pixels.shape) < 16:
        raise InputError(
            f"image must have at least 16 pixels a side, got {tuple(pixels.shape)}; columns cannot be told from noise"
        )
    values = as_tensor(
        np.ma.getdata(pixels) if isinstance(pixels, np.ndarray) else pixels, device=device
    ).detach()
    masks = [one for one in (mask, getattr(image, "mask", None)) if one is not None and one is not False]
    if isinstance(pixels, np.ma.MaskedArray):
        masks.append(np.ma.getmaskarray(pixels))
    for one in masks:
        hidden = as_tensor(one, dtype=None, name="mask")
        if hidden.dtype != torch.bool or hidden.shape != values.shape:
            raise InputError(
                f"mask must be boolean and have the image's shape {tuple(values.shape)}, true where pixels are to be "
                f"ignored; got {hidden.dtype} {tuple(hidden.shape)}"
            )
        values = torch.where(hidden.to(values.device), torch.nan, values)
    if not bool(torch.isfinite(values).any()):
        raise InputError("image has no finite pixel: all are NaN or infinite; check how it was exported")
    if mask is not False:
        h, w = values.shape
        found = unmeasured(lambda box: values[box[0] : box[2], box[1] : box[3]], (h, w))
        if found is not None:
            values = values.masked_fill(torch.from_numpy(found.mask).to(values.device), torch.nan)
    size = getattr(image, "pixel_size_nm", None)
    if size is None:
        return values, (1.0, 1.0), None
    side = float(np.sqrt(size[0] * size[1]))
    return values, (side / size[0], side / size[1]), side


def levels(windows: Float[Tensor, "t h w"], *, axes: Pair, limit: float | None, dark: bool) -> ImageModel:
    """Mean, standard deviation and usual range of the pixels, whether rows differ, whether the background slopes, and whether there is noise; the rest of the model is still to be measured."""
    flat = windows.flatten()
    sample = flat[:: max(1, len(flat) // _SAMPLE)]
    sample = torch.where(torch.isfinite(sample), sample, torch.nan).double()
    shares = sent([0.001, 0.02, 0.5, 0.98, 0.999], sample)
    low, lower, middle, upper, high = sample.nanquantile(shares).tolist()
    if math.isnan(middle):
        raise InputError(
            "image has no finite pixel where it was looked at: all are NaN or infinite; check how it was exported"
        )
    reach = _OUTLIER * (high - low) if high > low else np.inf
    if _LONE * (upper - lower) < min(reach, max(high - middle, middle - low)) and _alone(
        windows, middle, _LONE * (upper - lower)
    ):
        reach = _LONE * (upper - lower)
    usual = torch.isfinite(windows) & ((windows - middle).abs() <= reach)
    count = usual.sum()
    mean = torch.where(usual, windows, 0.0).sum(dtype=torch.float64) / count
    beyond = torch.where(usual, windows - mean.to(windows.dtype), 0.0)
    scale = (beyond.square_().sum(dtype=torch.float64) / count).sqrt()
    # Of a constant image rounding may leave some deviation.
    ends = (
        torch.where(usual, windows, torch.inf).min(),
        torch.where(usual, windows, -torch.inf).max(),
    )
    known = torch.where(usual, windows, mean.to(windows.dtype)).float()
    told = (
        *hum_of(known, usual),
        _slope_of((known - mean.float()) / scale.float(), usual),
        _noise_of(known, usual),
    )
    numbers = torch.stack([mean, scale, *(one.double() for one in (*ends, *told))]).tolist()
    level, deviation, least, most, power, slow, slope, noise = numbers
    if not deviation > 0 or least == most:
        raise InputError(
            "image is constant where it was looked at: it has no columns; check that the right channel was read"
        )
    usual_range = (middle - reach, middle + reach)
    hum = power > HUM
    # Rows that drift are no slope once what is added to them is taken off.
    slopes = slope > _SLOPE and not hum
    drifts = not hum and slow > HUM and float(hum_of(known, usual, lines=False)[1]) > HUM
    step = (high - low) / _STEPS
    return ImageModel(
        0.0,
        level,
        deviation,
        usual_range,
        limit,
        dark,
        axes,
        hum=hum,
        drifts=drifts,
        slopes=slopes,
        rounding=step / deviation if noise < _NO_NOISE * step else 0.0,
    )


def _noise_of(windows: Float[Tensor, "t h w"], usual: Bool[Tensor, "t h w"]) -> Float[Tensor, ""]:
    """Deviation of the noise, by the median of what fourth differences along both axes leave: next to nothing of a column.

    Differences across 2 x 2 pixels, as `noise_level` has them, leave more of columns than an image without noise may have.
    Where that is nothing at all, as in a fill or a vacuum that was clipped, no noise is told; infinite if it is so everywhere.
    """
    # The sum of squares of their weights along an axis makes them as large as the noise.
    left = windows.diff(4, dim=1).diff(4, dim=2) / math.comb(8, 4)
    hidden = F.max_pool2d((~usual).float()[:, None], 5, 1)[:, 0] > 0
    told = torch.where(hidden | (left == 0), torch.nan, left.abs())
    return told.nanmedian().nan_to_num(torch.inf) / _NORMAL


def _slope_of(windows: Float[Tensor, "t h w"], usual: Bool[Tensor, "t h w"]) -> Float[Tensor, ""]:
    """Share of the variance of the usual pixels of windows that planes through them have, which a coarse image shows."""
    known = usual.to(windows.dtype)
    sums, share = (
        F.avg_pool2d(one[:, None], _POOL, ceil_mode=True)[:, 0] for one in (windows * known, known)
    )
    plane = plane_of(sums / share.clamp(min=1e-6), share)

    def variance(image: Tensor, weight: Tensor) -> Tensor:
        mean = (image * weight).sum((1, 2), keepdim=True) / weight.sum((1, 2), keepdim=True).clamp(min=1e-6)
        return ((image - mean).square() * weight).sum() / weight.sum().clamp(min=1e-6)

    return variance(plane, share) / variance(windows, known).clamp(min=torch.finfo(windows.dtype).tiny)


def _alone(windows: Float[Tensor, "t h w"], middle: float, reach: float) -> bool:
    """Whether the pixels farther than `reach` from the middle of the image stand alone, as no pixel of a column does."""
    if not reach > 0:
        return False
    height = torch.where(torch.isfinite(windows), windows - middle, 0.0).abs()
    far = height > reach
    alone = far & stand_alone(height)
    count, lone = torch.stack([far.sum(), alone.sum()]).tolist()
    return bool(count and lone >= _STANDS_ALONE * count)


def limit_of(pixels: Float[Tensor, "h w"], *, dark: bool = False) -> float | None:
    """The value at which pixels of an image are saturated; see `saturation_limit`."""
    return saturation_limit([top_values(some, dark=dark) for (some,) in _CHUNK.split(pixels)])


def top_values(pixels: Float[Tensor, "h w"], *, dark: bool = False) -> list[tuple[float, int]]:
    """The three greatest finite values that occur, the least ones of `dark` columns, and how often."""
    sign = -1.0 if dark else 1.0
    left = finite = torch.where(torch.isfinite(pixels), sign * pixels, -torch.inf)
    tops = [left.max()]
    for _ in range(2):
        left = torch.where(left == tops[-1], -torch.inf, left)
        tops.append(left.max())
    values = torch.stack(tops)
    counts = (finite.flatten() == values[:, None]).sum(1)
    found = torch.stack([values.double(), counts], dim=1).tolist()
    return [(sign * value, int(count)) for value, count in found if value > -np.inf]


def saturation_limit(tops: Sequence[list[tuple[float, int]]]) -> float | None:
    """The value at which pixels are saturated: more have it than the next, and not by chance; None where there is none.

    Where the next value is more frequent than the one after it, and the first by no more than numbers of electrons are, the values fall off from the first
    on: most pixels of a few electrons hold none, and none is what was counted.

    Parameters
    ----------
    tops : sequence
        What `top_values` gave for the parts of the image.
    """
    count: dict[float, int] = {}
    for found in tops:
        for value, times in found:
            count[value] = count.get(value, 0) + times
    descending = any(one[0][0] > one[1][0] for one in tops if len(one) > 1)
    ranked = sorted(count, reverse=descending)
    if len(ranked) < 2 or count[ranked[0]] < _AT_LIMIT or count[ranked[0]] <= count[ranked[1]]:
        return None
    if len(ranked) == 2:
        return ranked[0]
    first, second, third = (count[value] for value in ranked[:3])
    falls = second - third > _BY_CHANCE * math.sqrt(second + third)
    return None if falls and first * third < _POISSON * second**2 else ranked[0]
