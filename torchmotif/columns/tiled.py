"""Columns of many tiles at once: the stage that every source of pixels goes through."""

from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchmotif._arrays import sent
from torchmotif.columns._beside_steps import are_stepped, rise_at, rise_within
from torchmotif.columns._fit import Fit
from torchmotif.columns._guided import Sites
from torchmotif.columns._held import follow
from torchmotif.columns._neighbours import as_index, as_indices, pairs_within
from torchmotif.columns._peaks import maxima, running_max
from torchmotif.columns._predicted import predicted, without_rows
from torchmotif.columns._rows import left_in_rows
from torchmotif.columns._search import FAINTEST, STEPS, converge, fit_tiles, is_significant, set_out
from torchmotif.columns._start import Start
from torchmotif.columns._steps import stepped
from torchmotif.columns.model import ImageModel, Tiles

__all__ = ["columns_at", "columns_of_tiles", "peaks_of_tiles", "prepared"]

_OVERLAPPING = 3.03  # widths between two columns whose Gaussians have a tenth of their square in common
# Of the 90th percentile: over the lower half of a step higher than themselves columns are no fainter. Where a crystal fades away they
# are drawn by up to a quarter of the spacing. With 0.25 an edge of 6 px (background 5 times the contrast) keeps three of them more; twelve other
# edges are the same.
_FADED = 0.32
# Spacings to those beside them, and the length of the mean direction to those on one side.
_BESIDE, _ONE_SIDE = 1.6, 0.5
# Standard errors of its intensity, with that of a step, below which a column at no place of a crystal is what the step leaves. Of 96 backgrounds with steps (a honeycomb, squares) two have a
# precision below 0.97 with 1.5, none with 3.
_HIDDEN = 3.0
# Of its intensity: what a column of a tile with a step may be off because what was taken off follows the columns' feet. Of 54 images with steps of 1 to 10
# times the contrast intensities scatter by 1.4 times their errors without it, by 0.95 with it; all of an image may be off by 0 to 7 % together.
_SHARED = 0.02
# Of the usual intensity, what a step higher than that leaves within so many spacings. Of nine backgrounds of 3 to 30 times the contrast, 1 to 40 px wide, that of the fit is off by 0.02 to 0.06 of the
# columns' height within two spacings (root of the mean square), whatever the step's height, 0.02 within three, and 0.01 to 0.02 farther away.
_LEFT, _BY_IT = 0.05, 3.0
# Of the intensity of the brightest site, below which a column at no place of a mean cell is doubted; of a tile's columns, those from which on it is fitted anew; and what is left of them, at
# most, where low steps are why. Nine real images and eighteen crystals without steps are as without. What moves with them was not measured.
_BY_BACKGROUND, _SEVERAL, _GONE = 0.25, 0.015, 0.5
_CUT = 2.3  # widths from the border within which a column loses more than a hundredth of its intensity


def columns_of_tiles(
    windows: Float[Tensor, "t h w"], model: ImageModel, *, threshold: float | None = None
) -> dict[str, Tensor]:
    """The columns of a batch of tiles; those of a tile do not depend on the others, but for rounding.

    Parameters
    ----------
    windows : Tensor of shape (t, h, w), float32
        Pixels of the tiles with `model.margin` pixels around their cores, where the image has them; not finite where a
        pixel was not measured.
    model : ImageModel
        What the columns have in common.
    threshold : float, optional
        Least height of a column above its background, in the image's units.

    Returns
    -------
    dict of Tensors
        tile (n,), the number of its tile, ascending; positions (n, 2) float64 in pixels of its window; intensities,
        position_errors, intensity_errors, fit_quality, is_rim, is_overlapping, is_saturated, is_predicted, is_fixed, as in `Columns`.
    """
    tiles = prepared(windows, model)
    fit, sites = _fitted(tiles, model)
    if model.hum:
        tiles = replace(tiles, data=tiles.data - left_in_rows(fit.data, fit.expected, fit.weights))
        fit, sites = _fitted(tiles, model)
    first = _Judged.of(fit, sites, model, threshold)
    # Of every tile: its doubted columns, less so many of all as may be.
    several = fit.in_tiles(first.doubted(model).float().add_(first.keep, alpha=-_SEVERAL)) > 0
    keep, again = as_indices(first.keep, several)
    found = _described(fit, first.covariance, model, keep, first.unseen)
    return _with_low_steps(found, first, again, model, threshold) if len(again) else found


class _Judged(NamedTuple):
    """A fit, and which of its columns are there."""

    fit: Fit
    covariance: Float[Tensor, "n 3 3"]
    at_site: Bool[Tensor, " n"]  # at a place of a mean cell that holds one
    unseen: Bool[Tensor, " n"]  # of these, those without a maximum
    keep: Bool[Tensor, " n"]

    @staticmethod
    def of(fit: Fit, sites: Sites, model: ImageModel, threshold: float | None) -> "_Judged":
        """By their intensities, the mean cells, and the steps under them."""
        covariance, tiles = fit.covariance(), fit.tiles
        keep = is_significant(fit, covariance, fit.shape.usual * FAINTEST, fit.resolved) & ~fit.fixed
        there, unseen = sites.judged(fit, _with_steps(fit, covariance, model))
        keep |= there
        keep &= tiles.at(tiles.measured, fit.positions, fit.tile) & _within(fit)
        if tiles.step is not None:
            keep &= ~_faded(fit, model) & ~_lost_in_steps(fit, covariance, model, there)
        if threshold is not None:
            keep &= fit.intensity >= threshold / model.scale * model.area
        return _Judged(fit, covariance, there, unseen, fit.strongest(keep))

    def doubted(self, model: ImageModel) -> Bool[Tensor, " n"]:
        """Which columns are at no place of a mean cell, and so much fainter than its brightest that the background may leave them."""
        most = _BY_BACKGROUND * max((max(cell.intensities) for cell in model.cells), default=0.0)
        return self.keep & ~self.at_site & (self.fit.intensity < most)


def _with_low_steps(
    found: dict[str, Tensor],
    first: _Judged,
    again: Int[Tensor, " u"],
    model: ImageModel,
    threshold: float | None,
) -> dict[str, Tensor]:
    """The columns that were found at `first`; in some tiles `again`, those without low steps of the background, if most doubted ones are gone with these."""
    tiles = first.fit.tiles
    few = stepped(tiles.some(again), model.spacing, model.axes, crystal=True, doubted=True)
    if few.step is None:
        return found
    judged = _Judged.of(*_fitted(few, model), model, threshold)
    before, after = (one.fit.in_tiles(one.doubted(model).float()) for one in (first, judged))
    gone = after < _GONE * before[again]
    replaced = torch.zeros(tiles.shape[0], dtype=torch.bool, device=gone.device).index_copy(0, again, gone)
    kept, others = as_indices(judged.keep & gone[judged.fit.tile], ~replaced[found["tile"]])
    new = _described(judged.fit, judged.covariance, model, kept, judged.unseen)
    new["tile"] = again[new["tile"]]
    every = {name: torch.cat([one[others], new[name]]) for name, one in found.items()}
    order = torch.argsort(every["tile"], stable=True)
    return {name: one[order] for name, one in every.items()}


def _fitted(tiles: Tiles, model: ImageModel) -> tuple[Fit, Sites]:
    """The fit of maxima and of the places that mean cells predict, and these."""
    at, _, tile = _peaks(tiles, model)
    sites = predicted(tiles, model, at, tile)
    places = sites.with_maxima(at, tile, model)
    held = bool(places.held)
    known = bool(model.cells) and not held
    fit = fit_tiles(tiles, model, places.positions, places.tile, places.fixed, known=known)
    return fit, follow(fit, sites, model) if held else sites


def columns_at(
    windows: Float[Tensor, "t h w"],
    model: ImageModel,
    positions: Float[Tensor, "n 2"],
    tile: Int[Tensor, " n"],
    fixed: Bool[Tensor, " n"],
) -> dict[str, Tensor]:
    """The columns of a batch of tiles fitted anew from given positions, of which some are fixed; see `columns_of_tiles`.

    is_predicted says which those are.
    """
    tiles = prepared(windows, model)
    fit = set_out(tiles, model, Start.at(positions, tile, fixed))
    converge(fit, STEPS)
    covariance = fit.covariance()
    keep = as_index(tiles.at(tiles.measured, fit.positions, fit.tile) & _within(fit))
    return _described(fit, covariance, model, keep, fit.fixed)


def peaks_of_tiles(windows: Float[Tensor, "t h w"], model: ImageModel) -> dict[str, Tensor]:
    """The maxima of a batch of tiles as they are: tile, positions, and for intensities their heights in the image's units."""
    at, height, tile = _peaks(prepared(windows, model), model)
    order = torch.argsort(tile, stable=True)
    return {"tile": tile[order], "positions": at[order], "intensities": height[order] * model.scale}


def prepared(windows: Float[Tensor, "t h w"], model: ImageModel) -> Tiles:
    """Tiles as they are fitted, with the steps of their background."""
    tiles = without_rows(model.normalised(windows), model, model.cells)
    return stepped(tiles, model.spacing, model.axes, crystal=bool(model.cells))


def _peaks(tiles: Tiles, model: ImageModel) -> tuple[Tensor, Tensor, Tensor]:
    at, height, tile = maxima(tiles, tiles.level, model.spacing, model.axes)
    keep = as_index((height >= model.least) & tiles.at(tiles.measured, at, tile))
    return at[keep], height[keep], tile[keep]


def _described(
    fit: Fit,
    covariance: Float[Tensor, "n 3 3"],
    model: ImageModel,
    keep: Int[Tensor, " k"],
    unseen: Bool[Tensor, " n"],
) -> dict[str, Tensor]:
    """The attributes of `Columns` that are arrays, of some columns, ordered by tile."""
    keep = keep[torch.argsort(fit.tile[keep], stable=True)]
    errors = covariance[keep].diagonal(dim1=1, dim2=2).clamp(min=0).sqrt()
    if fit.tiles.step is not None:
        errors = torch.hypot(errors, _of_steps(fit, model)[keep])
    quality = fit.quality()[keep]
    positions, tile, tiles = fit.positions[keep], fit.tile[keep], fit.tiles
    _, h, w = tiles.shape
    inside = torch.minimum(positions, sent((h - 1, w - 1), positions) - positions)
    at_edge = (inside < fit.shape.width * _CUT).any(1)
    reach = int(_CUT * max(model.width)) + 1
    at_gap = _touches(tiles, positions, tile, ~tiles.measured, reach)
    if tiles.step is not None:  # a step higher than the column, under its Gaussian, is not known well enough
        at_gap |= _over_step(fit, model)[0][keep]
    there = torch.zeros(len(fit) + 1, dtype=torch.bool, device=keep.device).index_fill(0, keep, value=True)
    near = (fit.apart() <= _OVERLAPPING) & there[fit.neighbours.every]
    return {
        "tile": tile,
        "positions": positions,
        "intensities": fit.intensity[keep] * model.scale,
        "position_errors": errors[:, 1:],
        "intensity_errors": errors[:, 0] * model.scale,
        "fit_quality": quality,
        "is_rim": at_edge | at_gap,
        "is_overlapping": near.any(dim=1)[keep],
        "is_saturated": _touches(tiles, positions, tile, tiles.saturated, 1),
        "is_predicted": unseen[keep],
        "is_fixed": fit.fixed[keep],
    }


def _touches(
    tiles: Tiles, positions: Tensor, tile: Tensor, pixels: Bool[Tensor, "t h w"], reach: int
) -> Bool[Tensor, " n"]:
    """Which positions have one of the given pixels at most `reach` rows and columns away."""
    wide = running_max(running_max(pixels.float(), reach, -1), reach, -2) > 0
    return tiles.at(wide, positions, tile)


def _steps_under(fit: Fit, under: Float[Tensor, "t h w"], reach: float) -> tuple[Tensor, Tensor]:
    """The most and the least of what lies under the columns so many pixels around each."""
    above, below = (
        running_max(running_max(image, int(reach) + 1, -1), int(reach) + 1, -2) for image in (under, -under)
    )
    top, bottom = (fit.tiles.at(image, fit.positions, fit.tile) for image in (above, -below))
    return top, bottom


def _over_step(fit: Fit, model: ImageModel) -> tuple[Bool[Tensor, " n"], Bool[Tensor, " n"]]:
    """Which columns have a step of the background under their Gaussian that is higher than they, and which lie on its lower half."""
    under = fit.tiles.under
    if under is None:
        none = torch.zeros_like(fit.fixed)
        return none, none
    top, bottom = _steps_under(fit, under, _CUT * max(model.width))
    here = fit.tiles.at(under, fit.positions, fit.tile)
    return top - bottom > fit.intensity / model.area, here < (top + bottom) / 2


def _rise(fit: Fit, model: ImageModel) -> Float[Tensor, " n"]:
    """By how much a step rises within a width of each column, see `rise_at`."""
    noise = fit.tiles.at(fit.shape.noise.variance(fit.expected), fit.positions, fit.tile).sqrt()
    return rise_at(fit.tiles, fit.positions, fit.tile, model, noise)


def _of_steps(fit: Fit, model: ImageModel) -> Float[Tensor, "n 3"]:
    """Errors of intensity, row and column from the step under each column, which is known about as well as it is high there, and from what it leaves around."""
    step, width = fit.tiles.step, max(model.width)
    if step is None:
        return torch.zeros_like(fit.positions[:, :1].expand(-1, 3))
    rise = _rise(fit, model) * model.area
    # A background that rises so much from one side of a Gaussian to the other draws it aside.
    aside = (rise * width / (2 * fit.intensity.abs().clamp(min=1e-9))).clamp(max=fit.spacing)
    shared = _SHARED * fit.intensity.abs() * are_stepped(step)[fit.tile]
    usual = fit.shape.usual.expand(len(fit))
    within = fit.tiles.at(rise_within(fit.tiles, round(_BY_IT * fit.spacing)), fit.positions, fit.tile)
    left = _LEFT * usual * (within * model.area > usual)
    return torch.stack([(2 * rise).hypot(shared).hypot(left), aside, aside], dim=1)


def _with_steps(fit: Fit, covariance: Float[Tensor, "n 3 3"], model: ImageModel) -> Float[Tensor, "n 3 3"]:
    """The covariance with the errors of intensities from steps, and from what these leave around: a place under one may look empty and not be."""
    if fit.tiles.step is None:
        return covariance
    more = torch.zeros_like(covariance)
    more[:, 0, 0] = _of_steps(fit, model)[:, 0].square()
    return covariance + more


def _faded(fit: Fit, model: ImageModel) -> Bool[Tensor, " n"]:
    """Which columns are but the end of a crystal that fades away: fainter than others over the lower half of a step, and the last."""
    over = _rise(fit, model) > fit.intensity / model.area
    _, low = _over_step(fit, model)
    faint = over & low & ~fit.fixed & (fit.intensity < _FADED * fit.shape.usual)
    return faint & _beside(fit, ~faint)


def _lost_in_steps(
    fit: Fit, covariance: Float[Tensor, "n 3 3"], model: ImageModel, there: Bool[Tensor, " n"]
) -> Bool[Tensor, " n"]:
    """Which columns a step of the background hides, in a crystal whose mean cells say that columns are `there` and not here."""
    if not model.cells:
        return torch.zeros_like(fit.fixed)
    error = torch.hypot(covariance[:, 0, 0].clamp(min=0).sqrt(), _of_steps(fit, model)[:, 0])
    return ~there & (fit.intensity < _HIDDEN * error) & ~_beside(fit, there)


def _beside(fit: Fit, others: Bool[Tensor, " n"]) -> Bool[Tensor, " n"]:
    """Which columns have some others on one side alone, or none."""
    at = fit.spread
    i, j = pairs_within(at, _BESIDE * fit.spacing)
    away = (at[j] - at[i]) * others[j, None]
    away = away / away.norm(dim=1, keepdim=True).clamp(min=1e-9)
    total = torch.zeros_like(at).index_add_(0, i, away)
    count = torch.zeros_like(at[:, 0]).index_add_(0, i, others[j].to(at.dtype))
    last: Tensor = total.norm(dim=1) >= _ONE_SIDE * count
    return last


def _within(fit: Fit) -> Bool[Tensor, " n"]:
    """Which columns lie in their tile, not held at its border."""
    _, h, w = fit.tiles.shape
    row, col = fit.positions.unbind(1)
    return (row > -0.5) & (row < h - 0.5) & (col > -0.5) & (col < w - 0.5)
