"""Columns of an image that is too large to be looked at as a whole: what they have in common, then part by part."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from torchmotif._arrays import DeviceLike, as_tensor
from torchmotif.columns.detect import CLOSEST, maxima, outstanding
from torchmotif.columns.filters import Pair, filter_gain, noise_level
from torchmotif.columns.find import described
from torchmotif.columns.model import Noise
from torchmotif.columns.neighbours import strongest_first
from torchmotif.columns.prepare import OUTLIER, Prepared
from torchmotif.columns.scale import measure
from torchmotif.columns.search import MARGIN, Found, at_nearest, credible, fit_tile, learned
from torchmotif.columns.shape import Shape
from torchmotif.errors import InputError

__all__ = ["Common", "columns_of_part", "measure_common"]


@dataclass(frozen=True)
class Common:
    """What all columns of an image have in common, and what tells them from its noise.

    Measured once, on parts chosen without regard to any tiling, it makes the columns of every part the same
    whatever the parts are.

    Attributes
    ----------
    spacing : float
        Distance between neighbouring columns in pixels; where pixels are not square, in pixels of the same area.
    level, scale : float
        Mean and standard deviation of the pixels.
    usual : (float, float)
        Pixels beyond this range are sparks.
    limit : float or None
        Value of saturated pixels.
    dark : bool
        Whether columns are darker than what surrounds them.
    axes : (float, float)
        Pixels along (rows, columns) per side of a square pixel of the same area.
    least : float
        Height in the matched-filtered image above which a maximum is a column.
    width : (float, float)
        Standard deviation of the columns' Gaussian along (rows, columns) in pixels.
    noise : (float, float, float, float)
        See `torchmotif.columns.model.Noise`.
    faintest : float
        Least intensity of a column.
    unevenness : float
        Variance of the columns' elongations over what noise lets expect.
    """

    spacing: float
    level: float
    scale: float
    usual: Pair
    limit: float | None
    dark: bool
    axes: Pair
    least: float = 0.0
    width: Pair = (1.0, 1.0)
    noise: tuple[float, float, float, float] = (-1.0, 1.0, 1.0, 1.0)
    faintest: float = 0.0
    unevenness: float = 1.0

    @property
    def margin(self) -> int:
        """Pixels around a part that must be seen with it."""
        return round(MARGIN * self.spacing * max(self.axes))

    def as_dict(self) -> dict[str, Any]:
        """Numbers for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Common":
        """What `as_dict` gave, also after JSON made lists of tuples."""
        plain: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
        return cls(**plain)

    def prepared(self, pixels: Any, device: DeviceLike = None) -> Prepared:
        """Pixels of a part, ready to be filtered and fitted."""
        values = as_tensor(pixels, device=device)
        usable = torch.isfinite(values)
        usable &= (values >= self.usual[0]) & (values <= self.usual[1])
        data = (torch.where(usable, values, self.level) - self.level) / self.scale
        saturated = usable & (values == self.limit) if self.limit is not None else torch.zeros_like(usable)
        return Prepared(
            (-data if self.dark else data).float(), usable & ~saturated, saturated, self.scale, self.axes
        )

    def shape(self, like_: Tensor) -> Shape:
        """Width and noise of the columns."""
        return Shape(like_.new_tensor(self.width), Noise(*self.noise), like_.new_tensor(self.unevenness))


def measure_common(
    parts: Sequence[np.ndarray],
    *,
    axes: Pair = (1.0, 1.0),
    limit: float | None = None,
    dark: bool = False,
    spacing: float | None = None,
    threshold: float | None = None,
    device: DeviceLike = None,
) -> Common:
    """What the columns of an image have in common, from some parts of it.

    Parameters
    ----------
    parts : sequence of arrays of shape (h, w)
        At least 16 pixels a side.
    axes, limit, dark
        See `Common`.
    spacing, threshold
        See `find_columns`.
    device : str or torch.device, optional

    Returns
    -------
    Common

    Raises
    ------
    InputError
        If there is no finite pixel, no contrast, no regular spacing and none is given, or no column.
    """
    sample = np.concatenate([part[np.isfinite(part)].ravel() for part in parts]).astype(np.float64)
    if len(sample) == 0:
        raise InputError("image has no finite pixel where it was looked at; check how it was exported")
    low, middle, high = np.quantile(sample, [0.001, 0.5, 0.999])
    reach = OUTLIER * (high - low) if high > low else np.inf
    usual = sample[np.abs(sample - middle) <= reach]
    if usual.min() == usual.max():
        raise InputError(
            "image is constant where it was looked at: it has no columns; check that the right channel was read"
        )
    common = Common(
        spacing or 0.0,
        float(usual.mean()),
        float(usual.std()),
        (float(middle - reach), float(middle + reach)),
        limit,
        dark,
        axes,
    )
    seen = [common.prepared(part, device) for part in parts]
    common = replace(common, spacing=spacing or _spacing(seen))
    at, heights = zip(*(maxima(part.data, common.spacing, axes) for part in seen), strict=True)
    noise = torch.stack([noise_level(part.data) for part in seen]).median() * filter_gain(common.spacing)
    height = torch.cat(heights)
    keep = outstanding(height, noise, common.spacing, sum(part.data.numel() for part in seen))
    if not bool(keep.any()):
        raise InputError("image: no atomic columns stand out of its noise; set spacing, or polarity='dark'")
    common = replace(common, least=float(height[keep].min()))
    counts = [int((part >= common.least).sum()) for part in heights]
    densest = counts.index(max(counts))
    shape, faintest = learned(seen[densest], at[densest][heights[densest] >= common.least], common.spacing)
    least = float(faintest)
    if threshold is not None:
        least = max(least, threshold / common.scale * 2 * np.pi * float(shape.width.prod()))
    noise_model = shape.noise
    return replace(
        common,
        width=(float(shape.width[0]), float(shape.width[1])),
        noise=(noise_model.low, noise_model.high, noise_model.at_low, noise_model.at_high),
        faintest=least,
        unevenness=float(shape.unevenness),
    )


def columns_of_part(pixels: np.ndarray, common: Common, device: DeviceLike = None) -> dict[str, np.ndarray]:
    """The columns of one part of an image.

    Parameters
    ----------
    pixels : array of shape (h, w)
        The part with `common.margin` pixels around it, fewer at the image's rims.
    common : Common
    device : str or torch.device, optional

    Returns
    -------
    dict of arrays
        positions, in pixels of the part, and what else `Columns` has, ordered by nothing in particular.
    """
    part = common.prepared(pixels, device)
    at, height = maxima(part.data, common.spacing, common.axes)
    keep = (height >= common.least) & at_nearest(part.usable | part.saturated, at)
    shape = common.shape(part.data)
    faintest = part.data.new_tensor(common.faintest)
    fit = fit_tile(part.data, part.usable, at[keep], common.spacing, shape, faintest=faintest)
    found = Found(fit.positions, fit.intensity, fit.covariance, fit.quality, fit.held)
    good = credible(fit, faintest) & at_nearest(part.usable | part.saturated, fit.positions)
    found = found.where(good & _within(fit.positions, part.shape))
    square = found.positions / found.positions.new_tensor(part.axes)
    found = found.where(strongest_first(square, found.intensity, CLOSEST * common.spacing))
    arrays = described(found, part, shape)
    return {name: values.cpu().numpy() for name, values in arrays.items() if name != "is_predicted"}


def _within(positions: Float[Tensor, "n 2"], shape: tuple[int, int]) -> Tensor:
    last = positions.new_tensor(shape) - 0.5
    return ((positions > -0.5) & (positions < last)).all(dim=1)


def _spacing(parts: Sequence[Prepared]) -> float:
    """The median of the spacings of those parts that show one."""
    found = []
    for part in parts:
        try:
            found.append(measure(part.data, part.axes, None).pixels)
        except InputError:  # vacuum, or a part that is not crystalline
            continue
    if not found:
        raise InputError(
            "image shows no regular spacing of columns; give spacing=... in pixels if you know that there is one"
        )
    return float(np.median(found))
