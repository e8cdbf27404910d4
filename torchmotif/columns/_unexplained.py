"""What columns leave over of what repeats in an image: the share of its power that they do not explain."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from torchmotif.columns._periodic import incoherent
from torchmotif.columns.model import Pair, Tiles

__all__ = ["left_over"]

# Of the spacing's frequency, below which the background is; of the power of a column's Gaussian, what is left at the highest frequency that
# tells. Periods per spacing up to which it tells all the same.
_SLOW, _LEFT, _FINE = 0.6, 1e-3, 2.5
# Times the power of what does not repeat: noise alone exceeds it once in three million.
_CLEAR = 15.0
_FEW = 12  # frequencies that repeat, below which nothing is told


def left_over(
    tiles: Tiles, columns: Float[Tensor, "t h w"], spacing: float, axes: Pair, width: Pair
) -> Float[Tensor, ""]:
    """Share of the power of what repeats in images that is left when their columns are taken off.

    Of the frequencies at which an image, or what is left of it, stands out of what does not repeat: noise, speckle and a smooth background
    are in neither. It is 0 where columns explain all, and where nothing repeats; columns that lie on each other and are taken
    for one, or a sublattice that is missing, leave a share at any dose.

    Parameters
    ----------
    tiles : Tiles
        Of which the steps are known.
    columns : Tensor of shape (t, h, w)
        Their Gaussians.
    spacing, axes, width
        See `ImageModel`.
    """
    _, h, w = tiles.shape
    like_ = tiles.data
    window = torch.hann_window(h + 2, periodic=False, device=like_.device)[1:-1, None]
    window = window * torch.hann_window(w + 2, periodic=False, device=like_.device)[1:-1] * tiles.measured

    def spectrum(image: Tensor) -> Tensor:
        mean = (image * window).sum((1, 2)) / window.sum((1, 2)).clamp(min=1e-9)
        power: Tensor = torch.fft.rfft2((image - mean[:, None, None]) * window).abs().square()
        return power

    whole, rest = spectrum(tiles.level), spectrum(tiles.level - columns)
    floor = incoherent(rest, axes)
    fy = torch.fft.fftfreq(h, device=like_.device)[:, None]
    fx = torch.fft.rfftfreq(w, device=like_.device)
    frequency = torch.hypot(fy * axes[0], fx * axes[1])
    highest = math.sqrt(-math.log(_LEFT) / (4 * math.pi**2 * width[0] * width[1]))
    band = (frequency > _SLOW / spacing) & (frequency < max(highest, _FINE / spacing)) & (frequency < 0.5)
    stands = band & (torch.maximum(whole, rest) > _CLEAR * floor)
    left, every = (torch.where(stands, power - floor, 0.0).double().sum() for power in (rest, whole))
    return torch.where(stands.sum() >= _FEW, left / every.clamp(min=1e-30), 0.0).clamp(min=0)
