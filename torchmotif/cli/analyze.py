"""torchmotif analyze and demo: from an image, or a simulated one, to a folder of results."""

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from torchmotif.cli.common import (
    DatasetName,
    Device,
    Equivalence,
    Force,
    Frame,
    Image,
    Polarity,
    Seed,
    app,
    failing_clearly,
    number,
)
from torchmotif.errors import InputError

if TYPE_CHECKING:
    from torchmotif.datasets import Specimen
    from torchmotif.image import Micrograph
    from torchmotif.result import MotifResult

__all__ = ["analyze", "demo"]


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
    equivalence: Annotated[
        Equivalence | None,
        typer.Option(
            help="Motifs turned (or turned and mirrored) are one; default: each orientation is one."
        ),
    ] = None,
    seed: Seed = 0,
    device: Device = None,
    force: Force = False,
) -> None:
    """Sort the columns of an image into motifs, and write a folder.

    Example: torchmotif analyze scan.dm4 --out results
    """
    with failing_clearly():
        from torchmotif.io import read

        _check_out(out, force)
        micrograph = read(image, frame=frame, dataset=number(dataset))
        if pixel_size is not None:
            micrograph = _calibrated(micrograph, pixel_size)
        parameters = {
            "spacing": spacing,
            "threshold": threshold,
            "polarity": polarity.value,
            "patch_size": patch_size,
            "n_max": n_max,
            "n_motifs": motifs,
            "equivalence": None if equivalence is None else equivalence.value,
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
    with failing_clearly():
        import torch

        from torchmotif.datasets import mose2

        out = out or _free_name(Path("torchmotif-demo"))
        _check_out(out, force)
        specimen = mose2((512, 512), vacancy_rate=0.06, random_state=seed)
        micrograph = specimen.draw(dose, torch.Generator().manual_seed(seed))
        result = _analyze(micrograph, out, force, {"random_state": seed, "device": device})
        _report(result, out, specimen)
        typer.echo("\nNext, your own image:  torchmotif analyze scan.dm4 --out results")


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


def _free_name(folder: Path) -> Path:
    names = (folder.with_name(f"{folder.name}-{i}") for i in range(2, 1000))
    for name in (folder, *names):
        if not name.exists():
            return name
    raise InputError(f"out: {folder} and 998 more are taken; delete some, or give --out")
