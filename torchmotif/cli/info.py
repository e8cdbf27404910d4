"""torchmotif info: what is in an image file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from torchmotif.cli.common import EXIT_CODES, Command, Image, Json, app, echo_json, failing_clearly

if TYPE_CHECKING:
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

        datasets = contents(image)
        if as_json:
            echo_json({"file": str(image), "datasets": [_facts(dataset) for dataset in datasets]})
            return
        for dataset in datasets:
            typer.echo(_description(image, dataset))


def _facts(dataset: "Dataset") -> dict[str, Any]:
    """What is in a data set, for machines."""
    import numpy as np

    data = dataset.data
    finite = data[np.isfinite(data)]
    known = len(finite) > 0
    return {
        "name": dataset.name,
        "shape": list(data.shape),
        "dtype": str(data.dtype),
        "frames": dataset.frames,
        "is_rgb": dataset.is_rgb,
        "pixel_size": dataset.pixel_size,
        "unit": dataset.unit if dataset.pixel_size is not None else None,
        "min": float(finite.min()) if known else None,
        "max": float(finite.max()) if known else None,
        "mean": float(finite.mean()) if known else None,
        "not_finite": int(data.size - finite.size),
    }


def _description(path: Path, dataset: "Dataset") -> str:
    import numpy as np

    data = dataset.data
    shape = " x ".join(str(side) for side in data.shape)
    lines = [
        f"{path.name}{': ' + dataset.name if dataset.name else ''}",
        f"  shape       {shape} {data.dtype}",
    ]
    if dataset.is_rgb:
        lines.append("  colour      read as luminance")
    elif data.ndim > 3:
        lines.append("  dimensions  too many: reduce it to an image or a stack")
    elif dataset.frames > 1:
        lines.append(f"  stack       {dataset.frames} images: choose one with --frame")
    if dataset.pixel_size is None:
        lines.append("  pixel size  not in the file")
    else:
        row, col = dataset.pixel_size
        height, width = (side * size for side, size in zip(data.shape[-2:], (row, col), strict=True))
        size = f"{row:.6g}" if row == col else f"{row:.6g} x {col:.6g}"
        lines.append(f"  pixel size  {size} {dataset.unit}")
        lines.append(f"  field       {height:.4g} x {width:.4g} {dataset.unit}")
    finite = np.isfinite(data)
    if finite.any():
        values = data[finite]
        lines.append(f"  range       {values.min():.6g} to {values.max():.6g}, mean {values.mean():.6g}")
    if not finite.all():
        lines.append(f"  not finite  {(~finite).sum():,} values")
    return "\n".join(lines)
