"""One image of several: its pixels, read again, and how its result was made."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from torchmotif.analysis.sources import Source, as_sources
from torchmotif.columns.unmeasured import Unmeasured
from torchmotif.errors import ReadError
from torchmotif.image import Micrograph
from torchmotif.io import read

__all__ = ["record_of", "reread"]

_OF_SEVERAL = {"learn", "calibration", "hierarchy"}  # options that say nothing of one image


def reread(known: dict[str, Any], source: Source | None, number: int) -> Micrograph:
    """An image of a record, with the pixels that were not measured.

    Parameters
    ----------
    known : dict
        What the record says of the image.
    source : Source or None
        Where it came from, where it was in memory.
    number : int
        Of the image, for the error.

    Returns
    -------
    Micrograph

    Raises
    ------
    ReadError
        If its pixels were in memory and are no longer, or its file cannot be read.
    """
    size, hidden = known["pixel_size_nm"], known.get("unmeasured")
    calibrated: dict[str, Any] = {
        "pixel_size": None if size is None else tuple(size),
        "electrons_per_pixel": known.get("electrons_per_pixel"),
        "mask": None if hidden is None else Unmeasured.from_dict(hidden).mask,
    }
    if source is not None and source.array is not None:
        unmasked = replace(source, mask=None)
        return Micrograph(unmasked.part(), metadata=unmasked.metadata, **calibrated)
    if known["path"] is None:
        raise ReadError(
            f"the pixels of {known['name']} were in memory; give them: result_of({number}, pixels)"
        )
    path, frame, dataset = Path(known["path"]), known.get("frame"), known.get("dataset")
    if path.is_dir():
        lazy = as_sources(path, dataset=dataset, frame=frame)[0]
        return Micrograph(lazy.read(), metadata={"path": str(path)}, **calibrated)
    scan = read(path, frame=frame, dataset=dataset)
    return Micrograph(scan.data, metadata=scan.metadata, **calibrated)


def record_of(record: dict[str, Any], known: dict[str, Any], scan: Micrograph) -> dict[str, Any]:
    """How the result of one image was made, from the record of all: enough to make it again."""
    pixels = np.ascontiguousarray(scan.numpy())
    parameters = record.get("parameters", record["plan"]["options"])
    of_the_run = ("created", "versions", "platform", "threads", "timings_s")
    return {
        **{name: record.get(name) for name in of_the_run},
        "parameters": {name: one for name, one in parameters.items() if name not in _OF_SEVERAL},
        "input": {
            "path": scan.metadata.get("path"),
            "file_sha256": scan.metadata.get("sha256"),
            "pixels_sha256": hashlib.sha256(pixels.tobytes()).hexdigest(),
            "shape": list(pixels.shape),
            "dtype": str(pixels.dtype),
        },
        "notes": known["notes"],
        "warnings": known.get("warnings", []),
    }
