"""What HDF5 files say of the axes of their data sets: Berkeley's EMD, NeXus, Nion, Fiji, and attributes with plain names."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from torchmotif._units import constant_step, nm_of_axes
from torchmotif.io._dataset import Dataset, with_axes

__all__ = ["calibrated"]

_ROWS, _COLUMNS = {"y", "row", "rows", "height", "ry"}, {"x", "col", "column", "columns", "width", "rx"}
Axis = tuple[str, float | None, str]  # name, step, unit


def calibrated(item: Dataset, node: Any) -> Dataset:
    """The data set with the pixel size that its file gives, and its rows and columns as the names of its axes say.

    Parameters
    ----------
    item : Dataset
        Its axes as stored.
    node : h5py.Dataset
    """
    for way in (_of_emd, _of_nexus, _of_nion, _of_scales):
        axes = None
        with suppress(KeyError, ValueError, TypeError, AttributeError, IndexError):
            axes = way(node)
        if axes is not None and len(axes) == item.data.ndim:
            return _ordered(item, axes)
    with suppress(KeyError, ValueError, TypeError, AttributeError):
        return replace(item, pixel_size=_of_attributes(node))
    return item


def _ordered(item: Dataset, axes: Sequence[Axis]) -> Dataset:
    names = [name.strip().lower() for name, _, _ in axes]
    rows = [i for i, name in enumerate(names) if name in _ROWS]
    columns = [i for i, name in enumerate(names) if name in _COLUMNS]
    if len(rows) == len(columns) == 1:
        row, column = rows[0], columns[0]
    else:
        long = [i for i, length in enumerate(item.data.shape) if length > 1]
        row, column = long[-2:] if len(long) >= 2 else (len(axes) - 2, len(axes) - 1)
    others = [i for i in range(len(axes)) if i not in {row, column}]
    size = nm_of_axes((axes[i][1], axes[i][2]) for i in (row, column))
    return replace(item, data=with_axes(item.data, [*others, row, column]), pixel_size=size)


def _of_emd(node: Any) -> list[Axis] | None:
    """Berkeley's EMD: beside the data lie dim1, dim2, ... with coordinates, names and units; dim0, dim1, ... since 1.0."""
    group = node.parent
    if "emd_group_type" not in group.attrs and "dim1" not in group:
        return None
    first = 0 if "dim0" in group else 1
    found = []
    for i in range(node.ndim):
        dim = group[f"dim{first + i}"]
        name, unit = (_text(dim.attrs.get(key)) for key in ("name", "units"))
        found.append((name, _step(dim, node.shape[i]), unit))
    return found


def _of_nexus(node: Any) -> list[Axis] | None:
    """NeXus: the group of the data names its axes, which are data sets beside it."""
    group = node.parent
    if "axes" not in group.attrs:
        return None
    names = [_text(name) for name in np.atleast_1d(group.attrs["axes"])]
    if len(names) == 1 and ":" in names[0]:
        names = names[0].strip("[]").split(":")
    found: list[Axis] = []
    for i, name in enumerate(names):
        if name == "." or name not in group:
            found.append(("", None, ""))
            continue
        kind = _text(group[name].attrs.get("long_name")) or name
        short = next((part for part in (name, kind) if part.strip().lower() in _ROWS | _COLUMNS), name)
        found.append((short, _step(group[name], node.shape[i]), _text(group[name].attrs.get("units"))))
    return found


def _of_nion(node: Any) -> list[Axis] | None:
    """Nion Swift: a text in JSON with a calibration for each axis."""
    if "properties" not in node.attrs:
        return None
    told = json.loads(_text(node.attrs["properties"]))
    return [("", float(one["scale"]), str(one["units"])) for one in told["dimensional_calibrations"]]


def _of_scales(node: Any) -> list[Axis] | None:
    """Fiji and ilastik: the size of a voxel in micrometres, of the last axes."""
    if "element_size_um" not in node.attrs:
        return None
    sizes = [float(size) for size in np.ravel(node.attrs["element_size_um"])]
    unknown = [None] * (node.ndim - len(sizes))
    return [("", size, "um" if size else "") for size in [*unknown, *sizes][-node.ndim :]]


def _of_attributes(node: Any) -> tuple[float, float] | None:
    """An attribute pixel_size_nm or the like, of the data set or of the group it is in."""
    for place in (node, node.parent):
        unit = _text(
            place.attrs.get("pixel_unit") or place.attrs.get("pixel_size_unit") or place.attrs.get("units")
        )
        names = {
            "pixel_size_nm": "nm",
            "pixel_nm": "nm",
            "pixel_size_A": "A",
            "pixel_size_pm": "pm",
            "pixel_size": unit,
        }
        for name, of in names.items():
            if name in place.attrs:
                values = np.ravel(place.attrs[name]).astype(float)
                return nm_of_axes((step, of) for step in np.broadcast_to(values, 2))
    return None


def _step(dim: Any, length: int) -> float | None:
    """The step of coordinates: all of them, or the first two."""
    values = np.asarray(dim[()])
    return constant_step(values) if len(values) in {2, length} else None


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)
