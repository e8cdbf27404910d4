"""Trials of one column against two: both are fitted to the pixels around, and the likelihoods compared."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchmotif._windows import gather_windows
from torchmotif.columns.fit import Fit
from torchmotif.columns.model import gaussians

__all__ = ["Trial", "one_or_two"]

_REACH = 4.5  # widths around the middle that are looked at: what is further out tells one from two no more
_STEPS_ONE, _STEPS_TWO = 5, 10
_FAR = 0.6  # widths that a column may move in one step
_FAINT = 0.02  # of the intensity of all: no column of a trial is fainter


@dataclass(frozen=True, eq=False)
class Trial:
    """Some places of a fit, described by one column and by two."""

    one: Float[Tensor, "k 3"]  # intensity, row, column
    two: Float[Tensor, "k 2 3"]
    evidence: Float[Tensor, " k"]  # twice the logarithm of how much likelier two are, over their misfit

    def apart(self) -> Float[Tensor, "k 2"]:
        """From the first of two columns to the second, in pixels."""
        return self.two[:, 1, 1:] - self.two[:, 0, 1:]


@dataclass(frozen=True, eq=False)
class _Surroundings:
    """The pixels around each place, and what is expected there of all other columns and the background."""

    fit: Fit
    data: Float[Tensor, "k s s"]
    usable: Bool[Tensor, "k s s"]
    others: Float[Tensor, "k s s"]

    def waves(self, columns: Float[Tensor, "k m 3"]) -> tuple[Tensor, Tensor]:
        """Gaussians and their derivatives by the centre along rows and columns (k, m, 2, s)."""
        k, m, _ = columns.shape
        pixel = torch.arange(self.data.shape[-1], device=columns.device, dtype=columns.dtype)
        offset = pixel - columns[:, :, 1:, None]
        width = self.fit.shape.width
        rows, cols = (gaussians(offset[:, :, axis].flatten(0, 1), width[axis])[:, :2] for axis in range(2))
        return rows.view(k, m, 2, len(pixel)), cols.view(k, m, 2, len(pixel))

    def expected(self, columns: Float[Tensor, "k m 3"]) -> Float[Tensor, "k s s"]:
        """The model image with some columns in addition to the others."""
        rows, cols = self.waves(columns)
        return self.others + (columns[:, :, :1] * rows[:, :, 0]).mT @ cols[:, :, 0]

    def likelihood(self, expected: Float[Tensor, "k s s"]) -> Float[Tensor, " k"]:
        """Logarithm of the quasi-likelihood."""
        # In double precision: the terms of noise that hardly grows cancel each other.
        every = self.fit.shape.noise.likelihood(self.data.double(), expected.double())
        return (every * self.usable).flatten(1).sum(dim=1)

    def misfit(self, columns: Float[Tensor, "k m 3"]) -> Float[Tensor, " k"]:
        """Squared residual over variance, averaged under the columns: 1 where only noise is left."""
        expected = self.expected(columns)
        weight = (expected - self.others) * self.usable
        excess = (self.data - expected).square() / self.fit.shape.noise.variance(expected)
        least = torch.finfo(weight.dtype).tiny
        return (weight * excess).flatten(1).sum(dim=1) / weight.flatten(1).sum(dim=1).clamp(min=least)

    def step(
        self, columns: Float[Tensor, "k m 3"], expected: Float[Tensor, "k s s"], damping: Float[Tensor, " k"]
    ) -> Float[Tensor, "k m 3"]:
        """One damped step of Fisher scoring (Levenberg 1944)."""
        rows, cols = self.waves(columns)
        intensity = columns[:, :, :1]
        slopes = torch.stack(
            [
                rows[:, :, 0, :, None] * cols[:, :, 0, None],
                (intensity * rows[:, :, 1])[..., None] * cols[:, :, 0, None],
                (intensity * rows[:, :, 0])[..., None] * cols[:, :, 1, None],
            ],
            dim=2,
        ).flatten(3)
        slopes = slopes.flatten(1, 2)
        weights = (self.usable / self.fit.shape.noise.variance(expected)).flatten(1)
        score = (slopes @ (weights * (self.data - expected).flatten(1))[:, :, None])[:, :, 0]
        information = (slopes * weights[:, None]) @ slopes.mT
        diagonal = information.diagonal(dim1=1, dim2=2)
        least = 1e-6 * diagonal.amax(dim=1, keepdim=True) + torch.finfo(diagonal.dtype).tiny
        steadied = information.double() + torch.diag_embed(damping[:, None] * diagonal + least)
        change = torch.linalg.solve_ex(steadied, score.double()).result.to(columns.dtype).view_as(columns)
        limit = _FAR * self.fit.shape.width.mean()
        length = change[:, :, 1:].norm(dim=2, keepdim=True).clamp(min=1e-12)
        total = intensity.sum(dim=1, keepdim=True)
        brighter = torch.maximum(
            intensity + change[:, :, :1].clamp(-0.5 * total, 0.5 * total), _FAINT * total
        )
        return torch.cat(
            [brighter, columns[:, :, 1:] + change[:, :, 1:] * (limit / length).clamp(max=1)], dim=2
        )

    def fitted(self, columns: Float[Tensor, "k m 3"], steps: int) -> tuple[Tensor, Tensor]:
        """Columns of greatest likelihood and the logarithm of that; steps that make it less are not taken."""
        expected = self.expected(columns)
        best = self.likelihood(expected)
        damping = torch.full_like(best, 1e-2)
        for _ in range(steps):
            tried = self.step(columns, expected, damping)
            image = self.expected(tried)
            reached = self.likelihood(image)
            better = reached > best
            columns = torch.where(better[:, None, None], tried, columns)
            expected = torch.where(better[:, None, None], image, expected)
            best = torch.where(better, reached, best)
            damping = torch.where(better, damping / 5, damping * 5)
        return columns, best


def one_or_two(
    data: Float[Tensor, "h w"],
    usable: Bool[Tensor, "h w"],
    fit: Fit,
    taken: Int[Tensor, "k m"],
    two: Float[Tensor, "k 2 3"],
) -> Trial:
    """How well one column and two describe the image where some columns of a fit are `taken` off.

    The two set out from `two` (intensity, row, column), the one from their middle. All else of the fit is held.
    """
    reach = int(_REACH * fit.shape.widest) + 1
    side = 2 * reach + 1
    # A fit may have less than nothing.
    least = _FAINT * fit.intensity.abs().mean() + torch.finfo(data.dtype).tiny
    bright = torch.maximum(two[:, :, :1], least)
    total = bright.sum(dim=1, keepdim=True)
    middle = (bright / total * two[:, :, 1:]).sum(dim=1, keepdim=True)
    first = middle[:, 0].round().long()
    first = torch.minimum(first.clamp(min=0), torch.tensor(data.shape, device=first.device) - 1)
    data_, usable_, expected = (
        gather_windows(F.pad(image, (reach,) * 4), first, side) for image in (data, usable, fit.expected)
    )
    origin = (first - reach)[:, None]
    dtype = data.dtype
    own = torch.cat([fit.intensity[taken][:, :, None].double(), fit.positions[taken] - origin], dim=2).to(
        dtype
    )
    around = _Surroundings(fit, data_, usable_, expected)
    around = _Surroundings(fit, data_, usable_, 2 * expected - around.expected(own))
    local = torch.cat([bright, two[:, :, 1:] - origin], dim=2).to(dtype)
    single = torch.cat([total, middle - origin], dim=2).to(dtype)
    one, alone = around.fitted(single, _STEPS_ONE)
    pair, both = around.fitted(local, _STEPS_TWO)
    evidence = 2 * (both - alone).to(dtype) / around.misfit(pair).clamp(min=1)
    back = torch.cat([torch.zeros_like(origin[:, :, :1]), origin], dim=2)
    return Trial((one + back)[:, 0].double(), (pair + back).double(), evidence)
