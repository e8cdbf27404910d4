"""Columns that do not stand out by themselves, where the mean cell of the crystal around them says that one is."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchmotif._arrays import sent
from torchmotif.columns._around import Around
from torchmotif.columns._beside_steps import are_stepped, rise_at
from torchmotif.columns._fit import Fit
from torchmotif.columns._neighbours import as_index, as_indices, nearest_within
from torchmotif.columns._noise import Noise
from torchmotif.columns._search import FAINTEST
from torchmotif.columns.model import ImageModel, Tiles

__all__ = ["SAME", "Sites"]

# Tried on simulated MX2 and perovskites at 1 to 1/100 of the dose, with holes, grains and bilayers (`benchmarks/columns/end_to_end.py`;
# docs/decisions/0200); by how much each of these may be changed is not recorded, but where a comment says so.
SAME = 0.35  # of the spacing: a column so near to a predicted place is the one predicted
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
# The standard deviations of a column at the border count times its share inside to this power: what lies beyond would tell the background, and the place. Of columns within 4 px of
# the border (MoSe2, WS2, a perovskite and squares of 256 px, `benchmarks/columns/at_border.py`, but for WS2 at 1/33 of the dose) 0.92 are found without, 0.955 with 1, 0.986 with 3, 0.995 with 4 and 5.
_AT_BORDER = 4
# And part of the spacing to which a fit tells it, beside fainter ones. The wider columns are, the more those that wander draw their neighbours: at a third of the
# spacing (WS2, 0.6 A, 1/50 of the dose) W that are known to 0.07 cost 2 % of all columns.
_KNOWN = 0.06
# Times the faintest that a fit keeps: fainter columns are held where they are, or it would drop them. In PbTiO3 oxygen, 0.05 of Pb, is held, Ti,
# 0.23 of it, is not.
_HELD = 1.5
# Times what a step rises by across a width, see `rise_at`: intensities beside it scatter by as much, and the fit of a fainter column leads anywhere. What moves with it was
# not measured.
_OF_STEP = 2.0
_OVERLAP = 1.3  # by which neighbours enlarge the error of an intensity, about
_SCATTER = 0.1  # of its intensity, by which a kind of column varies at least
# Squared standard deviations of a site's intensity that the mean cell's counts for among those around, which tell how thick the crystal is. With 40 all six sites of a MoSe2
# of 512 px that hold no atom are filled at 1/50 of the dose, with 400 three, without asking for the thickness two; a perovskite on two thicknesses is the same to 0.003 with both.
_USUAL_THICKNESS = 400.0
# Of the variance under a column on the darkest background, by which that on a brighter one is more where it is taken: a mean of pixels has noise, and where a background is even all columns of a kind
# stand out alike (dumbbells at 1/50 of the dose: positions are claimed twice too inexact without). What moves with it was not measured.
_MORE = 0.5
_FAR = 1e6  # pixels: no column is so far away
_EMS = 8  # rounds of the mixture
# Before anything is known of a kind of site: weights of full, half and no occupation, and how many sites that counts for. At low doses the
# lower tail of the full ones would pass for empty, so that these never weigh more but where neighbours are empty too.
_PRIOR, _COUNTS = (0.93, 0.05, 0.02), 20.0
_APART = 2.2  # standard deviations between full and empty sites of a kind, from which on the share of empty ones is learnt
_LOCAL = 2.0  # sites that the share of empty ones in the whole tile counts for beside those around


class Places(NamedTuple):
    """Where the columns of a fit set out.

    Attributes
    ----------
    positions : Tensor of shape (k, 2), float64
    tile : Tensor of shape (k,), int64
    fixed : boolean Tensor of shape (k,)
        Which keep their place.
    home : Tensor of shape (k, 2), float64
        Where the mean cell has them, on the pixels; NaN where it has none.
    held : boolean Tensor without dimension
        Whether any does for another reason than the border.
    """

    positions: Float[Tensor, "k 2"]
    tile: Int[Tensor, " k"]
    fixed: Bool[Tensor, " k"]
    home: Float[Tensor, "k 2"]
    held: Bool[Tensor, ""]


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
    part : Tensor of shape (m,)
        Of the mean cell's contrast that the image has there, at most 1: less where the crystal is thinner.
    usual : Tensor of shape (m,)
        That part where the crystal has less of its own, and is known to; else 1.
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
    part: Float[Tensor, " m"]
    usual: Float[Tensor, " m"]
    seen: Bool[Tensor, " m"]
    overlaps: Bool[Tensor, " m"]
    spacing: float
    kinds: int
    reach: float
    doubted: Bool[Tensor, " c"]

    def with_maxima(self, at: Float[Tensor, "n 2"], tile: Int[Tensor, " n"], model: ImageModel) -> "Places":
        """Where a fit sets out: maxima and, after them, places without one."""
        variance = self._variance(model, self.intensity, 0.5)  # half as high as the column
        error = (_OVERLAP**2 * 4 * math.pi * model.width[0] * model.width[1] * variance).sqrt()
        clear = self.intensity / error
        # The fit takes a free column that is so much fainter than the usual ones for a trace of them.
        trace = _HELD * FAINTEST * self.intensity.max() if len(self.intensity) else error
        # The place of a Gaussian is known to its width over the standard deviations of its intensity. Those that wander draw fainter ones beside them.
        known = math.sqrt(model.width[0] * model.width[1]) / (_KNOWN * self.spacing)
        beside = torch.zeros(self.tiles.shape[0], dtype=torch.long, device=at.device)
        beside = beside.index_add_(0, self.tile, (clear < _FREE).long())[self.tile] > 0
        least = torch.where(beside, max(_FREE, known), _FREE)
        too_thin = self.intensity * self.part < trace
        faint = (clear < least) | too_thin
        # Where no maximum is, there may be half of a column; over a step, what that leaves.
        unseen = (clear < 2 * least) | too_thin
        hidden = self.in_steps(model)
        unseen = unseen if hidden is None else unseen | hidden
        held = torch.where(self.seen, faint, unseen) | self.overlaps
        # What lies beyond the border would tell the background, and the place.
        last, width = sent(([side - 1 for side in self.tiles.shape[1:]], model.width), at)
        inside = torch.minimum(self.positions, last - self.positions) / width
        cut = clear * torch.special.ndtr(inside).prod(1) ** _AT_BORDER < least
        if len(model.cells) > 1:
            # Not where layers lie on each other: of a bilayer (7 degrees, 300 px) 0.999 of the columns were found for 0.993, but its motifs, 56 for 38, had no lattice.
            layered = torch.zeros(self.tiles.shape[0], dtype=torch.long, device=at.device)
            layered = layered.index_add_(0, self.tile, self.overlaps.long())[self.tile] > 0
            cut = cut & ~layered
        faint = faint | self.overlaps | cut
        # Among noise a maximum tells less of a faint column's place than the crystal around it.
        axes = sent(model.axes, at)
        near, places = (self.tiles.spread(*one) / axes for one in ((at, tile), (self.positions, self.tile)))
        site = nearest_within(near, places, SAME * self.spacing)  # -1, none, is the last
        free, chosen = as_indices(~F.pad(faint, (0, 1))[site], ~self.seen | faint)
        # Only to a place on the pixels does a column return that would leave them.
        home = torch.where((inside >= 0).all(1)[:, None], self.positions, math.nan)
        return Places(
            torch.cat([at[free], self.positions[chosen]]),
            torch.cat([tile[free], self.tile[chosen]]),
            F.pad((held | cut)[chosen], (len(free), 0)),
            torch.cat([F.pad(home, (0, 0, 0, 1), value=math.nan)[site[free]], home[chosen]]),
            held.any(),
        )

    def in_steps(self, model: ImageModel) -> Bool[Tensor, " m"] | None:
        """Which places without a maximum have a step of the background under them that hides their column; None where no tile has a step."""
        if self.tiles.step is None:
            return None
        spread = self._variance(model, torch.zeros_like(self.intensity)).sqrt()
        rise = rise_at(self.tiles, self.positions, self.tile, model, spread)
        return ~self.seen & (self.intensity < _OF_STEP * rise * model.area)

    def _variance(
        self, model: ImageModel, intensity: Float[Tensor, " m"], part: float = 1.0
    ) -> Float[Tensor, " m"]:
        """Of a pixel at each place with that part of the height of a column above the background."""
        noise = Noise.of(model.noise, intensity.device)
        level = torch.add(noise.low, intensity, alpha=part / model.area)
        # Where the background is bright there is more noise: by what lies under columns beside a step, else by the mean of as many pixels as a cell has.
        side = min(max(1, round(self.reach)), *self.tiles.shape[1:])
        mean = F.avg_pool2d(self.tiles.data, side)
        m, n = mean.shape[1:]
        row, col = (
            at.clamp(0, last)
            for at, last in zip((self.positions / side).long().T, (m - 1, n - 1), strict=True)
        )
        # Of all cells: layers may lie on each other.
        usual = sum(sum(cell.intensities) * abs(np.linalg.det(cell.orders)) for cell in model.cells)
        here = mean[self.tile, row, col] - usual
        if self.tiles.step is not None and self.tiles.under is not None:
            under = self.tiles.at(self.tiles.under, self.positions, self.tile)
            here = torch.where(are_stepped(self.tiles.step)[self.tile], under, here)
        least, more = noise.variance(level), noise.slope * (here - noise.low)
        return torch.where(more > _MORE * least, least + more, least)

    def are_empty(self, fit: Fit, window: int, origin: Float[Tensor, " 2"]) -> Bool[Tensor, " k"]:
        """Which kinds of place hold nothing once a part of a window is fitted: what their cell shows there are others' columns.

        Columns that have no fixed place in a cell leave traces between its sites.
        """
        _, h, w = fit.tiles.shape
        at = self.positions - origin
        here = (self.tile == window) & ((at >= 0) & (at < sent([h, w], at))).all(1)
        places = torch.where(here[:, None], at / fit.axes, _FAR)
        site = nearest_within(fit.spread, places, SAME * self.spacing)
        # Columns that the fit has found to be nothing count as none.
        intensity = torch.where(site < 0, 0.0, fit.intensity).float()
        held = torch.zeros_like(self.intensity).index_add_(0, site.clamp(min=0), intensity)
        shown = here & (held > _SHOWN * self.intensity * self.usual)
        sums = held.new_zeros(2, self.kinds).index_add_(1, self.kind, torch.stack([shown, here]).to(held))
        return sums[0] < (sums[1] - _BY_CHANCE * sums[1].sqrt()) / 2

    def of_columns(self, fit: Fit) -> Int[Tensor, " n"]:
        """Number of the place that each column of a fit is at, -1 for none."""
        where = fit.tiles.spread(self.positions, self.tile) / fit.axes
        return nearest_within(fit.spread, where, SAME * self.spacing)

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
        intensity, full = fit.intensity[rows].double(), self.intensity[site].double()
        around = Around.of(fit, rows, tile, tiles, _AROUND * self.reach)
        # Where the crystal is thinner full sites have less, too: by the intensities around, of which none tells of more than a full one.
        known = full / variance
        seen, expected = (
            around.sums(one * known).clamp(min=0) for one in (torch.minimum(intensity, full), full)
        )
        usual = self.usual[site].double() * _USUAL_THICKNESS
        thick = ((seen + usual) / (expected + _USUAL_THICKNESS)).clamp(max=1)
        empty = _emptiness(
            (intensity, variance, thick),
            (group, tiles * self.kinds),
            full,
            (
                around,
                Around.of(fit, rows, group, tiles * self.kinds, _ALIKE * self.reach),
            ),
        )
        return none.index_copy(0, rows, empty < 0.5), none.index_copy(0, rows, ~self.seen[site])


def _emptiness(
    fitted: tuple[Float[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, " n"]],
    groups: tuple[Int[Tensor, " n"], int],
    start: Float[Tensor, " n"],
    neighbours: tuple[Around, Around],
) -> Float[Tensor, " n"]:
    """Probability that a site holds nothing, by expectation-maximisation of a mixture for every group of like sites.

    What is fitted are intensities, their variances, and the thickness of the crystal there, of which they are shares.
    Groups are the number of each site's and how many there are; neighbours are those of any kind, and those of its own.
    """
    (intensity, variance, thick), (around, alike), (group, number) = fitted, neighbours, groups
    prior, filled = sent([_PRIOR, (1.0, 0.5, 0.0)], intensity)

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
    most = F.pad(torch.where(apart > _APART, 1.0, _PRIOR[2])[None], (0, 0, 2, 0), value=math.inf)
    intensity, variance = intensity / thick, variance / thick.square()
    beside = around.sums(torch.ones_like(intensity)).clamp(min=0) + _LOCAL
    share: Tensor | None = None
    for _ in range(_EMS):
        # What full columns scatter beyond their own share of it is error that claims do not hold, and empty ones have that too.
        mean, wide, beyond, *local = torch.cat([torch.stack([full, scatter, scatter - least]), weight])[
            :, group
        ]
        spread = torch.stack([wide, wide, beyond]) + variance
        off = intensity - filled[:, None] * mean
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
        weight = torch.minimum((torch.stack(held) + _COUNTS * prior[:, None]) / (count + _COUNTS), most)
        # As sure as one more column of the mean cell.
        rest = 1 / scatter.clamp(min=1e-12)
        full = (seen + rest * full) / (sure + rest)
        beyond = total(share[0] * ((intensity - full[group]).square() - variance))[0]
        least = (_SCATTER * full) ** 2
        scatter = torch.maximum(beyond / held[0].clamp(min=1), least)
    assert share is not None  # noqa: S101
    return share[2]
