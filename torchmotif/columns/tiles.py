"""Overlapping tiles, so that memory is bounded and time grows with the area."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["Tile", "each", "tiles_of"]

_S = TypeVar("_S")
_T = TypeVar("_T")
_SIDE = 768  # pixels of a tile's core: a few megabytes per intermediate


@dataclass(frozen=True)
class Tile:
    """A part of an image: its core, and the window around it that is looked at."""

    core: tuple[int, int, int, int]  # first row, first column, end row, end column
    window: tuple[int, int, int, int]

    def cut(self, image: Tensor) -> Tensor:
        """The window's pixels."""
        top, left, bottom, right = self.window
        return image[top:bottom, left:right]

    def owns(self, positions: Float[Tensor, "n 2"], shape: tuple[int, int]) -> Bool[Tensor, " n"]:
        """Which positions, in the image's pixels, fall to this tile; each falls to exactly one."""
        low = positions.new_tensor([-torch.inf if edge == 0 else edge - 0.5 for edge in self.core[:2]])
        high = positions.new_tensor(
            [
                torch.inf if edge == length else edge - 0.5
                for edge, length in zip(self.core[2:], shape, strict=True)
            ]
        )
        return ((positions >= low) & (positions < high)).all(dim=1)

    def origin(self, like_: Tensor) -> Tensor:
        """(row, col) of the window's first pixel."""
        return like_.new_tensor(self.window[:2])


def tiles_of(shape: tuple[int, int], margin: int, side: int = _SIDE) -> Iterator[Tile]:
    """Tiles whose cores of about `side` pixels cover `shape`, each seen with `margin` pixels around it."""
    h, w = shape
    rows, cols = (max(1, round(length / side)) for length in shape)
    for i in range(rows):
        top, bottom = h * i // rows, h * (i + 1) // rows
        for j in range(cols):
            left, right = w * j // cols, w * (j + 1) // cols
            window = (
                max(top - margin, 0),
                max(left - margin, 0),
                min(bottom + margin, h),
                min(right + margin, w),
            )
            yield Tile((top, left, bottom, right), window)


def each(work: Callable[[_S], _T], parts: Sequence[_S], device: torch.device) -> list[_T]:
    """What `work` makes of each part of an image; on a CPU several parts at a time, each by one thread.

    Operations on a part are too small to be shared between threads: with two they take longer than with one. torch's
    number of threads is that of the thread that calls, as before, when this returns.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        return [work(part) for part in parts]
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(work, parts))
    finally:
        torch.set_num_threads(threads)
