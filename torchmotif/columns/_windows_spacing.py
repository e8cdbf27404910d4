"""The spacing that windows of an image show, without the steps of their background, and which of them tell it."""

from dataclasses import replace

import torch
from torch import Tensor

from torchmotif.columns._filters import noise_around
from torchmotif.columns._periodic import repeats
from torchmotif.columns._steps import has_steps, stepped
from torchmotif.columns.model import Pair, Tiles
from torchmotif.columns.spacing import flattened, measured_spacing
from torchmotif.errors import InputError

__all__ = ["FIRST_LOOK", "spacing_of", "telling"]

FIRST_LOOK = 3  # windows along each axis of an image
_MEASURED = 5  # of them, that tell the spacing
# Of a window's side: distance between columns that is taken for granted where a step hides it. Of 16 images of 256 px with columns 8 to
# 32 px apart and steps of ten or thirty times the contrast the spacing is right in 14 with 1/16 and in nine with 1/6
# (`benchmarks/columns/constants.py hidden`). A spacing so many times wider may be the size of what steps.
_HIDDEN = 1 / 16
_WIDE = 2.0


def spacing_of(tiles: Tiles, axes: Pair) -> float:
    """The spacing in some windows, without the steps of the background if there are any."""
    usual = _HIDDEN * min(tiles.shape[1:])
    try:
        found = measured_spacing(tiles, axes)
    except InputError:
        if not has_steps(tiles, usual, axes):
            raise
        found = usual
    if not has_steps(tiles, found, axes) and not _is_of_a_step(tiles, found, usual, axes):
        return found
    flat = replace(tiles, data=stepped(tiles, usual, axes).level, step=None, under=None)
    evened = replace(flat, data=flat.data * _evenness(tiles, usual / 2))
    # Of a particle in vacuum it would take the columns: what is left must repeat.
    repeat = any(one is not None for one in repeats(*flattened(evened), axes))
    return measured_spacing(evened if repeat else flat, axes)


def _is_of_a_step(tiles: Tiles, found: float, usual: float, axes: Pair) -> bool:
    """Whether a wide spacing, by which nothing repeats, is but the size of what steps: of a patch brighter than all columns."""
    if found < _WIDE * usual or any(one is not None for one in repeats(*flattened(tiles), axes)):
        return False
    return has_steps(tiles, usual, axes)


def _evenness(tiles: Tiles, sigma: float) -> Tensor:
    """Factor (t, h, w) by which the noise around a pixel is no more than usual: that of a bright patch, many times as much, would have a ring of its own."""
    noise = noise_around(tiles.data, sigma).sqrt()
    usual = noise.where(tiles.measured, torch.nan).flatten(1).nanmedian(1).values.nan_to_num(torch.inf)
    return (usual[:, None, None] / noise).clamp(max=1)


def telling(tiles: Tiles) -> Tensor | slice:
    """A few windows that tell the spacing: of those that were measured most, spread evenly; all where few were not enough."""
    t = len(tiles.data)
    if not _MEASURED < t <= FIRST_LOOK**2:
        return slice(None)
    spread = torch.cat([torch.arange(0, t, 2), torch.arange(1, t, 2)]).to(tiles.data.device)
    measured = tiles.measured.flatten(1).float().mean(1)[spread].mul(8).round()
    return spread[torch.argsort(measured, descending=True, stable=True)[:_MEASURED]]
