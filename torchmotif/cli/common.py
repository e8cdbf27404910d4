"""What all commands share: the application, options, exit codes, errors as one line."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from torchmotif.errors import TorchMotifError, TorchMotifWarning

__all__ = [
    "BAD_INPUT",
    "INTERRUPTED",
    "DatasetName",
    "Device",
    "Force",
    "Frame",
    "Image",
    "Polarity",
    "Seed",
    "app",
    "failing_clearly",
    "number",
]

BAD_INPUT, INTERRUPTED = 2, 130

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Structural motifs in atomic-resolution STEM images.",
    epilog="Exit codes: 0 done, 1 some files of a batch failed, 2 bad input or options, 130 interrupted.",
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


@contextmanager
def failing_clearly() -> Iterator[None]:
    """Turn our errors into one line and exit code 2; an interrupt into exit code 130."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TorchMotifWarning)  # they are among the notes that are printed
            yield
    except TorchMotifError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(BAD_INPUT) from error
    except KeyboardInterrupt as error:
        typer.echo("interrupted: nothing was written", err=True)
        raise typer.Exit(INTERRUPTED) from error


def number(dataset: str | None) -> str | int | None:
    """A data set by its number where it is one, else by its name."""
    return int(dataset) if dataset is not None and dataset.lstrip("-").isdigit() else dataset
