"""Columns beyond the border of tiles, and where nothing was measured: their places, and what they reach in."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from torchmotif._arrays import sent
from torchmotif.columns._profiles import profiles, window_reach
from torchmotif.columns.model import Cell, ImageModel, Tiles

__all__ = ["continued", "with_beyond"]


def continued(place: Float[Tensor, "t 2 h w"], cell: Cell, reach: int) -> Float[Tensor, "t 2 a b"]:
    """The places of pixels in a cell, and of so many beyond each border, where the lattice goes on as it is at the border."""
    row, col = (
        torch.arange(-reach, side + reach, dtype=torch.float64, device=place.device)
        for side in place.shape[2:]
    )
    row, col = (at - at.clamp(0, side - 1) for at, side in zip((row, col), place.shape[2:], strict=True))
    g = sent(cell.orders, row)
    away = (g[:, 0, None] * row)[:, :, None] + (g[:, 1, None] * col)[:, None]
    return (F.pad(place, (reach,) * 4, mode="replicate") + away.to(place.dtype)).remainder_(1)


def with_beyond(
    tiles: Tiles,
    model: ImageModel,
    at: Float[Tensor, "n 2"],
    tile: Int[Tensor, " n"],
    intensity: Float[Tensor, " n"],
) -> Tiles:
    """The tiles, told what columns beyond their border reach into them: a fit would take it off the columns at the border, as background."""
    if not len(at):
        return replace(tiles, beyond=None)
    columns = profiles(at, tile, sent(model.width, tiles.data), tiles.shape, window_reach(max(model.width)))
    canvas = columns.canvas()
    columns.add(canvas, intensity[:, None, None])
    return replace(tiles, beyond=columns.crop(canvas))
