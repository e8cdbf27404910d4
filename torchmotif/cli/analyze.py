"""torchmotif analyze and demo: from an image, or a simulated one, to a folder of results."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from torchmotif.cli.common import (
    EXIT_CODES,
    Command,
    app,
    check_names,
    failing_clearly,
    in_nm,
    load,
    mask_of,
    named,
    number,
    typed,
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
    Force,
    Frame,
    Gamma,
    Guided,
    Json,
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
from torchmotif.cli.replay import NAMING, replayed
from torchmotif.cli.told import tell
from torchmotif.errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    from torchmotif.analysis import MotifResult
    from torchmotif.image import Micrograph

__all__ = ["analyze", "demo"]


class Also(StrEnum):
    """Files for other programs, beside those of every result."""

    parquet = "parquet"
    hspy = "hspy"
    h5ad = "h5ad"


# Of each, the packages that write it, and the extra that they belong to.
_WRITERS = {
    Also.parquet: (("pyarrow",), "export"),
    Also.hspy: (("h5py", "rsciio"), "io"),
    Also.h5ad: (("anndata",), "anndata"),
}

Report = Annotated[bool, typer.Option(help="Write report.html as well, which takes a few seconds.")]
InsideMotifs = Annotated[
    bool,
    typer.Option(
        "--inside",
        help="Write what columns do inside their motifs: tables (displacement, polarisation, strain, grains, boundaries, dislocations, layers) and pictures.",
    ),
]


@app.command(cls=Command, epilog=EXIT_CODES)
def analyze(
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist.")],
    image: Annotated[
        Path | None,
        typer.Argument(
            help="Image file: dm3, dm4, emd, hspy, mrc, tif, npy, npz, png, txt, ...; default: that of --config."
        ),
    ] = None,
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
    composition: Composition = None,
    dopants: Dopants = None,
    gamma: Gamma = None,
    columns: ColumnStacks = None,
    examples: Examples = None,
    seed: Seed = 0,
    device: Device = None,
    config: Annotated[
        Path | None,
        typer.Option(help="run.json of an earlier result, to be done again; options given here win."),
    ] = None,
    report: Report = True,
    inside: InsideMotifs = False,
    also: Annotated[
        list[Also] | None,
        typer.Option(
            help="Write the columns for other programs too: columns.parquet, result.hspy (HyperSpy), result.h5ad (AnnData); "
            "give it once for each."
        ),
    ] = None,
    as_json: Json = False,
    force: Force = False,
) -> None:
    r"""Sort the columns of an image into motifs, and write a folder with a report.

    \b
    Example: torchmotif analyze scan.dm4 --out results
             torchmotif analyze scan.tif --out results --pixel-size 15pm --also parquet
             torchmotif analyze scan.dm4 --out results --composition MoS2 --dopants W
             torchmotif analyze other.dm4 --out others --config results/run.json
             torchmotif analyze scan.dm4 --out results --json > found.json
    """
    with failing_clearly():
        _check_image(image)
    with failing_clearly(), _drawing_beside():
        load("torchmotif.analysis")
        from torchmotif.io import read

        options: dict[str, Any] = {
            "spacing": spacing,
            "threshold": threshold,
            "polarity": polarity.value,
            "guided": guided,
            "patch_size": patch_size,
            "n_max": n_max,
            "motifs": motifs,
            "equivalence": None if equivalence is None else equivalence.value,
            "seed": seed,
            "device": device,
            "frame": frame,
            "dataset": number(dataset),
            "pixel_size": in_nm(pixel_size),
        }
        naming: dict[str, Any] = {
            "composition": composition,
            "dopants": dopants,
            "gamma": gamma,
            "columns": columns,
            "examples": examples,
        }
        changed = None
        if config is not None:
            earlier = replayed(config)
            if not any(map(typed, NAMING)):  # which belong together
                naming |= earlier.names
            options |= {name: value for name, value in earlier.options.items() if not typed(name)}
            changed = earlier.sha256 if image is None else None
            image = image or earlier.image
        if image is None:
            raise InputError(
                "no image was given" + ("; the run of --config was on an array, not on a file" * bool(config))
            )
        _check_out(out, force)
        _check_writers(also or [])
        check_names(**naming)
        micrograph = read(image, frame=options.pop("frame"), dataset=options.pop("dataset"))
        if changed and changed != micrograph.metadata["sha256"]:
            typer.echo(f"note: {image} is not the file it was in the run of {config}", err=True)
        micrograph = _calibrated(micrograph, options.pop("pixel_size"))
        parameters = {**options, "n_motifs": options["motifs"], "random_state": options["seed"]}
        del parameters["motifs"], parameters["seed"]
        result = _analyze(micrograph, parameters | {"mask": mask_of(mask)})
        result = named(result, **naming)
        _save(result, out, force, report, inside)
        _write_also(result, out, also or [])
        tell(result, out, report, as_json)


@app.command(cls=Command, epilog=EXIT_CODES)
def demo(
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; default: torchmotif-demo, or the next free.")
    ] = None,
    dose: Annotated[float, typer.Option(help="Dose relative to 10 detected electrons per pixel.")] = 1.0,
    seed: Seed = 0,
    device: Device = None,
    report: Report = True,
    as_json: Json = False,
    force: Force = False,
) -> None:
    r"""Simulate MoSe2 with selenium vacancies, find its motifs, and write a folder with a report.

    \b
    Example: torchmotif demo
             torchmotif demo --dose 0.1
    """
    with failing_clearly(), _drawing_beside():
        load("torchmotif.analysis")
        import torch

        from torchmotif.datasets import mose2

        out = out or _free_name(Path("torchmotif-demo"))
        _check_out(out, force)
        specimen = mose2((512, 512), vacancy_rate=0.06, random_state=seed)
        drawn = specimen.draw(dose, torch.Generator().manual_seed(seed))
        micrograph = drawn.replace(drawn.data, title="Simulated MoSe2 with selenium vacancies")
        result = _analyze(micrograph, {"random_state": seed, "device": device})
        result = named(result, "MoSe2")
        result.record["input"]["python"] = (
            f"specimen = tm.datasets.mose2((512, 512), vacancy_rate=0.06, random_state={seed})\n"
            f"scan = specimen.draw({dose}, torch.Generator().manual_seed({seed}))"
        )
        _save(result, out, force, report)
        tell(result, out, report, as_json, specimen)
        if not as_json:
            typer.echo("\nNext, your own image:  torchmotif analyze scan.dm4 --out results")


@contextmanager
def _drawing_beside() -> Iterator[None]:
    """Have pictures drawn by a second process, which loads what it needs while this one loads torch."""
    from torchmotif.plot._beside import beside

    with beside():
        yield


def _check_image(image: Path | None) -> None:
    """Refuse a file that is not there before anything is loaded: a wrong path is the commonest mistake."""
    if image is None:
        return
    try:
        there = image.exists()
    except OSError as error:  # its name is too long, or its folder may not be entered
        from torchmotif.errors import MissingFileError

        raise MissingFileError(
            f"{image} cannot be opened: {error.strerror}: give the path of a file"
        ) from error
    if not there:
        from torchmotif.io import contents

        contents(image, lazy=True)


def _check_out(out: Path, force: bool) -> None:
    """Refuse a folder that cannot be written before the work is done rather than after."""
    from torchmotif._files import check_new_folder
    from torchmotif.analysis import RECORD

    check_new_folder(out, RECORD, overwrite=force)


def _check_writers(also: list[Also]) -> None:
    """Refuse what cannot be written here before the work is done rather than after."""
    for kind in also:
        packages, extra = _WRITERS[kind]
        missing = [package for package in packages if find_spec(package) is None]
        if missing:
            raise MissingDependencyError(
                f"--also {kind} needs {', '.join(missing)}: pip install 'torchmotif[{extra}]'"
            )


def _write_also(result: "MotifResult", out: Path, also: list[Also]) -> None:
    from torchmotif import export

    if Also.parquet in also:
        export.write_table(out / "columns.parquet", result)
    if Also.hspy in also:
        export.write_hspy(out / "result.hspy", result)
    if Also.h5ad in also:
        export.write_h5ad(out / "result.h5ad", result)


def _calibrated(micrograph: "Micrograph", pixel_size: Any) -> "Micrograph":
    """The image with the pixel size in nm that was given, or with its own."""
    from torchmotif.image import Micrograph

    if pixel_size is None:
        return micrograph
    metadata = {**micrograph.metadata, "pixel_size_given_nm": pixel_size}
    return Micrograph(micrograph.data, pixel_size, "nm", metadata)


def _analyze(micrograph: "Micrograph", parameters: dict[str, Any]) -> "MotifResult":
    from torchmotif.analysis import analyze as run

    result = run(micrograph, **parameters)
    result.record["command"] = ["torchmotif", *sys.argv[1:]]
    return result


def _save(result: "MotifResult", out: Path, force: bool, report: bool, inside: bool = False) -> None:
    if sys.stderr.isatty():
        typer.echo("writing ...", err=True)
    result.save(out, overwrite=force, report=report, inside=inside)


def _free_name(folder: Path) -> Path:
    names = (folder.with_name(f"{folder.name}-{i}") for i in range(2, 1000))
    for name in (folder, *names):
        if not name.exists():
            return name
    raise InputError(f"out: {folder} and 998 more are taken; delete some, or give --out")
