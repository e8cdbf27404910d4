"""What the browser draws itself: the image, and the columns as packed arrays."""

import base64
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from torchmotif.report.groups import EMPTY, Group, brightness, fences
from torchmotif.report.inside import inside_layers
from torchmotif.report.pixels import grey, picture, shrunk

if TYPE_CHECKING:
    from torchmotif.report.shown import Shown

__all__ = ["encoded", "viewer_data"]

_SHOWN = 2048  # pixels of the image's longer side on the page


def viewer_data(result: "Shown", groups: list[Group]) -> dict[str, Any]:
    """Image, columns and groups for the page's script.

    Parameters
    ----------
    result : MotifResult
    groups : list of Group

    Returns
    -------
    dict
        Arrays are base64 of little-endian numbers, a few bytes for a column; empty sites follow the columns.
    """
    height, width = result.image.shape
    factor = math.ceil(max(height, width) / _SHOWN)
    pixels = shrunk(result.image.measured(), factor)
    bright, member, empty = brightness(result), result.groups, result.empty_sites()
    return {
        "width": width,
        "height": height,
        "pixel_nm": result.image.pixel_size_nm,
        "spacing": result.columns.spacing,
        "patch": int(result.templates.shape[-1]),
        "image": picture(grey(pixels)),
        "image_width": pixels.shape[1] * factor,
        "image_height": pixels.shape[0] * factor,
        "xy": encoded(
            np.concatenate([result.columns.positions, empty[["row_px", "col_px"]]])[:, ::-1], "<f4"
        ),
        "group": encoded(np.append(member, [EMPTY] * len(empty)), "<i2"),
        "probability": encoded(np.append(result.probabilities * 255, 0 * empty["site"]), "u1"),
        "brightness": encoded(np.append(bright, empty["brightness"]), "<f4"),
        "site": encoded(np.append(result.sites.columns, empty["site"]), "<i2"),
        "names": _names(result, len(empty)),
        "groups": [
            {
                "number": group.number,
                "name": group.name,
                "colour": group.style.colour,
                "marker": group.style.marker,
                "crystal": group.crystal,
                "usual": fences(bright[member == group.number]) if (member == group.number).any() else None,
            }
            for group in groups
        ],
        "layers": [
            one
            | {
                "values": encoded(one["values"], "<f4"),
                "errors": encoded(one["errors"], "<f4"),
                "clear": encoded(one["clear"], "u1"),
            }
            for one in inside_layers(result, len(empty))
        ],
    }


def _names(result: "Shown", n_empty: int) -> dict[str, Any] | None:
    """What every column and empty site is called, and what it may be called as well."""
    names = result.names
    if names is None:
        return None
    table = result.empty_sites()
    place = {name: k for k, name in enumerate(names.kinds)}
    words = table["name"].tolist() if "name" in table else [""] * n_empty
    sure = table["name_probability"].to_numpy() if "name" in table else np.zeros(n_empty)
    other = np.where(names.competing == "", -1, names.others)
    return {
        "kinds": names.kinds,
        "of": encoded(np.append(names.columns, [place.get(word, -1) for word in words]), "<i2"),
        "probability": encoded(np.append(names.probabilities, sure) * 255, "u1"),
        "other": encoded(np.append(other, np.full(n_empty, -1)), "<i2"),
    }


def encoded(array: np.ndarray, dtype: str) -> str:
    """An array as base64 of packed numbers; those that are to be whole are rounded."""
    values = np.asarray(array)
    if np.dtype(dtype).kind in "iu":
        values = np.rint(values)
    return base64.b64encode(np.ascontiguousarray(values.astype(dtype)).tobytes()).decode("ascii")
