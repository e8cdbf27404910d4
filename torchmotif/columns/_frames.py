"""How much likelier steps of the level beside a border are those of fewer frames than those of the background."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["Edge", "contrast_of_rows", "margins"]

_MOST_FRAMES = 256  # are tried
_UNEQUAL = 0.03  # of a step: frames differ by so much in their current, and aligned ones in what they show
# Of what the columns add, by which it differs within a crystal, at least; margins of simulated specimens and of a real sum.
_VARIES = 0.15
# Probability that steps beside borders without a fill are those of frames, before they are looked at: beside several borders, and beside one alone, as
# frames that drift seldom leave it. Its logits are -4.6 and -6.9. Of 440 images with a step of the background or the thickness along one border what
# speaks for frames is at most 4.8; three frames 0 to 2 px apart have 5.0 beside two borders.
_RARELY, _ALONE = 1e-2, 1e-3


@dataclass(frozen=True, eq=False)
class Edge:
    """Steps beside one border, from the border inwards.

    Attributes
    ----------
    at : integer array of shape (n,)
        Rows from the border to each.
    rise : array of shape (n,)
        Of the level inwards, over the level in the middle of the image.
    scatter : float
        Standard deviation of the steps in the middle of the image, over its level.
    contrast : array of shape (h - 1,)
        Of every row and the next one, of all the image.
    filled : bool
        Whether a fill lies beyond.
    """

    at: np.ndarray
    rise: np.ndarray
    scatter: float
    contrast: np.ndarray
    filled: bool


def contrast_of_rows(lines: Float[Tensor, "h n"]) -> np.ndarray:
    """What two rows that follow each other have in common beside their levels, squared: columns without noise.

    Not finite where they have no pixels in common.
    """
    known = torch.isfinite(lines)
    level = torch.where(known, lines, 0.0).double()
    beside = torch.where(known, level - (level.sum(1) / known.sum(1).clamp(min=1))[:, None], 0.0)
    both = (known[1:] & known[:-1]).sum(1)
    common = (beside[1:] * beside[:-1]).sum(1) / both
    return np.asarray(common.cpu().numpy())


def margins(edges: list[Edge | None]) -> list[int]:
    """Rows from every border to where all frames cover an image; 0 where its steps are likelier those of the background.

    A background that steps adds to the level and leaves the columns as they are, and its steps have any heights. Where
    fewer frames were summed both are less in the same ratio, and every step is that of one frame or of several.
    """
    likelier, inner = zip(*((0.0, 0) if edge is None else _inner(edge) for edge in edges), strict=True)
    # All borders are those of the same frames, or of none.
    prior = _RARELY if np.count_nonzero(likelier) > 1 else _ALONE
    all_of_them = sum(likelier) > math.log((1 - prior) / prior)
    return [
        rows if all_of_them or (edge is not None and edge.filled) else 0
        for edge, rows in zip(edges, inner, strict=True)
    ]


def _inner(edge: Edge) -> tuple[float, int]:
    """Logarithm of how much likelier the steps beside a border are those of frames, and rows to the innermost; 0 where less."""
    best, inner = 0.0, 0
    for n in range(1, len(edge.at) + 1):
        rise = edge.rise[:n]
        share = 1 - np.cumsum(rise[::-1])[::-1]  # that is left outside of each step
        if rise[-1] <= 0 or share[0] <= 0:
            break
        likelier = _in_levels(rise, edge.scatter) + _in_contrast(edge, n, share)
        if likelier > best:
            best, inner = likelier, int(edge.at[n - 1])
    return best, inner


def _in_levels(rise: np.ndarray, scatter: float) -> float:
    """Logarithm of how much likelier steps are as multiples of one frame, of any number, than as any."""
    frames = np.arange(2, _MOST_FRAMES + 1)[:, None]
    below = np.floor(rise * frames)
    numbers = 1.0 / frames[:, 0]  # fewer are likelier
    likelier = []
    for unequal in (0.0, _UNEQUAL):
        spread = np.hypot(scatter, unequal * rise) * frames
        # Of all multiples the nearest two: where others are as near there is nothing to tell.
        near = [
            np.where(k > 0, np.exp(-np.square((rise * frames - k) / spread) / 2), 0.0)
            for k in (below, below + 1)
        ]
        ratio = np.minimum(sum(near) / (spread * math.sqrt(2 * math.pi)), frames)
        of_each = np.log(ratio.clip(1e-300)).sum(1) + np.log(numbers / numbers.sum())
        likelier.append(float(np.logaddexp.reduce(of_each)))
    return float(np.logaddexp.reduce(likelier)) - math.log(2)


def _in_contrast(edge: Edge, n: int, share: np.ndarray) -> float:
    """Logarithm of how much likelier the columns outside of n steps are as those of fewer frames than as any."""
    pairs, until = len(edge.contrast), int(edge.at[n - 1])
    inside = edge.contrast[pairs // 4 : pairs - pairs // 4]
    outside = np.flatnonzero(np.isfinite(edge.contrast[:until]))
    middle = float(inside.mean())
    if not len(outside) or not middle > 0:
        return 0.0
    here = float(edge.contrast[outside].mean()) / middle
    of_row = np.append(share, 1.0)[np.searchsorted(edge.at[:n], np.arange(until + 1), "right")]
    less = float((of_row[outside] * of_row[outside + 1]).mean())
    sums = np.append(0.0, np.cumsum(inside))
    usual = (sums[len(outside) :] - sums[: -len(outside)]) / len(outside)  # of as many rows
    varies = max(float(usual.std()) / middle, _VARIES)
    as_frames = _log_normal(here, less, varies * math.sqrt(less))
    same, other = _log_normal(here, 1.0, varies), _log_normal(here, 0.5, 1.0)
    return as_frames - float(np.logaddexp(same, other)) + math.log(2)


def _log_normal(value: float, middle: float, spread: float) -> float:
    return -(((value - middle) / spread) ** 2) / 2 - math.log(spread * math.sqrt(2 * math.pi))
