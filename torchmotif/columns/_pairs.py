"""One column or two: pairs that were taken for one, and columns that were taken for two, by the likelihood of both."""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchmotif._windows import gather_windows
from torchmotif.columns._fit import Fit
from torchmotif.columns._neighbours import as_index
from torchmotif.columns._profiles import Profiles, gaussians

__all__ = ["Resolved", "Trial", "one_or_two", "overdispersion", "resolve_pairs"]

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
_TRIAL_REACH = (
    4.5  # widths around the middle that a trial looks at: what is further out tells one from two no more
)
_STEPS_ONE, _STEPS_TWO = 5, 10
_FURTHEST = 0.6  # widths that a column of a trial may move in one step
_FAINT = 0.02  # of the intensity of all: no column of a trial is fainter
_CHUNK, _CHUNK_ON_ACCELERATOR = 1024, 16_384  # trials at a time


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
    entry = torch.argsort(~doubtful, stable=True)[:pairs]
    i, j = entry // max(fit.neighbours.later.shape[1], 1), fit.neighbours.later.flatten()[entry]
    # Each trial takes two columns of the fit, of which the second may be none.
    chosen = torch.argsort(~alone, stable=True)[:ones]
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


def _plausible(trial: "Trial", fit: Fit, closest: float) -> Bool[Tensor, " k"]:
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

    def fitted(self, columns: Float[Tensor, "k m 3"], steps: int) -> tuple[Tensor, Tensor, Tensor]:
        """Columns of greatest likelihood, the logarithm of that, and what they let expect; only steps that better it are taken."""
        state = self.state(columns)
        best = self.likelihood(state.expected)
        damping = torch.full_like(best, 1e-2)
        for _ in range(steps):
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
    reach = int(_TRIAL_REACH * fit.shape.widest) + 1
    images = [F.pad(image, (reach,) * 4).flatten(0, 1) for image in (fit.data, fit.usable, fit.expected)]
    # A fit may have less than nothing.
    mean = fit.in_tiles(fit.intensity.abs()) / fit.in_tiles(torch.ones_like(fit.intensity)).clamp(min=1)
    least = _FAINT * mean + torch.finfo(mean.dtype).tiny
    none = (
        torch.cat([fit.intensity, fit.intensity.new_zeros(1)]),
        torch.cat([fit.positions, fit.positions[:1]]),
    )
    parts, chunk = [], _CHUNK if taken.device.type == "cpu" else _CHUNK_ON_ACCELERATOR
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

    def around(others: Tensor, many: int) -> _Surroundings:
        return _Surroundings(
            fit, data, usable, others, width.repeat(many * len(two))[:, None], _FURTHEST * width.mean()
        )

    everything = around(expected, taken.shape[1]).state((taken - shift).to(dtype)).expected
    others = 2 * expected - everything
    one, alone, _ = around(others, 1).fitted(
        (torch.cat([total, middle], dim=2) - shift).to(dtype), _STEPS_ONE
    )
    places = around(others, 2)
    pair, both, reached = places.fitted((two - shift).to(dtype), _STEPS_TWO)
    evidence = 2 * (both - alone).to(dtype) / places.misfit(reached).clamp(min=1)
    return (one + shift)[:, 0].double(), (pair + shift).double(), evidence
