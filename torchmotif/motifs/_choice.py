"""Which split of a set of columns is made: the best supported one that parts two kinds, and not what surrounds or underlies them."""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from torchmotif._arrays import sent
from torchmotif.motifs._aside import rests
from torchmotif.motifs._groups import FLAT, Groups
from torchmotif.motifs._saddles import saddle_ratios
from torchmotif.motifs._single_columns import radius_of
from torchmotif.motifs._split import Candidates, Split, propose, splits_of, stands_out
from torchmotif.motifs.detectability import SplitCriteria
from torchmotif.zernike import ZernikeBasis

__all__ = ["Choice", "Chooser", "Proposal"]

_DISK_EDGE = 0.8  # of the disk's radius; what lies beyond is its edge, where what is outside shines in
# A difference of which most lies beyond, or at the edge, is one of motifs only where it changes so much of the contrast within, in squares: in
# MoSe2, what shines in from further shells changes less than 0.013, Mo and Se2 differ by more than 1. Pb and Ti of a perovskite differ at the edge,
# too, where each has the other; with 0.05, Nb and Sr of another were one motif (AMI -0.04 and -0.05); with 0.0125, windows of 65 px have one
# and two motifs more.
_CHANGED = 0.025
# Of a difference between motifs, in its squares; also beyond the first shell. Without a bound, 26 images have 221 motifs more, MoSe2 AMI
# -0.24; with 0.25, a perovskite AMI +0.05, WS2 at 1/5 -0.002 with a motif less.
_MOST_AT_EDGE = 0.5
# Of a difference, which is at the edge: vacancies beyond it have 0.90 to 0.98 there, Pb and Ti of a perovskite 0.64 to 0.73. Without a bound,
# two oxides have 5 and 7 motifs more; half of it loses oxides and perovskites (AMI -0.26, -0.13).
_NEARLY_ALL = 0.85
# Of it, explained by a constant and a slope: contamination, uneven illumination. Without a bound, a TiWSe2 has a motif more (AMI -0.014);
# with 0.35, bilayers and a perovskite at 1/50 lose motifs (AMI -0.02).
_MOST_FLAT = 0.7


class Proposal(NamedTuple):
    """A split of a node that can be made."""

    split: Split
    kind: (
        int  # 0 where the columns tell both components apart; else why it comes later, see `Chooser._chosen`
    )
    sides: tuple[Int[Tensor, " a"], Int[Tensor, " b"]]  # the columns of both components

    @property
    def rank(self) -> tuple[int, float]:
        """What is resolvable comes before what is forced, then the better supported first."""
        return self.kind, -self.split.evidence


class Choice(NamedTuple):
    """What comes of looking for splits of a node."""

    made: Proposal | None  # the split that can be made
    hint: Split | None  # what may be one
    # The columns that no flat difference parts off, where none is made and there are such differences:
    rest: Int[Tensor, " r"] | None


class Chooser:
    """Chooses, of the candidates of each group, the split that is made, and one that may be."""

    def __init__(self, basis: ZernikeBasis, criteria: SplitCriteria, least: float, shell: float) -> None:
        self.basis, self.criteria, self.least = basis, criteria, least
        k, size, device = len(basis.basis), basis.size, basis.basis.device
        patches = basis.reconstruct(torch.eye(k, device=device)).flatten(1)
        radius = radius_of(size, device).flatten()
        rim = _DISK_EDGE * size / 2
        shell = shell if shell < rim else math.inf
        edge, beyond = (patches * (radius > least) for least in (rim, shell))
        within = patches * (radius <= shell)
        flat = (torch.arange(k, device=device) < FLAT).float()
        # What moments hold, in squares: in the whole patch, at its edge, beyond the first shell, within it; in all of them, in flat ones.
        forms = torch.stack(
            [
                *(part @ part.T for part in (patches, edge, beyond, within)),
                torch.eye(k, device=device),
                torch.diag(flat),
            ]
        )
        self.flat = forms.transpose(0, 1).flatten(1)
        mean = within.sum(1)
        self.contrast = forms[3] - torch.outer(mean, mean) / (within != 0).any(0).sum()

    def choose(self, groups: Groups, forced: int = 0, *, uneven: bool = False) -> list[Choice]:
        """For each group the split that can be made, and what may be one.

        With `forced` a split is made whatever the criteria say, if possible with so many columns on both sides. Of `uneven` groups only splits
        are made that are better supported than all flat differences: else columns that are left of these would be a motif.
        """
        found = propose(groups)
        table = self._table(groups, found)
        made, hints, kind = self._chosen(groups, found, table, forced)
        flat = self._flat(table)
        if uneven:
            most = np.where(flat, table[..., 0], -np.inf).max(1)
            made = [-1 if most[i] > table[i, j, 0] else j for i, j in enumerate(made)]
        which = sent(np.maximum([made, hints], 0).T, groups.order)
        splits, second = splits_of(groups, found, which)
        # One sort parts all groups: no number of columns is asked for again.
        parted = groups.order[torch.argsort(2 * groups.set + second, stable=True)]
        many = [int(table[i, max(j, 0), 3]) for i, j in enumerate(made)]
        sizes = [size for count, m in zip(groups.counts, many, strict=True) for size in (count - m, m)]
        sides = parted.split(sizes)
        hidden = flat & (np.array(made) < 0)[:, None]
        hidden &= not (forced or uneven)
        rest = rests(groups, found, table[..., 0], hidden)
        return [
            Choice(
                Proposal(splits[i][0], kind[i], (sides[2 * i], sides[2 * i + 1])) if made[i] >= 0 else None,
                splits[i][1] if hints[i] >= 0 and kind[i] else None,
                rest[i],
            )
            for i in range(len(made))
        ]

    def _flat(self, table: np.ndarray) -> np.ndarray:
        """Which candidates would be motifs, were they not of the background: they differ by a constant and a slope."""
        flat = table[..., -1] > _MOST_FLAT * table[..., -2]
        return np.asarray(flat & self.criteria.are_met(table[..., 1], table[..., 0]))

    def _table(self, groups: Groups, found: Candidates) -> np.ndarray:
        """What decides, (g, c, 12) on the host, in the order in which `_chosen` takes it apart."""
        points, k = groups.points, len(self.basis.basis)
        second = found.odds.sigmoid()
        n = points.count[:, None]
        sums = (n * points.mean(second)).clamp(min=1e-6)
        hard = (n * points.mean((found.odds > 0).float())).round()
        difference = (
            points.total(torch.bmm(second.mT, groups.blocks[..., :k]))
            * (n / sums / (n - sums).clamp(min=1e-6))[..., None]
        )
        products = (difference.flatten(0, 1) @ self.flat).view(*sums.shape, -1, k)
        power = (products * difference[:, :, None]).sum(-1)
        means = groups.means[:, :k].float()
        contrast = (means @ self.contrast * means).sum(1, keepdim=True).expand_as(sums)
        width = found.axes.sum(-1)
        parts = [found.evidence, found.pairs.detectability(), sums, hard, contrast, width.float()]
        table = torch.cat([torch.stack(parts, -1), power], -1)
        return table.double().cpu().numpy()

    def _chosen(
        self, groups: Groups, found: Candidates, table: np.ndarray, forced: int
    ) -> tuple[list[int], list[int], list[int]]:
        """Which candidate of each group is made, which may be, and of which kind the first one is (`Proposal`)."""
        evidence, apart, second, hard, contrast, width, whole, edge, beyond, within, power, flat = (
            np.moveaxis(table, -1, 0)
        )
        n = np.array(groups.counts)[:, None]
        there = np.isfinite(evidence)
        smaller = np.minimum(second, n - second)
        large = there & (smaller >= self.least)
        large &= flat <= _MOST_FLAT * power
        within_edge = (whole - edge >= _CHANGED * contrast) & (edge <= _NEARLY_ALL * whole)
        large &= (edge <= _MOST_AT_EDGE * whole) | within_edge
        large &= (beyond <= _MOST_AT_EDGE * whole) | (within >= _CHANGED * contrast)
        enough = large & self.criteria.are_met(apart, evidence)
        ranked = np.argsort(np.where(there, -evidence, np.inf), axis=1, kind="stable")
        open_ = [_of_each_kind(r[enough[i, r]], evidence[i], smaller[i]) for i, r in enumerate(ranked)]
        made = self._resolvable(groups, found, open_)
        before = [
            order[: np.argmax(order == j)] if j >= 0 else order[:0]
            for order, j in zip(open_, made, strict=True)
        ]
        better = [order[width[i, order] > width[i, made[i]]] for i, order in enumerate(before)]
        made = self._best_described(groups, found, hard, better, made)
        hints, kinds = [], [0 if j >= 0 else 1 for j in made]
        for i, order in enumerate(ranked):
            chance = (
                j
                for j in order
                if large[i, j] and stands_out(float(evidence[i, j]), int(width[i, j]), groups.counts[i])
            )
            hints.append(int(next(chance, -1)))
            if made[i] < 0 and forced:
                # What could be a motif but for the evidence comes before what is too few columns, or none of the motif's.
                fewer = np.minimum(hard[i], groups.counts[i] - hard[i])
                kind = np.where(fewer >= forced, np.where(large[i], 1, 2), 3)
                possible = order[(there[i] & (fewer > 0))[order]]
                if len(possible):
                    made[i] = int(possible[np.argmin(kind[possible])])
                    kinds[i] = int(kind[made[i]])
        return made, hints, kinds

    def _resolvable(self, groups: Groups, found: Candidates, ranked: list[np.ndarray]) -> list[int]:
        """The first candidate of each group that has a saddle, of those in order that come into question; -1 where none has."""
        most = max(map(len, ranked))
        if not most:
            return [-1] * len(ranked)
        # The saddles of all candidates of all groups are one batch; where a group has fewer, any candidate fills its place.
        tried = np.zeros((len(ranked), most), dtype=np.int64)
        for i, order in enumerate(ranked):
            tried[i, : len(order)] = order
        which = sent(tried, groups.order)
        odds = found.odds.gather(2, which[groups.points.group][:, None].expand(-1, found.odds.shape[1], -1))
        ratios = saddle_ratios(groups.points, odds, found.pairs.at(which)).cpu().numpy()
        deep = [ratios[i, : len(order)] <= self.criteria.max_valley for i, order in enumerate(ranked)]
        return [
            int(order[mine.argmax()]) if mine.any() else -1 for order, mine in zip(ranked, deep, strict=True)
        ]

    def _best_described(
        self, groups: Groups, found: Candidates, hard: np.ndarray, better: list[np.ndarray], made: list[int]
    ) -> list[int]:
        """In place of each candidate that has a saddle, the first of the better ones that parts the columns alike.

        The saddle says that there are two kinds, the evidence, which of their descriptions is best: a split in many directions
        tells single columns better than the same one along a single column, but what varies within its sides may hide the saddle.
        """
        if not any(map(len, better)):
            return made
        which = sent(np.maximum(made, 0)[:, None], groups.order)
        second = (found.odds > 0).float() * groups.present
        mine = second.gather(2, which[groups.points.group][:, None].expand(-1, second.shape[1], -1))
        common = groups.points.total(torch.bmm(mine.mT, second)[:, 0]).cpu().numpy()
        best = list(made)
        for i, (j, order) in enumerate(zip(made, better, strict=True)):
            alike = order[_alike(groups.counts[i], hard[i, j], hard[i, order], common[i, order])]
            best[i] = int(alike[0]) if len(alike) else j
        return best


def _alike(n: int, part: float, parts: np.ndarray, common: np.ndarray) -> np.ndarray:
    """Which of some parts of n columns split them as another part does: most of what lies in either smaller side lies in both."""
    if 2 * part > n:
        part, common = n - part, parts - common
    rest = 2 * parts > n
    parts, common = np.where(rest, n - parts, parts), np.where(rest, part - common, common)
    return np.asarray(2 * common > part + parts - common, dtype=bool)


def _of_each_kind(ranked: np.ndarray, evidence: np.ndarray, smaller: np.ndarray) -> np.ndarray:
    """Candidates in order of their evidence, less those that many starts led to again: of nearly the same evidence and size."""
    value, size = evidence[ranked], smaller[ranked]
    again = (np.abs(np.diff(value)) <= 1e-3 * np.abs(value[1:])) & (np.abs(np.diff(size)) <= 0.01 * size[1:])
    kept: np.ndarray = ranked[np.append(True, ~again)[: len(ranked)]]
    return kept
