"""Moments at every pixel: correlation with the kernels by Fourier transforms of overlapping tiles.

Two real kernels travel as one complex kernel. Tiles keep the transforms in cache and the memory bounded, so that
the cost is proportional to the number of pixels.
"""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

from torchmotif._memory import in_batches
from torchmotif.errors import InputError

__all__ = ["correlate", "mode_pairs", "rim_mask"]

_TILES = (32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768, 1024)
_WORK = 8 << 20  # bytes of one step's product: what stays in a CPU's cache
_WORK_ON_ACCELERATOR = 256 << 20
_REMEDY = "take a part of the image"


def mode_pairs(orders: Int[Tensor, "k 2"]) -> list[tuple[int, int | None]]:
    """Which two moments share a transform: cosine and sine of one (n, |m|); the others by twos."""
    row = {(n, m): j for j, (n, m) in enumerate(orders.tolist())}
    pairs: list[tuple[int, int | None]] = [
        (j, row[n, -m]) for (n, m), j in row.items() if m > 0 and (n, -m) in row
    ]
    alone = [j for (n, m), j in row.items() if m == 0 or (n, -m) not in row]
    pairs += [(alone[i], alone[i + 1] if i + 1 < len(alone) else None) for i in range(0, len(alone), 2)]
    return pairs


def rim_mask(shape: tuple[int, int], size: int, device: torch.device | None = None) -> Bool[Tensor, "h w"]:
    """Which pixels have a whole window of `size` pixels in an image of `shape`."""
    before = (size - 1) // 2
    mask = torch.zeros(shape, dtype=torch.bool, device=device)
    mask[before : max(shape[0] - size + 1 + before, 0), before : max(shape[1] - size + 1 + before, 0)] = True
    return mask


def correlate(
    image: Float[Tensor, "h w"],
    kernels: Float[Tensor, "k size size"],
    pairs: list[tuple[int, int | None]],
    out: Float[Tensor, "k h w"] | None = None,
) -> Iterator[tuple[list[int], Float[Tensor, "c h w"]]]:
    """Correlation of the image with the kernels, a few at a time.

    Parameters
    ----------
    image : Tensor of shape (h, w)
        Pixels that are not finite make every window that has them NaN.
    kernels : Tensor of shape (k, size, size)
    pairs : list
        Rows of `kernels` that share a transform.
    out : Tensor of shape (k, h, w), optional
        Where the results go; by default into a new tensor for every few.

    Yields
    ------
    rows : list of int
        Rows of `kernels`.
    maps : Tensor of shape (c, h, w)
        Their correlations, NaN where the window reaches over the rim; with `out`, all of it.

    Raises
    ------
    InputError
        If the image requires gradients.
    """
    if image.requires_grad and torch.is_grad_enabled():
        raise InputError(
            "image requires gradients, which maps do not pass on; use project, or image.detach()"
        )
    size = kernels.shape[-1]
    finite = torch.isfinite(image)
    level = torch.where(finite, image, 0).sum() / finite.sum().clamp(min=1)  # off the transforms' rounding
    image = torch.where(finite, image - level, 0)
    valid = rim_mask((image.shape[0], image.shape[1]), size, image.device) & ~_touched(~finite, size)
    gaps = torch.where(valid, 0.0, math.nan).to(image)
    tile = _best_tile(image.shape, size, len(pairs))
    spectra = _tile_spectra(image, tile, size)
    spectra[..., 0, 0] += level * tile**2
    work = _WORK if image.device.type == "cpu" else _WORK_ON_ACCELERATOR
    at_a_time = work // (spectra.shape[1] * tile**2 * spectra.element_size())
    products = _Products(spectra)
    if out is not None:
        _empty_rim(out, size)

    def some(start: int, stop: int) -> tuple[list[int], Tensor]:
        chosen = pairs[start:stop]
        rows = [row for pair in chosen for row in pair if row is not None]
        maps = _empty_rim(image.new_empty(len(rows), *image.shape), size) if out is None else out
        targets = list(maps) if out is None else [out[row] for row in rows]
        _fill(targets, gaps, products.of(_pair_spectra(kernels, chosen, tile)), size)
        return rows, maps

    yield from in_batches(some, len(pairs), at_a_time, _REMEDY)


def _touched(bad: Tensor, size: int) -> Tensor:
    """Pixels whose window holds a bad one."""
    before = (size - 1) // 2
    counts = F.pad(bad.int(), (before + 1, size - 1 - before) * 2).cumsum(0).cumsum(1)
    rows = counts[size:] - counts[:-size]
    return rows[:, size:] != rows[:, :-size]


def _best_tile(shape: torch.Size, size: int, n_kernels: int) -> int:
    """Side of the tiles that costs least, kernels' own transforms included."""

    def cost(tile: int) -> float:
        tiles = math.prod(math.ceil((length - size + 1) / (tile - size + 1)) for length in shape)
        return (tiles * (n_kernels + 1) + n_kernels) * tile**2 * (math.log2(tile) + 4)

    return min((tile for tile in (*_TILES, 2 * size, 4 * size) if tile > size), key=cost)


def _tile_spectra(image: Tensor, tile: int, size: int) -> Tensor:
    """Transforms of the tiles that overlap by the kernels' reach, (rows of tiles, tiles in a row, tile, tile)."""
    step = tile - size + 1
    missing = [-(length - size + 1) % step for length in image.shape]
    padded = F.pad(image, (0, missing[1], 0, missing[0]))
    tiles = padded.unfold(0, tile, step).unfold(1, tile, step)
    return torch.stack([torch.fft.fft2(row) for row in tiles])


def _pair_spectra(kernels: Tensor, pairs: list[tuple[int, int | None]], tile: int) -> Tensor:
    """Transforms that correlate with the first kernel of each pair in the real part, the second in the imaginary."""
    first = kernels[[pair[0] for pair in pairs]]
    second = kernels[[pair[0] if pair[1] is None else pair[1] for pair in pairs]]
    spectra: Tensor = torch.fft.fft2(torch.complex(first, -second), s=(tile, tile))
    return torch.conj_physical(spectra)


def _empty_rim(maps: Tensor, size: int) -> Tensor:
    """NaN where the window reaches over the rim."""
    before, after = (size - 1) // 2, size - 1 - (size - 1) // 2
    for rim in (maps[:, :before], maps[:, maps.shape[1] - after :]):
        rim.fill_(math.nan)
    for rim in (maps[..., :before], maps[..., maps.shape[2] - after :]):
        rim.fill_(math.nan)
    return maps


class _Products:
    """Correlations of one row of tiles after another, always in the same memory."""

    def __init__(self, spectra: Complex[Tensor, "i j tile tile"]) -> None:
        self.spectra = spectra
        self._memory = spectra.new_empty(0)

    def of(self, kernels: Complex[Tensor, "p tile tile"]) -> Iterator[Float[Tensor, "j p 2 tile tile"]]:
        """For every row of tiles, along it: real and imaginary part with every pair of kernels."""
        shape = (len(kernels), *self.spectra.shape[1:])
        if self._memory.numel() < 2 * math.prod(shape):
            self._memory = self.spectra.new_empty(2 * math.prod(shape))
        product, result = self._memory[: 2 * math.prod(shape)].view(2, *shape)
        for row in self.spectra:
            torch.mul(kernels[:, None], row, out=product)
            torch.fft.ifft2(product, out=result)
            yield torch.view_as_real(result).permute(1, 0, 4, 2, 3)


def _fill(targets: list[Tensor], gaps: Tensor, products: Iterator[Tensor], size: int) -> None:
    """Write the correlations of all tiles into their places in the maps, plus `gaps`."""
    before = (size - 1) // 2
    bottom, right = (before + length - size + 1 for length in gaps.shape)
    for i, row in enumerate(products):
        step = row.shape[-1] - size + 1
        top = before + i * step
        for j, product in enumerate(row):
            left = before + j * step
            place = slice(top, min(top + step, bottom)), slice(left, min(left + step, right))
            gap = gaps[place]
            height, width = gap.shape
            parts = [part for pair in product[..., :height, :width].unbind() for part in pair.unbind()]
            for target, part in zip(targets, parts, strict=False):
                torch.add(gap, part, out=target[place])
