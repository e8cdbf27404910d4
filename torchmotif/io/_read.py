"""read(): one image of a file."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from torchmotif._lazy import computed
from torchmotif.errors import InputError
from torchmotif.image import Micrograph
from torchmotif.io._contents import contents, reading
from torchmotif.io._dataset import Dataset, noted

__all__ = ["chosen", "frames_of", "read", "read_mask"]


def read(path: str | Path, *, frame: int | None = None, dataset: str | int | None = None) -> Micrograph:
    """Read a micrograph with its calibration.

    Parameters
    ----------
    path : str or Path
        npy, npz, tif, png, jpg, bmp, mat, text, zarr; with the extra ``io`` also dm3, dm4, emd, hspy, zspy, h5, nxs, mrc, ser and the
        other formats of rosettasciio whose readers do not run what the file says. What a file is, is told by how it begins
        rather than by its name.
    frame : int, optional
        Which image of a stack, from 0; negative numbers count from the end.
    dataset : str or int, optional
        Which data set of a file that holds several images, by name or number.

    Returns
    -------
    Micrograph
        Pixels of the type they have in the file; colour is turned to luminance. `pixel_size` is None where the file
        has none. The metadata hold the path and the SHA-256 of the file.

    Raises
    ------
    MissingFileError
        If there is no such file.
    ReadError
        If the file is empty, damaged, or not what its name says.
    InputError
        If the file holds several images and `frame` or `dataset` does not say which.
    MissingDependencyError
        If the format needs a package that is not installed; the message names it.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp()) / "scan.npy"
    >>> np.save(path, np.zeros((32, 32), np.uint16))
    >>> read(path)
    Micrograph(32 x 32 uint16, no pixel size)
    """
    path = Path(path)
    item = chosen(contents(path, lazy=True), dataset, path)
    frames, notes = frames_of(item, frame, path), []
    if frames is not None and frame is None:
        raise InputError(
            f"{path} holds a stack of {len(frames)} images {item.data.shape}; choose one with frame=0, or learn all of "
            "them together: field.analyze, on the command line torchmotif batch"
        )
    if frames is not None:
        notes.append(f"frame {frame} of {len(item.data)}")
    pixels = reading(path, "what it seems to be", _in_memory, item.data, frames[0] if frames else None)
    if item.is_rgb:
        pixels, more = _luminance(pixels)
        notes += more
    metadata = {**item.metadata, "path": str(path), "sha256": _sha256(path)}
    if item.name:
        metadata["name"] = item.name
    metadata |= {key: value for key, value in (("frame", frame), ("dataset", dataset)) if value is not None}
    if item.notes or notes:
        metadata["notes"] = [*item.notes, *notes]
    return Micrograph(pixels, item.pixel_size, item.unit, metadata)


def read_mask(path: str | Path) -> np.ndarray:
    """Read a mask: true and false values, or numbers or a picture, of which all but 0 and black are true.

    Parameters
    ----------
    path : str or Path
        Of a format that `read` reads.

    Returns
    -------
    array of shape (h, w), bool

    Raises
    ------
    MissingFileError, ReadError, InputError, MissingDependencyError
        As `read`.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> path = Path(tempfile.mkdtemp()) / "mask.npy"
    >>> np.save(path, np.eye(32, dtype=bool))
    >>> int(read_mask(path).sum())
    32
    """
    path = Path(path)
    item = chosen(contents(path, kinds="biuf"), None, path)
    if frames_of(item, None, path) is not None:
        raise InputError(f"{path} holds a stack {item.data.shape}; a mask is one image (h, w)")
    pixels = reading(path, "what it seems to be", _in_memory, item.data, None)
    return np.asarray((pixels[..., :3] != 0).any(axis=-1) if item.is_rgb else pixels != 0)


def chosen(found: list[Dataset], dataset: str | int | None, path: Path) -> Dataset:
    """The data set of this name or number, or the only one.

    Parameters
    ----------
    found : list of Dataset
        From `contents`.
    dataset : str, int or None
        A name may be the last part of one, where no other ends so. The only image of a file, where it has no name, is
        taken whatever the name, and a note says so.
    path : Path
        For messages.

    Returns
    -------
    Dataset

    Raises
    ------
    InputError
        If there is no such data set, or several and none was named.
    """
    images = [item for item in found if item.data.ndim >= 2] or found
    names = ", ".join(f"{i}: {item.name or 'unnamed'} {item.data.shape}" for i, item in enumerate(images))
    if dataset is None:
        if len(images) > 1:
            raise InputError(f"{path} holds {len(images)} data sets ({names}); choose one with dataset=...")
        return images[0]
    if isinstance(dataset, int) and -len(images) <= dataset < len(images):
        return images[dataset]
    for known in (str, _last_part, str.lower):
        named = [item for item in images if known(item.name) == known(str(dataset))]
        if len(named) == 1:
            return named[0]
    if isinstance(dataset, str) and len(images) == 1 and not images[0].name:
        return noted(images[0], f"the only image in the file has no name; it was taken for {dataset!r}")
    raise InputError(f"dataset={dataset!r} is not one of those in {path} ({names})")


def _last_part(name: str) -> str:
    return name.rpartition("/")[2]


def frames_of(item: Dataset, frame: int | None, path: Path) -> list[int] | None:
    """Which frames of a data set are meant: all of a stack, or one of it; None of a single image.

    Parameters
    ----------
    item : Dataset
    frame : int or None
        Negative numbers count from the end.
    path : Path
        For messages.

    Returns
    -------
    list of int, or None

    Raises
    ------
    InputError
        If it is neither an image nor a stack, or has no such frame.
    """
    data = item.data
    if data.ndim < 2:
        raise InputError(f"{path} holds a one-dimensional array {data.shape}, not an image (h, w)")
    if data.ndim == 2 or item.is_rgb:
        if frame not in {None, 0, -1}:
            raise InputError(f"frame={frame} was asked for, but {path} holds a single image")
        return None
    if data.ndim > 3:
        raise InputError(
            f"{path} holds a {data.ndim}-dimensional array {data.shape}; reduce it to an image (h, w) or a stack "
            "(frames, h, w), for example by summing over the detector"
        )
    if frame is None:
        return list(range(len(data)))
    if not -len(data) <= frame < len(data):
        raise InputError(f"frame={frame} is not in {path}, a stack of {len(data)} images")
    return [frame % len(data)]


def _in_memory(data: Any, frame: int | None) -> np.ndarray:
    """A copy, so that the file may be replaced."""
    pixels = data if frame is None else data[frame]
    return np.array(computed(pixels), order="C")


def _luminance(data: np.ndarray) -> tuple[np.ndarray, list[str]]:
    from skimage.color import rgb2gray

    colour = data[..., :3]
    if (colour == colour[..., :1]).all():
        return np.ascontiguousarray(colour[..., 0]), ["grey image stored in colour: one channel taken"]
    return rgb2gray(colour).astype(np.float32), [
        "colour image turned to luminance: its scale is not electrons"
    ]


def _sha256(path: Path) -> str:
    """Of a file, or of all files in a folder, with their names."""
    if path.is_dir():
        files = sorted(one for one in path.rglob("*") if one.is_file())
        told = "".join(f"{one.relative_to(path).as_posix()}\n{_sha256(one)}\n" for one in files)
        return hashlib.sha256(told.encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
