"""Reading micrographs: common image files through permissive readers, microscope formats through rosettasciio."""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from torchmotif._guards import check_dm, check_hdf5, check_regular, check_unpacked
from torchmotif.errors import InputError, MissingDependencyError, MissingFileError, ReadError, TorchMotifError
from torchmotif.image import Micrograph, nm_of_axes, nm_per

__all__ = ["Dataset", "contents", "read"]

# Formats of rosettasciio that hold images and whose readers only parse. Those of netCDF and zspy, for example, run what
# the file says.
_PARSED = {
    "Arina", "Blockfile", "Bruker", "DENS", "DigitalMicrograph", "DigitalSurf", "EMD", "EMPAD", "HSPY", "Hamamatsu",
    "Image", "JEOL", "MRC", "NeXus", "PantaRhei", "Phenom", "QuantumDetector", "Ripple", "Semper", "TIA", "TVIPS",
}  # fmt: skip
_COARSEST_NM = 1000.0  # resolution tags coarser than this say how to print a picture, not what it shows


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
    """

    data: np.ndarray
    name: str = ""
    pixel_size: tuple[float, float] | None = None
    unit: str = "nm"
    is_rgb: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def frames(self) -> int:
        """Number of images in it: 1 unless it is a stack."""
        return len(self.data) if self.data.ndim == 3 and not self.is_rgb else 1


def read(path: str | Path, *, frame: int | None = None, dataset: str | int | None = None) -> Micrograph:
    """Read a micrograph with its calibration.

    Parameters
    ----------
    path : str or Path
        npy, npz, tif, png, jpg, bmp; with the extra ``io`` also dm3, dm4, emd, hspy, mrc, ser and the
        other formats of rosettasciio whose readers do not run what the file says.
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
        If the format needs the extra ``io``.

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
    chosen = _choose(contents(path), dataset, path)
    data, notes = _one_image(chosen, frame, path)
    metadata = {**chosen.metadata, "path": str(path), "sha256": _sha256(path)}
    if chosen.name:
        metadata["name"] = chosen.name
    metadata |= {key: value for key, value in (("frame", frame), ("dataset", dataset)) if value is not None}
    if notes:
        metadata["notes"] = notes
    return Micrograph(data, chosen.pixel_size, chosen.unit, metadata)


def contents(path: str | Path, *, lazy: bool = False) -> list[Dataset]:
    """Every data set of a file that holds images.

    Parameters
    ----------
    path : str or Path
    lazy : bool
        Map the pixels, or give them as dask arrays, where the format allows it, rather than read them.

    Returns
    -------
    list of Dataset

    Raises
    ------
    MissingFileError, ReadError, MissingDependencyError
        As `read`.
    """
    path = Path(path)
    if not path.exists():
        raise MissingFileError(f"there is no file {path}")
    if check_regular(path) == 0:
        raise ReadError(f"{path} is empty (0 bytes); export or copy it again")
    reader = _READERS.get(path.suffix.lower(), _read_microscope)
    try:
        found = reader(path, lazy=True) if lazy and reader in _LAZY else reader(path)
    except TorchMotifError:
        raise
    except Exception as error:  # readers fail on damaged files in whatever way they meet the damage
        reason = str(error).strip().splitlines()
        raise ReadError(
            f"{path} cannot be read as {path.suffix or 'an image'}: "
            f"{reason[0][:200] if reason else type(error).__name__}; it may be damaged, cut short, or of another format"
        ) from error
    found = [item for item in found if item.data.dtype.kind in "iuf" and item.data.size]
    if not found:
        raise ReadError(f"{path} holds no image of real numbers; take the modulus of complex ones")
    return found


def _choose(found: list[Dataset], dataset: str | int | None, path: Path) -> Dataset:
    images = [item for item in found if item.data.ndim >= 2] or found
    names = ", ".join(f"{i}: {item.name or 'unnamed'} {item.data.shape}" for i, item in enumerate(images))
    if dataset is None:
        if len(images) > 1:
            raise InputError(f"{path} holds {len(images)} data sets ({names}); choose one with dataset=...")
        return images[0]
    if isinstance(dataset, int) and -len(images) <= dataset < len(images):
        return images[dataset]
    named = [item for item in images if item.name == dataset]
    if len(named) != 1:
        raise InputError(f"dataset={dataset!r} is not one of those in {path} ({names})")
    return named[0]


def _one_image(chosen: Dataset, frame: int | None, path: Path) -> tuple[np.ndarray, list[str]]:
    data = chosen.data
    if chosen.is_rgb:
        return _luminance(data)
    if data.ndim < 2:
        raise InputError(f"{path} holds a one-dimensional array {data.shape}, not an image (h, w)")
    if data.ndim == 2:
        if frame not in {None, 0, -1}:
            raise InputError(f"frame={frame} was asked for, but {path} holds a single image")
        return data, []
    if data.ndim > 3:
        raise InputError(
            f"{path} holds a {data.ndim}-dimensional array {data.shape}; reduce it to an image (h, w) or a stack "
            "(frames, h, w), for example by summing over the detector"
        )
    if frame is None:
        raise InputError(f"{path} holds a stack of {len(data)} images {data.shape}; choose one with frame=0")
    if not -len(data) <= frame < len(data):
        raise InputError(f"frame={frame} is not in {path}, a stack of {len(data)} images")
    return data[frame], [f"frame {frame} of {len(data)}"]


def _luminance(data: np.ndarray) -> tuple[np.ndarray, list[str]]:
    from skimage.color import rgb2gray

    colour = data[..., :3]
    if (colour == colour[..., :1]).all():
        return np.ascontiguousarray(colour[..., 0]), ["grey image stored in colour: one channel taken"]
    return rgb2gray(colour).astype(np.float32), [
        "colour image turned to luminance: its scale is not electrons"
    ]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_npy(path: Path, *, lazy: bool = False) -> list[Dataset]:
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)  # which compares the shape with the file's size
    return [Dataset(mapped if lazy else np.array(mapped))]


def _read_npz(path: Path) -> list[Dataset]:
    """Arrays of at least one dimension are data; a scalar named pixel_size_nm or pixel_nm is the calibration."""
    with (
        path.open("rb") as file,
        np.load(file, allow_pickle=False) as archive,
    ):  # closed where it is cut short, too
        check_unpacked(sum(member.file_size for member in archive.zip.infolist()), path)
        arrays = {name: archive[name] for name in archive.files}
    sizes = [
        float(arrays[key]) for key in ("pixel_size_nm", "pixel_nm") if key in arrays and arrays[key].ndim == 0
    ]
    size = (sizes[0], sizes[0]) if sizes and sizes[0] > 0 else None
    return [
        Dataset(array, name, size)
        for name, array in arrays.items()
        if array.ndim and array.dtype.kind in "iuf"
    ]


def _read_picture(path: Path) -> list[Dataset]:
    import imageio.v3 as iio

    data = np.asarray(iio.imread(path.read_bytes()))
    if data.ndim == 3 and data.shape[-1] == 2:  # grey and alpha
        data = data[..., 0]
    return [Dataset(data, is_rgb=data.ndim == 3 and data.shape[-1] in {3, 4})]


def _read_tiff(path: Path, *, lazy: bool = False) -> list[Dataset]:
    import tifffile

    with tifffile.TiffFile(path) as file:
        found = []
        check_unpacked(sum(series.nbytes for series in file.series), path)
        for number, series in enumerate(file.series):
            is_rgb = series.axes.endswith("S") and series.shape[-1] in {3, 4}
            page = series.keyframe
            if len(page.dataoffsets) < math.prod(page.chunked):
                raise ReadError(f"{path} is damaged or cut short: parts of an image are missing")
            size, unit = _tiff_calibration(file, series.pages[0])
            mapped = lazy and series.dataoffset is not None  # in one piece, not compressed
            data = tifffile.memmap(path, series=number, mode="r") if mapped else series.asarray()
            found.append(Dataset(data, series.name or "", size, unit, is_rgb))
        largest = max((item.data.size for item in found), default=0)
    return [item for item in found if 4 * item.data.size > largest]  # the others are thumbnails


def _tiff_calibration(file: Any, page: Any) -> tuple[tuple[float, float] | None, str]:
    """Pixel size along (rows, columns): FEI's own metadata, else the resolution tags with ImageJ's or their own unit."""
    scan = (file.fei_metadata or {}).get("Scan", {})
    if scan.get("PixelHeight") and scan.get("PixelWidth"):
        return (float(scan["PixelHeight"]) * 1e9, float(scan["PixelWidth"]) * 1e9), "nm"
    tags = [page.tags.get(name) for name in ("YResolution", "XResolution")]
    if any(tag is None or 0 in tag.value for tag in tags):
        return None, "nm"
    unit = "cm" if page.resolutionunit == 3 else ""
    if file.imagej_metadata:
        unit = str(file.imagej_metadata.get("unit", "")).replace("\\u00B5", "u")
    factor = nm_per(unit)
    if factor is None:
        return None, "nm"
    rows, columns = (tag.value[1] / tag.value[0] * factor for tag in tags if tag is not None)
    return ((rows, columns), "nm") if max(rows, columns) < _COARSEST_NM else (None, "nm")


def _read_microscope(path: Path, *, lazy: bool = False) -> list[Dataset]:
    try:
        import h5py
        from rsciio import IO_PLUGINS
    except ImportError as error:
        raise MissingDependencyError(
            f"{path.suffix} files are read by rosettasciio: pip install 'torchmotif[io]'"
        ) from error
    extension = path.suffix.lower().lstrip(".")
    known = [p for p in IO_PLUGINS if extension in {str(e).lower() for e in p["file_extensions"]}]
    plugins = [p for p in known if p["name"] in _PARSED]
    if not plugins:
        why = "a format that could run code" if known else "which no reader knows"
        raise ReadError(
            f"{path} has the ending {path.suffix or '(none)'}, {why}; convert it to tif, npy, hspy or mrc"
        )
    if extension in {"dm3", "dm4"}:
        check_dm(path)
    elif h5py.is_hdf5(path):
        check_hdf5(path)
    failures: list[Exception] = []
    for plugin in plugins:  # several formats share an ending, such as h5
        try:
            signals = import_module(plugin["api"]).file_reader(str(path), **({"lazy": True} if lazy else {}))
        except Exception as error:  # noqa: BLE001  # the next plugin may know the file
            failures.append(error)
            continue
        return [_from_signal(signal) for signal in signals]
    raise failures[0]


def _from_signal(signal: Mapping[str, Any]) -> Dataset:
    data = signal["data"]
    if data.dtype.names is not None or not hasattr(data, "compute"):
        data = np.asarray(data)
    is_rgb = data.dtype.names is not None
    if data.dtype.names is not None:
        data = np.stack([data[name] for name in data.dtype.names[:3]], axis=-1)
    axes = [axis for axis in signal["axes"] if not axis.get("navigate", False)][-2:]
    if len(axes) < 2:  # a stack of spectra, or an image whose axes are all called navigation
        axes = list(signal["axes"])[-2:]
    size = nm_of_axes((axis.get("scale"), axis.get("units")) for axis in axes)
    general = signal.get("metadata", {}).get("General", {})
    title = str(general.get("title", ""))
    return Dataset(data, title, size, "nm", is_rgb, {"title": title} if title else {})


_LAZY = (_read_npy, _read_tiff, _read_microscope)
_READERS: dict[str, Callable[..., list[Dataset]]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".tif": _read_tiff,
    ".tiff": _read_tiff,
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".bmp"), _read_picture),
}
