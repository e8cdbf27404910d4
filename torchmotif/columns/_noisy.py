"""What noise hides of the columns of an image where there is more of it: on the bright side of a step or a slope."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchmotif._arrays import sent
from torchmotif.columns._guided import SAME, Sites
from torchmotif.columns._neighbours import is_near, nearest_within
from torchmotif.columns._parts import FEW
from torchmotif.columns._search import SIGNIFICANT
from torchmotif.columns.model import ImageModel, Tiles

__all__ = ["NOTHING", "Noisy", "is_uneven", "where_noisy"]

# Noise is uneven where a tenth of the pixels has so many times the variance of another tenth: twice the standard deviation. What moves with it was not measured.
_TENTH, _UNEVEN = 0.1, 4.0
# Squared standard deviations of a column's intensity, below which those of its kind around it, too, tell hardly whether they are at their places: some twenty of them reach four standard
# deviations together. What moves with it was not measured.
_TOLD = 0.8


class Noisy(NamedTuple):
    """What is not known of columns where noise is more.

    Attributes
    ----------
    lost : float
        Share of the mean cell's places that hold no column where noise is more than at most places, less that at the others.
    drowned : float
        Share of the columns that noise hides where it is more: so many of those where it is less would not stand out there.
    assumed : float
        Share of the columns that are found where the mean cell has them, and of which noise hides whether they are.
    """

    lost: float = 0.0
    drowned: float = 0.0
    assumed: float = 0.0


NOTHING = Noisy()


def is_uneven(variance: Float[Tensor, "t h w"], usable: Bool[Tensor, "t h w"]) -> bool:
    """Whether the noise of a tenth of the pixels is more than so many times that of another tenth."""
    known = variance[usable]
    if len(known) == 0:
        return False
    few, most = (known.kthvalue(max(1, round(share * len(known)))).values for share in (_TENTH, 1 - _TENTH))
    return bool(most > _UNEVEN * few)


def where_noisy(
    tiles: Tiles,
    model: ImageModel,
    variance: Float[Tensor, "t h w"],
    columns: tuple[Float[Tensor, "n 2"], Float[Tensor, " n"]],
    sites: Sites | None,
) -> Noisy:
    """What the noise of one tile, whose `variance` is uneven, hides.

    Parameters
    ----------
    tiles, model
    variance : Tensor of shape (1, h, w)
    columns : Tensors of shape (n, 2) and (n,)
        Positions, and intensities over the model's scale.
    sites : Sites or None
        Places of the mean cells, if there are any.
    """
    (positions, intensity), axes = columns, sent(model.axes, columns[0])
    tile = torch.zeros(len(positions), dtype=torch.long, device=positions.device)
    noise = tiles.at(variance, positions, tile).double()
    if sites is None or len(sites.positions) == 0:
        return Noisy(drowned=_drowned(model, noise, intensity, None))
    places = sites.positions / axes
    site = nearest_within(positions / axes, places, SAME * model.spacing)
    empty = ~is_near(places, positions / axes, SAME * model.spacing)
    return Noisy(
        _lost(tiles, variance, sites, empty),
        _drowned(model, noise, intensity, site >= 0),
        _assumed(model, noise, sites, site),
    )


def _lost(tiles: Tiles, variance: Float[Tensor, "t h w"], sites: Sites, empty: Bool[Tensor, " m"]) -> float:
    """Share of the mean cells' places that are empty where noise is nearer to the most than to the least of it, less that at the others; 0 where either are few."""
    there = tiles.at(tiles.measured, sites.positions, sites.tile)
    noise = torch.where(there, tiles.at(variance, sites.positions, sites.tile), torch.nan)
    # By ratios: one side of a step may be most of the image, and its median noise tells nothing from it.
    few, many = noise.nanquantile(sent([_TENTH, 1 - _TENTH], noise))
    above = noise > (few * many).sqrt()
    below = there & ~above
    if min(int(above.sum()), int(below.sum())) < FEW:
        return 0.0
    return float(empty[above].double().mean() - empty[below].double().mean())


def _drowned(
    model: ImageModel,
    noise: Float[Tensor, " n"],
    intensity: Float[Tensor, " n"],
    guided: Bool[Tensor, " n"] | None,
) -> float:
    """Share of the columns that are likely not found where noise is more; 0 where those of less noise are few, or are no measure.

    Of the columns where noise is less so many would not stand out of it there. At the places of mean cells, which guide to them, fainter ones are found, too; and these tell how much
    thicker the crystal is where noise is more, or all columns where there is no cell.
    """
    count = len(noise)
    if count < FEW:
        return 0.0
    most = noise[noise > _UNEVEN * noise.kthvalue(math.ceil(_TENTH * count)).values]
    if len(most) < FEW:
        return 0.0
    usual = most.median()
    quiet, loud = noise < usual / _UNEVEN, noise >= usual / 2
    measure = torch.ones_like(quiet) if guided is None else guided
    guided = torch.zeros_like(quiet) if guided is None else guided
    if int(quiet.sum()) < FEW or not bool((quiet & measure).any() & (loud & measure).any()):
        return 0.0
    bright = intensity.double()
    thicker = (bright[loud & measure].median() / bright[quiet & measure].median()).clamp(min=1)
    error = _error(model, noise[loud].median())
    hidden = torch.special.ndtr(SIGNIFICANT - thicker * bright[quiet] / error) * ~guided[quiet]
    return float(hidden.mean() * loud.sum() / count)


def _assumed(model: ImageModel, noise: Float[Tensor, " n"], sites: Sites, site: Int[Tensor, " n"]) -> float:
    """Share of the columns at places of mean cells that noise hides so much, where it is more, that others of their kind around them tell nothing of them, either."""
    if len(noise) == 0:
        return 0.0
    expected = (sites.intensity * sites.part)[site].double()
    more = noise > _UNEVEN * noise.kthvalue(math.ceil(_TENTH * len(noise))).values
    hidden = (site >= 0) & more & (expected.square() < _TOLD * _error(model, noise).square())
    return float(hidden.double().mean())


def _error(model: ImageModel, noise: Tensor) -> Tensor:
    """Standard deviation of a column's intensity among noise of that variance."""
    return (4 * math.pi * math.prod(model.width) * noise).sqrt()
