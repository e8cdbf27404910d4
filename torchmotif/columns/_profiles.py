"""The separable Gaussians of columns on the pixels around them, in a batch of tiles, and splines for the background."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from torchmotif._arrays import Budget
from torchmotif._windows import gather_windows

__all__ = ["Profiles", "gaussians", "profiles", "spline_basis", "window_reach"]

_REACH = 3.5  # widths beyond which a column's Gaussian is nothing
_CHUNK = Budget(
    3 << 20, 512 << 20
)  # bytes of windows at a time; with what is made of them they fit in the caches of a CPU


def window_reach(width: float) -> int:
    """Pixels on each side of a column's window."""
    return max(2, math.ceil(_REACH * width))


@dataclass(frozen=True, eq=False)
class Profiles:
    """The Gaussians of columns along both axes, on windows of a batch of tiles.

    Attributes
    ----------
    start : Tensor of shape (n, 2), int64
        First pixel of each window in the tiles, each padded by `reach` on all sides and put one below the other.
    rows, cols : Tensors of shape (n, 3, s)
        Along each axis the Gaussian, its derivative by the centre, and by the width.
    first : Tensor of shape (n, 2), int64
        The same pixel in the tile; may lie outside of it.
    reach : int
    tiles : (int, int, int)
        Number, rows and columns of the tiles.
    """

    start: Int[Tensor, "n 2"]
    first: Int[Tensor, "n 2"]
    rows: Float[Tensor, "n 3 s"]
    cols: Float[Tensor, "n 3 s"]
    reach: int
    tiles: tuple[int, int, int]

    def __len__(self) -> int:
        """Count the columns."""
        return len(self.start)

    @property
    def size(self) -> int:
        """Side of the windows in pixels."""
        return 2 * self.reach + 1

    def at(self, rows: Int[Tensor, " k"] | slice) -> "Profiles":
        """Those of some columns."""
        if isinstance(rows, slice) and (rows.start, rows.stop) == (0, len(self)):
            return self
        return Profiles(
            self.start[rows], self.first[rows], self.rows[rows], self.cols[rows], self.reach, self.tiles
        )

    def joined(self, other: "Profiles") -> "Profiles":
        """These, and after them others."""
        return self._mapped(lambda mine, theirs: torch.cat([mine, theirs]), other)

    def replaced(self, rows: Int[Tensor, " k"], new: "Profiles") -> "Profiles":
        """The same with those of some columns replaced."""
        return self._mapped(lambda mine, theirs: mine.index_copy(0, rows, theirs), new)

    def _mapped(self, function: Callable[[Tensor, Tensor], Tensor], other: "Profiles") -> "Profiles":
        start, first, rows, cols = (
            function(getattr(self, name), getattr(other, name)) for name in ("start", "first", "rows", "cols")
        )
        return replace(self, start=start, first=first, rows=rows, cols=cols)

    def pad(self, images: Float[Tensor, "t h w"]) -> Float[Tensor, "th2 w2"]:
        """Images of the tiles, padded by `reach`, one below the other."""
        return F.pad(images, (self.reach,) * 4).flatten(0, 1)

    def crop(self, padded: Float[Tensor, "th2 w2"]) -> Float[Tensor, "t h w"]:
        """The reverse of `pad`."""
        t, h, w = self.tiles
        r = self.reach
        return padded.view(t, h + 2 * r, w + 2 * r)[:, r : r + h, r : r + w]

    def canvas(self) -> Float[Tensor, "th2 w2"]:
        """A padded image of nothing."""
        t, h, w = self.tiles
        r = self.reach
        return self.rows.new_zeros(t * (h + 2 * r), w + 2 * r)

    def chunks(self) -> Iterator[slice]:
        """Columns whose windows are worked on at a time."""
        step = max(1, _CHUNK.on(self.rows) // (4 * self.size**2))
        return (slice(first, min(first + step, len(self))) for first in range(0, len(self), step))

    def windows(self, padded: Float[Tensor, "th2 w2"]) -> Float[Tensor, "n s s"]:
        """Each column's pixels of a padded image."""
        return gather_windows(padded, self.start, self.size)

    def add(self, canvas: Float[Tensor, "th2 w2"], amplitudes: Float[Tensor, "n a b"]) -> None:
        """Add all products of one profile along rows and one along columns, times their amplitudes, to a padded image.

        The first a profiles along rows and the first b along columns take part.
        """
        flat, width = canvas.view(-1), canvas.shape[1]
        offset = _offsets(self.size, width, canvas.device)
        a, b = amplitudes.shape[1:]
        corner = self.start[:, 0] * width + self.start[:, 1]
        for part in self.chunks():
            mine = self.at(part)
            if (a, b) == (1, 1):  # a product of matrices that are one number wide takes eight times as long
                value = (mine.rows[:, 0] * amplitudes[part, 0])[:, :, None] * mine.cols[:, :1]
            else:
                value = torch.bmm(torch.bmm(mine.rows[:, :a].mT, amplitudes[part]), mine.cols[:, :b])
            flat.scatter_add_(0, (corner[part, None] + offset).flatten(), value.flatten())

    def projected(self, padded: Float[Tensor, "th2 w2"]) -> Float[Tensor, "n 3"]:
        """Products of an image with the derivatives by intensity, row and column, for intensity 1."""
        parts = [self._products(part, padded) for part in self.chunks()]
        return torch.cat(parts) if parts else self.rows.new_zeros(0, 3)

    def _products(self, part: slice, padded: Tensor) -> Tensor:
        mine = self.at(part)
        both = torch.bmm(torch.bmm(mine.rows[:, :2], mine.windows(padded)), mine.cols[:, :2].mT)
        return both.mT.flatten(1)[:, :3]


@lru_cache(maxsize=32)
def _offsets(size: int, width: int, device: torch.device) -> Int[Tensor, " ss"]:
    """From the first pixel of a square window to all of its pixels, in an image of that width."""
    step = torch.arange(size, device=device)
    return (step[:, None] * width + step).flatten()


def profiles(
    positions: Float[Tensor, "n 2"],
    tile: Int[Tensor, " n"],
    width: Float[Tensor, " 2"],
    tiles: tuple[int, int, int],
    reach: int,
) -> Profiles:
    """The profiles of columns in tiles, with standard deviations `width` along (rows, columns)."""
    _, h, w = tiles
    row, col = torch.round(positions).long().unbind(1)
    row, col = row.clamp(0, h - 1), col.clamp(0, w - 1)
    nearest = torch.stack([row, col], dim=1)
    start = torch.stack([row + tile * (h + 2 * reach), col], dim=1)
    step = torch.arange(-reach, reach + 1, device=positions.device)
    offset = ((nearest - positions)[:, :, None] + step).to(width.dtype)
    rows, cols = (
        gaussians(offset.flatten(0, 1), width.repeat(len(row))[:, None]).view(-1, 2, 3, len(step)).unbind(1)
    )
    return Profiles(start, nearest - reach, rows, cols, reach, tiles)


def gaussians(offset: Float[Tensor, "n s"], width: Tensor, kinds: int = 3) -> Float[Tensor, "n {kinds} s"]:
    """Normalised Gaussian at pixel minus centre, its derivative by the centre and, of three `kinds`, by the width."""
    certain = 1 / width
    scaled = offset * certain
    value = torch.exp(-0.5 * scaled.square()) * ((2 * math.pi) ** -0.5 * certain)
    along = value * (scaled * certain)
    every = [value, along]
    if kinds == 3:
        every.append(torch.addcmul(along * scaled, value, certain, value=-1))
    return torch.stack(every, dim=1)


def spline_basis(length: int, step: float, like_: Tensor) -> Float[Tensor, "length m"]:
    """Cubic B-splines at least `step` pixels apart, sampled at the pixels of an axis (de Boor 1978)."""
    intervals = max(1, int(length / step))
    pixel = torch.arange(length, device=like_.device, dtype=like_.dtype) * (intervals / length)
    centre = torch.arange(-1, intervals + 2, device=like_.device, dtype=like_.dtype)
    x = (pixel[:, None] - centre).abs()
    inner, outer = 2 / 3 - x**2 + x**3 / 2, (2 - x).clamp(min=0) ** 3 / 6
    return torch.where(x < 1, inner, outer)
