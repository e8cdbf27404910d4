"""Blocks of fixed size, on which columns are always computed, and tiles, the groups of blocks that make a task."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

__all__ = ["Block", "Grid", "block_side"]

_SIDE = 512  # pixels of a block's core: some tens of megabytes per worker
_SPACINGS = 40.0  # least side of a core in spacings: the margin around it is four of them


def block_side(spacing: float) -> int:
    """Side in pixels of the blocks of an image whose columns are `spacing` apart.

    Examples
    --------
    >>> block_side(10.0), block_side(40.0)
    (512, 1664)
    """
    return max(_SIDE, 128 * math.ceil(_SPACINGS * spacing / 128))


@dataclass(frozen=True)
class Block:
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
    """The blocks of one image.

    Attributes
    ----------
    shape : (int, int)
        Of the image in pixels.
    side : int
        Of the cores in pixels, about.
    margin : int
        Pixels around a core that are looked at.
    """

    shape: tuple[int, int]
    side: int
    margin: int

    @property
    def counts(self) -> tuple[int, int]:
        """Blocks along rows and columns."""
        h, w = self.shape
        return max(1, round(h / self.side)), max(1, round(w / self.side))

    def __len__(self) -> int:
        """Count the blocks."""
        rows, cols = self.counts
        return rows * cols

    def __getitem__(self, number: int) -> Block:
        """Block of a number, counted row by row."""
        (h, w), (rows, cols), m = self.shape, self.counts, self.margin
        i, j = divmod(number, cols)
        top, bottom, left, right = h * i // rows, h * (i + 1) // rows, w * j // cols, w * (j + 1) // cols
        window = (max(top - m, 0), max(left - m, 0), min(bottom + m, h), min(right + m, w))
        return Block(number, (top, left, bottom, right), window)

    def tiles(self, side: int) -> Iterator[list[int]]:
        """Numbers of the blocks of each tile of about `side` pixels, at least one block."""
        rows, cols = self.counts
        step = max(1, round(side / self.side))
        for i in range(0, rows, step):
            for j in range(0, cols, step):
                yield [
                    row * cols + col
                    for row in range(i, min(i + step, rows))
                    for col in range(j, min(j + step, cols))
                ]

    def around(self, number: int) -> list[int]:
        """Numbers of a block and the blocks that touch it."""
        rows, cols = self.counts
        i, j = divmod(number, cols)
        return [
            row * cols + col
            for row in range(max(i - 1, 0), min(i + 2, rows))
            for col in range(max(j - 1, 0), min(j + 2, cols))
        ]

    def samples(self, per_axis: int = 3, side: int = 768) -> list[tuple[int, int, int, int]]:
        """Windows on which what is common to the image is measured: a few, spread evenly, whatever the tiles."""
        axes = []
        for length in self.shape:
            if length <= 2 * side:
                axes.append([(0, length)])
            else:
                middle = [(2 * i + 1) * length // (2 * per_axis) for i in range(per_axis)]
                first = [min(max(m - side // 2, 0), length - side) for m in middle]
                axes.append([(a, a + side) for a in first])
        return [(top, left, bottom, right) for top, bottom in axes[0] for left, right in axes[1]]
