"""The joint fit: all columns of a tile, the background under them and their common width, by maximum likelihood."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from torchmotif.columns.model import Noise, profiles, spline_basis
from torchmotif.columns.neighbours import pairs_within
from torchmotif.columns.normal import (
    Normal,
    Unknowns,
    column_blocks,
    own_covariance,
    pair_blocks,
    project,
    spline_blocks,
)

__all__ = ["Fit", "Shape", "fit_columns"]

_OVERLAP = 5.0  # widths within which two columns share information: at 5, a Gaussian's overlap is 0.2 %
_KNOTS = 4.0  # spacings between the background's knots
_CLOSEST_KNOTS = 16.0  # pixels: nearer ones would only cost time


@dataclass(frozen=True, eq=False)
class Shape:
    """What all columns of an image have in common."""

    width: Float[Tensor, " 2"]  # standard deviation in pixels along (rows, columns)
    noise: Noise


@dataclass(frozen=True, eq=False)
class Fit:
    """Columns fitted to one tile."""

    positions: Float[Tensor, "n 2"]
    intensity: Float[Tensor, " n"]
    covariance: Float[Tensor, "n 3 3"]  # of intensity, row, column
    quality: Float[Tensor, " n"]
    held: Bool[Tensor, " n"]
    shape: Shape
    expected: Float[Tensor, "h w"]
    background: Float[Tensor, "h w"]


class _Fitter:
    """The state of a fit, and its steps."""

    def __init__(
        self,
        data: Float[Tensor, "h w"],
        usable: Bool[Tensor, "h w"],
        positions: Float[Tensor, "n 2"],
        shape: Shape,
        spacing: float,
        *,
        held: Bool[Tensor, " n"],
    ) -> None:
        self.data, self.usable, self.spacing, self.held = data, usable, spacing, held
        self.positions, self.shape = positions, shape
        self.intensity = data.new_zeros(len(positions))
        step = max(_KNOTS * spacing, _CLOSEST_KNOTS)
        self.rows, self.cols = (spline_basis(length, step, data) for length in data.shape)
        self.spline = data.new_zeros(self.rows.shape[1], self.cols.shape[1])
        self.look()

    def look(self) -> None:
        """Bring the model image up to date."""
        h, w = self.data.shape
        self.profile = profiles(self.positions, self.shape.width, (h, w))
        self.background = self.rows @ self.spline @ self.cols.mT
        self.expected = (
            self._crop(self.profile.render(self.intensity, self._padded_shape())) + self.background
        )

    def step(self, *, move: bool, widen: bool) -> None:
        """One Gauss-Newton step of the quasi-likelihood: of intensities and background, and what else may change."""
        weights = self.usable / self.shape.noise.variance(self.expected)
        score = (self.data - self.expected) * weights
        normal, right = self._equations(weights, score, move=move, widen=widen)
        change = normal.solve(right)
        self.intensity = self.intensity + change.columns[:, 0]
        self.spline = self.spline + change.spline
        if move:  # columns that are held have no shift
            shift = change.columns[:, 1:]
            limit = 0.5 * float(self.shape.width.mean())
            length = shift.norm(dim=1, keepdim=True).clamp(min=1e-12)
            moved = self.positions + (shift * (limit / length).clamp(max=1)).double()
            last = moved.new_tensor(self.data.shape) - 0.5
            self.positions = torch.minimum(moved.clamp(min=-0.5), last)
        if widen:
            factor = (change.width / self.shape.width).clamp(-0.2, 0.2)
            self.shape = replace(self.shape, width=self.shape.width * (1 + factor))
        self.look()

    def learn_noise(self) -> None:
        """Take the noise from the residuals."""
        residual = (self.data - self.expected)[self.usable]
        noise = self.shape.noise.fitted(self.expected[self.usable], residual)
        self.shape = replace(self.shape, noise=noise)

    def covariance(self) -> Float[Tensor, "n 3 3"]:
        """Of intensity, row and column of every column."""
        weights = self._pad(self.usable / self.shape.noise.variance(self.expected))
        pairs, shared = self._pairs(weights)
        return own_covariance(self._steadied(self._own(weights)), pairs, shared)

    def quality(self) -> Float[Tensor, " n"]:
        """Squared residual over variance, averaged under each column's profile: 1 where only noise is left."""
        excess = (self.data - self.expected).square() / self.shape.noise.variance(self.expected)
        usable = self.usable.to(self.data.dtype)
        total, weight = (
            project(self.profile.windows(self._pad(image)), self.profile)[:, 0]
            for image in (excess * usable, usable)
        )
        return total / weight.clamp(min=1e-6)

    def _equations(
        self, weights: Tensor, score: Tensor, *, move: bool, widen: bool
    ) -> tuple[Normal, Unknowns]:
        padded = self._pad(weights)
        own, (pairs, shared) = self._own(padded), self._pairs(padded)
        scales = torch.stack([torch.ones_like(self.intensity), self.intensity, self.intensity], dim=1)
        still = self.held | (not move)
        scales[still, 1:] = 0
        own, shared = own * _free(still, still), shared * _free(still[pairs[0]], still[pairs[1]])
        own = self._steadied(own)

        def on_columns(image: Tensor) -> Tensor:
            return project(self.profile.windows(self._pad(image)), self.profile) * scales

        def on_spline(image: Tensor) -> Tensor:
            return self.rows.mT @ image @ self.cols

        slopes = self._width_slopes() if widen else []
        right = Unknowns(
            on_columns(score), on_spline(score), score.new_tensor([float((score * s).sum()) for s in slopes])
        )
        k = len(slopes)
        weighted = [weights * s for s in slopes]
        nodes, to_nodes = self._to_splines(padded, scales)
        normal = Normal(
            own,
            pairs,
            shared,
            nodes,
            to_nodes,
            spline_blocks(weights, self.rows, self.cols),
            torch.stack([on_columns(w) for w in weighted]) if k else own.new_zeros(0, len(own), 3),
            torch.stack([on_spline(w) for w in weighted]) if k else own.new_zeros(0, *self.spline.shape),
            own.new_tensor([[float((w * s).sum()) for s in slopes] for w in weighted]).view(k, k),
        )
        return normal, right

    def _steadied(self, own: Tensor) -> Tensor:
        """Blocks that can be inverted: even a column too faint to say so lies within about half a spacing."""
        if len(own) == 0:
            return own
        least = 1e-6 * own[:, 0, 0].max() + torch.finfo(own.dtype).tiny
        place = (2 / self.spacing) ** 2
        return own + torch.diag_embed(
            torch.stack([least, least * 0 + place, least * 0 + place]).expand(len(own), 3)
        )

    def _own(self, weights: Tensor) -> Tensor:
        return column_blocks(self.profile.windows(weights), self.profile, self.intensity)

    def _pairs(self, weights: Tensor) -> tuple[tuple[Tensor, Tensor], Tensor]:
        width = self.shape.width
        i, j = pairs_within(self.positions / width.double(), _OVERLAP)
        i, j = i[i < j], j[i < j]
        shared = pair_blocks(
            weights,
            self.profile,
            (i, j),
            positions=self.positions,
            width=width,
            intensity=self.intensity,
        )
        return (i, j), shared

    def _width_slopes(self) -> list[Tensor]:
        """Derivatives of the expected image by the widths."""
        shape = self._padded_shape()
        return [
            self._crop(self.profile.render(self.intensity, shape, row, col)) for row, col in ((2, 0), (0, 2))
        ]

    def _to_splines(self, weights: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
        """The splines that reach into each column's window, and their products with its derivatives."""
        index, products = [], []
        for axis, (basis, profile) in enumerate(
            ((self.rows, self.profile.rows), (self.cols, self.profile.cols))
        ):
            length, count = basis.shape
            first = (self.profile.start[:, axis] - self.profile.reach) * (count - 3) // length
            five = first.clamp(0, max(count - 5, 0))[:, None] + torch.arange(
                min(count, 5), device=first.device
            )
            pixel = self.profile.start[:, axis, None] + torch.arange(self.profile.size, device=first.device)
            pixel = (pixel - self.profile.reach).clamp(0, length - 1)  # beyond the rim the weights are 0
            values = basis[pixel[:, None, :], five[:, :, None]]
            index.append(five)
            products.append((profile[:, :2, None] * values[:, None]).flatten(1, 2))
        every = products[0] @ self.profile.windows(weights) @ products[1].mT
        n, q = index[0].shape
        every = every.view(n, 2, q, 2, index[1].shape[1]).permute(0, 1, 3, 2, 4).flatten(3)
        nodes = (index[0][:, :, None] * self.spline.shape[1] + index[1][:, None, :]).flatten(1)
        return nodes, every[:, (0, 1, 0), (0, 0, 1)] * scales[:, :, None]

    def _padded_shape(self) -> tuple[int, int]:
        h, w = self.data.shape
        return h + 2 * self.profile.reach, w + 2 * self.profile.reach

    def _pad(self, image: Tensor) -> Tensor:
        return F.pad(image, (self.profile.reach,) * 4)

    def _crop(self, padded: Tensor) -> Tensor:
        r = self.profile.reach
        return padded[r : r + self.data.shape[0], r : r + self.data.shape[1]]


def fit_columns(
    data: Float[Tensor, "h w"],
    usable: Bool[Tensor, "h w"],
    positions: Float[Tensor, "n 2"],
    spacing: float,
    shape: Shape,
    *,
    held: Bool[Tensor, " n"] | None = None,
    steps: int = 4,
    learn: bool = False,
) -> Fit:
    """Intensities, positions and the background that make the image most likely, all fitted together.

    Scores are weighted with the variance of each pixel; for counts of electrons that is the Poisson likelihood.
    Columns that are `held` keep their positions. With `learn`, the width of the columns and the noise are fitted
    too; otherwise those of `shape` are kept.
    """
    if held is None:
        held = torch.zeros(len(positions), dtype=torch.bool, device=positions.device)
    fitter = _Fitter(data, usable, positions, shape, spacing, held=held)
    fitter.step(move=False, widen=False)
    for _ in range(steps):
        if learn:
            fitter.learn_noise()
        fitter.step(move=True, widen=learn and len(positions) > 0)  # no column, no width
    if learn:
        fitter.learn_noise()
    return Fit(
        fitter.positions,
        fitter.intensity,
        fitter.covariance(),
        fitter.quality(),
        held,
        fitter.shape,
        fitter.expected,
        fitter.background,
    )


def _free(still_i: Tensor, still_j: Tensor) -> Tensor:
    """1 where a block joins parameters that are fitted, 0 where it has a position that is held."""
    keep = torch.stack([torch.ones_like(still_i), ~still_i, ~still_i], dim=1)[:, :, None]
    return (keep & torch.stack([torch.ones_like(still_j), ~still_j, ~still_j], dim=1)[:, None, :]).float()
