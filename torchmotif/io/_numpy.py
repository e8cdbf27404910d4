"""Arrays of numpy: npy, mapped into memory, and npz."""

from pathlib import Path
from typing import Any

import numpy as np

from torchmotif._guards import check_unpacked
from torchmotif.errors import ReadError
from torchmotif.io._dataset import Dataset

__all__ = ["npy", "npz"]

# Scalars of an archive that are the pixel size, and their unit in nm.
_SIZES = {"pixel_size_nm": 1.0, "pixel_nm": 1.0, "pixel_size_A": 0.1, "pixel_size_pm": 1e-3}


def npy(path: Path, *, lazy: bool = False) -> list[Dataset]:
    """The one array of an npy file."""
    try:
        mapped = np.load(
            path, mmap_mode="r", allow_pickle=False
        )  # which compares the shape with the file's size
    except ValueError as error:
        if "Python objects" not in str(error):
            raise
        raise ReadError(
            f"{path} holds no image: it has Python objects, which are never loaded; save the array as numbers, "
            "for example np.save(path, np.asarray(pixels, float))"
        ) from error
    return [Dataset(mapped if lazy else np.array(mapped))]


def npz(path: Path, **_: Any) -> list[Dataset]:
    """Arrays of at least one dimension are data; a scalar named pixel_size_nm or pixel_nm is the calibration."""
    with (
        path.open("rb") as file,
        np.load(file, allow_pickle=False) as archive,
    ):  # closed where it is cut short, too
        check_unpacked(sum(member.file_size for member in archive.zip.infolist()), path)
        if not archive.files or not any(name.endswith(".npy") for name in archive.zip.namelist()):
            raise ReadError(
                f"{path} is a zip archive without arrays of numpy; unpack it and give what is in it"
            )
        arrays = {name: _member(archive, name, path) for name in archive.files}
    size = None
    for key, factor in _SIZES.items():
        value = arrays.pop(key, None)
        if value is not None and value.size in {1, 2} and value.dtype.kind in "iuf" and (value > 0).all():
            rows, columns = np.broadcast_to(value.reshape(-1) * factor, 2).tolist()
            size = size or (rows, columns)
    return [Dataset(array, name, size) for name, array in arrays.items() if array.ndim]


def _member(archive: Any, name: str, path: Path) -> np.ndarray:
    try:
        return np.asarray(archive[name])
    except ValueError as error:
        if "Object" not in str(error):
            raise
        raise ReadError(
            f"{path} holds Python objects under {name!r}, which are never loaded; save numbers only"
        ) from error
