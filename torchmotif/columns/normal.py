"""The normal equations of the joint fit: every column with its neighbours, the background, the common width."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torchmotif.columns.model import Profiles, gaussians

__all__ = ["Normal", "Unknowns", "column_blocks", "own_covariance", "pair_blocks", "project", "spline_blocks"]

# Which profile (0 value, 1 derivative) the intensity, row and column parameters of a column use along each axis.
_ALONG_ROWS, _ALONG_COLS = (0, 1, 0), (0, 0, 1)


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


def column_blocks(
    weights: Float[Tensor, "n s s"], profile: Profiles, intensity: Float[Tensor, " n"]
) -> Float[Tensor, "n 3 3"]:
    """Fisher information of each column by itself."""
    return _blocks(weights, profile.rows, profile.cols, profile.rows, profile.cols) * _scales(
        intensity, intensity
    )


def pair_blocks(
    weights: Float[Tensor, "h w"],
    profile: Profiles,
    pairs: tuple[Int[Tensor, " p"], Int[Tensor, " p"]],
    *,
    positions: Float[Tensor, "n 2"],
    width: Float[Tensor, " 2"],
    intensity: Float[Tensor, " n"],
) -> Float[Tensor, "p 3 3"]:
    """Fisher information that each pair of overlapping columns has in common."""
    i, j = pairs
    pixel = profile.start[i][:, :, None] + torch.arange(profile.size, device=i.device) - profile.reach
    offset = (pixel - positions[j][:, :, None]).to(width.dtype)
    rows, cols = (gaussians(offset[:, axis], width[axis]) for axis in range(2))
    own = Profiles(profile.start[i], profile.rows[i], profile.cols[i], profile.reach)
    return _blocks(own.windows(weights), own.rows, own.cols, rows, cols) * _scales(intensity[i], intensity[j])


def _blocks(weights: Tensor, rows_a: Tensor, cols_a: Tensor, rows_b: Tensor, cols_b: Tensor) -> Tensor:
    n, _, size = rows_a.shape
    rows = (rows_a[:, :2, None] * rows_b[:, None, :2]).reshape(n, 4, size)
    cols = (cols_a[:, :2, None] * cols_b[:, None, :2]).reshape(n, 4, size)
    every = (rows @ weights @ cols.mT).view(n, 2, 2, 2, 2)
    r, c = torch.tensor(_ALONG_ROWS), torch.tensor(_ALONG_COLS)
    return every[:, r[:, None], r[None, :], c[:, None], c[None, :]]


def _scales(a: Tensor, b: Tensor) -> Tensor:
    """A derivative by position is proportional to the intensity, one by intensity is not."""
    left = torch.stack([torch.ones_like(a), a, a], dim=1)
    right = torch.stack([torch.ones_like(b), b, b], dim=1)
    return left[:, :, None] * right[:, None, :]


@dataclass(frozen=True, eq=False)
class Normal:
    """The matrix of the normal equations, in blocks."""

    own: Float[Tensor, "n 3 3"]
    pairs: tuple[Int[Tensor, " p"], Int[Tensor, " p"]]  # each pair once
    shared: Float[Tensor, "p 3 3"]
    nodes: Int[Tensor, "n q"]  # splines that reach into a column's window
    to_nodes: Float[Tensor, "n 3 q"]
    spline_own: Float[Tensor, "m m"]
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

    def solve(self, right: Unknowns, steps: int = 40, tolerance: float = 1e-3) -> Unknowns:
        """The solution for `right` by conjugate gradients, preconditioned with the columns' own blocks."""
        inverse = torch.linalg.inv(self.own)
        diagonal = self.spline_own.diagonal()
        factor = torch.linalg.cholesky(self.spline_own + torch.diag(1e-4 * diagonal + 1e-6 * diagonal.max()))
        width_scale = 1 / self.width_own.diagonal()

        def precondition(x: Unknowns) -> Unknowns:
            columns = (inverse @ x.columns[:, :, None])[:, :, 0]
            spline = torch.cholesky_solve(x.spline.reshape(-1, 1), factor).view_as(x.spline)
            return Unknowns(columns, spline, width_scale * x.width)

        zero = right.columns.new_zeros(())
        x = right.plus(right, zero - 1)
        residual, direction = right, precondition(right)
        size = first = residual.dot(direction)
        for _ in range(steps):
            image = self.times(direction)
            length = size / direction.dot(image)
            x = x.plus(direction, length)
            residual = residual.plus(image, -length)
            step = precondition(residual)
            before, size = size, residual.dot(step)
            if bool(size <= tolerance**2 * first):
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


def own_covariance(
    own: Float[Tensor, "n 3 3"],
    pairs: tuple[Int[Tensor, " p"], Int[Tensor, " p"]],
    shared: Float[Tensor, "p 3 3"],
    closest: int = 8,
) -> Float[Tensor, "n 3 3"]:
    """Covariance of each column's intensity, row and column, its neighbours being unknown too.

    The information of a column with up to `closest` overlapping neighbours, and of these among themselves, is
    inverted as a whole (Cramer-Rao); what lies further out is taken as known.
    """
    n, device = len(own), own.device
    i, j = torch.cat([pairs[0], pairs[1]]), torch.cat([pairs[1], pairs[0]])
    key, order = torch.sort(i * (n + 1) + j)
    none = (n + 1) ** 2  # greater than any key
    key = torch.cat([key, key.new_tensor([none])])
    blocks = torch.cat([torch.cat([shared, shared.mT])[order], shared.new_zeros(1, 3, 3)])
    count = torch.bincount(i, minlength=n)
    slot = torch.arange(min(closest, int(count.amax()) if len(count) else 0), device=device)
    entry = torch.where(slot < count[:, None], (count.cumsum(0) - count)[:, None] + slot, len(key) - 1)
    neighbours = torch.where(key[entry] == none, n, key[entry] % (n + 1))  # n: an empty slot
    group = torch.cat([torch.arange(n, device=device)[:, None], neighbours], dim=1)
    wanted = group[:, :, None] * (n + 1) + group[:, None, :]
    found = torch.searchsorted(key, wanted)
    found = torch.where(key[found] == wanted, found, len(key) - 1)
    whole = blocks[found]
    k = group.shape[1]
    index = torch.arange(k, device=device)
    whole[:, index, index] = torch.cat([own, torch.eye(3, dtype=own.dtype, device=device)[None]])[group]
    matrix = whole.permute(0, 1, 3, 2, 4).reshape(n, 3 * k, 3 * k)
    inverse: Tensor = torch.linalg.inv(matrix.double())[:, :3, :3].to(own.dtype)
    return inverse
