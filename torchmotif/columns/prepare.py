"""From what a user holds to pixels that can be filtered: calibration, pixels that say nothing, common values."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from torchmotif._arrays import DeviceLike, as_tensor, pixels_of
from torchmotif.columns.filters import Pair
from torchmotif.errors import InputError

__all__ = ["OUTLIER", "Prepared", "axes_of", "fill_invalid", "pixel_nm", "prepare"]

OUTLIER = 30.0  # a pixel this many times the image's range away from the median is hot, not a column


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image ready to be filtered and fitted."""

    data: Float[
        Tensor, "h w"
    ]  # float32, mean near 0 and standard deviation near 1, columns bright, all finite
    usable: Bool[Tensor, "h w"]  # pixels that were measured: finite, not masked, not saturated, not hot
    saturated: Bool[Tensor, "h w"]
    scale: float  # the image's units per unit of `data`
    axes: Pair  # pixels along (rows, columns) per side of a square pixel of the same area

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) in pixels."""
        return self.data.shape[0], self.data.shape[1]


def prepare(image: Any, mask: Any = None, *, dark: bool = False, device: DeviceLike = None) -> Prepared:
    """Check an image and bring it to the common form; see `find_columns` for arguments and errors."""
    pixels = pixels_of(image)
    if min(pixels.shape) < 16:
        raise InputError(
            f"image must have at least 16 pixels a side, got {tuple(pixels.shape)}; columns cannot be told from noise"
        )
    values = as_tensor(np.ma.getdata(pixels) if isinstance(pixels, np.ndarray) else pixels, device=device)
    usable = torch.isfinite(values)
    if isinstance(pixels, np.ma.MaskedArray):
        usable &= ~_as_mask(np.ma.getmaskarray(pixels), values)
    if mask is not None:
        usable &= ~_as_mask(mask, values)
    values = fill_invalid(torch.where(usable, values, torch.nan))
    if bool(values.max() == values.min()):
        raise InputError("image is constant: it has no columns; check that the right channel was read")
    saturated = _saturated(-values if dark else values) & usable
    low, middle, high = _sample(values).quantile(values.new_tensor([0.001, 0.5, 0.999])).unbind()
    if bool(high > low):
        hot = (values - middle).abs() > OUTLIER * (high - low)
        values, usable, saturated = torch.where(hot, middle, values), usable & ~hot, saturated & ~hot
    data = values - values.double().mean().to(values.dtype)
    scale = data.double().square().mean().sqrt()
    data = (data / scale).float()
    return Prepared(-data if dark else data, usable & ~saturated, saturated, float(scale), axes_of(image))


def axes_of(image: Any) -> Pair:
    """Pixels along (rows, columns) per side of a square pixel of the same area; (1, 1) without calibration."""
    size = getattr(image, "pixel_size_nm", None)
    if size is None:
        return (1.0, 1.0)
    side = math.sqrt(size[0] * size[1])
    return side / size[0], side / size[1]


def pixel_nm(image: Any) -> float | None:
    """Side in nanometres of a square pixel of the same area, None without calibration."""
    size = getattr(image, "pixel_size_nm", None)
    return None if size is None else math.sqrt(size[0] * size[1])


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


def _as_mask(mask: Any, values: Tensor) -> Bool[Tensor, "h w"]:
    tensor = as_tensor(mask, dtype=None, name="mask")
    if tensor.dtype != torch.bool or tensor.shape != values.shape:
        raise InputError(
            f"mask must be boolean and have the image's shape {tuple(values.shape)}, true where pixels are to be "
            f"ignored; got {tensor.dtype} {tuple(tensor.shape)}"
        )
    return tensor.to(values.device)


def _sample(values: Tensor) -> Tensor:
    """At most about a million of the values, evenly spread: torch's quantiles take no more than 16 million."""
    return values.flatten()[:: max(1, values.numel() // 1_000_000)]


def _saturated(values: Float[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    """Pixels at the greatest value, where that is a limit: more pixels lie there than at the next lower value."""
    top = values.max()
    at_top = values == top
    below = values.masked_fill(at_top, -torch.inf).max()
    count = int(at_top.sum())
    limit = count >= 8 and count > int((values == below).sum())
    return at_top if limit else torch.zeros_like(at_top)
