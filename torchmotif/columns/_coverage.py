"""The part of an aligned sum or mean of frames that all frames cover, from the straight steps of its level."""

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from torchmotif._arrays import sent
from torchmotif.columns._frames import Edge, contrast_of_rows, margins

__all__ = ["fully_covered"]

_LINES = 256  # pixels across, that tell the level of a row or column
_LEAST_SCATTER = 1e-6  # of the level: rows of an image without noise may have none
_CLEAR = 2.0  # times the greatest step between two rows in the middle of the image
_STRAIGHT = 0.4  # of the pixels of a row step the same way, more than step the other way


def fully_covered(
    image: Any, filled: np.ndarray, *, unless: Tensor | None = None
) -> tuple[int, int, int, int]:
    """First row, first column, end row, end column of what all frames cover.

    Where frames are moved by whole pixels before they are summed, with zeros beyond them, the level has steps that are
    straight to a pixel, between multiples of the level of one frame, and what the columns add to it falls with it. Steps
    that a structure of the image may have, those that are as high as some in its middle, count for nothing.

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
    down, along = pixels[:, cols], pixels[rows].mT
    told = torch.cat([_sums(down), _sums(along)], dim=1)
    asked = told.flatten() if unless is None else torch.cat([told.flatten(), unless.double().reshape(1)])
    host = asked.cpu().numpy()
    if unless is not None and host[-1]:
        return 0, 0, 0, 0
    sums = host[: told.numel()].reshape(told.shape)
    top, bottom, left, right = margins(
        [*_edges(down, sums[:, :h], filled[:, few[1]]), *_edges(along, sums[:, h:], filled[few[0]].T)]
    )
    return top, left, h - bottom, w - right


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


def _edges(
    lines: Float[Tensor, "h n"], sums: np.ndarray, filled: np.ndarray
) -> tuple[Edge | None, Edge | None]:
    """Clear steps beside the first row and the last; None where there are none."""
    known, total, both, steps, signs, pixels = sums
    h, quarter = len(known), len(known) // 4
    enough = known > 0.5 * pixels
    if quarter < 4 or not enough[quarter : h - quarter].all():
        return None, None
    first, last = np.flatnonzero(enough)[[0, -1]]
    level = (total / known.clip(1))[first : last + 1]
    both, steps, signs = (part[first + 1 : last + 1] for part in (both, steps, signs))
    step = steps / both.clip(1)
    # Straight to a pixel: the step is in nearly all columns at once.
    straight = np.abs(signs) > _STRAIGHT * both
    at = np.arange(len(step)) + first + 1  # the row that begins after the step
    inside = (at > quarter) & (at < h - quarter)
    clear = straight & (np.abs(step) > _CLEAR * np.abs(step[inside]).max())
    full = float(level[quarter - first : h - quarter - first].mean())
    top, bottom = (np.flatnonzero(clear & rows) for rows in (at <= quarter, at >= h - quarter))
    if full == 0 or not len(top) + len(bottom):
        return None, None
    contrast, scatter = contrast_of_rows(lines), math.sqrt(float(np.square(step[inside]).mean()))
    scatter = max(scatter / abs(full), _LEAST_SCATTER)
    bottom = bottom[::-1]  # from the border inwards
    return (
        Edge(at[top], step[top] / full, scatter, contrast, bool(filled[0].all())),
        Edge(h - at[bottom], -step[bottom] / full, scatter, contrast[::-1], bool(filled[-1].all())),
    )
