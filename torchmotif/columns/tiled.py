"""Columns of many tiles at once: the stage that every source of pixels goes through."""

from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchmotif._arrays import sent
from torchmotif.columns._at_lobes import are_lobes
from torchmotif.columns._fit import Fit
from torchmotif.columns._guided import Sites
from torchmotif.columns._held import follow
from torchmotif.columns._neighbours import as_index, as_indices
from torchmotif.columns._over_steps import CUT, OverSteps
from torchmotif.columns._peaks import maxima, running_max
from torchmotif.columns._predicted import predicted, told_beyond, without_rows
from torchmotif.columns._rows import left_in_rows
from torchmotif.columns._search import FAINTEST, STEPS, converge, fit_tiles, is_significant, set_out
from torchmotif.columns._start import Start
from torchmotif.columns._steps import stepped
from torchmotif.columns.model import ImageModel, Tiles

__all__ = ["columns_at", "columns_of_tiles", "peaks_of_tiles", "prepared"]

_OVERLAPPING = 3.03  # widths between two columns whose Gaussians have a tenth of their square in common
# Of the intensity of the brightest site, below which a column at no place of a mean cell is doubted; of a tile's columns, those from which on it is fitted anew; and what is left of them, at
# most, where low steps are why. Nine real images and eighteen crystals without steps are as without. What moves with them was not measured.
_BY_BACKGROUND, _SEVERAL, _GONE = 0.25, 0.015, 0.5


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
    found = _described(fit, (first.covariance, first.steps), model, keep, first.unseen)
    return _with_low_steps(found, first, again, model, threshold) if len(again) else found


class _Judged(NamedTuple):
    """A fit, and which of its columns are there."""

    fit: Fit
    covariance: Float[Tensor, "n 3 3"]
    steps: OverSteps | None  # none in tiles without
    at_site: Bool[Tensor, " n"]  # at a place of a mean cell that holds one
    unseen: Bool[Tensor, " n"]  # of these, those without a maximum
    keep: Bool[Tensor, " n"]

    @staticmethod
    def of(fit: Fit, sites: Sites, model: ImageModel, threshold: float | None) -> "_Judged":
        """By their intensities, the mean cells, and the steps under them."""
        covariance, tiles, steps = fit.covariance(), fit.tiles, OverSteps.of(fit, model)
        keep = is_significant(fit, covariance, fit.shape.usual * FAINTEST, fit.resolved) & ~fit.fixed
        there, unseen = sites.judged(fit, covariance if steps is None else steps.added_to(covariance))
        lobes = are_lobes(fit, model)
        keep = keep | there if lobes is None else (keep & ~lobes) | there
        keep &= tiles.at(tiles.measured, fit.positions, fit.tile) & tiles.holds(fit.positions)
        if steps is not None:
            keep &= ~steps.faded(fit) & ~steps.hidden(fit, covariance, there, model)
            keep &= ~steps.alone(fit, covariance, there, keep)
        if threshold is not None:
            keep &= fit.intensity >= threshold / model.scale * model.area
        return _Judged(fit, covariance, steps, there, unseen, fit.strongest(keep))

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
    new = _described(judged.fit, (judged.covariance, judged.steps), model, kept, judged.unseen)
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
    start = Start.at(places.positions, places.tile, places.fixed, places.home)
    fit = fit_tiles(sites.tiles, model, start, known=known)
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
    tiles = told_beyond(prepared(windows, model), model, positions, tile)
    fit = set_out(tiles, model, Start.at(positions, tile, fixed))
    converge(fit, STEPS)
    covariance = fit.covariance()
    keep = as_index(tiles.at(tiles.measured, fit.positions, fit.tile) & tiles.holds(fit.positions))
    return _described(fit, (covariance, OverSteps.of(fit, model)), model, keep, fit.fixed)


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
    told: tuple[Float[Tensor, "n 3 3"], OverSteps | None],
    model: ImageModel,
    keep: Int[Tensor, " k"],
    unseen: Bool[Tensor, " n"],
) -> dict[str, Tensor]:
    """The attributes of `Columns` that are arrays, of some columns, ordered by tile; told are the covariance, and the steps under them."""
    covariance, steps = told
    keep = keep[torch.argsort(fit.tile[keep], stable=True)]
    errors = (model.correlation * covariance[keep].diagonal(dim1=1, dim2=2).clamp(min=0)).sqrt()
    if steps is not None:
        errors = torch.hypot(errors, steps.errors[keep])
    quality = fit.quality()[keep]
    positions, tile, tiles = fit.positions[keep], fit.tile[keep], fit.tiles
    _, h, w = tiles.shape
    inside = torch.minimum(positions, sent((h - 1, w - 1), positions) - positions)
    at_edge = (inside < fit.shape.width * CUT).any(1)
    reach = int(CUT * max(model.width)) + 1
    at_gap = _touches(tiles, positions, tile, ~tiles.measured, reach)
    if steps is not None:  # one higher than the column, under its Gaussian, is not known well enough
        at_gap |= steps.over[keep]
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
