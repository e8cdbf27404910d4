"""The mean cells of an image whose rows may have offsets, and whose tops may be cut off."""

import math
from dataclasses import replace
from itertools import compress

import torch

from torchmotif.columns._detectable import NoColumnsError, detectable
from torchmotif.columns._learned import learned_from
from torchmotif.columns._mean_cell import cells_of
from torchmotif.columns._predicted import without_rows
from torchmotif.columns._rows import left_in_rows
from torchmotif.columns._search import fit_tiles
from torchmotif.columns._steps import off_steps
from torchmotif.columns.model import Cell, ImageModel, Tiles

__all__ = ["sought_cells"]

# Times that mean cells are sought where rows have offsets, each without what those before have left in them. With one, oxygen of PbTiO3 has half of its columns in one image of six.
_ROUNDS = 2
# Of the brightest site, whose tops are cut off: what others have at least, and of the pixels those that are cut off, from which on they must. In WS2 with 12 and 10 % of its
# pixels clipped the hollows have 0.027 and 0.030, with 8 % in MoS2 0.033, with 4.4 % and less in neither (384 px, 10 and 1 e/px); oxygen of PbTiO3 has 0.03 in the mean of two domains.
_BESIDE_TOPS, _MANY = 0.04, 0.05


def sought_cells(tiles: Tiles, model: ImageModel, spacing: float) -> tuple[Tiles, tuple[Cell, ...]]:
    """The tiles without what a fit of single maxima has left in rows, and the mean cells that they show."""
    cut_off = 0.0 if model.limit is None else float(tiles.saturated.sum() / tiles.measured.sum().clamp(min=1))
    tiles, whole = _restored(tiles, model, spacing) if model.hum or cut_off else (tiles, tiles)
    flat = off_steps(whole, spacing, model.axes)
    cells: tuple[Cell, ...] = ()
    for _ in range(_ROUNDS if model.hum else 1):
        found = cells_of(without_rows(flat, model, cells), spacing, hum=model.hum)
        cells = found if len(found) >= len(cells) else cells  # what hides a crystal is no better
    return tiles, tuple(_bright(cell) for cell in cells) if cut_off > _MANY else cells


def _bright(cell: Cell) -> Cell:
    """A cell without its faintest sites, which may be but what tops that were guessed leave between columns."""
    kept = [bright > _BESIDE_TOPS * max(cell.intensities) for bright in cell.intensities]
    return replace(
        cell, sites=tuple(compress(cell.sites, kept)), intensities=tuple(compress(cell.intensities, kept))
    )


def _restored(tiles: Tiles, model: ImageModel, spacing: float) -> tuple[Tiles, Tiles]:
    """The tiles without what a fit of single maxima has left in rows, and these with tops in place of saturated pixels, for mean cells.

    A cell without its tops holds no column: they are as high as the mean of a Gaussian above the limit, the expectation step for censored
    data (Tobin 1958; Dempster, Laird & Rubin 1977).
    """
    try:
        model, at, tile = detectable(tiles, replace(model, spacing=spacing))
    except NoColumnsError:
        return tiles, tiles
    model = learned_from(tiles, model, at, tile).model
    fit = fit_tiles(tiles, model, at, tile, torch.zeros_like(tile, dtype=torch.bool), known=False)
    if model.hum:
        tiles = replace(tiles, data=tiles.data - left_in_rows(fit.data, fit.expected, fit.weights))
    spread = fit.shape.noise.variance(fit.expected).sqrt()
    below = (tiles.data - fit.expected) / spread
    # Density over the share above the limit, by logarithms: far below the limit both are nothing.
    rise = torch.exp(-below.square() / 2 - torch.special.log_ndtr(-below)) / math.sqrt(2 * math.pi)
    tops = torch.maximum(tiles.data, fit.expected + spread * rise)
    data = torch.where(tiles.saturated, tops, tiles.data)
    none = torch.zeros_like(tiles.saturated)
    return tiles, replace(tiles, data=data, usable=tiles.measured, saturated=none)
