"""MATLAB files up to version 7.2; those of 7.3 are HDF5."""

from pathlib import Path
from typing import Any

import numpy as np

from torchmotif._guards import check_unpacked
from torchmotif.io._dataset import Dataset, noted

__all__ = ["frames_first", "mat"]

_NUMBERS = {
    "double",
    "single",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "logical",
}
_MOST_NESTED = 4  # structures within structures that are looked into


def mat(path: Path, **_: Any) -> list[Dataset]:
    """The arrays of a MATLAB file, those in structures too; nothing in it is run."""
    from scipy.io import loadmat, whosmat

    known = whosmat(path)
    check_unpacked(sum(int(np.prod(shape, dtype=object)) for _, shape, _ in known), path)
    wanted = [name for name, _, kind in known if kind in _NUMBERS | {"struct"}]
    arrays = loadmat(path, variable_names=wanted, squeeze_me=False, struct_as_record=True) if wanted else {}
    found = []
    for name in wanted:
        found += _within(name, arrays.get(name), _MOST_NESTED)
    return found


def _within(name: str, value: Any, depth: int) -> list[Dataset]:
    """The arrays of a variable: itself, or those of a structure's fields."""
    if not isinstance(value, np.ndarray):
        return []
    if value.dtype.names is None:
        return [] if value.dtype == object or value.size < 2 else [frames_first(Dataset(value, name))]
    if value.size != 1 or not depth:
        return []
    record = value.reshape(-1)[0]
    return [
        item for field in value.dtype.names for item in _within(f"{name}.{field}", record[field], depth - 1)
    ]


def frames_first(item: Dataset) -> Dataset:
    """MATLAB's stacks are (h, w, frames), and its colour pictures (h, w, 3)."""
    shape = item.data.shape
    if len(shape) != 3 or (shape[2] in {1, 3, 4} and item.data.dtype == np.uint8):
        return item
    from torchmotif.io._dataset import with_axes

    moved = Dataset(
        with_axes(item.data, (2, 0, 1)), item.name, item.pixel_size, item.unit, False, item.metadata
    )
    return noted(moved, "a stack of MATLAB: its last axis counts the images")
