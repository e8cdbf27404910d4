"""The mean cell of a crystal: lattices from power spectra, the image folded with the local phase of two orders, the sites it shows."""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from torchmotif.columns._periodic import incoherent
from torchmotif.columns.model import Cell, Pair, Tiles

__all__ = ["Windowed", "Windows", "agreement", "cells_of", "expected", "nearest_sites", "placed"]

_BLOCK_SPACINGS = 10.0  # least side of the blocks whose power spectra tell lattices
_LONGEST = 5.0  # a block's side over the longest period that is looked for in it
_PEAKS, _RISE = 16, 18.0  # peaks of a power spectrum that count, and their least height over the noise
_OFF = 0.7  # periods per block by which a peak may miss a lattice
_ALIKE = 0.06  # of a reciprocal vector, by which those of one crystal may differ between blocks
_FEWEST = 3  # peaks of a lattice
_EXPLAINED = 0.75  # of the logarithms of the heights of all peaks: what a lattice of a block has
_WINDOW = (
    2.0  # lattice constants: standard deviation of the window in which the phase of an order is measured
)
_LATTICES = 6
_STEP = 2.0  # nodes of the orders' grid per standard deviation
_SIDE = 2.0  # bins of the mean cell per pixel
_CRYSTAL = 0.4  # of the usual amplitude: where orders have less, there is another crystal, or none
_AGREES = 0.6  # the same by the regression of the image on the mean cell
_ADDS = 0.05  # of the agreement of the best lattice: what another must add
_AS_GOOD = 0.8  # of that agreement: a smaller or larger cell of the same crystal, which may show what the other does not
_FULL = 8  # pixels in every bin of a mean cell
_CLEAR = 4.5  # standard deviations of the mean cell
_MOST = 24  # sites of a cell
_FAINTEST, _TRACE = (
    0.04,
    0.01,
)  # of the brightest site: the least of a column, and of what may turn out to be one
_NARROW = 0.16  # of the side of a cell: width of a column from which its fit sets out
_BESIDE = 2.3  # widths from a column, within which what is left over is its misfit
_ABOVE = 2.0  # times the greatest misfit of a cell, by which each of its columns stands out
_FAR = 7.0  # widths: a column further away than this does not reach into a cell
_REFINED = 3  # times that reciprocal vectors are corrected by the slope of their phases
# Of the fit of a cell: steps, damping, gain in chi-squared. Cells of MX2, perovskites and squares take up to 9 steps; what takes more
# are columns that are none.
_ROUNDS, _STUCK, _SETTLED = 15, 1e4, 0.03
_MISSES = 4  # places one after the other that turn out to be no column, after which no other is looked for


class Windowed(NamedTuple):
    """Means in Gaussian windows around the nodes of a coarse grid, for every tile."""

    field: Float[Tensor, "t k m n"]
    step: tuple[float, float]  # pixels between nodes

    def at_pixels(self, shape: tuple[int, int]) -> Float[Tensor, "t k h w"]:
        """Between the nodes, at every pixel."""
        found: Tensor = F.interpolate(self.field, shape, mode="bilinear", align_corners=True)
        return found

    def at(self, positions: Float[Tensor, "n 2"], tile: Int[Tensor, " n"]) -> Float[Tensor, "n k"]:
        """At some positions in the tiles."""
        m, n = self.field.shape[2:]
        (row, col), (high, wide) = positions.to(self.field.dtype).unbind(1), self.step
        row, col = (row / high).clamp(0, m - 1.001), (col / wide).clamp(0, n - 1.001)
        i, j = row.long(), col.long()
        u, v = (row - i)[:, None], (col - j)[:, None]
        f = self.field
        upper = (1 - v) * f[tile, :, i, j] + v * f[tile, :, i, j + 1]
        lower = (1 - v) * f[tile, :, i + 1, j] + v * f[tile, :, i + 1, j + 1]
        return (1 - u) * upper + u * lower


class Windows(NamedTuple):
    """Gaussian windows along both axes, of standard deviation `sigma`, around nodes half of that apart."""

    rows: Float[Tensor, "m h"]
    cols: Float[Tensor, "n w"]
    step: tuple[float, float]

    @staticmethod
    def of(like: Float[Tensor, "t h w"], sigma: float) -> "Windows":
        """For tiles of that shape."""
        parts, steps = [], []
        for length in like.shape[1:]:
            count = max(2, math.ceil((length - 1) * _STEP / sigma) + 1)
            steps.append((length - 1) / (count - 1))
            node = torch.arange(count, device=like.device, dtype=like.dtype) * steps[-1]
            pixel = torch.arange(length, device=like.device, dtype=like.dtype)
            parts.append(torch.exp(-((node[:, None] - pixel) ** 2) / (2 * sigma**2)))
        return Windows(parts[0], parts[1], (steps[0], steps[1]))

    def sums(self, image: Float[Tensor, "t h w"]) -> Float[Tensor, "t m n"]:
        """Weighted sums of the pixels."""
        return self.rows @ image @ self.cols.mT


def local_orders(
    level: Float[Tensor, "t h w"], usable: Tensor, vectors: Float[Tensor, "k 2"], sigma: float
) -> Windowed:
    """Local phases of orders: real and imaginary part of each without its carrier, and the mean as the last channel.

    Geometric phase analysis (Hytch et al. 1998) in Gaussian windows of standard deviation `sigma`, of the usable pixels, without their mean.
    """
    windows, mask = Windows.of(level, sigma), usable.to(level.dtype)
    m, n = len(windows.rows), len(windows.cols)
    total = windows.sums(mask).clamp(min=1e-3 * 2 * math.pi * sigma**2)
    mean = windows.sums(level * mask) / total
    row, col = (torch.arange(length, device=level.device, dtype=level.dtype) for length in level.shape[1:])
    parts = []
    for g in vectors:
        along, across = -2 * math.pi * g[0] * row, -2 * math.pi * g[1] * col
        left = torch.cat([windows.rows * along.cos(), windows.rows * along.sin()])
        right = torch.cat([windows.cols * across.cos(), windows.cols * across.sin()])
        both = [left @ image @ right.mT for image in (level * mask, mask)]
        real = [one[:, :m, :n] - one[:, m:, n:] for one in both]
        imaginary = [one[:, :m, n:] + one[:, m:, :n] for one in both]
        parts += [(one - mean * ones) / total for one, ones in (real, imaginary)]
    return Windowed(torch.stack([*parts, mean], dim=1), windows.step)


class Placed(NamedTuple):
    """Every pixel of some tiles in the cell of a lattice."""

    place: Float[Tensor, "t 2 h w"]  # phases of two orders over 2 pi, in [0, 1)
    level: Float[Tensor, "t h w"]  # pixels less their local mean
    amplitude: Float[Tensor, "t 2 m n"]  # of both orders on the coarse grid


def placed(
    level: Float[Tensor, "t h w"], usable: Tensor, vectors: Float[Tensor, "2 2"], sigma: float
) -> Placed:
    """The place of every pixel in its cell, by the local phases of two orders."""
    _, h, w = level.shape
    orders = local_orders(level, usable, vectors, sigma)
    field = orders.at_pixels((h, w))
    real, imaginary, mean = field[:, 0:4:2], field[:, 1:4:2], field[:, 4]
    row, col = (torch.arange(length, device=level.device, dtype=torch.float64) for length in (h, w))
    g = vectors.double()
    carrier = (g[:, 0, None] * row % 1)[:, :, None] + (g[:, 1, None] * col % 1)[:, None]
    place = (carrier.to(level.dtype) + torch.atan2(imaginary, real) / (2 * math.pi)) % 1
    # What rounds to 1 is 0.
    place = torch.where(place >= 1, 0.0, place)
    amplitude = torch.hypot(orders.field[:, 0:4:2], orders.field[:, 1:4:2])
    return Placed(place, (level - mean) * usable, amplitude)


def expected(cell: Cell, place: Float[Tensor, "t 2 h w"]) -> Float[Tensor, "t h w"]:
    """What the mean cell lets expect of every pixel, less its mean."""
    real = np.linalg.inv(np.array(cell.orders)).T
    bins = _bins(real)
    model = _rendered(np.array(cell.sites), np.array(cell.intensities), cell.width, bins, real)
    table = torch.from_numpy(model - model.mean()).to(place).flatten()
    return table[_bin_of(place, bins)]


def agreement(
    level: Float[Tensor, "t h w"], usable: Tensor, model: Float[Tensor, "t h w"], sigma: float
) -> Windowed:
    """How far the image is what a model lets expect: regression of the one on the other, and by how much their squared difference is less.

    In Gaussian windows of standard deviation `sigma`; the coefficient is 1 in the crystal and 0 where there is another or none.
    """
    windows, mask = Windows.of(level, sigma), usable.to(level.dtype)
    both, own = windows.sums(level * model * mask), windows.sums(model.square() * mask)
    full = 2 * math.pi * sigma**2
    least = 1e-3 * full * model.square().mean()
    return Windowed(torch.stack([both / (own + least), (2 * both - own) / full], dim=1), windows.step)


def cells_of(tiles: Tiles, spacing: float) -> tuple[Cell, ...]:
    """The mean cells of the crystals in some windows, that of the largest first; none where no lattice is seen."""
    level, usable = tiles.level, tiles.usable
    found = []
    for vectors in _lattices(level, usable, spacing):
        cell = _cell(level, usable, vectors)
        if cell is not None:
            found.append(cell)
    if not found:
        return ()
    gains = []
    for cell in found:
        at = placed(level, usable, torch.tensor(cell.orders).to(level), cell.window)
        gain = agreement(at.level, usable, expected(cell, at.place), cell.window / _WINDOW)
        gains.append(
            F.interpolate(gain.field[:, 1:], (64, 64), mode="bilinear")[:, 0].clamp(min=0).cpu().numpy()
        )
    kept, best, most = [], np.zeros_like(gains[0]), max(gain.sum() for gain in gains)
    for number in sorted(range(len(found)), key=lambda i: -gains[i].sum()):
        if np.maximum(gains[number] - best, 0).sum() > _ADDS * most or gains[number].sum() > _AS_GOOD * most:
            kept.append(found[number])
            best = np.maximum(best, gains[number])
    return tuple(kept)


def nearest_sites(cell: Cell, axes: Pair) -> float:
    """Distance between nearest sites of a cell: the median over its sites, and no more than the closest two let tell."""
    real = np.linalg.inv(np.array(cell.orders)).T
    gap = np.array(cell.sites)[:, None] - np.array(cell.sites)
    shifts = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 2, indexing="ij"), -1).reshape(-1, 2)
    away = np.linalg.norm(((gap - np.round(gap))[:, :, None] + shifts) @ real / axes, axis=3)
    away[away < 1e-6] = np.inf
    nearest = away.min((1, 2))
    return float(min(np.median(nearest), nearest.min() / 0.6))


def _bins(real: np.ndarray) -> tuple[int, int]:
    a, b = (max(8, round(_SIDE * float(np.linalg.norm(v)))) for v in real)
    return a, b


def _bin_of(place: Float[Tensor, "t 2 h w"], bins: tuple[int, int]) -> Int[Tensor, "t h w"]:
    row, col = ((place[:, i] * bins[i]).long().clamp(max=bins[i] - 1) for i in (0, 1))
    return row * bins[1] + col


def _rendered(
    sites: np.ndarray, strength: np.ndarray, width: float, bins: tuple[int, int], real: np.ndarray
) -> np.ndarray:
    """Gaussians at the sites of a cell, on its bins."""
    a, b = bins
    at = np.stack(np.meshgrid((np.arange(a) + 0.5) / a, (np.arange(b) + 0.5) / b, indexing="ij"), -1).reshape(
        -1, 2
    )
    shifts = np.stack(np.meshgrid(*[np.arange(-2, 3)] * 2, indexing="ij"), -1).reshape(-1, 2)
    away = ((at[:, None, None] - sites[None, :, None] + shifts) @ real) ** 2
    value = np.exp(-away.sum(-1) / (2 * width**2)).sum(2) / (2 * math.pi * width**2)
    image: np.ndarray = (value @ strength).reshape(a, b)
    return image


def _lattices(level: Tensor, usable: Tensor, spacing: float) -> list[np.ndarray]:
    """Reciprocal vectors (2, 2) of the crystals in windows, the most frequent first."""
    least = 64 * max(2, math.ceil(_BLOCK_SPACINGS * spacing / 64))
    sides = dict.fromkeys(min(scale * least, *level.shape[1:]) for scale in (1, 2))
    found = [_of_blocks(level, usable, side) for side in sides]
    return _clustered(*(np.concatenate(part) for part in zip(*found, strict=True)))


def _of_blocks(level: Tensor, usable: Tensor, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Reciprocal bases (k, 2, 2), in periods per pixel, of overlapping blocks, and the evidence for each."""

    def blocks(image: Tensor) -> Tensor:
        rows, cols = (_starts(length, side) for length in image.shape[1:])
        return torch.cat([image[:, r : r + side, c : c + side] for r in rows for c in cols])

    part, mask = blocks(level), blocks(usable).to(level.dtype)
    full = torch.nonzero(mask.mean((1, 2)) > 0.5)[:, 0]
    part, mask = part[full], mask[full]
    if len(part) == 0:
        return np.zeros((0, 2, 2)), np.zeros(0)
    hann = torch.hann_window(side, periodic=False, dtype=level.dtype, device=level.device)
    window = hann[:, None] * hann * mask
    mean = (part * window).sum((1, 2), keepdim=True) / window.sum((1, 2), keepdim=True)
    power = torch.fft.rfft2((part - mean) * window).abs().square()
    rise = power / incoherent(power, (1.0, 1.0))
    # Both halves of the plane of frequencies, zero in the middle.
    half = side // 2
    whole = torch.fft.irfft2(torch.complex(rise, torch.zeros_like(rise)), s=(side, side))
    rise = torch.fft.fftshift(torch.fft.fft2(whole).real, dim=(1, 2))
    top = F.max_pool2d(rise[:, None], 5, 1, 2)[:, 0]
    at = torch.arange(-(side // 2), side - side // 2, device=level.device)
    radius = torch.hypot(at[:, None].float(), at[None].float())
    allowed = (rise == top) & (radius > _LONGEST) & (radius < 0.9 * half)
    allowed &= (at[:, None] > 0) | ((at[:, None] == 0) & (at[None] > 0))
    height, index = torch.where(allowed, rise, 0.0).flatten(1).topk(_PEAKS, dim=1)
    row, col = index // side, index % side
    which = torch.arange(len(rise), device=level.device)[:, None]

    def log(i: Tensor, j: Tensor) -> Tensor:
        values: Tensor = rise[which, i.clamp(0, side - 1), j.clamp(0, side - 1)].clamp(min=1e-6).log()
        return values

    middle, shifts = log(row, col), []
    for i, j in ((1, 0), (0, 1)):
        before, after = log(row - i, col - j), log(row + i, col + j)
        curvature = (before - 2 * middle + after).clamp(max=-1e-3)
        shifts.append((0.5 * (before - after) / curvature).clamp(-0.5, 0.5))
    g = torch.stack([row + shifts[0], col + shifts[1]], dim=2) - side // 2
    weight = torch.where(height > _RISE, height.clamp(min=1).log(), 0.0)
    bases, evidence = _bases(g.double(), weight.double())
    return bases / side, evidence


def _starts(length: int, side: int) -> list[int]:
    count = max(1, math.ceil(2 * (length - side) / side) + 1)
    return [round(i * (length - side) / max(count - 1, 1)) for i in range(count)]


def _bases(g: Float[Tensor, "b p 2"], weight: Float[Tensor, "b p"]) -> tuple[np.ndarray, np.ndarray]:
    """Reciprocal bases (k, 2, 2), in periods per block, that explain peaks best, one of each block, and their evidence."""
    i, j = torch.triu_indices(_PEAKS, _PEAKS, 1).to(g.device)
    bases = torch.stack([g[:, i], g[:, j]], dim=2)
    determinant = bases[..., 0, 0] * bases[..., 1, 1] - bases[..., 0, 1] * bases[..., 1, 0]
    length = bases.norm(dim=3)
    sine = determinant.abs() / length.prod(2).clamp(min=1e-9)
    good = (weight[:, i] > 0) & (weight[:, j] > 0) & (sine > 0.4)
    inverse = torch.linalg.inv_ex(
        torch.where(good[..., None, None], bases, torch.eye(2, dtype=g.dtype, device=g.device))
    ).inverse
    order = torch.einsum("bpx,bqxy->bqpy", g, inverse)
    miss = torch.einsum("bqpy,bqyx->bqpx", order - order.round(), bases).norm(dim=3)
    hit = miss < _OFF + 0.01 * g.norm(dim=2)[:, None]
    chance = (math.pi * _OFF**2 / determinant.abs().clamp(min=1e-9)).clamp(max=1)
    weighted = (hit.double() * weight[:, None]).sum(2)
    fewest = (hit & (weight[:, None] > 0)).sum(2) >= _FEWEST
    good &= fewest & (weighted >= _EXPLAINED * weight.sum(1, keepdim=True))
    score = torch.where(good, weighted - chance * weight.sum(1, keepdim=True), 0.0)
    best, number = score.max(1)
    every = bases[torch.arange(len(g), device=g.device), number]
    return every[best > 0].cpu().numpy(), best[best > 0].cpu().numpy()


def _clustered(bases: np.ndarray, strength: np.ndarray) -> list[np.ndarray]:
    """Bases that are one crystal's, as the mean of those of its blocks."""
    groups: list[tuple[np.ndarray, float]] = []
    for index in np.argsort(-strength, kind="stable"):
        basis, weight = _reduced(bases[index]), float(strength[index])
        for number, (mean, total) in enumerate(groups):
            order = basis @ np.linalg.inv(mean / total)
            whole = np.round(order)
            off = np.linalg.norm((order - whole) @ (mean / total), axis=1) / np.linalg.norm(basis, axis=1)
            if abs(abs(np.linalg.det(whole)) - 1) < 0.1 and (off < _ALIKE).all():
                groups[number] = (mean + weight * np.linalg.inv(whole) @ basis, total + weight)
                break
        else:
            groups.append((weight * basis, weight))
    groups.sort(key=lambda one: -one[1])
    return [mean / total for mean, total in groups[:_LATTICES] if total > 0.05 * groups[0][1]]


def _reduced(basis: np.ndarray) -> np.ndarray:
    """The shortest vectors of the same lattice (Gauss)."""
    a, b = basis
    for _ in range(20):
        if a @ a > b @ b:
            a, b = b, a
        n = round(float(a @ b / (a @ a)))
        if n == 0:
            break
        b = b - n * a
    return np.stack([a, b])


def _cell(level: Tensor, usable: Tensor, vectors: np.ndarray) -> Cell | None:
    """The mean cell of one crystal, if it shows sites: first where its orders are strong, then where the image agrees with it."""
    longest = float(np.linalg.norm(np.linalg.inv(vectors), axis=0).max())
    sigma = _WINDOW * longest
    if 2 * sigma > min(level.shape[1:]):
        return None
    chosen = _refined(level, usable, _strongest(level, usable, vectors, sigma), sigma)
    real = np.linalg.inv(chosen).T
    at = placed(level, usable, torch.from_numpy(chosen).to(level), sigma)
    usual = at.amplitude.transpose(0, 1).flatten(1).quantile(0.9, dim=1)[:, None, None]
    strong = (at.amplitude / usual).amin(1, keepdim=True)
    cell = None
    for least in (_CRYSTAL, _AGREES):
        inside = usable & (
            F.interpolate(strong, level.shape[1:], mode="bilinear", align_corners=True)[:, 0] > least
        )
        folded = _folded(at.level, inside, at.place, real)
        sites, strength, width = (
            _sites(*folded, real) if folded is not None else (np.zeros((0, 2)), np.zeros(0), 0.0)
        )
        if len(sites) == 0:
            return None
        cell = Cell(
            ((chosen[0, 0], chosen[0, 1]), (chosen[1, 0], chosen[1, 1])),
            sigma,
            tuple((float(a), float(b)) for a, b in sites),
            tuple(strength.tolist()),
            width,
        )
        strong = agreement(at.level, usable, expected(cell, at.place), longest).field[:, :1]
    return cell


def _strongest(level: Tensor, usable: Tensor, vectors: np.ndarray, sigma: float) -> np.ndarray:
    """Of the pairs of low orders that span the same lattice the one whose weaker order is the strongest."""
    numbers = np.array([[1, 0], [0, 1], [1, 1], [1, -1], [2, 1], [1, 2], [2, -1], [1, -2]])
    orders = local_orders(level, usable, torch.from_numpy(numbers @ vectors).to(level), sigma)
    strength = torch.hypot(orders.field[:, 0:-1:2], orders.field[:, 1:-1:2]).mean((0, 2, 3)).tolist()
    pairs = [
        (a, b) for a in range(8) for b in range(a) if abs(round(float(np.linalg.det(numbers[[a, b]])))) == 1
    ]
    best = max(pairs, key=lambda p: min(strength[p[0]], strength[p[1]]))
    chosen: np.ndarray = numbers[list(best)] @ vectors
    return chosen


def _refined(level: Tensor, usable: Tensor, vectors: np.ndarray, sigma: float) -> np.ndarray:
    """Reciprocal vectors whose local phases have no slope on the whole."""
    for _ in range(_REFINED):
        orders = local_orders(level, usable, torch.from_numpy(vectors).to(level), sigma)
        wave = torch.complex(orders.field[:, 0:4:2].double(), orders.field[:, 1:4:2].double())
        turns = [
            (wave.narrow(d, 1, wave.shape[d] - 1) * wave.narrow(d, 0, wave.shape[d] - 1).conj()).sum(
                (0, 2, 3)
            )
            for d in (2, 3)
        ]
        slope = torch.stack(
            [turn.angle() / (2 * math.pi * step) for turn, step in zip(turns, orders.step, strict=True)],
            dim=1,
        )
        vectors = vectors + slope.cpu().numpy()
    return vectors


def _folded(
    level: Tensor, inside: Tensor, place: Tensor, real: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Mean of the pixels in every bin of the cell, and its variance; None where some bin has few."""
    a, b = _bins(real)
    index = torch.where(inside, _bin_of(place, (a, b)), a * b).flatten()
    values = level.flatten().double()
    sums = torch.zeros(3, a * b + 1, dtype=torch.float64, device=level.device)
    sums.index_add_(1, index, torch.stack([torch.ones_like(values), values, values.square()]))
    count, total, square = sums[:, :-1].view(3, a, b).cpu().numpy()
    if count.min() < _FULL:
        return None
    mean = total / count
    # What noise has on average, with the columns' own scatter.
    spread = float(np.average(np.maximum(square / count - mean**2, 1e-12), weights=count))
    return mean, spread / count


class _CellFit(NamedTuple):
    """Gaussians of one width on a flat background, fitted to a mean cell."""

    sites: np.ndarray
    strength: np.ndarray
    width: float
    flat: float
    model: np.ndarray


def _sites(mean: np.ndarray, variance: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Places, intensities and width of the columns of a mean cell: what their joint fit leaves over, one after another."""
    bins = mean.shape
    at = np.stack(np.meshgrid(*((np.arange(n) + 0.5) / n for n in bins), indexing="ij"), -1).reshape(-1, 2)
    area = abs(float(np.linalg.det(real)))
    best = _CellFit(
        np.zeros((0, 2)), np.zeros(0), _NARROW * math.sqrt(area), float(mean.min()), mean * 0 + mean.mean()
    )
    open_, missed = np.ones(bins, bool), 0
    for _ in range(_MOST):
        score = _matched(mean - best.model, variance, real, best.width) * open_
        for site in best.sites:  # what is left over nearer to a column is a misfit of it
            score[_away(at, site, real).reshape(bins) < _BESIDE * best.width] = 0
        top = int(score.argmax())
        if score.flat[top] < _CLEAR:
            break
        height = (mean - best.model).flat[top] * 2 * math.pi * best.width**2
        start = best._replace(
            sites=np.vstack([best.sites, at[top]]), strength=np.append(best.strength, height)
        )
        found = _fitted(mean, variance, start, real)
        near = min(
            (float(_away(found.sites[-1:], one, real)[0]) for one in found.sites[:-1]), default=math.inf
        )
        # One of several faint columns looks fainter than it is as long as the others are part of the flat background.
        if found.strength.min() > _TRACE * found.strength.max() and near > _BESIDE * found.width:
            best, missed = found, 0
        elif (missed := missed + 1) == _MISSES:
            break
        else:
            open_ &= _away(at, at[top], real).reshape(bins) > best.width
    # Where columns are no Gaussians, what is left over looks like faint columns around bright ones.
    while len(best.sites):
        one = _rendered(np.full((1, 2), 0.5), np.ones(1), best.width, bins, real)
        unit = _matched(one, variance, real, best.width).max()
        misfit = np.abs(_matched(mean - best.model, variance, real, best.width)).max()
        faintest = best.strength.min()
        if faintest > _FAINTEST * best.strength.max() and faintest * unit > _ABOVE * misfit:
            break
        kept = np.delete(np.arange(len(best.sites)), best.strength.argmin())
        best = _fitted(
            mean, variance, best._replace(sites=best.sites[kept], strength=best.strength[kept]), real
        )
    return best.sites, best.strength, best.width


def _shifts(real: np.ndarray, width: float) -> np.ndarray:
    """Cells around one whose columns reach into it, in pixels."""
    reach = 1 if abs(np.linalg.det(real)) / np.linalg.norm(real, axis=1).max() > _FAR * width else 2
    cells = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 2, indexing="ij"), -1).reshape(-1, 2)
    shifts: np.ndarray = cells @ real
    return shifts


def _away(at: np.ndarray, site: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Distances in pixels to a site of a cell that repeats."""
    gap = at - site
    away: np.ndarray = np.linalg.norm(
        ((gap - np.round(gap)) @ real)[:, None] + _shifts(real, 0.0), axis=2
    ).min(1)
    return away


def _matched(residual: np.ndarray, variance: np.ndarray, real: np.ndarray, width: float) -> np.ndarray:
    """Standard deviations by which a column of that width stands out of what is left over of a cell, at every bin."""
    f = np.stack(np.meshgrid(*(np.fft.fftfreq(n, 1 / n) for n in residual.shape), indexing="ij"), -1)
    square = ((f @ np.linalg.inv(real).T) ** 2).sum(-1)
    transfer = np.exp(-2 * math.pi**2 * width**2 * square)
    transfer[0, 0] = 0
    filtered = np.fft.ifft2(np.fft.fft2(residual) * transfer).real
    score: np.ndarray = filtered / np.sqrt(variance.mean() * (transfer**2).mean())
    return score


def _fitted(mean: np.ndarray, variance: np.ndarray, start: _CellFit, real: np.ndarray) -> _CellFit:
    """Least squares by the steps of Levenberg and Marquardt from a start."""
    bins, k = mean.shape, len(start.sites)
    shifts = _shifts(real, start.width)
    pixel = (
        np.stack(np.meshgrid(*((np.arange(n) + 0.5) / n for n in bins), indexing="ij"), -1).reshape(-1, 2)
        @ real
    )
    weight, y = 1 / variance.ravel(), mean.ravel()

    def parts(p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        away = pixel[:, None, None] - p[k : 3 * k].reshape(k, 1, 2) - shifts
        square = (away**2).sum(-1) / p[-2] ** 2
        return away, square, np.exp(-square / 2) / (2 * math.pi * p[-2] ** 2)

    def slopes(p: np.ndarray, away: np.ndarray, square: np.ndarray, value: np.ndarray) -> np.ndarray:
        moved = (value[..., None] * away).sum(2) / p[-2] ** 2 * p[:k, None]
        wider = ((value * (square - 2)).sum(2) @ p[:k])[:, None] / p[-2]
        return np.concatenate([value.sum(2), moved.reshape(len(y), -1), wider, np.ones((len(y), 1))], axis=1)

    p = np.concatenate([start.strength, (start.sites @ real).ravel(), [start.width, start.flat]])
    now = parts(p)
    model = now[2].sum(2) @ p[:k] + p[-1]
    cost, damping = float(weight @ (y - model) ** 2), 1e-5
    for _ in range(_ROUNDS):
        jacobian = slopes(p, *now)
        normal = (jacobian * weight[:, None]).T @ jacobian
        right = jacobian.T @ (weight * (y - model))
        gain = 0.0
        while damping < _STUCK:
            change = np.linalg.solve(normal + damping * np.diag(normal.diagonal() + 1e-12), right)
            change[-2] = np.clip(change[-2], -0.2 * p[-2], 0.2 * p[-2])
            tried = parts(p + change)
            reached = tried[2].sum(2) @ (p + change)[:k] + (p + change)[-1]
            gain = cost - float(weight @ (y - reached) ** 2)
            damping = damping / 10 if gain > 0 else damping * 10
            if gain > 0:
                p, now, model, cost = p + change, tried, reached, cost - gain
                break
        if gain < _SETTLED:
            break
    sites = (p[k : 3 * k].reshape(k, 2) @ np.linalg.inv(real)) % 1
    return _CellFit(sites, p[:k], float(p[-2]), float(p[-1]), model.reshape(bins))
