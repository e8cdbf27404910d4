"""From the parts of a run to arrays over all columns, in memory or in a zarr group whose record is written last."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from torchmotif.analysis.assemblies import merged
from torchmotif.analysis.plan import Batch, Image
from torchmotif.analysis.stages import moments_for_motifs
from torchmotif.analysis.store import Work

__all__ = ["gathered", "publish", "summaries"]

_COLUMNS = (
    "positions",
    "intensities",
    "position_errors",
    "intensity_errors",
    "fit_quality",
    "is_rim",
    "is_overlapping",
    "is_saturated",
    "is_predicted",
    "is_fixed",
)
_LABELS = ("labels", "probabilities", "angles", "mirrored")
_ROWS = 65_536  # of a chunk


def summaries(
    batches: Sequence[Batch],
    images: Sequence[Image],
    record: dict[str, Any],
    templates: dict[int, np.ndarray],
) -> dict[str, np.ndarray]:
    """Complete the record by what was counted, and give the arrays that are not over all columns.

    `templates` are those of groups of motifs whose templates are not the means of patches.
    """
    groups = record["motif_groups"]
    group_of = {images[i].number: group["number"] for group in groups for i in group["images"]}
    numbers = [image.number for image in images]
    counts, whole, partial = np.zeros((3, max(numbers) + 1), np.int64)
    sums: dict[int, np.ndarray] = {}
    seen: dict[int, np.ndarray] = {}
    members: dict[int, np.ndarray] = {}
    for batch in batches:
        part = batch.load("labels")
        counts += np.bincount(part["image"], minlength=len(counts))
        whole += np.bincount(part["image"][part["whole"]], minlength=len(counts))
        by_part = ~part["whole"] & (part["labels"] >= 0)
        partial += np.bincount(part["image"][by_part], minlength=len(counts))
        group, n_motifs = group_of[batch.images[0].number], len(part["sums"])
        sums[group] = sums.get(group, 0) + part["sums"]
        for found, of in ((seen, part["labels"][part["whole"]]), (members, part["labels"])):
            found[group] = found.get(group, 0) + np.bincount(of + 1, minlength=n_motifs + 1)[1:]
    asked, n_max = (record["parameters"][name] for name in ("n_motifs", "n_max"))
    for image, number in zip(record["images"], numbers, strict=True):
        total, rim = int(counts[number]), int(counts[number] - whole[number] - partial[number])
        found, order, size = (
            groups[group_of[number]][name] for name in ("n_motifs", "n_max", "patch_size_px")
        )
        image["n_columns"] = total
        if rim or partial[number]:
            told = f"; {int(partial[number])} more have the motif that the part within the image tells"
            image["notes"].append(
                f"{rim} of {total} columns lie at the rim, with too little of their patch to have a motif"
                + (told if partial[number] else "")
            )
        if asked is not None and found < asked:
            image["notes"].append(f"only {found} of the {asked} motifs asked for differ at all")
        if order < n_max:
            image["notes"].append(f"moments to order {order}: patches of {size} px carry no more")
    record["n_columns"] = int(counts.sum())
    record["column_arrays"] = [name for name in _COLUMNS if name in batches[0].load("columns")]
    arrays: dict[str, np.ndarray] = {}
    for group, total_patch in sums.items():
        groups[group]["counts"] = members[group].tolist()
        mean = total_patch / np.maximum(seen[group], 1)[:, None, None]
        arrays[f"templates/{group}"] = templates.get(group, mean).astype(np.float32)
    return arrays | (_hierarchies(batches, images) if record["hierarchy"] else {})


def gathered(batches: Sequence[Batch]) -> Iterator[dict[str, np.ndarray]]:
    """Arrays over the columns of every batch, in order."""
    for batch in batches:
        labels, columns = batch.load("labels"), batch.load("columns")
        rows, lower = labels["rows"], moments_for_motifs(batch.n_max, batch.survey.patch_size)
        arrays = {f"columns/{name}": columns[name][rows] for name in _COLUMNS if name in columns}
        arrays["moments"] = batch.load("moments")["moments"][rows, :lower]
        yield arrays | {name: labels[name] for name in _LABELS if name in labels}


def publish(
    batches: Sequence[Batch], work: Work, record: dict[str, Any], others: dict[str, np.ndarray]
) -> None:
    """Write the arrays, over what an attempt that was killed has left of them, and at last the record."""
    import zarr

    root, n, first = zarr.open_group(work.root, mode="a"), record["n_columns"], 0

    def made(name: str, shape: tuple[int, ...], like: np.ndarray) -> Any:
        # Noise does not compress.
        compressors: Any = None if like.dtype.kind == "f" and shape[0] == n and like.ndim > 1 else "auto"
        chunks = (max(1, min(_ROWS, shape[0])), *shape[1:])
        return root.create_array(
            name, shape=shape, dtype=like.dtype, chunks=chunks, compressors=compressors, overwrite=True
        )

    for arrays in gathered(batches):
        for name, values in arrays.items():
            if first == 0:
                made(name, (n, *values.shape[1:]), values)
            root[name][first : first + len(values)] = values
        first += len(values)
    for name, values in others.items():
        made(name, values.shape, values)[...] = values
    work.finish(record)


def _hierarchies(batches: Sequence[Batch], images: Sequence[Image]) -> dict[str, np.ndarray]:
    """The assemblies of every image and of all, as JSON in arrays of bytes."""
    parts: dict[int, list[Any]] = {image.number: [] for image in images}
    for batch in batches:
        counted: Any = batch.parts.read_json(batch.name("assemblies"))
        for number, counts in counted.items():
            parts[int(number)].append(counts)
    found = {str(i): merged(parts[image.number]) for i, image in enumerate(images)}
    found["all"] = merged([part for image in images for part in parts[image.number]])
    return {f"hierarchy/{name}": np.frombuffer(text.encode(), np.uint8) for name, text in found.items()}
