"""What a field is read from: files, memory-mapped where the format allows it, and lazy arrays, window by window."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from torchmotif.errors import InputError, InputTypeError, ReadError
from torchmotif.image import Micrograph, nm_per

__all__ = ["Source", "as_sources", "digest", "spilled"]

_MICROSCOPE_LAZY = {".dm3", ".dm4", ".emd", ".hspy", ".zspy", ".mrc", ".ser", ".emi", ".blo"}


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
    pixel_size_nm : (float, float) or None
    """

    name: str
    path: Path | None = None
    array: Any = None
    frame: int | None = None
    dataset: str | int | None = None
    pixel_size_nm: tuple[float, float] | None = None
    electrons_per_pixel: float | None = None
    notes: list[str] = field(default_factory=list)

    def read(self, window: tuple[int, int, int, int] | None = None) -> np.ndarray:
        """The pixels of a window (first row, first column, end row, end column), in memory."""
        data = self.open()
        rows, cols = slice(None), slice(None)
        if window is not None:
            rows, cols = slice(window[0], window[2]), slice(window[1], window[3])
        part = data[rows, cols] if self.frame is None else data[self.frame, rows, cols]
        if hasattr(part, "compute"):
            part = part.compute(scheduler="synchronous")
        if hasattr(part, "detach"):
            part = part.detach().cpu().numpy()
        return np.array(part)  # a copy: mapped pages go back at once

    def open(self) -> Any:
        """The array behind it, opened where it is a file; not read as a whole where the format allows it."""
        if self.array is not None:
            return self.array
        if self.path is None:
            raise InputError(f"{self.name} has neither file nor array")
        return _opened(self.path, self.dataset)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) in pixels."""
        h, w = self.open().shape[-2:]
        return int(h), int(w)


def as_sources(source: Any, pixel_size_nm: Any = None) -> list[Source]:
    """The images of whatever a user gives; see `torchmotif.field.analyze`.

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
                electrons_per_pixel=source.electrons_per_pixel,
            )
        ]
    elif isinstance(source, str | Path):
        found = _of_file(Path(source))
    elif hasattr(source, "ndim") and hasattr(source, "dtype"):
        found = _of_array(source)
    elif isinstance(source, Sequence) and len(source):
        found = [one for item in source for one in as_sources(item)]
    else:
        raise InputTypeError(
            f"source must be a file, an array (numpy, torch, zarr, dask), a Micrograph, or a list of them, got "
            f"{type(source).__name__}"
        )
    if pixel_size_nm is not None:
        rows, cols = np.broadcast_to(np.asarray(pixel_size_nm, float), (2,)).tolist()
        if not (rows > 0 and cols > 0):
            raise InputError(f"pixel_size_nm must be positive, got {pixel_size_nm}")
        found = [replace(one, pixel_size_nm=(rows, cols)) for one in found]
    return found


def spilled(source: Source, folder: Path, number: int) -> Source:
    """The same image in a file that other processes can map, where it lies in this one's memory only.

    Formats that cannot be mapped are decoded once, here, rather than by every worker.
    """
    if source.path is not None:
        data = _opened(source.path, source.dataset)
        if isinstance(data, np.memmap) or hasattr(data, "compute"):
            return source
    elif not isinstance(source.array, np.ndarray) and not hasattr(source.array, "detach"):
        return source
    path = folder / f"source-{number}.npy"
    np.save(path, source.read())
    return replace(source, path=path, array=None, frame=None, dataset=None)


def digest(pixels: np.ndarray) -> str:
    """Checksum of pixels, whatever their layout in memory."""
    return hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16).hexdigest()


def _of_array(array: Any) -> list[Source]:
    kind = str(array.dtype)
    if not any(kind.startswith(name) for name in ("int", "uint", "float", "torch.", ">", "<", "bfloat")):
        raise InputTypeError(
            f"source must hold real numbers, got dtype {kind}; take the modulus of complex ones"
        )
    if kind == "torch.bool" or "complex" in kind:
        raise InputTypeError(f"source must hold real numbers, got dtype {kind}")
    if array.ndim == 2:
        return [Source("image", array=array)]
    if array.ndim == 3:
        return [Source(f"frame {i}", array=array, frame=i) for i in range(array.shape[0])]
    raise InputError(
        f"source must be an image (h, w) or a stack (frames, h, w), got {array.ndim} dimensions {tuple(array.shape)}"
    )


def _of_file(path: Path) -> list[Source]:
    """The images of a file, with their calibration; only its head is read where the format allows it."""
    from torchmotif.io import contents, read

    if path.suffix == ".zarr" or (path / "zarr.json").exists() or (path / ".zarray").exists():
        import zarr

        array = zarr.open_array(path, mode="r")
        return [
            replace(one, name=f"{path.name} {one.name}".removesuffix(" image")) for one in _of_array(array)
        ]
    if path.suffix == ".npy" and path.is_file():
        found = _of_array(_opened(path, None))
        return [
            replace(
                one,
                name=path.name if one.frame is None else f"{path.name} frame {one.frame}",
                path=path,
                array=None,
            )
            for one in found
        ]
    scan = contents(path)
    if len(scan) == 1 and scan[0].frames > 1:
        size = scan[0].pixel_size
        factor = nm_per(scan[0].unit)
        nm = None if size is None or factor is None else (size[0] * factor, size[1] * factor)
        return [
            Source(f"{path.name} frame {i}", path, frame=i, pixel_size_nm=nm) for i in range(scan[0].frames)
        ]
    micrograph = read(path)
    said = micrograph.metadata.get("notes", [])
    source = Source(
        path.name,
        path,
        pixel_size_nm=micrograph.pixel_size_nm,
        electrons_per_pixel=micrograph.electrons_per_pixel,
        notes=[said] if isinstance(said, str) else list(said),
    )
    mapped = path.suffix.lower() in _MICROSCOPE_LAZY | {".tif", ".tiff"}
    return [source if mapped else replace(source, array=micrograph.data)]


def _opened(path: Path, dataset: str | int | None) -> Any:
    """The array of a file: mapped, lazy, or read."""
    try:
        if path.suffix == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False)
        if path.suffix.lower() in {".tif", ".tiff"}:
            import tifffile

            try:
                return tifffile.memmap(path, mode="r")
            except ValueError:  # compressed, or not in one piece
                pass
        if path.suffix.lower() in _MICROSCOPE_LAZY:
            lazy = _lazy(path)
            if lazy is not None:
                return lazy
    except (OSError, ValueError, EOFError) as error:
        raise ReadError(f"{path} cannot be read: {error}; it may be damaged, or was moved") from error
    from torchmotif.io import read

    return read(path, dataset=dataset).data


def _lazy(path: Path) -> Any:
    """A dask array over a microscope file; None where its reader has no such mode."""
    from importlib import import_module

    try:
        from rsciio import IO_PLUGINS
    except ImportError:
        return None
    ending = path.suffix.lower().lstrip(".")
    for plugin in IO_PLUGINS:
        if ending in {str(e).lower() for e in plugin["file_extensions"]}:
            try:
                signals = import_module(plugin["api"]).file_reader(str(path), lazy=True)
            except Exception:  # noqa: BLE001, S112  # another plugin may know the file; reading it whole says why not
                continue
            images = [signal["data"] for signal in signals if getattr(signal["data"], "ndim", 0) in {2, 3}]
            if len(images) == 1 and images[0].dtype.names is None:
                return images[0]
    return None
