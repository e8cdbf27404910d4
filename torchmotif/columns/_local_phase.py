"""Local phases of the orders of a lattice, in Gaussian windows: where in its cell every pixel lies, and how far the image agrees with it."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Complex, Float, Int
from torch import Tensor

from torchmotif._arrays import Budget

__all__ = [
    "WIDER",
    "Local",
    "Placed",
    "Superlattice",
    "Windowed",
    "Windows",
    "agreement",
    "phases",
    "placed",
]

_CHUNK = Budget(1 << 19, 1 << 25)  # pixels whose places are told at a time
# Windows in which weak orders tell the half of a cell, over those in which the strong ones place it. With 2, SnO2 along the rows at 1/25 of the dose (360 px) has recall 0.93 for 0.99; with 3, one that
# is strained by up to 6 % has 1.00 as with 2.
WIDER = 3.0
_STEP = 2.0  # nodes of the orders' grid per standard deviation


class Windowed(NamedTuple):
    """Means in Gaussian windows around the nodes of a coarse grid, for every tile."""

    field: Float[Tensor, "t k m n"]
    step: tuple[float, float]  # pixels between nodes

    def at_pixels(self, shape: tuple[int, int]) -> Float[Tensor, "t k h w"]:
        """Between the nodes, at every pixel."""
        found: Tensor = F.interpolate(self.field, shape, mode="bilinear", align_corners=True)
        return found

    def at(self, positions: Float[Tensor, "n 2"], tile: Int[Tensor, " n"]) -> Float[Tensor, "n k"]:
        """At some positions in the tiles."""
        m, n = self.field.shape[2:]
        (row, col), (high, wide) = positions.to(self.field.dtype).unbind(1), self.step
        row, col = (row / high).clamp(0, m - 1.001), (col / wide).clamp(0, n - 1.001)
        i, j = row.long(), col.long()
        u, v = (row - i)[:, None], (col - j)[:, None]
        f = self.field
        upper = (1 - v) * f[tile, :, i, j] + v * f[tile, :, i, j + 1]
        lower = (1 - v) * f[tile, :, i + 1, j] + v * f[tile, :, i + 1, j + 1]
        return (1 - u) * upper + u * lower


class Windows(NamedTuple):
    """Gaussian windows along both axes, of standard deviation `sigma`, around nodes half of that apart."""

    rows: Float[Tensor, "m h"]
    cols: Float[Tensor, "n w"]
    step: tuple[float, float]
    sigma: float

    @staticmethod
    def of(like: Float[Tensor, "t h w"], sigma: float) -> "Windows":
        """For tiles of that shape."""
        sides: dict[int, tuple[Tensor, float]] = {}
        for length in like.shape[1:]:
            if length not in sides:
                count = max(2, math.ceil((length - 1) * _STEP / sigma) + 1)
                # In units in which the exponent is the square of the distance.
                node, pixel = (
                    torch.linspace(
                        0, (length - 1) / (math.sqrt(2) * sigma), n, dtype=like.dtype, device=like.device
                    )
                    for n in (count, length)
                )
                sides[length] = ((node[:, None] - pixel).square_().neg_().exp_(), (length - 1) / (count - 1))
        (rows, high), (cols, wide) = (sides[length] for length in like.shape[1:])
        return Windows(rows, cols, (high, wide), sigma)

    def sums(self, image: Float[Tensor, "*t h w"]) -> Float[Tensor, "*t m n"]:
        """Weighted sums of the pixels."""
        return self.rows @ image @ self.cols.mT

    def mean(self, image: Float[Tensor, "t h w"], mask: Float[Tensor, "t h w"]) -> Float[Tensor, "t m n"]:
        """Weighted means of the pixels of a mask."""
        least = 1e-3 * 2 * math.pi * self.sigma**2
        return self.sums(image * mask) / self.sums(mask).clamp(min=least)


class Local(NamedTuple):
    """The usable pixels of some tiles in Gaussian windows, in which the local phases of any orders are measured.

    Geometric phase analysis (Hytch et al. 1998) of the pixels without their mean.
    """

    windows: Windows
    pixels: Float[Tensor, "t h w"]  # zero where they are not usable
    mask: Float[Tensor, "t h w"]
    total: Float[Tensor, "t m n"]  # of the weights of a window
    mean: Float[Tensor, "t m n"]

    @staticmethod
    def of(level: Float[Tensor, "t h w"], usable: Tensor, sigma: float) -> "Local":
        """In windows of standard deviation `sigma`."""
        windows, mask = Windows.of(level, sigma), usable.to(level.dtype)
        total = windows.sums(mask).clamp(min=1e-3 * 2 * math.pi * sigma**2)
        pixels = level * mask
        return Local(windows, pixels, mask, total, windows.sums(pixels) / total)

    def orders(self, vectors: Float[Tensor, "k 2"]) -> Windowed:
        """Real and imaginary part of each order without its carrier; the mean and the sum of the window's weights as the last channels."""
        level, (m, n) = self.pixels, self.total.shape[1:]
        # The carrier of an order is a product along both axes: of each the cosine and, below it, the sine, in the windows.
        sides = []
        for node, g in zip(self.windows[:2], vectors.mT, strict=True):
            turn = torch.arange(node.shape[1], device=level.device, dtype=level.dtype) * (
                -2 * math.pi * g[:, None]
            )
            sides.append((torch.stack([turn.cos(), turn.sin()], dim=1)[:, :, None] * node).flatten(1, 2))
        (k, *_), (t, _, w) = sides[0].shape, level.shape
        along = torch.bmm(sides[0].flatten(0, 1).expand(2 * t, -1, -1), torch.cat([level, self.mask]))
        along = along.view(2 * t, k, 2 * m, w).transpose(0, 1).flatten(1, 2)
        both = torch.bmm(along, sides[1].mT).view(k, 2, t, 2, m, 2, n)
        real = both[:, :, :, 0, :, 0] - both[:, :, :, 1, :, 1]
        imaginary = both[:, :, :, 0, :, 1] + both[:, :, :, 1, :, 0]
        ordered, ones = torch.stack([real, imaginary], dim=1).unbind(2)
        field = ((ordered - self.mean * ones) / self.total).flatten(0, 1).transpose(0, 1)
        return Windowed(torch.cat([field, self.mean[:, None], self.total[:, None]], dim=1), self.windows.step)


def phases(field: Float[Tensor, "t k m n"]) -> Float[Tensor, "t j m n"]:
    """Of orders, from real and imaginary part of each, over 2 pi."""
    found: Tensor = torch.atan2(field[:, 1::2], field[:, ::2]).div_(2 * math.pi)
    return found


class Superlattice(NamedTuple):
    """What tells, in a cell twice as large as that of the lattice of its brightest columns, which half of it a place lies in.

    Attributes
    ----------
    antiphase : Tensor of shape (2,)
        Translation by which the brightest columns repeat, in sides of the cell.
    vectors : Tensor of shape (2 + k, 2)
        The two orders of that lattice, by which the cell is placed, and k orders of the superlattice alone, in periods per pixel.
    inverse : Tensor of shape (2, 2)
        By which phases of the first two give places in the cell.
    turns : Tensor of shape (k, 2)
        The others as multiples of the first two.
    factors : complex Tensor of shape (k,)
        Structure factors of the others.
    """

    antiphase: Float[Tensor, " 2"]
    vectors: Float[Tensor, "k+2 2"]
    inverse: Float[Tensor, "2 2"]
    turns: Float[Tensor, "k 2"]
    factors: Complex[Tensor, " k"]

    def sign(self, level: Float[Tensor, "t h w"], usable: Tensor, sigma: float) -> Windowed:
        """Which half its orders show, as the sign of a wave with half the phase of the lattice's: real and imaginary part.

        Where a phase of the lattice begins anew, the half that it names and the wave change sign together, so that this one has no jump.
        """
        orders = Local.of(level, usable, WIDER * sigma).orders(self.vectors)
        own = phases(orders.field[:, :4])
        factor = torch.complex(orders.field[:, 4:-2:2], orders.field[:, 5:-2:2])
        turned = torch.einsum("ki,timn->tkmn", self.turns, own)  # by the place alone
        matched = (factor * self.factors.conj()[:, None, None] * _unit(-turned)).real.sum(1)
        found = matched * self._wave(own)
        return Windowed(torch.view_as_real(found).movedim(-1, 1), orders.step)

    def places(
        self, phase: Float[Tensor, "t 2 h w"], sign: Float[Tensor, "t 2 h w"]
    ) -> Float[Tensor, "t 2 h w"]:
        """Places in the cell, without its carrier, from phases of the lattice's orders and the `sign` there."""
        wave = self._wave(phase)
        other = sign[:, 0] * wave.real + sign[:, 1] * wave.imag < 0
        place = torch.einsum("ij,tjhw->tihw", self.inverse, phase)
        return place + other[:, None] * self.antiphase[:, None, None]

    def _wave(self, phase: Float[Tensor, "t 2 a b"]) -> Complex[Tensor, "t a b"]:
        """With half the phase of the lattice's orders."""
        return _unit(torch.einsum("i,tiab->tab", self.antiphase, phase))


def _unit(turns: Tensor) -> Tensor:
    """Complex numbers of length 1."""
    return torch.polar(torch.ones_like(turns), 2 * math.pi * turns)


class Placed(NamedTuple):
    """Every pixel of some tiles in the cell of a lattice."""

    place: Float[Tensor, "t 2 h w"]  # phases of two orders over 2 pi, in [0, 1)
    level: Float[Tensor, "t h w"]  # pixels less their local mean
    amplitude: Float[Tensor, "t 2 m n"]  # of both orders on the coarse grid
    steps: bool  # whether steps of the background were taken off


def placed(
    level: Float[Tensor, "t h w"],
    usable: Tensor,
    vectors: Float[Tensor, "2 2"],
    sigma: float,
    *,
    steps: bool = False,
    superlattice: Superlattice | None = None,
    fine: Float[Tensor, "t h w"] | None = None,
) -> Placed:
    """The place of every pixel in its cell, by the local phases of two orders; `steps` of the background may have been taken off.

    Vectors are the cell's own orders; that of a superlattice is placed by those of the lattice, and by the weak ones of its own. Phases are those in a `fine` image if that is given.
    """
    _, h, w = level.shape
    seen = level if fine is None else fine
    local = Local.of(seen, usable, sigma)
    orders = local.orders(vectors if superlattice is None else superlattice.vectors[:2])
    if fine is not None:
        mean = local.windows.sums(level * local.mask) / local.total
        orders = orders._replace(field=torch.cat([orders.field[:, :4], mean[:, None]], dim=1))
    sign = orders if superlattice is None else superlattice.sign(seen, usable, sigma)
    row, col = (torch.arange(length, device=level.device, dtype=torch.float64) for length in (h, w))
    g = vectors.double()
    carrier = ((g[:, 0, None] * row % 1)[:, :, None] + (g[:, 1, None] * col % 1)[:, None]).to(level.dtype)

    def parts(pixels: Tensor, some: Tensor, signs: Tensor) -> tuple[Tensor, Tensor]:
        field = Windowed(some, orders.step).at_pixels((h, w))
        phase = phases(field[:, :4])
        if superlattice is not None:
            phase = superlattice.places(phase, Windowed(signs, sign.step).at_pixels((h, w)))
        phase = phase.add_(carrier).remainder_(1)
        return phase.masked_fill_(phase >= 1, 0.0), pixels - field[:, 4]  # what rounds to 1 is 0

    every = [parts(*some) for some in _CHUNK.split(level, orders.field, sign.field)]
    place, centred = (torch.cat(one) for one in zip(*every, strict=True))
    amplitude = torch.hypot(orders.field[:, 0:4:2], orders.field[:, 1:4:2])
    return Placed(place, centred, amplitude, steps)


def agreement(
    level: Float[Tensor, "t h w"], usable: Tensor, model: Float[Tensor, "t h w"], sigma: float
) -> Windowed:
    """How far the image is what a model lets expect: regression of the one on the other, and by how much their squared difference is less.

    In Gaussian windows of standard deviation `sigma`; the coefficient is 1 in the crystal and 0 where there is another or none.
    """
    windows, mask = Windows.of(level, sigma), usable.to(level.dtype)
    pairs = [
        torch.stack([windows.sums(image * one * seen) for image in (some, one)])
        for some, one, seen in _CHUNK.split(level, model, mask)
    ]
    both, own = torch.cat(pairs, dim=1)
    full = 2 * math.pi * sigma**2
    least = 1e-3 * full * model.square().mean()
    return Windowed(torch.stack([both / (own + least), (2 * both - own) / full], dim=1), windows.step)
