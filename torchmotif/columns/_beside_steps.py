"""Pixels and columns beside the steps of a background: what the steps rise by there, and what is not known because of it."""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchmotif.columns._filters import measured_mean, without_slow
from torchmotif.columns._peaks import running_max
from torchmotif.columns._steps import UPPER
from torchmotif.columns.model import ImageModel, Pair, Tiles

__all__ = [
    "are_stepped",
    "fine_level",
    "flattened",
    "off_steps",
    "range_within",
    "rise_at",
    "rise_within",
    "variance_of_steps",
    "weights_in_cells",
    "weights_of_some",
]

# Of what it steps by within so many pixels of one, the error of the step there. Of six backgrounds 30 times as high as the contrast (a honeycomb's and a
# square lattice's edges and patches) the least recall or precision is 0.956 without it, 0.962 with 0.03, 0.971 with 0.06, 0.981 with 0.1 and 0.15; with 0.06 and one pixel 0.965.
_UNSURE, _BLUNT = 0.1, 2
# Standard deviations of a pixel by which what is taken off varies within a width where there is no step. What is more is the error
# of an intensity beside one. Over 64 backgrounds (`benchmarks/columns/background_steps.py`) the scatter of intensities there is about
# twice the step's height across a width, times the area of a column.
_RAGGED = 2.0
# Lattice constants: width of the blur that tells the noise of a pixel. Of 108 images of six crystals with light columns beside steps 66 have 0.97 with it, with half of it 65, with three times 67.
_AROUND = 1.0
# Lattice constants from a pixel, within which what a step rises by is an error there. With 0.03 to 0.3 of that error squares whose whole image is a slope had columns in their hollows (precision 0.36)
# while phases were drawn by what is left of a step; tests of steps and slopes pass without it since. With three times the error the same columns are found. What moves with the distance was not measured.
_HALF = 0.5
_LEAST = 1e-4  # of the mean variance of the pixels: on the dark side of a step 30 times as high as the columns there is a thousandth


def are_stepped(step: Float[Tensor, "t h w"]) -> Bool[Tensor, " t"]:
    """Which tiles have a step."""
    return (step != 0).flatten(1).any(1)


def off_steps(tiles: Tiles, spacing: float, axes: Pair) -> Tiles:
    """The tiles without the pixels over which the background steps by more than columns are high: what is left there of a step is no column's."""
    if tiles.step is None:
        return tiles
    reach = max(1, round(spacing * min(axes) / 2))
    usual = tiles.level[tiles.usable].sort().values
    if len(usual) == 0:
        return tiles
    high = usual[int(UPPER * len(usual))] - usual[len(usual) // 2]
    flat = rise_within(tiles, reach) <= high
    return replace(tiles, usable=tiles.usable & flat, saturated=tiles.saturated & flat)


def range_within(tiles: Tiles, reach: int) -> tuple[Float[Tensor, "t h w"], Float[Tensor, "t h w"]]:
    """The most and the least of what lies under columns within so many pixels of each, along rows and columns, in tiles of which some have a step.

    Where no step is near, the pixel's own: a smooth background is none.
    """
    assert tiles.step is not None and tiles.under is not None  # noqa: S101, PT018
    top, low = (running_max(running_max(one, reach, -1), reach, -2) for one in (tiles.under, -tiles.under))
    near = tiles.step != 0
    return torch.where(near, top, tiles.under), torch.where(near, -low, tiles.under)


def rise_within(tiles: Tiles, reach: int) -> Float[Tensor, "t h w"]:
    """By how much a step of the background rises within so many pixels of each, see `range_within`."""
    top, low = range_within(tiles, reach)
    return top - low


def rise_at(
    tiles: Tiles,
    positions: Float[Tensor, "n 2"],
    tile: Int[Tensor, " n"],
    model: ImageModel,
    noise: Float[Tensor, " n"],
) -> Float[Tensor, " n"]:
    """By how much a step of the background rises within a width of each place, beyond what such noise lets it vary; 0 where there is none."""
    if tiles.step is None:
        return torch.zeros_like(noise)
    rise = rise_within(tiles, int(max(model.width)) + 1)
    return (tiles.at(rise, positions, tile) - _RAGGED * noise).clamp(min=0)


def variance_of_steps(tiles: Tiles) -> Float[Tensor, "t h w"]:
    """Variance of a step of the background in every pixel: it is known to a share of what it steps by beside it.

    The dark side of an edge has so little noise that its pixels would outweigh all of a column on the bright side, and be wrong by more than that is high.
    """
    return (_UNSURE * rise_within(tiles, _BLUNT)).square()


def weights_in_cells(
    tiles: Tiles, rest: Float[Tensor, "t h w"], inside: Bool[Tensor, "t h w"], constant: float
) -> Float[Tensor, "t h w"]:
    """Weights of some pixels in the mean over cells with that lattice constant, 1 in their mean: one over the variance of what the cell leaves there.

    That is noise, of which there is more on the bright side of a step, and what is left of the step: as much as it rises within half a cell.
    """
    variance = measured_mean(
        without_slow(rest, inside, constant).square(), inside, _AROUND * constant, (1.0, 1.0)
    )
    number = inside.sum().clamp(min=1)
    # Where there is hardly any noise, what the blur is rounded by would tell the weights.
    variance = torch.maximum(variance, _LEAST * (variance * inside).sum() / number)
    if tiles.under is not None:
        sharp = replace(tiles, under=without_slow(tiles.under, tiles.measured, constant))
        variance = variance + rise_within(sharp, max(1, round(_HALF * constant))).square()
    return weights_of_some(1 / variance.clamp(min=1e-30), inside)


def weights_of_some(weights: Tensor, some: Tensor) -> Tensor:
    """Weights of some pixels, 1 in their mean."""
    weights = weights * some
    return weights * (some.sum().clamp(min=1) / weights.sum().clamp(min=1e-30))


def fine_level(tiles: Tiles, inside: Bool[Tensor, "t h w"], constant: float) -> Float[Tensor, "t h w"] | None:
    """The level in which phases are measured where the background is not even: without what changes little within a lattice constant, but in tiles without a step beside others with one.

    What is left of a step, or a slope that ends at a border, has more of weak orders than their columns, and draws the phases of strong ones by up to an eighth of a period.
    """
    if tiles.is_even:
        return None
    fine = without_slow(tiles.level, inside, constant)
    if tiles.slopes or tiles.step is None:
        return fine
    return torch.where(are_stepped(tiles.step)[:, None, None], fine, tiles.level)


def flattened(
    image: Float[Tensor, "t h w"],
    inside: Bool[Tensor, "t h w"],
    weights: Float[Tensor, "t h w"] | None,
    constant: float,
    *,
    steps: bool,
) -> Float[Tensor, "t h w"]:
    """An image of which the mean over cells is taken, without what changes slowly in some pixels: that is uncertain by more than the scatter of pixels tells, which is taken for that of white noise.

    The rest of `steps`, where its pixels have the weight of others, is not taken off: it follows the columns, and hollows of a square lattice would stand out (precision 0.49).
    """
    if not steps:
        image = without_slow(image, inside, constant)
    # After it: weights that differ within a cell see a slope beside its middle.
    return image if weights is None else without_slow(image, weights, constant)
