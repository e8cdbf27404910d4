"""Point scatterers seen through a probe: sums of Gaussians as batched matrix products, other probes by FFT."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from torchmotif._arrays import keeps_digits

__all__ = ["REACH", "Window", "gaussians"]

_BATCH_BYTES = 64 * 2**20
REACH = 5.0  # in sigma; what lies beyond is 4e-6 of the Gaussian's intensity


class Window(NamedTuple):
    """Part of an image: its first (row, col) in pixels, and its size."""

    row: int
    col: int
    height: int
    width: int

    def grown(self, margin: int) -> "Window":
        """The window with a margin around it."""
        return Window(self.row - margin, self.col - margin, self.height + 2 * margin, self.width + 2 * margin)

    def holds(self, positions: Float[Tensor, "n 2"]) -> Tensor:
        """Which positions lie on the window's pixels, boolean (n,)."""
        row, col = positions[:, 0] - (self.row - 0.5), positions[:, 1] - (self.col - 0.5)
        return (row > 0) & (row < self.height) & (col > 0) & (col < self.width)


@keeps_digits
def gaussians(
    window: Window, positions: Float[Tensor, "n 2"], weights: Float[Tensor, " n"], sigma: float
) -> Float[Tensor, "h w"]:
    """Normalised Gaussians over point scatterers, at the pixel centres of a window.

    A Gaussian is the product of its profiles along rows and columns, so all that shine into a tile of the image are
    one matrix product, and all tiles a batch of them: nothing is scattered, and the sum has the same order on every
    device.

    Parameters
    ----------
    window : Window
    positions : Tensor of shape (n, 2), float64
        (row, col) in pixels of the image; scatterers beyond the rim still shine into the window.
    weights : Tensor of shape (n,)
        Integrated intensity of each.
    sigma : float
        Width in pixels.

    Returns
    -------
    Tensor of shape (h, w), float32
    """
    reach = REACH * sigma
    side = max(32, math.ceil(2 * reach))  # so no scatterer reaches more than two tiles along an axis
    rows, cols = math.ceil(window.height / side), math.ceil(window.width / side)
    local = positions - positions.new_tensor([window.row, window.col])
    members = _members(local, reach, side, rows, cols)
    local = torch.cat(
        [local, local.new_zeros(1, 2)]
    )  # an empty place in a tile is a scatterer without weight
    weights = torch.cat([weights.to(torch.float32), weights.new_zeros(1, dtype=torch.float32)])
    step = torch.arange(side, device=positions.device)
    image = torch.empty(rows * cols, side, side, device=positions.device)
    batch = max(1, _BATCH_BYTES // (8 * max(1, members.shape[1]) * side))
    for tiles in torch.arange(rows * cols, device=positions.device).split(batch):
        chosen = members[tiles]
        origin = torch.stack([tiles // cols, tiles % cols], dim=1) * side
        offset = (local[chosen] - origin[:, None]).float()
        row_profile = _profile(step, offset[..., 0], sigma) * weights[chosen][..., None]
        image[tiles] = torch.bmm(row_profile.transpose(1, 2), _profile(step, offset[..., 1], sigma))
    whole = image.reshape(rows, cols, side, side).transpose(1, 2).reshape(rows * side, cols * side)
    return whole[: window.height, : window.width].contiguous()


def _profile(step: Tensor, centre: Tensor, sigma: float) -> Tensor:
    distance = step - centre[..., None]
    return torch.exp(distance.square() * (-0.5 / sigma**2)) / (math.sqrt(2 * math.pi) * sigma)


def _members(local: Tensor, reach: float, side: int, rows: int, cols: int) -> Tensor:
    """Indices (tiles, m) of the scatterers that reach into each tile, filled up with n."""
    n = len(local)
    first = torch.floor((local - reach) / side).long()
    last = torch.floor((local + reach) / side).long()
    corners = [(first, first), (first, last), (last, first), (last, last)]
    pairs = torch.stack([torch.stack([a[:, 0], b[:, 1]], dim=1) for a, b in corners], dim=1)
    limit = pairs.new_tensor([rows, cols])
    valid = ((pairs >= 0) & (pairs < limit)).all(dim=2)
    same_row, same_col = (first == last).unbind(1)
    valid[:, 1] &= ~same_col  # a corner that falls on another is counted once
    valid[:, 2] &= ~same_row
    valid[:, 3] &= ~(same_row | same_col)
    who, corner = torch.nonzero(valid, as_tuple=True)
    row, col = pairs[who, corner].unbind(1)
    tile = row * cols + col
    tile, order = torch.sort(tile, stable=True)
    count = torch.bincount(tile, minlength=rows * cols)
    place = torch.arange(len(tile), device=tile.device) - (torch.cumsum(count, 0) - count)[tile]
    table = tile.new_full((rows * cols, int(count.max()) if len(tile) else 0), n)
    table[tile, place] = who[order]
    return table
