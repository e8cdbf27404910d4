"""HDF5 files: of HyperSpy, Velox, Berkeley, NeXus, MATLAB, Nion, and any others whose data sets are images."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from torchmotif._guards import check_hdf5, check_unpacked
from torchmotif.errors import MissingDependencyError, ReadError
from torchmotif.io._axes import calibrated
from torchmotif.io._dataset import Dataset, StoredArray
from torchmotif.io._hyperspy import is_hyperspy, signals
from torchmotif.io._mat import frames_first
from torchmotif.io._velox import is_velox, velox

__all__ = ["hdf5"]

_FIRST_OWN_FILTER = 256  # numbers from here on are of compressions that HDF5 itself does not have


def hdf5(path: Path, *, lazy: bool = False) -> list[Dataset]:
    """The images of an HDF5 file, by what wrote it; of an unknown one every data set of two dimensions or more."""
    try:
        import h5py
    except ImportError as error:
        raise MissingDependencyError(
            f"{path} needs the package h5py: pip install 'torchmotif[io]'"
        ) from error
    if not h5py.is_hdf5(path):
        raise ReadError(f"{path} is no HDF5 file: it may be damaged, cut short, or of another format")
    check_hdf5(path)
    with h5py.File(path, "r") as file:
        if is_hyperspy(file):
            found = signals(file, partial(_stored, path), "HyperSpy")
        elif is_velox(file):
            found = velox(file, partial(_stored, path))
        else:
            found = [_described(path, name, one) for name, one in _datasets(file)]
    if lazy:
        return found
    return [
        Dataset(np.asarray(item.data), item.name, item.pixel_size, item.unit, item.is_rgb, item.metadata)
        if item.data.dtype.kind in "iuf" and item.data.ndim >= 2
        else item
        for item in found
    ]


def _stored(path: Path, node: Any) -> StoredArray:
    """The values of a data set, still in the file."""
    _check_filters(path, node)
    shape = tuple(int(n) for n in node.shape or ())
    return StoredArray(partial(_read, path, node.name), shape, np.dtype(node.dtype), tuple(range(len(shape))))


def _read(path: Path, name: str, key: tuple[slice, ...]) -> np.ndarray:
    import h5py

    with h5py.File(path, "r") as file:
        node = file[name]
        _check_filters(path, node)
        count = int(np.prod([max(part.stop - part.start, 0) for part in key], dtype=object))
        check_unpacked(count * node.dtype.itemsize, path)
        return np.asarray(node[key])


def _check_filters(path: Path, node: Any) -> None:
    """Check that what a data set is compressed with is known here, before it is taken for damage that it is not."""
    import h5py

    plan = node.id.get_create_plist()
    used = [plan.get_filter(i)[0] for i in range(plan.get_nfilters())]
    missing = [number for number in used if not h5py.h5z.filter_avail(number)]
    if not missing:
        return
    try:
        import hdf5plugin  # noqa: F401  # which makes its compressions known
    except ImportError as error:
        raise MissingDependencyError(
            f"{path} is compressed in a way (HDF5 filter {missing[0]}) that needs the package hdf5plugin: "
            "pip install 'torchmotif[io]'"
        ) from error
    unknown = [number for number in missing if not h5py.h5z.filter_avail(number)]
    if unknown:
        damaged = ", or may be damaged" if unknown[0] < _FIRST_OWN_FILTER else ""
        raise ReadError(
            f"{path} is compressed with HDF5 filter {unknown[0]}, which is not known here{damaged}"
        )


def _datasets(file: Any) -> Iterator[tuple[str, Any]]:
    """Every data set once, under the name by which its calibration is found: that of NeXus' data groups first."""
    import h5py

    groups, seen = [file["/"]], {file["/"]}
    for group in groups:  # which grows meanwhile
        for key in group:
            item = group.get(key)  # None where a link leads nowhere
            if isinstance(item, h5py.Group) and item not in seen:
                seen.add(item)
                groups.append(item)
    done = set()
    for group in sorted(groups, key=lambda one: _text(one.attrs.get("NX_class")) != "NXdata"):
        for key in group:
            item = group.get(key)
            if isinstance(item, h5py.Dataset) and item not in done:
                done.add(item)
                if item.shape is not None and len(item.shape) >= 2:
                    yield f"{group.name.rstrip('/')}/{key}".lstrip("/"), item


def _described(path: Path, name: str, node: Any) -> Dataset:
    item = Dataset(_stored(path, node), name)
    if "MATLAB_class" in node.attrs:  # version 7.3, which stores columns first
        axes = item.data.axes[::-1]
        return frames_first(
            Dataset(StoredArray(item.data.read, item.data.stored, item.data.dtype, axes), name)
        )
    return calibrated(item, node)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")
