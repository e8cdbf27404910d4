"""What the columns that were found leave of an image: of what repeats, of its steps, of columns beside them, and of their mean cell."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import mean, median_low

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from torchmotif._arrays import sent
from torchmotif.columns._beside_steps import weights_of_some
from torchmotif.columns._cell_bins import left_beside, score_of_one
from torchmotif.columns._cell_fit import CLEAR, FAINTEST_SITE
from torchmotif.columns._filters import filter_gain, measured_mean, noise_level
from torchmotif.columns._folding import along_rows, folded
from torchmotif.columns._neighbours import is_near
from torchmotif.columns._noise import Noise
from torchmotif.columns._noisy import NOTHING, Noisy, is_uneven, where_noisy
from torchmotif.columns._parts import NONE_HIDDEN, Hidden, Uneven, hidden, most_of
from torchmotif.columns._peaks import maxima, outstanding, running_max
from torchmotif.columns._predicted import predicted
from torchmotif.columns._profiles import profiles, window_reach
from torchmotif.columns._rows import left_in_rows
from torchmotif.columns._steps import stepped
from torchmotif.columns._territories import located, sum_of
from torchmotif.columns._unexplained import left_over
from torchmotif.columns.model import FOLDINGS, ImageModel, Tiles

__all__ = ["Rest", "rest_of", "together"]

_AS_HIGH = 0.75  # of the median height of the columns: what is left over so high is one of them
_BESIDE = 0.5  # of the spacing: what is left over nearer to a column, or to the border, is its misfit
# Spacings from every column; and share of what columns add to the mean, by which pixels so far from all may be brighter or darker than those among them. Around simulated
# particles, in vacuum and on carbon, and in holes it is -1.05 to -1.19, where three grains of 256 px have too few electrons -0.05 to 0.11.
_FAR, _AS_BRIGHT = 1.5, 0.25
# Standard deviations of the mean cell from which on a site may be there. At 1/250 of the dose noise alone has 0.4 to 3.4 (of 40 windows of MoSe2 and
# WS2 two have more than 2.7, in two images), oxygen that is there but not found 1.8 to 3.3: they overlap, and no limit parts them. Chosen on
# seeds 0 to 2 of `benchmarks/columns/false_alarms.py`, where all four draws that lack their oxygen are told.
_MAYBE = 2.7
# Standard deviations by which the least column stands out, up to which a trace may be one that the cell's own fit refused, and how much of it that has. Of 125 images with mean cells (draws of
# `disturbed.py`, 1000 to 1039 of steps, patches and slopes, 3130 to 3179; the right ones of `false_alarms.py`) four have such a trace, of which none is right. Where the least column stands out by more, right dumbbells
# have some; brighter traces are those of what ends, as a particle does (0.3 of the brightest).
_NOISY, _AS_LEAST = 2 * CLEAR, (0.95, 2.0)


@dataclass(frozen=True)
class Rest:
    """What the columns of an image leave.

    Attributes
    ----------
    unexplained : float
        The share of what repeats that `left_over` gives.
    step : float
        Height of the background's steps over that of the brightest tenth of the columns.
    missed : float
        Places away from all columns where as much is left over as a column has, over the number of columns.
    as_bright : float
        Share of the pixels that are far from all columns though as bright as those among them; 0 where they are not.
    trace : float
        Standard deviations by which something beside the sites of the largest crystal stands out of its mean cell, 0 where it is a misfit; NaN where it has no cell.
    brightest : float
        Those by which the brightest site does.
    hidden : Hidden
        Columns that the mean cell of a part shows and that were not found there.
    noisy : Noisy
        What is not known of the columns where noise is more.
    """

    unexplained: float = 0.0
    step: float = 0.0
    missed: float = 0.0
    as_bright: float = 0.0
    trace: float = math.nan
    brightest: float = math.nan
    hidden: Hidden = NONE_HIDDEN
    noisy: Noisy = NOTHING

    @property
    def doubtful(self) -> float:
        """Intensity, over that of the brightest, of a column that the mean cell may have but is too noisy to tell; 0 where none is suspected."""
        least = FAINTEST_SITE * self.brightest  # what is fainter would be a column in no image
        if least <= CLEAR:
            maybe = _MAYBE < self.trace < CLEAR  # what stands out by more was judged by the cell's own fit
        else:
            # It refuses what it cannot tell from its misfit: the least columns. What is brighter is no column of the crystal.
            maybe = least <= _NOISY and _AS_LEAST[0] < self.trace / least < _AS_LEAST[1]
        return self.trace / self.brightest if maybe else 0.0

    def moved(self, row: int, col: int) -> "Rest":
        """With places in an image in which the tile begins at that pixel."""
        return replace(self, hidden=self.hidden.moved(row, col))


def together(rests: Sequence[Rest]) -> Rest:
    """What several windows of an image leave: the means of shares, the highest step, and the trace that most windows have.

    Noise, unlike a sublattice, stands out of a mean cell in one window and not in the next.
    """
    if not rests:
        return Rest()
    cells = [one for one in rests if not math.isnan(one.trace)]
    return Rest(
        mean(one.unexplained for one in rests),
        max(one.step for one in rests),
        mean(one.missed for one in rests),
        mean(one.as_bright for one in rests),
        median_low(one.trace for one in cells) if cells else math.nan,
        median_low(one.brightest for one in cells) if cells else math.nan,
        most_of(one.hidden for one in rests),
        Noisy(
            mean(one.noisy.lost for one in cells) if cells else 0.0,
            mean(one.noisy.drowned for one in rests),
            mean(one.noisy.assumed for one in rests),
        ),
    )


def rest_of(
    tiles: Tiles, model: ImageModel, positions: Float[Tensor, "n 2"], intensity: Float[Tensor, " n"]
) -> Rest:
    """What some columns leave of one tile.

    Parameters
    ----------
    tiles : Tiles
        One.
    model : ImageModel
    positions : Tensor of shape (n, 2)
    intensity : Tensor of shape (n,)
        Over the model's `scale`.
    """
    width = torch.tensor(model.width, dtype=torch.float32).to(tiles.data.device)
    tile = torch.zeros(len(positions), dtype=torch.long, device=tiles.data.device)
    drawn = profiles(positions, tile, width, tiles.shape, window_reach(max(model.width)))
    canvas = drawn.canvas()
    drawn.add(canvas, intensity.float()[:, None, None])
    columns = drawn.crop(canvas)
    tiles = _as_fitted(tiles, columns, model)
    flat = stepped(tiles, model.spacing, model.axes, crystal=bool(model.cells))
    share = float(left_over(flat, columns, model.spacing, model.axes, model.width))
    noise = Noise.of(model.noise, tiles.data.device)
    under = measured_mean(tiles.data - columns, tiles.usable, model.spacing, model.axes)
    variance = noise.variance(under)
    uneven = is_uneven(variance, tiles.usable)
    pixels = Uneven(variance, 1 / noise.variance(under + columns)) if uneven else None
    missed, trace = _missed(flat, columns, model, positions), _trace(flat, model, positions, pixels)
    noisy = NOTHING
    if uneven:
        sites = predicted(flat, model, positions, tile) if model.cells else None
        noisy = where_noisy(flat, model, variance, (positions, intensity), sites)
    told = (missed, _as_bright(tiles, columns, model, positions), *trace, noisy)
    if flat.step is None:
        return Rest(share, 0.0, *told)
    height = float(intensity.kthvalue(max(1, round(0.9 * len(intensity)))).values) / model.area
    return Rest(share, float(flat.step.max() - flat.step.min()) / max(height, 1e-9), *told)


def _as_fitted(tiles: Tiles, columns: Float[Tensor, "t h w"], model: ImageModel) -> Tiles:
    """The tiles without what columns leave in rows where there is hum, and saturated pixels as bright as columns and background let expect.

    Neither what is added to rows nor what a limit cuts off is left over.
    """
    if model.hum:
        weights = (tiles.usable & (columns > 0)).to(tiles.data.dtype)  # a support has rows of its own
        tiles = replace(tiles, data=tiles.data - left_in_rows(tiles.data, columns, weights))
    if model.limit is None:
        return tiles
    under = measured_mean(tiles.data - columns, tiles.usable, model.spacing, model.axes)
    return replace(
        tiles, data=torch.where(tiles.saturated, torch.maximum(tiles.data, columns + under), tiles.data)
    )


def _missed(
    tiles: Tiles, columns: Float[Tensor, "t h w"], model: ImageModel, positions: Float[Tensor, "n 2"]
) -> float:
    """Places away from all columns where as much is left over as columns have, over the number of columns."""
    spacing, axes = model.spacing, model.axes
    scale = sent(axes, positions)
    at, height, tile = maxima(tiles, (tiles.level - columns) * tiles.measured, spacing, axes)
    _, usual, _ = maxima(tiles, columns, spacing, axes)
    if len(height) == 0 or len(usual) == 0:
        return 0.0
    noise = noise_level(tiles.data).median() * filter_gain(spacing)
    clear = outstanding(height, noise, spacing, tiles.data.numel())
    clear &= (height > _AS_HIGH * usual.median()) & tiles.at(tiles.measured, at, tile)
    clear &= ~is_near(at / scale, positions / scale, _BESIDE * spacing)
    last = sent(tiles.shape[1:], at) / scale - _BESIDE * spacing
    clear &= ((at / scale > _BESIDE * spacing) & (at / scale < last)).all(1)
    return float(clear.sum()) / len(positions)


def _as_bright(
    tiles: Tiles, columns: Float[Tensor, "t h w"], model: ImageModel, positions: Float[Tensor, "n 2"]
) -> float:
    """Share of the pixels far from all columns, if these are as bright as others: vacuum and a support lack what columns add."""
    near = torch.zeros_like(tiles.data)
    last = sent(tiles.shape[1:], positions) - 1
    row, col = positions.round().clamp(min=0).minimum(last).long().unbind(1)
    near[0, row, col] = 1.0
    for axis in (-2, -1):
        near = running_max(near, max(1, round(_FAR * model.spacing * model.axes[axis])), axis)
    among, far = ((near == one) & tiles.measured for one in (1.0, 0.0))
    if not bool(among.any() & far.any()):
        return 0.0
    added, usual, beyond = columns[among].mean(), tiles.data[among].mean(), tiles.data[far].mean()
    alike = (beyond - usual).abs() < _AS_BRIGHT * added
    return float(alike * far.sum() / tiles.measured.sum())


def _trace(
    tiles: Tiles, model: ImageModel, positions: Float[Tensor, "n 2"], noise: Uneven | None
) -> tuple[float, float, Hidden]:
    """Standard deviations by which most is left beside the sites of the largest crystal's mean cell, and by which the brightest stands out; NaN for no such cell.

    And what the mean cells of parts show where no column is.
    """
    if not model.cells:
        return math.nan, math.nan, NONE_HIDDEN
    cell = model.cells[0]
    every, real = located(tiles, model.cells), np.linalg.inv(np.array(cell.orders)).T
    where, missing = every[0], hidden(tiles, model, every, positions, noise)
    along = along_rows(where.inside, hum=model.hum)
    # Of two layers on each other, the other one is no trace of this one's.
    rest_of_all = where._replace(level=where.level - sum_of(model.cells, every))
    sites = cell.told
    if cell.antiphase is not None:
        # A trace is not known to differ between both halves: it stands out more of their mean.
        folding = np.array(FOLDINGS[cell.antiphase])
        real, sites = np.linalg.inv(cell.placing).T, sites @ folding.T
        place = torch.einsum("ij,tjhw->tihw", sent(folding, where.place), where.place).remainder(1)
        rest_of_all = rest_of_all._replace(place=torch.where(place >= 1, 0.0, place))
    weights = None if noise is None else weights_of_some(noise.weights, where.inside)
    found = folded(rest_of_all, where.inside, real, weights, hum=model.hum)
    if found is None:
        return math.nan, math.nan, missing
    rest, variance = found
    left = left_beside(rest - rest.mean(), variance, real, sites, cell.width, along=along)
    bright = max(cell.intensities) * score_of_one(variance, real, cell.width, along)
    # Where as much is missing elsewhere it is a misfit of the columns, as of dumbbells whose profile is not quite Gaussian.
    most, least = float(left.max()), float(left.min())
    return 0.0 if most <= -least else most, bright, missing
