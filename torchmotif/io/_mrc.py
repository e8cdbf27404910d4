"""MRC files, by the mrcfile library."""

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from torchmotif.errors import MissingDependencyError, ReadError
from torchmotif.io._dataset import Dataset, noted

__all__ = ["mrc"]

_BYTES, _COMPLEX = 0, {3, 4}  # modes
_IMOD_STAMP, _IMOD_SIGNED = 1146047817, 1
_SINCE_2014 = 20140  # the version from which bytes are signed


def mrc(path: Path, *, lazy: bool = False) -> list[Dataset]:
    """The image or stack of an MRC file; bytes are signed or not as its header says."""
    try:
        import mrcfile
    except ImportError as error:
        raise MissingDependencyError(
            f"{path} needs the package mrcfile: pip install 'torchmotif[io]'"
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is wrong with headers is found below
        try:
            with mrcfile.open(path, permissive=True, header_only=True) as file:
                header = file.header.copy()
                sizes = _extended(file) or _from_cell(file)
        except (ValueError, AttributeError) as error:
            raise ReadError(f"{path} cannot be read as an MRC file: its header may be damaged") from error
    mode = int(header.mode)
    if mode in _COMPLEX:
        raise ReadError(f"{path} holds no image: complex numbers; save their modulus")
    data = _mapped(path, header, mode)
    item = Dataset(data if lazy else np.array(data), _label(header), sizes)
    more = path.stat().st_size - int(header.nsymbt) - 1024 - data.nbytes
    if more:
        item = noted(item, f"{more} bytes of the file belong to no image by its header, which may be damaged")
    if mode == _BYTES:
        item = _with_sign(item, header)
    return [item]


def _mapped(path: Path, header: Any, mode: int) -> np.ndarray:
    """The pixels behind the header, still in the file."""
    from mrcfile.utils import dtype_from_mode

    order = header.nx.dtype.byteorder
    kind = np.dtype("f2") if mode == 12 else np.dtype(dtype_from_mode(mode))
    shape = tuple(int(n) for n in (header.nz, header.ny, header.nx))
    offset = 1024 + int(header.nsymbt)
    needed = math.prod(shape) * kind.itemsize + offset
    if min(shape) < 1 or int(header.nsymbt) < 0 or needed > path.stat().st_size:
        raise ReadError(
            f"{path} may be damaged or cut short: its header asks for {shape[0]} images of {shape[1]} x {shape[2]} pixels, "
            f"{needed} bytes; it has {path.stat().st_size}"
        )
    return np.memmap(path, kind.newbyteorder(order), "r", offset, shape)


def _with_sign(item: Dataset, header: Any) -> Dataset:
    """Bytes with the sign that the header's stamp, its range or its version tells."""
    order = "<" if np.dtype(header.nx.dtype).newbyteorder("=") == header.nx.dtype else ">"
    stamp, flags = np.frombuffer(header.extra2.tobytes()[40:48], f"{order}i4").tolist()
    low, high = float(header.dmin), float(header.dmax)
    known = low < high
    if stamp == _IMOD_STAMP:
        signed = bool(flags & _IMOD_SIGNED)
    elif known and (low < 0 or high > 127):
        signed = low < 0
    else:
        signed = True
    if stamp != _IMOD_STAMP and not known and int(header.nversion) < _SINCE_2014:
        item = noted(item, "the header does not say whether bytes are signed; they are read as signed")
    data = item.data if signed else item.data.view(np.uint8)
    return Dataset(data, item.name, item.pixel_size, item.unit, False, item.metadata)


def _from_cell(file: Any) -> tuple[float, float] | None:
    """Pixel size in nm along (rows, columns) from the size of the cell, which is in angstrom."""
    voxel = file.voxel_size
    size = (float(voxel.y) / 10, float(voxel.x) / 10)
    return size if all(math.isfinite(side) and side > 0 for side in size) else None


def _extended(file: Any) -> tuple[float, float] | None:
    """Pixel size in nm from the extended header of Thermo Fisher's microscopes, which is in metres."""
    if bytes(file.header.exttyp) not in {b"FEI1", b"FEI2"}:
        return None
    try:
        first = file.indexed_extended_header[0]
        size = (float(first["Pixel size Y"]) * 1e9, float(first["Pixel size X"]) * 1e9)
    except (TypeError, ValueError, IndexError, KeyError):
        return None
    return size if all(math.isfinite(side) and side > 0 for side in size) else None


def _label(header: Any) -> str:
    """The first label, unless it only says what program wrote the file."""
    label = bytes(header.label[0]).split(b"\0")[0].decode("ascii", "replace").strip() if header.nlabl else ""
    return "" if label.lower().startswith("created by") or "mrcfile.py" in label.lower() else label
