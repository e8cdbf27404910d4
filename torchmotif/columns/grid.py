"""Tiles of fixed size, on which columns are always computed, and what becomes of columns at their seams."""

import math
from dataclasses import dataclass
from itertools import pairwise

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
    "keep_at_seams",
    "kept_columns",
    "tile_side",
]

_SIDE = (
    768  # pixels of a tile's core: margins are a quarter of the work, intermediates some hundred megabytes
)
_SPACINGS = 40.0  # least side of a core in spacings: the margin around it is four of them
# Pixels of the cores that are worked on at a time: on a CPU some 150 MiB, and enough for operations to be large; on an
# accelerator some GiB, since there each operation costs the same be it large or small.
BATCH, BATCH_ON_ACCELERATOR = 768 * 768, 16 * 1024 * 1024
GUARD = 0.3  # spacings beyond its core in which a tile keeps columns, for the seams


def tile_side(spacing: float) -> int:
    """Side in pixels of the tiles of an image whose columns are `spacing` apart.

    Examples
    --------
    >>> tile_side(10.0), tile_side(40.0)
    (768, 1664)
    """
    return max(_SIDE, 128 * math.ceil(_SPACINGS * spacing / 128))


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
        low = np.array([-np.inf if edge == 0 else edge - 0.5 - guard for edge in self.core[:2]])
        high = np.array(
            [
                np.inf if edge == length else edge - 0.5 + guard
                for edge, length in zip(self.core[2:], shape, strict=True)
            ]
        )
        return np.asarray(((positions >= low) & (positions < high)).all(axis=1))


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

    @property
    def window(self) -> tuple[int, int]:
        """Shape of every window in pixels."""
        h, w = (
            min(length, math.ceil(length / count) + 2 * self.margin)
            for length, count in zip(self.shape, self.counts, strict=True)
        )
        return h, w

    def __len__(self) -> int:
        """Count the tiles."""
        rows, cols = self.counts
        return rows * cols

    def __getitem__(self, number: int) -> Tile:
        """Tile of a number, counted row by row. At the image's border its window reaches further inwards."""
        (h, w), (rows, cols), (high, wide) = self.shape, self.counts, self.window
        i, j = divmod(number, cols)
        top, bottom, left, right = h * i // rows, h * (i + 1) // rows, w * j // cols, w * (j + 1) // cols
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

    def batches(self, device: torch.device) -> list[list[int]]:
        """Numbers of the tiles of every batch on a kind of device.

        They do not depend on who does the work: products of matrices may differ in their last digit with how many there are.
        """
        (h, w), most = self.shape, BATCH if device.type == "cpu" else BATCH_ON_ACCELERATOR
        count = min(len(self), math.ceil(h * w / most))
        edges = [len(self) * i // count for i in range(count + 1)]
        return [list(range(first, last)) for first, last in pairwise(edges)]

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
    near, owned = np.zeros(len(tile), bool), np.zeros(len(tile), bool)
    for number in range(len(grid)):
        mine = slice(*np.searchsorted(tile, [number, number + 1]))
        near[mine] = grid[number].holds(positions[mine], grid.shape, GUARD * spacing)
        owned[mine] = grid[number].holds(positions[mine], grid.shape)
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
        keep[near] = _settled(
            torch.from_numpy(positions[near] / np.array(axes)),
            torch.from_numpy(intensities[near]),
            torch.from_numpy(keep[near]),
            torch.from_numpy(tile[near]),
            radius,
        )
    return keep


def _settled(positions: Tensor, strength: Tensor, owned: Tensor, tile: Tensor, radius: float) -> np.ndarray:
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
    cores = np.array([grid[number].core for number in range(len(grid))], np.float64).reshape(-1, 4)
    low, high = cores[:, :2] - 0.5 + reach, cores[:, 2:] - 0.5 - reach
    low[cores[:, :2] == 0] = -np.inf
    high[cores[:, 2:] == np.array(grid.shape)] = np.inf
    inner: np.ndarray = ((positions >= low[tile]) & (positions < high[tile])).all(axis=1)
    return ~inner
