"""How many electrons a unit of an image stands for, from the image alone."""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from torchmotif._arrays import as_tensor, keeps_digits, like, pixels_of
from torchmotif.errors import InputError
from torchmotif.image import Micrograph

__all__ = ["Gain", "estimate_gain"]

_REACH = 10  # pixels around a pixel that predict its expected value
_BLOCKS = 8  # per side, for the jackknife


@dataclass(frozen=True)
class Gain:
    """The scale of an image in detected electrons.

    Attributes
    ----------
    electrons_per_unit : float
        Electrons that one unit of the image stands for.
    error : float
        Standard error of it.
    offset : float
        Value of the image where no electron arrives.
    offset_error : float
        Standard error of it; 0 where the offset was given.
    electrons_per_pixel : float
        Mean detected electrons per pixel of the image.
    whiteness : float
        Noise power in a wider band of frequencies over that in a narrower, higher one: 1 for counts as they were
        detected. Well off 1, the image was filtered or resampled, or its structure reaches into the band, and the
        gain is not that of the detector.
    whiteness_tests : tuple of (float, float)
        The same for two bands, each with its standard error.
    """

    electrons_per_unit: float
    error: float
    offset: float
    offset_error: float
    electrons_per_pixel: float
    whiteness: float
    whiteness_tests: tuple[tuple[float, float], ...] = ((1.0, 1.0),)

    def counts(self, image: Any) -> Any:
        """The image in whole electrons, none below zero.

        Parameters
        ----------
        image : Micrograph or array of any shape

        Returns
        -------
        array, numpy or torch as `image` came, float32
        """
        pixels = image.data if isinstance(image, Micrograph) else image
        electrons = (as_tensor(pixels, name="image") - self.offset) * self.electrons_per_unit
        return like(torch.round(electrons).clamp(min=0), pixels)


@keeps_digits
def estimate_gain(image: Any, *, offset: float | None = None, order: int = 4) -> Gain:
    """Electrons per unit of an image, from how its noise grows with its intensity.

    For Poisson counts the local variance is a straight line over the local mean: its slope is one over the gain, and
    it meets zero at the offset (the photon transfer method; Janesick, 2007). The noise is what a finite difference
    along both axes leaves, at frequencies that neither the probe nor the jitter of lines reaches. The line is drawn
    with what the surroundings of each pixel predict as instrumental variable (Reiersøl, 1941), whose noise has no
    share in either; so low counts do not flatten it. The error comes from a jackknife over blocks of the image.

    Parameters
    ----------
    image : Micrograph or array of shape (h, w)
        As detected: not filtered, not resampled, not clipped.
    offset : float, optional
        Value of the image where no electron arrives; giving it makes the estimate more precise.
    order : int
        Of the finite difference, 2 to 8. A higher one rejects more of a structure that is only a few pixels wide
        and leaves less noise to measure.

    Returns
    -------
    Gain

    Raises
    ------
    InputError
        If the image is smaller than 96 pixels a side, the order is out of range, values are not finite, or the noise
        does not grow with the intensity.

    Examples
    --------
    >>> import torchmotif as tm
    >>> counts = tm.datasets.mose2((256, 256)).draw(generator=torch.Generator().manual_seed(0))
    >>> 0.8 < estimate_gain(counts).electrons_per_unit < 1.25
    True
    """
    pixels = pixels_of(image)
    if min(pixels.shape) < 96:
        raise InputError(f"image must have at least 96 pixels a side, got {tuple(pixels.shape)}")
    if not 2 <= order <= 8:
        raise InputError(f"order must lie between 2 and 8, got {order}")
    data = as_tensor(pixels, dtype=torch.float64)
    if not bool(torch.isfinite(data).all()):
        raise InputError("image has values that are not finite; crop them off first")
    if bool((data == data[0, 0]).all()):
        raise InputError(
            f"image has no noise that grows with its intensity: every pixel is {float(data[0, 0]):g}; "
            "give an image of counted electrons"
        )
    level = float(data.mean())
    data = data - level
    noise, weights = _noise_power(data, order)
    sums = _block_sums(*_aligned(noise, _blur(data, weights), _predicted(data, weights)))
    known = None if offset is None else offset - level
    whole = _line(sums.sum(0), known)
    spread = _jackknife(_line(sums.sum(0) - sums, known))
    slope, zero = (float(v) for v in whole)
    if not slope > 2 * float(spread[0]):
        raise InputError(
            "image has no noise that grows with its intensity: variance per unit of intensity is "
            f"{slope:.3g} ± {float(spread[0]):.3g}; it was filtered, or its noise is not that of counted electrons"
        )
    return Gain(
        electrons_per_unit=1 / slope,
        error=float(spread[0]) / slope**2,
        offset=level + zero,
        offset_error=float(spread[1]),
        electrons_per_pixel=-zero / slope,
        whiteness=float(_noise_power(data, order - 1)[0].mean() / _noise_power(data, order + 2)[0].mean()),
        whiteness_tests=tuple(_ratio(data, max(order - wider, 1), order + 2) for wider in (1, 2)),
    )


def _ratio(data: Float[Tensor, "h w"], wide: int, narrow: int) -> tuple[float, float]:
    """Noise power in a wider band over that in a narrower one, and its standard error."""
    maps = _aligned(*(_noise_power(data, order)[0] for order in (wide, narrow)))
    h, w = maps[0].shape
    sums = torch.stack(
        [one.reshape(_BLOCKS, h // _BLOCKS, _BLOCKS, w // _BLOCKS).sum((1, 3)) for one in maps]
    )
    sums = sums.flatten(1)
    others = sums.sum(1, keepdim=True) - sums
    ratio = others[0] / others[1]
    error = ((len(ratio) - 1) * ratio.var(0, correction=0)).sqrt()
    return float(sums[0].sum() / sums[1].sum()), max(float(error), 1e-6)


def _noise_power(data: Float[Tensor, "h w"], order: int) -> tuple[Float[Tensor, "_ _"], Tensor]:
    """Squared finite differences, scaled to the variance of white noise, and the weights (taps,) of that variance."""
    taps = torch.tensor([(-1) ** i * math.comb(order, i) for i in range(order + 1)], dtype=data.dtype)
    taps = (taps / taps.norm()).to(data.device)
    return _blur(data, taps).square(), taps.square()


def _blur(data: Float[Tensor, "h w"], taps: Float[Tensor, " t"]) -> Float[Tensor, "_ _"]:
    """The image filtered with `taps` along both axes, where they fit in."""
    rows = F.conv2d(data[None, None], taps[None, None, :, None])
    return F.conv2d(rows, taps[None, None, None, :])[0, 0]


def _predicted(data: Float[Tensor, "h w"], weights: Float[Tensor, " t"]) -> Float[Tensor, "_ _"]:
    """The blurred image at each pixel as its surroundings predict it: the best linear filter with a hole.

    The hole is as wide as the finite difference; the filter's normal equations hold the image's autocorrelation.
    """
    half = len(weights) // 2
    reach = _REACH + half
    shape = data.shape[0] + 2 * reach, data.shape[1] + 2 * reach
    spectrum = torch.fft.rfft2(data, s=shape)
    correlation = torch.fft.irfft2(spectrum.abs() ** 2, s=shape)
    span = torch.arange(-_REACH, _REACH + 1, device=data.device)
    row, col = (v.flatten() for v in torch.meshgrid(span, span, indexing="ij"))
    around = torch.maximum(row.abs(), col.abs()) > half
    row, col = row[around], col[around]
    normal = correlation[row[:, None] - row, col[:, None] - col]
    tap = torch.arange(len(weights), device=data.device) - half
    seen = correlation[(row[:, None] - tap)[:, :, None], (col[:, None] - tap)[:, None, :]]
    target = torch.einsum("kij,i,j->k", seen, weights, weights)
    normal.diagonal().add_(1e-6 * float(correlation[0, 0]))
    kernel = data.new_zeros(shape)
    kernel[-row, -col] = torch.linalg.solve(normal, target)
    predicted: Tensor = torch.fft.irfft2(spectrum * torch.fft.rfft2(kernel), s=shape)
    return predicted[_REACH : data.shape[0] - _REACH, _REACH : data.shape[1] - _REACH]


def _aligned(*maps: Tensor) -> tuple[Tensor, ...]:
    """The middle of each map, of the size of the smallest, in whole blocks."""
    h = min(m.shape[0] for m in maps) // _BLOCKS * _BLOCKS
    w = min(m.shape[1] for m in maps) // _BLOCKS * _BLOCKS
    return tuple(m[(m.shape[0] - h) // 2 :, (m.shape[1] - w) // 2 :][:h, :w] for m in maps)


def _block_sums(variance: Tensor, mean: Tensor, instrument: Tensor) -> Float[Tensor, "blocks 6"]:
    """Sums over each block of what the line needs."""
    terms = torch.stack(
        [torch.ones_like(mean), variance, mean, instrument, instrument * variance, instrument * mean]
    )
    h, w = mean.shape
    blocks = terms.reshape(6, _BLOCKS, h // _BLOCKS, _BLOCKS, w // _BLOCKS).sum((2, 4))
    return blocks.flatten(1).T


def _line(sums: Float[Tensor, "... 6"], offset: float | None) -> tuple[Tensor, Tensor]:
    """Slope of the variance over the mean, and the mean where it is zero."""
    n, variance, mean, instrument, with_variance, with_mean = sums.unbind(-1)
    if offset is not None:
        return variance / (mean - n * offset), torch.full_like(mean, offset)
    slope = (with_variance - instrument * variance / n) / (with_mean - instrument * mean / n)
    return slope, (mean - variance / slope) / n


def _jackknife(others: tuple[Tensor, Tensor]) -> Tensor:
    """Standard errors from the values with one block left out."""
    values = torch.stack(others)
    return ((values.shape[1] - 1) * values.var(1, correction=0)).sqrt()
