"""Intensities at given places: a joint fit of columns whose positions are known, and of the background under them."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from torchmotif._arrays import sent
from torchmotif._threads import in_threads, single_threaded
from torchmotif.columns._detectable import NoColumnsError
from torchmotif.columns._fit import Fit
from torchmotif.columns._learned import START_WIDTH
from torchmotif.columns._neighbours import as_index
from torchmotif.columns._predicted import told_beyond
from torchmotif.columns._search import STEPS, converge, converge_common, set_out
from torchmotif.columns._start import Start
from torchmotif.columns.calibrate import calibrate_image
from torchmotif.columns.grid import Grid, in_core, tile_side
from torchmotif.columns.model import ImageModel, Pair, Tiles
from torchmotif.columns.pixels import limit_of
from torchmotif.columns.tiled import prepared

__all__ = ["Intensities", "intensities_at", "model_at", "model_of"]

# Spacings, and the least pixels, of the window from which the width is learnt: some two thousand columns.
_LEARNT_SPACINGS, _LEARNT_SIDE = 40.0, 256
_LESSONS = 3  # of two steps each: from the first on the noise is known, and with it the weights of the next
_FEWEST = 12  # columns that tell their width


class Intensities(NamedTuple):
    """What a fit says of columns at n given places; arrays of shape (n,), float64, NaN where nothing was measured."""

    values: NDArray[np.float64]  # integrated intensities, in the image's units times square pixels
    errors: NDArray[np.float64]  # standard deviations, with all neighbours fitted


def model_of(pixels: Float[Tensor, "h w"], spacing: float, axes: Pair, *, dark: bool) -> ImageModel:
    """The model of an image whose spacing and polarity are known."""
    limit = limit_of(pixels, dark=dark)
    try:
        return calibrate_image(
            [lambda box: pixels[box[0] : box[2], box[1] : box[3]]],
            (pixels.shape[0], pixels.shape[1]),
            axes=axes,
            limit=limit,
            dark=dark,
            spacing=spacing,
        )
    except NoColumnsError as error:
        return replace(error.model, width=(START_WIDTH * spacing * axes[0], START_WIDTH * spacing * axes[1]))


def model_at(pixels: Float[Tensor, "h w"], model: ImageModel, positions: NDArray[np.float64]) -> ImageModel:
    """The model with width and noise learnt from columns whose positions are known.

    Of few electrons, columns that stand out by chance look narrow; columns that are known do not.
    """
    h, w = pixels.shape
    side = max(_LEARNT_SIDE, round(_LEARNT_SPACINGS * model.spacing))
    boxes = [
        (*(first + max(0, last - first - side) // 2 for first, last in ((a, c), (b, d))),)
        for a, b, c, d in Grid.samples((h, w), side=side)
    ]
    boxes = [(a, b, min(a + side, h), min(b + side, w)) for a, b in boxes]
    cores = np.array(boxes)
    inside = (positions >= cores[:, None, :2] - 0.5) & (positions <= cores[:, None, 2:] - 0.5)
    count = inside.all(2).sum(1)
    if count.max(initial=0) < _FEWEST:
        return model
    chosen = int(count.argmax())
    top, left, bottom, right = boxes[chosen]
    at = torch.from_numpy(positions[inside[chosen].all(1)] - [top, left]).to(pixels.device)
    with single_threaded():
        tiles = prepared(pixels[None, top:bottom, left:right], model)
        fit = _fixed(tiles, model, at, torch.zeros(len(at), dtype=torch.long, device=pixels.device))
        usable = as_index(tiles.usable.flatten())
        for _ in range(_LESSONS):
            converge_common(fit, 2, usable, fresh=True)
    wide, high = fit.shape.width.tolist()
    return replace(model, width=(wide, high), noise=fit.shape.noise.numbers())


def intensities_at(
    pixels: Float[Tensor, "h w"], model: ImageModel, positions: NDArray[np.float64]
) -> Intensities:
    """Intensities of columns at given positions, fitted together tile by tile; each belongs to the tile whose core holds it."""
    grid = Grid((pixels.shape[0], pixels.shape[1]), tile_side(model.spacing), model.margin)
    every = torch.from_numpy(np.asarray(positions, np.float64)).to(pixels.device)

    def work(numbers: range) -> Tensor:
        boxes = [grid[number].window for number in numbers]
        cores = sent([grid[number].core for number in numbers], pixels, torch.long)
        corners = sent(boxes, pixels, torch.long)
        inside = (every >= corners[:, None, :2] - 0.5) & (every <= corners[:, None, 2:] - 0.5)
        tile, which = torch.nonzero(inside.all(dim=2)).unbind(1)
        at = every[which] - corners[tile, :2]
        tiles = prepared(torch.stack([pixels[a:c, b:d] for a, b, c, d in boxes]), model)
        tiles = told_beyond(tiles, model, at, tile)
        fit = _fixed(tiles, model, at, tile)
        converge(fit, STEPS)
        fit.assemble(fit.expected)
        error = (model.correlation * fit.covariance()[:, 0, 0].clamp(min=0)).sqrt()
        mine = in_core(cores[tile], every[which], grid.shape) & tiles.at(tiles.measured, fit.positions, tile)
        found = torch.stack([which.double(), fit.intensity.double(), error.double()], dim=1)
        return found[mine]

    parts = in_threads(work, grid.batches(pixels.device.type), pixels.device)
    found = torch.cat(parts).cpu().numpy()
    values, errors = np.full((2, len(positions)), np.nan)
    index = found[:, 0].astype(np.int64)
    values[index], errors[index] = found[:, 1] * model.scale, found[:, 2] * model.scale
    return Intensities(values, errors)


def _fixed(tiles: Tiles, model: ImageModel, positions: Float[Tensor, "n 2"], tile: Int[Tensor, " n"]) -> Fit:
    """A fit in which no column moves."""
    return set_out(tiles, model, Start.at(positions, tile, torch.ones_like(tile, dtype=torch.bool)))
