"""One column or two: pairs that were taken for one, and columns that were taken for two, by the likelihood of both."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchmotif.columns._fit import Fit
from torchmotif.columns._neighbours import as_index, picked
from torchmotif.columns._profiles import Profiles
from torchmotif.columns._trial import Trial, one_or_two

__all__ = ["Resolved", "overdispersion", "resolve_pairs"]

_APART = 0.9  # widths from the middle of a pair to each half: misfits of the common shape are smaller
_TWO = 16.0  # twice the gain in log-likelihood of two columns over one, from which they are two
_SAME = 13.0  # and below which two columns are one
_FAINTER = 0.15  # of the intensity of a pair: the fainter of it has more
_NEAR = 3.0  # widths within which two columns may be one
_BRIGHT = 10.0  # standard deviations of its intensity from which there is no doubt of a column
_DOUBTED = 2.5  # standard deviations of its elongation from which a column may be a pair
_OVAL = 0.4  # squared widths: of one that is more elongated the width is not learned
_MANY = 20  # columns, from which their overdispersion can be told
_MEDIAN = 0.455  # median of the square of a standard normal variable
_ROUND = 0.5  # of the greater elongation: where the smaller is more, there is a blob and no pair


@dataclass(frozen=True, eq=False)
class Resolved:
    """Columns of a fit that others replace: pairs that were taken for one, and columns that were taken for two."""

    replaced: Bool[Tensor, " n"]
    single: Bool[Tensor, " n"]  # which of the fit's columns are no pairs
    resolved: Bool[Tensor, " n"]  # which of them are told from the columns next to them
    columns: Float[Tensor, "m 3"]  # intensity, row, column of those that replace them
    tile: Int[Tensor, " m"]
    columns_resolved: Bool[Tensor, " m"]
    changes: Int[Tensor, " t"]  # columns that were split or merged in every tile


def overdispersion(fit: Fit) -> Float[Tensor, ""]:
    """Variance of the columns' elongations over what their noise lets expect, at least 1.

    It is 1 where columns are alike and electrons are counted. Tails, tilts, neighbours in depth and drift make it more, for most
    columns and not only for pairs: the median knows little of these.
    """
    if len(fit) < _MANY:
        return fit.data.new_ones(())
    tensor, covariance = _elongation(fit, torch.arange(len(fit), device=fit.data.device))
    q = torch.stack([tensor[:, 0], 2 * tensor[:, 1], tensor[:, 2]], dim=1)
    least = torch.finfo(q.dtype).tiny
    squares = q.square() / covariance.diagonal(dim1=1, dim2=2).clamp(min=least)
    return (squares.median() / _MEDIAN).clamp(min=1)


def resolve_pairs(
    fit: Fit, covariance: Float[Tensor, "n 3 3"], judged: Bool[Tensor, " n"] | None, closest: float
) -> Resolved:
    """Where two columns at least `closest` pixels apart explain an image better than one of a fit, and the reverse.

    Of columns that are not `judged`, by default none, none is replaced.
    """
    n, over = len(fit), fit.shape.overdispersion
    replaced, tile = torch.zeros_like(fit.fixed), fit.tile
    if n == 0:
        changes = fit.in_tiles(tile)
        return Resolved(
            replaced, ~fit.fixed, replaced, fit.positions.new_zeros(0, 3), tile, replaced, changes
        )
    rows = torch.arange(n, device=tile.device) if judged is None else as_index(judged)
    judged = torch.ones_like(fit.fixed) if judged is None else judged
    pair, half, oval = _oblong(*_elongation(fit, rows), rows, fit)
    single = torch.ones_like(replaced).index_copy(0, rows, ~oval)
    doubtful, near = _doubtful(fit, covariance, judged)
    alone = pair & ~near[rows]
    pairs, ones = torch.stack([doubtful.sum(), alone.sum()]).tolist()
    entry = picked(doubtful, pairs)
    i, j = entry // max(fit.neighbours.later.shape[1], 1), fit.neighbours.later.flatten()[entry]
    # Each trial takes two columns of the fit, of which the second may be none.
    chosen = picked(alone, ones)
    alone, half = rows[chosen], half[chosen]
    taken = torch.stack([torch.cat([i, alone]), torch.cat([j, torch.full_like(alone, n)])], dim=1)
    if len(taken) == 0:
        changes = fit.in_tiles(tile * 0)
        return Resolved(
            replaced, single, replaced, fit.positions.new_zeros(0, 3), tile[:0], replaced[:0], changes
        )
    every = torch.cat([fit.intensity[:, None].double(), fit.positions], dim=1)
    away = torch.cat([torch.zeros_like(half[:, :1]), half], dim=1)
    share = torch.ones_like(away)
    share[:, 0] = 0.5
    halves = torch.stack([every[alone] * share - away, every[alone] * share + away], dim=1)
    trial = one_or_two(fit, taken, torch.cat([torch.stack([every[i], every[j]], dim=1), halves]))
    neighbours = torch.arange(len(taken), device=tile.device) < len(i)
    # Each column is merged with one other at most: that from which it is resolved the least.
    least = trial.evidence.new_full((n + 1,), torch.inf)
    tried = torch.zeros(n + 1, dtype=torch.long, device=tile.device)
    for end in taken.unbind(1):
        masked = torch.where(neighbours, end, n)
        least = least.scatter_reduce(0, masked, trial.evidence, "amin")
        tried = tried.index_add(0, masked, torch.ones_like(end))
    first, second = taken.unbind(1)
    merged = neighbours & (trial.evidence < _SAME)
    merged &= (trial.evidence <= least[first]) & (trial.evidence <= least[second])
    plausible = _plausible(trial, fit, closest)
    better = (
        neighbours & (trial.evidence >= _SAME * over) & (tried[first] == 1) & (tried[second] == 1) & plausible
    )
    far = (trial.apart() / fit.shape.width).norm(dim=1) > 2 * _APART
    split = ~neighbours & (trial.evidence > _TWO * over) & far & plausible
    gone = merged | better | split
    marks = torch.zeros(n + 1, dtype=torch.int32, device=tile.device)
    replaced = marks.index_add(0, first, gone.int()).index_add(0, second, gone.int())[:n] > 0
    two = better | split
    chosen = as_index(torch.cat([merged, two, two]))
    columns = torch.cat([trial.one, trial.two[:, 0], trial.two[:, 1]])[chosen]
    home = tile[first]
    changes = torch.zeros_like(fit.in_tiles(tile)).index_add_(0, home, (merged | split).long())
    resolved = (least[:n] >= _SAME * over) & (least[:n] < torch.inf)
    new_resolved = chosen >= len(taken)
    return Resolved(replaced, single, resolved, columns, home.repeat(3)[chosen], new_resolved, changes)


def _doubtful(
    fit: Fit, covariance: Float[Tensor, "n 3 3"], judged: Bool[Tensor, " n"]
) -> tuple[Bool[Tensor, " nk"], Bool[Tensor, " n"]]:
    """Which of the neighbours of all columns are so near to them, and one of them so faint, that they may be one column."""
    later, n = fit.neighbours.later, len(fit)
    clear = fit.intensity > _BRIGHT * covariance[:, 0, 0].clamp(min=0).sqrt()
    asked, fixed, firm = (
        torch.cat([one, one.new_full((1,), none)])
        for one, none in ((judged, False), (fit.fixed, True), (clear, True))
    )
    at = torch.cat([fit.positions, fit.positions.new_full((1, 2), torch.inf)])
    apart = ((fit.positions[:, None] - at[later]) / fit.shape.width.double()).norm(dim=2)
    doubtful = (apart <= _NEAR) & ~(clear[:, None] & firm[later]) & (judged[:, None] | asked[later])
    doubtful &= ~(fit.fixed[:, None] | fixed[later])
    near = torch.zeros(n + 1, dtype=torch.int32, device=later.device)
    near = near.index_add_(0, later.flatten(), doubtful.flatten().int())[:n] > 0
    return doubtful.flatten(), near | doubtful.any(dim=1)


def _plausible(trial: Trial, fit: Fit, closest: float) -> Bool[Tensor, " k"]:
    """Which trials have two columns that may be: in the image, not too near to each other, and neither too faint."""
    _, h, w = fit.tiles.shape
    row, col = trial.two[:, :, 1:].unbind(2)
    inside = ((row > -0.5) & (row < h - 0.5) & (col > -0.5) & (col < w - 0.5)).all(dim=1)
    intensity = trial.two[:, :, 0]
    bright = intensity.amin(dim=1) > _FAINTER * intensity.sum(dim=1)
    far: Tensor = trial.apart().norm(dim=1) > closest
    return inside & bright & far


def _oblong(
    tensor: Float[Tensor, "k 3"], covariance: Float[Tensor, "k 3 3"], rows: Int[Tensor, " k"], fit: Fit
) -> tuple[Bool[Tensor, " k"], Float[Tensor, "k 2"], Bool[Tensor, " k"]]:
    """Which of some columns may be pairs, the vector from the middle to a half, and which are oval.

    Two equal halves at +-d differ from one column by half of d d^T times the second derivatives of its profile. The
    score for these, with intensity and position as nuisance (Rao 1948), gives d d^T and its error.
    """
    rr, rc, cc = tensor.unbind(1)
    middle, swing = (rr + cc) / 2, torch.hypot((rr - cc) / 2, rc)
    greater, smaller = middle + swing, middle - swing
    angle = torch.atan2(2 * rc, rr - cc) / 2
    u = torch.stack([angle.cos(), angle.sin()], dim=1)
    along = torch.stack([u[:, 0] ** 2, u[:, 0] * u[:, 1], u[:, 1] ** 2], dim=1)
    covariance = covariance * fit.shape.overdispersion
    error = (along[:, None] @ covariance @ along[:, :, None])[:, 0, 0].clamp(min=0).sqrt()
    oblong = (greater > _DOUBTED * error) & (smaller < _ROUND * greater)
    pair, oval = oblong & (greater > _APART**2), oblong & (greater > _OVAL)
    vector = (u * greater.clamp(min=0).sqrt()[:, None] * fit.shape.width).to(fit.positions.dtype)
    _, h, w = fit.tiles.shape
    (row, col), (up, across) = fit.positions[rows].unbind(1), vector.abs().unbind(1)
    inside = (row >= up) & (row <= h - 1 - up) & (col >= across) & (col <= w - 1 - across)
    return pair & inside & ~fit.fixed[rows], vector, oval


def _elongation(fit: Fit, which: Int[Tensor, " k"]) -> tuple[Float[Tensor, "k 3"], Float[Tensor, "k 3 3"]]:
    """The rr, rc and cc of the d d^T of some columns in squared widths, and the covariance of rr, 2 rc and cc."""
    profile, tile, intensity = fit.profile.at(which), fit.tile[which], fit.intensity[which]
    images = [profile.pad(image) for image in ((fit.data - fit.expected) * fit.weights, fit.weights)]
    order, width = _derivatives(fit.data.device), fit.shape.width
    # In units of the width: the first derivative times it, the second (by the width, over it) times its square.
    unit = torch.stack([width[0] * 0 + 1, width[0], width[1], width[0], width[0] * width[1], width[1]])
    most = fit.weights.flatten(1).amax(1)
    tensors, covariances = [unit.new_zeros(0, 3)], [unit.new_zeros(0, 3, 3)]
    for part in profile.chunks():
        first, second = _scores(profile.at(part), *images)
        first, second = first[:, order] * unit, second[:, order[:, None], order] * unit[:, None] * unit
        least = 1e-6 * fit.shape.width.prod() * most[tile[part], None, None]
        eye = torch.eye(6, dtype=second.dtype, device=second.device)
        inverse = torch.linalg.inv_ex((second + least * eye).double()).inverse[:, 3:]
        scale = 2 / intensity[part].double().clamp(min=torch.finfo(first.dtype).eps)[:, None]
        q = scale * (inverse @ first.double()[:, :, None])[:, :, 0]
        tensors.append(torch.stack([q[:, 0], q[:, 1] / 2, q[:, 2]], dim=1).to(first.dtype))
        covariances.append((inverse[:, :, 3:] * scale[:, :, None] ** 2).to(first.dtype))
    return torch.cat(tensors), torch.cat(covariances)


@lru_cache(maxsize=8)
def _derivatives(device: torch.device) -> Tensor:
    """Value, row, column, and the three second derivatives: along rows the first index, along columns the second, of nine."""
    return torch.tensor([0, 3, 1, 6, 4, 2], device=device)


def _scores(profile: Profiles, score: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Products (n, 9) of the score with all profiles along rows and columns, and (n, 9, 9) of these with each other."""
    rows, cols = profile.rows, profile.cols
    n, _, side = rows.shape
    first = torch.bmm(torch.bmm(rows, profile.windows(score)), cols.mT).flatten(1)
    both_rows, both_cols = ((part[:, :, None] * part[:, None]).view(n, 9, side) for part in (rows, cols))
    products = torch.bmm(torch.bmm(both_rows, profile.windows(weights)), both_cols.mT).view(n, 3, 3, 3, 3)
    return first, products.permute(0, 1, 3, 2, 4).reshape(n, 9, 9)
