"""What all commands share: the application, exit codes, names, errors as one line."""

import gc
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from torchmotif._checks import real_number
from torchmotif._files import json_text
from torchmotif.errors import CompositionError, InputError, TorchMotifError, TorchMotifWarning

__all__ = [
    "BAD_INPUT",
    "EXIT_CODES",
    "INTERRUPTED",
    "Command",
    "app",
    "check_names",
    "echo_json",
    "failing_clearly",
    "in_nm",
    "in_options",
    "load",
    "mask_of",
    "named",
    "number",
    "typed",
]

BAD_INPUT, INTERRUPTED = 2, 130
EXIT_CODES = (
    f"Exit codes: 0 done, 1 some files of a batch or the self-test failed, {BAD_INPUT} bad input or options (the reason is the last line of stderr), "
    f"{INTERRUPTED} interrupted. Results go to stdout, progress and notes to stderr."
)

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Structural motifs in atomic-resolution STEM images.",
    epilog=EXIT_CODES,
)


def _say_version(asked: bool) -> bool:
    if asked:
        import torchmotif

        typer.echo(f"torchmotif {torchmotif.__version__}")
        raise typer.Exit
    return asked


@app.callback()
def _main(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Say the version, and end."),
    ] = False,
) -> None:
    pass


_running: ContextVar[Any] = ContextVar("running", default=None)


class Command(TyperCommand):
    """A command that knows itself while it runs: its options, and which of them were typed."""

    def __init__(self, *args: Any, help: str | None = None, **kwargs: Any) -> None:  # noqa: A002  # click's name
        # the sign that keeps lines apart is a backspace, which a raw docstring spells
        super().__init__(*args, help=help and help.replace("\\b\n", "\b\n"), **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Run it."""
        _running.set(ctx)
        return super().invoke(ctx)


def named(
    result: Any,
    composition: str | None = None,
    dopants: str | None = None,
    examples: Path | None = None,
    gamma: float | None = None,
    columns: str | None = None,
) -> Any:
    """The result with names of its columns, where they are asked for; a formula that does not fit gives none, and a warning.

    Its record says how they were asked for.
    """
    by = {
        "composition": composition,
        "dopants": _dopants(dopants) or None,
        "gamma": gamma,
        "columns": _stacks(columns),
        "examples": None if examples is None else str(examples),
    }
    result.record["named_by"] = {name: value for name, value in by.items() if value is not None}
    if examples is not None:
        return result.like(examples)
    if composition is None:
        return result
    try:
        return result.identify(composition, dopants=_dopants(dopants), gamma=gamma, columns=_stacks(columns))
    except CompositionError as error:
        result.record.setdefault("warnings", []).append(f"composition: {error}")
        return result


def check_names(
    composition: str | None = None,
    dopants: str | None = None,
    examples: Path | None = None,
    gamma: float | None = None,
    columns: str | None = None,
) -> None:
    """Refuse names that cannot be given before the work is done rather than after."""
    from torchmotif.names import read_examples
    from torchmotif.names.formula import Composition as Formula
    from torchmotif.names.identify import check_stacks

    if composition is not None and examples is not None:
        raise InputError("--composition and --examples each give the columns names: choose one")
    if composition is None and any(one is not None for one in (dopants, gamma, columns)):
        raise InputError("--dopants, --gamma and --columns need --composition, the formula of the specimen")
    if gamma is not None:
        real_number("--gamma", gamma, 1.0, 2.0, "annular dark field gives 1.6 to 1.9")
    if composition is not None:
        check_stacks(_stacks(columns), Formula.parse(composition, _dopants(dopants)))
    if examples is not None:
        read_examples(examples)


def _dopants(text: str | None) -> dict[str, str | None]:
    """Elements of "W,Se" or "W:Mo", and the element whose place each takes."""
    parts = (part.strip().partition(":") for part in (text or "").split(",") if part.strip())
    return {element: host or None for element, _, host in parts}


def _stacks(text: str | None) -> list[str] | None:
    """Columns of "Sr,TiO,O", None where none are given."""
    return [part.strip() for part in text.split(",") if part.strip()] if text is not None else None


def typed(name: str) -> bool:
    """Whether an option of the running command was typed, rather than left at its default."""
    source = _running.get().get_parameter_source(name)
    return source is not None and source.name in {"COMMANDLINE", "ENVIRONMENT"}


# Options whose Python keyword has another name, which may have forms.
_KEYWORDS = {
    "motifs": "n_motifs",
    "seed": "random_state",
    "out": "(?:out|store)",
    "pixel_size": "pixel_size(?:_nm)?",
    "columns": "columns(?:(?==)|(?= must (?:be of|hold)| is no chemical))",  # else they are those of an image
}


@contextmanager
def failing_clearly() -> Iterator[None]:
    """Turn our errors into one line and exit code 2; an interrupt into exit code 130."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TorchMotifWarning)  # they are among the notes that are printed
            yield
    except TorchMotifError as error:
        typer.echo(f"error: {in_options(str(error))}", err=True)
        raise typer.Exit(BAD_INPUT) from error
    except KeyboardInterrupt as error:
        typer.echo("interrupted: nothing was written", err=True)
        raise typer.Exit(INTERRUPTED) from error


def load(*modules: str) -> None:
    """Import what a command needs without collecting garbage meanwhile, and leave it out of later collections.

    Modules make hundreds of thousands of objects that stay: to look through them again and again takes a tenth of the time.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        for module in modules:
            import_module(module)
    finally:
        gc.freeze()
        if collects:
            gc.enable()


def number(dataset: str | None) -> str | int | None:
    """A data set by its number where it is one, else by its name."""
    return int(dataset) if dataset is not None and dataset.lstrip("-").isdigit() else dataset


def in_nm(pixel_size: str | float | None) -> Any:
    """A pixel size in nm, or two; None where none was given. One that no micrograph has is refused."""
    from torchmotif._units import length_nm, plausible_nm
    from torchmotif.errors import InputError

    if not isinstance(pixel_size, str):
        return pixel_size
    size = length_nm(pixel_size)
    if plausible_nm(size if isinstance(size, tuple) else (size, size), "the option")[0] is None:
        raise InputError(
            f"pixel_size must be one that a micrograph has, got {pixel_size!r}: see whether its unit is right"
        )
    return size


def mask_of(name: str | None) -> Any:
    """The mask that an option names."""
    if name is None or name == "none":
        return None if name is None else False
    from torchmotif.io import read_mask

    return read_mask(name)


def echo_json(value: Any) -> None:
    """Print a value for machines."""
    typer.echo(json_text(value))


def in_options(message: str) -> str:
    """A message that names Python's keywords in terms of the options of this command.

    Keywords that are plain English words too are taken for them only where a sentence is about one: at its start, before
    an equals sign, or after "set", "give", "leave" and "choose".
    """
    context = _running.get()
    parameters = [] if context is None else context.command.params
    for option in parameters:
        names = [name for name in option.opts if name.startswith("--")]
        keyword = _KEYWORDS.get(option.name or "", option.name)
        if not names or keyword is None:
            continue
        before = "" if "_" in keyword else r"(?:^|(?<=set )|(?<=give )|(?<=leave )|(?<=choose )|(?=\w+=))"
        pattern = rf"{before}(?<![\w-]){keyword}\b(?:=('[^']*'|[\w.:]*\w|\.\.\.)?)?"
        message = re.sub(pattern, partial(_option, names[0], option.is_flag), message)
    return message.replace(" (overwrite=True)", "")


def _option(name: str, flag: bool, found: re.Match[str]) -> str:
    value = found[1]
    return name if value is None or flag else f"{name} {value.strip(chr(39))}"
