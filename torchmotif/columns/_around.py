"""Sums over the neighbours of columns in a fit, in Gaussian windows."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torchmotif._arrays import Budget
from torchmotif.columns._fit import Fit
from torchmotif.columns._local_phase import Windows

__all__ = ["Around"]

_CHUNK = Budget(1 << 22, 1 << 27)  # pixels of windows at a time
_COARSE = 3.0  # pixels that are a standard deviation of these windows, at least: places are rounded to a sixth of it


class Around(NamedTuple):
    """Sums over the neighbours of places, in Gaussian windows, without themselves."""

    windows: Windows
    pixel: Int[Tensor, " n"]
    nodes: tuple[Tensor, Tensor, Tensor]
    shape: tuple[int, int, int]
    own: Float[Tensor, " n"]

    @staticmethod
    def of(
        fit: Fit, rows: Int[Tensor, " n"], sheet: Int[Tensor, " n"], sheets: int, sigma: float
    ) -> "Around":
        """Of some columns of a fit; neighbours of each are those on its sheet."""
        coarse = max(1, int(sigma / _COARSE))
        _, h, w = ((length - 1) // coarse + 1 for length in fit.tiles.shape)
        windows = Windows.of(fit.data.new_zeros(1, h, w), sigma / coarse)
        row, col = (fit.positions[rows] / coarse).unbind(1)
        pixel = (sheet * h + row.round().long().clamp(0, h - 1)) * w + col.round().long().clamp(0, w - 1)
        i, j = ((at / step).round().long() for at, step in ((row, windows.step[0]), (col, windows.step[1])))
        i, j = i.clamp(0, len(windows.rows) - 1), j.clamp(0, len(windows.cols) - 1)
        at_row, at_col = pixel // w % h, pixel % w
        own = windows.rows[i, at_row] * windows.cols[j, at_col]
        return Around(windows, pixel, (sheet, i, j), (sheets, h, w), own.double())

    def sums(self, values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Weighted sums of the neighbours' values."""
        return self._of(values.float()).double() - self.own * values

    def every(self, values: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Weighted sums of several values, with their own."""
        rows = values.float().mT
        few = max(1, _CHUNK.on(rows) // math.prod(self.shape))
        return torch.cat([self._of(part) for part in rows.split(few)]).mT.double()

    def _of(self, rows: Float[Tensor, "*k n"]) -> Float[Tensor, "*k n"]:
        sheets, h, w = self.shape
        image = rows.new_zeros(*rows.shape[:-1], sheets * h * w).index_add_(-1, self.pixel, rows)
        found = self.windows.sums(image.view(*rows.shape[:-1], sheets, h, w))
        return found[..., *self.nodes]
