"""The part of an aligned sum or mean of frames that all frames cover, from the straight steps of its level."""

import numpy as np

__all__ = ["fully_covered"]

_LINES = 256  # pixels across, that tell the level of a row or column
_CLEAR = 2.0  # times the greatest step between two rows in the middle of the image
_STRAIGHT = 0.4  # of the pixels of a row step the same way, more than step the other way
_EQUAL = 0.05  # of a step, by which levels may differ from multiples of it


def fully_covered(image: np.ndarray, filled: np.ndarray) -> tuple[int, int, int, int]:
    """First row, first column, end row, end column of what all frames cover.

    Where frames are moved by whole pixels before they are summed, with zeros beyond them, the level has steps that are
    straight to a pixel, between multiples of the level of one frame. Steps that a structure of the image may have,
    those that are as high as some in its middle, count for nothing.

    Parameters
    ----------
    image : array of shape (h, w)
        Not finite where nothing was measured.
    filled : boolean array of shape (h, w)
        What a fill covers.
    """
    top, bottom = _ends(image, filled)
    left, right = _ends(image.T, filled.T)
    return top, left, bottom, right


def _ends(image: np.ndarray, filled: np.ndarray) -> tuple[int, int]:
    """First row and end row of what all frames cover."""
    h, w = image.shape
    few = np.linspace(w // 4, w - 1 - w // 4, min(_LINES, w - 2 * (w // 4))).round().astype(int)
    middle, quarter = image[:, few].astype(np.float64), h // 4
    known = np.isfinite(middle)
    enough = known.mean(1) > 0.5
    if quarter < 4 or not enough[quarter : h - quarter].all():
        return 0, h
    first, last = np.flatnonzero(enough)[[0, -1]]
    middle, known = middle[first : last + 1], known[first : last + 1]
    level = np.where(known, middle, 0).sum(1) / known.sum(1).clip(1)
    both = known[1:] & known[:-1]
    pixel_steps = np.where(both, np.diff(np.where(known, middle, 0), axis=0), 0)
    step = pixel_steps.sum(1) / both.sum(1).clip(1)
    # Straight to a pixel: the step is in nearly all columns at once.
    straight = np.abs(np.sign(pixel_steps).sum(1)) > _STRAIGHT * both.sum(1)
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
        if even and multiples[-1] > 0.5 and (len(mine) > 1 or filled[0 if side == 0 else -1, few].all()):
            ends[side] = int(at[mine[-1 if side == 0 else 0]])
    return ends[0], ends[1]
