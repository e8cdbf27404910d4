"""The normal equations of the joint fit: every column with its neighbours, the background, the common width."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torchmotif.columns.model import Profiles, gaussians

__all__ = [
    "Blocks",
    "Normal",
    "Unknowns",
    "column_blocks",
    "own_covariance",
    "pair_blocks",
    "project",
    "spline_blocks",
    "steadied_factor",
]

# Which profile (0 value, 1 derivative) the intensity, row and column parameters of a column use along each axis.
_ALONG_ROWS, _ALONG_COLS = (0, 1, 0), (0, 0, 1)
_LOOK = 5  # steps after which an accelerator is asked whether they suffice: each answer is waited for


@dataclass(frozen=True, eq=False)
class Unknowns:
    """One value, gradient or step for everything that is fitted."""

    columns: Float[Tensor, "n 3"]  # intensity, row, column
    spline: Float[Tensor, "a b"]  # background
    width: Float[Tensor, " k"]  # of all columns along (rows, columns); empty where it is held

    def plus(self, other: "Unknowns", factor: Tensor) -> "Unknowns":
        """The sum with `factor` times another."""
        return Unknowns(
            self.columns + factor * other.columns,
            self.spline + factor * other.spline,
            self.width + factor * other.width,
        )

    def dot(self, other: "Unknowns") -> Tensor:
        """The scalar product with another."""
        return (
            (self.columns * other.columns).sum()
            + (self.spline * other.spline).sum()
            + (self.width * other.width).sum()
        )


def project(windows: Float[Tensor, "n s s"], profile: Profiles) -> Float[Tensor, "n 3"]:
    """Products of windows with the derivatives by intensity, row and column, for intensity 1."""
    both = profile.rows[:, :2] @ windows @ profile.cols[:, :2].mT
    return both[:, _ALONG_ROWS, _ALONG_COLS]


def column_blocks(weights: Float[Tensor, "n s s"], profile: Profiles) -> Float[Tensor, "n 3 3"]:
    """Fisher information of each column by itself, for intensity 1."""
    return _blocks(weights, profile.rows, profile.cols, profile.rows, profile.cols)


def pair_blocks(
    weights: Float[Tensor, "h w"],
    profile: Profiles,
    pairs: tuple[Int[Tensor, " p"], Int[Tensor, " p"]],
    *,
    positions: Float[Tensor, "n 2"],
    width: Float[Tensor, " 2"],
) -> Float[Tensor, "p 3 3"]:
    """Fisher information that each pair of overlapping columns has in common, for intensities 1."""
    i, j = pairs
    pixel = profile.start[i][:, :, None] + torch.arange(profile.size, device=i.device) - profile.reach
    offset = (pixel - positions[j][:, :, None]).to(width.dtype)
    rows, cols = (gaussians(offset[:, axis], width[axis]) for axis in range(2))
    own = Profiles(profile.start[i], profile.rows[i], profile.cols[i], profile.reach)
    return _blocks(own.windows(weights), own.rows, own.cols, rows, cols)


def _blocks(weights: Tensor, rows_a: Tensor, cols_a: Tensor, rows_b: Tensor, cols_b: Tensor) -> Tensor:
    n, _, size = rows_a.shape
    rows = (rows_a[:, :2, None] * rows_b[:, None, :2]).reshape(n, 4, size)
    cols = (cols_a[:, :2, None] * cols_b[:, None, :2]).reshape(n, 4, size)
    every = (rows @ weights @ cols.mT).view(n, 2, 2, 2, 2)
    r, c = torch.tensor(_ALONG_ROWS), torch.tensor(_ALONG_COLS)
    return every[:, r[:, None], r[None, :], c[:, None], c[None, :]]


@dataclass(frozen=True, eq=False)
class Blocks:
    """The matrix of the normal equations for columns of intensity 1: it changes little from step to step."""

    own: Float[Tensor, "n 3 3"]
    pairs: tuple[Int[Tensor, " p"], Int[Tensor, " p"]]  # each pair once
    shared: Float[Tensor, "p 3 3"]
    nodes: Int[Tensor, "n q"]  # splines that reach into a column's window
    to_nodes: Float[Tensor, "n 3 q"]
    spline_own: Float[Tensor, "m m"]
    spline_factor: Float[Tensor, "m m"]  # Cholesky factor of `spline_own`, slightly steadied

    def own_scaled(
        self, scales: Float[Tensor, "n 3"], spacing: float, usual: Tensor
    ) -> Float[Tensor, "n 3 3"]:
        """Blocks that can be inverted, and steps that stay sensible.

        Even a column of which the image says nothing has an intensity of the size of the `usual` ones and lies within
        about half a spacing.
        """
        own = self.own * scales[:, :, None] * scales[:, None, :]
        if len(own) == 0:
            return own
        least = 1e-6 * own[:, 0, 0].max() + torch.finfo(own.dtype).tiny
        least = torch.where(usual > 0, torch.maximum(least, usual**-2), least)
        place = least.new_tensor((2 / spacing) ** 2)
        return own + torch.diag(torch.stack([least, place, place]))

    def shared_scaled(self, scales: Float[Tensor, "n 3"]) -> Float[Tensor, "p 3 3"]:
        """The blocks of pairs."""
        i, j = self.pairs
        return self.shared * scales[i][:, :, None] * scales[j][:, None, :]


@dataclass(frozen=True, eq=False)
class Normal:
    """The matrix of the normal equations, in blocks."""

    own: Float[Tensor, "n 3 3"]
    pairs: tuple[Int[Tensor, " p"], Int[Tensor, " p"]]
    shared: Float[Tensor, "p 3 3"]
    nodes: Int[Tensor, "n q"]
    to_nodes: Float[Tensor, "n 3 q"]
    spline_own: Float[Tensor, "m m"]
    spline_factor: Float[Tensor, "m m"]
    width_columns: Float[Tensor, "k n 3"]
    width_spline: Float[Tensor, "k a b"]
    width_own: Float[Tensor, "k k"]

    def times(self, x: Unknowns) -> Unknowns:
        """The matrix times `x`."""
        i, j = self.pairs
        columns = (self.own @ x.columns[:, :, None])[:, :, 0]
        columns.index_add_(0, i, (self.shared @ x.columns[j][:, :, None])[:, :, 0])
        columns.index_add_(0, j, (self.shared.mT @ x.columns[i][:, :, None])[:, :, 0])
        columns += (self.to_nodes @ x.spline.reshape(-1)[self.nodes][:, :, None])[:, :, 0]
        spline = self.spline_own @ x.spline.reshape(-1)
        upward = (x.columns[:, None, :] @ self.to_nodes).flatten()
        spline = spline.index_add(0, self.nodes.flatten(), upward).view_as(x.spline)
        columns = columns + torch.einsum("knp,k->np", self.width_columns, x.width)
        spline = spline + torch.einsum("kab,k->ab", self.width_spline, x.width)
        width = (
            torch.einsum("knp,np->k", self.width_columns, x.columns)
            + torch.einsum("kab,ab->k", self.width_spline, x.spline)
            + self.width_own @ x.width
        )
        return Unknowns(columns, spline, width)

    def solve(self, right: Unknowns, steps: int = 40, tolerance: float = 1e-2) -> Unknowns:
        """The solution for `right` by conjugate gradients, preconditioned with the columns' own blocks."""
        inverse = torch.linalg.inv(self.own)
        # Where no column has an intensity yet, the image says nothing of their width.
        width_scale = 1 / self.width_own.diagonal().clamp(min=torch.finfo(self.width_own.dtype).tiny)

        def precondition(x: Unknowns) -> Unknowns:
            columns = (inverse @ x.columns[:, :, None])[:, :, 0]
            spline = torch.cholesky_solve(x.spline.reshape(-1, 1), self.spline_factor).view_as(x.spline)
            return Unknowns(columns, spline, width_scale * x.width)

        zero = right.columns.new_zeros(())
        x = right.plus(right, zero - 1)
        residual, direction = right, precondition(right)
        size = first = residual.dot(direction)
        settled = size < 0  # not yet
        look = 1 if size.device.type == "cpu" else _LOOK
        for number in range(1, steps + 1):
            image = self.times(direction)
            length = torch.where(settled, 0.0, size / direction.dot(image))  # nothing changes any more
            x = x.plus(direction, length)
            residual = residual.plus(image, -length)
            step = precondition(residual)
            before, size = size, residual.dot(step)
            settled = size <= tolerance**2 * first
            if number % look == 0 and bool(settled):
                break
            direction = step.plus(direction, size / before)
        return x


def spline_blocks(
    weights: Float[Tensor, "h w"], rows: Float[Tensor, "h a"], cols: Float[Tensor, "w b"]
) -> Float[Tensor, "m m"]:
    """Fisher information of the background: products of splines that are at most three knots apart."""
    a, b = rows.shape[1], cols.shape[1]
    row_steps, col_steps = range(min(4, a)), range(min(4, b))
    row_products = torch.cat([rows[:, : a - k] * rows[:, k:] for k in row_steps], dim=1)
    col_products = torch.cat([cols[:, : b - k] * cols[:, k:] for k in col_steps], dim=1)
    products = row_products.mT @ weights @ col_products
    own = weights.new_zeros(a, b, a, b)
    for k, part in zip(row_steps, products.split([a - k for k in row_steps]), strict=True):
        for m, block in zip(col_steps, part.split([b - m for m in col_steps], dim=1), strict=True):
            i = torch.arange(a - k, device=own.device)[:, None]
            j = torch.arange(b - m, device=own.device)[None, :]
            own[i, j, i + k, j + m] = own[i + k, j + m, i, j] = block
            own[i, j + m, i + k, j] = own[i + k, j, i, j + m] = block
    return own.view(a * b, a * b)


def steadied_factor(spline_own: Float[Tensor, "m m"]) -> Float[Tensor, "m m"]:
    """Cholesky factor of the background's block, which is singular where no pixel is usable."""
    diagonal = spline_own.diagonal()
    factor: Tensor = torch.linalg.cholesky(spline_own + torch.diag(1e-4 * diagonal + 1e-6 * diagonal.max()))
    return factor


def own_covariance(
    own: Float[Tensor, "n 3 3"],
    pairs: tuple[Int[Tensor, " p"], Int[Tensor, " p"]],
    shared: Float[Tensor, "p 3 3"],
    which: Int[Tensor, " k"],
    closest: int = 8,
) -> Float[Tensor, "k 3 3"]:
    """Covariance of the intensity, row and column of some columns, their neighbours being unknown too.

    The information of a column with up to `closest` overlapping neighbours, and of these among themselves, is
    inverted as a whole (Cramer-Rao); what lies further out is taken as known.
    """
    n, device = len(own), own.device
    i, j = torch.cat([pairs[0], pairs[1]]), torch.cat([pairs[1], pairs[0]])
    key, order = torch.sort(i * (n + 1) + j)
    none = (n + 1) ** 2  # greater than any key
    key = torch.cat([key, key.new_tensor([none])])
    blocks = torch.cat([torch.cat([shared, shared.mT])[order], shared.new_zeros(1, 3, 3)])
    count = i.new_zeros(n).index_add_(0, i, torch.ones_like(i))
    if device.type == "cpu":  # to ask an accelerator takes longer than empty slots
        closest = min(closest, int(count.amax()) if n else 0)
    slot = torch.arange(closest, device=device)
    first = (count.cumsum(0) - count)[which, None]
    entry = torch.where(slot < count[which, None], first + slot, len(key) - 1)
    neighbours = torch.where(key[entry] == none, n, key[entry] % (n + 1))  # n: an empty slot
    group = torch.cat([which[:, None], neighbours], dim=1)
    wanted = group[:, :, None] * (n + 1) + group[:, None, :]
    found = torch.searchsorted(key, wanted)
    found = torch.where(key[found] == wanted, found, len(key) - 1)
    whole = blocks[found]
    k = group.shape[1]
    index = torch.arange(k, device=device)
    whole[:, index, index] = torch.cat([own, torch.eye(3, dtype=own.dtype, device=device)[None]])[group]
    matrix = whole.permute(0, 1, 3, 2, 4).reshape(-1, 3 * k, 3 * k)
    inverse: Tensor = torch.linalg.inv(matrix.double())[:, :3, :3].to(own.dtype)
    return inverse
