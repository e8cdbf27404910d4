"""torchmotif batch: many files, or fields of any size, into one store."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from torchmotif.cli.common import (
    EXIT_CODES,
    INTERRUPTED,
    Command,
    app,
    check_names,
    failing_clearly,
    in_nm,
    in_options,
    mask_of,
    named,
    number,
)
from torchmotif.cli.options import (
    ColumnPolarity,
    ColumnStacks,
    Composition,
    DatasetName,
    Device,
    Dopants,
    Equivalent,
    Examples,
    Frame,
    Gamma,
    Guided,
    Mask,
    Motifs,
    NMax,
    PatchSize,
    PixelSize,
    Polarity,
    Seed,
    Spacing,
    Threshold,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from torchmotif.field import FieldResult

__all__ = ["batch"]

_SOME_FAILED = 1


class Learn(StrEnum):
    """On what motifs are learnt."""

    together = "together"
    each = "each"


@app.command(cls=Command, epilog=EXIT_CODES)
def batch(
    files: Annotated[list[str], typer.Argument(help='Files, or patterns in quotes such as "runs/*.dm4".')],
    out: Annotated[
        Path, typer.Option(help="Store to write; the same command goes on with what was interrupted.")
    ],
    learn: Annotated[
        Learn, typer.Option(help="Learn motifs over all files together, or for each file by itself.")
    ] = Learn.together,
    pixel_size: PixelSize = None,
    frame: Frame = None,
    dataset: DatasetName = None,
    spacing: Spacing = None,
    threshold: Threshold = None,
    polarity: ColumnPolarity = Polarity.auto,
    guided: Guided = True,
    mask: Mask = None,
    patch_size: PatchSize = None,
    n_max: NMax = 10,
    motifs: Motifs = None,
    equivalence: Equivalent = None,
    hierarchy: Annotated[int, typer.Option(help="Size of the largest assemblies counted; 0: none.")] = 3,
    composition: Composition = None,
    dopants: Dopants = None,
    gamma: Gamma = None,
    columns: ColumnStacks = None,
    examples: Examples = None,
    workers: Annotated[int | None, typer.Option(help="Processes; default: one for each core or GPU.")] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Of a dask cluster, such as tcp://host:8786, instead of own workers.")
    ] = None,
    memory_budget: Annotated[
        str | None, typer.Option(help='For all processes together, such as "3GiB".')
    ] = None,
    tile: Annotated[int, typer.Option(help="Side in pixels of what a worker does at a time.")] = 2048,
    seed: Seed = 0,
    device: Device = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Throw away what the store holds of other files or parameters.")
    ] = False,
) -> None:
    r"""Analyse many files, or a field of any size, into a store.

    Files that cannot be analysed are listed at the end with their reason, and the exit code is 1 then.

    \b
    Example: torchmotif batch "runs/*.dm4" --out store --workers 2
             torchmotif batch field.npy --out field --pixel-size 15pm --memory-budget 3GiB
             torchmotif batch "runs/*.emd" --out store --dataset HAADF
    """
    with failing_clearly():
        from torchmotif.analysis.batches import write_tables
        from torchmotif.field import batch as run

        check_names(composition, dopants, examples, gamma, columns)
        result = _analyzed(
            run,
            files,
            out,
            learn=learn.value,
            pixel_size_nm=in_nm(pixel_size),
            frame=frame,
            dataset=number(dataset),
            spacing=spacing,
            threshold=threshold,
            polarity=polarity.value,
            guided=guided,
            mask=mask_of(mask),
            patch_size=patch_size,
            n_max=n_max,
            n_motifs=motifs,
            equivalence=None if equivalence is None else equivalence.value,
            hierarchy=hierarchy,
            workers=workers,
            scheduler=scheduler,
            memory_budget=memory_budget,
            tile=tile,
            random_state=seed,
            device=device,
            restart=restart,
        )
        result = named(result, composition, dopants, examples, gamma, columns)
        if result.record.get("warnings"):  # of a formula that does not fit the one image: nothing was named
            write_tables(result, out)
        _report(result, out)
    if result.record["failures"]:
        raise typer.Exit(_SOME_FAILED)


def _analyzed(run: "Callable[..., FieldResult]", *arguments: Any, **options: Any) -> "FieldResult":
    """The result; unlike those of other commands, an interrupted run has written something."""
    try:
        return run(*arguments, **options)
    except KeyboardInterrupt as error:
        typer.echo("interrupted: what was finished is kept, the same command goes on with it", err=True)
        raise typer.Exit(INTERRUPTED) from error


def _report(result: "FieldResult", out: Path) -> None:
    """Say what was found, and what failed."""
    from torchmotif.analysis.batches import warnings_of

    images, failures = len(result.images), result.record["failures"]
    learnt = "together" if len(result.record["motif_groups"]) == 1 else "for each file"
    typer.echo(
        f"{len(result):,} columns in {images} image{'s' * (images != 1)}, {result.n_motifs} motifs learnt {learnt}"
    )
    typer.echo(f"written to {out}/: report.html, summary.csv, csv/, and arrays that zarr reads")
    for name, warning in warnings_of(result):
        typer.echo(f"warning: {name}: {in_options(warning)}", err=True)
    for failure in failures:
        typer.echo(f"failed: {failure['name']}: {in_options(failure['reason'])}", err=True)
    if failures:
        typer.echo(f"{len(failures)} of {images + len(failures)} failed", err=True)
