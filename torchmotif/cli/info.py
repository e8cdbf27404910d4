"""torchmotif info: what is in an image file."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from torchmotif.cli.common import EXIT_CODES, Command, app, echo_json, failing_clearly
from torchmotif.cli.options import Image, Json

if TYPE_CHECKING:
    import numpy as np

    from torchmotif.io import Dataset

__all__ = ["info"]


@app.command(cls=Command, epilog=EXIT_CODES)
def info(image: Image, as_json: Json = False) -> None:
    r"""Say what is in an image file: data sets, size, type, calibration, range.

    \b
    Example: torchmotif info scan.dm4
             torchmotif info scan.dm4 --json
    """
    with failing_clearly():
        from torchmotif.io import contents

        datasets = contents(image, lazy=True)
        facts = [_facts(image, dataset) for dataset in datasets]
        if as_json:
            echo_json({"file": str(image), "datasets": facts})
            return
        for number, known in enumerate(facts):
            typer.echo(_description(image, known, number if len(facts) > 1 else None))


def _facts(path: Path, dataset: "Dataset") -> dict[str, Any]:
    """What is in a data set, for machines."""
    data = dataset.data
    return {
        "name": dataset.name,
        "format": dataset.metadata.get("format"),
        "shape": list(data.shape),
        "dtype": str(data.dtype),
        "frames": dataset.frames,
        "is_rgb": dataset.is_rgb,
        "pixel_size": dataset.pixel_size,
        "unit": dataset.unit if dataset.pixel_size is not None else None,
        **_range(path, data),
        "notes": dataset.notes,
    }


def _range(path: Path, data: Any) -> dict[str, float | int | None]:
    """Least, greatest and mean value, of one image after the other so that a stack need not fit into memory."""
    import numpy as np

    from torchmotif.io import reading

    low, high, total, count = math.inf, -math.inf, 0.0, 0
    parts = _parts(data)
    while (part := reading(path, "what it seems to be", next, parts, None)) is not None:
        finite = part[np.isfinite(part)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
            total, count = total + float(finite.sum(dtype=float)), count + finite.size
    return {
        "min": low if count else None,
        "max": high if count else None,
        "mean": total / count if count else None,
        "not_finite": math.prod(data.shape) - count,
    }


def _parts(data: Any) -> "Iterator[np.ndarray]":
    from torchmotif._lazy import computed

    if data.ndim > 2:
        for one in range(len(data)):
            yield from _parts(data[one])
    else:
        yield computed(data)


def _description(path: Path, known: dict[str, Any], number: int | None) -> str:
    """The facts for people; `number` is that of --dataset, where there are several."""
    name, shape = known["name"], known["shape"]
    title = ": ".join(filter(None, (path.name, name if number is None else f"{number} {name}".strip())))
    lines = [title, f"  shape       {' x '.join(str(side) for side in shape)} {known['dtype']}"]
    if known["format"]:
        lines.append(f"  format      {known['format']}")
    if known["is_rgb"]:
        lines.append("  colour      read as luminance")
    elif len(shape) > 3:
        lines.append("  dimensions  too many: reduce it to an image or a stack")
    elif known["frames"] > 1:
        lines.append(
            f"  stack       {known['frames']} images: choose one with --frame, or give all of them to torchmotif batch"
        )
    if known["pixel_size"] is None:
        lines.append(f"  pixel size  {'left out' if _is_left_out(known['notes']) else 'not in the file'}")
    else:
        row, col = known["pixel_size"]
        sides = shape[:2] if known["is_rgb"] else shape[-2:]
        height, width = (side * size for side, size in zip(sides, (row, col), strict=True))
        size = f"{row:.6g}" if row == col else f"{row:.6g} x {col:.6g}"
        lines.append(f"  pixel size  {size} {known['unit']}")
        lines.append(f"  field       {height:.4g} x {width:.4g} {known['unit']}")
    if known["min"] is not None:
        lines.append(f"  range       {known['min']:.6g} to {known['max']:.6g}, mean {known['mean']:.6g}")
    if known["not_finite"]:
        lines.append(f"  not finite  {known['not_finite']:,} values")
    return "\n".join([*lines, *(f"  note        {note}" for note in known["notes"])])


def _is_left_out(notes: list[str]) -> bool:
    return any("pixel size" in note and "left out" in note for note in notes)
