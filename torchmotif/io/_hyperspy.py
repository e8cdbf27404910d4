"""Signals of HyperSpy: the same groups, data and attributes in HDF5 (hspy) and in zarr (zspy)."""

from collections.abc import Callable
from typing import Any

import numpy as np

from torchmotif._units import nm_of_axes
from torchmotif.io._dataset import Dataset, spectra_noted, with_axes

__all__ = ["is_hyperspy", "signals"]

_EXPERIMENTS, _UNNAMED = "Experiments", "__unnamed__"
_COLOURS = ("R", "G", "B")


def is_hyperspy(root: Any) -> bool:
    """Whether a group is the root of a file of HyperSpy."""
    return "file_format" in root.attrs and _EXPERIMENTS in root


def signals(root: Any, stored: Callable[[Any], Any], kind: str) -> list[Dataset]:
    """The signals of a file.

    Parameters
    ----------
    root : h5py.File or zarr.Group
    stored : callable
        From a data set of it to lazy pixels.
    kind : str
        What kind of file it is, for people.
    """
    experiments = root[_EXPERIMENTS]
    groups = {title: experiments[title] for title in sorted(experiments.keys())}
    return [
        _signal(title if title != _UNNAMED else "", group, stored, kind)
        for title, group in groups.items()
        if hasattr(group, "keys") and "data" in group
    ]


def _signal(title: str, group: Any, stored: Callable[[Any], Any], kind: str) -> Dataset:
    data = stored(group["data"])
    metadata = {"title": title, "format": kind} if title else {"format": kind}
    if data.dtype.names is not None and set(_COLOURS) <= set(data.dtype.names):
        pixels = np.asarray(data)
        colours = np.stack([pixels[name] for name in _COLOURS], axis=-1)
        return Dataset(colours, title, _size(group, range(pixels.ndim)), "nm", True, metadata)
    axes = [dict(group[f"axis-{i}"].attrs) if f"axis-{i}" in group else {} for i in range(data.ndim)]
    image = [i for i, axis in enumerate(axes) if not _flag(axis.get("navigate", False))][-2:]
    signal_axes = len(image)
    if signal_axes < 2:  # a stack of spectra, or an image whose axes are all called navigation
        image = list(range(data.ndim))[-2:]
    others = [i for i in range(data.ndim) if i not in image]
    item = Dataset(with_axes(data, [*others, *image]), title, _size(group, image), "nm", False, metadata)
    return spectra_noted(item, signal_axes)


def _size(group: Any, axes: Any) -> tuple[float, float] | None:
    told = [group[f"axis-{i}"].attrs for i in axes if f"axis-{i}" in group]
    return nm_of_axes((axis.get("scale"), _text(axis.get("units"))) for axis in told)


def _flag(value: Any) -> bool:
    return _text(value).lower() in {"true", "1"}


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else str(value)
