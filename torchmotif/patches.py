"""Windows around positions, as one batched gather."""

from typing import Any

import torch

from torchmotif._arrays import as_positions, as_tensor, like, pixels_of
from torchmotif.errors import InputError

__all__ = ["extract_patches", "inside"]


def inside(positions: Any, shape: tuple[int, int], size: int) -> Any:
    """Which positions have a whole window of `size` pixels in an image of `shape`.

    Parameters
    ----------
    positions : array of shape (n, 2)
        (row, col) in pixels.
    shape : (int, int)
        Of the image, in pixels.
    size : int
        Side of the window in pixels.

    Returns
    -------
    boolean array of shape (n,), numpy or torch as `positions` came
    """
    start = _starts(as_positions(positions), size)
    last = torch.tensor(shape, device=start.device) - size
    return like(((start >= 0) & (start <= last)).all(dim=1), positions)


def extract_patches(image: Any, positions: Any, size: int) -> Any:
    """Square windows around the pixels nearest to the given positions.

    Parameters
    ----------
    image : Micrograph or array of shape (h, w)
    positions : array of shape (n, 2)
        (row, col) in pixels.
    size : int
        Side of the windows in pixels. The centre of an even window lies half a pixel before its middle pixel.

    Returns
    -------
    array of shape (n, size, size)
        numpy or torch as `image` came, of the same dtype.

    Raises
    ------
    InputError
        If `size` does not fit in the image, or a window reaches over the rim (see `inside`).

    Examples
    --------
    >>> import numpy as np
    >>> extract_patches(np.arange(100).reshape(10, 10), [(4, 5)], 3)[0]
    array([[34, 35, 36],
           [44, 45, 46],
           [54, 55, 56]])
    """
    pixels = pixels_of(image)
    if not 1 <= size <= min(pixels.shape):
        raise InputError(
            f"size must be between 1 and the image's shorter side, {min(pixels.shape)} px, got {size}"
        )
    data = as_tensor(pixels, dtype=None)
    start = _starts(as_positions(positions, device=data.device), size)
    last = torch.tensor(data.shape, device=data.device) - size
    outside = ((start < 0) | (start > last)).any(dim=1)
    if bool(outside.any()):
        raise InputError(
            f"{int(outside.sum())} of {len(start)} windows of {size} px reach over the image's rim; "
            "keep the positions where torchmotif.patches.inside(positions, image.shape, size) is true"
        )
    step = torch.arange(size, device=data.device)
    rows = start[:, 0, None] + step
    columns = start[:, 1, None] + step
    return like(data[rows[:, :, None], columns[:, None, :]], pixels)


def _starts(positions: torch.Tensor, size: int) -> torch.Tensor:
    """First (row, col) of the window whose centre is nearest to each position."""
    return torch.round(positions - (size - 1) / 2).long()
