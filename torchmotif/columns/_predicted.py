"""The places of the mean cells in a batch of tiles: of every crystal, and of two layers on each other."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchmotif._arrays import Budget, sent
from torchmotif.columns._beyond import continued, with_beyond
from torchmotif.columns._coarse import Coarse
from torchmotif.columns._fainter import are_fainter, own_part
from torchmotif.columns._folding import above
from torchmotif.columns._guided import SAME, Sites
from torchmotif.columns._local_phase import Windowed, Windows
from torchmotif.columns._neighbours import as_index, as_indices, candidates, nearest_within, strongest_of
from torchmotif.columns._peaks import CLOSEST
from torchmotif.columns._profiles import window_reach
from torchmotif.columns._rows import left_in_rows
from torchmotif.columns._territories import Located, lattice_constant, located, sum_of
from torchmotif.columns.model import Cell, ImageModel, Tiles

__all__ = ["AGREES", "places_of", "predicted", "told_beyond", "without_rows"]

# Tried on simulated MX2 and perovskites at 1 to 1/100 of the dose, with holes, grains and bilayers (`benchmarks/columns/end_to_end.py`;
# docs/decisions/0200); by how much each of these may be changed is not recorded, but where a comment says so.
AGREES = 0.5  # regression of the image on the mean cell, from which on a place is in the crystal
# The same where the crystal is thinner: of the places of bright columns, from this part of the brightest on, such a share around has a maximum. On 26 images of wedges, steps
# of thickness and particles of perovskites and WS2 the lesser of recall and precision is 0.93 to 1.00 so, 0.64 to 0.99 without; a hole, or
# a layer beside that holds no oxygen, has no column more.
_THIN, _BRIGHT, _SHOWN = 0.08, 0.5, 0.8
# Of the maxima around a place those must lie at places of its lattice, beyond what chance would have; fewer than so many say nothing.
_ON_SITES, _FEW = 0.6, 2.0
# Of the pixels of a cell, those that are another's, too, from which on these are layers: of layers nearly all are, of grains a strip. With 0.3 and 0.9 bilayers of 6
# degrees at dose 1 and 1/50 and a real boundary of two grains 3 degrees apart have the same columns.
_MOST_OF = 0.6
# Widths between columns of two layers: nearer ones are one, and up to the second both are held, since one of them may have no maximum of its own. Of the same
# images 0.6 and 3.0 change 0.001 and nothing; with 1.3 the bilayer loses 0.05 at 1/50, with 2.2 0.005 of S2 at dose 1.
_RESOLVED, _ALONE = 0.9, 2.6
_PIXEL = (
    0.55  # half a pixel and a little, so that no site is lost between two; what is found twice is one later
)
_CHUNK = Budget(1 << 20, 1 << 26)  # coordinates of pixels that are compared with sites at a time


def without_rows(tiles: Tiles, model: ImageModel, cells: Sequence[Cell]) -> Tiles:
    """The tiles without what mean cells leave in rows of their crystals, where there is hum: they hold what fits of single maxima take for offsets of rows."""
    if not model.hum or not cells:
        return tiles
    where = located(tiles, cells)
    inside = torch.stack([above(at.inside, at.agrees.field[:, :1], AGREES) for at in where]).any(0)
    left = left_in_rows(tiles.level, sum_of(cells, where), inside.to(tiles.data.dtype))
    return replace(tiles, data=tiles.data - left)


class _Every(NamedTuple):
    """All sites of the mean cells in a batch of tiles, and around them."""

    found: list[Located]
    positions: Float[Tensor, "n 2"]
    home: Int[Tensor, " n"]  # tile
    kind: Int[Tensor, " n"]
    cell_of: Int[Tensor, " n"]
    intensity: Float[Tensor, " n"]
    part: Float[Tensor, " n"]
    gain: Float[Tensor, " n"]
    own: Float[Tensor, " n"]
    here: Bool[Tensor, " n"]  # on a measured pixel of the crystal's
    bright: Bool[Tensor, " n"]  # of these, those of bright columns
    beyond: Bool[Tensor, " n"]  # where the crystal goes on and nothing was measured
    fainter: Bool[Tensor, " n"]

    @staticmethod
    def of(tiles: Tiles, model: ImageModel, like: Float[Tensor, "m 2"]) -> "_Every":
        """By the local phases of the cells."""
        # Phases are those of flat tops, too; without them an order may be that of the gaps.
        coarse = Coarse.of(replace(tiles, usable=tiles.measured), model.cells)
        cells = coarse.cells(model.cells)
        found = located(coarse.tiles, cells)
        reach = math.ceil(window_reach(max(model.width)) / coarse.side)
        number, value = like.new_zeros(0, dtype=torch.long), like.new_zeros(0, dtype=torch.float32)
        flag, first = value > 0, 0
        parts: list[tuple[Tensor, ...]] = [(like[:0], *[number] * 3, *[value] * 4, *[flag] * 4)]
        for index, (cell, where) in enumerate(zip(cells, found, strict=True)):
            positions, home, site = places_of(continued(where.place, cell, reach), cell)
            positions = positions - reach
            part, gain = where.agrees.at(positions, home).unbind(1)
            own, sure = own_part(cell, where, coarse.tiles, AGREES).at(positions, home).unbind(1)
            here = coarse.tiles.at(where.inside, positions, home)
            unknown = ~coarse.tiles.at(coarse.tiles.usable, positions, home)
            positions = coarse.positions(positions)
            measured = tiles.holds(positions) & tiles.at(tiles.measured, positions, home)
            told = model.cells[index].intensities
            intensity, bright = sent([told, [one >= _BRIGHT * max(told) for one in told]], tiles.data)[
                :, site
            ]
            numbers = (home, site + first, torch.full_like(site, index))
            flags = (here & measured, here & measured & (bright > 0), (here | unknown) & ~measured)
            parts.append((positions, *numbers, intensity, part, gain, own, *flags, are_fainter(own, sure)))
            first += len(cell.sites)
        return _Every(found, *(torch.cat(one) for one in zip(*parts, strict=True)))


def predicted(tiles: Tiles, model: ImageModel, at: Float[Tensor, "n 2"], tile: Int[Tensor, " n"]) -> Sites:
    """The places of the mean cells in a batch of tiles, where the image agrees with the cell and the maxima lie at its places."""
    axes, kinds = sent(model.axes, at), sum(len(cell.sites) for cell in model.cells)
    maxima = tiles.spread(at, tile) / axes
    every = _Every.of(tiles, model, at)
    positions, home, kind, cell_of, intensity, part, gain, own, here = every[1:10]
    places = tiles.spread(positions, home) / axes
    seen = nearest_within(places, maxima, SAME * model.spacing) >= 0
    constant = max((lattice_constant(cell) for cell in model.cells), default=1.0)
    shown = _share(tiles, constant, (positions, home), every.bright & seen, every.bright)
    full = (part > AGREES) | ((part > _THIN) & (shown > _SHOWN))
    usual = torch.where(full, 1.0, own.clamp(max=1))
    chosen = as_index((here | every.beyond & ~seen) & (full | every.fainter))
    positions, home, kind, intensity, part, usual, gain, cell_of, places, seen, here = (
        one[chosen]
        for one in (positions, home, kind, intensity, part, usual, gain, cell_of, places, seen, here)
    )
    supported = _on_sites(tiles, model, (at, tile, maxima), (positions, home, places), here)
    held = (torch.stack([supported, ~supported]) & here).long()
    counts = torch.zeros(2, max(len(model.cells), 1), dtype=torch.long, device=at.device)
    counts.index_add_(1, cell_of, held)
    # Of places that several lattices predict, that of the lattice that fits the image better there.
    gain = torch.where(supported, gain, -torch.inf)
    width, closest = math.sqrt(model.width[0] * model.width[1]), CLOSEST * model.spacing
    i, j, near = candidates(places, places, max(closest, _ALONE * width))
    apart = (places[i] - places[j]).norm(dim=1)
    both = _on_each_other(every.found, tiles)[home[i], cell_of[i], cell_of[j]]
    both &= near & supported[i] & supported[j] & (apart > _RESOLVED * width)
    stays = supported & strongest_of(gain, i, j, near & (apart <= closest) & ~both)
    overlaps = torch.zeros_like(kind).index_add_(0, i, (both & stays[j]).long()) > 0
    part = part.clamp(max=1)
    kept, outside = as_indices(stays & here, stays & ~here)
    least = torch.minimum(part, usual)  # what is brighter beside it reaches into its part
    tiles = with_beyond(tiles, model, *(one[outside] for one in (positions, home, least * intensity)))
    positions, home, kind, intensity, part, usual, seen, overlaps = (
        one[kept] for one in (positions, home, kind, intensity, part, usual, seen, overlaps)
    )
    sites = (positions, home, kind, intensity, part, usual, seen, overlaps)
    return Sites(tiles, *sites, model.spacing, kinds, constant, counts[1] >= counts[0])


def told_beyond(tiles: Tiles, model: ImageModel, at: Float[Tensor, "n 2"], tile: Int[Tensor, " n"]) -> Tiles:
    """Tiles whose columns are known, with what those beyond their border reach in."""
    return predicted(tiles, model, at, tile).tiles if model.cells else tiles


def _on_each_other(found: list[Located], tiles: Tiles) -> Bool[Tensor, "t c c"]:
    """Which cells lie on each other in most pixels of the one that has fewer: layers, of which each has all pixels of its own, and no grains."""
    if not found:
        return torch.zeros(tiles.shape[0], 1, 1, dtype=torch.bool, device=tiles.data.device)
    inside = torch.stack([where.inside for where in found], dim=1).flatten(2).float()
    common = inside @ inside.mT
    own = common.diagonal(dim1=1, dim2=2)
    layers = common > _MOST_OF * torch.minimum(own[:, :, None], own[:, None])
    return layers & ~torch.eye(len(found), dtype=torch.bool, device=layers.device)


def places_of(
    place: Float[Tensor, "t 2 h w"], cell: Cell
) -> tuple[Float[Tensor, "m 2"], Int[Tensor, " m"], Int[Tensor, " m"]]:
    """Positions, tiles and numbers of all sites: from the pixel that each lies in."""
    (a, b), (c, d) = np.linalg.inv(np.array(cell.orders)).tolist()
    sites = sent(cell.sites, place)

    def off(place: Float[Tensor, "... 2"], site: Float[Tensor, "... 2"]) -> tuple[Tensor, Tensor]:
        """From sites to places, in pixels along rows and columns."""
        gap = place - site
        u, v = (gap - gap.round()).unbind(-1)
        return u * a + v * b, u * c + v * d

    def within(row: Tensor, col: Tensor) -> Tensor:
        return torch.maximum(row.abs(), col.abs()) <= _PIXEL

    # Those of few pixels are looked at one by one.
    def any_near(place: Float[Tensor, "c 2 h w"]) -> Bool[Tensor, "c h w"]:
        near = torch.zeros_like(place[:, 0], dtype=torch.bool)
        for site in sites.unbind(0):
            near |= within(*off(place.movedim(1, -1), site))
        return near

    pixel = torch.nonzero(torch.cat([any_near(*some) for some in _CHUNK.split(place)]))
    tile, i, j = pixel.unbind(1)
    gaps = off(place[tile, :, i, j], sites[:, None])
    number, one = torch.nonzero(within(*gaps)).unbind(1)
    away = torch.stack([gap[number, one] for gap in gaps], dim=1)
    return pixel[one, 1:].double() - away.double(), tile[one], number


def _share(
    tiles: Tiles,
    sigma: float,
    places: tuple[Float[Tensor, "n 2"], Int[Tensor, " n"]],
    some: Bool[Tensor, " n"],
    every: Bool[Tensor, " n"],
) -> Float[Tensor, " n"]:
    """Share of `every` place around each that `some` have."""
    if len(every) == 0:
        return torch.zeros_like(every, dtype=tiles.data.dtype)
    windows = Windows.of(tiles.data, sigma)
    part, whole = _densities(tiles, windows, places, torch.stack([some, every]))
    return Windowed((part / whole.clamp(min=1e-6))[:, None], windows.step).at(*places)[:, 0]


def _densities(
    tiles: Tiles,
    windows: Windows,
    places: tuple[Float[Tensor, "n 2"], Int[Tensor, " n"]],
    weights: Bool[Tensor, "k n"],
) -> Float[Tensor, "k t a b"]:
    """Weighted sums of some places, in Gaussian windows."""
    (t, h, w), (at, tile) = tiles.shape, places
    row, col = at.round().long().unbind(1)
    pixel = (tile * h + row.clamp(0, h - 1)) * w + col.clamp(0, w - 1)
    images = torch.zeros(len(weights), t * h * w, device=at.device).index_add_(1, pixel, weights.float())
    found: Tensor = windows.sums(images.view(-1, h, w)).unflatten(0, (len(weights), t))
    return found


def _on_sites(
    tiles: Tiles,
    model: ImageModel,
    maxima: tuple[Float[Tensor, "n 2"], Int[Tensor, " n"], Float[Tensor, "n 2"]],
    sites: tuple[Float[Tensor, "m 2"], Int[Tensor, " m"], Float[Tensor, "m 2"]],
    here: Bool[Tensor, " m"],
) -> Bool[Tensor, " m"]:
    """Which places have maxima around them that lie at places, more than by chance, or hardly any.

    Where two layers lie on each other, or a cell is none of this crystal, they do not. Of maxima and places are given the positions, the tiles, and
    the positions in square pixels with tiles spread over the plane; of places, too, which are `here`, and may have one.
    """
    if not model.cells:
        return torch.zeros_like(sites[1], dtype=torch.bool)
    hit = nearest_within(maxima[2], sites[2], SAME * model.spacing) >= 0
    windows = Windows.of(tiles.data, max(cell.window for cell in model.cells))
    every, right = _densities(tiles, windows, maxima[:2], torch.stack([torch.ones_like(hit), hit]))
    (number,) = _densities(tiles, windows, sites[:2], here[None])
    density = number / (2 * math.pi * windows.sigma**2)
    chance = (density * math.pi * (SAME * model.spacing) ** 2 * math.prod(model.axes)).clamp(max=0.9)
    share = (right / every.clamp(min=1e-6) - chance) / (1 - chance)
    good = torch.where(every < _FEW, 1.0, share - _ON_SITES)
    return Windowed(good[:, None], windows.step).at(*sites[:2])[:, 0] > 0
