"""Pairs of columns that were taken for one, and columns that were taken for two: told by the likelihood of both."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from torchmotif.columns.fit import Fit
from torchmotif.columns.model import profiles
from torchmotif.columns.neighbours import as_index, pairs_within
from torchmotif.columns.trial import Trial, one_or_two

__all__ = ["Retold", "retold", "unevenness"]

_APART = 0.9  # widths from the middle of a pair to each half: misfits of the common shape are smaller
_TWO = 16.0  # twice the logarithm of how much likelier two columns are, from which they are two
_SAME = 13.0  # and below which two columns are one
_FAINTER = 0.15  # of the intensity of a pair: the fainter of it has more
_NEAR = 3.0  # widths within which two columns may be one
_BRIGHT = 10.0  # standard deviations of its intensity from which a column is surely there
_DOUBTED = 2.5  # standard deviations of its elongation from which a column may be a pair
_OVAL = 0.4  # squared widths: of one that is more elongated the width is not learned
_MANY = 20  # columns, from which their unevenness can be told
_MEDIAN = 0.455  # median of the square of a standard normal variable
_ROUND = 0.5  # of the greater elongation: where the smaller is more, there is a blob and no pair
_ALONG_ROWS, _ALONG_COLS = (0, 1, 0, 2, 1, 0), (0, 0, 1, 0, 1, 2)  # derivatives in the order of _elongation


@dataclass(frozen=True, eq=False)
class Retold:
    """Columns of a fit that others replace: pairs that were taken for one, and columns that were taken for two."""

    replaced: Bool[Tensor, " n"]
    single: Bool[Tensor, " n"]  # which of the fit's columns are surely no pairs
    sure: Bool[Tensor, " n"]  # which of them are told from the columns next to them
    columns: Float[Tensor, "m 3"]  # intensity, row, column of those that replace them
    columns_sure: Bool[Tensor, " m"]
    changes: int  # columns that were split or merged


def unevenness(data: Float[Tensor, "h w"], usable: Bool[Tensor, "h w"], fit: Fit) -> Float[Tensor, ""]:
    """Variance of the columns' elongations over what their noise lets expect, at least 1.

    It is 1 where columns are alike and electrons are counted. Tails, tilts, neighbours in depth and drift make it more, for most
    columns and not only for pairs: the median knows little of these.
    """
    if len(fit.positions) < _MANY:
        return data.new_ones(())
    tensor, covariance = _elongation(data, usable, fit)
    q = torch.stack([tensor[:, 0, 0], 2 * tensor[:, 0, 1], tensor[:, 1, 1]], dim=1)
    least = torch.finfo(q.dtype).tiny
    squares = q.square() / covariance.diagonal(dim1=1, dim2=2).clamp(min=least)
    return (squares.median() / _MEDIAN).clamp(min=1)


def retold(data: Float[Tensor, "h w"], usable: Bool[Tensor, "h w"], fit: Fit, closest: float) -> Retold:
    """Where two columns at least `closest` pixels apart explain an image better than one of a fit, and the reverse."""
    replaced, sure = torch.zeros_like(fit.held), torch.zeros_like(fit.held)
    if len(fit.positions) == 0:
        return Retold(replaced, ~fit.held, sure, fit.positions.new_zeros(0, 3), sure, 0)
    tensor, covariance = _elongation(data, usable, fit)
    pair, half, single = _oblong(tensor, covariance * fit.shape.unevenness, fit, data.shape)
    i, j = _doubtful(fit)
    index = as_index(pair.index_fill(0, torch.cat([i, j]), False))
    merged, better, one, two, least = _neighbours(data, usable, fit, i, j, closest=closest)
    split, halves = _split(data, usable, fit, index, half, closest=closest)
    replaced[torch.cat([i[merged], j[merged], i[better], j[better], split])] = True
    twos = torch.cat([two, halves]).flatten(0, 1)
    new = torch.arange(len(one) + len(twos), device=i.device) >= len(one)
    changes = len(one) + len(halves)
    told = (least >= _SAME * fit.shape.unevenness) & (least < torch.inf)
    return Retold(replaced, single, told, torch.cat([one, twos]), new, changes)


def _doubtful(fit: Fit) -> tuple[Tensor, Tensor]:
    """Columns i and j so near to each other, and one of them so faint, that they may be one."""
    i, j = pairs_within(fit.positions / fit.shape.width.double(), _NEAR, once=True)
    clear = fit.intensity > _BRIGHT * fit.covariance[:, 0, 0].clamp(min=0).sqrt()
    doubtful = as_index(~(clear[i] & clear[j]) & ~(fit.held[i] | fit.held[j]))
    return i[doubtful], j[doubtful]


def _neighbours(
    data: Tensor, usable: Tensor, fit: Fit, i: Tensor, j: Tensor, *, closest: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Trials of columns i and j: which to merge to one, which to place anew, these columns, and the least evidence for each."""
    taken, n = torch.stack([i, j], dim=1), len(fit.positions)
    if len(i) == 0:  # nothing to wait for
        twos = fit.positions.new_zeros(0, 2, 3)
        return i, i, twos[:, 0], twos, fit.intensity.new_full((n,), torch.inf)
    trial = one_or_two(data, usable, fit, taken, _columns(fit)[taken])
    least = trial.evidence.new_full((n,), torch.inf)
    for end in (i, j):
        least = least.scatter_reduce(0, end, trial.evidence, "amin")
    # Each column is merged with one other at most: that which is told apart from it the least.
    merged = as_index((trial.evidence < _SAME) & (trial.evidence <= least[i]) & (trial.evidence <= least[j]))
    trials = torch.zeros_like(i).new_zeros(n).index_add_(0, taken.flatten(), torch.ones_like(taken).flatten())
    alone = (trials[i] == 1) & (trials[j] == 1)
    told = trial.evidence >= _SAME * fit.shape.unevenness
    better = as_index(told & alone & _plausible(trial, data.shape, closest))
    return merged, better, trial.one[merged], trial.two[better], least


def _split(
    data: Tensor, usable: Tensor, fit: Fit, index: Tensor, half: Tensor, *, closest: float
) -> tuple[Tensor, Float[Tensor, "k 2 3"]]:
    """Which of some columns are pairs, and the columns of these."""
    every = _columns(fit)[index]
    if len(index) == 0:
        return index, every.new_zeros(0, 2, 3)
    away = torch.cat([torch.zeros_like(half[:, :1]), half], dim=1)[index]
    share = every.new_tensor([0.5, 1, 1])
    two = torch.stack([every * share - away, every * share + away], dim=1)
    trial = one_or_two(data, usable, fit, index[:, None], two)
    far = (trial.apart() / fit.shape.width).norm(dim=1) > 2 * _APART
    pair = as_index(
        (trial.evidence > _TWO * fit.shape.unevenness) & far & _plausible(trial, data.shape, closest)
    )
    return index[pair], trial.two[pair]


def _plausible(trial: Trial, shape: Sequence[int], closest: float) -> Bool[Tensor, " k"]:
    """Which trials have two columns that may be: in the image, not too near to each other, and neither too faint."""
    last = trial.two.new_tensor(shape) - 0.5
    inside = ((trial.two[:, :, 1:] > -0.5) & (trial.two[:, :, 1:] < last)).all(dim=2).all(dim=1)
    intensity = trial.two[:, :, 0]
    bright = intensity.amin(dim=1) > _FAINTER * intensity.sum(dim=1)
    far: Tensor = trial.apart().norm(dim=1) > closest
    return inside & bright & far


def _columns(fit: Fit) -> Float[Tensor, "n 3"]:
    return torch.cat([fit.intensity[:, None].double(), fit.positions], dim=1)


def _oblong(
    tensor: Float[Tensor, "n 2 2"], covariance: Float[Tensor, "n 3 3"], fit: Fit, shape: Sequence[int]
) -> tuple[Bool[Tensor, " n"], Float[Tensor, "n 2"], Bool[Tensor, " n"]]:
    """Which columns may be pairs, the vector from the middle to a half, and which are single.

    Two equal halves at +-d differ from one column by half of d d^T times the second derivatives of its profile. The
    score for these, with intensity and position as nuisance (Rao 1948), gives d d^T and its error.
    """
    size, axes = torch.linalg.eigh(tensor)
    u = axes[:, :, 1]
    along = torch.stack([u[:, 0] ** 2, u[:, 0] * u[:, 1], u[:, 1] ** 2], dim=1)
    error = (along[:, None] @ covariance @ along[:, :, None])[:, 0, 0].clamp(min=0).sqrt()
    oblong = (size[:, 1] > _DOUBTED * error) & (size[:, 0] < _ROUND * size[:, 1])
    pair, single = oblong & (size[:, 1] > _APART**2), ~(oblong & (size[:, 1] > _OVAL))
    vector = u * size[:, 1:].clamp(min=0).sqrt() * fit.shape.width
    vector = vector.to(fit.positions.dtype)
    reach, last = vector.abs(), vector.new_tensor(shape) - 1
    inside = ((fit.positions >= reach) & (fit.positions <= last - reach)).all(dim=1)
    return pair & inside & ~fit.held, vector, single


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
