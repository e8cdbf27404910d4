"""The part of an aligned sum or mean of frames that all frames cover, from the straight steps of its level."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from torchmotif._arrays import sent

__all__ = ["fully_covered"]

_LINES = 256  # pixels across, that tell the level of a row or column
_CLEAR = 2.0  # times the greatest step between two rows in the middle of the image
_STRAIGHT = 0.4  # of the pixels of a row step the same way, more than step the other way
_EQUAL = 0.05  # of a step, by which levels may differ from multiples of it


def fully_covered(
    image: Any, filled: np.ndarray, *, unless: Tensor | None = None
) -> tuple[int, int, int, int]:
    """First row, first column, end row, end column of what all frames cover.

    Where frames are moved by whole pixels before they are summed, with zeros beyond them, the level has steps that are
    straight to a pixel, between multiples of the level of one frame. Steps that a structure of the image may have,
    those that are as high as some in its middle, count for nothing.

    Parameters
    ----------
    image : array or Tensor of shape (h, w)
        A tensor stays where it is: the host gets a few numbers of every row and column. Not finite where nothing was measured.
    filled : boolean array of shape (h, w)
        What a fill covers.
    unless : boolean Tensor, optional
        Where this is true all that is returned is 0; the device is asked for it together with the numbers.
    """
    pixels, (h, w) = torch.as_tensor(image), image.shape
    few = [
        np.linspace(n // 4, n - 1 - n // 4, min(_LINES, n - 2 * (n // 4))).round().astype(int) for n in (h, w)
    ]
    rows, cols = sent(np.concatenate(few), pixels, torch.long).split([len(few[0]), len(few[1])])
    told = torch.cat([_sums(pixels[:, cols]), _sums(pixels[rows].mT)], dim=1)
    asked = told.flatten() if unless is None else torch.cat([told.flatten(), unless.double().reshape(1)])
    host = asked.cpu().numpy()
    if unless is not None and host[-1]:
        return 0, 0, 0, 0
    sums = host[: told.numel()].reshape(told.shape)
    top, bottom = _ends(sums[:, :h], filled[:, few[1]])
    left, right = _ends(sums[:, h:], filled[few[0]].T)
    return top, left, bottom, right


def _sums(lines: Float[Tensor, "h n"]) -> Float[Tensor, "6 h"]:
    """Of every row: known pixels and their sum; of it and the row before: pixels known in both, their steps, the signs of these.

    The last is how many pixels there are.
    """
    known = torch.isfinite(lines)
    level = torch.where(known, lines, 0.0).double()
    both = known & torch.cat([torch.zeros_like(known[:1]), known[:-1]])
    steps = torch.where(both, level.diff(dim=0, prepend=level[:1]), 0.0)
    parts = [known.sum(1), level.sum(1), both.sum(1), steps.sum(1), steps.sign().sum(1)]
    return torch.stack([*(part.double() for part in parts), torch.full_like(level[:, 0], lines.shape[1])])


def _ends(sums: np.ndarray, filled: np.ndarray) -> tuple[int, int]:
    """First row and end row of what all frames cover."""
    known, total, both, steps, signs, pixels = sums
    h, quarter = len(known), len(known) // 4
    enough = known > 0.5 * pixels
    if quarter < 4 or not enough[quarter : h - quarter].all():
        return 0, h
    first, last = np.flatnonzero(enough)[[0, -1]]
    level = (total / known.clip(1))[first : last + 1]
    both, steps, signs = (part[first + 1 : last + 1] for part in (both, steps, signs))
    step = steps / both.clip(1)
    # Straight to a pixel: the step is in nearly all columns at once.
    straight = np.abs(signs) > _STRAIGHT * both
    at = np.arange(len(step)) + first + 1  # the row that begins after the step
    inside = (at > quarter) & (at < h - quarter)
    clear = straight & (np.abs(step) > _CLEAR * np.abs(step[inside]).max())
    full = level[quarter - first : h - quarter - first].mean()
    ends = [0, h]
    for side, rows in enumerate((at <= quarter, at >= h - quarter)):
        mine = np.flatnonzero(clear & rows)
        rise = (step[mine] if side == 0 else -step[mine]) * np.sign(full)
        if not len(mine) or rise.min() <= 0:
            continue
        levels = abs(full) - np.append(0.0, np.cumsum(rise[::-1] if side == 0 else rise))
        multiples = levels / rise.min()
        even = (np.abs(multiples - multiples.round()) < _EQUAL * multiples.round().clip(1)).all()
        # Zeros beyond, or several steps: else it may be an edge of the specimen.
        if even and multiples[-1] > 0.5 and (len(mine) > 1 or filled[0 if side == 0 else -1].all()):
            ends[side] = int(at[mine[-1 if side == 0 else 0]])
    return ends[0], ends[1]
