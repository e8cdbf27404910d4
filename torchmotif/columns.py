"""Atomic columns: detection on a matched-filtered image, positions to a fraction of a pixel."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy.spatial import cKDTree
from torch import Tensor

from torchmotif._arrays import DeviceLike, as_tensor, like, pixels_of
from torchmotif.errors import InputError

__all__ = ["Columns", "fill_invalid", "find_columns"]

_FINE = 10.0  # detection works on a grid of at least this many pixels between columns


@dataclass(frozen=True, eq=False)
class Columns:
    """Atomic columns of one image.

    Attributes
    ----------
    positions : array of shape (n, 2), float64
        (row, col) in pixels, ordered by row, then column.
    intensities : array of shape (n,), float32
        Height of each column in the matched-filtered image, in the image's units.
    spacing : float
        Characteristic distance between neighbouring columns in pixels.
    """

    positions: Any
    intensities: Any
    spacing: float

    def __len__(self) -> int:
        """Count the columns."""
        return len(self.positions)

    def __repr__(self) -> str:
        """Say how many there are and how far apart."""
        return f"Columns({len(self)} columns, {self.spacing:.2f} px apart)"


def find_columns(
    image: Any,
    *,
    spacing: float | None = None,
    threshold: float | None = None,
    polarity: Literal["bright", "dark"] = "bright",
    device: DeviceLike = None,
) -> Columns:
    """Find the atomic columns of an image.

    Parameters
    ----------
    image : Micrograph or array of shape (h, w)
        Pixels that are not finite are taken as the mean of the finite ones.
    spacing : float, optional
        Distance between neighbouring columns in pixels; by default the first ring of the image's autocorrelation.
    threshold : float, optional
        Least height of a column in the matched-filtered image, in the image's units; by default 4.5 standard
        deviations of the noise, and a tenth of the upper decile of all maxima.
    polarity : {"bright", "dark"}
        Whether columns are brighter (dark field) or darker (bright field) than what surrounds them.
    device : str or torch.device, optional

    Returns
    -------
    Columns
        Arrays are numpy or torch as `image` came. None found gives arrays of length 0.

    Raises
    ------
    InputError
        If the image is smaller than 16 pixels a side, constant, or has no finite pixel; or if no spacing can be
        seen in it and none is given.

    Examples
    --------
    >>> import torchmotif as tm
    >>> specimen = tm.datasets.mose2((128, 128), vacancy_rate=0.0)
    >>> tm.find_columns(specimen.image).spacing > 5
    True
    """
    pixels = pixels_of(image)
    if polarity not in {"bright", "dark"}:
        raise InputError(f"polarity must be 'bright' or 'dark', got {polarity!r}")
    if min(pixels.shape) < 16:
        raise InputError(
            f"image must have at least 16 pixels a side, got {tuple(pixels.shape)}; columns cannot be told from noise"
        )
    data = fill_invalid(as_tensor(pixels, device=device))
    if bool(data.max() == data.min()):
        raise InputError("image is constant: it has no columns; check that the right channel was read")
    if polarity == "dark":
        data = -data
    scale = data.std()
    data = (data - data.mean()) / scale
    if spacing is None:
        spacing = _nearest_neighbours(data, characteristic_spacing(data))
    elif not spacing >= 2:
        raise InputError(f"spacing must be at least 2 pixels, got {spacing}")
    positions, height = _detect(data, spacing, None if threshold is None else threshold / float(scale))
    return Columns(like(positions, pixels), like(height * scale, pixels), float(spacing))


def fill_invalid(data: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """The image with every pixel that is not finite replaced by the mean of the finite ones.

    Raises
    ------
    InputError
        If no pixel is finite.
    """
    finite = torch.isfinite(data)
    if bool(finite.all()):
        return data
    if not bool(finite.any()):
        raise InputError("image has no finite pixel: all are NaN or infinite; check how it was exported")
    return torch.where(finite, data, data[finite].mean())


def characteristic_spacing(data: Float[Tensor, "h w"]) -> float:
    """Distance between neighbouring columns in pixels: the first ring of the radial mean of the autocorrelation.

    Raises
    ------
    InputError
        If there is no ring.
    """
    h, w = data.shape
    flat = data - _blur(data, max(min(h, w) / 8, 4.0))
    spectrum = torch.fft.rfft2(flat, s=(2 * h, 2 * w))
    reach = min(h, w) // 2
    correlation = torch.fft.irfft2(spectrum.abs() ** 2)
    correlation = torch.roll(correlation, (reach, reach), dims=(0, 1))[: 2 * reach + 1, : 2 * reach + 1]
    axis = torch.arange(-reach, reach + 1, device=data.device, dtype=data.dtype)
    overlap = (h - axis.abs())[:, None] * (w - axis.abs())[None, :]
    radius = torch.hypot(axis[:, None], axis[None, :])
    steps = 2  # bins per pixel
    which = torch.round(radius * steps).long().flatten()
    keep = which <= reach * steps
    count = torch.bincount(which[keep]).to(data.dtype)
    total = torch.bincount(which[keep], (correlation / overlap).flatten()[keep])
    profile = total / count.clamp(min=1)
    profile = torch.where(count > 0, profile, profile.roll(1))
    profile = F.avg_pool1d(F.pad(profile[None, None], (1, 1), mode="replicate"), 3, 1)[0, 0]
    values = profile[2 * steps :]  # the noise is white: it ends after the zero lag
    lowest = torch.cummin(values, 0).values
    rise = values - lowest
    peak = (values[1:-1] > values[:-2]) & (values[1:-1] >= values[2:])
    high = rise[1:-1] > 0.1 * rise.max()
    found = torch.nonzero(peak & high).flatten()
    if len(found) == 0:
        raise InputError(
            "image shows no regular spacing of columns; give spacing=... in pixels if you know that there is one"
        )
    i = int(found[0]) + 1
    left, middle, right = (float(v) for v in values[i - 1 : i + 2])
    curvature = left - 2 * middle + right
    shift = 0.5 * (left - right) / curvature if curvature != 0 else 0.0
    return (i + 2 * steps + shift) / steps


def _nearest_neighbours(data: Tensor, spacing: float) -> float:
    """Distance between nearest columns, when `spacing` is that of the strongest ring, often the lattice constant.

    A filter finer than the ring splits what the ring holds together; it is refined until nothing splits further.
    """
    for _ in range(4):
        positions, _ = _detect(data, max(0.6 * spacing, 2.0), None)
        if len(positions) < 3:
            return spacing
        points = positions.cpu().numpy()
        distances, _ = cKDTree(points).query(points, k=[2])
        nearest = float(np.median(distances))
        if nearest > 0.85 * spacing:
            return spacing
        spacing = max(nearest, 2.0)
    return spacing


def _detect(data: Tensor, spacing: float, threshold: float | None) -> tuple[Tensor, Tensor]:
    """Positions (n, 2) in pixels and heights (n,) of columns about `spacing` apart."""
    zoom = max(1, math.ceil(_FINE / spacing))
    filtered = _matched_filter(data, spacing, zoom)
    noise = _noise_level(data) * _filter_gain(spacing)
    index, height = _maxima(filtered, max(1, round(0.3 * spacing * zoom)), noise, threshold)
    return _refine(filtered, index) / zoom, height


def _transfer(shape: tuple[int, int], sigma: float, like_: Tensor) -> Tensor:
    fy = torch.fft.fftfreq(shape[0], device=like_.device, dtype=like_.dtype)[:, None]
    fx = torch.fft.rfftfreq(shape[1], device=like_.device, dtype=like_.dtype)[None, :]
    return torch.exp(-2 * (math.pi * sigma) ** 2 * (fy**2 + fx**2))


def _blur(data: Tensor, sigma: float) -> Tensor:
    """Gaussian blur with mirrored rims."""
    margin = min(math.ceil(3 * sigma), min(data.shape) - 1)
    padded = F.pad(data[None, None], (margin,) * 4, mode="reflect")[0, 0]
    shape = (padded.shape[0], padded.shape[1])
    blurred: Tensor = torch.fft.irfft2(torch.fft.rfft2(padded) * _transfer(shape, sigma, data), s=shape)
    return blurred[margin : margin + data.shape[0], margin : margin + data.shape[1]]


def _sigmas(spacing: float) -> tuple[float, float]:
    return 0.16 * spacing, 0.45 * spacing


def _matched_filter(data: Tensor, spacing: float, zoom: int) -> Tensor:
    """Difference of Gaussians of the columns' scale, on a grid `zoom` times finer."""
    narrow, wide = _sigmas(spacing)
    margin = min(math.ceil(3 * wide), min(data.shape) - 1)
    padded = F.pad(data[None, None], (margin,) * 4, mode="reflect")[0, 0]
    h, w = padded.shape
    spectrum = torch.fft.rfft2(padded)
    spectrum = spectrum * (_transfer((h, w), narrow, data) - _transfer((h, w), wide, data))
    if zoom > 1:  # zeros at the high frequencies: exact interpolation of the band-limited image
        fine = spectrum.new_zeros(h * zoom, w * zoom // 2 + 1)
        half = h // 2
        fine[: half + 1, : w // 2 + 1] = spectrum[: half + 1]
        fine[-(h - half - 1) :, : w // 2 + 1] = spectrum[half + 1 :]
        spectrum = fine * zoom**2
    filtered: Tensor = torch.fft.irfft2(spectrum, s=(h * zoom, w * zoom))
    inner = slice(margin * zoom, (h - margin) * zoom), slice(margin * zoom, (w - margin) * zoom)
    return filtered[inner]


def _noise_level(data: Tensor) -> Tensor:
    """Standard deviation of white noise: median absolute value of the 2 x 2 checkerboard difference (Donoho 1994)."""
    corner = data[1:, 1:] + data[:-1, :-1] - data[1:, :-1] - data[:-1, 1:]
    return corner.abs().median() / (2 * 0.6745)


def _filter_gain(spacing: float) -> float:
    """Standard deviation after the matched filter of white noise that had 1 before it."""
    a, b = (s**2 for s in _sigmas(spacing))
    return math.sqrt((1 / a + 1 / b - 4 / (a + b)) / (4 * math.pi))


def _maxima(filtered: Tensor, reach: int, noise: Tensor, threshold: float | None) -> tuple[Tensor, Tensor]:
    """Indices (n, 2) and heights (n,) of the maxima within `reach` pixels that are high enough."""
    pooled = F.max_pool2d(filtered[None, None], 2 * reach + 1, 1, reach)[0, 0]
    peaks = (filtered == pooled) & (filtered > 0)
    index = torch.nonzero(peaks)
    height = filtered[peaks]
    if len(height) == 0:
        return index, height
    if threshold is None:
        least = torch.maximum(4.5 * noise, 0.1 * torch.quantile(height, 0.9))
    else:
        least = height.new_tensor(threshold)
    keep = height >= least
    return index[keep], height[keep]


def _refine(filtered: Tensor, index: Tensor) -> Float[Tensor, "n 2"]:
    """Vertex of the parabola through the three points around each maximum, along each axis, float64."""
    padded = F.pad(filtered[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
    row, col = index[:, 0] + 1, index[:, 1] + 1
    middle = padded[row, col]
    shifts = []
    for before, after in (
        (padded[row - 1, col], padded[row + 1, col]),
        (padded[row, col - 1], padded[row, col + 1]),
    ):
        curvature = before - 2 * middle + after
        shift = 0.5 * (before - after) / torch.where(curvature == 0, torch.ones_like(curvature), curvature)
        shifts.append(shift.clamp(-0.5, 0.5))
    return index.double() + torch.stack(shifts, dim=1).double()
