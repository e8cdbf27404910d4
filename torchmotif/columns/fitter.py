"""The state of a joint fit of columns, background and common width, and what its steps are made of."""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from torchmotif._windows import runs
from torchmotif.columns.curvature import blunting
from torchmotif.columns.model import profiles, spline_basis
from torchmotif.columns.neighbours import pairs_within
from torchmotif.columns.normal import (
    Blocks,
    Normal,
    Unknowns,
    column_blocks,
    own_covariance,
    pair_blocks,
    project,
    spline_blocks,
    steadied_factor,
)
from torchmotif.columns.shape import Shape, Start

__all__ = ["Fitter"]

_OVERLAP = 5.0  # widths within which two columns share information: at 5, a Gaussian's overlap is 0.2 %
_KNOTS = 4.0  # spacings between the background's knots
_CLOSEST_KNOTS = 16.0  # pixels: nearer ones would only cost time
# Standard deviations of its intensity, neighbours known, below which a column may not be there.
_DOUBTFUL = 6.0


class Fitter:
    """The state of a fit, and its steps."""

    def __init__(
        self,
        data: Float[Tensor, "h w"],
        usable: Bool[Tensor, "h w"],
        start: Start,
        shape: Shape,
        spacing: float,
        *,
        held: Bool[Tensor, " n"],
    ) -> None:
        self.data, self.usable, self.spacing = data, usable, spacing
        self.positions, self.shape, self.stuck = start.positions, shape, held
        step = max(_KNOTS * spacing, _CLOSEST_KNOTS)
        self.rows, self.cols = (spline_basis(length, step, data) for length in data.shape)
        self.intensity, self.single = start.intensity, start.single
        self.blunting = data.new_zeros(())
        flat = data.new_zeros(self.rows.shape[1], self.cols.shape[1])
        self.spline = flat if start.spline is None else start.spline
        self.look()

    def look(self) -> None:
        """Bring the model image up to date."""
        h, w = self.data.shape
        self.profile = profiles(self.positions, self.shape.width, (h, w), self.shape.widest)
        self.background = self.rows @ self.spline @ self.cols.mT
        self.expected = (
            self._crop(self.profile.render(self.intensity, self._padded_shape())) + self.background
        )

    def assemble(self, expected: Float[Tensor, "h w"]) -> None:
        """Weights and matrix of the normal equations for the state as it is; they serve for several steps."""
        self.variance = self.shape.noise.variance(expected)
        weights = self.usable / self.variance
        padded = self._pad(weights)
        own = column_blocks(self.profile.windows(padded), self.profile)
        spline_own = spline_blocks(weights, self.rows, self.cols)
        self.blocks = Blocks(
            own,
            *self._pairs(padded),
            *self._to_splines(padded),
            spline_own,
            steadied_factor(spline_own),
        )

    def step(self, *, move: bool, widen: bool) -> Tensor:
        """One Gauss-Newton step of the quasi-likelihood: of intensities and background, and what else may change.

        Returns how far it leads, squared, in standard deviations: all but a thousandth of the columns go less
        far. Those at the rim or too faint to be there do not count.
        """
        normal, right = self._equations(move=move, widen=widen)
        change = normal.solve(right)
        far = right.columns * change.columns
        columns, far = change.columns, (right.columns * change.columns).sum(dim=1)
        if move:  # columns that are held have no shift
            limit = 0.5 * self.shape.width.mean()
            length = columns[:, 1:].norm(dim=1, keepdim=True).clamp(min=1e-12)
            columns = columns * (limit / length).clamp(max=1)
            moved = self.positions + columns[:, 1:].double()
            last = moved.new_tensor(self.data.shape) - 0.5
            self.positions = torch.minimum(moved.clamp(min=-0.5), last)
            outside = (moved != self.positions).any(dim=1)
            self.stuck = self.stuck | outside  # those would go back and forth
            far = far * ~outside
        self.intensity = self.intensity + columns[:, 0]
        far = far * (self.intensity.square() * self.blocks.own[:, 0, 0] > _DOUBTFUL**2)
        self.spline = self.spline + change.spline
        if widen:
            factor = (change.width / self.shape.width).clamp(-0.2, 0.2)
            self.shape = self.shape.but(width=self.shape.width * (1 + factor))
        self.look()
        if len(far) == 0:
            return self.data.new_zeros(())
        most: Tensor = far.kthvalue(max(1, math.ceil(0.999 * len(far)))).values
        return most

    def misfit(self) -> Tensor:
        """Mean squared residual over variance."""
        return ((self.data - self.expected).square() / self.variance * self.usable).mean()

    def state(self) -> tuple[Tensor, ...]:
        """What the steps have reached: positions, intensities, background, width."""
        return self.positions, self.intensity, self.spline, self.shape.width

    def restore(self, state: tuple[Tensor, ...]) -> None:
        """Go to another state."""
        self.positions, self.intensity, self.spline, width = state
        self.shape = self.shape.but(width=width)
        self.look()

    def halfway(self, state: tuple[Tensor, ...]) -> None:
        """Go half of the way back to an earlier state."""
        pairs = zip(state, self.state(), strict=True)
        self.restore(tuple(new if old is new else (old + new) / 2 for old, new in pairs))

    def learn_noise(self, *, settled: bool) -> None:
        """Take the noise from the residuals."""
        usable = torch.nonzero(self.usable.flatten())[:, 0]
        residual = (self.data - self.expected).flatten()[usable]
        unknowns = 3 * len(self.intensity) + self.spline.numel()
        noise = self.shape.noise.fitted(
            self.expected.flatten()[usable], residual, unknowns=unknowns, settled=settled
        )
        self.shape = self.shape.but(noise=noise)

    def blunt(self) -> None:
        """Allow for the curvature of the model in the steps that follow."""
        own, pairs, shared = self._information(self.blocks)  # assembled just now
        covariance = own_covariance(own, pairs, shared, torch.arange(len(own), device=own.device))
        padded = blunting(self.profile, self.intensity, covariance, self.shape.width, self._padded_shape())
        self.blunting = self._crop(padded)

    def covariance(self, *, draft: bool) -> Float[Tensor, "n 3 3"]:
        """Of intensity, row and column of every column; a draft is exact for those that may not be there."""
        self.variance = self.shape.noise.variance(self.expected)
        weights = self._pad(self.usable / self.variance)
        own = column_blocks(self.profile.windows(weights), self.profile)
        pairs, shared = self._pairs(weights)
        own, pairs, shared = self._information(replace(self.blocks, own=own, pairs=pairs, shared=shared))
        which = torch.arange(len(own), device=own.device)
        if not draft:
            return own_covariance(own, pairs, shared, which)
        covariance: Tensor = torch.linalg.inv(own)
        which = which[self.intensity < _DOUBTFUL * covariance[:, 0, 0].clamp(min=0).sqrt()]
        covariance[which] = own_covariance(own, pairs, shared, which)
        return covariance

    def _information(self, blocks: Blocks) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor]:
        """Fisher information of columns and pairs at their intensities."""
        scales = self._scales()
        own = blocks.own_scaled(scales, self.spacing, self._usual())
        return own, blocks.pairs, blocks.shared_scaled(scales)

    def quality(self) -> Float[Tensor, " n"]:
        """Squared residual over variance, averaged under each column's profile: 1 where only noise is left."""
        excess = (self.data - self.expected).square() / self.variance
        usable = self.usable.to(self.data.dtype)
        total, weight = (
            project(self.profile.windows(self._pad(image)), self.profile)[:, 0]
            for image in (excess * usable, usable)
        )
        return total / weight.clamp(min=1e-6)

    def _equations(self, *, move: bool, widen: bool) -> tuple[Normal, Unknowns]:
        weights = self.usable / self.variance
        score = (self.data - self.expected + self.blunting) * weights
        scales = self._scales()
        scales[:, 1:] *= (~self.stuck & move)[:, None]

        def on_columns(image: Tensor) -> Tensor:
            return project(self.profile.windows(self._pad(image)), self.profile) * scales

        def on_spline(image: Tensor) -> Tensor:
            return self.rows.mT @ image @ self.cols

        slopes = self._width_slopes() if widen else []
        right = Unknowns(
            on_columns(score),
            on_spline(score),
            torch.stack([(score * s).sum() for s in slopes]) if slopes else score.new_zeros(0),
        )
        k, blocks = len(slopes), self.blocks
        weighted = [weights * s for s in slopes]
        normal = Normal(
            blocks.own_scaled(scales, self.spacing, self._usual()),
            blocks.pairs,
            blocks.shared_scaled(scales),
            blocks.nodes,
            blocks.to_nodes * scales[:, :, None],
            blocks.spline_own,
            blocks.spline_factor,
            torch.stack([on_columns(w) for w in weighted]) if k else score.new_zeros(0, len(scales), 3),
            torch.stack([on_spline(w) for w in weighted]) if k else score.new_zeros(0, *self.spline.shape),
            torch.stack([(w * s).sum() for w in weighted for s in slopes]).view(k, k)
            if k
            else score.new_zeros(0, 0),
        )
        return normal, right

    def _scales(self) -> Float[Tensor, "n 3"]:
        """A derivative by position is proportional to the intensity, one by intensity is not."""
        return torch.stack([torch.ones_like(self.intensity), self.intensity, self.intensity], dim=1)

    def _usual(self) -> Tensor:
        """The upper decile of the intensities' sizes, 0 at first."""
        n = len(self.intensity)
        size: Tensor = (
            self.intensity.abs().kthvalue(max(1, round(0.9 * n))).values if n else self.intensity.sum()
        )
        return size

    def _pairs(self, weights: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        width = self.shape.width
        i, j = pairs_within(self.positions / width.double(), _OVERLAP, once=True)
        shared = pair_blocks(
            weights,
            self.profile,
            (i, j),
            positions=self.positions,
            width=width,
        )
        return (i, j), shared

    def _width_slopes(self) -> list[Tensor]:
        """Derivatives of the expected image by the widths."""
        shape = self._padded_shape()
        intensity = self.intensity if self.single is None else self.intensity * self.single
        return [self._crop(self.profile.render(intensity, shape, row, col)) for row, col in ((2, 0), (0, 2))]

    def _to_splines(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """The splines that reach into each column's window, and their products with its derivatives."""
        index, products = [], []
        for axis, (basis, profile) in enumerate(
            ((self.rows, self.profile.rows), (self.cols, self.profile.cols))
        ):
            length, count = basis.shape
            wide = min(count, 5)
            first = (self.profile.start[:, axis] - self.profile.reach) * (count - 3) // length
            first = first.clamp(0, count - wide)
            pixel = self.profile.start[:, axis, None] + torch.arange(self.profile.size, device=first.device)
            pixel = (pixel - self.profile.reach).clamp(0, length - 1)  # beyond the rim the weights are 0
            values = runs(basis, pixel * count + first[:, None], wide).mT
            five = first[:, None] + torch.arange(wide, device=first.device)
            index.append(five)
            products.append((profile[:, :2, None] * values[:, None]).flatten(1, 2))
        every = products[0] @ self.profile.windows(weights) @ products[1].mT
        n, q = index[0].shape
        every = every.view(n, 2, q, 2, index[1].shape[1]).permute(0, 1, 3, 2, 4).flatten(3)
        nodes = (index[0][:, :, None] * self.spline.shape[1] + index[1][:, None, :]).flatten(1)
        return nodes, every[:, (0, 1, 0), (0, 0, 1)]

    def _padded_shape(self) -> tuple[int, int]:
        h, w = self.data.shape
        return h + 2 * self.profile.reach, w + 2 * self.profile.reach

    def _pad(self, image: Tensor) -> Tensor:
        return F.pad(image, (self.profile.reach,) * 4)

    def _crop(self, padded: Tensor) -> Tensor:
        r = self.profile.reach
        return padded[r : r + self.data.shape[0], r : r + self.data.shape[1]]
