"""Crystal that is fainter than its mean cell, as the shell of a particle is beside its core."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from torchmotif.columns._local_phase import Windowed, Windows
from torchmotif.columns._territories import Located, expected, lattice_constant
from torchmotif.columns.model import Cell, Tiles

__all__ = ["are_fainter", "own_part"]

# Part of the mean cell's contrast from which on there is crystal, and standard deviations by which it is known. Of four particles of 150 px with a core of 80 px (hexagonal and square, shells of 0.25 and 0.4 of
# its columns, 4 electrons in a peak; docs/decisions/0205) the shell has recall 0.96 to 1.00 and all precision 0.99 to 1.00; with 0.1 or 3.5 they are the same to 0.01, with 0.2 or 7 the fainter hexagonal shell has 0.76 and 0.92.
_FAINTEST, _SURE = 0.15, 5.0
# Share of a window beyond the crystal itself, at least; and share of it beyond from which on nothing reaches in. With 0.05, 0.2 and 0.7 these are the same.
_BEYOND, _FAR = 0.1, 0.9
# A crystal ends where it has half of what it has inside, up to so many nodes away, half a lattice constant each. With 0.35 precision is 0.95 at the least, with 0.7 recall 0.83 at the least; with 2 and 5 nodes precision is the same to 0.01.
_HALF, _NODES = 0.5, 3


def own_part(cell: Cell, where: Located, tiles: Tiles, least: float) -> Windowed:
    """Part of a mean cell's contrast that windows have where they do not reach into its crystal, which has at `least` that part; and by how many standard deviations.

    Zero standard deviations where it is less than half of what is around, since there it is what reaches in.
    """
    windows = Windows.of(tiles.data, lattice_constant(cell))
    mask = where.inside.to(tiles.data.dtype)
    part = where.agrees.field[:, 0]
    at = where.agrees.at_pixels((tiles.shape[1], tiles.shape[2]))[:, 0]
    model = expected(cell, where.place)
    crystal = mask * (at > least)
    rest = (where.level - at * model).square() * mask
    images = torch.stack([mask, crystal, crystal * at.clamp(min=1), model.square() * mask, rest])
    every, its, full, square, others = windows.sums(images)
    alone = (every - its).clamp(min=_BEYOND * 2 * math.pi * windows.sigma**2)
    own = (part * every - full) / alone
    # The square of a Gaussian window has half its sum.
    noise = (others / every.clamp(min=1e-6) / (2 * square).clamp(min=1e-6)).sqrt() * every / alone
    inside = torch.where(alone > _FAR * every, own, 0.0)[:, None]
    most = F.max_pool2d(inside, 2 * _NODES + 1, 1, _NODES)[:, 0]
    sure = torch.where(own > _HALF * most, own / noise.clamp(min=1e-6), 0.0)
    return Windowed(torch.stack([own, sure], dim=1), windows.step)


def are_fainter(own: Tensor, sure: Tensor) -> Tensor:
    """Where a crystal has a part of the contrast that is fainter, and is there."""
    return (own > _FAINTEST) & (sure > _SURE)
