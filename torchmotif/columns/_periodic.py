"""What repeats in an image: the shortest vectors by which some windows of it equal themselves."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.fft import next_fast_len
from scipy.ndimage import maximum_filter
from torch import Tensor

from torchmotif._arrays import Budget, sent
from torchmotif.columns._filters import fast_shape, passed
from torchmotif.columns.model import Pair

__all__ = ["Repeats", "incoherent", "mean_of_cells", "repeats", "without_rows"]

# Of the constants below, 0.7 or 1.4 times their value moves the spacings of 20 simulated images of 15 kinds by more than 1 % only for
# _FULL (two of them with 0.7, three with 1.4) and _ROUND (one with 0.7): `benchmarks/columns/constants.py`.
_FIRST = 3.0  # pixels between columns to which the finest filter is tuned; each further one to twice as many
_LAGS = 36  # samples of the autocorrelation along each axis: six spacings of every filter but the finest
_CLEAR = 7.0  # standard deviations of what does not repeat, by which the autocorrelation rises at a vector
_NEAREST = 0.4  # of the spacing to which a filter is tuned: what is nearer is the width of a column
_SHARED = 0.1  # of the measured pixels: lags that fewer pairs tell count for nothing
_FULL = 0.7  # of the greatest such rise: the image there equals itself but for noise, strain and defects
_ROUND = 0.12  # smaller over greater curvature of a rise: stripes and edges make ridges
_ALONE = 0.2  # weight of a vector without a second one
_APART = 0.4  # sine of the least angle between the two vectors
# Log of the ratio of two lengths that are the same; share of a rise below which another beside it does not count.
_ALIKE, _WEAK = 0.03, 0.2
_OWN = 0.8  # of the rise of all windows together: a window that rises as much by itself is taken by itself
_CHUNK = Budget(1 << 19, 1 << 25)  # pixels of windows whose autocorrelations are made at a time
_EULER = 0.5772  # log of an exponential variable's mean less the mean of its log
_PARABOLA = np.array([[-1, 0], [1, 0], [0, -1], [0, 1], [-1, -1], [-1, 1], [1, -1], [1, 1]])


@dataclass(frozen=True)
class Repeats:
    """The two shortest vectors by which an image equals itself.

    Attributes
    ----------
    vectors : array of shape (1 or 2, 2)
        (row, col) in pixels; one where the other is longer than was looked.
    rise : float
        Autocorrelation there, in standard deviations of what does not repeat.
    """

    vectors: np.ndarray
    rise: float


def repeats(
    flat: Float[Tensor, "t h w"], measured: Float[Tensor, "t h w"], axes: Pair
) -> list[Repeats | None]:
    """For every window the vectors by which it repeats, by its own autocorrelation or the mean one; None where it does not.

    Parameters
    ----------
    flat : Tensor of shape (t, h, w)
        Without what changes slowly, 0 where a pixel was not measured.
    measured : Tensor of shape (t, h, w)
        1 where it was, 0 elsewhere.
    axes
        See `ImageModel`.
    """
    maps, scales = _maps(flat, measured, axes)
    *own, common = [_best(one, scales, axes) for one in maps]
    return [_stronger(one, common) for one in own]


def _best(maps: np.ndarray, scales: list[float], axes: Pair) -> Repeats | None:
    """That which rises most of all scales; without the rows' means where with them it is another."""
    found = [
        [_shortest(m, number, scale, axes) for number, (m, scale) in enumerate(zip(one, scales, strict=True))]
        for one in maps
    ]
    plain, striped = (max((r for r in one if r is not None), key=_rise, default=None) for one in found)
    if plain is None or striped is None:
        return striped if plain is None or len(plain.vectors) == 1 else plain  # stripes have one vector
    alike = abs(math.log(np.hypot(*plain.vectors[0]) / np.hypot(*striped.vectors[0]))) < _ALIKE
    return plain if alike or striped.rise < _WEAK * plain.rise else striped


def _rise(one: Repeats) -> float:
    return one.rise


def _stronger(own: Repeats | None, common: Repeats | None) -> Repeats | None:
    """Of one crystal all windows together say more; of several each says it best itself."""
    if own is None or common is None:
        return common if own is None else own
    return own if own.rise > _OWN * common.rise else common


def _maps(flat: Tensor, measured: Tensor, axes: Pair) -> tuple[np.ndarray, list[float]]:
    """Autocorrelations (t + 1, 2, s, k, k) with and without the rows' means, the last of their mean; pixels per lag.

    They are in standard deviations of what does not repeat.
    """
    parts = [_own_maps(one, seen, axes) for one, seen in _CHUNK.split(flat, measured)]
    every = torch.cat([one for one, _ in parts], dim=1)
    every = torch.cat([every, every.mean(1, keepdim=True) * math.sqrt(len(flat))], dim=1)
    return every.transpose(0, 1).cpu().numpy(), parts[0][1]


def _own_maps(flat: Tensor, measured: Tensor, axes: Pair) -> tuple[Float[Tensor, "2 t s k k"], list[float]]:
    """Of some windows each its own."""
    _, h, w = flat.shape
    reach = min(h, w) // 2
    count = max(1, math.floor(math.log2(max(reach / _FIRST, 2.0))))
    unit = 2 ** max(count - 1, 1)
    least = 4 * (_LAGS + 1)
    size = tuple(unit * int(next_fast_len(math.ceil(max(n + reach, least) / unit))) for n in (h, w))
    both = torch.cat([flat, without_rows(flat, measured)])
    area = measured.sum((1, 2)).clamp(min=1)[:, None, None]
    power = torch.fft.rfft2(both, s=size).abs().square() / area.repeat(2, 1, 1)
    overlap = torch.fft.irfft2(torch.fft.rfft2(measured, s=size).abs().square(), s=size) / area
    # What is left of the means of the rows is no power of noise: their images have that of the others.
    noisy = incoherent(power[: len(flat)], axes).repeat(2, 1, 1)
    maps, scales = [], []
    for number in range(count):
        scale = 2 ** max(number - 1, 0)
        if min(size) // (2 * scale) - 1 < _LAGS:
            break
        spacing = _FIRST * 2**number
        small = (size[0] // scale, size[1] // scale)
        gain = passed(small, (spacing * axes[0] / scale, spacing * axes[1] / scale), flat).square()
        part, floor = (_low(each, small) for each in (power, noisy))
        lags = torch.fft.irfft2((part - floor) * gain, s=small).roll((_LAGS, _LAGS), dims=(1, 2))
        noise = (2 * (floor * gain).square().mean((1, 2)) / area.repeat(2, 1, 1)[:, 0, 0]).sqrt() * scale
        shared = overlap[:, ::scale, ::scale].roll((_LAGS, _LAGS), dims=(1, 2))
        lags, shared = (each[:, : 2 * _LAGS + 1, : 2 * _LAGS + 1] for each in (lags, shared))
        # The fewer pairs of pixels tell a lag, the more it is moved by noise.
        rise = lags / shared.clamp(min=_SHARED).sqrt().repeat(2, 1, 1) / noise[:, None, None].clamp(min=1e-12)
        lags = torch.where(shared.repeat(2, 1, 1) >= _SHARED, rise, 0.0)
        maps.append(lags)
        scales.append(float(scale))
    return torch.stack(maps, dim=1).unflatten(0, (2, len(flat))), scales


def without_rows(flat: Float[Tensor, "t h w"], measured: Float[Tensor, "t h w"]) -> Float[Tensor, "t h w"]:
    """Images without the mean of each row, where hum and flicker are."""
    mean = flat.sum(2, keepdim=True) / measured.sum(2, keepdim=True).clamp(min=1)
    return (flat - mean) * measured


def incoherent(power: Tensor, axes: Pair) -> Tensor:
    """Power of what does not repeat: the same in all directions, from the mean logarithm, which peaks hardly move."""
    _, rows, cols = power.shape
    fy = torch.fft.fftfreq(rows, device=power.device)[:, None] * axes[0]
    fx = torch.arange(cols, device=power.device)[None] / (2 * (cols - 1)) * axes[1]
    ring = (torch.hypot(fy, fx) * min(rows, 2 * (cols - 1)) / 2).round().long().flatten()
    most = int(math.hypot(*axes) * min(rows, 2 * (cols - 1)) / 4) + 3
    log = power.clamp(min=torch.finfo(power.dtype).tiny).log().flatten(1)
    total = log.new_zeros(len(log), most).index_add_(1, ring, log)
    number = log.new_zeros(most).index_add_(0, ring, torch.ones_like(log[0]))
    mean = (total / number.clamp(min=1) + _EULER).exp()
    return mean[:, ring].view_as(power)


def _low(power: Tensor, small: tuple[int, int]) -> Tensor:
    """The part of a power spectrum that an image of fewer pixels has."""
    half = small[0] // 2
    part = torch.cat([power[:, :half], power[:, -half:]], dim=1) if small[0] < power.shape[1] else power
    return part[:, :, : small[1] // 2 + 1]


def _shortest(lags: np.ndarray, number: int, scale: float, axes: Pair) -> Repeats | None:
    """The two shortest independent vectors at which an autocorrelation (k, k) is as high as anywhere."""
    top = lags == maximum_filter(lags, 3)
    top[[0, -1]] = top[:, [0, -1]] = False
    top[_LAGS, _LAGS] = False
    at = np.argwhere(top & (lags > _CLEAR))
    if len(at) == 0:
        return None
    around = lags[tuple((at[:, None] + _PARABOLA).transpose(2, 0, 1))]
    middle = lags[tuple(at.T)]
    up, down, left, right, a, b, c, d = around.T
    rr, cc, rc = up + down - 2 * middle, left + right - 2 * middle, (a + d - b - c) / 4
    swing = np.hypot((rr - cc) / 2, rc)
    greater, smaller = (rr + cc) / 2 - swing, (rr + cc) / 2 + swing
    shift = np.stack(
        [0.5 * (up - down) / np.minimum(rr, -1e-9), 0.5 * (left - right) / np.minimum(cc, -1e-9)], 1
    )
    vectors = (at - _LAGS + np.clip(shift, -0.5, 0.5)) * scale
    round_ = (smaller < _ROUND * greater) & (greater < 0)
    length = np.hypot(*(vectors / axes).T)
    round_ &= length > _NEAREST * _FIRST * 2**number  # beyond the peak in the middle
    if not round_.any():
        return None
    full = round_ & (middle >= _FULL * middle[round_].max())
    vectors = vectors[full][np.argsort(length[full])]
    sine = np.abs(vectors[0, 0] * vectors[:, 1] - vectors[0, 1] * vectors[:, 0]) / (
        np.hypot(*vectors[0]) * np.hypot(*vectors.T)
    )
    second = np.flatnonzero(sine > _APART)[:1]
    chosen = vectors[[0, *second]]
    rise = _least(lags, chosen / scale)
    return Repeats(chosen, rise) if rise > _CLEAR else None


def _least(lags: np.ndarray, vectors: np.ndarray) -> float:
    """Least rise of an autocorrelation at some sums of the vectors: an edge makes it high at few of them."""
    sums = np.array([[1, 0], [0, 1], [1, 1], [1, -1]]) if len(vectors) == 2 else np.array([[1], [2]])
    at = sums @ vectors
    at = np.round(at[(np.abs(at) < _LAGS).all(1)]).astype(int) + _LAGS
    least = float(maximum_filter(lags, 3)[tuple(at.T)].min())
    return least if len(vectors) == 2 else _ALONE * least


def mean_of_cells(
    flat: Float[Tensor, "t h w"], measured: Float[Tensor, "t h w"], vectors: list[np.ndarray], cells: int
) -> tuple[Float[Tensor, "t h w"], float]:
    """Every pixel's mean with those up to some cells away along each vector, and how many these are."""
    _, h, w = flat.shape
    both = [np.vstack([one, np.zeros((2 - len(one), 2))]) for one in vectors]
    reach = math.ceil(cells * max(np.abs(one).sum(0).max() for one in both))
    size = fast_shape((h + reach, w + reach))
    fy = torch.fft.fftfreq(size[0], device=flat.device)[:, None]
    fx = torch.fft.rfftfreq(size[1], device=flat.device)[None, :]

    def means(image: Tensor, mask: Tensor, steps: Tensor) -> Tensor:
        phase = 2 * math.pi * (steps[:, :, 0] * fy + steps[:, :, 1] * fx)
        comb = sum((phase * n).cos() for n in range(1, cells + 1)) * 2 + 1
        comb = comb[:, 0] * torch.where(steps[:, 1].abs().sum(1) > 0, comb[:, 1], 1.0)
        spectra = (torch.fft.rfft2(one, s=size) * comb for one in (image, mask))
        total, count = (torch.fft.irfft2(one, s=size)[:, :h, :w] for one in spectra)
        mean: Tensor = total / count.clamp(min=1.0)
        return mean

    steps = sent(np.stack(both), flat)[..., None, None]
    mean = torch.cat([means(*some) for some in _CHUNK.split(flat, measured, steps)])
    return mean, float(np.mean([(2 * cells + 1) ** len(one) for one in vectors]))
