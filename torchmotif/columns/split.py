"""Pairs of columns that were taken for one: what is left over of them is elongated."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from torchmotif.columns.fit import Fit
from torchmotif.columns.model import profiles

__all__ = ["halves"]

_APART = 0.9  # widths from the middle of a pair to each half: misfits of the common shape are smaller
_CLEAR = 4.0  # standard deviations of the elongation
_DOUBTED = 2.5  # standard deviations from which a column may be a pair and does not tell the common width
_OVAL = 0.4  # squared widths: with a smaller elongation it is no pair, however significant
_ROUND = 0.5  # of the greater elongation: where the smaller is more, there is a blob and no pair
_ALONG_ROWS, _ALONG_COLS = (0, 1, 0, 2, 1, 0), (0, 0, 1, 0, 1, 2)  # derivatives in the order of _elongation


def halves(
    data: Float[Tensor, "h w"], usable: Bool[Tensor, "h w"], fit: Fit, closest: float
) -> tuple[Bool[Tensor, " n"], Float[Tensor, "n 2"], Bool[Tensor, " n"]]:
    """Which columns of a fit are pairs at least `closest` pixels apart, the vector from the middle to a half, and which are single.

    Two equal halves at +-d differ from one column by half of d d^T times the second derivatives of its profile. The
    score for these, with intensity and position as nuisance (Rao 1948), gives d d^T and its error.
    """
    if len(fit.positions) == 0:
        return fit.held, fit.positions, ~fit.held
    tensor, covariance = _elongation(data, usable, fit)
    size, axes = torch.linalg.eigh(tensor)
    u = axes[:, :, 1]
    along = torch.stack([u[:, 0] ** 2, u[:, 0] * u[:, 1], u[:, 1] ** 2], dim=1)
    error = (along[:, None] @ covariance @ along[:, :, None])[:, 0, 0].clamp(min=0).sqrt()
    least = max(_APART**2, float((closest / 2 / fit.shape.width.mean()) ** 2))
    pair = (size[:, 1] > least) & (size[:, 1] > _CLEAR * error) & (size[:, 0] < _ROUND * size[:, 1])
    doubted = (size[:, 1] > _OVAL) & (size[:, 1] > _DOUBTED * error) & (size[:, 0] < _ROUND * size[:, 1])
    vector = u * size[:, 1:].clamp(min=0).sqrt() * fit.shape.width
    vector = vector.to(fit.positions.dtype)
    reach, last = vector.abs(), vector.new_tensor(data.shape) - 1
    inside = ((fit.positions >= reach) & (fit.positions <= last - reach)).all(dim=1)
    return pair & inside & ~fit.held, vector, ~doubted


def _elongation(data: Tensor, usable: Tensor, fit: Fit) -> tuple[Tensor, Tensor]:
    """The d d^T of columns in squared widths (n, 2, 2), and the covariance (n, 3, 3) of its rr, 2 rc and cc."""
    shape = (data.shape[0], data.shape[1])
    profile = profiles(fit.positions, fit.shape.width, shape, fit.shape.widest)
    weights = usable / fit.shape.noise.variance(fit.expected)
    margin = (profile.reach,) * 4
    score = profile.windows(F.pad((data - fit.expected) * weights, margin))
    rows, cols = profile.rows, profile.cols
    first = (rows @ score @ cols.mT)[:, _ALONG_ROWS, _ALONG_COLS]
    n, _, side = rows.shape
    double_rows, double_cols = ((part[:, :, None] * part[:, None]).view(n, 9, side) for part in (rows, cols))
    windows = profile.windows(F.pad(weights, margin))
    products = (double_rows @ windows @ double_cols.mT).view(n, 3, 3, 3, 3)
    r, c = torch.tensor(_ALONG_ROWS), torch.tensor(_ALONG_COLS)
    second = products[:, r[:, None], r[None], c[:, None], c[None]]
    # In units of the width: the first derivative times it, the second (by the width, over it) times its square.
    width = fit.shape.width
    unit = torch.stack([width[0] * 0 + 1, width[0], width[1], width[0], width[0] * width[1], width[1]])
    first, second = first * unit, second * unit[:, None] * unit[None]
    steady = 1e-6 * second.diagonal(dim1=1, dim2=2).mean(dim=0) + torch.finfo(data.dtype).tiny
    second = second + torch.diag(steady)
    inverse = torch.linalg.inv(second.double())[:, 3:]
    scale = 2 / fit.intensity.double().clamp(min=torch.finfo(data.dtype).eps)[:, None]
    q = scale * (inverse @ first.double()[:, :, None])[:, :, 0]
    tensor = torch.stack([q[:, 0], q[:, 1] / 2, q[:, 1] / 2, q[:, 2]], dim=1).view(n, 2, 2)
    return tensor.to(data.dtype), (inverse[:, :, 3:] * scale[:, :, None] ** 2).to(data.dtype)
