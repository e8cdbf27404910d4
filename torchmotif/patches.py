"""Windows around positions, as one batched gather."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int
from torch import Tensor

from torchmotif._arrays import as_positions, as_tensor, like, pixels_of
from torchmotif._windows import gather_windows
from torchmotif.errors import InputError

__all__ = ["covered", "extract_patches", "first_shell", "hidden_share", "inside", "offsets"]

MOST_HIDDEN = 0.05  # of a patch may be unmeasured: a few dead pixels, not the edge of a fill
_SHELL = 1.48  # radius of a patch over the columns' distance: 5.6 A across on MoSe2 (Dan et al., 2022)
_TILE = 2048  # pixels: side of the parts in which files and lazy arrays are read


def first_shell(spacing: float) -> int:
    """Side in pixels, odd, of the window that holds a column and its first shell of neighbours.

    Parameters
    ----------
    spacing : float
        Distance between neighbouring columns in pixels.

    Examples
    --------
    >>> first_shell(12.5)
    37
    """
    return 2 * round(_SHELL * spacing) + 1


def offsets(positions: Any, size: int) -> Any:
    """Where positions lie in their windows: true centre minus window centre.

    Parameters
    ----------
    positions : array of shape (n, 2)
        (row, col) in pixels.
    size : int
        Side of the windows in pixels, as in `extract_patches`.

    Returns
    -------
    array of shape (n, 2), float64, numpy or torch as `positions` came
        At most half a pixel along each axis.

    Examples
    --------
    >>> offsets([(4.25, 5.0)], 3)
    array([[0.25, 0.  ]])
    """
    at = as_positions(positions)
    return like(at - (_starts(at, size) + (size - 1) / 2), positions)


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


def hidden_share(positions: Any, hidden: Bool[Tensor, "h w"], size: int) -> Any:
    """Share of the pixels in the windows around positions that were not measured; pixels beyond the image do not count.

    Parameters
    ----------
    positions : array of shape (n, 2)
        (row, col) in pixels.
    hidden : boolean Tensor of shape (h, w)
        True where a pixel was not measured.
    size : int
        Side of the window in pixels.

    Returns
    -------
    array of shape (n,), numpy or torch as `positions` came
    """
    start = _starts(as_positions(positions), size).to(hidden.device)
    sums = F.pad(hidden.long().cumsum(0).cumsum(1), (1, 0, 1, 0))
    last = torch.tensor(hidden.shape, device=start.device)
    top, left = start.clamp(min=torch.zeros_like(last), max=last).unbind(1)
    bottom, right = (start + size).clamp(min=torch.zeros_like(last), max=last).unbind(1)
    count = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    return like(count.double() / size**2, positions)


def covered(positions: Any, shape: tuple[int, int], size: int) -> Any:
    """Which pixels of the windows around positions lie in an image of `shape`: the mask of padded patches.

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
    boolean array of shape (n, size, size), numpy or torch as `positions` came
    """
    start = _starts(as_positions(positions), size)
    pixel = start[:, :, None] + torch.arange(size, device=start.device)
    within = (pixel >= 0) & (pixel < torch.tensor(shape, device=start.device)[:, None])
    return like(within[:, 0, :, None] & within[:, 1, None, :], positions)


def extract_patches(
    image: Any,
    positions: Any,
    size: int,
    *,
    rim: str = "error",
    fill: float = 0.0,
) -> Any:
    """Square windows around the pixels nearest to the given positions.

    Parameters
    ----------
    image : Micrograph or array of shape (h, w)
        Memory-mapped files, dask, zarr and h5py arrays are read by tiles, only where there are positions.
    positions : array of shape (n, 2)
        (row, col) in pixels.
    size : int
        Side of the windows in pixels. The centre of an even window lies half a pixel before its middle pixel.
    rim : {"error", "drop", "pad"}
        What becomes of windows that reach over the image's rim: an error, none of them (those left are where
        `inside` is true), or pixels of value `fill` beyond the rim (`covered` tells which).
    fill : float
        Value beyond the rim for ``rim="pad"``.

    Returns
    -------
    array of shape (n, size, size)
        numpy or torch as `image` came, of the same dtype.

    Raises
    ------
    InputError
        If `size` does not fit in the image, `rim` is unknown, or a window reaches over the rim and that is an error.

    Examples
    --------
    >>> import numpy as np
    >>> extract_patches(np.arange(100).reshape(10, 10), [(4, 5)], 3)[0]
    array([[34, 35, 36],
           [44, 45, 46],
           [54, 55, 56]])
    """
    pixels = _by_tiles(image) or pixels_of(image)
    h, w = pixels.shape
    if rim not in {"error", "drop", "pad"}:
        raise InputError(f"rim must be 'error', 'drop' or 'pad', got {rim!r}")
    if not 1 <= size <= min(h, w):
        raise InputError(f"size must be between 1 and the image's shorter side, {min(h, w)} px, got {size}")
    device = pixels.device if isinstance(pixels, torch.Tensor) else None
    start = _starts(as_positions(positions, device=device), size)
    reaches_over = not _all_within(start, (h, w), size)
    if reaches_over and rim != "pad":
        whole = ((start >= 0) & (start <= torch.tensor((h, w), device=device) - size)).all(dim=1)
        if rim == "error":
            raise InputError(
                f"{int((~whole).sum())} of {len(start)} windows of {size} px reach over the image's rim; "
                "keep the positions where torchmotif.patches.inside(positions, image.shape, size) is true, "
                "or give rim='drop' or rim='pad'"
            )
        start = start[whole]
    if isinstance(pixels, _Lazy):
        return pixels.windows(start, size, fill)
    values = as_tensor(pixels, dtype=None)
    if reaches_over and rim == "pad":
        return like(_windows(values, start, size, fill), pixels)
    return like(gather_windows(values, start, size), pixels)


class _Lazy:
    """A two-dimensional array that is read part by part."""

    def __init__(self, source: Any) -> None:
        self.source = source
        h, w = source.shape
        self.shape = (int(h), int(w))

    def windows(self, start: Int[Tensor, "n 2"], size: int, fill: float) -> np.ndarray:
        """Windows gathered tile by tile, each tile read once, with the pixels around it that its windows need."""
        key = start.clamp(min=0) // _TILE
        tiles, which = torch.unique(key, dim=0, return_inverse=True)
        result = np.empty((len(start), size, size), self.source.dtype.newbyteorder("="))
        for number, tile in enumerate((tiles * _TILE).tolist()):
            mine = which == number
            corner = [max(0, edge - size) for edge in tile]
            part = np.asarray(
                self.source[corner[0] : tile[0] + _TILE + size, corner[1] : tile[1] + _TILE + size]
            )
            result[mine.numpy()] = _windows(
                as_tensor(part, dtype=None), start[mine] - torch.tensor(corner), size, fill
            ).numpy()
        return result


def _by_tiles(image: Any) -> _Lazy | None:
    """An array that is better read by tiles than as a whole; None for what lies in memory."""
    data = getattr(image, "data", image) if hasattr(image, "pixel_size_nm") else image
    mapped = isinstance(data, np.memmap)
    foreign = not isinstance(data, np.ndarray | Tensor) and hasattr(data, "dtype") and hasattr(data, "ndim")
    return _Lazy(data) if (mapped or foreign) and data.ndim == 2 else None


def _windows(data: Tensor, start: Tensor, size: int, fill: float) -> Tensor:
    """Windows of an image in memory; pixels beyond its rim are `fill`."""
    if _all_within(start, (data.shape[0], data.shape[1]), size):
        return gather_windows(data, start, size)
    last = torch.tensor(data.shape, device=data.device) - size
    padded = data.new_full((data.shape[0] + 2 * size, data.shape[1] + 2 * size), fill)
    padded[size:-size, size:-size] = data
    return gather_windows(padded, (start + size).clamp(min=0).minimum(last + 2 * size), size)


def _all_within(start: Int[Tensor, "n 2"], shape: tuple[int, int], size: int) -> bool:
    """Whether all windows lie in an image of `shape`."""
    if len(start) == 0:
        return True
    low, high = torch.stack(torch.aminmax(start)).tolist()  # of both axes: one fast pass, one read
    if low < 0 or high <= min(shape) - size:
        return bool(low >= 0)
    row, col = start.amax(dim=0).tolist()
    return bool(row <= shape[0] - size and col <= shape[1] - size)


def _starts(positions: Tensor, size: int) -> Int[Tensor, "n 2"]:
    """First (row, col) of the window whose centre is nearest to each position."""
    return (positions - (size - 1) / 2).round_().long()
