"""An image folded into the mean cell of a lattice, with the local phase of two of its orders, and the sites that it shows."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy.ndimage import uniform_filter
from torch import Tensor

from torchmotif._arrays import Budget, sent
from torchmotif.columns._beside_steps import fine_level, flattened
from torchmotif.columns._cell_bins import away_from, middles
from torchmotif.columns._cell_fit import sites_of
from torchmotif.columns._filters import blur
from torchmotif.columns._local_phase import Local, Placed, placed
from torchmotif.columns._reciprocal import IN_ROWS, Lattice
from torchmotif.columns._territories import WINDOW, Located, bin_of, bins_of
from torchmotif.columns.model import Cell, Tiles

__all__ = [
    "CRYSTAL",
    "above",
    "along_rows",
    "first_cell",
    "folded",
    "mean_cell",
    "scattered",
    "seen_best",
    "strength",
]

# Tried on simulated MX2 and perovskites at 1 to 1/100 of the dose (`benchmarks/columns/end_to_end.py`; docs/decisions/0200); by how much each
# of these may be changed is not recorded.
CRYSTAL = 0.4  # of the usual amplitude: where orders have less, there is another crystal, or none
_FULL = 8  # pixels in a bin of a mean cell, on average
# Of the mean number of pixels in a bin: where some have less, it is not by chance. Perovskites, polar or not, and rock salt at any angle have 0.4 and
# more, those whose sides are 26.03 px along the pixels' grid 0 to 0.05.
_THIN = 0.25
_ONE_OF_NINE = 0.1  # a mean over nine bins of which one holds a pixel is more than this
_NEAR = 0.5  # widths from a site, within which what columns have scatters as at the site; what moves with it was not measured
_CHUNK = Budget(1 << 19, 1 << 25)  # pixels that are folded at a time
_REFINED = 3  # times that reciprocal vectors are corrected by the slope of their phases
_SHOWN_IN = 14.0  # lattice constants: side of the part of a window that shows a cell first


def first_cell(tiles: Tiles, lattice: Lattice, sigma: float = 0.0, *, hum: bool = False) -> Cell | None:
    """The mean cell of one crystal where its lattice is seen best, if it shows sites: of where its orders are strong.

    Phases are measured in windows of two lattice constants, or of `sigma` pixels if that is more.
    """
    seen = seen_best(tiles, lattice, sigma, hum=hum)
    return None if seen is None else mean_cell(seen.at, seen.inside, seen.vectors, seen.sigma, hum=hum)


class SeenBest(NamedTuple):
    """A lattice where it is seen best."""

    at: Placed
    inside: Tensor  # pixels where its orders are strong
    vectors: np.ndarray  # (2, 2) reciprocal, without slope in their phases
    sigma: float  # of the windows in which phases are measured


def seen_best(tiles: Tiles, lattice: Lattice, sigma: float = 0.0, *, hum: bool = False) -> SeenBest | None:
    """The part of the windows where a lattice is seen best; None where that is smaller than the windows of its phases, see `first_cell`."""
    longest = float(np.linalg.norm(np.linalg.inv(lattice.vectors), axis=0).max())
    sigma, side = max(WINDOW * longest, sigma), max(lattice.side, math.ceil(_SHOWN_IN * longest))
    corner = (
        min(max(first - (side - lattice.side) // 2, 0), max(length - side, 0))
        for first, length in zip(lattice.corner, tiles.shape[1:], strict=True)
    )
    rows, cols = (slice(first, first + side) for first in corner)
    window = tiles.some(slice(lattice.window, lattice.window + 1))
    level, usable = (one[:, rows, cols].contiguous() for one in (window.level, window.usable))
    fine = fine_level(window, window.usable, longest)
    fine = None if fine is None else fine[:, rows, cols].contiguous()
    if sigma > min(level.shape[1:]):
        return None
    local = Local.of(level if fine is None else fine, usable, sigma)
    chosen = _refined(local, _strongest(local, lattice.vectors, hum=hum))
    at = placed(level, usable, sent(chosen, level), sigma, steps=tiles.step is not None, fine=fine)
    return SeenBest(at, above(usable, strength(at), CRYSTAL), chosen, sigma)


def along_rows(pixels: Tensor, *, hum: bool) -> float:
    """Periods per pixel along the rows, up to which an order is the same in all of a row, and tells nothing where these have offsets; else 0."""
    return IN_ROWS / pixels.shape[2] if hum else 0.0


def strength(at: Placed | Located) -> Float[Tensor, "t 1 m n"]:
    """Amplitude of the weaker order, as a share of what it usually has where it is strong."""
    usual = at.amplitude.transpose(0, 1).flatten(1).quantile(0.9, dim=1)[:, None, None]
    return (at.amplitude / usual).amin(1, keepdim=True)


def above(usable: Tensor, field: Float[Tensor, "t 1 m n"], least: float) -> Tensor:
    """Usable pixels where something known at nodes is more than that."""
    values = F.interpolate(field, usable.shape[1:], mode="bilinear", align_corners=True)[:, 0]
    return usable & (values > least)


def mean_cell(
    at: Placed | Located,
    inside: Tensor,
    vectors: np.ndarray,
    sigma: float,
    *,
    hum: bool = False,
    known: Cell | None = None,
    weights: Tensor | None = None,
) -> Cell | None:
    """The mean cell of some pixels, if it shows sites; of `hum`, by the orders that change along the rows. See `sites_of` for what is `known`."""
    real = np.linalg.inv(vectors).T
    shown = folded(at, inside, real, weights, hum=hum)
    if shown is None:
        return None
    before = None if known is None else known.columns
    fit = sites_of(*shown, real, along_rows(inside, hum=hum), before)
    if len(fit.sites) == 0:
        return None
    (a, b), (c, d) = vectors.tolist()
    places = tuple((float(row), float(col)) for row, col in fit.sites)
    lobes = () if fit.lobes is None else tuple((float(a), float(b), float(c)) for a, b, c in fit.lobes)
    ellipse = fit.ellipse or (0.0, 0.0)
    return Cell(
        ((a, b), (c, d)), sigma, places, tuple(fit.strength.tolist()), fit.width, ellipse, lobes=lobes
    )


def _strongest(local: Local, vectors: np.ndarray, *, hum: bool) -> np.ndarray:
    """Of the pairs of low orders that span the same lattice the one whose weaker order is the strongest; of `hum`, of those that change along the rows."""
    numbers = np.array([[1, 0], [0, 1], [1, 1], [1, -1], [2, 1], [1, 2], [2, -1], [1, -2]])
    orders = local.orders(sent(numbers @ vectors, local.pixels))
    strong = torch.hypot(orders.field[:, 0:-2:2], orders.field[:, 1:-2:2]).mean((0, 2, 3)).tolist()
    told = np.abs(numbers @ vectors)[:, 1] >= along_rows(local.pixels, hum=hum)
    pairs = [
        (a, b)
        for a in range(8)
        for b in range(a)
        if abs(round(float(np.linalg.det(numbers[[a, b]])))) == 1 and told[a] and told[b]
    ]
    best = max(pairs, key=lambda p: min(strong[p[0]], strong[p[1]]))
    chosen: np.ndarray = numbers[list(best)] @ vectors
    return chosen


def _refined(local: Local, vectors: np.ndarray) -> np.ndarray:
    """Reciprocal vectors whose local phases have no slope on the whole."""
    chosen = sent(vectors, local.pixels, torch.float64)
    for _ in range(_REFINED):
        orders = local.orders(chosen.to(local.pixels.dtype))
        real, imaginary = (orders.field[:, i:4:2].double() for i in (0, 1))
        slopes = []
        for axis, step in zip((2, 3), orders.step, strict=True):
            count = real.shape[axis] - 1
            a, b, c, d = (one.narrow(axis, first, count) for first in (0, 1) for one in (real, imaginary))
            turn = torch.atan2((d * a - c * b).sum((0, 2, 3)), (c * a + d * b).sum((0, 2, 3)))
            slopes.append(turn / (2 * math.pi * step))
        chosen = chosen + torch.stack(slopes, dim=1)
    found: np.ndarray = chosen.cpu().numpy()
    return found


def folded(
    at: Placed | Located,
    inside: Tensor,
    real: np.ndarray,
    weights: Tensor | None = None,
    *,
    hum: bool = False,
) -> tuple[np.ndarray, np.ndarray] | None:
    """Mean of the pixels in every bin of the cell, and its variance; None where bins have few. Weights are 1 in the mean; see `mean_cell` for `hum`."""
    bins, constant = bins_of(real), float(np.linalg.norm(real, axis=1).max())
    level = flattened(at.level, inside, weights, constant, steps=at.steps)
    pixels = (level, inside, at.place, weights)
    count, total, square = _sums(*pixels, bins, shared=False)
    if count.mean() < _FULL:
        # Of few cells, which are wide where the image holds no more of them: bins twice as wide.
        bins = (max(8, bins[0] // 2), max(8, bins[1] // 2))
        count, total, square = _sums(*pixels, bins, shared=False)
    if count.mean() < _FULL:
        return None
    if count.min() < _THIN * count.mean():
        # Where a cell fits on the pixels' grid most of these lie in few bins, all at the same place in them, and others hold none: means over three by three.
        # Where orders along the rows tell nothing, that shift makes a site: there pixels are shared between the bins around them first. It blurs, too, and
        # without hum hides oxygen of perovskites along the rows (recall 0.50 for 0.99).
        every = _sums(*pixels, bins, shared=True) if hum else (count, total, square)
        count, total, square = (uniform_filter(one, 3, mode="wrap") for one in every)
        if count.min() < _ONE_OF_NINE:
            return None
    mean = total / count
    # What noise has on average, with the columns' own scatter.
    spread = float(np.average(np.maximum(square / count - mean**2, 1e-12), weights=count))
    return mean, spread / count


def scattered(
    rest: Float[Tensor, "t h w"], place: Float[Tensor, "t 2 h w"], inside: Tensor, cell: Cell
) -> np.ndarray:
    """Standard errors (k,) of the intensities of a cell's sites, from what columns there would have, cell by cell, of the rest of some pixels.

    Bins have that of white noise. Speckle is as wide as columns, and has more.
    """
    real = np.linalg.inv(np.array(cell.orders)).T
    bins, area = bins_of(real), abs(float(np.linalg.det(real)))
    seen = blur(torch.where(inside, rest, 0.0), cell.width)
    sums = _sums(seen, inside, place, None, bins, shared=False)
    at = middles(bins)
    near = np.stack([away_from(at, one, real) < _NEAR * cell.width for one in np.array(cell.sites)])
    count, total, square = sums.reshape(3, -1) @ near.T
    count = np.maximum(count, 1)
    variance = np.maximum(square / count - (total / count) ** 2, 0)
    cells = count / (area * near.mean(1).clip(1 / near.shape[1]))
    # Blurred by its width once more, a column is as high as its intensity over that area.
    found: np.ndarray = 4 * math.pi * cell.width**2 * np.sqrt(variance / cells)
    return found


def _sums(
    level: Tensor,
    inside: Tensor,
    place: Tensor,
    weights: Tensor | None,
    bins: tuple[int, int],
    *,
    shared: bool,
) -> np.ndarray:
    """Weight, sum and sum of squares (3, a, b) of the pixels in every bin; or `shared` between the four middles around each, by its distance from them."""
    a, b = bins
    sums = torch.zeros(3, a * b + 1, dtype=torch.float64, device=level.device)
    for where, some, pixels, weight in _CHUNK.split(
        inside, place, level, level if weights is None else weights
    ):
        values = pixels.flatten().double()
        powers = torch.stack([torch.ones_like(values), values, values.square()])
        powers = powers if weights is None else powers * weight.flatten()
        for share, bin_ in _shares(some, bins) if shared else [(None, bin_of(some, bins))]:
            index = torch.where(where, bin_, a * b).flatten().long()
            sums.index_add_(1, index, powers if share is None else powers * share.flatten())
    found: np.ndarray = sums[:, :-1].view(3, a, b).cpu().numpy()
    return found


def _shares(place: Float[Tensor, "t 2 h w"], bins: tuple[int, int]) -> Iterator[tuple[Tensor, Tensor]]:
    """Four bins around every pixel, and its share in each: one without offset and slope, whatever the place of the pixel in its bin."""
    sides = sent(bins, place)[:, None, None]
    at = place * sides - 0.5
    low = at.floor()
    for row, col in ((0, 0), (0, 1), (1, 0), (1, 1)):
        step = sent((row, col), place)[:, None, None]
        share = 1 - (at - low - step).abs()
        number = ((low + step) % sides).long()
        yield share[:, 0] * share[:, 1], number[:, 0] * bins[1] + number[:, 1]
