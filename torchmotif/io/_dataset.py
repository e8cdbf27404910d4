"""What readers give: data sets with their calibration, whose pixels may still be in the file."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

__all__ = ["Dataset", "StoredArray", "images_last", "noted", "spectra_noted", "with_axes"]

_MOST_CHANNELS = 4  # of an array whose last axis counts images or colours rather than columns
_LEAST_SIDE = 8  # pixels; with fewer, which axis is which cannot be told from the shape


@dataclass(frozen=True, eq=False)
class StoredArray:
    """Pixels that stay in their file until a part of them is asked for. It travels to other processes.

    Parameters
    ----------
    read : callable
        From slices, one for each axis as stored, to an array of as many axes.
    stored : tuple of int
        Shape as stored.
    dtype : numpy.dtype
    axes : tuple of int
        For each axis of this array, which of the stored ones it is; of the others, `at` says which index is taken.
    at : mapping of int to int
        0 for those that it does not name.
    windows : bool
        Whether a window costs no more than the pixels in it.

    Examples
    --------
    >>> kept = np.arange(6).reshape(1, 2, 3)
    >>> lazy = StoredArray(kept.__getitem__, kept.shape, kept.dtype, (2, 1))
    >>> lazy.shape, lazy[1].tolist()
    ((3, 2), [1, 4])
    """

    read: Callable[[tuple[slice, ...]], np.ndarray]
    stored: tuple[int, ...]
    dtype: np.dtype[Any]
    axes: tuple[int, ...]
    at: Mapping[int, int] = field(default_factory=dict)
    windows: bool = True

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return tuple(self.stored[axis] for axis in self.axes)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.axes)

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all of them."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        """Length of the first axis."""
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        """Read a part: whole numbers and slices of step 1."""
        keys = key if isinstance(key, tuple) else (key,)
        wanted = {axis: (index, index + 1) for axis, index in self.at.items()}
        taken: list[int | slice] = []
        for axis, length, one in zip(self.axes, self.shape, keys, strict=False):
            if isinstance(one, slice):
                start, stop, step = one.indices(length)
                if step != 1:
                    raise IndexError("only slices of step 1 are read from a file")
                wanted[axis] = (start, max(start, stop))
                taken.append(slice(None))
            else:
                index = range(length)[one]  # raises where there is none
                wanted[axis] = (index, index + 1)
                taken.append(0)
        rest = {axis: (0, self.stored[axis] if axis in self.axes else 1) for axis in range(len(self.stored))}
        block = self.read(tuple(slice(*(rest | wanted)[axis]) for axis in range(len(self.stored))))
        others = [axis for axis in range(len(self.stored)) if axis not in self.axes]
        ordered = block.transpose(*self.axes, *others)
        part: np.ndarray = ordered.reshape(ordered.shape[: self.ndim])[tuple(taken)]
        return part

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Read everything."""
        return np.array(self[()], dtype=dtype, copy=copy)


@dataclass(frozen=True, eq=False)
class Dataset:
    """One array of a file, as it was stored.

    Attributes
    ----------
    data : array of shape (..., h, w), or (h, w, 3 or 4) where `is_rgb`
    name : str
        The title or key it has in the file.
    pixel_size : (float, float) or None
        Length of a pixel along (rows, columns) in `unit`.
    unit : str
    is_rgb : bool
    metadata : mapping
        Under "notes", what is to be known of it; under "format", what kind of file it is in.
    """

    data: Any
    name: str = ""
    pixel_size: tuple[float, float] | None = None
    unit: str = "nm"
    is_rgb: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def frames(self) -> int:
        """Number of images in it: 1 unless it is a stack."""
        return len(self.data) if self.data.ndim == 3 and not self.is_rgb else 1

    @property
    def notes(self) -> list[str]:
        """What is to be known of it."""
        return list(self.metadata.get("notes", []))


def noted(item: Dataset, *notes: str) -> Dataset:
    """The data set with more notes."""
    return replace(item, metadata={**item.metadata, "notes": [*item.notes, *notes]})


def spectra_noted(item: Dataset, signal_axes: int) -> Dataset:
    """The data set with a note where its last axis is that of spectra, as of EDS and EELS, and so no side of an image."""
    if signal_axes != 1 or item.data.ndim < 3:
        return item
    return noted(
        item,
        f"an array {item.data.shape} of spectra along its last axis, and no stack of images: sum over them for an image",
    )


def with_axes(data: Any, axes: Sequence[int], at: Mapping[int, int] | None = None) -> Any:
    """The array with these of its axes, in this order; of the others the index that `at` says, or the first."""
    if isinstance(data, StoredArray):
        others = {data.axes[axis]: index for axis, index in (at or {}).items()}
        return replace(data, axes=tuple(data.axes[axis] for axis in axes), at={**data.at, **others})
    index = tuple(slice(None) if axis in axes else (at or {}).get(axis, 0) for axis in range(data.ndim))
    kept = sorted(axes)
    return data[index].transpose(*(kept.index(axis) for axis in axes))


def images_last(item: Dataset) -> Dataset:
    """The data set without axes of length one, and with its images, where the last axis counts them, one after the other.

    Three or four bytes for each pixel are a colour.
    """
    shape = item.data.shape
    if item.is_rgb:
        return item
    long = [axis for axis, length in enumerate(shape) if length != 1]
    if len(shape) > 2 and len(long) < len(shape):
        keep = long if len(long) >= 2 else list(range(len(shape)))[-2:]
        item = replace(item, data=with_axes(item.data, keep))
    shape = item.data.shape
    if len(shape) != 3 or shape[2] > _MOST_CHANNELS or min(shape[:2]) < _LEAST_SIDE:
        return item
    if item.data.dtype == np.uint8 and shape[2] >= 3:
        return replace(item, data=np.asarray(item.data), is_rgb=True)
    moved = replace(item, data=with_axes(item.data, (2, 0, 1)))
    return noted(moved, f"an array {shape} taken as {shape[2]} images, counted by its last axis")
