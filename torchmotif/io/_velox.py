"""EMD files of Thermo Fisher's Velox: images and stacks. Spectra beside them are not read.

rosettasciio reads them too, but where there are spectra it unpacks these as well, or fails without the package that does, and
gives the first frame of a stack only.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from torchmotif._units import nm_of_axes
from torchmotif.io._dataset import Dataset, with_axes

__all__ = ["is_velox", "velox"]

_IMAGES = "Data/Image"
_WRITERS = {"Velox", "DevelopersKit"}
_MOST_ABOUT = 1 << 24  # bytes of the text about an image


def is_velox(file: Any) -> bool:
    """Whether a file was written by Velox, or by the kit for its format."""
    if "Version" not in file or "Data" not in file:
        return False
    with suppress(ValueError, TypeError, IndexError, AttributeError):
        return json.loads(np.ravel(file["Version"][()])[0]).get("format") in _WRITERS
    return False


def velox(file: Any, stored: Callable[[Any], Any]) -> list[Dataset]:
    """The images of a file, named after their detectors.

    Parameters
    ----------
    file : h5py.File
    stored : callable
        From a data set of it to lazy pixels.
    """
    if _IMAGES not in file:
        return []
    operations = list(_operations(file))
    found = []
    for key, group in file[_IMAGES].items():
        if not hasattr(group, "keys") or "Data" not in group or group["Data"].ndim != 3:
            continue
        about = _about(group)
        name = _detector(about) or _made_by(operations, key) or key
        pixels = with_axes(stored(group["Data"]), (2, 0, 1))  # frames come last in the file
        metadata = {"title": name, "format": "Velox"}
        found.append(Dataset(pixels, name, _pixel_size(about), "nm", False, metadata))
    return _numbered(found)


def _about(group: Any) -> dict[str, Any]:
    """What is known of the first frame: text in JSON, a column of bytes for each frame."""
    with suppress(KeyError, ValueError, TypeError, IndexError):
        text = group["Metadata"]
        if text.shape[0] <= _MOST_ABOUT:
            found = json.loads(bytes(text[:, 0]).rstrip(b"\0").decode("utf-8", "replace"))
            return found if isinstance(found, dict) else {}
    return {}


def _pixel_size(about: Mapping[str, Any]) -> tuple[float, float] | None:
    with suppress(KeyError, TypeError, AttributeError):
        told = about["BinaryResult"]
        units = (told.get("PixelUnitY", told.get("PixelUnitX")), told.get("PixelUnitX"))
        sizes = (told["PixelSize"]["height"], told["PixelSize"]["width"])
        return nm_of_axes(zip(sizes, units, strict=True))
    return None


def _detector(about: Mapping[str, Any]) -> str:
    with suppress(KeyError, TypeError, AttributeError):
        told = about["BinaryResult"]
        if isinstance(told.get("Detector"), str) and told["Detector"]:
            return str(told["Detector"])
        return str(about["Detectors"][f"Detector-{told['DetectorIndex']}"]["DetectorName"])
    return ""


def _operations(file: Any) -> Iterator[tuple[str, str]]:
    """What made images: a text in JSON that holds their key, and a name for what it made."""
    if "Operations" not in file:
        return
    names = {"DpcOperation": "DPC", "IntegrationOperation": "DCFI", "FftOperation": "FFT"}
    for kind, group in file["Operations"].items():
        for entry in group.values() if hasattr(group, "values") else ():
            with suppress(ValueError, TypeError, IndexError, AttributeError):
                text = np.ravel(entry[()])[0]
                text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
                told = json.loads(text)
                name = told.get("detector") or told.get("cameraName") or names.get(kind, "")
                if "integrationMode" in told:
                    name = "iDPC" if told["integrationMode"] == "true" else "dDPC"
                yield str(told.get("dataPath", "")), str(name)


def _made_by(operations: list[tuple[str, str]], key: str) -> str:
    return next((name for path, name in operations if key in path), "")


def _numbered(found: list[Dataset]) -> list[Dataset]:
    """Names that occur again get a number."""
    counts: dict[str, int] = {}
    for i, item in enumerate(found):
        counts[item.name] = counts.get(item.name, 0) + 1
        if counts[item.name] > 1:
            name = f"{item.name} {counts[item.name]}"
            found[i] = Dataset(item.data, name, item.pixel_size, item.unit, item.is_rgb, item.metadata)
    return found
