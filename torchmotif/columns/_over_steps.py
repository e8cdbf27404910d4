"""Columns over and beside the steps of a background: how far the steps make them unsure, and which are but what these leave."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from torchmotif.columns._beside_steps import are_stepped, range_within, rise_at, rise_within
from torchmotif.columns._fit import Fit
from torchmotif.columns._neighbours import pairs_within
from torchmotif.columns._search import is_rare
from torchmotif.columns._territories import lattice_constant
from torchmotif.columns.model import ImageModel

__all__ = ["CUT", "OverSteps"]

# Of the 90th percentile: over the lower half of a step higher than themselves columns are no fainter. Where a crystal fades away they
# are drawn by up to a quarter of the spacing. With 0.25 an edge of 6 px (background 5 times the contrast) keeps three of them more; twelve other
# edges are the same.
_FADED = 0.32
# Spacings to those beside them, and the length of the mean direction to those on one side.
_BESIDE, _ONE_SIDE = 1.6, 0.5
# Standard errors of its intensity, with that of a step, below which a column at no place of a crystal is what the step leaves. Of 96 backgrounds with steps (a honeycomb, squares) two have a
# precision below 0.97 with 1.5, none with 3.
_HIDDEN = 3.0
# Of its intensity: what a column of a tile with a step may be off because what was taken off follows the columns' feet. Of 54 images with steps of 1 to 10
# times the contrast intensities scatter by 1.4 times their errors without it, by 0.95 with it; all of an image may be off by 0 to 7 % together.
_SHARED = 0.02
# Of the usual intensity, what a step higher than that leaves within so many spacings. Of nine backgrounds of 3 to 30 times the contrast, 1 to 40 px wide, that of the fit is off by 0.02 to 0.06 of the
# columns' height within two spacings (root of the mean square), whatever the step's height, 0.02 within three, and 0.01 to 0.02 farther away.
_LEFT, _BY_IT = 0.05, 3.0
CUT = 2.3  # widths from the border within which a column loses more than a hundredth of its intensity


class OverSteps(NamedTuple):
    """The steps of a background at each column of a fit.

    Attributes
    ----------
    risen : boolean Tensor of shape (n,)
        Where one rises within a width by more than the column is high.
    errors : Tensor of shape (n, 3)
        Of intensity, row and column: from the step under the column, which is known about as well as it is high there, and from what it leaves around.
    over : boolean Tensor of shape (n,)
        Which have a step under their Gaussian that is higher than they.
    low : boolean Tensor of shape (n,)
        Which lie on the lower half of what is under their Gaussian.
    """

    risen: Bool[Tensor, " n"]
    errors: Float[Tensor, "n 3"]
    over: Bool[Tensor, " n"]
    low: Bool[Tensor, " n"]

    @staticmethod
    def of(fit: Fit, model: ImageModel) -> "OverSteps | None":
        """None where no tile has a step."""
        tiles, width, height = fit.tiles, max(model.width), fit.intensity / model.area
        if tiles.step is None or tiles.under is None:
            return None

        def at(pixels: Tensor) -> Tensor:
            return tiles.at(pixels, fit.positions, fit.tile)

        noise = at(fit.shape.noise.variance(fit.expected)).sqrt()
        rise = rise_at(tiles, fit.positions, fit.tile, model, noise)
        # A background that rises so much from one side of a Gaussian to the other draws it aside.
        aside = (rise * width / (2 * height.abs().clamp(min=1e-9))).clamp(max=fit.spacing)
        usual = fit.shape.usual.expand(len(fit)) / model.area
        beside = at(rise_within(tiles, round(_BY_IT * fit.spacing))) > usual
        shared = _SHARED * height.abs() * are_stepped(tiles.step)[fit.tile]
        error = (2 * rise).hypot(shared).hypot(_LEFT * usual * beside) * model.area
        top, bottom = (at(one) for one in range_within(tiles, int(CUT * width) + 1))
        return OverSteps(
            rise > height,
            torch.stack([error, aside, aside], dim=1),
            top - bottom > height,
            at(tiles.under) < (top + bottom) / 2,
        )

    def added_to(self, covariance: Float[Tensor, "n 3 3"]) -> Float[Tensor, "n 3 3"]:
        """A covariance with the errors of intensities: a place beside a step may look empty and not be."""
        more = torch.zeros_like(covariance)
        more[:, 0, 0] = self.errors[:, 0].square()
        return covariance + more

    def faded(self, fit: Fit) -> Bool[Tensor, " n"]:
        """Which columns are but the end of a crystal that fades away: fainter than others over the lower half of a step, and the last."""
        faint = self.risen & self.low & ~fit.fixed & (fit.intensity < _FADED * fit.shape.usual)
        return faint & _last(fit, ~faint)

    def hidden(
        self, fit: Fit, covariance: Float[Tensor, "n 3 3"], there: Bool[Tensor, " n"], model: ImageModel
    ) -> Bool[Tensor, " n"]:
        """Which columns of a tile with a step this hides, in a crystal whose mean cells say that columns are `there` and not here; none without cells."""
        if not model.cells:
            return torch.zeros_like(there)
        few = self._stepped(fit) & (fit.intensity < _HIDDEN * self._error(covariance))
        # Between rows that are far apart a column has none beside it.
        apart = max(lattice_constant(cell) for cell in model.cells)
        return few & ~there & ~_last(fit, there, apart)

    def alone(
        self,
        fit: Fit,
        covariance: Float[Tensor, "n 3 3"],
        there: Bool[Tensor, " n"],
        keep: Bool[Tensor, " n"],
    ) -> Bool[Tensor, " n"]:
        """Which columns of a tile with a step may be its noise, or what the step leaves, and have none of those that are kept beside them that is clear, or `there` by a mean cell."""
        score = fit.intensity / self._error(covariance).clamp(min=1e-9)
        clear = keep & (there | is_rare(fit, score, fit.tile))
        i, j = pairs_within(fit.spread, _BESIDE * fit.spacing)
        beside = torch.zeros_like(fit.tile).index_add_(0, i, clear[j].long())
        return self._stepped(fit) & ~clear & (beside == 0)

    def _error(self, covariance: Float[Tensor, "n 3 3"]) -> Float[Tensor, " n"]:
        """Of intensities, with that of the step."""
        return torch.hypot(covariance[:, 0, 0].clamp(min=0).sqrt(), self.errors[:, 0])

    @staticmethod
    def _stepped(fit: Fit) -> Bool[Tensor, " n"]:
        """Which columns lie in a tile with a step."""
        assert fit.tiles.step is not None  # noqa: S101
        stepped: Tensor = are_stepped(fit.tiles.step)[fit.tile]
        return stepped


def _last(fit: Fit, others: Bool[Tensor, " n"], apart: float = 0.0) -> Bool[Tensor, " n"]:
    """Which columns have some others, as far away as others are `apart`, on one side alone, or none."""
    at = fit.spread
    i, j = pairs_within(at, max(_BESIDE * fit.spacing, apart))
    away = (at[j] - at[i]) * others[j, None]
    away = away / away.norm(dim=1, keepdim=True).clamp(min=1e-9)
    total = torch.zeros_like(at).index_add_(0, i, away)
    count = torch.zeros_like(at[:, 0]).index_add_(0, i, others[j].to(at.dtype))
    last: Tensor = total.norm(dim=1) >= _ONE_SIDE * count
    return last
