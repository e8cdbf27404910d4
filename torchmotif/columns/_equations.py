"""The equations of one step of the joint fit: every column with its neighbours, the background, the common width."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchmotif._arrays import Budget
from torchmotif.columns._neighbours import Neighbours

__all__ = [
    "Equations",
    "Smoothing",
    "Unknowns",
    "covariance_of",
    "inverse3",
    "spline_band",
    "spline_index",
    "squeezed",
]

# Steps of conjugate gradients. Most of Gauss and Newton's need five to eight, at 1/50 of the dose up to 14; what is left over then is
# in the next. An accelerator makes nine of each: of an image of 112 px, at 10 electrons per pixel, the column that moves most is 0.007 of
# its error off the exact solution, with eight 0.015, with twelve 0.003. With seven, columns cut by the border of a small image move by up to 0.11 px.
_MOST, _MOST_ON_ACCELERATOR = 12, 9
_TOLERANCE = 1e-2  # of the first residual: the step is one of many
_CLOSEST = 8  # neighbours whose positions are unknown too in a column's covariance
_CHUNK = Budget(2048, 65_536)  # columns whose covariances are inverted at a time


def squeezed(
    left: Float[Tensor, "h a"], images: Float[Tensor, "t h w"], right: Float[Tensor, "w b"]
) -> Float[Tensor, "t a b"]:
    """Products left^T image right of every tile."""
    t = len(images)
    return torch.bmm(torch.bmm(left.mT.expand(t, -1, -1), images), right.expand(t, -1, -1))


def inverse3(matrix: Float[Tensor, "n 3 3"]) -> Float[Tensor, "n 3 3"]:
    """Inverses by cofactors: no question to the host whether one is singular."""
    # Rows i + 1 and i + 2 give column i.
    columns = torch.linalg.cross(matrix.roll(-1, 1), matrix.roll(-2, 1))
    determinant = (matrix[:, 0] * columns[:, 0]).sum(1)
    inverse: Tensor = columns.mT / determinant[:, None, None]
    return inverse


def spline_band(
    weights: Float[Tensor, "t h w"], rows: Float[Tensor, "h a"], cols: Float[Tensor, "w b"]
) -> Float[Tensor, "t ab 49"]:
    """Fisher information of the background: each spline with those at most three knots away along either axis."""

    def shifted(basis: Tensor) -> Tensor:
        padded = torch.nn.functional.pad(basis, (3, 3))
        return (padded.unfold(1, basis.shape[1], 1) * basis[:, None]).flatten(1)

    products = squeezed(shifted(rows), weights, shifted(cols))
    t, a, b = len(weights), rows.shape[1], cols.shape[1]
    return products.view(t, 7, a, 7, b).permute(0, 2, 4, 1, 3).reshape(t, a * b, 49)


def spline_index(shape: Sequence[int], tiles: int, device: torch.device) -> Int[Tensor, "m 49"]:
    """Numbers of the splines that the entries of `spline_band` belong to, over all tiles; -1 for none."""
    number = torch.arange(tiles * math.prod(shape), device=device).view(tiles, *shape)
    padded = torch.nn.functional.pad(number, (3, 3, 3, 3), value=-1)
    return padded.unfold(1, 7, 1).unfold(2, 7, 1).reshape(-1, 49)


class Smoothing(NamedTuple):
    """The background's information if all weights were equal, which is a Kronecker product of one matrix for each axis."""

    rows: Float[Tensor, "a a"]  # inverses
    cols: Float[Tensor, "b b"]
    diagonal: Float[Tensor, "a b"]  # of the product

    @staticmethod
    def of(rows: Float[Tensor, "h a"], cols: Float[Tensor, "w b"]) -> "Smoothing":
        """From the splines along both axes."""
        gram = [basis.mT @ basis for basis in (rows.double(), cols.double())]
        raised = [one + 1e-4 * torch.diag(one.diagonal()) for one in gram]
        inverse = [torch.linalg.inv_ex(one).inverse.to(rows.dtype) for one in raised]
        diagonal = gram[0].diagonal()[:, None] * gram[1].diagonal()
        return Smoothing(inverse[0], inverse[1], diagonal.to(rows.dtype))


@dataclass(frozen=True, eq=False)
class Unknowns:
    """How the unknowns of a step lie in one vector: three of each column, three zeros, the splines of all tiles, widths.

    Attributes
    ----------
    columns : int
    spline : (int, int, int)
        Tiles, and splines along rows and columns.
    widths : int
        2 where the common width is fitted, else 0.
    tile : Tensor of shape (n,)
    """

    columns: int
    spline: tuple[int, int, int]
    widths: int
    tile: Int[Tensor, " n"]

    @property
    def parts(self) -> list[int]:
        """Their lengths."""
        return [3 * self.columns, 3, math.prod(self.spline), self.widths]

    @property
    def home(self) -> Int[Tensor, " v"]:
        """The tile of each; a width is fitted to one tile alone."""
        (tiles, a, b), columns = self.spline, self.tile[:, None].expand(-1, 3).flatten()
        splines = torch.arange(tiles * a * b, device=columns.device) // (a * b)
        return torch.cat([columns, columns.new_zeros(3), splines, columns.new_zeros(self.widths)])

    def joined(self, columns: Tensor, spline: Tensor, width: Tensor) -> Float[Tensor, " v"]:
        """One vector of the three kinds."""
        return torch.cat([columns.flatten(), columns.new_zeros(3), spline.flatten(), width])

    def split(self, x: Float[Tensor, " v"]) -> tuple[Tensor, Tensor, Tensor]:
        """Columns (n, 3), splines (t, a, b) and widths (k,)."""
        columns, _, spline, width = x.split(self.parts)
        return columns.view(-1, 3), spline.view(self.spline), width


@dataclass(frozen=True, eq=False)
class Equations:
    """The matrix of one step, row by row.

    Attributes
    ----------
    unknowns : Unknowns
    own : Tensor of shape (n, 3, 3)
        Of each column by itself.
    rows : Tensor of shape (n, 3, l)
        Of each column by itself, with the q splines under it, and with its neighbours.
    index : Tensor of shape (n, l)
        Which unknowns those are.
    splines : int
        The number q.
    band : Tensor of shape (m, 49)
        Of each spline with those around.
    band_index : Tensor of shape (m, 49)
        Which unknowns those are.
    smoothing : Smoothing
    free : boolean Tensor of shape (t,)
        Tiles whose background is fitted.
    border : Tensor of shape (k, v)
        Of the widths with everything.
    """

    unknowns: Unknowns
    own: Float[Tensor, "n 3 3"]
    rows: Float[Tensor, "n 3 l"]
    index: Int[Tensor, "n l"]
    splines: int
    band: Float[Tensor, "m 49"]
    band_index: Int[Tensor, "m 49"]
    smoothing: Smoothing
    free: Bool[Tensor, " t"]
    border: Float[Tensor, "k v"]

    def solve(self, right: Float[Tensor, " v"]) -> Float[Tensor, " v"]:
        """The solution for `right` by conjugate gradients, preconditioned with the blocks of columns and background."""
        # On a CPU the answer costs nothing; an accelerator's host would wait for it, and a step too many changes nothing.
        asked = right.device.type == "cpu"
        # What every round needs has its memory, and its parts are named, once.
        x, residual = torch.zeros_like(right), right.clone()
        step, direction, image = torch.empty_like(right), torch.empty_like(right), torch.zeros_like(right)
        multiply, precondition = self._product(direction, image), self._preconditioner(residual, step)
        dot, spread = self._sums()
        along, left = dot(direction, image), dot(residual, step)
        precondition()
        direction.copy_(step)
        none, size = right.new_zeros(()), left()
        small = size * _TOLERANCE**2 + torch.finfo(size.dtype).tiny
        moving = size > small
        last = (_MOST if asked else _MOST_ON_ACCELERATOR) - 1
        for number in range(last + 1):
            multiply()
            share = size / along()
            # Of what no longer moves nothing changes where others go on.
            length = spread(torch.where(moving, share, none) if asked else share)
            x.addcmul_(length, direction)
            if number == last:
                break
            residual.addcmul_(length, image, value=-1)
            precondition()
            before, size = size, left()
            share = size / before
            if asked:
                moving = size > small
                if not bool(moving.any()):
                    break
                share = torch.where(moving, share, none)
            torch.addcmul(step, spread(share), direction, out=direction)
        return x

    def _sums(self) -> tuple[Callable[[Tensor, Tensor], Callable[[], Tensor]], Callable[[Tensor], Tensor]]:
        """Scalar products of two vectors, as they are when asked, in every tile; and from numbers of the tiles to those of the unknowns."""
        tiles = self.unknowns.spline[0]
        none = self.own.new_full((tiles,), torch.finfo(self.own.dtype).tiny)  # what is nothing stays so
        if tiles == 1:
            return lambda x, y: partial(torch.addmv, none, x[None], y), lambda number: number
        home = self.unknowns.home
        return lambda x, y: lambda: none.index_add(0, home, x * y), lambda number: number[home]

    def _product(self, x: Float[Tensor, " v"], product: Float[Tensor, " v"]) -> Callable[[], None]:
        """Sets one vector to the matrix times the other."""
        (columns, zeros, splines, widths), rows = self.unknowns.parts, self.rows
        under = rows[:, :, 3 : 3 + self.splines].contiguous()
        nodes = (self.index[:, 3 : 3 + self.splines] - (columns + 3)).flatten()
        index, band = self.index.flatten(), self.band_index.flatten()
        near, around = x.new_empty(*self.index.shape, 1), x.new_empty(self.band.shape)
        upward = x.new_empty(len(rows), 1, self.splines)
        flat = near.view(-1), around.view(-1), upward.view(-1)
        own, _, spline, _ = product.split(self.unknowns.parts)
        own, each, width = own.view(-1, 3, 1), x[:columns].view(-1, 1, 3), x[columns + zeros + splines :]
        last = product[columns + zeros + splines :]
        down = self.border.clone()
        down[:, len(down.mT) - widths :] = 0.0  # of the widths with themselves once
        down = down.mT

        def multiply() -> None:
            torch.index_select(x, 0, index, out=flat[0])
            torch.bmm(rows, near, out=own)
            torch.index_select(x, 0, band, out=flat[1])
            torch.bmm(each, under, out=upward)
            torch.sum(around.mul_(self.band), dim=1, out=spline)
            spline.scatter_add_(0, nodes, flat[2])
            if widths:
                torch.mv(self.border, x, out=last)
                product.addmv_(down, width)

        return multiply

    def _preconditioner(self, x: Float[Tensor, " v"], near: Float[Tensor, " v"]) -> Callable[[], None]:
        """Sets one vector to about the inverse of the matrix times the other."""
        inverse, unknowns, tiny = inverse3(self.own), self.unknowns, torch.finfo(self.own.dtype).tiny
        rows, cols = (one.expand(unknowns.spline[0], -1, -1) for one in self.smoothing[:2])
        # The weights of a tile are not equal: their local means scale what would be the inverse if they were.
        weight = self.band[:, 24].view(unknowns.spline) / self.smoothing.diagonal
        least = 1e-3 * weight.flatten(1).amax(1)[:, None, None] + tiny
        scale = torch.maximum(weight, least).rsqrt() * self.free[:, None, None]
        # Where no column has an intensity yet, the image says nothing of their width.
        width_scale = 1 / self.border[:, -unknowns.widths :].diagonal().clamp(min=tiny)
        near.zero_()
        columns, _, spline, width = x.split(unknowns.parts)
        to_columns, _, to_spline, to_width = near.split(unknowns.parts)
        columns, to_columns = columns.view(-1, 3, 1), to_columns.view(-1, 3, 1)
        spline, to_spline = spline.view(unknowns.spline), to_spline.view(unknowns.spline)
        scaled, half = torch.empty_like(spline), torch.empty_like(spline)

        def precondition() -> None:
            torch.bmm(inverse, columns, out=to_columns)
            torch.bmm(rows, torch.mul(scale, spline, out=scaled), out=half)
            torch.mul(torch.bmm(half, cols, out=scaled), scale, out=to_spline)
            if unknowns.widths:
                torch.mul(width, width_scale, out=to_width)

        return precondition


def covariance_of(
    own: Float[Tensor, "n 3 3"],
    shared: Float[Tensor, "n l 3 3"],
    neighbours: Neighbours,
    which: Int[Tensor, " k"],
) -> Float[Tensor, "k 3 3"]:
    """Covariance of the intensity, row and column of some columns, their neighbours being unknown too.

    The information of a column with up to eight overlapping neighbours, and of these among themselves, is
    inverted as a whole (Cramer-Rao); what lies further out is taken as known.
    """
    n, every = len(own), neighbours.every
    # One row more, for the neighbours that are none: they know themselves and share nothing.
    alone = torch.eye(3, dtype=own.dtype, device=own.device)
    own = torch.cat([own, alone[None]])
    every = torch.cat([every, every.new_full((1, every.shape[1]), n)])
    shared = torch.cat([shared, shared.new_zeros(1, *shared.shape[1:])])
    near = every[:n, :_CLOSEST]
    parts = [own[:0]]
    for some in which.split(_CHUNK.on(which)):
        group = torch.cat([some[:, None], near[some]], dim=1)
        # What each of a group shares with each other: its entry in the table of the one, where it has one.
        same = (every[group][:, :, None, :] == group[:, None, :, None]) & (group < n)[:, None, :, None]
        matrix = torch.einsum("ngol,nglpq->ngpoq", same.to(own.dtype), shared[group])
        k = group.shape[1]
        index = torch.arange(k, device=own.device)
        matrix[:, index, :, index] = own[group].transpose(0, 1)
        whole = matrix.reshape(len(some), 3 * k, 3 * k).double()
        parts.append(torch.linalg.inv_ex(whole).inverse[:, :3, :3].to(own.dtype))
    return torch.cat(parts)
