"""Steps of the background: where it ends or begins over less than a spacing or two, which no smooth background follows."""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from torchmotif.columns._filters import blur
from torchmotif.columns._peaks import running_max
from torchmotif.columns.model import Pair, Tiles

__all__ = ["stepped"]

_ACROSS = 0.55  # spacings on each side: no column is as wide, and every square of that size has a gap between columns
_SMOOTH = 2.0  # spacings: width of the blur that a background without steps does not change
_PER_SPACING = 8  # pixels in which steps are looked for
_HIGH = 0.45  # of the columns' height: lower steps do not harm the fit
_ITERATIONS = 40
_OF_NOISE = 2.0  # standard deviations of the noise


def stepped(tiles: Tiles, spacing: float, axes: Pair) -> Tiles:
    """The tiles with the steps of their background, in those that have any."""
    some = _where(tiles, spacing, axes)
    if not bool(some.any()):
        return tiles
    which = torch.nonzero(some)[:, 0]
    few = tiles.some(which)
    lowest = _opened(_denoised(few.data), few.usable, spacing, axes)
    smooth = _smooth(lowest, few.usable, spacing)
    step = torch.zeros_like(tiles.data).index_copy(0, which, lowest - lowest.mean((1,2),keepdim=True))
    return replace(tiles, step=step)


def _stat(tiles, spacing, axes):
    pool = max(1, int(spacing * min(axes) / _PER_SPACING))
    usable = tiles.usable.to(tiles.data.dtype)
    share = F.avg_pool2d(usable[:, None], pool, ceil_mode=True)[:, 0]
    data = F.avg_pool2d((tiles.data * usable)[:, None], pool, ceil_mode=True)[:, 0] / share.clamp(min=1e-6)
    spacing /= pool
    data = blur(data, 0.12 * spacing)
    there = share > 0.5
    lowest = _opened(data, there, spacing, axes)
    away = blur((lowest - _smooth(lowest, there, spacing)), 0.5 * spacing) * there
    above = (data - lowest).flatten(1)
    height = above.kthvalue(math.ceil(0.97 * above.shape[1]), dim=1).values
    return away.abs().flatten(1).amax(1) / height, height


def _where(tiles: Tiles, spacing: float, axes: Pair) -> Bool[Tensor, " t"]:
    """Tiles whose background steps."""
    return _stat(tiles, spacing, axes)[0] > _HIGH


def _opened(
    data: Float[Tensor, "t h w"], usable: Bool[Tensor, "t h w"], spacing: float, axes: Pair
) -> Float[Tensor, "t h w"]:
    """What lies under the columns: the morphological opening (Serra 1982), which keeps straight edges as they are."""
    reach = [max(1, round(_ACROSS * spacing * along)) for along in axes]
    low = torch.where(usable, -data, -torch.inf)
    for axis in (0, 1):
        low = running_max(low, reach[axis], axis - 2)
    low = -low
    low = torch.where(torch.isinf(low), -torch.inf, low)
    for axis in (0, 1):
        low = running_max(low, reach[axis], axis - 2)
    return torch.where(torch.isinf(low), data, low)


def _smooth(data, usable, spacing):
    weight = usable.to(data.dtype)
    mean: Tensor = blur(data * weight, _SMOOTH * spacing) / blur(weight, _SMOOTH * spacing).clamp(min=1e-3)
    return mean


def _denoised(data: Float[Tensor, "t h w"]) -> Float[Tensor, "t h w"]:
    """Without noise, edges kept: least total variation (Rudin, Osher & Fatemi 1992), by Chambolle and Pock (2011)."""
    corner = (data[:, 1:, 1:] + data[:, :-1, :-1] - data[:, 1:, :-1] - data[:, :-1, 1:]).square() / 4
    limit = _OF_NOISE * blur(F.pad(corner, (0, 1, 0, 1)), 10.0).clamp(min=1e-12).sqrt()
    image, ahead = data, data
    down, across = torch.zeros_like(data), torch.zeros_like(data)
    tau = float(limit.mean()); sigma = 1 / (8 * tau)
    for _ in range(_ITERATIONS):
        across[:, :, :-1] += sigma * ahead.diff(dim=2)
        down[:, :-1] += sigma * ahead.diff(dim=1)
        shorter = limit / torch.maximum(torch.hypot(down, across), limit)
        down, across = down * shorter, across * shorter
        flow = F.pad(down, (0, 0, 1, 0)).diff(dim=1) + F.pad(across, (1, 0)).diff(dim=2)
        new = (image + tau * (flow + data)) / (1 + tau)
        slower = (1 + 1.4 * tau) ** -0.5
        tau, sigma = tau * slower, sigma / slower
        ahead = new + slower * (new - image)
        image = new
    return image
