"""What columns leave over of what repeats in an image: the share of its power that they do not explain."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from torchmotif.columns._periodic import incoherent
from torchmotif.columns._profiles import profiles, window_reach
from torchmotif.columns._steps import stepped
from torchmotif.columns.model import ImageModel, Pair, Tiles

__all__ = ["Rest", "left_over", "rest_of"]

# Of the spacing's frequency, below which the background is; of the power of a column's Gaussian, what is left at the highest frequency that
# tells. Periods per spacing up to which it tells all the same.
_SLOW, _LEFT, _FINE = 0.6, 1e-3, 2.5
# Times the power of what does not repeat: noise alone exceeds it once in three million.
_CLEAR = 15.0
_FEW = 12  # frequencies that repeat, below which nothing is told


class Rest(NamedTuple):
    """What the columns of an image leave, see `rest_of`."""

    unexplained: float
    step: float


def rest_of(
    tiles: Tiles, model: ImageModel, positions: Float[Tensor, "n 2"], intensity: Float[Tensor, " n"]
) -> Rest:
    """What some columns leave of one tile.

    Parameters
    ----------
    tiles : Tiles
        One.
    model : ImageModel
    positions : Tensor of shape (n, 2)
    intensity : Tensor of shape (n,)
        Over the model's `scale`.

    Returns
    -------
    Rest
        The share that `left_over` gives, and the height of the background's steps over that of the brightest tenth of the columns.
    """
    width = torch.tensor(model.width, dtype=torch.float32).to(tiles.data.device)
    tile = torch.zeros(len(positions), dtype=torch.long, device=tiles.data.device)
    drawn = profiles(positions, tile, width, tiles.shape, window_reach(max(model.width)))
    canvas = drawn.canvas()
    drawn.add(canvas, intensity.float()[:, None, None])
    flat = stepped(tiles, model.spacing, model.axes, crystal=bool(model.cells))
    share = float(left_over(flat, drawn.crop(canvas), model.spacing, model.axes, model.width))
    if flat.step is None:
        return Rest(share, 0.0)
    height = float(intensity.kthvalue(max(1, round(0.9 * len(intensity)))).values) / model.area
    return Rest(share, float(flat.step.max() - flat.step.min()) / max(height, 1e-9))


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
