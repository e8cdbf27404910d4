"""Pixels that were not measured: constant fill at the border, blank lines, bars with text, margins of fewer frames."""

import base64
import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchmotif.columns._coverage import fully_covered
from torchmotif.columns._fills import (
    SHORTEST,
    blank_lines,
    filled_region,
    grown,
    grown_by_one,
    islands,
    may_fill,
)

__all__ = ["Unmeasured", "unmeasured"]

_CELLS = 4096  # cells along the longer side at most: larger images are judged by cells of several pixels
_STRIP = 1024  # rows that are read at a time where cells are of several pixels
_VALUES = 3  # values that are tried as a fill

Read = Callable[[tuple[int, int, int, int]], Any]


@dataclass(frozen=True, eq=False)
class Unmeasured:
    """Which pixels of an image were not measured.

    Attributes
    ----------
    shape : (int, int)
        Of the image.
    cell : int
        Side in pixels of a cell: 1 for images up to 4096 x 4096 pixels.
    cells : boolean array
        True where the pixels of a cell were not measured.
    reasons : tuple of str
        What they look like.
    """

    shape: tuple[int, int]
    cell: int
    cells: np.ndarray
    reasons: tuple[str, ...] = field(default=())

    def window(self, box: tuple[int, int, int, int]) -> np.ndarray:
        """The mask within (first row, first column, end row, end column)."""
        rows, cols = np.arange(box[0], box[2]) // self.cell, np.arange(box[1], box[3]) // self.cell
        return np.asarray(self.cells[rows[:, None], cols])

    @property
    def mask(self) -> np.ndarray:
        """True where a pixel was not measured, of the image's shape."""
        return self.window((0, 0, *self.shape))

    @property
    def count(self) -> int:
        """Pixels that were not measured."""
        heights, widths = (
            np.diff(np.append(np.arange(0, side, self.cell), side)).astype(np.int64) for side in self.shape
        )
        return int(heights @ self.cells @ widths)

    def joined(self, mask: np.ndarray) -> "Unmeasured":
        """These pixels and others."""
        return Unmeasured(self.shape, 1, self.mask | mask, self.reasons)

    @property
    def note(self) -> str:
        """A sentence for people."""
        share = self.count / math.prod(self.shape)
        return f"{share:.1%} of the pixels were not measured ({', '.join(self.reasons)}): they are left out"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        bits = zlib.compress(np.packbits(self.cells).tobytes(), 6)
        return {
            "shape": list(self.shape),
            "cell": self.cell,
            "bits": base64.b64encode(bits).decode("ascii"),
            "reasons": list(self.reasons),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Unmeasured":
        """What `as_dict` gave."""
        h, w = values["shape"]
        rows, cols = (math.ceil(side / values["cell"]) for side in (h, w))
        packed = np.frombuffer(zlib.decompress(base64.b64decode(values["bits"])), np.uint8)
        cells = np.unpackbits(packed, count=rows * cols).reshape(rows, cols).astype(bool)
        return cls((h, w), values["cell"], cells, tuple(values["reasons"]))


def unmeasured(read: Read, shape: tuple[int, int]) -> Unmeasured | None:
    """Which pixels of an image look as if nothing had been measured there; None where all were.

    A fill is a region that touches the border, whose pixels are all exactly equal, and that the image itself would not
    show by chance: the share of its value among the pixels around it says how probable such a region is. So dark gaps,
    saturated columns, vacuum and images of few electrons, which have equal pixels too, are not taken for one.

    Parameters
    ----------
    read : function
        From (first row, first column, end row, end column) to the pixels there, not finite where they are left out anyway.
    shape : (int, int)
        Of the image.

    Returns
    -------
    Unmeasured or None
        The same however the image is read.
    """
    h, w = shape
    ends = [(0, 0, 1, w), (h - 1, 0, h, w), (0, 0, h, 1), (0, w - 1, h, w)]
    values = _candidates(_lines([read(box) for box in ends]))
    cell = math.ceil(max(shape) / _CELLS)
    if cell == 1 and isinstance(whole := read((0, 0, h, w)), Tensor):
        whole = whole.float()
        values = [value for value in values if may_fill(whole, value)]
        if not values and _is_plain(whole):
            return None
    if not values and cell > 1:
        return None
    image, shares = _in_cells(read, shape, cell, values)
    hidden = ~np.isfinite(image)
    found, reasons = np.zeros_like(hidden), []
    for value, share in zip(values, shares, strict=True):
        filled = filled_region(image, value, share, hidden | found, cell)
        if filled is not None:
            found |= grown(image, filled, value) if cell == 1 else grown_by_one(filled)
            reasons.append(f"constant {value:g} from the border on")
    if found.any():
        found |= islands(found | hidden)
    blank = blank_lines(image, found | hidden) if cell == 1 else np.zeros_like(found)
    if (blank & ~found).any():
        found |= blank
        reasons.append("blank lines")
    top, left, bottom, right = fully_covered(np.where(found, np.nan, image), found)
    covered = np.zeros_like(found)
    covered[top:bottom, left:right] = True
    if (~covered & ~found & ~hidden).any():
        found |= ~covered
        reasons.append("margins that fewer frames cover")
    found &= ~hidden
    return Unmeasured(shape, cell, found, tuple(reasons)) if found.any() else None


def _lines(parts: list[Any]) -> list[np.ndarray]:
    """Pixels of lines, which a device is asked for once."""
    if all(isinstance(part, Tensor) for part in parts):
        return np.split(
            _pixels(torch.cat([part.flatten() for part in parts])),
            np.cumsum([part.numel() for part in parts])[:-1],
        )
    return [_pixels(part).ravel() for part in parts]


def _is_plain(part: Tensor) -> bool:
    """Whether an image without fill at its border has no blank lines or margins, asked where it lies."""
    finite = torch.isfinite(part)
    count = [finite.sum(dim=axis) for axis in (0, 1)]
    least, most = (
        [end(filled, dim=axis) for axis in (0, 1)]
        for end, beyond in ((torch.amin, torch.inf), (torch.amax, -torch.inf))
        for filled in [torch.where(finite, part, beyond)]
    )
    blank = [(a == b) & (n >= SHORTEST) for a, b, n in zip(least, most, count, strict=True)]
    covered = fully_covered(part, np.broadcast_to(np.array(False), part.shape), unless=torch.cat(blank).any())
    return covered == (0, 0, *part.shape)


def _pixels(part: Any) -> np.ndarray:
    """Pixels as all ways to read an image give them."""
    if hasattr(part, "detach"):
        part = part.detach().cpu().float().numpy()
    with np.errstate(over="ignore"):
        return (
            np.ma.filled(np.ma.asarray(part, np.float32), np.nan)
            if np.ma.isMaskedArray(part)
            else np.asarray(part, np.float32)
        )


def _candidates(lines: list[np.ndarray]) -> list[float]:
    """The values that have the longest runs along the border, at most a few."""
    length: dict[float, int] = {}
    for line in lines:
        starts = np.flatnonzero(np.append(True, line[1:] != line[:-1]))  # numpy's append
        runs = np.diff(np.append(starts, len(line)))
        for value, run in zip(line[starts].tolist(), runs.tolist(), strict=True):
            if run >= SHORTEST and math.isfinite(value):
                length[value] = length.get(value, 0) + run
    return sorted(length, key=lambda value: (-length[value], value))[:_VALUES]


def _in_cells(
    read: Read, shape: tuple[int, int], cell: int, values: list[float]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Mean of every cell, not finite where none of its pixels is, and the share of its pixels that have each value."""
    if cell == 1:
        image = _pixels(read((0, 0, *shape)))
        return image, [(image == np.float32(value)).astype(np.float32) for value in values]
    means, shares = [], []
    for part in _strips(read, shape, cell):
        usual = np.isfinite(part)
        count = _sums(usual.astype(np.float32), cell)
        total = _sums(np.where(usual, part, 0), cell)
        means.append(np.where(count > 0, total / np.maximum(count, 1), np.nan))
        pixels = _sums(np.ones_like(part), cell)
        shares.append(
            [_sums((part == np.float32(value)).astype(np.float32), cell) / pixels for value in values]
        )
    return np.concatenate(means), [np.concatenate(one) for one in zip(*shares, strict=True)]


def _strips(read: Read, shape: tuple[int, int], cell: int) -> Iterator[np.ndarray]:
    step = max(1, _STRIP // cell) * cell
    for top in range(0, shape[0], step):
        yield _pixels(read((top, 0, min(top + step, shape[0]), shape[1])))


def _sums(pixels: np.ndarray, cell: int) -> np.ndarray:
    """Sums over cells; the last of a row or column may be smaller."""
    rows, cols = (np.arange(0, side, cell) for side in pixels.shape)
    return np.asarray(np.add.reduceat(np.add.reduceat(pixels, rows, 0), cols, 1))
