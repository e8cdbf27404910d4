"""What the browser draws itself: the image, and the columns as packed arrays."""

import base64
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from torchmotif.report.groups import Group, brightness
from torchmotif.report.pixels import grey, picture, shrunk

if TYPE_CHECKING:
    from torchmotif.result import MotifResult

__all__ = ["encoded", "viewer_data"]

_SHOWN = 2048  # pixels of the image's longer side on the page


def viewer_data(result: "MotifResult", groups: list[Group]) -> dict[str, Any]:
    """Image, columns and groups for the page's script.

    Parameters
    ----------
    result : MotifResult
    groups : list of Group

    Returns
    -------
    dict
        Arrays are base64 of little-endian numbers, a few bytes for a column.
    """
    height, width = result.image.shape
    factor = math.ceil(max(height, width) / _SHOWN)
    pixels = shrunk(result.image.numpy(), factor)
    bright = brightness(result)
    return {
        "width": width,
        "height": height,
        "pixel_nm": result.image.pixel_size_nm,
        "spacing": result.columns.spacing,
        "patch": int(result.templates.shape[-1]),
        "image": picture(grey(pixels)),
        "image_width": pixels.shape[1] * factor,
        "image_height": pixels.shape[0] * factor,
        "xy": encoded(result.columns.positions[:, ::-1], "<f4"),
        "group": encoded(result.groups, "<i2"),
        "probability": encoded(result.probabilities * 255, "u1"),
        "brightness": encoded(bright, "<f4"),
        "site": encoded(result.sites.columns, "<i2"),
        "groups": [
            {
                "number": group.number,
                "name": group.name,
                "colour": group.style.colour,
                "marker": group.style.marker,
                "crystal": group.crystal,
                "usual": _usual(bright[result.groups == group.number]),
            }
            for group in groups
        ],
    }


def _usual(values: np.ndarray) -> list[float] | None:
    """Median, and the fences beyond which values are far out (Tukey, 1977): three times the middle half's width off it."""
    if not len(values):
        return None
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    return [middle, low - 3 * (high - low), high + 3 * (high - low)]


def encoded(array: np.ndarray, dtype: str) -> str:
    """An array as base64 of packed numbers; those that are to be whole are rounded."""
    values = np.asarray(array)
    if np.dtype(dtype).kind in "iu":
        values = np.rint(values)
    return base64.b64encode(np.ascontiguousarray(values.astype(dtype)).tobytes()).decode("ascii")
