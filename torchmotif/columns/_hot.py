"""Pixels that stand alone, as no pixel of a column does: hot ones, and X-ray spikes."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["stand_alone"]

_BESIDE = 0.15  # of its height that a pixel beside it has under the narrowest column, of 0.55 px, and not beside a hot one


def stand_alone(height: Float[Tensor, "t h w"]) -> Bool[Tensor, "t h w"]:
    """Pixels beside which none is nearly as high, of heights above what is usual."""
    padded = F.pad(height[:, None], (1, 1, 1, 1))[:, 0]
    h, w = height.shape[1:]
    shifts = [(i, j) for i in range(3) for j in range(3) if (i, j) != (1, 1)]
    beside = torch.stack([padded[:, i : i + h, j : j + w] for i, j in shifts]).amax(0)
    return beside < _BESIDE * height
