"""What single columns add to the patches of a motif: the one in the middle, and its neighbours."""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from torchmotif.zernike import ZernikeBasis

__all__ = ["MOST_NEIGHBOURS", "radius_of", "rings", "single_columns"]

MOST_NEIGHBOURS = 6  # of a column: no plane packing has more that are nearest
_WITHIN = 0.85  # of the disk's radius; the rims of columns further out hardly tell anything
_PEAK = 5  # pixels, the side of the window of which a column is the brightest one


@lru_cache(maxsize=16)
def radius_of(size: int, device: torch.device) -> Float[Tensor, "s s"]:
    """Distance of every pixel of a window from its middle."""
    axis = torch.arange(size, device=device) - (size - 1) / 2
    return torch.hypot(axis[:, None], axis[None, :])


@lru_cache(maxsize=16)
def rings(size: int, device: torch.device, *, nearest: bool) -> Float[Tensor, "p r"]:
    """From the pixels of a window to their means over rings of the nearest radius, or of the one below."""
    radius = radius_of(size, device)
    furthest = (
        math.ceil((size - 1) / 2**0.5) + 1
    )  # more rings than there are: the last ones may hold no pixel
    of_ring = F.one_hot((radius.round() if nearest else radius).long().flatten(), furthest).float()
    return of_ring / of_ring.sum(0).clamp(min=1)


def single_columns(moments: Float[Tensor, "g k"], basis: ZernikeBasis) -> Float[Tensor, "g c k"]:
    """What the column in the middle of each patch, and each of those nearest to it, add to its moments; zero where there is none.

    The moments are those of patches less noise; a constant background does not matter.
    """
    patch = basis.reconstruct(moments.float())
    columns = torch.cat([_central(patch)[:, None], _neighbouring(patch)], 1)
    alone: Tensor = basis(columns.flatten(0, 1)).view(len(patch), columns.shape[1], -1).to(moments)
    return alone


def _central(patch: Float[Tensor, "g s s"]) -> Float[Tensor, "g s s"]:
    """The column in the middle.

    It has the shape of what stands above the first minimum of the patch's mean over all angles, where its neighbours begin, and
    the height of the middle above the darkest place of the patch.
    """
    size = patch.shape[-1]
    ring = radius_of(size, patch.device)
    mean = patch.flatten(1) @ rings(size, patch.device, nearest=False)[:, : size // 2]
    rises = F.pad(mean.diff(dim=1) > 0, (0, 1), value=True)
    foot = rises.float().argmax(1, keepdim=True)
    low = mean.gather(1, foot)
    rise = mean[:, :1] - low
    darkest = torch.where(ring < size / 2, patch, torch.inf).flatten(1).amin(1, keepdim=True)
    # Of identical patches nothing is left but rounding.
    there = (foot > 0) & (rise > 1e-6 * patch.flatten(1).abs().amax(1, keepdim=True))
    height = torch.where(there, (mean[:, :1] - darkest) / rise.clamp(min=1e-30), 0.0)
    within = ring.floor() <= foot[..., None]
    return torch.where(within, patch - low[..., None], 0.0).clamp(min=0) * height[..., None]


def _neighbouring(patch: Float[Tensor, "g s s"]) -> Float[Tensor, "g c s s"]:
    """The columns nearest to the middle.

    A column is a maximum of the patch; it reaches half of the way to the middle, and stands above the darkest place as far as that.
    """
    size, device = patch.shape[-1], patch.device
    ring = radius_of(size, device)
    highest = F.max_pool2d(patch[:, None], _PEAK, 1, _PEAK // 2)[:, 0]
    peaks = (patch == highest) & (ring > _PEAK) & (ring <= _WITHIN * size / 2)
    far = torch.where(peaks, ring, torch.inf).flatten(1)
    radius, at = far.topk(MOST_NEIGHBOURS, dim=1, largest=False)
    pixel = torch.arange(size, device=device, dtype=ring.dtype)
    row, col = (part[..., None].to(ring.dtype) for part in (at // size, at % size))
    away = torch.hypot((pixel - row)[..., :, None], (pixel - col)[..., None, :])
    within = (away <= radius[..., None, None] / 2) & torch.isfinite(radius)[..., None, None]
    low = torch.where(within, patch[:, None], torch.inf).amin((2, 3), keepdim=True)
    return torch.where(within, patch[:, None] - low, 0.0)
