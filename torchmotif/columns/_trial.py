"""Trials: how well one column and two describe a place of an image."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchmotif._arrays import Budget
from torchmotif._windows import gather_windows
from torchmotif.columns._fit import Fit
from torchmotif.columns._profiles import gaussians

__all__ = ["Trial", "one_or_two"]

_REACH = 4.5  # widths around the middle that a trial looks at: what is further out tells one from two no more
_STEPS = 6  # with ten, of 39 images of all kinds columns change in those of a disordered packing alone, by 1 of 431
_NOWHERE = 1e6  # pixels: a Gaussian so far away is 0
_FURTHEST = 0.6  # widths that a column of a trial may move in one step
_FAINT = 0.02  # of the intensity of all: no column of a trial is fainter
_CHUNK = Budget(1024, 16_384)  # trials at a time


@dataclass(frozen=True, eq=False)
class Trial:
    """Some places of a fit, described by one column and by two."""

    one: Float[Tensor, "k 3"]  # intensity, row, column
    two: Float[Tensor, "k 2 3"]
    evidence: Float[Tensor, " k"]  # twice the gain in log-likelihood of two over one, over their misfit

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
    width: Float[Tensor, "km2 1"]  # of a Gaussian along rows and columns in turn
    furthest: Float[Tensor, ""]  # that a column moves in one step

    def waves(self, columns: Float[Tensor, "k m 3"]) -> Float[Tensor, "k m 2 2 s"]:
        """Gaussians and their derivatives by the centre, along rows and columns."""
        pixel = torch.arange(self.data.shape[-1], device=columns.device, dtype=columns.dtype)
        offset = pixel - columns[:, :, 1:, None]
        return gaussians(offset.flatten(0, 2), self.width, 2).view(*columns.shape[:2], 2, 2, -1)

    def expected(self, columns: Float[Tensor, "k m 3"], waves: Tensor) -> Float[Tensor, "k s s"]:
        """The model image with some columns in addition to the others."""
        rows, cols = waves[:, :, 0, 0], waves[:, :, 1, 0]
        return torch.baddbmm(self.others, (columns[:, :, :1] * rows).mT, cols)

    def likelihood(self, expected: Float[Tensor, "k s s"]) -> Float[Tensor, " k"]:
        """Logarithm of the quasi-likelihood."""
        # In double precision: the terms of noise that hardly grows cancel each other.
        every = self.fit.shape.noise.likelihood(self.data.double(), expected.double())
        return (every * self.usable).flatten(1).sum(dim=1)

    def misfit(self, expected: Float[Tensor, "k s s"]) -> Float[Tensor, " k"]:
        """Squared residual over variance, averaged under the columns: 1 where only noise is left."""
        weight = (expected - self.others) * self.usable
        excess = (self.data - expected).square() / self.fit.shape.noise.variance(expected)
        least = torch.finfo(weight.dtype).tiny
        return (weight * excess).flatten(1).sum(dim=1) / weight.flatten(1).sum(dim=1).clamp(min=least)

    def step(self, state: "_State", damping: Float[Tensor, " k"]) -> Float[Tensor, "k m 3"]:
        """One damped step of Fisher scoring (Levenberg 1944)."""
        columns, waves, expected = state
        (k, m, _), intensity = columns.shape, columns[:, :, :1]
        rows, cols = waves.unbind(2)
        # Intensity, row and column: the value along both axes, the derivative along rows, and that along columns.
        grown = torch.cat([rows[:, :, :1], intensity[..., None] * rows.flip(2)], dim=2)
        along = torch.cat([cols[:, :, :1], cols], dim=2)
        slopes = (grown[..., None] * along[:, :, :, None]).view(k, 3 * m, -1)
        weights = (self.usable / self.fit.shape.noise.variance(expected)).view(k, 1, -1)
        residual = (self.data - expected).view(k, -1, 1)
        weighted = slopes * weights
        information, score = torch.bmm(weighted, slopes.mT), torch.bmm(weighted, residual)
        diagonal = information.diagonal(dim1=1, dim2=2)
        least = 1e-6 * diagonal.amax(dim=1, keepdim=True) + torch.finfo(diagonal.dtype).tiny
        regularised = (information + torch.diag_embed(damping[:, None] * diagonal + least)).double()
        change = torch.linalg.solve_ex(regularised, score.double()).result.to(columns.dtype).view_as(columns)
        length = change[:, :, 1:].norm(dim=2, keepdim=True).clamp(min=1e-12)
        total = intensity.sum(dim=1, keepdim=True)
        bounded = torch.minimum(torch.maximum(change[:, :, :1], -0.5 * total), 0.5 * total)
        brighter = torch.maximum(intensity + bounded, _FAINT * total)
        return torch.cat(
            [brighter, columns[:, :, 1:] + change[:, :, 1:] * (self.furthest / length).clamp(max=1)], 2
        )

    def fitted(self, columns: Float[Tensor, "k m 3"]) -> tuple[Tensor, Tensor, Tensor]:
        """Columns of greatest likelihood, the logarithm of that, and what they let expect; only steps that better it are taken."""
        state = self.state(columns)
        best = self.likelihood(state.expected)
        damping = torch.full_like(best, 1e-2)
        for _ in range(_STEPS):
            tried = self.state(self.step(state, damping))
            reached = self.likelihood(tried.expected)
            better = reached > best
            state = _State(
                *(
                    torch.where(better.view(-1, *[1] * (new.ndim - 1)), new, old)
                    for new, old in zip(tried, state, strict=True)
                )
            )
            best = torch.where(better, reached, best)
            damping = torch.where(better, damping / 5, damping * 5)
        return state.columns, best, state.expected

    def state(self, columns: Float[Tensor, "k m 3"]) -> "_State":
        """Columns with what follows from them."""
        waves = self.waves(columns)
        return _State(columns, waves, self.expected(columns, waves))


class _State(NamedTuple):
    columns: Float[Tensor, "k m 3"]
    waves: Float[Tensor, "k m 2 2 s"]
    expected: Float[Tensor, "k s s"]


def one_or_two(fit: Fit, taken: Int[Tensor, "k m"], two: Float[Tensor, "k 2 3"]) -> Trial:
    """How well one column and two describe the image where some columns of a fit are `taken` off.

    The two set out from `two` (intensity, row, column), the one from their middle. All else of the fit stays. Columns
    to take off are numbers of the fit's; their number stands for none.
    """
    reach = int(_REACH * fit.shape.widest) + 1
    images = [F.pad(image, (reach,) * 4).flatten(0, 1) for image in (fit.data, fit.usable, fit.expected)]
    # A fit may have less than nothing.
    mean = fit.in_tiles(fit.intensity.abs()) / fit.in_tiles(torch.ones_like(fit.intensity)).clamp(min=1)
    least = _FAINT * mean + torch.finfo(mean.dtype).tiny
    none = (
        torch.cat([fit.intensity, fit.intensity.new_zeros(1)]),
        torch.cat([fit.positions, fit.positions[:1]]),
    )
    parts, chunk = [], _CHUNK.on(taken)
    for some, pair in zip(taken.split(chunk), two.split(chunk), strict=True):
        tile = fit.tile[some[:, 0]]
        bright = torch.maximum(pair[:, :, :1], least[tile, None, None].double())
        columns = torch.cat([none[0][some][:, :, None].double(), none[1][some]], dim=2)
        start = torch.cat([bright, pair[:, :, 1:]], dim=2)
        parts.append(_tried(fit, images, tile=tile, taken=columns, two=start))
    one, both, evidence = (torch.cat(part) for part in zip(*parts, strict=True))
    return Trial(one, both, evidence)


def _tried(
    fit: Fit, images: list[Tensor], *, tile: Tensor, taken: Tensor, two: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """One column, two columns, and the evidence for two, of places of which the `taken` columns are taken off."""
    (_, h, w), dtype = fit.tiles.shape, fit.data.dtype
    reach = (images[0].shape[1] - w) // 2
    side = 2 * reach + 1
    bright = two[:, :, :1]
    total = bright.sum(dim=1, keepdim=True)
    middle = (bright / total * two[:, :, 1:]).sum(dim=1, keepdim=True)
    row, col = middle[:, 0].round().long().unbind(1)
    row, col = row.clamp(0, h - 1), col.clamp(0, w - 1)
    start = torch.stack([row + tile * (h + 2 * reach), col], dim=1)
    data, usable, expected = (gather_windows(image, start, side) for image in images)
    origin = torch.stack([row, col], dim=1)[:, None] - reach
    shift = torch.cat([torch.zeros_like(origin[:, :, :1]), origin], dim=2)
    width = fit.shape.width
    widths = width.repeat(taken.shape[0] * taken.shape[1])[:, None]
    around = _Surroundings(fit, data, usable, expected, widths, _FURTHEST * width.mean())
    everything = around.state((taken - shift).to(dtype)).expected
    # One column is two of which the other is far away: both kinds are fitted together.
    one = torch.cat([torch.cat([total, middle], dim=2) - shift, (0 * two - _NOWHERE)[:, :1]], dim=1)
    data, usable, others = (image.repeat(2, 1, 1) for image in (data, usable, 2 * expected - everything))
    places = _Surroundings(
        fit, data, usable, others, width.repeat(4 * len(two))[:, None], _FURTHEST * width.mean()
    )
    columns, likelihood, reached = places.fitted(torch.cat([two - shift, one]).to(dtype))
    (pair, one), (both, alone) = columns.split(len(two)), likelihood.split(len(two))
    evidence = 2 * (both - alone).to(dtype) / places.misfit(reached)[: len(two)].clamp(min=1)
    return (one + shift)[:, 0].double(), (pair + shift).double(), evidence
