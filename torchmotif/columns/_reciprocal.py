"""Reciprocal lattices of the crystals in an image, from the power spectra of overlapping blocks of it."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from torchmotif.columns._periodic import incoherent

__all__ = ["lattices"]

# Tried on simulated MX2 and perovskites at 1 to 1/100 of the dose (`benchmarks/columns/end_to_end.py`); noise and blurred noise have no lattice
# (tests/columns/test_guided.py). By how much each of these may be changed is not recorded.
_BLOCK_SPACINGS = 10.0  # least side of the blocks whose power spectra tell lattices
_LONGEST = 5.0  # a block's side over the longest period that is looked for in it
_PEAKS, _RISE = 16, 18.0  # peaks of a power spectrum that count, and their least height over the noise
# Periods per block, and share of its own frequency, by which a peak may miss a lattice.
_OFF, _STRAINED = 0.7, 0.01
_APART = 0.4  # sine of the least angle between two vectors
_ALIKE = 0.06  # of a reciprocal vector, by which those of one crystal may differ between blocks
_FEWEST = 3  # peaks of a lattice
_EXPLAINED = 0.75  # of the logarithms of the heights of all peaks: what a lattice of a block has
_LATTICES, _RARE = 6, 0.05  # of an image, at most, and of the evidence for the first: what each has


def lattices(level: Tensor, usable: Tensor, spacing: float) -> list[np.ndarray]:
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
    good = (weight[:, i] > 0) & (weight[:, j] > 0) & (sine > _APART)
    inverse = torch.linalg.inv_ex(
        torch.where(good[..., None, None], bases, torch.eye(2, dtype=g.dtype, device=g.device))
    ).inverse
    order = torch.einsum("bpx,bqxy->bqpy", g, inverse)
    miss = torch.einsum("bqpy,bqyx->bqpx", order - order.round(), bases).norm(dim=3)
    hit = miss < _OFF + _STRAINED * g.norm(dim=2)[:, None]
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
    return [mean / total for mean, total in groups[:_LATTICES] if total > _RARE * groups[0][1]]


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
