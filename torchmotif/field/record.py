"""What a store says of its run, and what a run finds of an earlier one."""

import copy
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from torchmotif.field import store as stores
from torchmotif.field.plan import Job, Survey

__all__ = ["begun", "electrons_per_count", "options_of", "record_of", "without_columns"]


def record_of(
    plan: dict[str, Any],
    jobs: Sequence[Job],
    surveys: Sequence[Survey],
    failures: list[dict[str, str]],
    *,
    names: list[str],
    options: dict[str, Any],
) -> dict[str, Any]:
    """How the result was made; the motifs are still to be added."""
    images = []
    for job in jobs:
        nm = job.source.pixel_size_nm
        common = job.survey.common
        images.append(
            {
                "name": job.source.name,
                "path": None if job.source.path is None else str(job.source.path),
                "shape": list(job.survey.shape),
                "pixel_size_nm": None if nm is None else list(nm),
                "spacing": common.spacing,
                "spacing_nm": None if nm is None else common.spacing * float(np.sqrt(np.prod(nm))),
                "width": list(common.width),
                "zoom": job.survey.zoom,
                "level": job.survey.level,
                "gain": job.survey.gain,
                "block_px": job.survey.grid.side,
                "notes": job.source.notes,
            }
        )
    return {
        "format": stores.FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "plan": plan,
        "surveys": [one.as_dict() for one in surveys],
        "names": names,
        "images": images,
        "motif_groups": [],
        "failures": failures,
        "hierarchy": options["hierarchy"],
    }


def begun(root: Path) -> dict[str, Any] | None:
    """Plan, surveys and names of the images of the run whose results or parts a store holds."""
    record = stores.read_record(root)
    if record is not None:
        return {"plan": record["plan"], "surveys": record["surveys"], "names": record.get("names", [])}
    above = root / ".work"
    for folder in sorted(above.iterdir()) if above.is_dir() else []:
        found = stores.Work(root, folder.name).read_json("plan.json")
        if found is not None:
            started: dict[str, Any] = found
            return started
    return None


def options_of(plan: dict[str, Any]) -> dict[str, Any]:
    """What a user can set, by name."""
    return {**plan["options"], **plan["versions"], "pixel_size_nm": plan["pixel_size_nm"]}


def without_columns(classifier: Any) -> Any:
    """The classifier without what is known of each column it was learnt on."""
    light = copy.copy(classifier)
    for name in ("labels_", "probabilities_", "outlier_scores_", "angles_", "mirrored_"):
        light.__dict__.pop(name, None)
    return light


def electrons_per_count(jobs: Sequence[Job]) -> float | None:
    """Known where every image says how many electrons it has; then counts start at zero, or at the least pixel."""
    known = [
        job.source.electrons_per_pixel / (job.survey.common.level * job.survey.gain)
        for job in jobs
        if job.source.electrons_per_pixel is not None and job.survey.common.level > 0
    ]
    return float(np.median(known)) if len(known) == len(jobs) else None
