"""Examples: a few columns of each kind that somebody pointed at, of one image, from a mapping or a table."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from torchmotif.errors import InputError, InputTypeError, ReadError

__all__ = ["Examples", "Features", "Pointed", "example_rows", "learn_examples", "pointed_at", "read_examples"]

Floats = NDArray[np.float64]

_NEAR = 0.5  # spacings from a place within which the column is that is meant
_MOST_NAME = 80  # characters of a name
_HEADER = ("name", "row_px", "col_px")


@dataclass(frozen=True, eq=False)
class Features:
    """What columns of an image are compared by, in units that other images share.

    Attributes
    ----------
    values : array of shape (n, k + 1), float64
        Zernike moments and, last, the intensity, over the brightness of the image's columns; NaN without a whole patch.
    size : float
        Side of the patches in nanometres, or in pixels where the image is not calibrated: those of other images must show as much.
    """

    values: Floats
    size: float

    @classmethod
    def of(cls, moments: Any, intensities: Any, size: float) -> "Features":
        """From moments of pixels less any constant, times any factor, and intensities."""
        values = np.array(moments, np.float64)
        bright = np.asarray(intensities, np.float64)
        whole = np.isfinite(values).all(axis=1)
        if whole.any():
            values[:, 0] -= np.median(values[whole, 0])
            values /= np.linalg.norm(values[whole, 1:].mean(axis=0)) or 1.0
            bright = bright / (np.median(bright[whole]) or 1.0)
        return cls(np.concatenate([values, bright[:, None]], axis=1), size)


@dataclass(frozen=True)
class Pointed:
    """One place that somebody pointed at: its kind, (row, col) in pixels, and where that was said."""

    name: str
    place: tuple[float, float]
    where: str
    image: str | None = None


@dataclass(frozen=True, eq=False)
class Examples:
    """What is learnt of examples, to be looked for in other images.

    Attributes
    ----------
    kinds : list of str
    features : array of shape (m, k + 1), float64
        Of all example columns, see `Features`; as other images are to know them, the mean of their kind for each.
    kind : array of shape (m,), int64
        Of each, as its place in `kinds`.
    size : float
        Side of the patches, see `Features`.
    columns : array of shape (m,), float64
        Of how many columns each is the mean: 1 of one itself.
    doubts : list of str
        What is doubtful about them in their own image, each with what to do.
    """

    kinds: list[str]
    features: Floats
    kind: NDArray[np.int64]
    size: float
    columns: Floats
    doubts: list[str] = field(default_factory=list)

    @classmethod
    def joined(cls, parts: "list[Examples]") -> "Examples":
        """Those of several images."""
        kinds = list(dict.fromkeys(name for part in parts for name in part.kinds))
        kind = [kinds.index(part.kinds[k]) for part in parts for k in part.kind.tolist()]
        features = np.concatenate([part.features for part in parts])
        doubts = [one for part in parts for one in part.doubts]
        columns = np.concatenate([part.columns for part in parts])
        return cls(kinds, features, np.array(kind, np.int64), parts[0].size, columns, doubts)

    def __repr__(self) -> str:
        """Say how many of each kind there are."""
        counts = np.bincount(self.kind, minlength=len(self.kinds))
        return f"Examples({', '.join(f'{name} {n}' for name, n in zip(self.kinds, counts, strict=True))})"


def pointed_at(examples: Any) -> list[Pointed]:
    """Places of a mapping of names to (row, col) pairs, or of a table that `read_examples` reads.

    Raises
    ------
    InputError
        If there is none, a name is empty, or a place is no pair of numbers.
    """
    if isinstance(examples, str | Path):
        return read_examples(examples)
    if not isinstance(examples, Mapping):
        raise InputTypeError(
            'examples must be a mapping such as {"V_S": [(row, col), ...]}, the path of a table, or learnt by '
            f"result.examples(), got {type(examples).__name__}"
        )
    found = []
    for name, places in examples.items():
        _check_name(name, "examples")
        try:
            pairs = np.asarray(places, np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"examples of {name!r} must be (row, col) pairs, got {places!r}") from error
        if pairs.ndim != 2 or pairs.shape[1] != 2 or not np.isfinite(pairs).all():
            raise InputError(
                f"examples of {name!r} must be (row, col) pairs of finite numbers, got {places!r}"
            )
        found += [Pointed(str(name), (row, col), f"examples of {name!r}") for row, col in pairs.tolist()]
    if not found:
        raise InputError("examples must name a column at least: give three to five of each kind")
    return found


def read_examples(path: str | Path) -> list[Pointed]:
    """Read a table of examples: a line of CSV for each, with a header.

    Parameters
    ----------
    path : path
        Columns name, row_px and col_px; image, where there are several, the name of its file or its number. Others are left out.

    Returns
    -------
    list of Pointed

    Raises
    ------
    InputError
        If it has no such columns, or a line that is no example, which is named.
    ReadError
        If it cannot be read.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else error
        raise ReadError(f"{path} cannot be read: {reason}") from error
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    missing = [name for name in _HEADER if name not in (reader.fieldnames or [])]
    if missing:
        raise InputError(
            f"{path} must have a header with name, row_px and col_px, {', '.join(missing)} is missing"
        )
    found = []
    for line in reader:
        where = f"{path}, line {reader.line_num}"
        _check_name(line["name"], where)
        try:
            row, col = float(line["row_px"]), float(line["col_px"])
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{where}: row_px and col_px must be numbers, got {line['row_px']!r} and {line['col_px']!r}"
            ) from error
        if not np.isfinite([row, col]).all():
            raise InputError(f"{where}: row_px and col_px must be finite, got {row} and {col}")
        found.append(Pointed(line["name"].strip(), (row, col), where, line.get("image") or None))
    if not found:
        raise InputError(f"{path} has no line beneath its header: give three to five columns of each kind")
    return found


def example_rows(pointed: list[Pointed], columns: Any, whole: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The column that each place means, shape (m,).

    Raises
    ------
    InputError
        If none is there, it has no whole patch in the image, or it was named twice, unlike.
    """
    positions = np.asarray(columns.positions)
    places = np.array([one.place for one in pointed])
    away, row = (np.asarray(one) for one in cKDTree(positions).query(places))
    names: dict[int, Pointed] = {}
    for one, distance, index in zip(pointed, away.tolist(), row.tolist(), strict=True):
        here = f"({one.place[0]:g}, {one.place[1]:g})"
        if distance > _NEAR * columns.spacing:
            raise InputError(
                f"{one.where}: no column is at {here}; the nearest is {distance:.1f} px away. Places are (row, col) in pixels, "
                "as in columns.csv"
            )
        if not whole[index]:
            raise InputError(
                f"{one.where}: the column at {here} has no whole patch in the image; choose one farther inside"
            )
        if names.setdefault(index, one).name != one.name:
            raise InputError(
                f"{one.where}: the column at {here} is already {names[index].name!r} ({names[index].where})"
            )
    return np.asarray(row, np.int64)


def learn_examples(features: Features, pointed: list[Pointed], rows: NDArray[np.int64]) -> Examples:
    """What is learnt of the columns that were pointed at, each once."""
    kinds = list(dict.fromkeys(one.name for one in pointed))
    kind = np.array([kinds.index(one.name) for one in pointed])
    _, once = np.unique(rows, return_index=True)
    return Examples(kinds, features.values[rows[once]], kind[once], features.size, np.ones(len(once)))


def _check_name(name: Any, where: str) -> None:
    if not isinstance(name, str) or not name.strip() or len(name) > _MOST_NAME or not name.isprintable():
        raise InputError(f"{where}: a name must be text of 1 to {_MOST_NAME} characters, got {name!r}")
