"""Where in some tiles each of several mean cells is: the place of every pixel in it, and the pixels of its crystal."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchmotif._arrays import sent
from torchmotif.columns._cell_fit import rendered
from torchmotif.columns._local_phase import Placed, Windowed, Windows, agreement, placed
from torchmotif.columns.model import Cell, Tiles

__all__ = ["WINDOW", "Located", "bin_of", "bins_of", "expected", "lattice_constant", "located"]

# Tried on simulated MX2, perovskites and polycrystals at 1 to 1/100 of the dose (`benchmarks/columns/end_to_end.py`; docs/decisions/0200); by how
# much each of these may be changed is not recorded.
WINDOW = 2.0  # lattice constants: standard deviation of the window in which a phase is measured
_SIDE = 2.0  # bins of the mean cell per pixel
_SECOND = 0.95  # share of its gain by which a cell that explains less of all tiles counts beside a better one


class Located(NamedTuple):
    """A cell in a batch of tiles."""

    place: Float[Tensor, "t 2 h w"]  # of every pixel in the cell, in its sides
    level: Float[Tensor, "t h w"]  # pixels less their local mean
    agrees: Windowed  # see `agreement`
    inside: Bool[Tensor, "t h w"]  # usable pixels of its crystal
    amplitude: Float[Tensor, "t 2 m n"]  # of both orders on the coarse grid


def located(tiles: Tiles, cells: Sequence[Cell]) -> list[Located]:
    """Every cell in some tiles; of several, each is measured once more in its own crystals, and from there up to their boundaries."""
    at, own = _places(tiles, cells, [tiles.usable] * len(cells))
    if len(cells) > 1:
        at, own = _places(tiles, cells, [tiles.usable & one for one in own])
    found = []
    for cell, (where, model), one in zip(cells, at, own, strict=True):
        inside = one & tiles.usable
        agrees = agreement(where.level, inside, model, lattice_constant(cell))
        found.append(Located(where.place, where.level, agrees, inside, where.amplitude))
    return found


def _places(
    tiles: Tiles, cells: Sequence[Cell], inside: list[Bool[Tensor, "t h w"]]
) -> tuple[list[tuple[Placed, Tensor]], list[Bool[Tensor, "t h w"]]]:
    """Place and model of every cell, whose phases are measured inside some pixels, and the pixels that are its own."""
    found = []
    for cell, pixels in zip(cells, inside, strict=True):
        at = placed(tiles.level, pixels, sent(cell.orders, tiles.data), cell.window)
        found.append((at, expected(cell, at.place)))
    if len(cells) < 2:
        return found, list(inside)
    return found, _territories(tiles, [model for _, model in found], min(map(lattice_constant, cells)))


def expected(cell: Cell, place: Float[Tensor, "t 2 h w"]) -> Float[Tensor, "t h w"]:
    """What the mean cell lets expect of every pixel, less its mean."""
    real = np.linalg.inv(np.array(cell.orders)).T
    bins = bins_of(real)
    model = rendered(np.array(cell.sites), np.array(cell.intensities), cell.width, bins, real)
    table = sent(model, place).flatten()
    return table[bin_of(place, bins)]


def lattice_constant(cell: Cell) -> float:
    """The longer one of a cell in pixels, by which its window was chosen."""
    return cell.window / WINDOW


def _territories(
    tiles: Tiles, models: list[Float[Tensor, "t h w"]], sigma: float
) -> list[Bool[Tensor, "t h w"]]:
    """Pixels in which each of several models makes the squared difference to the image less, given those that do so more.

    Of two crystals each has its own; two layers on each other, whose models have nothing in common, both have all. In Gaussian
    windows of standard deviation `sigma`.
    """
    windows, mask = Windows.of(tiles.data, sigma), tiles.usable.to(tiles.data.dtype)
    mean = windows.mean(tiles.level, mask)
    shape = (tiles.shape[1], tiles.shape[2])
    level = (tiles.level - Windowed(mean[:, None], windows.step).at_pixels(shape)[:, 0]) * mask
    gains = torch.stack([windows.sums((2 * level - model) * model * mask) for model in models])
    common = torch.zeros(len(models), *gains.shape, dtype=gains.dtype, device=gains.device)
    for i, one in enumerate(models):
        for j, other in enumerate(models[:i]):
            common[i, j] = common[j, i] = windows.sums(one * other * mask)
    # Where two cells describe one crystal equally well it is one of them in all places.
    weight = torch.full_like(gains[:, :1, :1, :1], _SECOND)
    weight[gains.clamp(min=0).sum((1, 2, 3)).argmax()] = 1
    own = torch.zeros_like(gains)
    left, free = gains, torch.ones_like(gains, dtype=torch.bool)
    for _ in models:
        best = torch.where(free, left * weight, -torch.inf).argmax(0, keepdim=True)
        chosen = torch.zeros_like(free).scatter(0, best, value=True)
        own = torch.where(chosen, left, own)
        free = free & ~chosen
        taken = chosen & (left > 0)
        left = left - 2 * torch.einsum("kt...,jkt...->jt...", taken.to(left.dtype), common)
    fields = Windowed(own.transpose(0, 1), windows.step).at_pixels(shape)
    return list((fields > 0).unbind(1))


def bins_of(real: np.ndarray) -> tuple[int, int]:
    a, b = (max(8, round(_SIDE * float(np.linalg.norm(v)))) for v in real)
    return a, b


def bin_of(place: Float[Tensor, "t 2 h w"], bins: tuple[int, int]) -> Int[Tensor, "t h w"]:
    """The bin of a cell that every pixel lies in, int32."""
    row, col = ((place[:, i] * bins[i]).int().clamp_(max=bins[i] - 1) for i in (0, 1))
    return row.mul_(bins[1]).add_(col)
