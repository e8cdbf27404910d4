"""Where the windows around positions lie in an image, and what becomes of those that do not fit."""

from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchmotif._arrays import as_positions
from torchmotif.errors import InputError

__all__ = ["Placement", "place", "whole"]


class Placement(NamedTuple):
    """Windows of an image.

    Attributes
    ----------
    start : Tensor of shape (n, 2)
        First pixel of every window.
    offsets : Tensor of shape (n, 2)
        True centre minus window centre, (row, col) in pixels, at most half a pixel.
    kept : Tensor of shape (n,)
        Whether the window is whole; the others have start and offset 0.
    """

    start: Int[Tensor, "n 2"]
    offsets: Float[Tensor, "n 2"]
    kept: Bool[Tensor, " n"]


def place(
    positions: Any, shape: tuple[int, int], size: int, outside: Literal["error", "drop", "mask"]
) -> Placement:
    """Windows of `size` pixels around the pixels nearest to the positions, as `ZernikeBasis.project` describes.

    Raises
    ------
    InputError
        If a position is not finite or lies outside, and `outside` is "error", or it is none of the three.
    """
    if outside not in {"error", "drop", "mask"}:
        raise InputError(f"outside must be 'error', 'drop' or 'mask', got {outside!r}")
    if isinstance(positions, Tensor) and positions.device.type != "cpu" and outside == "mask":
        where = positions.to(torch.float64).reshape(-1, 2)  # checking the values would mean to wait for them
    else:
        where = as_positions(positions)
    kept = whole(where, shape, size)
    if outside == "error" and not bool(kept.all()):
        raise InputError(
            f"{int((~kept).sum())} of {len(kept)} windows of {size} px reach over the image's rim; "
            "say outside='drop' or outside='mask', or keep the positions where basis.inside(...) is true"
        )
    if outside == "drop":
        where, kept = where[kept], kept[kept]
    middle = (size - 1) / 2
    start = torch.where(kept[:, None], torch.floor(where - middle + 0.5), 0.0)
    return Placement(start.long(), torch.where(kept[:, None], where - middle - start, 0.0), kept)


def whole(positions: Float[Tensor, "n 2"], shape: tuple[int, int], size: int) -> Bool[Tensor, " n"]:
    """Which positions have a whole window of `size` pixels in an image of `shape`."""
    start = torch.floor(positions - (size - 1) / 2 + 0.5)
    row, col = start.unbind(
        dim=1
    )  # numbers are compared where they are: a tensor of them would have to be sent
    return (start >= 0).all(dim=1) & (row <= shape[0] - size) & (col <= shape[1] - size)
