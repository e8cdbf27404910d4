"""Whether an image shows nothing but speckle: noise that a probe has blurred, which has maxima but no columns."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torchmotif.columns._crystal import supports
from torchmotif.columns._filters import matched_filter
from torchmotif.columns._periodic import repeats
from torchmotif.columns.model import ImageModel, Tiles
from torchmotif.columns.spacing import flattened

__all__ = ["is_amorphous"]

# Skewness and excess kurtosis of the matched-filtered image that the sum of many atoms at random may have: simulated carbon, Gaussian
# and Poisson speckle have up to 0.15 either way, with ten atoms or fewer under the probe up to 0.3; a colloid has -1.0 to -0.9, the
# pentagonal oxide 1.7. Beside it the standard error of as many independent samples as columns would fit in counts.
_SKEWED, _PEAKED = 0.3, 0.4
_SUPPORTED = 0.1  # of the maxima, by their neighbours: of speckle 0.001
_WINDOWS = 2  # with the most maxima that are looked at


def is_amorphous(tiles: Tiles, model: ImageModel, at: Float[Tensor, "n 2"], tile: Int[Tensor, " n"]) -> bool:
    """Whether windows are as Gaussian as noise of their spectrum, with maxima that share no vectors, and do not repeat.

    Parameters
    ----------
    tiles : Tiles
    model : ImageModel
        Of which spacing and axes count.
    at, tile
        The maxima.
    """
    count = torch.zeros(len(tiles.data), device=tile.device).index_add_(
        0, tile, torch.ones_like(at[:, 0]).float()
    )
    most = torch.argsort(count, descending=True, stable=True)[:_WINDOWS]
    few = tiles.some(most)
    if not _is_gaussian(few, model):
        return False
    for window in most.tolist():
        here = {"positions": at[tile == window]}
        _, supported = supports(here, model.spacing, model.axes, (tiles.shape[1], tiles.shape[2]))
        if supported.sum() > _SUPPORTED * len(supported):
            return False
    return all(one is None for one in repeats(*flattened(few), model.axes))


def _is_gaussian(tiles: Tiles, model: ImageModel) -> bool:
    """Whether the third and fourth moments of matched-filtered windows are those of a Gaussian field."""
    filtered = matched_filter(tiles.level, model.spacing, model.axes, 1).double()
    weight = tiles.measured.double()
    count = weight.sum().clamp(min=1)
    filtered = (filtered - (filtered * weight).sum() / count) * weight
    variance = (filtered.square().sum() / count).clamp(min=1e-30)
    skewness = filtered.pow(3).sum() / count / variance**1.5
    kurtosis = filtered.pow(4).sum() / count / variance**2 - 3
    samples = (count / model.spacing**2).clamp(min=1)
    skewed = skewness.abs() < _SKEWED + (6 / samples).sqrt()
    return bool(skewed & (kurtosis.abs() < _PEAKED + (24 / samples).sqrt()))
