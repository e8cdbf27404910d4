"""Whether a lattice holds the same in all places: of mirror twins, stackings and phases on one lattice each has a cell of its own."""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from torchmotif._arrays import Budget, sent
from torchmotif.columns._territories import Located, bin_of, bins_of
from torchmotif.columns._waves import Waves

__all__ = ["Contents", "contents"]

# Tried on simulated MX2 with mirror twins, grains, strain and vacancies, and on bilayers, at 1 to 1/50 of the dose; by how much each of
# these may be changed is not recorded.
_BLOCK = 5.0  # lattice constants: side of the blocks whose cells are compared
_FEWEST = 4  # blocks that are compared
_CLEAR = 7.0  # standard deviations by which what tells two kinds of block in half of their pixels shows in the other half
_FINEST = 0.15  # square of the periods per width up to which structure factors count
_ROUNDS = 6  # of two means
_CHUNK = Budget(1 << 19, 1 << 25)  # pixels that are folded at a time


class Contents(NamedTuple):
    """What a lattice holds in some pixels."""

    groups: list[Bool[Tensor, "t h w"]]  # pixels of the one or two kinds of cell
    shares: list[float]  # of all pixels that these have
    uneven: float  # share of the squares of structure factors that differs from place to place, beyond brightness and noise


def contents(
    where: Located, inside: Bool[Tensor, "t h w"], real: np.ndarray, width: float, along: float = 0.0
) -> Contents:
    """Whether some pixels of a lattice hold the same, from the structure factors of blocks; see `sites_of` for `along`.

    Two kinds are told apart along the first principal component, learnt from every other pixel and tested on the rest; how uneven they are is
    the covariance of both halves, which has no noise.
    """
    side = max(16, round(_BLOCK * float(np.linalg.norm(real, axis=1).max())))
    t, h, w = inside.shape
    tile, row, col = (torch.arange(n, device=inside.device, dtype=torch.int32) for n in (t, h, w))
    down, across = (h - 1) // side + 1, (w - 1) // side + 1
    block = (tile[:, None, None] * down + row[:, None] // side) * across + col // side
    bins = bins_of(real)
    waves = Waves.of(bins, real).across(along)
    waves = waves.some(waves.square < _FINEST / width**2)
    factors, noise, pixels = _factors(where, inside, (block, t * down * across), bins, waves)
    factors *= np.tile(np.exp(-2 * np.pi**2 * width**2 * waves.square), 2)  # as such columns weigh them
    kept = np.flatnonzero(np.isfinite(noise).all(0) & (noise > 0).all(0))
    if len(kept) < _FEWEST or len(waves.square) == 0:
        return Contents([inside], [1.0], 0.0)
    factors, noise = factors[:, kept], noise[:, kept]
    first, second = factors / noise[:, :, None]
    first, second = (_less_mean(one, noise[n]) for n, one in enumerate((first, second)))
    component = np.linalg.svd(first, full_matrices=False)[2][0]
    told, again = first @ component, second @ component
    uneven = _uneven(*factors)
    if told @ again < _CLEAR * np.sqrt(told @ told):
        return Contents([inside], [1.0], uneven)
    score = told * noise[0] + again * noise[1]
    low, high = score.min(), score.max()
    for _ in range(_ROUNDS):
        upper = score > (low + high) / 2
        low, high = score[~upper].mean(), score[upper].mean()
    groups, shares = [], []
    for mine in (~upper, upper):
        chosen = torch.zeros(t * down * across, dtype=torch.bool)
        chosen[kept[mine]] = True
        every = sent(chosen, inside)
        shares.append(float(pixels[kept[mine]].sum() / pixels.sum()))
        groups.append(inside & torch.cat([every[some] for (some,) in _CHUNK.split(block)]))
    return Contents(groups, shares, uneven)


def _uneven(first: np.ndarray, second: np.ndarray) -> float:
    """Squares of the parts (blocks, k) of factors that are no multiple of the mean, over those that are, from two halves of the pixels.

    Less two standard errors of what blocks add by chance.
    """
    mean = (first + second).mean(0)
    mean /= np.linalg.norm(mean)
    along = [one @ mean for one in (first, second)]
    beside = (first - along[0][:, None] * mean) * (second - along[1][:, None] * mean)
    total = beside.sum(1)
    error = total.std() * np.sqrt(len(total))
    return float((total.sum() - 2 * error) / max(along[0] @ along[1], 1e-12))


def _less_mean(scaled: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Values in standard deviations less the mean of the values."""
    weight = 1 / noise**2
    mean = (scaled * noise[:, None] * weight[:, None]).sum(0) / weight.sum()
    left: np.ndarray = scaled - mean / noise[:, None]
    return left


def _factors(
    where: Located,
    inside: Tensor,
    blocks: tuple[Tensor, int],
    bins: tuple[int, int],
    waves: Waves,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Structure factors (2, blocks, k) of blocks (each pixel's, and how many) from both colours of a chessboard, their noise, and the pixels of blocks."""
    block, count = blocks
    _, h, w = inside.shape
    row, col = (torch.arange(n, device=inside.device, dtype=torch.int32) for n in (h, w))
    part = (row[:, None] + col) % 2 * count + block
    few, cells = torch.zeros(2, 2 * count, dtype=torch.float64, device=inside.device), math.prod(bins)
    sums = torch.zeros(2 * count * cells, dtype=torch.float64, device=inside.device)
    for some, mine, place, pixels in _CHUNK.split(inside, part, where.place, where.level):
        which, level = mine.flatten().long(), (pixels * some).flatten().double()
        few[0].scatter_add_(0, which, some.flatten().double())
        sums.scatter_add_(0, which * cells + bin_of(place, bins).flatten(), level)
        few[1].scatter_add_(0, which, level.square_())
    host = torch.cat([few.flatten(), sums]).cpu().numpy()
    number, square = host[: few.numel()].reshape(2, 2, count)
    image = host[few.numel() :].reshape(2 * count, *bins)
    found = np.fft.fft2(image)[:, waves.order[:, 0], waves.order[:, 1]].reshape(2, count, -1)
    enough = number > 0.3 * number.max()
    with np.errstate(divide="ignore", invalid="ignore"):
        found = found / number[..., None]
        # Of both parts of a factor: the pixels' scatter, most of which is noise.
        noise = np.where(enough, np.sqrt(square / number / number / 2), np.nan)
    return np.concatenate([found.real, found.imag], axis=2), noise, number.sum(0)
