"""Options that several commands have."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "ColumnPolarity",
    "ColumnStacks",
    "Composition",
    "DatasetName",
    "Device",
    "Dopants",
    "Equivalence",
    "Equivalent",
    "Examples",
    "Force",
    "Frame",
    "Gamma",
    "Guided",
    "Image",
    "Json",
    "Mask",
    "Motifs",
    "NMax",
    "PatchSize",
    "PixelSize",
    "Polarity",
    "Seed",
    "Spacing",
    "Threshold",
]


class Equivalence(StrEnum):
    """What counts as the same motif."""

    rotation = "rotation"
    euclidean = "euclidean"


class Polarity(StrEnum):
    """Whether columns are brighter or darker than what surrounds them."""

    auto = "auto"
    bright = "bright"
    dark = "dark"


Image = Annotated[
    Path, typer.Argument(help="Image file: dm3, dm4, emd, hspy, mrc, tif, npy, npz, png, txt, ...")
]
PixelSize = Annotated[
    str | None,
    typer.Option(
        help="Length of a pixel: 0.015 (in nm), 15pm, 0.15A, or 15pm,16pm for (rows, columns); default: what the file says."
    ),
]
Composition = Annotated[
    str | None,
    typer.Option(
        help="Chemical formula such as MoS2 or W0.3Mo0.7S2: gives columns names, by their brightness."
    ),
]
Dopants = Annotated[
    str | None,
    typer.Option(
        help="Foreign elements that may be there, such as W or W,Se; W:Mo says whose place W takes."
    ),
]
ColumnStacks = Annotated[
    str | None,
    typer.Option(
        "--columns",
        help="The columns along the beam that there are, where the formula does not tell: Sr,TiO,O.",
    ),
]
Examples = Annotated[
    Path | None,
    typer.Option(
        help="CSV file with name, row_px, col_px of a few columns of each kind: gives all columns such names."
    ),
]
Gamma = Annotated[
    float | None,
    typer.Option(help="Exponent of the atomic number in the brightness; default: fitted, 1.3 to 2."),
]
Frame = Annotated[int | None, typer.Option(help="Which image of a stack, from 0.")]
DatasetName = Annotated[
    str | None, typer.Option("--dataset", help="Which data set of a file with several, by name or number.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace a folder of results that is there already.")]
Seed = Annotated[int, typer.Option(min=0, help="Same seed, same machine: same result.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1; default cpu.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Spacing = Annotated[float | None, typer.Option(help="Distance between columns in pixels; default: measured.")]
Threshold = Annotated[
    float | None, typer.Option(help="Least height of a column, beside what the noise asks for.")
]
Mask = Annotated[
    str | None,
    typer.Option(
        help="File of an image or of true and false values, not 0 (true) where pixels are to be left out; 'none' leaves all in. Default: unmeasured ones are found."
    ),
]
PatchSize = Annotated[int | None, typer.Option(help="Side of the patches in pixels; default: first shell.")]
ColumnPolarity = Annotated[
    Polarity, typer.Option(help="Are columns bright or dark? Default: the image tells.")
]
Guided = Annotated[
    bool,
    typer.Option(
        "--guided/--unguided",
        help="Also look for columns that only the mean cell of the crystal around them shows.",
    ),
]
NMax = Annotated[int, typer.Option(help="Highest order of the Zernike moments.")]
Motifs = Annotated[int | None, typer.Option(help="Number of motifs; default: found.")]
Equivalent = Annotated[
    Equivalence | None,
    typer.Option(help="Motifs turned (or turned and mirrored) are one; default: each orientation is one."),
]
