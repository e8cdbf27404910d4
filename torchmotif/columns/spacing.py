"""Spacing: the distance between neighbouring columns, from the image itself."""

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from torchmotif._arrays import DeviceLike, keeps_digits, sent
from torchmotif.columns._filters import blur, filter_gain, noise_level
from torchmotif.columns._neighbours import as_index, distances_within
from torchmotif.columns._peaks import FAINTEST_MAXIMUM, maxima, outstanding
from torchmotif.columns._periodic import Repeats, mean_of_cells, repeats, without_rows
from torchmotif.columns.grid import Grid
from torchmotif.columns.model import Pair, Tiles
from torchmotif.columns.pixels import levels, pixels_and_mask
from torchmotif.errors import InputError

__all__ = [
    "UNEVEN",
    "Spacing",
    "characteristic_spacing",
    "flattened",
    "measured_spacing",
    "nearest_quartiles",
]

# Of those below, 0.7 or 1.4 times their value moves the spacings of 20 simulated images of 15 kinds by more than 1 % for _SPLIT (two and
# seven of them), and in one of them for _PLAIN, UNEVEN (0.7) and _WHOLE (1.4): `benchmarks/columns/constants.py`.
_STEPS = 2  # bins of the radial profile per pixel
_SPLITS = 4  # times that what was held together is split
_CLEAR = 6.0  # standard deviations of pure noise by which a ring must rise
# Cells on either side along each vector, whose mean is taken: few, which strain hardly blurs, and more where the mean does not
# stand out of its noise by so many standard deviations, where distances to the nearest maximum come out too short.
_CELLS, _PLAIN = (2, 4, 6), 5.0
# Of the usual power of the mean of cells: where it has less there is another crystal, or none.
_CRYSTAL = 0.25
_EVERY, _SAMPLE = 4, 1_000_000  # pixels that tell the usual power
_SPLIT = 0.88  # of a spacing: what is more is the same
_SHARES = (0.35, 0.5, 0.7, 1.0)  # of a spacing, to which filters are tuned that may split it
_WHOLE = 0.6  # the same where columns are sought in the image itself
_FAINTEST = 0.05  # of the brightest columns in the mean of cells
UNEVEN = 0.15  # interquartile range over median of the nearest distances: noise has more, lattices have less


@dataclass(frozen=True, eq=False)
class Spacing:
    """Distance between neighbouring columns, with the evidence for it.

    Attributes
    ----------
    pixels : float
        Distance between nearest columns in pixels; where pixels are not square, in pixels of the same area.
    nm : float or None
        The same in nanometres, None where the pixel size is unknown.
    ring : float
        Length in pixels of the shortest vector by which the image repeats itself, often a lattice constant; where nothing
        repeats, the radius of the first ring of the autocorrelation.
    lags, correlation : array of shape (k,)
        Radial mean of the image's autocorrelation over the distance in pixels, 1 at its greatest after the noise.
    """

    pixels: float
    nm: float | None
    ring: float
    lags: np.ndarray
    correlation: np.ndarray

    def plot(self, ax: Any = None) -> Any:
        """The radial autocorrelation with the ring and the spacing marked, on a matplotlib axes.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; by default a new figure.

        Returns
        -------
        matplotlib.axes.Axes
        """
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(figsize=(5, 3), layout="constrained")
        shown = self.lags <= 5 * self.ring
        ax.plot(self.lags[shown], self.correlation[shown], color="0.2")
        size = "" if self.nm is None else f" = {self.nm:.3f} nm"
        ax.axvline(self.ring, color="#0072b2", linestyle="--", label=f"shortest repeat {self.ring:.2f} px")
        ax.axvline(self.pixels, color="#d55e00", label=f"nearest columns {self.pixels:.2f} px{size}")
        ax.set(xlabel="distance / px", ylabel="autocorrelation", xlim=(0, 5 * self.ring))
        ax.legend(frameon=False)
        return ax


@keeps_digits
def characteristic_spacing(image: Any, *, device: DeviceLike = None) -> Spacing:
    """Distance between nearest columns, from what repeats in the image.

    The two shortest vectors by which the image equals itself are maxima of its two-dimensional autocorrelation, clear of what
    does not repeat and round, unlike those of stripes and edges. The mean of some cells, as many as the noise asks for, shows
    the columns of a cell, and these tell the distance. Where nothing repeats, as in a packing without order, columns are
    sought in the image itself, at the first ring of the autocorrelation's radial mean.

    Parameters
    ----------
    image : Micrograph or array of shape (h, w)
        Pixels that are not finite are taken as the mean of the finite ones.
    device : str or torch.device, optional

    Returns
    -------
    Spacing

    Raises
    ------
    InputError
        If no regular spacing can be seen.

    Examples
    --------
    >>> import torchmotif as tm
    >>> specimen = tm.datasets.mose2((128, 128), vacancy_rate=0.0)
    >>> round(characteristic_spacing(specimen.image).nm, 2)
    0.19
    """
    pixels, axes, nm = pixels_and_mask(image, None, device)
    boxes = Grid.samples((pixels.shape[0], pixels.shape[1]))
    windows = torch.stack([pixels[a:c, b:d] for a, b, c, d in boxes])
    tiles = levels(windows, axes=axes, limit=None, dark=False).normalised(windows)
    ring, found, shown = _measured(tiles, axes)
    lags, profile, _ = _radial_autocorrelation(shown, axes)
    told = torch.stack([lags, profile]).cpu().numpy()
    return Spacing(found, None if nm is None else found * nm, ring, told[0], told[1])


def measured_spacing(tiles: Tiles, axes: Pair) -> float:
    """The spacing in some windows of an image, in pixels; see `characteristic_spacing`."""
    return _measured(tiles, axes)[1]


def _measured(tiles: Tiles, axes: Pair) -> tuple[float, float, Float[Tensor, "t h w"]]:
    """The first period, or the first ring, the spacing, and the windows whose autocorrelation shows them."""
    flat, measured = flattened(tiles)
    found = repeats(flat, measured, axes)
    if any(one is not None for one in found):
        return *_from_cells(tiles, flat, found, axes), flat
    flat = without_rows(flat, measured)  # the ring of stripes is none of columns
    _, profile, noise = _radial_autocorrelation(flat, axes)
    ring = _first_ring(profile, noise)
    return ring, _split(_Seen(tiles, noise_level(tiles.data).median(), axes), ring, (_WHOLE,)), flat


def flattened(tiles: Tiles) -> tuple[Tensor, Tensor]:
    """Windows without what changes slowly, and which of their pixels were measured, as numbers."""
    measured = tiles.measured.to(tiles.data.dtype)
    return (tiles.data - _slow(tiles.data, max(min(tiles.shape[1:]) / 8, 4.0))) * measured, measured


def _radial_autocorrelation(data: Float[Tensor, "t h w"], axes: Pair) -> tuple[Tensor, Tensor, Tensor]:
    """Distances in pixels, the radial mean of the autocorrelation there, and its standard deviation in pure noise."""
    reach = min(data.shape[1:]) // 2
    axis = torch.arange(-reach, reach + 1, device=data.device, dtype=data.dtype)
    correlation = _autocorrelation(data, axis)
    radius = torch.hypot(axis[:, None] / axes[0], axis[None, :] / axes[1])
    bins = torch.round(radius * _STEPS).long().flatten()
    most = math.ceil(1.5 * _STEPS * reach / min(axes)) + 2
    count = correlation.new_zeros(most).index_add_(0, bins, torch.ones_like(radius).flatten())
    profile = correlation.new_zeros(most).index_add_(0, bins, correlation.flatten()) / count.clamp(min=1)
    last = math.floor(reach * _STEPS / max(axes)) + 1
    count, profile = count[:last], profile[:last]
    profile = torch.where(count > 0, profile, profile.roll(1))
    profile = F.avg_pool1d(F.pad(profile[None, None], (1, 1), mode="replicate"), 3, 1)[0, 0]
    lags = torch.arange(last, device=data.device, dtype=data.dtype) / _STEPS
    # Each lag counts twice, as + and -.
    noise = correlation[reach, reach] / (count.clamp(min=1) / 2 * data.numel()).sqrt()
    scale = profile[2 * _STEPS :].abs().max()  # noise that is white ends after the zero lag
    return lags, profile / scale, noise / scale


def _autocorrelation(data: Float[Tensor, "t h w"], axis: Tensor) -> Float[Tensor, "k k"]:
    """Mean product of pixels `axis` apart along rows and columns."""
    (_, h, w), reach = data.shape, len(axis) // 2
    power = torch.fft.rfft2(data, s=(h + reach, w + reach)).abs().square().mean(0)
    product: Tensor = torch.fft.irfft2(power, s=(h + reach, w + reach)).roll((reach, reach), dims=(0, 1))
    return product[: len(axis), : len(axis)] / ((h - axis.abs())[:, None] * (w - axis.abs())[None, :])


def _slow(data: Float[Tensor, "t h w"], sigma: float) -> Float[Tensor, "t h w"]:
    """What is left after a wide blur, of pixels that are pooled before: they change little over a quarter of its width."""
    pool = max(1, int(sigma / 4))
    pooled = F.avg_pool2d(data[:, None], pool, ceil_mode=True, count_include_pad=False)[:, 0]
    size = (data.shape[1], data.shape[2])
    slow: Tensor = F.interpolate(blur(pooled, sigma / pool)[:, None], size, mode="bilinear")[:, 0]
    return slow


def _first_ring(profile: Float[Tensor, " k"], noise: Float[Tensor, " k"]) -> float:
    """Radius in pixels of the first maximum that stands out of what lies within it."""
    values, noise = profile[2 * _STEPS :], noise[2 * _STEPS :]
    lowest, where = torch.cummin(values, 0)
    rise = values - lowest
    clear = _CLEAR * torch.hypot(noise, noise[where])
    peak = (values[1:-1] > values[:-2]) & (values[1:-1] >= values[2:])
    high = (rise[1:-1] > 0.1 * rise.max()) & (rise > clear)[1:-1]
    found = torch.nonzero(peak & high)[:, 0]
    if len(found) == 0:
        raise InputError(
            "image shows no regular spacing of columns; give spacing=... in pixels if you know that there is one"
        )
    first = found[:1] + 1
    i, left, middle, right = torch.cat([first, values[first - 1], values[first], values[first + 1]]).tolist()
    curvature = left - 2 * middle + right
    shift = 0.5 * (left - right) / curvature if curvature != 0 else 0.0
    return float((i + 2 * _STEPS + shift) / _STEPS)


class _Seen(NamedTuple):
    """Images in which columns are looked for."""

    tiles: Tiles
    level: Tensor  # standard deviation of their noise
    axes: Pair
    faintest: float = FAINTEST_MAXIMUM


def _from_cells(
    tiles: Tiles, flat: Float[Tensor, "t h w"], found: list[Repeats | None], axes: Pair
) -> tuple[float, float]:
    """Length of the shortest vector by which windows repeat, and the distance between nearest columns in their mean cells."""
    which = [i for i, one in enumerate(found) if one is not None]
    vectors = [one.vectors for one in found if one is not None]
    ring = float(np.median([np.hypot(*(one[0] / axes)) for one in vectors]))
    chosen = tiles if len(which) == len(found) else tiles.some(sent(which, flat, torch.long))
    flat = flat if len(which) == len(found) else flat[sent(which, flat, torch.long)]
    level = noise_level(chosen.data).median()
    for reach in _CELLS:
        mean, cells = mean_of_cells(flat, chosen.measured.to(flat.dtype), vectors, reach)
        if bool(mean.std() > _PLAIN * level / math.sqrt(cells)):
            break
    # Other grains, carbon and vacuum have little in common with the cells of this crystal.
    power = blur(mean.square(), ring * max(axes))
    usual = power[:, ::_EVERY, ::_EVERY].flatten()[:_SAMPLE].quantile(0.9)
    mean = torch.where(power >= _CRYSTAL * usual, mean, 0.0)
    seen = _Seen(replace(chosen, data=mean), level / math.sqrt(cells), axes, _FAINTEST)
    return ring, _split(seen, ring, _SHARES)


def _split(seen: _Seen, ring: float, shares: tuple[float, ...]) -> float:
    """Distance between nearest columns: what a filter for the ring holds together is split while it splits evenly.

    Filters are tuned to some `shares` of the spacing found so far, of which the first that finds evenly spaced columns counts.
    """
    spacing = ring
    for _ in range(_SPLITS):
        for share in shares:
            quartiles = _distances(seen, max(share * spacing, 2.0), 1.5 * spacing)
            if quartiles is not None and quartiles[2] - quartiles[0] <= UNEVEN * quartiles[1]:
                nearest = max(quartiles[1], 2.0)
                break
        else:
            return spacing
        if nearest > _SPLIT * spacing:
            return spacing  # which noise moves less
        spacing = nearest
    return spacing


def _distances(seen: _Seen, scale: float, radius: float) -> tuple[float, float, float] | None:
    """Quartiles of the distances to the nearest other column found at a scale; None where there are few."""
    tiles, axes = seen.tiles, seen.axes
    positions, height, tile = maxima(tiles, tiles.data, scale, axes)
    keep = outstanding(height, seen.level * filter_gain(scale), scale, tiles.data.numel(), seen.faintest)
    kept = as_index(keep)
    square = positions[kept] / torch.stack([positions.new_full((), along) for along in axes])
    found = nearest_quartiles(tiles.spread(square, tile[kept]), radius)
    lower, middle, upper = torch.stack(found).tolist()
    return (lower, middle, upper) if middle > 0 else None


def nearest_quartiles(positions: Float[Tensor, "n 2"], radius: float) -> tuple[Tensor, Tensor, Tensor]:
    """Quartiles of the distances to the nearest other position within a radius; 0 where fewer than three have one."""
    ordered = distances_within(positions, radius).sort().values
    count = (ordered < torch.inf).sum()
    if len(ordered) < 3:
        return (positions.new_zeros(()),) * 3
    quarters = torch.arange(1, 4, device=ordered.device)
    # Selected, not indexed: an index of no dimension has the host wait.
    quartiles = ordered.index_select(0, ((count - 1).clamp(min=0) * quarters + 2) // 4)
    lower, middle, upper = torch.where(count >= 3, quartiles, 0.0).unbind()
    return lower, middle, upper
