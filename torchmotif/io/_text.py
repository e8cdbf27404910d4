"""Images as text: rows of numbers, as ImageJ, Gwyddion and spreadsheets write them."""

import codecs
import re
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from torchmotif._units import length_nm
from torchmotif.errors import ReadError
from torchmotif.io._dataset import Dataset, noted

__all__ = ["text"]

_MOST_BYTES = 1 << 30
_LEAST_SIDE = 8  # with fewer numbers in a row, or rows, it is a table
_COMMENT = "#"
_FIELD = re.compile(
    r"^#\s*(width|height)\s*:\s*(.+?)\s*$", re.IGNORECASE
)  # of the whole image, as Gwyddion writes


def text(path: Path, **_: Any) -> list[Dataset]:
    """The image of a text file: a row of pixels in a line, apart by blanks, tabs, commas or semicolons."""
    if path.stat().st_size > _MOST_BYTES:
        raise ReadError(f"{path} has more than 1 GiB of text; save it as npy or tif")
    told = _decoded(path)
    lines = told.splitlines()
    head = [line for line in lines if line.startswith(_COMMENT)]
    rows = [line.strip() for line in lines if line.strip() and not line.startswith(_COMMENT)]
    if not rows:
        raise ReadError(f"{path} holds no image: it has no numbers")
    first = rows[0]
    delimiter = next((sign for sign in (";", "\t", ",") if sign in first), None)
    if delimiter == "," and re.search(r"\d,\d+\s+\d", first):
        delimiter = None  # commas of decimals, blanks between
    body = "\n".join(row.rstrip(delimiter) if delimiter else row for row in rows)
    if delimiter != ",":
        body = body.replace(",", ".")
    try:
        pixels = np.loadtxt(StringIO(body), delimiter=delimiter, ndmin=2, comments=None)
    except ValueError as error:
        raise ReadError(f"{path} holds no image: {_why_not(rows, delimiter)}") from error
    if min(pixels.shape) < _LEAST_SIDE:
        raise ReadError(
            f"{path} holds no image: it is a table of {pixels.shape[0]} rows of {pixels.shape[1]} numbers"
        )
    item = Dataset(pixels, "", _pixel_size(head, pixels.shape))
    if np.array_equal(pixels[0], np.arange(pixels.shape[1])):
        item = noted(item, "its first row is 0, 1, 2, ...: if those are names of columns, delete it")
    if not told.endswith(("\n", "\r")):
        return [noted(item, "the last line has no end: if the file was cut short, a number in it may be too")]
    return [item]


def _decoded(path: Path) -> str:
    data = path.read_bytes()
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    found = data.decode("utf-16" if wide else "utf-8-sig" if _is_utf8(data) else "latin-1")
    if "\0" in found:
        raise ReadError(f"{path} is not text; its ending should say what it is")
    return found


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _why_not(rows: list[str], delimiter: str | None) -> str:
    counts = [len(row.rstrip(delimiter).split(delimiter)) for row in rows]
    if any(character.isalpha() for character in re.sub(r"(?i)nan|inf|\de", "", rows[0])):
        return f"its first line is {rows[0][:60]!r}, as of a table with names; an image has numbers only"
    for number, count in enumerate(counts):
        if count != counts[0]:
            return f"row {number + 1} has {count} values and the first {counts[0]}"
    for number, row in enumerate(rows):
        for value in row.split(delimiter):
            if not _is_number(value if delimiter == "," else value.replace(",", ".")):
                return f"row {number + 1} has {value.strip()[:60]!r}, which is no number"
    return "something in it is no number"


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def _pixel_size(head: list[str], shape: tuple[int, ...]) -> tuple[float, float] | None:
    """Of a field whose width and height comments say, as those of Gwyddion do."""
    sides = {}
    for line in head:
        match = _FIELD.match(line)
        if match and any(character.isalpha() for character in match[2]):
            try:
                sides[match[1].lower()] = length_nm(match[2])
            except ValueError:
                continue
    height, width = sides.get("height"), sides.get("width")
    if not isinstance(height, float) or not isinstance(width, float):
        return None
    return height / shape[0], width / shape[1]
