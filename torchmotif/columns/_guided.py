"""Columns that do not stand out by themselves, where the mean cell of the crystal around them says that one is."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchmotif._arrays import Budget, sent
from torchmotif.columns._around import Around
from torchmotif.columns._coarse import Coarse
from torchmotif.columns._fit import Fit
from torchmotif.columns._local_phase import Windowed, Windows
from torchmotif.columns._neighbours import as_index, as_indices, candidates, nearest_within, strongest_of
from torchmotif.columns._noise import Noise
from torchmotif.columns._peaks import CLOSEST
from torchmotif.columns._search import FAINTEST
from torchmotif.columns._territories import Located, lattice_constant, located
from torchmotif.columns.model import Cell, ImageModel, Tiles

__all__ = ["Sites", "predicted"]

# Tried on simulated MX2 and perovskites at 1 to 1/100 of the dose, with holes, grains and bilayers (`benchmarks/columns/end_to_end.py`;
# docs/decisions/0200); by how much each of these may be changed is not recorded, but where a comment says so.
_SAME = 0.35  # of the spacing: a column so near to a predicted place is the one predicted
_AGREES = 0.5  # regression of the image on the mean cell, from which on a place is in the crystal
# Of the maxima around a place those must lie at places of its lattice, beyond what chance would have; fewer than so many say nothing.
_ON_SITES, _FEW = 0.6, 2.0
# Intensity over that in the cell which half of the places of a kind must hold, less this many standard deviations of their number: medians are 0.6 to 1.2
# in WS2, MoSe2 and perovskites at 1/100 to 1 of the dose, and 0.0 in a cell of the pentagonal oxide, whose columns have no fixed places in it. For
# oxygen at 1/50 noise is twice its intensity: without the deviations one specimen of five had none.
_SHOWN, _BY_CHANCE = 1 / 3, 3.0
_AROUND = 0.5  # lattice constants: standard deviation of the window in which neighbours tell whether a place is in a hole
_ALIKE = 1.5  # the same, in which those of its kind tell whether the crystal has such sites there
# Log of the odds that the sites of a cell are there, before neighbours are asked, and the most that one of these tells.
_USUAL, _MOST_TOLD = 3.0, 3.0
# Standard deviations of its intensity from which on the place of a column is fitted, twice that where no maximum is: with 6, Ti in PbTiO3 at
# one electron per pixel has no place of its own, with 4 vacancies of MoSe2 are lost at 1/50 of the dose.
_FREE = 4.5
# And part of the spacing to which a fit tells it, beside fainter ones. The wider columns are, the more those that wander draw their neighbours: at a third of the
# spacing (WS2, 0.6 A, 1/50 of the dose) W that are known to 0.07 cost 2 % of all columns.
_KNOWN = 0.06
# Times the faintest that a fit keeps: fainter columns are held where they are, or it would drop them. In PbTiO3 oxygen, 0.05 of Pb, is held, Ti,
# 0.23 of it, is not.
_HELD = 1.5
# Regressions of the image on the cells of two layers, together, from which on both are there: at the boundary of two grains they are about 1, if these are not
# turned by so little that the phases of one follow the other. And the share of a cell's pixels that are those of another cell, too: of layers nearly all.
_BOTH, _MOST_OF = 1.5, 0.6
# Widths between columns of two layers: nearer ones are one, and up to the second both are held, since one of them may have no maximum of its own.
_RESOLVED, _ALONE = 0.9, 2.6
_OVERLAP = 1.3  # by which neighbours enlarge the error of an intensity, about
_SCATTER = 0.1  # of its intensity, by which a kind of column varies at least
_PIXEL = (
    0.55  # half a pixel and a little, so that no site is lost between two; what is found twice is one later
)
_CHUNK = Budget(1 << 20, 1 << 26)  # coordinates of pixels that are compared with sites at a time
_FAR = 1e6  # pixels: no column is so far away
_EMS = 8  # rounds of the mixture
# Before anything is known of a kind of site: weights of full, half and no occupation, and how many sites that counts for. At low doses the
# lower tail of the full ones would pass for empty, so that these never weigh more but where neighbours are empty too.
_PRIOR, _COUNTS = (0.93, 0.05, 0.02), 20.0
_APART = 2.2  # standard deviations between full and empty sites of a kind, from which on the share of empty ones is learnt
_LOCAL = 2.0  # sites that the share of empty ones in the whole tile counts for beside those around


@dataclass(frozen=True, eq=False)
class Sites:
    """Places in a batch of tiles where the mean cell has a column.

    Attributes
    ----------
    tiles : Tiles
    positions : Tensor of shape (m, 2), float64
    tile : Tensor of shape (m,), int64
    kind : Tensor of shape (m,), int64
        Number of the site, over all cells of the model.
    intensity : Tensor of shape (m,)
        Of the column in the mean cell.
    seen : boolean Tensor of shape (m,)
        Whether a maximum lies there.
    overlaps : boolean Tensor of shape (m,)
        Whether a place of another layer is so near that a maximum would be that of both.
    spacing, kinds, reach
        Spacing of the model, number of its sites, and lattice constant in pixels.
    doubted : boolean Tensor of shape (cells,)
        Of which cells maxima contradict as many places as they leave, or more.
    """

    tiles: Tiles
    positions: Float[Tensor, "m 2"]
    tile: Int[Tensor, " m"]
    kind: Int[Tensor, " m"]
    intensity: Float[Tensor, " m"]
    seen: Bool[Tensor, " m"]
    overlaps: Bool[Tensor, " m"]
    spacing: float
    kinds: int
    reach: float
    doubted: Bool[Tensor, " c"]

    def with_maxima(
        self, at: Float[Tensor, "n 2"], tile: Int[Tensor, " n"], model: ImageModel
    ) -> tuple[Float[Tensor, "k 2"], Int[Tensor, " k"], Bool[Tensor, " k"]]:
        """Where a fit sets out: maxima and, after them, places without one; and which are too faint for their place to be fitted."""
        noise = Noise.of(model.noise, at.device)
        variance = noise.variance(noise.low + self.intensity / (2 * model.area))  # half as high as the column
        error = _OVERLAP * (4 * math.pi * model.width[0] * model.width[1] * variance).sqrt()
        # The fit takes a free column that is so much fainter than the usual ones for a trace of them.
        trace = _HELD * FAINTEST * self.intensity.max() if len(self.intensity) else error
        # The place of a Gaussian is known to its width over the standard deviations of its intensity. Those that wander draw fainter ones beside them.
        known = math.sqrt(model.width[0] * model.width[1]) / (_KNOWN * self.spacing)
        fainter = (self.intensity < _FREE * error).long()
        beside = torch.zeros(self.tiles.shape[0], dtype=torch.long, device=at.device)
        beside = beside.index_add_(0, self.tile, fainter)[self.tile] > 0
        clear = error * torch.where(beside, max(_FREE, known), _FREE)
        faint = self.intensity < torch.maximum(clear, trace)
        # Where no maximum is, there may be half of a column.
        held = torch.where(self.seen, faint, self.intensity < torch.maximum(2 * clear, trace))
        faint, held = faint | self.overlaps, held | self.overlaps
        # Among noise a maximum tells less of a faint column's place than the crystal around it.
        axes = sent(model.axes, at)
        near, places = (self.tiles.spread(*one) / axes for one in ((at, tile), (self.positions, self.tile)))
        site = nearest_within(near, places, _SAME * self.spacing)
        alone = (site < 0) | ~torch.cat([faint, faint[:0].new_zeros(1)])[site]
        free, chosen = as_indices(alone, ~self.seen | faint)
        fixed = torch.cat([torch.zeros_like(free, dtype=torch.bool), held[chosen]])
        return (
            torch.cat([at[free], self.positions[chosen]]),
            torch.cat([tile[free], self.tile[chosen]]),
            fixed,
        )

    def are_empty(
        self, fit: Fit, window: int, origin: Float[Tensor, " 2"], cells: tuple[Cell, ...]
    ) -> Bool[Tensor, " c"]:
        """Which cells have a kind of place that holds nothing once a part of a window is fitted: what they show there are others' columns.

        Columns that have no fixed place in a cell leave traces between its sites.
        """
        _, h, w = fit.tiles.shape
        at = self.positions - origin
        here = (self.tile == window) & ((at >= 0) & (at < sent([h, w], at))).all(1)
        places = torch.where(here[:, None], at / fit.axes, _FAR)
        site = nearest_within(fit.spread, places, _SAME * self.spacing)
        # Columns that the fit has found to be nothing count as none.
        intensity = torch.where(site < 0, 0.0, fit.intensity).float()
        held = torch.zeros_like(self.intensity).index_add_(0, site.clamp(min=0), intensity)
        shown = here & (held > _SHOWN * self.intensity)
        sums = held.new_zeros(2, self.kinds).index_add_(1, self.kind, torch.stack([shown, here]).to(held))
        empty = sums[0] < (sums[1] - _BY_CHANCE * sums[1].sqrt()) / 2
        return torch.stack([one.any() for one in empty.split([len(cell.sites) for cell in cells])])

    def of_columns(self, fit: Fit) -> Int[Tensor, " n"]:
        """Number of the place that each column of a fit is at, -1 for none."""
        where = fit.tiles.spread(self.positions, self.tile) / fit.axes
        return nearest_within(fit.spread, where, _SAME * self.spacing)

    def judged(
        self, fit: Fit, covariance: Float[Tensor, "n 3 3"]
    ) -> tuple[Bool[Tensor, " n"], Bool[Tensor, " n"]]:
        """Which columns of a fit are at a place where one is likelier than none, and which of these no maximum showed.

        The sites of one kind in a tile are a mixture of full, half full and empty ones, whose intensities have the errors that the fit claims.
        What is empty in a hole is so together with its neighbours.
        """
        none = torch.zeros_like(fit.fixed)
        if len(self.tile) == 0 or len(fit) == 0:
            return none, none
        site = self.of_columns(fit)
        rows = as_index(site >= 0)
        site = site[rows]
        variance = covariance[rows, 0, 0].double().clamp(min=1e-12)
        tile, group, tiles = self.tile[site], self.tile[site] * self.kinds + self.kind[site], len(fit.data)
        empty = _emptiness(
            fit.intensity[rows].double(),
            variance,
            (group, tiles * self.kinds),
            self.intensity[site].double(),
            (
                Around.of(fit, rows, tile, tiles, _AROUND * self.reach),
                Around.of(fit, rows, group, tiles * self.kinds, _ALIKE * self.reach),
            ),
        )
        return none.index_copy(0, rows, empty < 0.5), none.index_copy(0, rows, ~self.seen[site])


def _emptiness(
    intensity: Float[Tensor, " n"],
    variance: Float[Tensor, " n"],
    groups: tuple[Int[Tensor, " n"], int],
    start: Float[Tensor, " n"],
    neighbours: tuple[Around, Around],
) -> Float[Tensor, " n"]:
    """Probability that a site holds nothing, by expectation-maximisation of a mixture for every group of like sites.

    Groups are the number of each site's and how many there are; neighbours are those of any kind, and those of its own.
    """
    (around, alike), (group, number) = neighbours, groups
    prior = sent(_PRIOR, intensity)

    def total(*values: Tensor) -> tuple[Tensor, ...]:
        """Sums over every group, of some values or rows of them."""
        rows = torch.stack(values) if len(values) > 1 else values[0][None]
        sums = torch.zeros(len(rows), number, dtype=rows.dtype, device=rows.device)
        return sums.index_add_(1, group, rows).unbind(0)

    count, claimed, full = total(torch.ones_like(intensity), variance, start)
    count = count.clamp(min=1)
    # Where chance left few electrons the fit claims too small an error: no less than the mean of the kind.
    variance, full = torch.maximum(variance, (claimed / count)[group]), full / count
    least = (_SCATTER * full) ** 2
    scatter = least
    weight = prior[:, None].expand(3, number)
    # Where full and empty sites are hardly told apart the lower tail of the full ones would pass for empty.
    apart = full / (total(variance)[0] / count + scatter).sqrt()
    most = torch.where(apart > _APART, 1.0, _PRIOR[2])
    beside = around.sums(torch.ones_like(intensity)).clamp(min=0) + _LOCAL
    share: Tensor | None = None
    for _ in range(_EMS):
        # What full columns scatter beyond their own share of it is error that claims do not hold, and empty ones have that too.
        mean, wide, beyond, *local = torch.cat([torch.stack([full, scatter, scatter - least]), weight])[
            :, group
        ]
        spread = torch.stack([wide, wide, beyond]) + variance
        off = intensity - torch.stack([mean, mean / 2, torch.zeros_like(mean)])
        logits = -0.5 * (off.square() / spread + spread.log())
        if share is None:
            odds = torch.stack(local)
        else:  # the neighbours tell whether the crystal goes on here
            alone = around.sums(share[2]).clamp(min=0) + _LOCAL * local[2]
            empty = torch.maximum(alone / beside, local[2])  # a vacancy is one beside full sites
            # And those of its kind, together, whether the crystal has this site here at all.
            ratio = mean * off[1] / spread[0]
            here = torch.sigmoid(_USUAL + alike.sums(ratio.clamp(-_MOST_TOLD, _MOST_TOLD)))
            empty = (1 - here * (1 - empty)).clamp(1e-6, 1 - 1e-6)
            rest = (1 - empty) / (local[0] + local[1])
            odds = torch.stack([local[0] * rest, local[1] * rest, empty])
        share = torch.softmax(logits + odds.log(), dim=0)
        known = share[0] / spread[0]
        *held, sure, seen = total(*share, known, known * intensity)
        weight = (torch.stack(held) + _COUNTS * prior[:, None]) / (count + _COUNTS)
        weight = torch.cat([weight[:2], torch.minimum(weight[2:], most)])
        # As sure as one more column of the mean cell.
        rest = 1 / scatter.clamp(min=1e-12)
        full = (seen + rest * full) / (sure + rest)
        beyond = total(share[0] * ((intensity - full[group]).square() - variance))[0]
        least = (_SCATTER * full) ** 2
        scatter = torch.maximum(beyond / held[0].clamp(min=1), least)
    assert share is not None  # noqa: S101
    return share[2]


def predicted(tiles: Tiles, model: ImageModel, at: Float[Tensor, "n 2"], tile: Int[Tensor, " n"]) -> Sites:
    """The places of the mean cells in a batch of tiles, where the image agrees with the cell and the maxima lie at its places."""
    axes = sent(model.axes, at)
    maxima = tiles.spread(at, tile) / axes
    parts, first = [_nowhere(at)], 0
    coarse = Coarse.of(tiles, model.cells)
    cells = coarse.cells(model.cells)
    found = located(coarse.tiles, cells)
    for number, (cell, where) in enumerate(zip(cells, found, strict=True)):
        positions, home, site = _places(where.place, cell)
        coefficient, gain = where.agrees.at(positions, home).unbind(1)
        good = (coefficient > _AGREES) & coarse.tiles.at(where.inside, positions, home)
        positions = coarse.positions(positions)
        good &= tiles.at(tiles.measured, positions, home)
        intensity = sent(model.cells[number].intensities, tiles.data)[site]
        every = (positions, home, site + first, intensity, gain, coefficient, torch.full_like(site, number))
        chosen = as_index(good)
        parts.append(tuple(one[chosen] for one in every))
        first += len(cell.sites)
    positions, home, kind, intensity, gain, agrees, cell_of = (
        torch.cat(one) for one in zip(*parts, strict=True)
    )
    places = tiles.spread(positions, home) / axes
    supported = _on_sites(tiles, model, (at, tile), (positions, home))
    held = torch.stack([supported, ~supported]).long()
    counts = torch.zeros(2, max(len(model.cells), 1), dtype=torch.long, device=at.device)
    counts.index_add_(1, cell_of, held)
    # Of places that several lattices predict, that of the lattice that fits the image better there.
    gain = torch.where(supported, gain, -torch.inf)
    width, closest = math.sqrt(model.width[0] * model.width[1]), CLOSEST * model.spacing
    i, j, near = candidates(places, places, max(closest, _ALONE * width))
    apart = (places[i] - places[j]).norm(dim=1)
    both = _on_each_other(found, tiles)[home[i], cell_of[i], cell_of[j]] & (agrees[i] + agrees[j] > _BOTH)
    both &= near & supported[i] & supported[j] & (apart > _RESOLVED * width)
    stays = supported & strongest_of(gain, i, j, near & (apart <= closest) & ~both)
    overlaps = torch.zeros_like(kind).index_add_(0, i, (both & stays[j]).long()) > 0
    kept = as_index(stays)
    positions, home, kind, intensity, places, overlaps = (
        one[kept] for one in (positions, home, kind, intensity, places, overlaps)
    )
    seen = nearest_within(places, maxima, _SAME * model.spacing) >= 0
    reach = max((lattice_constant(cell) for cell in model.cells), default=1.0)
    doubted = counts[1] >= counts[0]
    return Sites(
        tiles, positions, home, kind, intensity, seen, overlaps, model.spacing, first, reach, doubted
    )


def _on_each_other(found: list[Located], tiles: Tiles) -> Bool[Tensor, "t c c"]:
    """Which cells lie on each other in most pixels of the one that has fewer: layers, of which each has all pixels of its own, and no grains."""
    if not found:
        return torch.zeros(tiles.shape[0], 1, 1, dtype=torch.bool, device=tiles.data.device)
    inside = torch.stack([where.inside for where in found], dim=1).flatten(2).float()
    common = inside @ inside.mT
    own = common.diagonal(dim1=1, dim2=2)
    layers = common > _MOST_OF * torch.minimum(own[:, :, None], own[:, None])
    return layers & ~torch.eye(len(found), dtype=torch.bool, device=layers.device)


def _nowhere(at: Tensor) -> tuple[Tensor, ...]:
    number, value = torch.zeros(0, dtype=torch.long, device=at.device), torch.zeros(0, device=at.device)
    return at[:0], number, number, value, value, value, number


def _places(
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


def _on_sites(
    tiles: Tiles,
    model: ImageModel,
    maxima: tuple[Float[Tensor, "n 2"], Int[Tensor, " n"]],
    sites: tuple[Float[Tensor, "m 2"], Int[Tensor, " m"]],
) -> Bool[Tensor, " m"]:
    """Which places have maxima around them that lie at places, more than by chance, or hardly any.

    Where two layers lie on each other, or a cell is none of this crystal, they do not.
    """
    if not model.cells:
        return torch.zeros_like(sites[1], dtype=torch.bool)
    axes = sent(model.axes, maxima[0])
    near, places = (tiles.spread(*one) / axes for one in (maxima, sites))
    hit = nearest_within(near, places, _SAME * model.spacing) >= 0
    _, h, w = tiles.shape
    windows = Windows.of(tiles.data, max(cell.window for cell in model.cells))

    def sums(one: tuple[Tensor, Tensor], weight: Tensor) -> Tensor:
        row, col = one[0].round().long().unbind(1)
        image = torch.zeros(tiles.shape, device=near.device)
        image.index_put_(
            (one[1], row.clamp(0, h - 1), col.clamp(0, w - 1)), weight.to(image), accumulate=True
        )
        return windows.sums(image)

    every, right = (sums(maxima, weight) for weight in (torch.ones_like(hit), hit))
    density = sums(sites, torch.ones_like(sites[1])) / (2 * math.pi * windows.sigma**2)
    chance = (density * math.pi * (_SAME * model.spacing) ** 2 * axes.prod()).clamp(max=0.9)
    share = (right / every.clamp(min=1e-6) - chance) / (1 - chance)
    good = torch.where(every < _FEW, 1.0, share - _ON_SITES)
    return Windowed(good[:, None], windows.step).at(*sites)[:, 0] > 0
