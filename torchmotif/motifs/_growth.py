"""How a tree of splits is grown: as far as the evidence goes, and further where a number of motifs was given."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from torchmotif._arrays import sent
from torchmotif.motifs._groups import Groups
from torchmotif.motifs._noise import CountingNoise
from torchmotif.motifs._saddles import saddle_ratios
from torchmotif.motifs._single_columns import radius_of
from torchmotif.motifs._split import Candidates, Split, propose, splits_of, stands_out
from torchmotif.motifs._tree import MotifTree
from torchmotif.motifs.detectability import SplitCriteria
from torchmotif.zernike import ZernikeBasis

__all__ = ["Grower"]

_DISK_EDGE = 0.8  # of the disk's radius; what lies beyond is its edge, where what is outside shines in
# Times the radius at which a column's neighbours begin: what lies beyond surrounds the motif. Windows of the first shell
# (`first_shell`) end before, so this touches only larger ones, which otherwise part each motif by the vacancies of further shells.
_FIRST_SHELL = 2.2
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
_FLAT = 3  # moments, the first ones, are those of a constant and of slopes


@dataclass(frozen=True, eq=False)
class Grower:
    """Splits sets of columns by their moments, to the order of the basis or a higher one, float32."""

    finer: Float[Tensor, "n l"]
    noise: CountingNoise
    basis: ZernikeBasis
    criteria: SplitCriteria
    scale: float = 1.0  # by which factor the noise is larger

    def grown(self) -> MotifTree:
        """All splits that the criteria let, level by level."""
        members = [torch.arange(len(self.finer), device=self.finer.device)]
        splits: list[tuple[int, Split]] = []
        candidates: dict[int, Split] = {}
        fresh = [0]
        while fresh:
            proposals, hints = self._proposed(members, fresh, 2 * self._chooser.least)
            candidates |= hints
            fresh = []
            for node in sorted(proposals, key=lambda i: proposals[i].rank):
                split, _, sides = proposals[node]
                splits.append((node, split))
                members[node], second = sides
                members.append(second)
                fresh += [node, len(members) - 1]
        return MotifTree(splits, _by_frequency(self.finer[:, 0], members), sorted(candidates.items()))

    def forced(self, tree: MotifTree, rows: list[Tensor], more: int, fewest: int) -> MotifTree:
        """The tree with up to so many splits more, whatever the criteria say: the best supported one of all, again and again.

        `rows` are the columns of each leaf that are looked at. Splits with at least `fewest` of them on both sides come first.
        """
        members, splits, candidates = (
            dict(zip(tree.leaves, rows, strict=True)),
            list(tree.splits),
            dict(tree.candidates),
        )
        proposals: dict[int, _Proposal] = {}
        fresh = list(tree.leaves)
        for _ in range(more):
            proposals |= self._proposed(members, fresh, 2, fewest)[0]
            if not proposals:
                break
            node = min(proposals, key=lambda i: proposals[i].rank)
            split, _, sides = proposals.pop(node)
            splits.append((node, split))
            fresh = [node, len(splits)]
            members |= dict(zip(fresh, sides, strict=True))
            candidates.pop(node, None)
        leaves = [*tree.leaves, *range(len(tree.splits) + 1, len(splits) + 1)]
        order = _by_frequency(self.finer[:, 0], [members[leaf] for leaf in leaves])
        return MotifTree(splits, [leaves[i] for i in order], sorted(candidates.items()))

    @cached_property
    def _chooser(self) -> "_Chooser":
        shell = _FIRST_SHELL * self.noise.first_minimum(self.finer.mean(0))
        shell = shell if shell < _DISK_EDGE * self.basis.size / 2 else math.inf
        return _Chooser(self.basis, self.criteria, float(self.criteria.min_columns(len(self.finer))), shell)

    def _proposed(
        self, members: "list[Tensor] | dict[int, Tensor]", nodes: Iterable[int], least: float, forced: int = 0
    ) -> "tuple[dict[int, _Proposal], dict[int, Split]]":
        """The splits of nodes that can be made, and those that may be, of nodes with at least so many columns."""
        large = [node for node in nodes if len(members[node]) >= least]
        if not large:
            return {}, {}
        rows = [members[node] for node in large]
        groups = Groups(self.finer, rows, self.noise, self.basis, self.scale)
        found = list(zip(large, self._chooser.choose(groups, forced), strict=True))
        return (
            {node: made for node, (made, _) in found if made is not None},
            {node: hint for node, (_, hint) in found if hint is not None},
        )


def _by_frequency(brightness: Tensor, members: list[Tensor]) -> list[int]:
    """Nodes, the most frequent first; of equally frequent ones the brighter, so that rounding decides nothing."""
    sizes, rows = [len(mine) for mine in members], torch.cat(members)
    counts = sent(sizes, rows)
    of = torch.repeat_interleave(counts, output_size=len(rows))
    total = brightness.new_zeros(len(members), dtype=torch.float64).index_add_(
        0, of, brightness[rows].double()
    )
    bright = (total / counts.clamp(min=1)).tolist()
    return sorted(range(len(members)), key=lambda i: (-sizes[i], -bright[i]))


class _Proposal(NamedTuple):
    """A split of a node that can be made."""

    split: Split
    kind: (
        int  # 0 where the columns tell both components apart; else why it comes later, see `_Chooser._chosen`
    )
    sides: tuple[Int[Tensor, " a"], Int[Tensor, " b"]]  # the columns of both components

    @property
    def rank(self) -> tuple[int, float]:
        """What is resolvable comes before what is forced, then the better supported first."""
        return self.kind, -self.split.evidence


class _Chooser:
    """Chooses, of the candidates of each group, the split that is made, and one that may be."""

    def __init__(self, basis: ZernikeBasis, criteria: SplitCriteria, least: float, shell: float) -> None:
        self.basis, self.criteria, self.least = basis, criteria, least
        k, size, device = len(basis.basis), basis.size, basis.basis.device
        patches = basis.reconstruct(torch.eye(k, device=device)).flatten(1)
        radius = radius_of(size, device).flatten()
        edge, beyond = (patches * (radius > least) for least in (_DISK_EDGE * size / 2, shell))
        within = patches * (radius <= shell)
        flat = (torch.arange(k, device=device) < _FLAT).float()
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

    def choose(self, groups: Groups, forced: int = 0) -> list[tuple[_Proposal | None, Split | None]]:
        """For each group the split that can be made, and what may be one.

        With `forced` a split is made whatever the criteria say, if possible with so many columns on both sides.
        """
        found = propose(groups)
        table = self._table(groups, found)
        made, hints, kind = self._chosen(groups, found, table, forced)
        which = sent(np.maximum([made, hints], 0).T, groups.order)
        splits, second = splits_of(groups, found, which)
        # One sort parts all groups: no number of columns is asked for again.
        parted = groups.order[torch.argsort(2 * groups.set + second, stable=True)]
        many = [int(table[i, max(j, 0), 3]) for i, j in enumerate(made)]
        sizes = [size for count, m in zip(groups.counts, many, strict=True) for size in (count - m, m)]
        sides = parted.split(sizes)
        return [
            (
                _Proposal(splits[i][0], kind[i], (sides[2 * i], sides[2 * i + 1])) if made[i] >= 0 else None,
                splits[i][1] if hints[i] >= 0 and kind[i] else None,
            )
            for i in range(len(made))
        ]

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
        """Which candidate of each group is made, which may be, and of which kind the first one is (`_Proposal`)."""
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
