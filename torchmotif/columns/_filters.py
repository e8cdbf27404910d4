"""Filters of the columns' scale: blur, matched filter, the level of the noise before and after."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from scipy.fft import next_fast_len
from torch import Tensor

from torchmotif._arrays import sent
from torchmotif.columns.model import Pair

__all__ = [
    "blur",
    "fast_shape",
    "filter_gain",
    "level_between_peaks",
    "matched_filter",
    "maxima_density",
    "measured_mean",
    "noise_level",
    "passed",
    "plane_of",
    "reach_of",
    "significance",
    "without_slow",
]

_LOOKED_AT, _FEW = 10_000, 32  # pixels that tell whether an image has few levels, and how many those are
_AT_A_TIME = 4_000_000  # values of the kernel, tilted in as many ways
_ROUNDED, _TINY = (
    1e-5,
    1e-30,
)  # of the greatest blurred weight: a hundred times what transforms of float32 are rounded by
_SLOW = 0.5  # lattice constants: a blur of this width has none of its orders
_NARROW, _WIDE = 0.16, 0.45  # widths of the two Gaussians of the matched filter, in spacings


def blur(data: Float[Tensor, "t h w"], sigma: float, axes: Pair = (1.0, 1.0)) -> Float[Tensor, "t h w"]:
    """Gaussian blur with mirrored borders; `axes` are the pixels along (rows, columns) per unit of `sigma`."""
    return _blurred([data], sigma, axes)[0]


def _blurred(images: Sequence[Float[Tensor, "t h w"]], sigma: float, axes: Pair) -> list[Tensor]:
    """See `blur`, of several of one size."""
    h, w = images[0].shape[-2:]
    padded = [_mirrored(image, math.ceil(3 * sigma * max(axes))) for image in images]
    margin, shape = padded[0][1], fast_shape(padded[0][0].shape[-2:])
    transfer = _transfer(shape, (sigma * axes[0], sigma * axes[1]), images[0])
    spectra = (torch.fft.rfft2(one, s=shape) * transfer for one, _ in padded)
    return [torch.fft.irfft2(one, s=shape)[:, margin : margin + h, margin : margin + w] for one in spectra]


def measured_mean(
    image: Float[Tensor, "t h w"],
    measured: Bool[Tensor, "t h w"] | Float[Tensor, "t h w"],
    sigma: float,
    axes: Pair,
) -> Float[Tensor, "t h w"]:
    """Blur of the pixels that were measured, or of all with weights, as wide along rows as along columns."""
    weight = measured.to(image.dtype)
    mean, share = _blurred([image * weight, weight], sigma, axes)
    if measured.dtype == torch.bool:
        return mean / share.clamp(min=0.1)
    return mean / torch.maximum(share, _ROUNDED * share.amax()).clamp(min=_TINY)


def without_slow(image: Tensor, inside: Tensor, constant: float) -> Tensor:
    """An image without what some of its pixels, or all with weights, show to change little within a lattice constant."""
    return image - measured_mean(image, inside, _SLOW * constant, (1.0, 1.0))


def plane_of(image: Float[Tensor, "t h w"], weight: Float[Tensor, "t h w"]) -> Float[Tensor, "t h w"]:
    """The plane of least squares through the pixels of each image that have a weight."""
    _, h, w = image.shape
    row, col = (torch.linspace(-1, 1, n, device=image.device, dtype=image.dtype) for n in (h, w))
    terms = torch.stack([torch.ones_like(image[0]), row[:, None].expand(h, w), col.expand(h, w)]).flatten(1)
    known = (terms * weight.flatten(1)[:, None]).double()
    normal = known @ terms.double().mT
    normal = normal + 1e-6 * h * w * torch.eye(3, dtype=normal.dtype, device=normal.device)
    right = known @ image.flatten(1).double()[..., None]
    plane: Tensor = (torch.linalg.solve_ex(normal, right).result.to(image.dtype).mT @ terms).view_as(image)
    return plane


def reach_of(spacing: float) -> int:
    """Pixels over which the matched filter for columns `spacing` apart reaches."""
    return math.ceil(3 * _WIDE * spacing)


def matched_filter(
    data: Float[Tensor, "t h w"], spacing: float, axes: Pair, zoom: int
) -> Float[Tensor, "t h2 w2"]:
    """Difference of Gaussians of the columns' scale, on a grid `zoom` times finer.

    `axes` are the pixels along (rows, columns) per unit in which the spacing is given.
    """
    padded, margin = _mirrored(data, reach_of(spacing))
    h, w = fast_shape(padded.shape[-2:])
    narrow, wide = (
        _transfer((h, w), (share * spacing * axes[0], share * spacing * axes[1]), data)
        for share in (_NARROW, _WIDE)
    )
    spectrum = torch.fft.rfft2(padded, s=(h, w)) * (narrow - wide)
    if zoom > 1:  # zeros at the high frequencies: exact interpolation of the band-limited image
        fine = spectrum.new_zeros(len(data), h * zoom, w * zoom // 2 + 1)
        half = h // 2
        fine[:, : half + 1, : w // 2 + 1] = spectrum[:, : half + 1]
        fine[:, -(h - half - 1) :, : w // 2 + 1] = spectrum[:, half + 1 :]
        spectrum = fine * zoom**2
    filtered: Tensor = torch.fft.irfft2(spectrum, s=(h * zoom, w * zoom))
    (h, w), first = data.shape[-2:], margin * zoom
    return filtered[:, first : first + h * zoom, first : first + w * zoom]


def passed(shape: tuple[int, int], spacing: Pair, like_: Float[Tensor, "..."]) -> Float[Tensor, "h w2"]:
    """What the matched filter for columns so many pixels apart along rows and columns does to `torch.fft.rfft2` of an image."""
    narrow, wide = (
        _transfer(shape, (share * spacing[0], share * spacing[1]), like_) for share in (_NARROW, _WIDE)
    )
    return narrow - wide


def noise_level(data: Float[Tensor, "t h w"]) -> Float[Tensor, " t"]:
    """Standard deviation of white noise in every tile, from the differences across 2 x 2 pixels (after Donoho 1994).

    The root mean square of the lower nine tenths, which columns and X-ray spikes hardly touch; of all where the images
    have few levels, as counts of a few electrons have, whose noise is no Gaussian.
    """
    corner = (data[:, 1:, 1:] + data[:, :-1, :-1] - data[:, 1:, :-1] - data[:, :-1, 1:]).abs().flatten(1)
    if _is_coarse(data):
        return corner.square().mean(1).div(4).sqrt()
    count = math.ceil(0.9 * corner.shape[1])
    limit = corner.kthvalue(count, dim=1, keepdim=True).values
    below = corner < limit  # the rest of the lower nine tenths are equal to the limit
    square = (corner.square() * below).sum(1) + (count - below.sum(1)) * limit[:, 0].square()
    share = 0.6232  # of a Gaussian's variance that lies in its lower nine tenths
    return (square / count).div(4 * share).sqrt()


def noise_around(data: Float[Tensor, "t h w"], sigma: float) -> Float[Tensor, "t h w"]:
    """Variance of white noise around each pixel, from the differences across 2 x 2 pixels blurred by `sigma`."""
    corner = data[:, 1:, 1:] + data[:, :-1, :-1] - data[:, 1:, :-1] - data[:, :-1, 1:]
    variance = blur(F.pad(corner.square() / 4, (0, 1, 0, 1)), sigma)
    return variance.clamp(min=torch.finfo(data.dtype).eps)


def level_between_peaks(data: Float[Tensor, "t h w"]) -> Float[Tensor, " t"]:
    """Standard deviation of white noise in every tile, from the median of its power, which the few peaks of a crystal hardly move.

    For columns so near that 2 x 2 pixels hold most of what is between them.
    """
    _, h, w = data.shape
    power = torch.fft.rfft2(data - data.mean((1, 2), keepdim=True)).abs().square().flatten(1)
    level: Tensor = (power.median(dim=1).values / (math.log(2) * h * w)).sqrt()
    return level


def _is_coarse(data: Tensor) -> bool:
    """Whether pixels have the few levels of single electrons."""
    return len(data.flatten()[:_LOOKED_AT].unique()) < _FEW


def significance(
    height: Float[Tensor, " n"], data: Float[Tensor, "..."], level: Tensor, spacing: float, axes: Pair
) -> Float[Tensor, " n"]:
    """Heights of maxima in standard deviations of the filtered noise, whose level before the filter is `level`.

    Single electrons make no Gaussian noise. Where pixels have the few levels of single electrons, the height is
    given that is as rare in Gaussian noise, by the saddle point of the Poisson process (Daniels 1954).
    """
    noise = (level * filter_gain(spacing)).clamp(min=torch.finfo(height.dtype).tiny)
    levels = data.flatten()[:_LOOKED_AT].unique()
    if len(levels) >= _FEW or len(levels) < 2:
        return height / noise
    electron = levels.diff().min().double()
    rate = (level.double() / electron).square()
    side = 2 * reach_of(spacing * max(axes)) + 1
    point = data.new_zeros(side, side)
    point[side // 2, side // 2] = 1
    kernel = matched_filter(point[None], spacing, axes, 1).double().flatten() * electron
    tilt = torch.linspace(0, 60, 500, dtype=torch.float64, device=data.device) / kernel.max()
    sums = []
    for some in tilt.split(max(1, _AT_A_TIME // len(kernel))):
        grown = torch.exp(some[:, None] * kernel) - 1
        sums.append(torch.stack([(grown - some[:, None] * kernel).sum(dim=1), (kernel * grown).sum(dim=1)]))
    cumulant, reached = (rate * torch.cat(sums, dim=1)).unbind()
    rarity = (2 * (tilt * reached - cumulant)).clamp(min=0).sqrt()
    after = torch.searchsorted(reached, height.double().clamp(max=reached[-1])).clamp(1, len(tilt) - 1)
    share = (height - reached[after - 1]) / (reached[after] - reached[after - 1])
    score: Tensor = rarity[after - 1] + share.clamp(0, 1) * (rarity[after] - rarity[after - 1])
    return score.to(height.dtype)


def filter_gain(spacing: float) -> float:
    """Standard deviation after the matched filter of white noise that had 1 before it."""
    a, b = _variances(spacing)
    return math.sqrt((1 / a + 1 / b - 4 / (a + b)) / (4 * math.pi))


def maxima_density(height: Float[Tensor, " n"], spacing: float) -> Float[Tensor, " n"]:
    """Expected maxima per pixel higher than `height` standard deviations in matched-filtered noise.

    For heights above about 1.5; after Longuet-Higgins (1957), in the form of Adler (1981).
    """
    a, b = _variances(spacing)
    second = (1 / a**2 + 1 / b**2 - 8 / (a + b) ** 2) / (1 / a + 1 / b - 4 / (a + b)) / 2
    density: Tensor = second * height * torch.exp(-(height**2) / 2) / (2 * math.pi) ** 1.5
    return density


def _variances(spacing: float) -> Pair:
    return (_NARROW * spacing) ** 2, (_WIDE * spacing) ** 2


def _mirrored(data: Tensor, margin: int) -> tuple[Tensor, int]:
    margin = min(margin, min(data.shape[-2:]) - 1)
    return F.pad(data[:, None], (margin,) * 4, mode="reflect")[:, 0], margin


def fast_shape(shape: Sequence[int]) -> tuple[int, int]:
    """Least size of a transform that is fast: of small factors up to five times, and even, which is twice as fast as odd."""
    h, w = (2 * int(next_fast_len(math.ceil(length / 2))) for length in shape)
    return h, w


def _transfer(shape: tuple[int, int], sigma: Pair, like_: Tensor) -> Tensor:
    """Of a Gaussian, at the frequencies of `torch.fft.rfft2`, whose squares are computed on the host: a few operations less for a device."""
    # In these units the exponent is the sum of the squared frequencies.
    rows, cols = (1 / (math.sqrt(2) * math.pi * max(one, 1e-9)) for one in sigma)
    every = (torch.fft.fftfreq, shape[0], rows), (torch.fft.rfftfreq, shape[1], cols)
    squares = [of(length, unit, dtype=like_.dtype).square() for of, length, unit in every]
    down, across = sent(torch.cat(squares), like_).tensor_split([shape[0]])
    return torch.exp(-(down[:, None] + across))
