"""Tiles of fixed size, on which columns are always computed, and what becomes of columns at their seams."""

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from torchmotif.columns._neighbours import pairs_within, strongest_first
from torchmotif.columns._peaks import CLOSEST

__all__ = [
    "BATCH",
    "BATCH_ON_ACCELERATOR",
    "GUARD",
    "Grid",
    "Tile",
    "in_core",
    "keep_at_seams",
    "kept_columns",
    "tile_side",
    "tiles_at_once",
]

_Array = TypeVar("_Array", np.ndarray, Tensor)

# Pixels of a tile's core: margins are a quarter of the work, intermediates some hundred megabytes.
_SIDE = 768
_SPACINGS = 40.0  # least side of a core in spacings: the margin around it is four of them
# Of the side, by which cores at the image's border are longer: they have a margin on one side alone, and all windows are of one shape.
_LONGER = 1 / 20
# Pixels of the windows that are worked on at a time: on a CPU some 150 MiB of intermediates, and enough for operations to be
# large; on an accelerator some GiB, since there each operation costs the same be it large or small.
BATCH, BATCH_ON_ACCELERATOR = 1024 * 1024, 16 * 1024 * 1024
GUARD = 0.3  # spacings beyond its core in which a tile keeps columns, for the seams


def tile_side(spacing: float) -> int:
    """Side in pixels of the tiles of an image whose columns are `spacing` apart.

    Examples
    --------
    >>> tile_side(10.0), tile_side(40.0)
    (768, 1664)
    """
    return max(_SIDE, 128 * math.ceil(_SPACINGS * spacing / 128))


def tiles_at_once(window: tuple[int, int], device: str) -> int:
    """How many tiles with windows of one shape are a batch on a kind of device.

    It does not depend on who does the work: products of matrices may differ in their last digit with how many there are.
    """
    budget = BATCH if device.startswith("cpu") else BATCH_ON_ACCELERATOR
    return max(1, budget // math.prod(window))


def in_core(cores: _Array, positions: _Array, shape: tuple[int, int], guard: float = 0.0) -> _Array:
    """Which positions of an image round to a pixel of their core, or lie at most `guard` pixels away from it.

    Parameters
    ----------
    cores : array or Tensor of shape (n, 4) or (1, 4)
        First row, first column, end row, end column. A core at the image's border holds what lies beyond it.
    positions : array or Tensor of shape (n, 2)
    shape : (int, int)
        Of the image.
    guard : float

    Returns
    -------
    array or Tensor of shape (n,), bool
    """

    def along(axis: int) -> Any:
        at, first, end = positions[:, axis], cores[:, axis], cores[:, axis + 2]
        after = (at >= first - 0.5 - guard) | (first == 0)
        return after & ((at < end - 0.5 + guard) | (end == shape[axis]))

    inside: _Array = along(0) & along(1)
    return inside


@dataclass(frozen=True)
class Tile:
    """A part of an image: its core, and the window around it that is looked at."""

    number: int
    core: tuple[int, int, int, int]  # first row, first column, end row, end column
    window: tuple[int, int, int, int]

    @property
    def origin(self) -> np.ndarray:
        """(row, col) of the window's first pixel."""
        return np.array(self.window[:2], np.float64)

    def holds(self, positions: np.ndarray, shape: tuple[int, int], guard: float = 0.0) -> np.ndarray:
        """Which positions of the image round to a pixel of the core, or lie at most `guard` pixels away from it."""
        return in_core(np.array(self.core)[None], positions, shape, guard)


@dataclass(frozen=True)
class Grid:
    """The tiles of one image. Their windows are all of one shape, so that any number of them is one batch.

    Attributes
    ----------
    shape : (int, int)
        Of the image in pixels.
    side : int
        Of the cores in pixels, about.
    margin : int
        Least number of pixels around a core that are looked at, where the image has them.
    """

    shape: tuple[int, int]
    side: int
    margin: int

    @property
    def counts(self) -> tuple[int, int]:
        """Tiles along rows and columns."""
        h, w = self.shape
        return max(1, round(h / self.side)), max(1, round(w / self.side))

    @cached_property
    def edges(self) -> tuple[list[int], list[int]]:
        """Where the cores end along rows and columns, from 0 on; the same whatever the margin."""
        rows, cols = (
            [0, *(round(_LONGER * self.side + i * middle) for i in range(1, count)), length]
            for length, count in zip(self.shape, self.counts, strict=True)
            for middle in [(length - 2 * _LONGER * self.side) / count]
        )
        return rows, cols

    @cached_property
    def window(self) -> tuple[int, int]:
        """Shape of every window in pixels."""
        h, w = (
            max(
                min(end + self.margin, ends[-1]) - max(first - self.margin, 0)
                for first, end in pairwise(ends)
            )
            for ends in self.edges
        )
        return h, w

    def __len__(self) -> int:
        """Count the tiles."""
        rows, cols = self.counts
        return rows * cols

    def __getitem__(self, number: int) -> Tile:
        """Tile of a number, counted row by row. At the image's border its window reaches further inwards."""
        (h, w), (rows, cols), (high, wide) = self.shape, self.edges, self.window
        i, j = divmod(number, len(cols) - 1)
        (top, bottom), (left, right) = rows[i : i + 2], cols[j : j + 2]
        row, col = min(max(top - self.margin, 0), h - high), min(max(left - self.margin, 0), w - wide)
        return Tile(number, (top, left, bottom, right), (row, col, row + high, col + wide))

    def around(self, number: int) -> list[int]:
        """Numbers of a tile and the tiles that touch it."""
        rows, cols = self.counts
        i, j = divmod(number, cols)
        return [
            row * cols + col
            for row in range(max(i - 1, 0), min(i + 2, rows))
            for col in range(max(j - 1, 0), min(j + 2, cols))
        ]

    @property
    def cores(self) -> np.ndarray:
        """First row, first column, end row, end column of every tile's core, shape (t, 4)."""
        return np.array([self[number].core for number in range(len(self))])

    def batches(self, device: str) -> list[range]:
        """Numbers of the tiles of every batch on a kind of device."""
        most = tiles_at_once(self.window, device)
        return [range(first, min(first + most, len(self))) for first in range(0, len(self), most)]

    @staticmethod
    def samples(
        shape: tuple[int, int], per_axis: int = 3, side: int = 512
    ) -> list[tuple[int, int, int, int]]:
        """Windows on which what is common to an image is measured: a few, spread evenly, whatever the tiles."""
        axes = []
        for length in shape:
            if length <= 2 * side:
                axes.append([(0, length)])
            else:
                count = min(per_axis, math.ceil(length / side))
                middle = [(2 * i + 1) * length // (2 * count) for i in range(count)]
                first = [min(max(m - side // 2, 0), length - side) for m in middle]
                axes.append([(a, a + side) for a in first])
        return [(top, left, bottom, right) for top, bottom in axes[0] for left, right in axes[1]]


def kept_columns(
    grid: Grid,
    tile: np.ndarray,
    positions: np.ndarray,
    intensities: np.ndarray,
    *,
    spacing: float,
    axes: tuple[float, float],
) -> np.ndarray:
    """Numbers of the columns of an image among those that its tiles found, by row, then column; see `keep_at_seams`."""
    cores = grid.cores[tile]
    near, owned = (in_core(cores, positions, grid.shape, guard) for guard in (GUARD * spacing, 0.0))
    index = np.flatnonzero(near)
    arrays = (values[index] for values in (tile, positions, intensities, owned))
    index = index[keep_at_seams(grid, *arrays, spacing=spacing, axes=axes)]
    order: np.ndarray = index[np.lexsort(positions[index].T[::-1])]
    return order


def keep_at_seams(
    grid: Grid,
    tile: np.ndarray,
    positions: np.ndarray,
    intensities: np.ndarray,
    owned: np.ndarray,
    *,
    spacing: float,
    axes: tuple[float, float],
) -> np.ndarray:
    """Which of the columns that the tiles of an image found are columns of the image.

    Neighbouring tiles fit a column near their seam each for itself, and may differ in the last digits of its
    position; so both may own it, or neither. Of two that are one column the stronger stays, and of two that nobody
    owns the stronger is kept where it was found.

    Parameters
    ----------
    grid : Grid
    tile : array of shape (n,)
        Number of the tile that found each column.
    positions : array of shape (n, 2)
        In pixels of the image.
    intensities : array of shape (n,)
    owned : boolean array of shape (n,)
        Whether a column lies in the core of the tile that found it.
    spacing, axes
        See `ImageModel`.
    """
    keep, radius = owned.copy(), CLOSEST * spacing
    near = np.flatnonzero(~keep | _near_seam(grid, tile, positions, radius * max(axes)))
    if len(grid) > 1 and len(near):
        keep[near] = _staying(
            torch.from_numpy(positions[near] / np.array(axes)),
            torch.from_numpy(intensities[near]),
            torch.from_numpy(keep[near]),
            torch.from_numpy(tile[near]),
            radius,
        )
    return keep


def _staying(positions: Tensor, strength: Tensor, owned: Tensor, tile: Tensor, radius: float) -> np.ndarray:
    """Which of the columns near seams stay."""
    i, j = pairs_within(positions, radius)
    across = tile[i] != tile[j]
    i, j = i[across], j[across]
    claimed = torch.zeros_like(owned)
    claimed[i[owned[j]]] = True
    seen_twice = torch.zeros_like(owned)
    seen_twice[i[~owned[j]]] = True
    candidates = torch.nonzero(owned | (~owned & ~claimed & seen_twice))[:, 0]
    stays = torch.zeros_like(owned)
    stays[candidates] = strongest_first(positions[candidates], strength[candidates], radius)
    kept: np.ndarray = stays.numpy()
    return kept


def _near_seam(grid: Grid, tile: np.ndarray, positions: np.ndarray, reach: float) -> np.ndarray:
    """Which positions lie within `reach` pixels of the edges of their tile's core, or beyond them."""
    cores = grid.cores.astype(np.float64)
    low, high = cores[:, :2] - 0.5 + reach, cores[:, 2:] - 0.5 - reach
    low[cores[:, :2] == 0] = -np.inf
    high[cores[:, 2:] == np.array(grid.shape)] = np.inf
    inner: np.ndarray = ((positions >= low[tile]) & (positions < high[tile])).all(axis=1)
    return ~inner
