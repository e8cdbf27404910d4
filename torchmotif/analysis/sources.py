"""What a field is read from: files, memory-mapped where the format allows it, and lazy arrays, window by window."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchmotif._arrays import is_colour
from torchmotif._lazy import computed
from torchmotif._units import nm_per
from torchmotif.errors import InputError, InputTypeError
from torchmotif.image import Micrograph, checked_mask, labelled, per_axis
from torchmotif.io import Dataset, StoredArray, chosen, contents, frames_of, read

__all__ = ["Files", "Source", "as_sources", "digest", "spilled"]


@dataclass(frozen=True, eq=False)
class Source:
    """One image that is read window by window. It travels to other processes.

    Attributes
    ----------
    name : str
        For people: the file, or the frame of a stack.
    path : Path or None
        The file, where there is one.
    array : array-like or None
        What is read where there is no file: it has shape, dtype and slices.
    frame : int or None
        Which image of a stack.
    stack : int or None
        Of which stack it is a frame, where the source is one or several.
    dataset : str, int or None
        Which data set of a file with several.
    pixel_size_nm : (float, float) or None
    is_stated : bool
        Whether the pixel size was given beside the image, which then says none or another.
    electrons_per_pixel : float or None
    notes : list of str
    metadata : dict
        What else is known of the image, where it is a micrograph.
    mask : array of shape (h, w) or None
        True where pixels are left out; they are read as NaN.
    find_unmeasured : bool
        Whether to leave out pixels that look as if nothing was measured there.
    """

    name: str
    path: Path | None = None
    array: Any = None
    frame: int | None = None
    stack: int | None = None
    dataset: str | int | None = None
    pixel_size_nm: tuple[float, float] | None = None
    is_stated: bool = False
    electrons_per_pixel: float | None = None
    notes: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    mask: np.ndarray | None = None
    find_unmeasured: bool = True

    def part(self, window: tuple[int, int, int, int] | None = None) -> np.ndarray | Tensor:
        """The pixels of a window (first row, first column, end row, end column); a tensor where they are on an accelerator."""
        data = self.open()
        at = (slice(None), slice(None))
        if window is not None:
            at = (slice(window[0], window[2]), slice(window[1], window[3]))
        part = data[at] if self.frame is None else data[(self.frame, *at)]
        if hasattr(part, "compute"):
            part = computed(part)
        if isinstance(part, Tensor):
            part = part.detach().float() if part.dtype == torch.bfloat16 else part.detach()
            if part.device.type != "cpu":
                left_out = None if self.mask is None else torch.from_numpy(self.mask[at]).to(part.device)
                return part if left_out is None else part.float().masked_fill(left_out, torch.nan)
            part = part.numpy()
        if self.mask is not None:
            return np.where(self.mask[at], np.float32(np.nan), np.asarray(part, np.float32))
        return np.array(part)  # a copy: mapped pages go back at once

    def read(self, window: tuple[int, int, int, int] | None = None) -> np.ndarray:
        """The pixels of a window on the host."""
        part = self.part(window)
        return part.cpu().numpy() if isinstance(part, Tensor) else part

    def open(self) -> Any:
        """The array behind it, opened where it is a file; not read as a whole where the format allows it."""
        if self.array is not None:
            return self.array
        if self.path is None:
            raise InputError(f"{self.name} has neither file nor array")
        return _in_file(self.path, self.dataset).data

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) in pixels."""
        h, w = self.open().shape[-2:]
        return int(h), int(w)


def as_sources(
    source: Any,
    pixel_size_nm: Any = None,
    mask: Any = None,
    *,
    dataset: str | int | None = None,
    frame: int | None = None,
) -> list[Source]:
    """The images of whatever a user gives; see `torchmotif.field.analyze`. A mask is that of every image.

    Of files, `dataset` says which of several, and `frame` which one of a stack, all by default; see `torchmotif.read`.

    Raises
    ------
    InputTypeError, InputError
        If it is nothing that holds images.
    MissingFileError, ReadError
        If a file cannot be read.
    """
    if isinstance(source, Micrograph):
        found = [
            Source(
                str(source.metadata.get("path", "image")),
                array=source.data,
                pixel_size_nm=source.pixel_size_nm,
                is_stated="pixel_size_given_nm" in source.metadata,
                electrons_per_pixel=source.electrons_per_pixel,
                notes=_notes(source),
                metadata=dict(source.metadata),
                mask=source.mask,
            )
        ]
    elif isinstance(source, str | Path):
        found = _of_file(Path(source), dataset, frame)
    elif (named := labelled(source)) is not None:
        metadata = {"title": named.title} if named.title else {}
        found = [
            replace(one, pixel_size_nm=named.pixel_size_nm, notes=named.notes, metadata=metadata)
            for one in _of_array(named.data)
        ]
    elif hasattr(source, "ndim") and hasattr(source, "dtype"):
        found = _of_array(source)
    elif isinstance(source, Sequence) and not len(source):
        raise InputTypeError("source is empty: give at least one file or array")
    elif isinstance(source, Sequence):
        found = [
            one if one.stack is None else replace(one, stack=number)
            for number, item in enumerate(source)
            for one in as_sources(item)
        ]
    else:
        raise InputTypeError(
            f"source must be a file, an array (numpy, torch, zarr, dask, xarray), a Micrograph, a HyperSpy signal, or a list of them, got "
            f"{type(source).__name__}"
        )
    if pixel_size_nm is not None:
        size = per_axis(pixel_size_nm, "pixel_size_nm")
        found = [replace(one, pixel_size_nm=size, is_stated=True) for one in found]
    return found if mask is None else [_masked(one, mask) for one in found]


def _masked(source: Source, mask: Any) -> Source:
    if mask is False:
        return replace(source, find_unmeasured=False)
    values = checked_mask(mask, source.shape)
    return replace(source, mask=values if source.mask is None else values | source.mask)


@dataclass(frozen=True)
class Files:
    """The files of a batch, of which some may be bad.

    Attributes
    ----------
    patterns : str, Path, or sequence of them
        Names, and patterns such as "runs/*.dm4". A name that is there is that file, whatever signs are in it.
    dataset : str, int or None
        Which data set of those with several, see `torchmotif.read`.
    frame : int or None
        Which image of those with a stack; all by default.
    """

    patterns: str | Path | Sequence[str | Path]
    dataset: str | int | None = None
    frame: int | None = None

    def opened(self, pixel_size_nm: Any, mask: Any = None) -> tuple[list[Source], list[dict[str, str]]]:
        """The images of the files that can be read, and why the others cannot.

        Raises
        ------
        InputError
            If there is no file, or none that can be read.
        """
        paths = self._named()
        sources, failures = [], []
        alike = len({path.name for path in paths}) < len(paths)
        for number, path in enumerate(paths):
            name = str(path) if alike else path.name
            try:
                found = as_sources(path, pixel_size_nm, mask, dataset=self.dataset, frame=self.frame)
            except Exception as error:  # noqa: BLE001  # readers fail on damaged files in whatever way they meet the damage
                failures.append({"name": name, "reason": str(error).strip() or type(error).__name__})
                continue
            sources += [
                replace(
                    one,
                    name=one.name.replace(path.name, name, 1) if alike else one.name,
                    stack=None if one.stack is None else number,
                )
                for one in found
            ]
        if not sources:
            reasons = "; ".join(f"{failure['name']}: {failure['reason']}" for failure in failures)
            raise InputError(f"no file could be read: {reasons}")
        return sources, failures

    def _named(self) -> list[Path]:
        """Every file once, in order."""
        patterns = [self.patterns] if isinstance(self.patterns, str | Path) else list(self.patterns)
        found: dict[Path, None] = {}
        for pattern in patterns:
            text = str(pattern)
            is_pattern = any(sign in text for sign in "*?[") and not Path(text).exists()
            names = sorted(glob(text, recursive=True)) if is_pattern else [text]  # noqa: PTH207  # patterns may be absolute
            found |= dict.fromkeys(map(Path, names))
        if not found:
            raise InputError(f"files: nothing matches {', '.join(map(str, patterns)) or 'an empty list'}")
        return list(found)


def spilled(source: Source, folder: Path, number: int) -> Source:
    """The same image in a file that other processes can map, where it lies in this one's memory only.

    Formats that cannot be mapped are decoded once, here, rather than by every worker.
    """
    if _is_outside(source.open()) or not isinstance(source.open(), np.ndarray | Tensor | StoredArray):
        return source
    path = folder / f"source-{number}.npy"
    np.save(path, replace(source, mask=None).read())
    return replace(source, path=path, array=None, frame=None)


def digest(pixels: np.ndarray) -> str:
    """Checksum of pixels, whatever their layout in memory."""
    return hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16).hexdigest()


def _of_array(array: Any) -> list[Source]:
    kind = str(array.dtype).removeprefix("torch.").lstrip("<>=|")
    if not kind.startswith(("i", "u", "f", "bf")):  # int, uint, float, bfloat
        raise InputTypeError(
            f"source must hold real numbers, got dtype {array.dtype}; take the modulus of complex ones"
        )
    if array.ndim == 2:
        return [Source("image", array=array)]
    if array.ndim == 3 and array.shape[-1] == 1:
        raise InputError(
            f"source has images of {tuple(array.shape[1:])} pixels; the last axis has one pixel: give source[..., 0]"
        )
    if is_colour(array.shape):
        raise InputError(
            f"source is a picture in colours {tuple(array.shape)}; make it grey first, for example by source[..., :3].mean(axis=-1)"
        )
    if array.ndim == 3 and not array.shape[0]:
        raise InputError(f"source is a stack without frames: its shape is {tuple(array.shape)}")
    if array.ndim == 3:
        return [Source(f"frame {i}", array=array, frame=i, stack=0) for i in range(array.shape[0])]
    raise InputError(
        f"source must be an image (h, w) or a stack (frames, h, w), got {array.ndim} dimensions {tuple(array.shape)}"
    )


def _of_file(path: Path, dataset: str | int | None = None, frame: int | None = None) -> list[Source]:
    """The images of a file, with their calibration; only its head is read where the format allows it."""
    item = _in_file(path, dataset)
    frames = frames_of(item, frame, path)
    if frames is None and not _is_outside(item.data):
        scan = read(path, dataset=dataset)
        size, metadata = scan.pixel_size_nm, dict(scan.metadata)
        found = Source(path.name, path, scan.data, dataset=dataset, pixel_size_nm=size)
        return [replace(found, notes=_notes(scan), metadata=metadata)]
    kept = (
        item.data if isinstance(item.data, StoredArray) else None
    )  # else the file is opened again for each part
    metadata = {**item.metadata, "path": str(path)}
    source = Source(path.name, path, kept, dataset=dataset, pixel_size_nm=_nm(item))
    source = replace(source, notes=item.notes, metadata=metadata)
    if frames is None:
        return [source]
    return [
        replace(source, name=f"{path.name} frame {i}", frame=i, stack=0 if len(frames) > 1 else None)
        for i in frames
    ]


def _notes(scan: Micrograph) -> list[str]:
    said = scan.metadata.get("notes", [])
    return [said] if isinstance(said, str) else list(said)


def _in_file(path: Path, dataset: str | int | None) -> Dataset:
    """One data set of a file, its pixels mapped or lazy where the format allows it."""
    return chosen(contents(path, lazy=True), dataset, path)


def _nm(found: Dataset) -> tuple[float, float] | None:
    factor = nm_per(found.unit)
    if found.pixel_size is None or factor is None:
        return None
    return found.pixel_size[0] * factor, found.pixel_size[1] * factor


def _is_outside(data: Any) -> bool:
    """Whether pixels stay in their file until they are read."""
    return isinstance(data, np.memmap) or hasattr(data, "compute") or getattr(data, "windows", False)
