"""Where in some tiles each of several mean cells is: the place of every pixel in it, and the pixels of its crystal."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchmotif._arrays import sent
from torchmotif.columns._bases import holds
from torchmotif.columns._beside_steps import fine_level
from torchmotif.columns._cell_bins import rendered
from torchmotif.columns._local_phase import Placed, Superlattice, Windowed, Windows, agreement, placed
from torchmotif.columns._waves import Waves
from torchmotif.columns.model import FOLDINGS, Cell, Pair, Tiles

__all__ = [
    "WINDOW",
    "Located",
    "bin_of",
    "bins_of",
    "expected",
    "explained",
    "lattice_constant",
    "located",
    "sum_of",
    "superlattice_by",
    "superlattice_of",
    "without_mixtures",
]

# Tried on simulated MX2, perovskites and polycrystals at 1 to 1/100 of the dose (`benchmarks/columns/end_to_end.py`; docs/decisions/0200); by how
# much each of these may be changed is not recorded.
WINDOW = 2.0  # lattice constants: standard deviation of the window in which a phase is measured
_SIDE = 2.0  # bins of the mean cell per pixel
# Share of its gain by which a cell that explains less of all tiles counts beside a better one: where two lattices describe one crystal equally
# well it is one of them in all places. Two cells on one lattice count alike where they gain, each in its places, more than this share of what they would as
# the truth, in the mean: domains of PbTiO3 (12 to 20 pm, 1 to 1/33 of the dose) gain 0.85 to 1.1, kinds of cell in the moire of bilayers 0.3 to 0.65.
_SECOND, _OWN_PLACES = 0.95, 0.75
# Of what all cells explain: what one adds whose lattice is some of the orders of another's. Such a one adds 0.005 in the real boundary of two grains of MoSe2 in
# whose smaller one it was found before that had a cell.
_LEAST = 0.02


# Orders that tell the half of a cell, the strongest, and square of the periods per width of a column up to which these count, as in `_contents`. Rutile has twelve; what moves with both was
# not measured.
_TELLING, _FINE = 16, 0.15


class Located(NamedTuple):
    """A cell in a batch of tiles."""

    place: Float[Tensor, "t 2 h w"]  # of every pixel in the cell, in its sides
    level: Float[Tensor, "t h w"]  # pixels less their local mean
    agrees: Windowed  # see `agreement`
    inside: Bool[Tensor, "t h w"]  # usable pixels of its crystal
    amplitude: Float[Tensor, "t 2 m n"]  # of both orders on the coarse grid
    steps: bool  # whether steps of the background were taken off


def located(tiles: Tiles, cells: Sequence[Cell]) -> list[Located]:
    """Every cell in some tiles; of several, each is measured once more in its own crystals, and from there up to their boundaries."""
    found = _places(tiles, cells, [tiles.usable] * len(cells))
    own = [tiles.usable] * len(cells)
    if len(cells) > 1:
        alike = _on_one_lattice(cells)
        first, found = found, _again(tiles, cells, found, alike)
        if alike.any():
            # Told where each is measured in its own places: beside a wall, phases that are measured everywhere are those of neither.
            told = alike & _told_apart(tiles, cells, [model for _, model in found]).cpu().numpy()
            found = found if (told == alike).all() else _again(tiles, cells, first, told)
            alike = told
        own = _territories(tiles, cells, [model for _, model in found], alike)
    every = []
    for cell, (where, model), one in zip(cells, found, own, strict=True):
        inside = one & tiles.usable
        agrees = agreement(where.level, inside, model, lattice_constant(cell))
        every.append(
            Located(where.place, where.level, agrees, inside, where.amplitude, tiles.step is not None)
        )
    return every


def without_mixtures(tiles: Tiles, cells: Sequence[Cell]) -> tuple[Cell, ...]:
    """Some cells but for those that the others do as well without.

    Of those on a lattice with two others they are such as the mean of both sides of a wall is; of others those whose lattice is some of the orders of
    another's.
    """
    kept = tuple(cells)
    while True:
        # Share of what all explain that a cell must add. One that is part of another's lattice follows its noise, and always adds a little.
        least = {number: 0.0 for number, row in enumerate(_on_one_lattice(kept)) if row.sum() > 1}
        orders = [np.array(cell.orders) for cell in kept]
        least |= {
            number: _LEAST for number, one in enumerate(orders) if any(holds(other, one) for other in orders)
        }
        if not least:
            return kept
        fewer = {number: kept[:number] + kept[number + 1 :] for number in least}
        every, *less = torch.stack([explained(tiles, some) for some in (kept, *fewer.values())]).tolist()
        over = {n: one - (1 - share) * every for (n, share), one in zip(least.items(), less, strict=True)}
        best = max(over, key=lambda number: over[number])
        if over[best] < 0:
            return kept
        kept = fewer[best]


def explained(tiles: Tiles, cells: Sequence[Cell]) -> Float[Tensor, ""]:
    """By how much some cells, each in its territory, make the squared difference to the tiles less."""
    model = sum_of(cells, located(tiles, cells)) if cells else torch.zeros_like(tiles.level)
    return ((2 * tiles.level - model) * model * tiles.usable).double().sum()


def sum_of(cells: Sequence[Cell], where: Sequence[Located]) -> Float[Tensor, "t h w"]:
    """What some cells, each in its territory, let expect of every pixel."""
    parts = [
        torch.where(at.inside, expected(cell, at.place), 0.0) for cell, at in zip(cells, where, strict=True)
    ]
    return torch.stack(parts).sum(0)


def _places(
    tiles: Tiles, cells: Sequence[Cell], inside: list[Bool[Tensor, "t h w"]]
) -> list[tuple[Placed, Tensor]]:
    """Place and model of every cell, whose phases are measured inside some pixels."""
    found = []
    for cell, pixels in zip(cells, inside, strict=True):
        at = placed(
            tiles.level,
            pixels,
            sent(cell.orders, tiles.data),
            cell.window,
            superlattice=superlattice_of(cell, tiles.data),
            fine=fine_level(tiles, pixels, lattice_constant(cell)),
        )
        found.append((at, expected(cell, at.place)))
    return found


def superlattice_of(cell: Cell, like: Tensor) -> Superlattice | None:
    """What tells the half of a cell in which a place lies, where it is that of a superlattice."""
    if cell.antiphase is None:
        return None
    own = np.array(cell.orders)
    real = np.linalg.inv(own).T
    waves = Waves.of(bins_of(real), real)
    alone = (waves.order @ np.array(cell.antiphase)) % 1 == 0.5
    waves = waves.some(alone & (waves.square < _FINE / cell.width**2))
    factors = waves.factors(*cell.columns, cell.ellipse)
    strongest = np.argsort(-np.abs(factors))[:_TELLING]
    return superlattice_by(cell.antiphase, own, waves.order[strongest], factors[strongest], like)


def superlattice_by(
    antiphase: Pair, own: np.ndarray, numbers: np.ndarray, factors: np.ndarray, like: Tensor
) -> Superlattice:
    """The same, from a few structure factors and their orders as multiples of the cell's."""
    folding = np.array(FOLDINGS[antiphase])
    inverse = np.linalg.inv(folding)
    parts = (antiphase, np.concatenate([folding, numbers]) @ own, inverse, numbers @ inverse)
    translation, vectors, back, turns = (sent(one, like) for one in parts)
    return Superlattice(translation, vectors, back, turns, sent(factors, like, torch.complex64))


def _again(
    tiles: Tiles, cells: Sequence[Cell], found: list[tuple[Placed, Tensor]], alike: np.ndarray
) -> list[tuple[Placed, Tensor]]:
    """Places and models measured within the territories that some found before have."""
    own = _territories(tiles, cells, [model for _, model in found], alike)
    return _places(tiles, cells, [tiles.usable & one for one in own])


def _on_one_lattice(cells: Sequence[Cell]) -> np.ndarray:
    """Which pairs (m, m) of cells are different ones on one lattice, as domains and twins are."""
    same = [one.orders == other.orders and one is not other for one in cells for other in cells]
    return np.array(same, bool).reshape(len(cells), len(cells))


def expected(cell: Cell, place: Float[Tensor, "t 2 h w"]) -> Float[Tensor, "t h w"]:
    """What the mean cell lets expect of every pixel, less its mean."""
    real = np.linalg.inv(np.array(cell.orders)).T
    bins = bins_of(real)
    model = rendered(*cell.columns, bins, real, ellipse=cell.ellipse)
    table = sent(model, place).flatten()
    return table[bin_of(place, bins)]


def lattice_constant(cell: Cell) -> float:
    """The longer one in pixels of the lattice that places a cell, by which its window was chosen."""
    return cell.window / WINDOW


class _Gains(NamedTuple):
    """By how much each of m models makes the squared difference to some tiles less, in Gaussian windows, and what they have in common."""

    gains: Float[Tensor, "m t a b"]
    common: Float[Tensor, "m m t a b"]
    step: tuple[float, float]

    @classmethod
    def of(cls, tiles: Tiles, cells: Sequence[Cell], models: list[Float[Tensor, "t h w"]]) -> "_Gains":
        """In windows with the least of the lattice constants for a standard deviation."""
        windows = Windows.of(tiles.data, min(map(lattice_constant, cells)))
        mask = tiles.usable.to(tiles.data.dtype)
        mean = windows.mean(tiles.level, mask)
        shape = (tiles.shape[1], tiles.shape[2])
        level = (tiles.level - Windowed(mean[:, None], windows.step).at_pixels(shape)[:, 0]) * mask
        gains = torch.stack([2 * windows.sums(level * model * mask) for model in models])
        common = torch.zeros(len(models), *gains.shape, dtype=gains.dtype, device=gains.device)
        for i, one in enumerate(models):
            for j, other in enumerate(models[: i + 1]):
                common[i, j] = common[j, i] = windows.sums(one * other * mask)
        return cls(gains - torch.stack([common[i, i] for i in range(len(models))]), common, windows.step)


def _territories(
    tiles: Tiles, cells: Sequence[Cell], models: list[Float[Tensor, "t h w"]], alike: np.ndarray
) -> list[Bool[Tensor, "t h w"]]:
    """Pixels in which each of several models makes the squared difference to the image less, given those that do so more.

    Of two crystals each has its own; two layers on each other, whose models have nothing in common, both have all. Those that are
    not `alike` (m, m) the one that gains most in all tiles count less beside it.
    """
    gains, common, step = _Gains.of(tiles, cells, models)
    beside = torch.where(sent(alike.tolist(), gains, torch.bool), 1.0, _SECOND)
    top = gains.clamp(min=0).sum((1, 2, 3)).argmax().view(1)
    weight = beside.index_select(0, top)[0].index_fill(0, top, 1.0)[:, None, None, None]
    own = torch.zeros_like(gains)
    left, free = gains, torch.ones_like(gains, dtype=torch.bool)
    for _ in models:
        best = torch.where(free, left * weight, -torch.inf).argmax(0, keepdim=True)
        chosen = torch.zeros_like(free).scatter(0, best, value=True)
        own = torch.where(chosen, left, own)
        free = free & ~chosen
        taken = chosen & (left > 0)
        left = left - 2 * torch.einsum("kt...,jkt...->jt...", taken.to(left.dtype), common)
    fields = Windowed(own.transpose(0, 1), step).at_pixels((tiles.shape[1], tiles.shape[2]))
    return list((fields > 0).unbind(1))


def _told_apart(
    tiles: Tiles, cells: Sequence[Cell], models: list[Float[Tensor, "t h w"]]
) -> Bool[Tensor, "m m"]:
    """Which models each have places of their own, where one gains over the other about what it would if it were the truth.

    Where what is there changes without end, as in the moire of two layers, both are wrong in most places, and one gains less.
    """
    gains, common, _ = _Gains.of(tiles, cells, models)
    square = torch.stack([common[i, i] for i in range(len(models))])
    apart = square[:, None] + square - 2 * common  # squared difference of two models
    more = gains[:, None] - gains
    wins = more > 0
    share = (more * wins).sum((2, 3, 4)) / (apart * wins).sum((2, 3, 4)).clamp(min=1e-12)
    return share + share.mT > 2 * _OWN_PLACES


def bins_of(real: np.ndarray) -> tuple[int, int]:
    a, b = (max(8, round(_SIDE * float(np.linalg.norm(v)))) for v in real)
    return a, b


def bin_of(place: Float[Tensor, "t 2 h w"], bins: tuple[int, int]) -> Int[Tensor, "t h w"]:
    """The bin of a cell that every pixel lies in, int32."""
    row, col = ((place[:, i] * bins[i]).int().clamp_(max=bins[i] - 1) for i in (0, 1))
    return torch.add(col, row, alpha=bins[1])
