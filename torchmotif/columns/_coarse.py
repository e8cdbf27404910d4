"""Tiles in pixels as large as their columns allow: what mean cells tell needs no finer ones, and its price falls with their area."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from torchmotif.columns._cell_fit import FINEST
from torchmotif.columns.model import Cell, Pair, Tiles

__all__ = ["Coarse"]

# Pixels in the width of a column, at least. Of what it has up to the finest order that fits of mean cells use, a two-hundredth is lost. With 1.0 a
# perovskite at 1/50 of the dose has no oxygen; with 3.0, pixels as they are, grains, perovskite and WS2 at 1/100 and 1/50 are the same within their noise.
_NARROWEST = 1.5
# Of the two by which a cell is placed, at least, up to the finest: without, wide columns near each other left a cell no order to be fitted by. With 1 the same
# specimens are as they were.
_ORDERS = 2


class Coarse(NamedTuple):
    """Tiles whose pixels are means over squares of `side` x `side` pixels."""

    side: int
    tiles: Tiles
    shape: tuple[int, int]  # of the fine ones

    @classmethod
    def of(cls, tiles: Tiles, cells: Sequence[Cell]) -> "Coarse":
        """As coarse as the narrowest of some cells allows; the tiles themselves where that is one pixel, or without cells."""
        _, h, w = tiles.shape
        most = [
            min(
                cell.width / _NARROWEST,
                FINEST / (_ORDERS * max(math.hypot(*one) for one in cell.placing.tolist())),
            )
            for cell in cells
        ]
        side = max(1, math.floor(min(most, default=1.0)))
        if side == 1:
            return cls(1, tiles, (h, w))
        mask = tiles.usable.to(tiles.data.dtype)
        seen = _means(mask, side)
        data = _means(tiles.data * mask, side) / seen.clamp(min=1e-6)
        step = None if tiles.step is None else _means(tiles.step * mask, side) / seen.clamp(min=1e-6)
        under = None if tiles.under is None else _means(tiles.under, side)  # a hole is no step
        usable = seen >= 0.5
        return cls(side, Tiles(data, usable, usable & ~usable, step, under, tiles.slopes), (h, w))

    def cells(self, cells: Sequence[Cell]) -> tuple[Cell, ...]:
        """Cells of the fine pixels as these have them: a square pixel's variance is added to that of columns."""
        side, added = self.side, self._added
        return tuple(
            _scaled(cell, side, math.sqrt(cell.width**2 + added) / side, 1 / side**2) for cell in cells
        )

    def fine(self, cells: Sequence[Cell]) -> tuple[Cell, ...]:
        """Cells of these pixels as the fine ones have them."""
        side, added = self.side, self._added
        return tuple(
            _scaled(cell, 1 / side, math.sqrt(max((side * cell.width) ** 2 - added, added)), side**2)
            for cell in cells
        )

    def positions(self, at: Float[Tensor, "n 2"]) -> Float[Tensor, "n 2"]:
        """Positions in the fine pixels."""
        return at if self.side == 1 else at * self.side + (self.side - 1) / 2

    def pixels(self, image: Bool[Tensor, "t a b"]) -> Bool[Tensor, "t h w"]:
        """An image of these pixels in the fine ones."""
        if self.side == 1:
            return image
        fine = image.repeat_interleave(self.side, 1).repeat_interleave(self.side, 2)
        return fine[:, : self.shape[0], : self.shape[1]]

    @property
    def _added(self) -> float:
        """Variance that means over squares add to a column of fine pixels, which are means themselves."""
        return (self.side**2 - 1) / 12


def _means(image: Float[Tensor, "t h w"], side: int) -> Float[Tensor, "t a b"]:
    """Over squares; those at the end hold what there is."""
    found: Tensor = F.avg_pool2d(image[:, None], side, ceil_mode=True)[:, 0]
    return found


def _scaled(cell: Cell, side: float, width: float, area: float) -> Cell:
    """A cell in pixels that many times as wide."""
    (a, b), (c, d) = cell.orders
    orders: tuple[Pair, Pair] = (a * side, b * side), (c * side, d * side)
    intensities = tuple(one * area for one in cell.intensities)
    share = (cell.width / side / width) ** 2  # of the variance, which is that of an ellipse
    return replace(
        cell,
        orders=orders,
        window=cell.window / side,
        width=width,
        intensities=intensities,
        ellipse=(share * cell.ellipse[0], share * cell.ellipse[1]),
        lobes=tuple((row, col, bright * area) for row, col, bright in cell.lobes),
    )
