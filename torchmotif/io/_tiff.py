"""TIFF files, by tifffile: of any compression, with the calibration that microscopes and ImageJ write."""

import math
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from torchmotif._guards import check_unpacked
from torchmotif._units import nm_of_axes, nm_per
from torchmotif.errors import MissingDependencyError, ReadError
from torchmotif.io._dataset import Dataset, StoredArray, noted, with_axes

__all__ = ["tiff"]

# What tifffile says of those of its functions that only stand for those of a missing package.
_STAND_IN = "Raise ImportError."
_PLANES = "planes that the file calls colours are taken for frames, as colours are stored otherwise"
_COARSEST_NM = 1000.0  # resolution tags coarser than this say how to print a picture, not what it shows
_ZEISS_COLUMNS = 1024  # of the image that the pixel size of Zeiss' own tag is of
# Private tags of DigitalMicrograph for (rows, columns); those of x have the lower numbers.
_DM_UNITS, _DM_SCALES = (65004, 65003), (65010, 65009)


def tiff(path: Path, *, lazy: bool = False) -> list[Dataset]:
    """The images of a TIFF file, without thumbnails. Other files that an OME-TIFF names are not opened."""
    import tifffile

    with tifffile.TiffFile(path, _multifile=False) as file:
        found = []
        check_unpacked(sum(series.nbytes for series in file.series), path)
        for number, series in enumerate(file.series):
            page = series.keyframe
            _check_whole(series, path)
            _check_codecs(page, path)
            is_rgb = page.photometric in {2, 6} and series.axes[-1] == "S" and series.shape[-1] in {3, 4}
            data = _pixels(path, number, series, lazy=lazy)
            by_planes = series.axes.endswith("SYX") and page.photometric == 2
            if by_planes and not _are_frames(series):
                data = with_axes(data, [*range(data.ndim - 3), data.ndim - 2, data.ndim - 1, data.ndim - 3])
                is_rgb = True
            size = _pixel_size(file, series)
            name = series.name or ""
            item = Dataset(np.asarray(data) if is_rgb else _frames(data), name, size, "nm", is_rgb)
            found.append(noted(item, _PLANES) if by_planes and not is_rgb else item)
        largest = max((item.data.size for item in found), default=0)
    return [item for item in found if 4 * item.data.size > largest]  # the others are thumbnails


def _are_frames(series: Any) -> bool:
    """Whether planes that a file calls colours are the frames of a stack.

    tifffile, and what writes by it (imageio, scikit-image), calls three or four images colours unless it is told what they are, and
    then names the shape of the array and no axes; colours it writes pixel by pixel. A stack in which colours were seen would be
    mixed to one image; colours in which frames are seen are asked about. Other programs write planes of colours, of 8 or 16 bits.
    """
    is_guess = series.kind == "shaped" and series.axes == "SYX"
    return bool(is_guess or np.dtype(series.dtype) not in (np.uint8, np.uint16))


def _check_whole(series: Any, path: Path) -> None:
    """Check that all parts of all pages lie in the file; what unpacks them may fill up what is missing."""
    size = path.stat().st_size
    for page in series.pages:
        if page is None:
            continue
        ends = (offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False))
        if len(page.dataoffsets) < math.prod(series.keyframe.chunked) or max(ends, default=0) > size:
            raise ReadError(f"{path} is damaged or cut short: parts of an image are missing")


def _check_codecs(page: Any, path: Path) -> None:
    """Check that the pixels can be unpacked here, before it is taken for damage that they cannot."""
    from tifffile import TIFF

    for table, key in ((TIFF.DECOMPRESSORS, page.compression), (TIFF.UNPREDICTORS, page.predictor)):
        try:
            code = table[key]
            if getattr(code, "__doc__", None) == _STAND_IN:
                code(b"")
        except (KeyError, ImportError) as error:
            name = getattr(key, "name", key)
            try:
                import imagecodecs  # noqa: F401
            except ImportError:
                raise MissingDependencyError(
                    f"{path} is compressed ({name}), which needs the package imagecodecs: pip install 'torchmotif[io]'"
                ) from error
            raise ReadError(
                f"{path} is compressed ({name}) in a way that cannot be read here; save it without compression"
            ) from error


def _pixels(path: Path, number: int, series: Any, *, lazy: bool) -> Any:
    """The pixels of one series: mapped where they lie in one piece, by the page where there are several."""
    page, shape = series.keyframe, tuple(series.shape)
    if not lazy:
        return series.asarray()
    kind = np.dtype(page.parent.byteorder + page.dtype.char)
    if series.dataoffset is not None and page.is_memmappable:
        if series.dataoffset + series.size * kind.itemsize > path.stat().st_size:
            raise ReadError(f"{path} is damaged or cut short: parts of an image are missing")
        return np.memmap(path, kind, "r", series.dataoffset, shape)
    frames = math.prod(shape[:-2])
    if frames > 1 and page.shape == shape[-2:] and len(series) == frames:
        stored = (frames, *shape[-2:])
        return StoredArray(
            partial(_page, path, number), stored, np.dtype(page.dtype), (0, 1, 2), windows=False
        )
    return series.asarray()


def _page(path: Path, number: int, key: tuple[slice, ...]) -> np.ndarray:
    """Pages of a series, of which a part is taken; each is unpacked as a whole."""
    import tifffile

    with tifffile.TiffFile(path, _multifile=False) as file:
        pages = file.series[number].pages
        found = [pages[index].asarray()[key[1:]] for index in range(key[0].start, key[0].stop)]
    return np.stack(found)


def _frames(data: Any) -> Any:
    """Axes before those of the image counted as one."""
    if data.ndim < 4 or isinstance(data, StoredArray):
        return data
    return data.reshape(-1, *data.shape[-2:])


def _pixel_size(file: Any, series: Any) -> tuple[float, float] | None:
    """Nanometres per pixel along (rows, columns), by the first of the ways that the file knows."""
    ways: tuple[Callable[[Any, Any], tuple[float, float] | None], ...] = (
        _of_fei, _of_zeiss, _of_olympus, _of_tvips, _of_dm, _of_ome, _of_resolution,
    )  # fmt: skip
    for way in ways:
        with suppress(
            KeyError, ValueError, TypeError, IndexError, AttributeError, ZeroDivisionError, OverflowError
        ):
            size = way(file, series)
            if size is not None:
                return size
    return None


def _of_fei(file: Any, _: Any) -> tuple[float, float] | None:
    scan = (file.fei_metadata or {}).get("Scan", {})
    return nm_of_axes([(scan.get("PixelHeight"), "m"), (scan.get("PixelWidth"), "m")])


def _of_zeiss(file: Any, series: Any) -> tuple[float, float] | None:
    if not file.is_sem:
        return None
    size = float(file.sem_metadata[""][3]) * 1e9 * _ZEISS_COLUMNS / series.shape[-1]
    return (size, size) if size > 0 else None


def _of_olympus(file: Any, _: Any) -> tuple[float, float] | None:
    known = file.sis_metadata or {}
    return nm_of_axes([(known.get("pixelsizey"), "m"), (known.get("pixelsizex"), "m")])


def _of_tvips(file: Any, _: Any) -> tuple[float, float] | None:
    known = file.tvips_metadata or {}
    return nm_of_axes([(known.get("PixelSizeY"), "nm"), (known.get("PixelSizeX"), "nm")])


def _of_dm(_: Any, series: Any) -> tuple[float, float] | None:
    tags = series.keyframe.tags
    values = [[tags.valueof(code) for code in codes] for codes in (_DM_SCALES, _DM_UNITS)]
    return nm_of_axes(zip(*values, strict=True))


def _of_ome(file: Any, series: Any) -> tuple[float, float] | None:
    """The physical size in the OME-XML of this image; its unit is the micrometre where none is given."""
    from xml.etree import ElementTree as ET

    if not file.is_ome:
        return None
    images = [one for one in ET.fromstring(file.ome_metadata).iter() if one.tag.endswith("}Pixels")]  # noqa: S314  # tifffile has parsed it already
    known = images[min(file.series.index(series), len(images) - 1)].attrib
    return nm_of_axes(
        (known.get(f"PhysicalSize{axis}"), known.get(f"PhysicalSize{axis}Unit", "um")) for axis in "YX"
    )


def _of_resolution(file: Any, series: Any) -> tuple[float, float] | None:
    """The resolution tags, with ImageJ's unit or their own."""
    page = series.pages[0]
    tags = [page.tags.valueof(name) for name in ("YResolution", "XResolution")]
    if any(value is None or 0 in value for value in tags):
        return None
    unit = {2: "inch", 3: "cm"}.get(int(page.resolutionunit), "")
    if file.is_imagej:
        unit = str((file.imagej_metadata or {}).get("unit", ""))
    factor = 2.54e7 if unit == "inch" else nm_per(unit)
    if factor is None:
        return None
    rows, columns = (value[1] / value[0] * factor for value in tags)
    return (rows, columns) if file.is_imagej or max(rows, columns) < _COARSEST_NM else None
