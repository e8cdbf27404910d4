"""The shape and the noise that all columns of an image have in common, from the part of it where they are most frequent."""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from torchmotif._arrays import sent
from torchmotif.columns._beside_steps import off_steps
from torchmotif.columns._correlated import correlation
from torchmotif.columns._fit import Fit
from torchmotif.columns._neighbours import as_index
from torchmotif.columns._noise import Noise
from torchmotif.columns._pairs import overdispersion
from torchmotif.columns._search import FAINTEST, converge_common, revised
from torchmotif.columns._start import Shape, Start
from torchmotif.columns._unexplained import left_over
from torchmotif.columns.grid import Grid
from torchmotif.columns.model import ImageModel, Tiles
from torchmotif.columns.spacing import UNEVEN, nearest_quartiles

__all__ = ["ABOUT", "START_WIDTH", "Learned", "learned_from"]

START_WIDTH = 0.22  # of the spacing: width of a column from which the fit sets out
_LEARNED = 32.0  # spacings: side of the part from which the common shape is learned
_LEAST_SIDE = 256  # pixels of it
# Steps that learn the shape, at most, before columns are revised: fewer where the width no longer changes, and no further ones where
# the revision has not changed it either. With (4, 2, 3) wide, blurred columns come out up to 2.8 % narrower. Where mean cells give the width and the
# places at first two do: of 39 simulated and real images of all kinds a third moves no recall and no precision by more than 0.001.
_LESSONS, _LESSONS_WITH_CELLS = (6, 3, 3), (6, 3)
# Distance of nearest columns after the fit over the spacing before it, for which the width need not be learned anew; and how far neighbours are
# looked for, in spacings.
ABOUT, _FAR = 1.2, 3.0


class Learned(NamedTuple):
    """What a part of the windows tells."""

    model: ImageModel
    nearest: float  # distance between nearest columns of the fit
    fit: Fit
    window: int
    origin: Tensor  # of the part in its window

    def density(self) -> float:
        """Columns per pixel."""
        return len(self.fit) / self.fit.data.numel()

    def unexplained(self) -> float:
        """Share of what repeats in it that its columns leave over."""
        fit, columns = self.fit, self.fit.profile.crop(self.fit.canvas)
        return float(left_over(fit.tiles, columns, fit.spacing, self.model.axes, self.model.width))


def learned_from(
    tiles: Tiles, model: ImageModel, at: Tensor, tile: Tensor, fixed: Tensor | None = None
) -> Learned:
    """The common shape of the columns, from where they are most frequent, and their least intensity."""
    window, origin, part, positions, chosen = _densest(tiles, model, at, tile)
    spacing, device = model.spacing, part.data.device
    one_tile = torch.zeros_like(positions[:, 0], dtype=torch.long)
    start = Start.at(positions, one_tile, None if fixed is None else fixed[chosen])
    around = model.cells[0].width if model.cells else START_WIDTH * spacing
    width = sent(model.axes, part.data) * around
    one = width.new_ones(())
    shape = Shape(
        width,
        around * max(model.axes),
        model.axes,
        Noise.of((-1.0, 1.0, 1.0, 1.0), device),
        one,
        one * 0,
    )
    usable = as_index(part.usable.flatten())
    lessons = _LESSONS_WITH_CELLS if model.cells else _LESSONS
    for number, steps in enumerate(lessons, start=1):
        fit = Fit(part, start, shape, spacing)
        usual, settled = converge_common(fit, steps, usable, fresh=number == 1)
        fit.weigh(fit.expected)
        shape = replace(fit.shape, overdispersion=overdispersion(fit), usual=usual)
        fit.shape = shape
        if (settled and number > 1) or number == len(lessons):
            break
        fit.assemble(fit.expected)
        start, _, _, _ = revised(fit, FAINTEST * usual)
    quartiles = nearest_quartiles(
        fit.spread[as_index(fit.intensity > FAINTEST * fit.shape.usual)], _FAR * spacing
    )
    noise = shape.noise
    numbers = [*shape.width, shape.overdispersion, FAINTEST * shape.usual, *quartiles]
    numbers += [correlation(fit), noise.low, noise.high, noise.at_low, noise.at_high]
    told = torch.stack([n.double() for n in numbers]).tolist()
    wide, high, over, faintest, lower, nearest, upper, correlated, *ends = told
    model = replace(
        model,
        width=(wide, high),
        noise=tuple(ends),
        faintest=faintest,
        overdispersion=over,
        correlation=correlated,
    )
    # Noise makes the nearest distances shorter, by less than their spread; false columns make them uneven. Where they are longer,
    # columns that only the mean of cells shows were not fitted.
    even, off = upper - lower <= UNEVEN * nearest, abs(nearest - spacing) > upper - lower
    told = lower > 0 and ((even and off) or nearest > ABOUT * spacing)
    return Learned(model, nearest if told else spacing, fit, window, origin)


def _densest(
    tiles: Tiles, model: ImageModel, at: Tensor, tile: Tensor
) -> tuple[int, Tensor, Tiles, Tensor, Tensor]:
    """The part of the windows with the most columns: its window and first pixel, it itself, their positions in it, their numbers."""
    side = round(max(_LEARNED * model.spacing, _LEAST_SIDE))
    t, h, w = tiles.shape
    grid = Grid((h, w), side, model.margin)
    parts = [grid[number] for number in range(len(grid))]
    cores = sent([part.core for part in parts], at)
    inside = ((at[:, None] >= cores[:, :2] - 0.5) & (at[:, None] < cores[:, 2:] - 0.5)).all(2)
    count = torch.zeros(t, len(parts), dtype=torch.long, device=at.device).index_add_(0, tile, inside.long())
    window, part = divmod(int(count.argmax()), len(parts))
    top, left, bottom, right = parts[part].window
    chosen = tiles.some(slice(window, window + 1)).cut(slice(top, bottom), slice(left, right))
    origin = sent([top, left], at)
    local = at - origin
    end = sent([bottom - top, right - left], local) - 0.5
    here = (tile == window) & ((local >= -0.5) & (local <= end)).all(1)
    if chosen.step is not None:
        flat = off_steps(chosen, model.spacing, model.axes)
        there = here & flat.at(flat.measured, local, torch.zeros_like(tile))
        # The step of a small particle is the particle.
        if bool(2 * there.sum() > here.sum()):
            chosen, here = flat, there
    number = as_index(here)
    return window, origin, chosen, local[number], number
