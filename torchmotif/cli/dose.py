"""torchmotif dose: how far the dose of an image can be reduced."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from torchmotif.cli.common import EXIT_CODES, Command, app, echo_json, failing_clearly, number
from torchmotif.cli.options import DatasetName, Force, Frame, Image, Json, Seed, Spacing

__all__ = ["dose"]


@app.command(cls=Command, epilog=EXIT_CODES)
def dose(
    image: Image,
    out: Annotated[Path, typer.Option(help="Folder to write dose.json and dose.png; must not exist.")],
    electrons_per_count: Annotated[
        float | None,
        typer.Option(help="Electrons that one unit of the image stands for; default: estimated."),
    ] = None,
    electrons_per_pixel: Annotated[
        float | None,
        typer.Option(
            help="Mean detected electrons per pixel of the image, where its noise does not tell them."
        ),
    ] = None,
    offset: Annotated[
        float | None, typer.Option(help="Value of a pixel without electrons; default: 0, or estimated.")
    ] = None,
    spacing: Spacing = None,
    frame: Frame = None,
    dataset: DatasetName = None,
    seed: Seed = 0,
    as_json: Json = False,
    force: Force = False,
) -> None:
    r"""Thin an image to lower doses, and say down to which dose each of its motifs survives.

    \b
    Example: torchmotif dose scan.dm4 --out dose
             torchmotif dose scan.tif --out dose --electrons-per-count 0.02
    """
    with failing_clearly():
        from torchmotif._files import check_new_folder
        from torchmotif.dose import DOSE_RECORD, dose_report
        from torchmotif.io import read

        check_new_folder(out, DOSE_RECORD, overwrite=force)
        report = dose_report(
            read(image, frame=frame, dataset=number(dataset)),
            electrons_per_count=electrons_per_count,
            electrons_per_pixel=electrons_per_pixel,
            offset=offset,
            spacing=spacing,
            random_state=seed,
        )
        report.save(out, overwrite=force)
        if as_json:
            lowest = [report.survives_to(motif) for motif in range(len(report.counts))]
            echo_json({"out": str(out), **asdict(report), "survives_to_relative_dose": lowest})
            return
        for step in report.steps:
            typer.echo(
                f"1/{1 / step.relative_dose:<4.0f}{step.electrons_per_pixel:8.2f} electrons/px  {step.n_motifs} motifs, "
                f"AMI {step.ami:.2f}, {step.columns_found:.0%} of the columns found again"
            )
        typer.echo(str(report))
        typer.echo(f"written to {out}/: dose.json, dose.png")
