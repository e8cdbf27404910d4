"""Reciprocal lattices of the crystals in an image, from the power spectra of overlapping blocks of it."""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from torchmotif._arrays import Budget, sent
from torchmotif.columns._bases import ALIKE, SAME, orders_in, reduced, shortest
from torchmotif.columns._filters import blur
from torchmotif.columns._peaks import running_max
from torchmotif.columns._periodic import incoherent

__all__ = ["IN_ROWS", "Lattice", "lattices"]

# Tried on simulated MX2 and perovskites at 1 to 1/100 of the dose (`benchmarks/columns/end_to_end.py`); noise and blurred noise have no lattice
# (tests/columns/test_guided.py). By how much each of these may be changed is not recorded.
# Sides of the blocks whose power spectra tell lattices, and pixels of the least of them. Where those looked at first do not all show the
# same lattice, small grains fill but smaller ones, and few electrons show a lattice in the larger ones only.
_BLOCK_SPACINGS, _LEAST_BLOCK = (20.0, 10.0, 5.0), 128
# Spacings: width of the blur by which weights of pixels fall to where those over steps begin. Of GaN dumbbells beside a step of five times their contrast no lattice is seen without, and
# the same columns are found with 0.13 and 0.25; with 0.5 the same lattice is seen as two. Only where no crystal is found without: docs/decisions/0211.
_TAPER = 0.25
# Sides of two squares around an order: what is in the larger one and not in the smaller tells whether it is a peak or part of a streak. With squares of 5 and 9 the SnO2 of
# tests/columns/test_superlattice.py has its lattice; what moves with them was not measured.
_PEAK, _RING = 5, 9
# Beside steps, of the spacing, which may be wrong: no translation of a lattice is shorter. Beside those of 10 and 30 times the contrast the spectrum of the step itself shows
# lattices with one of 0.15 to 0.3, whose cells hide the crystal's; of 311 lattices in blocks of the specimens of tests/columns four have 0.53, all others 0.998 and more.
_SHORTEST = 0.4
# Periods per spacing beyond which columns of 0.22 of the spacing have less than a ten-thousandth of their power, and below which a lattice hardly has an order; shares of the most noise between both, below
# which orders beyond them are none, and orders between. What moves with them was not measured.
_FINEST, _FIRST, _FILTERED, _NONE = 2.2, 0.5, 0.1, 0.01
_LONGEST = 5.0  # a block's side over the longest period that is looked for in it
# Peaks of a power spectrum that count, and their least height over the noise: where other crystals are known, and where none is.
_PEAKS, _RISE_BESIDE, _RISE = 24, 12.0, 18.0
# Periods per block, and share of its own frequency, by which a peak may miss a lattice.
_OFF, _STRAINED = 0.7, 0.01
_APART = 0.4  # sine of the least angle between two vectors
_FEWEST = 3  # peaks of a lattice
_EXPLAINED = 0.75  # of the logarithms of the heights of all peaks: what the lattices of a block have
_IN_BLOCK, _SHARE = 3, 0.2  # lattices of a block, at most, and what each of them explains
# Periods along the rows of a window, up to which an order counts as the same in all of a row. With 1.3 and 2.7 the cells of three crystals with hum, two along the
# rows, have the same sites.
IN_ROWS = 1.5
_CHUNK = Budget(1 << 20, 1 << 26)  # pixels of blocks at a time
_LATTICES, _RARE = 12, 0.03  # of an image, at most, and of the evidence for the first: what each has


class Lattice(NamedTuple):
    """A crystal's lattice in some windows, and where it is seen best."""

    vectors: np.ndarray  # (2, 2) reciprocal, in periods per pixel
    window: int
    corner: tuple[int, int]  # first row and column of a block of that window
    side: int


def lattices(
    level: Tensor,
    usable: Tensor,
    spacing: float,
    *,
    beside: bool = False,
    steps: bool = False,
    falling: bool = False,
    across: bool = False,
    blocks: tuple[float, ...] = _BLOCK_SPACINGS,
    within: float = ALIKE,
) -> list[Lattice]:
    """Lattices of the crystals in windows, the most frequent first; those `beside` crystals that are known need not stand out as much.

    Seen in `blocks` of so many spacings; those that differ by less than `within` of their vectors are one. Where the background has `steps`, what they leave makes streaks
    in the spectra: peaks must stand out of what is around them, too; or, with weights `falling` beside pixels over steps, which are not usable, streaks are less.
    With `across`, orders that are the same in all of a row are none, as those of hum are. Where none is seen, orders beyond the end of the noise are left out: see `_cutoff`.
    """
    _, h, w = level.shape
    weights = usable.to(level.dtype)
    if falling:
        weights = weights * (2 * blur(weights, _TAPER * spacing) - 1).clamp(min=0)
    wide = [max(_LEAST_BLOCK, 64 * math.ceil(times * spacing / 64)) for times in blocks]
    least = _RISE_BESIDE if beside else _RISE

    def seen(finest: float) -> list[Lattice]:
        found: list[tuple[Lattice, float]] = []
        for sides in dict.fromkeys((min(side, h), min(side, w)) for side in wide):
            more, count = _of_blocks(level, weights, sides, least, steps=steps, across=across, finest=finest)
            if steps or falling:
                more = [one for one in more if shortest(one[0].vectors) > _SHORTEST * spacing]
            found += more
            if len(found) == count and len(_clustered(found, within)) == 1:
                break
        return _clustered(found, within)

    return seen(math.inf) or ([] if beside or not spacing else seen(_FINEST / spacing))


def _of_blocks(
    level: Tensor,
    weights: Tensor,
    sides: tuple[int, int],
    least: float,
    *,
    steps: bool,
    across: bool,
    finest: float,
) -> tuple[list[tuple[Lattice, float]], int]:
    """Lattices of overlapping blocks, and the evidence for each; and how many blocks there are."""
    rows, cols = (_starts(length, side) for length, side in zip(level.shape[1:], sides, strict=True))
    corners = [(r, c) for r in rows for c in cols]
    some = max(1, _CHUNK.on(level) // (len(level) * max(sides) ** 2))
    parts = [
        _of_corners(
            level,
            weights,
            corners[first : first + some],
            sides,
            least,
            steps=steps,
            across=across,
            finest=finest,
        )
        for first in range(0, len(corners), some)
    ]
    return [one for found, _ in parts for one in found], sum(count for _, count in parts)


def _of_corners(
    level: Tensor,
    weights: Tensor,
    corners: list[tuple[int, int]],
    sides: tuple[int, int],
    least: float,
    *,
    steps: bool,
    across: bool,
    finest: float,
) -> tuple[list[tuple[Lattice, float]], int]:
    """The same of the blocks of all windows with their first pixels at some corners; of a strip they are zero beyond it."""
    where = [(n, r, c) for r, c in corners for n in range(len(level))]
    (high, wide), side = sides, max(sides)

    def blocks(image: Tensor) -> Tensor:
        return torch.cat([image[:, r : r + high, c : c + wide] for r, c in corners])

    part, mask = blocks(level), blocks(weights)
    full = torch.nonzero(mask.mean((1, 2)) > 0.5)[:, 0]
    part, mask = part[full], mask[full]
    if len(part) == 0:
        return [], 0
    hann = [torch.hann_window(n, periodic=False, dtype=level.dtype, device=level.device) for n in sides]
    window = hann[0][:, None] * hann[1] * mask
    mean = (part * window).sum((1, 2), keepdim=True) / window.sum((1, 2), keepdim=True)
    # Half of the plane of frequencies, whose other half is the same: rows from 0 on, and all columns.
    power = torch.fft.rfft2((part - mean) * window, s=(side, side), dim=(2, 1)).abs().square()
    half = side // 2
    turned = -torch.arange(side, device=level.device) % side

    def around(image: Tensor) -> Tensor:
        """With two rows of the other half, so that each frequency has all around it; zero in the middle of the columns."""
        found: Tensor = torch.cat([image[:, 1:3, turned].flip(1), image], dim=1)
        return found.roll(side // 2, dims=2)

    noise = incoherent(power.mT, (1.0, 1.0)).mT
    rise, power = around(power / noise), around(power)
    rise = torch.minimum(rise, _sharpness(power)) if steps else rise
    down = torch.arange(-2, half + 1, device=level.device)[:, None]
    right = torch.arange(-half, side - half, device=level.device)[None]
    rise = torch.where(right.abs() > IN_ROWS, rise, 0.0) if across else rise
    top = running_max(running_max(rise, 2, -2), 2, -1)
    radius = torch.hypot(down.float(), right.float())
    allowed = (rise == top) & (radius > _LONGEST) & (radius < 0.9 * half)
    if finest < math.inf:
        allowed &= radius <= _cutoff(noise[:, 0, : half + 1], finest * side)[:, None, None]
    allowed &= (down > 0) | ((down == 0) & (right > 0))
    height, index = torch.where(allowed, rise, 0.0).flatten(1).topk(_PEAKS, dim=1)
    row, col = index // side, index % side
    which = torch.arange(len(rise), device=level.device)[:, None]

    def log(i: Tensor, j: Tensor) -> Tensor:
        found: Tensor = power[which, i.clamp(0, half + 2), j.clamp(0, side - 1)]
        return found.clamp(min=torch.finfo(found.dtype).tiny).log()

    # Where peaks are in the power itself: what it is divided by changes from ring to ring, and has the peaks in it.
    near = torch.stack([log(row + i, col + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]).argmax(0)
    row, col = row + near // 3 - 1, col + near % 3 - 1

    middle, shifts = log(row, col), []
    for i, j in ((1, 0), (0, 1)):
        before, after = log(row - i, col - j), log(row + i, col + j)
        curvature = (before - 2 * middle + after).clamp(max=-1e-3)
        shifts.append((0.5 * (before - after) / curvature).clamp(-0.5, 0.5))
    g = torch.stack([row - 2 + shifts[0], col - half + shifts[1]], dim=2)
    weight = torch.where(height > least, height.clamp(min=1).log(), 0.0)
    bases, evidence, block = _several(g.double(), weight.double(), full)
    found = []
    for basis, strength, number in zip(bases / side, evidence, block, strict=True):
        window, row, col = where[number]
        found.append((Lattice(basis, window, (row, col), side), float(strength)))
    return found, len(part)


def _cutoff(noise: Float[Tensor, "b r"], finest: float) -> Float[Tensor, " b"]:
    """Periods per block up to which power spectra have noise, by its rings, and orders may be; of those up to the `finest`, which columns have, nearly all.

    An image that was resampled finer has copies beyond of the orders around those of its first pixels, as clear above the noise, since that is copied, too. One without
    its high frequencies has peaks there of what numbers are rounded to.
    """
    first, last = (min(round(times * finest), noise.shape[1] - 1) for times in (_FIRST / _FINEST, 1.0))
    share = noise / noise[:, first : last + 1].amax(1, keepdim=True)
    ring = torch.arange(noise.shape[1], device=noise.device, dtype=noise.dtype)
    beyond, within = ((ring * (share > least)).amax(1) for least in (_FILTERED, _NONE))
    return torch.maximum(beyond, within.clamp(max=finest))


def _sharpness(power: Float[Tensor, "b m n"]) -> Float[Tensor, "b m n"]:
    """Power over its mean in a square around each order, without those of the peak itself; orders beyond the half plane count as zero."""

    def total(side: int) -> Tensor:
        found: Tensor = F.avg_pool2d(power[:, None], side, 1, side // 2, divisor_override=1)[:, 0]
        return found

    around = (total(_RING) - total(_PEAK)) / (_RING**2 - _PEAK**2)
    return power / around.clamp(min=torch.finfo(power.dtype).tiny)


def _starts(length: int, side: int) -> list[int]:
    count = max(1, math.ceil(2 * (length - side) / side) + 1)
    return [round(i * (length - side) / max(count - 1, 1)) for i in range(count)]


def _several(
    g: Float[Tensor, "b p 2"], weight: Float[Tensor, "b p"], block: Int[Tensor, " b"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reciprocal bases (k, 2, 2), in periods per block, of which all peaks of a block are orders, the evidence for each, and the number of its block.

    One lattice after another, of the peaks that those before do not explain: blocks may hold two grains, or two layers.
    """
    total, left = weight.sum(1), weight
    bases, evidence = [], []
    for _ in range(_IN_BLOCK):
        basis, gained, hit = _best_basis(g, left)
        explained = (left * hit).sum(1)
        good = (gained > 0) & (explained >= _SHARE * total)
        left = torch.where(good[:, None] & hit, 0.0, left)
        bases.append(basis)
        evidence.append(torch.where(good, explained, 0.0))
    known = left.sum(1) <= (1 - _EXPLAINED) * total
    strength = torch.where(known, torch.stack(evidence), 0.0)
    numbers = block.to(strength.dtype).expand_as(strength)
    told = torch.cat([torch.stack(bases).flatten(2), torch.stack([strength, numbers], dim=2)], dim=2)
    host = told.cpu().numpy()  # one wait
    host = host[host[..., 4] > 0]
    return host[:, :4].reshape(-1, 2, 2), host[:, 4], host[:, 5].astype(int)


def _best_basis(g: Float[Tensor, "b p 2"], weight: Float[Tensor, "b p"]) -> tuple[Tensor, Tensor, Tensor]:
    """For every block the pair of peaks (b, 2, 2) that explains most, by how much beyond chance (b,), and which peaks (b, p)."""
    i, j = sent(torch.triu_indices(_PEAKS, _PEAKS, 1), g, torch.long)
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
    good &= (hit & (weight[:, None] > 0)).sum(2) >= _FEWEST
    score = torch.where(good, weighted - chance * weight.sum(1, keepdim=True), 0.0)
    best, number = score.max(1)
    block = torch.arange(len(g), device=g.device)
    return bases[block, number], best, hit[block, number]


def _clustered(found: list[tuple[Lattice, float]], within: float) -> list[Lattice]:
    """One lattice for each crystal: the mean of those of its blocks, seen best where there is most evidence."""
    groups: list[tuple[np.ndarray, float, Lattice]] = []
    for lattice, weight in sorted(found, key=lambda one: -one[1]):
        basis = reduced(lattice.vectors)
        for number, (mean, total, best) in enumerate(groups):
            whole = orders_in(basis, mean / total, within)
            if whole is None:
                continue
            # Peaks that are some of the orders of a lattice with more evidence are no other.
            if abs(np.linalg.det(whole)) < SAME:
                groups[number] = (mean + weight * np.linalg.inv(whole) @ basis, total + weight, best)
            break
        else:
            groups.append((weight * basis, weight, lattice))
    groups.sort(key=lambda one: -one[1])
    return [
        best._replace(vectors=mean / total)
        for mean, total, best in groups[:_LATTICES]
        if total > _RARE * groups[0][1]
    ]
