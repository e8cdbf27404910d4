"""Whether the noise of an image is that of counted electrons, so that its dose can be told from it."""

from typing import Any

import numpy as np

from torchmotif._arrays import as_tensor, pixels_of
from torchmotif.errors import InputError
from torchmotif.noise.gain import Gain, estimate_gain

__all__ = ["dose_doubts", "gain_or_doubts", "middle_of"]

# By how much a step of counts may differ from one electron, of it, and in standard errors: structure that is a few pixels wide makes
# the gain of simulated MoSe2 with 700 electrons per pixel, 5 px apart, some 15 % less.
_ONE, _STEP_ERROR = 0.25, 3.0
# Standard errors by which noise that is not white differs from white noise; of counts, below it: structure lies above. Of 45 images
# filtered or resampled in 15 ways the least differed by 2.2.
_NOT_WHITE, _FILTERED = 2.0, 3.5
_FULL = (1.0, 255.0, 65535.0)  # greatest values of images that were scaled to a range
_FEW_LEVELS = 16  # counts of so few electrons have many pixels at the greatest
_IMPRECISE = 0.15  # of a gain, from which standard error on it tells no dose
_CLIPPED = 0.005  # of the pixels at the greatest value, or the least
_UNEVEN = 0.01  # of the step between levels, by which distances of levels may differ from multiples of it
_FINEST = 4 * float(np.finfo(np.float32).eps)  # of the greatest value: no step between levels is finer
_SIDE = 512  # pixels that tell the noise


def middle_of(shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """The part of an image whose noise is looked at: first row, first column, end row, end column."""
    (top, bottom), (left, right) = (
        (max((side - _SIDE) // 2, 0), min((side + _SIDE) // 2, side)) for side in shape
    )
    return top, left, bottom, right


def dose_doubts(image: Any, gain: Gain | None = None) -> list[str]:
    """Why the dose of an image cannot be told from its noise; none where it can.

    Counts of electrons have equally spaced levels, one electron apart. Other images must have white noise, which filters and
    resampling take away, a gain that is known well, and neither clipped values nor those of 8 bits.

    Parameters
    ----------
    image : Micrograph or array of shape (h, w)
    gain : Gain, optional
        By default `estimate_gain` is asked.

    Returns
    -------
    list of str

    Examples
    --------
    >>> import torch
    >>> import torchmotif as tm
    >>> scan = tm.datasets.mose2((256, 256)).draw(generator=torch.Generator().manual_seed(0)).numpy()
    >>> dose_doubts(scan), dose_doubts((scan[1:] + scan[:-1]) / 2) != []
    ([], True)
    """
    if gain is None:
        return gain_or_doubts(image)[1]
    values = as_tensor(pixels_of(image)).cpu().numpy()
    levels = np.unique(values)
    least, most = ((values == end).mean() for end in levels[[0, -1]])
    found = [
        (
            levels[0] == 0 and levels[-1] in _FULL,
            f"its values were scaled to the range of 0 to {levels[-1]:g}",
        ),
        (
            most > _CLIPPED and len(levels) > _FEW_LEVELS,
            f"its greatest values are clipped ({most:.1%} of the pixels are equal)",
        ),
    ]
    if not any(doubtful for doubtful, _ in found):
        if _are_counts(levels, gain):
            return []
        bits = levels[0] >= 0 and levels[-1] <= _FULL[1] and (levels == np.round(levels)).all()
        apart, white = max((abs(white - 1) / error, white) for white, error in gain.whiteness_tests)
        relative = gain.error / gain.electrons_per_unit
        found = [
            (apart > _NOT_WHITE, f"its noise is not white ({white:.3f} instead of 1)"),
            (relative > _IMPRECISE, f"its gain is known to {relative:.0%} only"),
            (bits, "its values have 8 bits, and are no electrons"),
            (not _are_even(levels), "its values are no multiples of one step, as a detector gives them"),
            (least > _CLIPPED, f"its least values are clipped ({least:.1%} of the pixels are equal)"),
        ]
    return [reason for doubtful, reason in found if doubtful]


def gain_or_doubts(image: Any) -> tuple[Gain | None, list[str]]:
    """The gain of an image, None where none is told from its noise; and what `dose_doubts` says of it.

    Parameters
    ----------
    image : Micrograph or array of shape (h, w)

    Returns
    -------
    gain : Gain or None
    doubts : list of str
    """
    try:
        gain = estimate_gain(image)
    except InputError as error:
        return None, [str(error).removeprefix("image ").partition(";")[0]]
    return gain, dose_doubts(image, gain)


def _are_even(levels: np.ndarray) -> bool:
    """Whether levels are whole numbers, or whole multiples of a step apart."""
    if (levels == np.round(levels)).all():
        return True
    steps = np.diff(levels.astype(np.float64))
    if steps.min() < _FINEST * np.abs(levels).max():  # multiples of the last digit, which all numbers are
        return False
    multiples = steps / steps[steps < 1.5 * steps.min()].mean()  # the least alone is rounded down
    return bool(np.abs(multiples - multiples.round()).max() < _UNEVEN)


def _are_counts(levels: np.ndarray, gain: Gain) -> bool:
    """Whether the levels of an image are equally far apart, and the step between them one electron."""
    if len(levels) < 2:
        return False
    steps = np.diff(levels.astype(np.float64))
    electrons, error = steps.min() * gain.electrons_per_unit, steps.min() * gain.error
    white = min((white - 1) / error for white, error in gain.whiteness_tests)
    one = abs(electrons - 1) < max(_ONE, _STEP_ERROR * error) and error < 0.3
    return bool(_are_even(levels) and one and white > -_FILTERED)
