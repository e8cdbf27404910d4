"""From the parts of a run to the store: arrays over all columns, written first, the record that makes them valid last."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from torchmotif.field.assemblies import FieldHierarchy
from torchmotif.field.plan import Job
from torchmotif.field.store import RECORD, unwritable

__all__ = ["COLUMN_ARRAYS", "finish"]

COLUMN_ARRAYS = (
    "positions",
    "intensities",
    "position_errors",
    "intensity_errors",
    "fit_quality",
    "is_rim",
    "is_overlapping",
    "is_saturated",
)
_ROWS = 65_536  # of a chunk


def finish(
    jobs: Sequence[Job], groups: Sequence[Sequence[int]], record: dict[str, Any], max_size: int
) -> dict[str, Any]:
    """Write the store. Until its last file is there, the parts are kept and the store counts as unfinished.

    Parameters
    ----------
    jobs : sequence of Job
        All images, with everything done.
    groups : sequence of sequences of int
        Images whose motifs were learnt together.
    record : dict
    max_size : int
        Of the assemblies; 0: none were counted.

    Returns
    -------
    dict
        The record as written.
    """
    work = jobs[0].work
    folder = work.folder / "final"
    try:
        shutil.rmtree(folder, ignore_errors=True)
        record = _written(folder, jobs, groups, record, max_size)
        for path in sorted(folder.iterdir()):
            if path.name == "zarr.json":
                continue
            target = work.root / path.name
            if target.exists():  # of an attempt that was killed
                shutil.rmtree(target)
            path.replace(target)
        (folder / "zarr.json").replace(work.root / "zarr.json")
    except OSError as error:
        raise unwritable(work.root, error) from error
    return record


def _written(
    folder: Path, jobs: Sequence[Job], groups: Sequence[Sequence[int]], record: dict[str, Any], max_size: int
) -> dict[str, Any]:
    """All arrays, and the record."""
    import zarr

    counts = [
        [len(job.work.load(job.name("labels", b))["labels"]) for b in range(len(job.survey.grid))]
        for job in jobs
    ]
    total = sum(map(sum, counts))
    root = zarr.create_group(folder, overwrite=True)
    writers: dict[str, _Rows] = {}
    sums: dict[int, np.ndarray] = {}
    seen: dict[int, np.ndarray] = {}
    group_of = {jobs[i].image: number for number, group in enumerate(groups) for i in group}
    for job, arrays in _blocks(jobs):
        for name, values in arrays.items():
            if name == "sums":
                continue
            if name not in writers:
                writers[name] = _Rows(root, name, total, values)
            writers[name].write(values)
        group = group_of[job.image]
        number = len(arrays["sums"])
        sums[group] = sums.get(group, 0) + arrays["sums"]
        seen[group] = seen.get(group, 0) + np.bincount(arrays["labels"] + 1, minlength=number + 1)[1:]
    for writer in writers.values():
        writer.close()
    templates = root.create_group("templates")
    for group, total_patch in sums.items():
        mean = (total_patch / np.maximum(seen[group], 1)[:, None, None]).astype(np.float32)
        _put(templates, str(group), mean)
    if max_size:
        _write_hierarchy(root, jobs)
    for image, per_block in zip(record["images"], counts, strict=True):
        image["n_columns"] = int(sum(per_block))
    record["n_columns"] = int(total)
    record["column_arrays"] = list(COLUMN_ARRAYS)
    for group, found in seen.items():
        record["motif_groups"][group]["counts"] = found.tolist()
    root.attrs[RECORD] = json.loads(json.dumps(record, default=str))
    return record


def _blocks(jobs: Sequence[Job]) -> Iterator[tuple[Job, dict[str, np.ndarray]]]:
    """Arrays of every block of every image, in order, whatever the tiles were."""
    for job in jobs:
        for number in range(len(job.survey.grid)):
            labels = job.work.load(job.name("labels", number))
            rows = labels["rows"]
            columns = job.work.load(job.name("columns", number))
            arrays = {f"columns/{name}": columns[name][rows] for name in COLUMN_ARRAYS}
            arrays["moments"] = job.work.load(job.name("moments", number))["moments"][rows]
            arrays |= {name: labels[name] for name in ("labels", "probabilities", "sums")}
            yield job, arrays


def _write_hierarchy(root: Any, jobs: Sequence[Job]) -> None:
    """The assemblies of every image and of all, as JSON in arrays of bytes."""
    group, every = root.create_group("hierarchy"), []
    for i, job in enumerate(jobs):
        parts = [job.work.read_json(job.name("assemblies", b)) for b in range(len(job.survey.grid))]
        every += parts
        if len(jobs) > 1:
            _put(group, str(i), _bytes(FieldHierarchy.merged(parts)))
    merged = _bytes(FieldHierarchy.merged(every))
    for name in ("all",) if len(jobs) > 1 else ("all", "0"):
        _put(group, name, merged)


def _bytes(hierarchy: FieldHierarchy) -> np.ndarray:
    return np.frombuffer(hierarchy.to_json().encode(), np.uint8)


def _put(group: Any, name: str, values: np.ndarray) -> None:
    array = group.create_array(
        name, shape=values.shape, dtype=values.dtype, chunks=tuple(max(1, n) for n in values.shape)
    )
    array[...] = values


class _Rows:
    """An array over all columns that is filled chunk by chunk, so that none is written twice."""

    def __init__(self, root: Any, name: str, total: int, like_: np.ndarray) -> None:
        shape = (total, *like_.shape[1:])
        packed = None if like_.dtype.kind == "f" and like_.ndim > 1 else "auto"  # noise does not compress
        self.array = root.create_array(
            name,
            shape=shape,
            dtype=like_.dtype,
            chunks=(min(_ROWS, max(total, 1)), *like_.shape[1:]),
            compressors=packed,
        )
        self.pending: list[np.ndarray] = []
        self.start, self.held = 0, 0

    def write(self, values: np.ndarray) -> None:
        """Take the next rows."""
        self.pending.append(values)
        self.held += len(values)
        while self.held >= _ROWS:
            joined = np.concatenate(self.pending)
            self._out(joined[:_ROWS])
            self.pending, self.held = [joined[_ROWS:]], len(joined) - _ROWS

    def close(self) -> None:
        """Write what is left."""
        if self.held:
            self._out(np.concatenate(self.pending))

    def _out(self, rows: np.ndarray) -> None:
        self.array[self.start : self.start + len(rows)] = rows
        self.start += len(rows)
