"""Motifs of columns of whose patch only a part is there: by the likelihood of its pixels."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchmotif._arrays import Budget
from torchmotif._groups import within_group
from torchmotif.motifs._model import MotifModel
from torchmotif.motifs._moments import MomentScale, finer_order
from torchmotif.zernike.indices import n_modes
from torchmotif.zernike.polynomials import zernike_polynomials

__all__ = ["assign_partial"]

_PER_PIXEL = 4  # steps of the offsets at which the polynomials are made
# Kinds of part whose information is held at a time: on a CPU few, of nearly one number of pixels, so that little is filled up
# (of 4, 8, 16, 32 and 64 kinds 8 took least, a fifth less time than 64, with 83 kinds of 71 x 71 px); and offsets whose
# polynomials are made at a time, which caches hold (2 and 4 of 1, 2, 4, 8 and all 23, two thirds of the time of all).
_KINDS, _OFFSETS = Budget(cpu=8, accelerator=64), Budget(cpu=2, accelerator=256)
_BATCH = 512  # columns at a time
_BITS = 62  # pixels that a number holds as bits
_PIXELS_PER_MOMENT = 1.5  # pixels that there must be, for the moments to be told from noise
_LEAST_COUNT = 0.01  # of the mean, that a pixel expects: none is without noise
_REGULAR = 1e-9  # of the mean information of a moment, that each has


class _Motifs(NamedTuple):
    """The motifs in the order of their leaves in the tree, of which each is one."""

    number: Int[Tensor, " m"]
    centres: Float[Tensor, "m k"]  # mean moments
    columns: Float[Tensor, " m"]  # that were learnt

    @classmethod
    def of(cls, model: MotifModel) -> "_Motifs":
        """Those of a model; leaves whose columns fit none are left out."""
        centres = model.spread.centres
        leaves = [leaf for leaf, motif in enumerate(model.motif) if motif >= 0]
        number = torch.tensor([model.motif[leaf] for leaf in leaves], device=centres.device)
        columns = torch.tensor(model.counts, dtype=torch.float64, device=centres.device)
        return cls(number, centres[leaves], columns[number])


def assign_partial(
    model: MotifModel,
    scale: MomentScale,
    outlier_distance: float,
    patches: Float[Tensor, "n s s"],
    *,
    present: Bool[Tensor, "n s s"],
    offsets: Float[Tensor, "n 2"],
) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """Motif and its probability for patches of which some pixels are there; -1 and 0 where too few are, or none fits.

    Pixels are moments times polynomials, and noise of a known variance: least squares gives the moments that the pixels
    which are there tell, with a covariance that grows without limit along what they do not tell. A motif's columns scatter
    about its mean moments as `Spread` says; so the likelihood of each motif is that of a Gaussian. What the polynomials do not
    follow counts as noise: it is told from the pixels' squared residuals.

    Each motif is one leaf of the tree, as motifs learnt without `equivalence` are: rotated copies are not joined here.
    """
    labels = torch.full((len(patches),), -1, device=patches.device)
    probabilities = torch.zeros(len(patches), dtype=torch.float64, device=patches.device)
    k = model.spread.centres.shape[1]
    steps = torch.round(offsets * _PER_PIXEL).long()
    motifs = _Motifs.of(model)
    whole = _Whole.of(model, scale, motifs, steps)
    absent = whole.disks[whole.group] & ~present.flatten(1)
    enough = whole.disks.sum(1)[whole.group] - absent.sum(1) >= _PIXELS_PER_MOMENT * k
    some = torch.nonzero(enough)[:, 0]
    if len(some) == 0:
        return labels, probabilities
    parts = _Parts.of(absent[some], whole.group[some])
    first = 0
    for number, last in enumerate(parts.ends):
        known = _Known.of(whole, *parts.some(number))
        for columns in parts.columns[first:last].split(_BATCH):
            rows = some[columns]
            values = (patches[rows].double().flatten(1) - scale.level) / scale.unit
            part = _Told.of(whole, whole.group[rows], values, absent[rows])
            moments = part.moments(known, parts.kind[columns] - number * parts.held)
            score, log = _likelihoods(model, motifs, whole.loads, moments)
            probability, leaf = log.exp().max(1)
            fits = score.gather(1, leaf[:, None])[:, 0] <= outlier_distance
            labels[rows] = torch.where(fits, motifs.number[leaf], -1)
            probabilities[rows] = torch.where(fits, probability, 0.0)
        first = last
    return labels, probabilities


@dataclass(frozen=True, eq=False)
class _Parts:
    """Kinds of part: one for each offset and set of absent pixels, which the columns along a border share."""

    kind: Int[Tensor, " n"]  # of each column; those with the fewest absent pixels first
    absent: Bool[Tensor, "q p"]  # of each kind
    group: Int[Tensor, " q"]
    columns: Int[Tensor, " n"]  # by kind
    ends: list[int]  # of the columns of each batch of kinds
    least: list[int]  # absent pixels in each batch
    most: list[int]
    held: int  # kinds in a batch

    @classmethod
    def of(cls, absent: Bool[Tensor, "n p"], group: Int[Tensor, " n"]) -> "_Parts":
        held = _KINDS.on(absent)
        bits = F.pad(absent, (0, -absent.shape[1] % _BITS)).unflatten(1, (-1, _BITS)).long()
        words = (bits << torch.arange(_BITS, device=bits.device)).sum(2)
        kind = torch.unique(torch.cat([group[:, None], words], dim=1), dim=0, return_inverse=True)[1]
        one = torch.empty(int(kind.max()) + 1, dtype=torch.long, device=kind.device)
        one[kind] = torch.arange(len(kind), device=kind.device)  # any of the columns of a kind
        missing = absent[one].sum(1)
        order = torch.argsort(missing, stable=True)  # of like numbers, so that little is filled up
        kind, one = torch.argsort(order)[kind], one[order]
        counts = torch.bincount(kind, minlength=len(one))
        last = torch.arange(held, len(one) + held, held, device=one.device).clamp(max=len(one)) - 1
        first, ordered = torch.arange(0, len(one), held, device=one.device), missing[order]
        ends, least, most = torch.stack([counts.cumsum(0)[last], ordered[first], ordered[last]]).tolist()
        return cls(kind, absent[one], group[one], torch.argsort(kind, stable=True), ends, least, most, held)

    def some(self, number: int) -> tuple[Tensor, Tensor, int, int]:
        """The absent pixels and offsets of a batch of kinds, and how many pixels those are, at least and at most."""
        rows = slice(number * self.held, (number + 1) * self.held)
        return self.absent[rows], self.group[rows], self.least[number], self.most[number]


@dataclass(frozen=True, eq=False)
class _Whole:
    """What a whole patch tells, for each of the offsets that there are."""

    group: Int[Tensor, " n"]  # which of the offsets each column has
    shapes: Float[Tensor, "g p l"]  # polynomials
    disks: Bool[Tensor, "g p"]
    weight: Float[Tensor, "g p"]  # one over the variance of a pixel
    information: Float[Tensor, "g l l"]
    pixels: int  # in the largest of the disks
    ridge: Float[Tensor, " l"]  # information on a moment that is there before any pixel
    loads: Float[Tensor, "e k"]  # axes along which the columns of a motif scatter, times how far

    @classmethod
    def of(
        cls, model: MotifModel, scale: MomentScale, motifs: _Motifs, steps: Int[Tensor, "n 2"]
    ) -> "_Whole":
        size = scale.basis.size
        shapes, disks, group = _polynomials(finer_order(scale.basis.n_max, size), size, steps)
        count, centres = motifs.columns, motifs.centres
        mean = (count[:, None] * centres).sum(0) / count.sum()
        expected = shapes[..., : centres.shape[1]] @ mean + scale.counts_at_level
        least = (_LEAST_COUNT * expected.mean(1, keepdim=True)).clamp(min=1e-6)
        weight = disks / (model.scale * torch.maximum(expected, least))
        information = (shapes * weight[..., None]).mT @ shapes
        # Finer structure, which motifs are not told from, is of the size of the finest of them at most, and else not known.
        k = centres.shape[1]
        highest = centres[:, k - 2 * scale.basis.n_max - 1 :]  # of the two highest orders
        ridge = torch.zeros_like(information[0, 0])
        ridge[k:] = 1 / highest.square().mean().clamp(min=1e-12)
        # Moments scatter about the mean of their motif along the axes along which there is more than noise.
        along = model.spread.excess > 0
        loads = torch.linalg.inv(model.spread.axes)[along] * model.spread.excess[along].sqrt()[:, None]
        pixels = int(disks.sum(1).max())
        return cls(group, shapes, disks, weight, information, pixels, ridge, loads)


@dataclass(frozen=True, eq=False)
class _Known:
    """What a batch of kinds of part tells of the moments."""

    inverse: Float[Tensor, "q l l"]  # of the information on all moments
    own: Float[Tensor, "q k k"]  # information on those of the basis, whatever the finer ones are
    scatter: Float[Tensor, "q e e"]  # `own` along the loads

    @classmethod
    def of(
        cls, whole: _Whole, absent: Bool[Tensor, "q p"], group: Int[Tensor, " q"], least: int, most: int
    ) -> "_Known":
        """The information of a whole patch less what absent pixels would tell, or that of those present, whichever are fewer."""
        present = whole.pixels - least
        few, count = (absent, most) if most < present else (whole.disks[group] & ~absent, present)
        index = torch.argsort(~few, dim=1, stable=True)[:, :count]
        at = group[:, None] * absent.shape[1] + index
        shapes, weight = whole.shapes.flatten(0, 1)[at], whole.weight.flatten()[at] * few.gather(1, index)
        information = (shapes * weight[..., None]).mT @ shapes
        if few is absent:
            information = whole.information[group] - information
        regular = _REGULAR * information.diagonal(dim1=1, dim2=2).mean(1, keepdim=True)
        information = information + torch.diag_embed(torch.where(whole.ridge > 0, whole.ridge, regular))
        k = whole.loads.shape[1]
        own, finer = slice(0, k), slice(k, None)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(information))
        others = torch.linalg.solve(information[:, finer, finer], information[:, finer, own])
        information = information[:, own, own] - information[:, own, finer] @ others
        return cls(inverse, information, whole.loads @ information @ whole.loads.T)


@dataclass(frozen=True, eq=False)
class _Told:
    """What the pixels of some columns tell."""

    pull: Float[Tensor, "n l"]  # weighted sums of pixels times polynomials
    squares: Float[Tensor, " n"]  # of pixels
    pixels: Int[Tensor, " n"]

    @classmethod
    def of(
        cls, whole: _Whole, group: Tensor, values: Float[Tensor, "n p"], absent: Bool[Tensor, "n p"]
    ) -> "_Told":
        """Columns of one offset side by side, in runs of bounded length, share its polynomials in one product."""
        n, offsets = len(values), len(whole.shapes)
        weighted = torch.where(absent, 0.0, values * whole.weight[group])
        order = torch.argsort(group, stable=True)
        place = torch.empty_like(group)
        place[order] = within_group(group[order])
        length = math.ceil(2 * n / offsets)
        runs, run = torch.unique(group * n + place // length, return_inverse=True)
        table = values.new_zeros(len(runs), length, values.shape[1])
        table[run, place % length] = weighted
        pull = (table @ whole.shapes[runs // n])[run, place % length]
        return cls(pull, (values * weighted).sum(1), (whole.disks[group] & ~absent).sum(1))

    def moments(self, known: _Known, kind: Int[Tensor, " n"]) -> "_Moments":
        """By least squares; what they do not follow is noise, too."""
        told = (known.inverse[kind] @ self.pull[..., None])[..., 0]
        k = known.own.shape[1]
        squares = self.squares - (self.pull * told).sum(1)
        rougher = (squares / (self.pixels - k)).clamp(min=1.0)[:, None, None]
        return _Moments(told[:, :k], known.own[kind] / rougher, known.scatter[kind] / rougher)


class _Moments(NamedTuple):
    """Moments that some pixels tell, the information on them, and that along the loads."""

    told: Float[Tensor, "n k"]
    information: Float[Tensor, "n k k"]
    scatter: Float[Tensor, "n e e"]


def _likelihoods(
    model: MotifModel, motifs: _Motifs, loads: Float[Tensor, "e k"], moments: _Moments
) -> tuple[Float[Tensor, "n m"], Float[Tensor, "n m"]]:
    """Distance from every motif on the scale of a standard normal variable, and its log-probability; in the order of the leaves."""
    spread, (_, centres, count) = model.spread, motifs
    k = centres.shape[1]
    away = moments.told[:, None] - centres  # (n, m, k)
    slope = away @ moments.information
    squared = (slope * away).sum(2)
    shared = slope @ loads.T  # (n, m, e)
    inner = torch.eye(len(loads), dtype=shared.dtype, device=shared.device) + moments.scatter
    distance = squared - (shared * torch.linalg.solve(inner, shared.mT).mT).sum(2)
    distance = distance / spread.stretch
    log = (torch.log(count) - 0.5 * distance).log_softmax(1)
    width = 2 / (9 * k)
    score = ((distance.clamp(min=0) / k) ** (1 / 3) - (1 - width)) / math.sqrt(width)
    return score, log


def _polynomials(
    n_max: int, size: int, steps: Int[Tensor, "n 2"]
) -> tuple[Float[Tensor, "g p k"], Bool[Tensor, "g p"], Int[Tensor, " n"]]:
    """Polynomials and disks for the offsets that there are, made where these lie, and which of them each column has."""
    present, group = torch.unique(steps, dim=0, return_inverse=True)
    axis = (torch.arange(size, dtype=torch.float64, device=steps.device) - (size - 1) / 2) / (size / 2)
    row, col = (2 * present.double() / _PER_PIXEL / size).unbind(1)
    y = (row[:, None, None] - axis[:, None]).expand(-1, -1, size)
    x = (axis - col[:, None, None]).expand(-1, size, -1)
    radius, angle = torch.hypot(x, y).flatten(1), torch.atan2(y, x).flatten(1)
    shapes = radius.new_empty(*radius.shape, n_modes(n_max))
    few = _OFFSETS.on(radius)
    for some, r, theta in zip(shapes.split(few), radius.split(few), angle.split(few), strict=True):
        some.flatten(0, 1).copy_(zernike_polynomials(n_max, r.clamp(max=1.0).flatten(), theta.flatten()).T)
    return shapes, radius <= 1, group
