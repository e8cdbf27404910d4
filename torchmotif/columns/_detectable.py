"""The maxima of an image that stand out of its noise, each of which may be a column."""

from dataclasses import replace

import torch
from torch import Tensor

from torchmotif.columns._filters import filter_gain, level_between_peaks, noise_level, significance
from torchmotif.columns._neighbours import picked
from torchmotif.columns._peaks import maxima, outstanding
from torchmotif.columns.model import ImageModel, Tiles
from torchmotif.errors import InputError

__all__ = ["NoColumnsError", "detectable"]

# Pixels: of columns nearer than that 2 x 2 pixels hold the contrast, which would be taken for noise. A square lattice has 1.7 times
# the noise at 2.5 px, 1.2 times at 3.5 px, where all columns are found all the same.
_CLOSE = 4.0
_SIGNIFICANT = 0.2  # of the maxima must be rare even among single electrons


class NoColumnsError(InputError):
    """An image whose columns do not stand out of its noise; `model` is what is known of it."""

    def __init__(self, model: ImageModel, *, amorphous: bool = False) -> None:
        self.model, self.amorphous = model, amorphous
        super().__init__(
            "image: nothing in it repeats, and its maxima are those of noise of their size, as an amorphous film has them: no "
            "atomic columns; set spacing= to have them all the same"
            if amorphous
            else "image: no atomic columns stand out of its noise; set spacing, or polarity='dark' for a bright-field image"
        )


def detectable(tiles: Tiles, model: ImageModel) -> tuple[ImageModel, Tensor, Tensor]:
    """The model with the least height of a column, and the positions and windows of those that have it."""
    spacing, axes = model.spacing, model.axes
    at, height, tile = maxima(tiles, tiles.level, spacing, axes)
    # Windows that were hardly measured have hardly any noise.
    share = tiles.usable.flatten(1).float().mean(1)
    noise = noise_level(tiles.data)
    if spacing * min(axes) < _CLOSE:
        noise = torch.minimum(noise, level_between_peaks(tiles.data))
    level = torch.where(share >= share.max() / 2, noise, torch.nan).nanmedian()
    area = tiles.data.numel()
    keep = outstanding(height, level * filter_gain(spacing), spacing, area)
    score = significance(height, tiles.data, level, spacing, axes)
    rare = outstanding(height, height / score, spacing, area)
    # Where most are but a few electrons together, only those that are rare even then.
    keep = torch.where(rare.sum() < _SIGNIFICANT * keep.sum(), rare, keep)
    keep &= tiles.at(tiles.measured, at, tile)
    if len(height) == 0:
        raise NoColumnsError(model)
    least, count = torch.stack([torch.where(keep, height, torch.inf).min(), keep.sum()]).tolist()
    if count == 0:
        raise NoColumnsError(model)
    kept = picked(keep, int(count))
    return replace(model, least=least), at[kept], tile[kept]
