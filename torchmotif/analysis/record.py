"""How a result was made: what a run depends on, and what is known of its images."""

import platform
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from torchmotif._files import plain
from torchmotif.analysis.checks import odd_distance
from torchmotif.analysis.plan import Image, Survey
from torchmotif.analysis.store import FORMAT
from torchmotif.columns.unmeasured import Unmeasured
from torchmotif.errors import TorchMotifWarning

__all__ = ["known_before", "note_speckle", "plan_of", "record_of", "warn", "warn_of_findings"]

_PLANNED = ("torchmotif", "torch", "numpy")  # versions that a run goes on with only where they are the same
_VERSIONS = (*_PLANNED, "scipy", "scikit-learn", "scikit-image", "tifffile", "pandas", "matplotlib")


def plan_of(images: Sequence[Image], options: dict[str, Any]) -> dict[str, Any]:
    """All that the result depends on."""
    kind = (options["device"] or "cpu").partition(":")[0]
    sizes = [image.source.pixel_size_nm for image in images]
    return {
        "format": FORMAT,
        "versions": {name: version(name) for name in _PLANNED},
        "options": options | {"device": None if kind == "cpu" else kind},
        "input": [image.survey.fingerprint for image in images],
        "pixel_size_nm": [None if size is None else list(size) for size in sizes],
    }


def record_of(
    plan: dict[str, Any], images: Sequence[Image], left: Sequence[Image], options: dict[str, Any]
) -> dict[str, Any]:
    """How the result of the images that are left was made; what is learnt and counted is still to be added."""
    return {
        "format": FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "plan": plan,
        "parameters": options,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _VERSIONS}},
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "surveys": [image.survey.as_dict() for image in images],
        "names": [image.source.name for image in images],
        "images": [_described(image) for image in left],
        "motif_groups": [],
        "hierarchy": options["hierarchy"],
    }


def _described(image: Image) -> dict[str, Any]:
    source, survey = image.source, image.survey
    nm, model, hidden = source.pixel_size_nm, survey.model, survey.unmeasured
    if source.mask is not None:
        nothing = np.zeros(survey.shape, bool)
        hidden = (hidden or Unmeasured(survey.shape, 1, nothing)).joined(source.mask)
    notes = [*source.notes, *([_unmeasured(survey)] if survey.invalid else [])]
    if survey.unmeasured is not None:
        notes.append(survey.unmeasured.note)
    if source.mask is not None:
        notes.append(f"{int(source.mask.sum())} pixels were left out by a mask")
    if model.dark:
        notes.append("columns are taken to be dark, as in a bright-field image")
    if model.hum:
        notes.append("something is added to whole rows, as by hum of the mains: their offsets were taken off")
    if survey.dose_doubts:
        notes.append(
            f"the noise is not that of counted electrons ({'; '.join(survey.dose_doubts)}): no dose can be told from it"
        )
    if survey.offset is not None and not survey.dose_doubts:
        notes.append(
            f"the darkest pixels have {survey.offset:.0%} of the mean, which looks like the detector's offset: "
            "motifs do not mind, but the dose is right only after it is subtracted"
        )
    if not source.is_stated and (odd := odd_distance(image)):  # else the self-check says it
        notes.append(odd)
    return {
        "name": source.name,
        "path": None if source.path is None else str(source.path),
        "frame": source.frame,
        "dataset": source.dataset,
        "shape": list(survey.shape),
        "pixel_size_nm": None if nm is None else list(nm),
        "electrons_per_pixel": source.electrons_per_pixel,
        "electrons_per_count": survey.electrons_per_count if image.stated_gain is None else image.stated_gain,
        "spacing": model.spacing,
        "spacing_nm": image.spacing_nm,
        "width": list(model.width),
        "model": plain(model.as_dict()),
        "dose_doubts": survey.dose_doubts,
        "warnings": [],
        "polarity": "dark" if model.dark else "bright",
        "zoom": survey.zoom,
        "level": survey.level,
        "gain": survey.gain,
        "block_px": survey.side,
        "unmeasured": None if hidden is None else hidden.as_dict(),
        "notes": notes,
    }


def note_speckle(record: dict[str, Any], counts: Sequence[int]) -> None:
    """Say of how many maxima of each image were left out."""
    for image, count in zip(record["images"], counts, strict=True):
        if count:
            said = f"{count} maxima that no neighbours support and that are fainter than the crystal's columns were left out"
            image["notes"].append(f"{said}: speckle of what it lies on")


def _unmeasured(survey: Survey) -> str:
    pixels = survey.shape[0] * survey.shape[1]
    return f"{survey.invalid} of {pixels} pixels are not finite; the mean of the others stands in for them"


def warn(images: Sequence[Image]) -> None:
    """Tell of pixels that are not finite."""
    bad = [image for image in images if image.survey.invalid]
    if bad:
        more = f", and {len(bad) - 1} more images have such pixels" if len(bad) > 1 else ""
        name = bad[0].source.name if len(images) > 1 else "image"
        said = f"{name}: {_unmeasured(bad[0].survey)}{more}. Crop the image if that matters."
        warnings.warn(said, TorchMotifWarning, stacklevel=5)


def warn_of_findings(record: dict[str, Any]) -> None:
    """Tell of what the self-check found."""
    doubtful = [one for one in record["images"] if one["warnings"]]
    if doubtful:
        name = f"{doubtful[0]['name']}: " if len(record["images"]) > 1 else ""
        more = f"; and {len(doubtful) - 1} more images have warnings" if len(doubtful) > 1 else ""
        said = name + "; ".join(doubtful[0]["warnings"]) + more
        warnings.warn(said, TorchMotifWarning, stacklevel=5)


def known_before(started: dict[str, Any] | None, names: list[str]) -> list[Any]:
    """For each image the survey that an earlier run made of it, None where there is none."""
    if started is None:
        return [None] * len(names)
    surveys, before = started["surveys"], started.get("names", [])
    if any("model" not in one for one in surveys):  # of an earlier version
        return [None] * len(names)
    if len(surveys) == len(names):
        return list(surveys)
    by_name = dict(zip(before, surveys, strict=False)) if len(set(before)) == len(before) else {}
    return [by_name.get(name) for name in names]
