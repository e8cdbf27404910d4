"""The mean cells of an image whose rows may have offsets, and whose tops may be cut off."""

import math
from dataclasses import replace

import numpy as np
import torch

from torchmotif.columns._beside_steps import off_steps, rise_within
from torchmotif.columns._detectable import NoColumnsError, detectable
from torchmotif.columns._fit import Fit
from torchmotif.columns._folding import above
from torchmotif.columns._learned import learned_from
from torchmotif.columns._mean_cell import cells_of
from torchmotif.columns._predicted import AGREES, without_rows
from torchmotif.columns._rows import LEFT, hum_of, left_in_rows
from torchmotif.columns._search import fit_tiles
from torchmotif.columns._start import Start
from torchmotif.columns._territories import lattice_constant, located
from torchmotif.columns.model import Cell, ImageModel, Tiles

__all__ = ["is_hummed", "sought_cells"]

# Times that mean cells are sought where rows have offsets, each without what those before have left in them. With one, oxygen of PbTiO3 has half of its columns in one image of six.
_ROUNDS = 2
# Of the brightest site, whose tops are cut off: what others have at least, and of the pixels those that are cut off, from which on they must. In WS2 with 12 and 10 % of its
# pixels clipped the hollows have 0.027 and 0.030, with 8 % in MoS2 0.033, with 4.4 % and less in neither (384 px, 10 and 1 e/px); oxygen of PbTiO3 has 0.03 in the mean of two domains.
_BESIDE_TOPS, _CUT_OFF = 0.04, 0.05
# Of the pixels of a cell, those within a lattice constant of which the background steps by more than its brightest column is high, from which on what it has more than another
# cell is a step's: of two such cells (MX2, steps of 5 and 8 times the height) 0.98 and 1.00, of the crystal beside it 0.34 and 0.48.
_BESIDE_STEPS = 0.75


def sought_cells(tiles: Tiles, model: ImageModel, spacing: float) -> tuple[Tiles, tuple[Cell, ...]]:
    """The tiles without what a fit of single maxima has left in rows, and the mean cells that they show."""
    cut_off = 0.0 if model.limit is None else float(tiles.saturated.sum() / tiles.measured.sum().clamp(min=1))
    tiles, whole = _restored(tiles, model, spacing) if model.hum or cut_off else (tiles, tiles)
    flat = off_steps(whole, spacing, model.axes)
    cells: tuple[Cell, ...] = ()
    for _ in range(_ROUNDS if model.hum else 1):
        found = cells_of(without_rows(flat, model, cells), spacing, hum=model.hum)
        cells = found if len(found) >= len(cells) else cells  # what hides a crystal is no better
    cells = _not_of_steps(flat, cells)
    return tiles, tuple(_bright(cell) for cell in cells) if cut_off > _CUT_OFF else cells


def is_hummed(tiles: Tiles, model: ImageModel, spacing: float) -> bool:
    """Whether a fit of single maxima leaves rows that differ: columns in rows that drift are fitted, hum is not."""
    fit = _of_maxima(tiles, model, spacing)
    return fit is not None and float(hum_of(fit.data - fit.expected, tiles.usable)[1]) > LEFT


def _not_of_steps(tiles: Tiles, cells: tuple[Cell, ...]) -> tuple[Cell, ...]:
    """Cells without those that are another one and what the rest of a step adds to it: hollows beside the step would be columns."""
    more = [n for n, one in enumerate(cells) if _has_more(one, cells)]
    if tiles.step is None or not more:
        return cells
    asked = []
    for cell, where in zip(cells, located(tiles, cells), strict=True):
        height = max(cell.intensities) / (2 * math.pi * cell.width**2)
        inside = above(where.inside, where.agrees.field[:, :1], AGREES)
        asked.append(
            torch.stack(
                [((rise_within(tiles, round(lattice_constant(cell))) > height) & inside).sum(), inside.sum()]
            )
        )
    counts = torch.stack(asked).tolist()
    return tuple(
        one for n, one in enumerate(cells) if n not in more or counts[n][0] <= _BESIDE_STEPS * counts[n][1]
    )


def _has_more(cell: Cell, cells: tuple[Cell, ...]) -> bool:
    """Whether a cell has the sites of another on its lattice, and further ones."""
    real = np.linalg.inv(np.array(cell.orders)).T
    for other in cells:
        if other.orders != cell.orders or len(other.sites) >= len(cell.sites):
            continue
        gap = np.array(cell.sites)[:, None] - np.array(other.sites)
        if (np.linalg.norm((gap - np.round(gap)) @ real, axis=2) < cell.width).any(0).all():
            return True
    return False


def _bright(cell: Cell) -> Cell:
    """A cell without its faintest sites, which may be but what tops that were guessed leave between columns."""
    return cell.some([bright > _BESIDE_TOPS * max(cell.intensities) for bright in cell.intensities])


def _restored(tiles: Tiles, model: ImageModel, spacing: float) -> tuple[Tiles, Tiles]:
    """The tiles without what a fit of single maxima has left in rows, and these with tops in place of saturated pixels, for mean cells.

    A cell without its tops holds no column: they are as high as the mean of a Gaussian above the limit, the expectation step for censored
    data (Tobin 1958; Dempster, Laird & Rubin 1977).
    """
    fit = _of_maxima(tiles, model, spacing)
    if fit is None:
        return tiles, tiles
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


def _of_maxima(tiles: Tiles, model: ImageModel, spacing: float) -> Fit | None:
    """A fit of single maxima, None where there are none."""
    try:
        model, at, tile = detectable(tiles, replace(model, spacing=spacing))
    except NoColumnsError:
        return None
    model = learned_from(tiles, model, at, tile).model
    return fit_tiles(tiles, model, Start.at(at, tile), known=False)
