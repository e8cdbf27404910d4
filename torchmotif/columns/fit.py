"""The joint fit: all columns of a tile, the background under them and their common width, by maximum likelihood."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from torchmotif.columns.fitter import Fitter
from torchmotif.columns.shape import Shape, Start

__all__ = ["Fit", "fit_columns"]

_FRESH = 3  # steps after which the matrix is assembled anew
_WORSE = 1.02  # of the least misfit: a step that leads to more is halved, in the end taken back
_HALVINGS = 3
_NEAR = 0.02  # squared step, in standard deviations, after which a fit is done
_ROUGH = 2  # steps from nothing after which covariances mean something


@dataclass(frozen=True, eq=False)
class Fit:
    """Columns fitted to one tile."""

    positions: Float[Tensor, "n 2"]
    intensity: Float[Tensor, " n"]
    covariance: Float[Tensor, "n 3 3"]  # of intensity, row, column
    quality: Float[Tensor, " n"]
    held: Bool[Tensor, " n"]
    sure: Bool[Tensor, " n"]  # as in `Start`
    shape: Shape
    expected: Float[Tensor, "h w"]
    spline: Float[Tensor, "a b"]  # coefficients of the background


def _learn(fitter: Fitter, steps: int, *, settled: bool, fresh: bool) -> None:
    """Steps that fit what all columns have in common as well."""
    for number in range(steps):
        fitter.learn_noise(settled=settled)
        fitter.assemble(fitter.expected)
        if number >= _ROUGH or not fresh:
            fitter.blunt()
        _step(fitter, fitter.misfit(), widen=len(fitter.positions) > 0)  # no column, no width
    fitter.learn_noise(settled=settled)


def _converge(fitter: Fitter, steps: int) -> None:
    """Steps until they no longer lead far; those that make the fit worse are taken back."""
    fitter.assemble(fitter.expected)
    best, most, worse = fitter.state(), _WORSE * fitter.misfit(), False
    for number in range(steps):
        if worse or (number and number % _FRESH == 0):
            fitter.assemble(fitter.expected)
        reached, misfit, limit = _step(fitter, most, widen=False)
        worse = not misfit <= limit
        if worse:
            fitter.restore(best)
            continue
        if _WORSE * misfit < limit:
            best, most = fitter.state(), fitter.data.new_tensor(_WORSE * misfit)
        if reached < _NEAR:
            break


def _step(fitter: Fitter, most: Tensor, *, widen: bool) -> tuple[float, float, float]:
    """One step, halved while its misfit is more than `most`: how far it led at first, the misfit it has, and `most`.

    Columns that the image hardly tells apart run away, and wide ones that overlap with their background.
    """
    before = fitter.state()
    far = fitter.step(move=True, widen=widen)
    # An accelerator is asked once.
    reached, misfit, limit = torch.stack([far, fitter.misfit(), most]).tolist()
    for _ in range(_HALVINGS):
        if misfit <= limit:
            break
        fitter.halfway(before)
        misfit = float(fitter.misfit())
    return reached, misfit, limit


def fit_columns(
    data: Float[Tensor, "h w"],
    usable: Bool[Tensor, "h w"],
    start: Start,
    spacing: float,
    shape: Shape,
    *,
    held: Bool[Tensor, " n"] | None = None,
    steps: int = 9,
    learn: bool = False,
    settled: bool = True,
    draft: bool = False,
) -> Fit:
    """Intensities, positions and the background that make the image most likely, all fitted together.

    Scores are weighted with the variance of each pixel; for counts of electrons that is the Poisson likelihood.
    Columns that are `held` keep their positions. With `learn`, the width of the columns and the noise are fitted
    too, the noise without that of columns that are not yet `settled`; otherwise those of `shape` are kept, and steps
    end when they no longer lead far, after `steps` at the latest.
    A `draft` leaves out what only the end result needs: neighbours count in the errors of doubtful columns alone.
    """
    if held is None:
        held = torch.zeros(len(start.positions), dtype=torch.bool, device=data.device)
    fitter = Fitter(data, usable, start, shape, spacing, held=held)
    if start.spline is None:
        fitter.assemble(_smoothed(data, shape.width))
        fitter.step(move=False, widen=False)
    if learn:
        _learn(fitter, steps, settled=settled, fresh=start.spline is None)
    else:
        _converge(fitter, steps)
    return Fit(
        fitter.positions,
        fitter.intensity,
        fitter.covariance(draft=draft),
        fitter.intensity if draft else fitter.quality(),
        held,
        torch.zeros_like(held) if start.sure is None else start.sure,
        fitter.shape,
        fitter.expected,
        fitter.spline,
    )


def _smoothed(data: Float[Tensor, "h w"], width: Float[Tensor, " 2"]) -> Float[Tensor, "h w"]:
    """What to expect of an image before anything is fitted to it: means over about two widths."""
    reach = [int(along) for along in width.tolist()]
    kernel = [2 * r + 1 for r in reach]
    pooled: Tensor = F.avg_pool2d(data[None, None], kernel, 1, reach, count_include_pad=False)[0, 0]
    return pooled
