"""The mean cell of a crystal: lattices from power spectra, the image folded with the local phase of two orders, the sites it shows."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from torchmotif.columns._periodic import incoherent
from torchmotif.columns.model import Cell, Tiles

__all__ = ["Orders", "cells_of", "local_orders"]

_BLOCK = 256  # pixels of the side of the blocks whose power spectra tell lattices
_BLOCK_SPACINGS = 14.0  # the same in spacings, if that is more
_LONGEST = 5.0  # a block's side over the longest period that is looked for in it
_PEAKS, _RISE = 16, 18.0  # peaks of a power spectrum that count, and their least height over the noise
_OFF = 0.7  # periods per block by which a peak may miss a lattice
_ALIKE = 0.06  # of a reciprocal vector, by which those of one crystal may differ between blocks
_FEWEST = 3  # peaks of a lattice
_WINDOW = 2.0  # lattice constants: standard deviation of the window in which the phase of an order is measured
_LATTICES = 6
_STEP = 2.0  # nodes of the orders' grid per standard deviation
_SIDE = 2.0  # bins of the mean cell per pixel
_CRYSTAL = 0.4  # of the usual amplitude: where orders have less, there is another crystal, or none
_CLEAR = 6.0  # standard deviations of the mean cell
_MOST = 24  # sites of a cell
_FAINTEST = 0.04  # of the brightest site


class Orders(NamedTuple):
    """Two orders of a lattice in tiles: their local phase and amplitude, on a coarse grid."""

    field: Float[Tensor, "t 4 m n"]  # real and imaginary part of both, without the carrier
    vectors: Float[Tensor, "2 2"]  # periods per pixel
    first: float
    step: float

    def at_pixels(self, shape: tuple[int, int]) -> Float[Tensor, "t 4 h w"]:
        """At every pixel."""
        h, w = shape
        m, n = self.field.shape[2:]
        rows, cols = (
            2 * torch.arange(length, device=self.field.device, dtype=self.field.dtype) / (self.step * (count - 1)) - 1
            for length, count in ((h, m), (w, n))
        )
        grid = torch.stack(torch.meshgrid(cols, rows, indexing="xy"), dim=-1)
        found: Tensor = F.grid_sample(self.field, grid.expand(len(self.field), -1, -1, -1), align_corners=True, padding_mode="border")
        return found


def local_orders(level: Tensor, usable: Tensor, vectors: Tensor, sigma: float) -> Orders:
    """Phase and amplitude of two orders in Gaussian windows of standard deviation `sigma`: geometric phase analysis (Hytch et al. 1998).

    Means over the usable pixels, without what does not change over the window.
    """
    _, h, w = level.shape
    step = sigma / _STEP
    count = [max(2, math.ceil((length - 1) / step) + 1) for length in (h, w)]
    axes = [torch.arange(length, device=level.device, dtype=level.dtype) for length in (h, w)]
    nodes = [torch.arange(c, device=level.device, dtype=level.dtype) * step for c in count]
    windows = [torch.exp(-((n[:, None] - a) ** 2) / (2 * sigma**2)) for n, a in zip(nodes, axes, strict=True)]
    mask = usable.to(level.dtype)
    total = windows[0] @ mask @ windows[1].mT
    clamped = total.clamp(min=1e-3 * 2 * math.pi * sigma**2)
    flat = windows[0] @ (level * mask) @ windows[1].mT / clamped
    parts = []
    for g in vectors:
        phase = [-2 * math.pi * g[i] * axes[i] for i in (0, 1)]
        left = torch.cat([windows[0] * phase[0].cos(), windows[0] * phase[0].sin()])
        right = torch.cat([windows[1] * phase[1].cos(), windows[1] * phase[1].sin()])
        m, n = count

        def product(image: Tensor) -> tuple[Tensor, Tensor]:
            both = left @ image @ right.mT
            cc, cs, sc, ss = both[:, :m, :n], both[:, :m, n:], both[:, m:, :n], both[:, m:, n:]
            return cc - ss, cs + sc

        data, ones = product(level * mask), product(mask)
        parts += [(d - flat * o) / clamped for d, o in zip(data, ones, strict=True)]
    return Orders(torch.stack(parts, dim=1), vectors, 0.0, step)


def fractions(orders: Orders, shape: tuple[int, int]) -> tuple[Float[Tensor, "t 2 h w"], Float[Tensor, "t 2 h w"]]:
    """Place of every pixel in its cell, modulo 1, and the amplitudes of both orders there."""
    h, w = shape
    field = orders.at_pixels(shape)
    real, imaginary = field[:, 0::2], field[:, 1::2]
    row = torch.arange(h, device=field.device, dtype=torch.float64)
    col = torch.arange(w, device=field.device, dtype=torch.float64)
    g = orders.vectors.double()
    carrier = g[:, 0, None, None] * row[:, None] + g[:, 1, None, None] * col
    place = (carrier % 1).to(field.dtype) + torch.atan2(imaginary, real) / (2 * math.pi)
    return place % 1, torch.hypot(real, imaginary)


def cells_of(tiles: Tiles, spacing: float) -> tuple[Cell, ...]:
    """The mean cells of the crystals in some windows; none where no lattice is seen."""
    level = tiles.level
    found = []
    for vectors in _lattices(level, tiles.usable, spacing):
        cell = _cell(level, tiles.usable, vectors)
        if cell is not None:
            found.append(cell)
    return tuple(found)


def _lattices(level: Tensor, usable: Tensor, spacing: float) -> list[np.ndarray]:
    """Reciprocal vectors (2, 2) of the crystals in windows, the most frequent first."""
    side = min(max(_BLOCK, 64 * math.ceil(_BLOCK_SPACINGS * spacing / 64)), *level.shape[1:])

    def blocks(image: Tensor) -> Tensor:
        rows, cols = (_starts(length, side) for length in image.shape[1:])
        return torch.cat([image[:, r : r + side, c : c + side] for r in rows for c in cols])

    part, mask = blocks(level), blocks(usable).to(level.dtype)
    full = torch.nonzero(mask.mean((1, 2)) > 0.5)[:, 0]
    part, mask = part[full], mask[full]
    if len(part) == 0:
        return []
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
        return rise[which, i.clamp(0, side - 1), j.clamp(0, side - 1)].clamp(min=1e-6).log()

    middle, shifts = log(row, col), []
    for i, j in ((1, 0), (0, 1)):
        before, after = log(row - i, col - j), log(row + i, col + j)
        curvature = (before - 2 * middle + after).clamp(max=-1e-3)
        shifts.append((0.5 * (before - after) / curvature).clamp(-0.5, 0.5))
    g = torch.stack([row + shifts[0], col + shifts[1]], dim=2) - side // 2
    weight = torch.where(height > _RISE, height.clamp(min=1).log(), 0.0)
    return _clustered(*_bases(g.double(), weight.double()), side)


def _starts(length: int, side: int) -> list[int]:
    count = max(1, math.ceil(2 * (length - side) / side) + 1)
    return [round(i * (length - side) / max(count - 1, 1)) for i in range(count)]


def _bases(g: Float[Tensor, "b p 2"], weight: Float[Tensor, "b p"]) -> tuple[np.ndarray, np.ndarray]:
    """Reciprocal bases (k, 2, 2), in periods per block, that explain peaks best, up to two of each block, and their evidence."""
    i, j = torch.triu_indices(_PEAKS, _PEAKS, 1, device=g.device)
    bases = torch.stack([g[:, i], g[:, j]], dim=2)
    determinant = bases[..., 0, 0] * bases[..., 1, 1] - bases[..., 0, 1] * bases[..., 1, 0]
    length = bases.norm(dim=3)
    sine = determinant.abs() / length.prod(2).clamp(min=1e-9)
    good = (weight[:, i] > 0) & (weight[:, j] > 0) & (sine > 0.4)
    inverse = torch.linalg.inv_ex(torch.where(good[..., None, None], bases, torch.eye(2, dtype=g.dtype, device=g.device))).inverse
    order = torch.einsum("bpx,bqxy->bqpy", g, inverse)
    miss = torch.einsum("bqpy,bqyx->bqpx", order - order.round(), bases).norm(dim=3)
    hit = miss < _OFF + 0.01 * g.norm(dim=2)[:, None]
    chance = (math.pi * _OFF**2 / determinant.abs().clamp(min=1e-9)).clamp(max=1)
    found, evidence = [], []
    for _ in range(2):
        score = ((hit.double() - chance[..., None]) * weight[:, None]).sum(2)
        fewest = (hit & (weight[:, None] > 0)).sum(2) >= _FEWEST
        score = torch.where(good & fewest & (weight[:, i] > 0) & (weight[:, j] > 0), score, 0.0)
        best, number = score.max(1)
        rows = torch.arange(len(g), device=g.device)
        found.append(bases[rows, number])
        evidence.append(best)
        weight = torch.where(hit[rows, number] & (best > 0)[:, None], 0.0, weight)
    every, strength = torch.cat(found), torch.cat(evidence)
    kept = strength > 0
    return every[kept].cpu().numpy(), strength[kept].cpu().numpy()


def _clustered(bases: np.ndarray, strength: np.ndarray, side: int) -> list[np.ndarray]:
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
    return [mean / total / side for mean, total in groups[:_LATTICES] if total > 0.05 * groups[0][1]]


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
    """The mean cell of one crystal, if it shows sites."""
    real = np.linalg.inv(vectors).T  # rows are lattice vectors in pixels
    longest = float(np.linalg.norm(real, axis=1).max())
    sigma = _WINDOW * longest
    if 2 * sigma > min(level.shape[1:]):
        return None
    chosen = _strongest(level, usable, vectors, sigma)
    real = np.linalg.inv(chosen).T
    g = torch.from_numpy(chosen).to(level)
    orders = local_orders(level, usable, g, sigma)
    place, amplitude = fractions(orders, (level.shape[1], level.shape[2]))
    usual = amplitude[:, :, ::4, ::4].transpose(0, 1).flatten(1).quantile(0.9, dim=1) if amplitude[:, 0, ::4, ::4].numel() < 1_000_000 else amplitude[:, :, ::16, ::16].transpose(0, 1).flatten(1).quantile(0.9, dim=1)
    inside = usable & (amplitude > _CRYSTAL * usual[:, None, None]).all(1)
    folded = _folded(level, inside, place, real)
    if folded is None:
        return None
    sites, strength, width = _sites(*folded, real)
    if len(sites) == 0:
        return None
    return Cell(
        tuple(map(tuple, chosen.tolist())),
        tuple(usual.tolist()),
        sigma,
        tuple(map(tuple, sites.tolist())),
        tuple(strength.tolist()),
        width,
    )


def _strongest(level: Tensor, usable: Tensor, vectors: np.ndarray, sigma: float) -> np.ndarray:
    """Of the pairs of low orders that span the same lattice the one whose weaker order is the strongest."""
    numbers = np.array([[1, 0], [0, 1], [1, 1], [1, -1], [2, 1], [1, 2], [2, -1], [1, -2]])
    g = torch.from_numpy(numbers @ vectors).to(level)
    strength = []
    for pair in g.view(4, 2, 2):
        field = local_orders(level, usable, pair, sigma).field
        strength += [float(torch.hypot(field[:, i], field[:, i + 1]).mean()) for i in (0, 2)]
    pairs = [(a, b) for a in range(8) for b in range(a) if abs(np.linalg.det(numbers[[a, b]]).round()) == 1]
    best = max(pairs, key=lambda p: min(strength[p[0]], strength[p[1]]))
    return numbers[list(best)] @ vectors


def _folded(
    level: Tensor, inside: Tensor, place: Tensor, real: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Mean of the pixels in every bin of the cell, its variance, and the pixels' number."""
    a, b = (max(8, round(_SIDE * float(np.linalg.norm(v)))) for v in real)
    row, col = (place[:, 0] * a).long().clamp(max=a - 1), (place[:, 1] * b).long().clamp(max=b - 1)
    index = torch.where(inside, row * b + col, a * b).flatten()
    values = level.flatten().double()
    count, total, square = (torch.zeros(a * b + 1, dtype=torch.float64, device=level.device) for _ in range(3))
    count.index_add_(0, index, torch.ones_like(values))
    total.index_add_(0, index, values)
    square.index_add_(0, index, values.square())
    count, total, square = (one[:-1].view(a, b).cpu().numpy() for one in (count, total, square))
    if count.min() < 4:
        return None
    mean = total / count
    spread = np.maximum(square / count - mean**2, 0).mean()  # what noise has on average, with the columns' own scatter
    return mean, np.full_like(mean, spread) / count, count


class _Fitted(NamedTuple):
    sites: np.ndarray
    strength: np.ndarray
    width: float
    tail: float
    flat: float
    model: np.ndarray


def _sites(mean: np.ndarray, variance: np.ndarray, count: np.ndarray, real: np.ndarray):
    """Sites of a mean cell: maxima, and what their joint fit leaves over, one after another."""
    a, b = mean.shape
    at = np.stack(np.meshgrid((np.arange(a) + 0.5) / a, (np.arange(b) + 0.5) / b, indexing="ij"), -1).reshape(-1, 2)
    y, v = mean.ravel(), variance.ravel()
    images = np.stack(np.meshgrid(np.arange(-2, 3), np.arange(-2, 3), indexing="ij"), -1).reshape(-1, 2)
    area = abs(np.linalg.det(real))
    width = 0.16 * math.sqrt(area)
    sites, strength, blocked = np.zeros((0, 2)), np.zeros(0), np.zeros((0, 2))
    flat, tail = float(y.min()), 0.0
    model = np.full_like(y, np.average(y, weights=1 / v))

    def distance(points, centre):
        gap = points - centre
        return np.linalg.norm(((gap - np.round(gap))[:, None] + images) @ real, axis=2).min(1)

    for _ in range(_MOST):
        z = _matched((y - model).reshape(a, b), v.reshape(a, b), real, width).ravel()
        for one in blocked:
            z[distance(at, one) < 1.5 * width] = 0
        best = int(z.argmax())
        if z[best] < _CLEAR:
            break
        start = np.vstack([sites, at[best]])
        fitted = _fit(at, y, v, start, np.append(strength, (y - model)[best] * 2 * math.pi * width**2), width, tail, flat, real, images)
        apart = min((distance(fitted.sites[-1:], one)[0] for one in fitted.sites[:-1]), default=math.inf)
        if fitted.strength.min() < _FAINTEST * fitted.strength.max() or apart < 1.2 * fitted.width:
            blocked = np.vstack([blocked, at[best]])
            if len(blocked) > 6:
                break
            continue
        sites, strength, width, tail, flat, model = fitted
    return sites, strength, width


def _matched(residual, variance, real, width):
    """Standard deviations by which a column of that width would stand out of the residual, at every bin; the cell repeats."""
    a, b = residual.shape
    f = np.stack(np.meshgrid(np.fft.fftfreq(a) * a, np.fft.fftfreq(b) * b, indexing="ij"), -1)
    g = np.linalg.inv(real).T
    q = (f @ g)
    transfer = np.exp(-2 * math.pi**2 * width**2 * (q**2).sum(-1))
    transfer[0, 0] = 0
    weight = 1 / variance.mean()
    filtered = np.fft.ifft2(np.fft.fft2(residual) * transfer).real
    return filtered * weight / np.sqrt(weight * (transfer**2).mean())


def _fit(at, y, v, sites, strength, width, tail, flat, real, images, steps=12):
    """Levenberg-Marquardt fit of intensities, places, common width, tail and a flat background to a mean cell."""
    k = len(sites)
    p = np.concatenate([strength, (sites @ real).ravel(), [math.log(width), tail, flat]])
    cart = at @ real
    shift = images @ real

    def evaluate(p):
        q, c, s, t, b = p[:k], p[k : 3 * k].reshape(k, 2), math.exp(p[-3]), p[-2], p[-1]
        d = cart[:, None, None] - c[None, :, None] - shift[None, None]
        r2 = (d**2).sum(-1)
        w = 2.5 * s
        core, wide = np.exp(-r2 / (2 * s * s)) / (2 * math.pi * s * s), np.exp(-r2 / (2 * w * w)) / (2 * math.pi * w * w)
        value = core + t * wide
        jac = np.empty((len(y), len(p)))
        jac[:, :k] = value.sum(-1)
        slope = (core / s**2 + t * wide / w**2)[..., None] * d
        jac[:, k : 3 * k] = (slope.sum(2) * q[:, None]).reshape(len(y), -1)
        jac[:, -3] = ((core * (r2 / s**2 - 2) + t * wide * (r2 / w**2 - 2)).sum(-1) * q).sum(-1)
        jac[:, -2] = (wide.sum(-1) * q).sum(-1)
        jac[:, -1] = 1
        return jac[:, :k] @ q + b, jac

    # The tail is hardly told from the flat background: a weak prior holds it small.
    prior = np.zeros(len(p))
    prior[-2] = 1 / 0.3**2
    model, jac = evaluate(p)
    cost, damping = ((y - model) ** 2 / v).sum() + prior @ p**2, 1e-3
    for _ in range(steps):
        normal = (jac / v[:, None]).T @ jac + np.diag(prior)
        right = (jac / v[:, None]).T @ (y - model) - prior * p
        for _ in range(6):
            change = np.linalg.solve(normal + damping * np.diag(np.diag(normal)) + 1e-12 * np.eye(len(p)), right)
            change[-3] = np.clip(change[-3], -0.2, 0.2)
            new = p + change
            new[-2] = np.clip(new[-2], 0, 1)
            m, j = evaluate(new)
            c = ((y - m) ** 2 / v).sum() + prior @ new**2
            if c < cost:
                break
            damping *= 8
        else:
            break
        done = cost - c < 1e-2
        p, model, jac, cost, damping = new, m, j, c, damping / 5
        if done:
            break
    centres = p[k : 3 * k].reshape(k, 2) @ np.linalg.inv(real)
    return _Fitted(centres % 1, p[:k], math.exp(p[-3]), p[-2], p[-1], model)
