"""The command line: torchmotif analyze, demo, dose, info."""

import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from torchmotif.errors import InputError, TorchMotifError, TorchMotifWarning

if TYPE_CHECKING:
    from torchmotif.datasets import Specimen
    from torchmotif.image import Micrograph
    from torchmotif.io import Dataset
    from torchmotif.result import MotifResult

__all__ = ["app", "main"]

BAD_INPUT, INTERRUPTED = 2, 130

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Structural motifs in atomic-resolution STEM images.",
    epilog="Exit codes: 0 done, 2 bad input or options, 130 interrupted.",
)


class Polarity(StrEnum):
    """Whether columns are brighter or darker than what surrounds them."""

    bright = "bright"
    dark = "dark"


Image = Annotated[Path, typer.Argument(help="Image file: dm3, dm4, emd, hspy, mrc, tif, npy, npz, png, ...")]
Frame = Annotated[int | None, typer.Option(help="Which image of a stack, from 0.")]
DatasetName = Annotated[str | None, typer.Option("--dataset", help="Which data set of a file with several.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a folder of results that is there already.")]
Seed = Annotated[int, typer.Option(min=0, help="Same seed, same machine: same result.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; default cpu.")]


@app.command()
def analyze(
    image: Image,
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist.")],
    pixel_size: Annotated[
        float | None, typer.Option(help="Length of a pixel in nm; default: what the file says.")
    ] = None,
    frame: Frame = None,
    dataset: DatasetName = None,
    spacing: Annotated[
        float | None, typer.Option(help="Distance between columns in pixels; default: measured.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Least height of a column, beside what the noise asks for.")
    ] = None,
    polarity: Annotated[Polarity, typer.Option(help="Are columns bright or dark?")] = Polarity.bright,
    patch_size: Annotated[
        int | None, typer.Option(help="Side of the patches in pixels; default: first shell.")
    ] = None,
    n_max: Annotated[int, typer.Option(help="Highest order of the Zernike moments.")] = 10,
    motifs: Annotated[int | None, typer.Option(help="Number of motifs; default: found.")] = None,
    seed: Seed = 0,
    device: Device = None,
    force: Force = False,
) -> None:
    """Sort the columns of an image into motifs, and write a folder.

    Example: torchmotif analyze scan.dm4 --out results
    """
    with _failing_clearly():
        from torchmotif.io import read

        _check_out(out, force)
        micrograph = read(image, frame=frame, dataset=_number(dataset))
        if pixel_size is not None:
            micrograph = _calibrated(micrograph, pixel_size)
        parameters = {
            "spacing": spacing,
            "threshold": threshold,
            "polarity": polarity.value,
            "patch_size": patch_size,
            "n_max": n_max,
            "n_motifs": motifs,
            "random_state": seed,
            "device": device,
        }
        _report(_analyze(micrograph, out, force, parameters), out)


@app.command()
def demo(
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; default: torchmotif-demo, or the next free.")
    ] = None,
    dose: Annotated[float, typer.Option(help="Dose relative to 10 detected electrons per pixel.")] = 1.0,
    seed: Seed = 0,
    device: Device = None,
    force: Force = False,
) -> None:
    """Simulate MoSe2 with selenium vacancies, find its motifs, and write a folder.

    Example: torchmotif demo --dose 0.1
    """
    with _failing_clearly():
        import torch

        from torchmotif.datasets import mose2

        out = out or _free_name(Path("torchmotif-demo"))
        _check_out(out, force)
        specimen = mose2((512, 512), vacancy_rate=0.06, random_state=seed)
        micrograph = specimen.draw(dose, torch.Generator().manual_seed(seed))
        result = _analyze(micrograph, out, force, {"random_state": seed, "device": device})
        _report(result, out, specimen)
        typer.echo("\nNext, your own image:  torchmotif analyze scan.dm4 --out results")


@app.command()
def dose(
    image: Image,
    out: Annotated[Path, typer.Option(help="Folder to write dose.json and dose.png; must not exist.")],
    electrons_per_count: Annotated[
        float | None,
        typer.Option(help="Electrons that one unit of the image stands for; default: estimated."),
    ] = None,
    offset: Annotated[
        float | None, typer.Option(help="Value of a pixel without electrons; default: 0, or estimated.")
    ] = None,
    spacing: Annotated[
        float | None, typer.Option(help="Distance between columns in pixels; default: measured.")
    ] = None,
    frame: Frame = None,
    dataset: DatasetName = None,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Thin an image to lower doses, and say down to which dose each of its motifs survives.

    Example: torchmotif dose scan.dm4 --out dose
    """
    with _failing_clearly():
        from torchmotif._files import check_new_folder
        from torchmotif.dose import DOSE_RECORD, dose_report
        from torchmotif.io import read

        check_new_folder(out, DOSE_RECORD, overwrite=force)
        report = dose_report(
            read(image, frame=frame, dataset=_number(dataset)),
            electrons_per_count=electrons_per_count,
            offset=offset,
            spacing=spacing,
            random_state=seed,
        )
        report.save(out, overwrite=force)
        for step in report.steps:
            typer.echo(
                f"1/{1 / step.relative_dose:<4.0f}{step.electrons_per_pixel:8.2f} electrons/px  {step.n_motifs} motifs, "
                f"AMI {step.ami:.2f}, {step.columns_found:.0%} of the columns found again"
            )
        typer.echo(str(report))
        typer.echo(f"written to {out}/: dose.json, dose.png")


@app.command()
def info(image: Image) -> None:
    """Say what is in an image file: data sets, size, type, calibration, range.

    Example: torchmotif info scan.dm4
    """
    with _failing_clearly():
        from torchmotif.io import contents

        for dataset in contents(image):
            typer.echo(_description(image, dataset))


def main() -> None:
    """Run the command line."""
    app()


@contextmanager
def _failing_clearly() -> Iterator[None]:
    """Turn our errors into one line and exit code 2; an interrupt into exit code 130."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TorchMotifWarning)  # they are among the notes that _report prints
            yield
    except TorchMotifError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(BAD_INPUT) from error
    except KeyboardInterrupt as error:
        typer.echo("interrupted: nothing was written", err=True)
        raise typer.Exit(INTERRUPTED) from error


def _check_out(out: Path, force: bool) -> None:
    """Refuse a folder that cannot be written before the work is done rather than after."""
    from torchmotif._files import check_new_folder
    from torchmotif.result import RECORD

    check_new_folder(out, RECORD, overwrite=force)


def _calibrated(micrograph: "Micrograph", pixel_size: float) -> "Micrograph":
    from torchmotif.image import Micrograph

    return Micrograph(micrograph.data, pixel_size, "nm", micrograph.metadata)


def _analyze(micrograph: "Micrograph", out: Path, force: bool, parameters: dict[str, Any]) -> "MotifResult":
    from torchmotif.pipeline import analyze as run

    result = run(micrograph, **parameters)
    result.record["command"] = ["torchmotif", *sys.argv[1:]]
    result.save(out, overwrite=force)
    return result


def _report(result: "MotifResult", out: Path, specimen: "Specimen | None" = None) -> None:
    """Print what was found to stdout, and what a user should know of it to stderr."""
    for note in result.record["notes"]:
        typer.echo(f"note: {note}", err=True)
    if result.image.pixel_size_nm is None:
        typer.echo("note: the image has no pixel size; give it with --pixel-size to get nanometres", err=True)
    columns = len(result.columns)
    typer.echo(
        f"{columns:,} columns, {result.columns.spacing:.2f} px apart, in {result.n_motifs} motif{'s' * (result.n_motifs != 1)}:"
    )
    sites = [""] * result.n_motifs if specimen is None else _sites(result, specimen)
    for motif, (count, site) in enumerate(zip(result.counts, sites, strict=True)):
        typer.echo(f"  motif {motif}: {count:7,} columns  {count / columns:6.1%}{site}")
    none = columns - int(result.counts.sum())
    typer.echo(f"  none:    {none:7,} columns  {none / columns:6.1%}  (at the rim, or unlike all motifs)")
    typer.echo(f"written to {out}/: map.png, motifs.png, columns.csv, run.json, ...")


def _sites(result: "MotifResult", specimen: "Specimen") -> list[str]:
    """What each motif of a simulated specimen really is, most often."""
    import numpy as np
    from scipy.spatial import cKDTree

    distance, nearest = cKDTree(specimen.truth.positions.numpy()).query(result.columns.positions)
    classes = specimen.truth.classes[np.asarray(nearest)]
    true = np.asarray(distance) < result.columns.spacing / 2
    names = []
    for motif in range(result.n_motifs):
        here: Counter[str] = Counter(classes[true & (result.labels == motif)].tolist())
        names += [f"  {site} ({count / here.total():.0%})" for site, count in here.most_common(1)] or [""]
    return names


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


def _number(dataset: str | None) -> str | int | None:
    return int(dataset) if dataset is not None and dataset.lstrip("-").isdigit() else dataset


def _free_name(folder: Path) -> Path:
    names = (folder.with_name(f"{folder.name}-{i}") for i in range(2, 1000))
    for name in (folder, *names):
        if not name.exists():
            return name
    raise InputError(f"out: {folder} and 998 more are taken; delete some, or give --out")
