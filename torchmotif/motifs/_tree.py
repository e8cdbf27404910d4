"""A tree of splits: its leaves are the motifs."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from torchmotif.motifs._mixture import saddle_ratios
from torchmotif.motifs._noise import CountingNoise
from torchmotif.motifs._split import Candidates, Groups, Split, propose, splits_of, stands_out
from torchmotif.motifs.detectability import Acquisition, Resolution, SplitCriteria
from torchmotif.zernike import ZernikeBasis

__all__ = ["MotifTree", "grow"]

_DISK_EDGE = 0.8  # of the disk's radius; what lies beyond is its edge, where what is outside shines in
# Times the radius at which a column's neighbours begin: what lies beyond surrounds the motif. Windows of the first shell
# (`first_shell`) end before, so this touches only larger ones, which otherwise part each motif by the vacancies of further shells.
_FIRST_SHELL = 2.2
_WIDER = 1.25  # times the first shell: from where on a window is a larger one, and holds more than its own first shell
# A difference of which most lies beyond, or at the edge, is one of motifs only where it changes so much of the contrast within, in squares: in
# MoSe2, what shines in from further shells changes less than 0.013, Mo and Se2 differ by more than 1. Pb and Ti of a perovskite differ at the edge,
# too, where each has the other.
_CHANGED = 0.05
_MOST_AT_EDGE = 0.5  # of a difference between motifs, in its squares; also beyond the first shell
# Of a difference, which is at the edge: vacancies beyond it have 0.90 to 0.98 there, Pb and Ti of a perovskite 0.64 to 0.73.
_NEARLY_ALL = 0.85
_MOST_FLAT = 0.7  # of it, explained by a constant and a slope: contamination, uneven illumination
_AT_A_TIME = 4  # candidates of each group whose saddles are looked at together

NumberedSplits = list[tuple[int, Split]]


@dataclass(frozen=True, eq=False)
class MotifTree:
    """Splits, each of a node in two: the first keeps the node's number, the second gets the next."""

    splits: NumberedSplits  # the node that is split, and how, in the order in which the motifs parted
    # Node of every motif, the most frequent first, the brighter first of equally frequent ones:
    leaves: list[int]
    # Leaves that may be two motifs, for which the evidence is too little or single columns are too much alike:
    candidates: NumberedSplits

    def log_probabilities(
        self, moments: Float[Tensor, "n k"], relative_dose: float = 1.0
    ) -> Float[Tensor, "n m"]:
        """Logarithm of the probability of every motif, for moments scaled to the learnt dose."""
        nodes = [moments.new_zeros(len(moments), dtype=torch.float64)]
        if self.splits:
            weights, biases = zip(*(split.weights(relative_dose) for _, split in self.splits), strict=True)
            table = (
                torch.cat([torch.stack(weights), torch.tensor(biases)[:, None]], 1)
                .to(moments.device)
                .double()
            )
            odds = moments.double() @ table[:, :-1].T + table[:, -1]
            second, first = F.logsigmoid(odds).unbind(1), F.logsigmoid(-odds).unbind(1)
            for number, (node, _) in enumerate(self.splits):
                nodes.append(nodes[node] + second[number])
                nodes[node] = nodes[node] + first[number]
        return torch.stack([nodes[leaf] for leaf in self.leaves], dim=1)

    def resolutions(
        self, motif: list[int], acquisition: Acquisition
    ) -> tuple[list[Resolution], list[Resolution]]:
        """How the motifs are told apart, split by split, and which motifs may be two.

        `motif` is the number of the motif that each leaf is, -1 for none; splits within one motif are left out.
        """
        below = {leaf: {of} - {-1} for leaf, of in zip(self.leaves, motif, strict=True)}
        whole = {leaf: tuple(sorted(of)) for leaf, of in below.items()}
        found: list[Resolution] = []
        for number in range(len(self.splits), 0, -1):
            node, split = self.splits[number - 1]
            first, second = below[node], below[number]
            below[node] = first | second
            parted = tuple(sorted(first - second)), tuple(sorted(second - first))
            if all(parted) and all(parted != other.motifs for other in found):
                found.append(acquisition.resolution(split, parted))
        perhaps = [acquisition.resolution(split, (whole[node],) * 2) for node, split in self.candidates]
        return found[::-1], [one for one in perhaps if one.motifs[0] and one.least_relative_dose > 1]

    def with_cumulants(self, noise: CountingNoise, scale: float) -> "MotifTree":
        """The tree whose splits know how the noise of their sides is askew."""
        splits, candidates = (
            [(node, split.with_cumulants(noise, scale)) for node, split in part]
            for part in (self.splits, self.candidates)
        )
        return replace(self, splits=splits, candidates=candidates)


def grow(
    finer: Float[Tensor, "n l"],
    noise: CountingNoise,
    basis: ZernikeBasis,
    criteria: SplitCriteria,
    *,
    scale: float = 1.0,
    n_motifs: int | None = None,
) -> tuple[MotifTree, list[Tensor]]:
    """Split all sets of columns that the criteria let, level by level; or the best supported one until there are `n_motifs`.

    The moments, to the order of the basis or a higher one, are float32; their noise is larger by the factor `scale`. With
    `n_motifs` given the criteria say only in which order splits are made. The second result are the columns of every leaf.
    """
    least = float(criteria.min_columns(len(finer)))
    members = [torch.arange(len(finer), device=finer.device)]
    shell = _FIRST_SHELL * noise.first_minimum(finer.mean(0))
    shell = shell if _WIDER * shell < _DISK_EDGE * basis.size / 2 else math.inf
    chooser = _Chooser(basis, criteria, least, shell, forced=n_motifs is not None)
    splits: NumberedSplits = []
    candidates: dict[int, Split] = {}
    proposals: dict[int, _Proposal] = {}
    fresh = [0]
    while fresh:
        large = [i for i in fresh if len(members[i]) >= (2 * least if n_motifs is None else 2)]
        if large:
            rows = [members[i] for i in large]
            groups = Groups(finer, rows, noise, basis, scale)
            for node, (proposal, hint) in zip(large, chooser.choose(groups, torch.cat(rows)), strict=True):
                if proposal is not None:
                    proposals[node] = proposal
                if hint is not None:
                    candidates[node] = hint
        # What is resolvable comes before what is forced, then the better supported first.
        ranked = sorted(proposals, key=lambda i: (not proposals[i].resolved, -proposals[i].split.evidence))
        fresh = []
        for node in ranked if n_motifs is None else ranked[: int(len(members) < n_motifs)]:
            proposal = proposals.pop(node)
            splits.append((node, proposal.split))
            members[node], second = proposal.sides
            members.append(second)
            candidates.pop(node, None)
            fresh += [node, len(members) - 1]
    leaves = _by_frequency(finer[:, 0], members)
    return MotifTree(splits, leaves, sorted(candidates.items())), [members[leaf] for leaf in leaves]


def _by_frequency(brightness: Tensor, members: list[Tensor]) -> list[int]:
    """Nodes, the most frequent first; of equally frequent ones the brighter, so that rounding decides nothing."""
    bright = torch.stack([brightness[rows].mean() for rows in members]).tolist()
    return sorted(range(len(members)), key=lambda i: (-len(members[i]), -bright[i]))


class _Proposal(NamedTuple):
    """A split of a node that can be made."""

    split: Split
    resolved: bool  # whether the columns tell both components apart
    sides: tuple[Int[Tensor, " a"], Int[Tensor, " b"]]  # the columns of both components


class _Chooser:
    """Chooses, of the candidates of each group, the split that is made, and one that may be."""

    def __init__(
        self, basis: ZernikeBasis, criteria: SplitCriteria, least: float, shell: float, *, forced: bool
    ) -> None:
        self.basis, self.criteria, self.least, self.forced = basis, criteria, least, forced
        k, size, device = len(basis.basis), basis.size, basis.basis.device
        patches = basis.reconstruct(torch.eye(k, device=device)).flatten(1)
        axis = torch.arange(size) - (size - 1) / 2
        radius = torch.hypot(axis[:, None], axis[None, :]).flatten().to(device)
        edge, beyond = (patches * (radius > least) for least in (_DISK_EDGE * size / 2, shell))
        within = patches * (radius <= shell)
        flat = (basis.orders[:, 0] <= 1).float().to(device)
        # What moments hold, in squares: in the whole patch, at its edge, beyond the first shell, within it; in all of them, in flat ones.
        self.forms = torch.stack(
            [
                *(part @ part.T for part in (patches, edge, beyond, within)),
                torch.eye(k, device=device),
                torch.diag(flat),
            ]
        )
        mean = within.sum(1)
        self.contrast = self.forms[3] - torch.outer(mean, mean) / (within != 0).any(0).sum()

    def choose(self, groups: Groups, order: Tensor) -> list[tuple[_Proposal | None, Split | None]]:
        """For each group, of columns in this order, the split that can be made, and what may be one."""
        found = propose(groups)
        table = self._table(groups, found)
        made, hints, resolved = self._chosen(groups, found, table)
        which = torch.tensor([[max(i, 0) for i in part] for part in (made, hints)]).T.to(order.device)
        splits, second = splits_of(groups, found, which)
        # One sort parts all groups: no number of columns is asked for again.
        number = torch.cat([torch.full((count,), 2 * i) for i, count in enumerate(groups.counts)]).to(
            order.device
        )
        parted = order[torch.argsort(number + second, stable=True)]
        many = [int(table[i, max(j, 0), 3]) for i, j in enumerate(made)]
        sizes = [size for count, m in zip(groups.counts, many, strict=True) for size in (count - m, m)]
        sides = parted.split(sizes)
        return [
            (
                _Proposal(splits[i][0], resolved[i], (sides[2 * i], sides[2 * i + 1]))
                if made[i] >= 0
                else None,
                splits[i][1] if hints[i] >= 0 and not resolved[i] else None,
            )
            for i in range(len(made))
        ]

    def _table(self, groups: Groups, found: Candidates) -> np.ndarray:
        """What decides, (g, c, 11) on the host, in the order in which `_chosen` takes it apart."""
        points, k = groups.points, len(self.basis.basis)
        second = found.odds.sigmoid()
        sums = points.sums(second)[..., -1].clamp(min=1e-6)
        n = points.count[:, None]
        hard = points.total((points.weighted[..., -1:].mT @ (found.odds > 0).float())[:, 0])
        blocks = groups.moments[:, :k].view(len(points.x), -1, k)
        difference = points.total(second.mT @ blocks) * (n / sums / (n - sums).clamp(min=1e-6))[..., None]
        power = torch.einsum("gck,fkl,gcl->gcf", difference, self.forms, difference)
        means = groups.means[:, :k].float()
        contrast = torch.einsum("gk,kl,gl->g", means, self.contrast, means)[:, None].expand_as(sums)
        parts = [found.evidence, found.pairs.detectability(), sums, hard, contrast]
        table = torch.cat([torch.stack(parts, -1), power], -1)
        return table.double().cpu().numpy()

    def _chosen(
        self, groups: Groups, found: Candidates, table: np.ndarray
    ) -> tuple[list[int], list[int], list[bool]]:
        """Which candidate of each group is made, which may be, and whether the columns tell the first one's sides apart."""
        evidence, apart, second, hard, contrast, whole, edge, beyond, within, power, flat = np.moveaxis(
            table, -1, 0
        )
        n = np.array(groups.counts)[:, None]
        there = np.isfinite(evidence)
        large = there & (np.minimum(second, n - second) >= self.least)
        large &= flat <= _MOST_FLAT * power
        within_edge = (whole - edge >= _CHANGED * contrast) & (edge <= _NEARLY_ALL * whole)
        large &= (edge <= _MOST_AT_EDGE * whole) | within_edge
        large &= (beyond <= _MOST_AT_EDGE * whole) | (within >= _CHANGED * contrast)
        enough = large & self.criteria.are_met(apart, evidence)
        ranked = np.argsort(np.where(there, -evidence, np.inf), axis=1, kind="stable")
        widths = found.axes.sum(-1).cpu().numpy()
        made, hints, resolved = (
            [],
            [],
            self._resolvable(groups, found, [r[enough[i, r]] for i, r in enumerate(ranked)]),
        )
        for i, order in enumerate(ranked):
            chance = (
                j
                for j in order
                if large[i, j] and stands_out(float(evidence[i, j]), int(widths[i, j]), groups.counts[i])
            )
            hints.append(int(next(chance, -1)))
            forced = (j for j in order if there[i, j] and 0 < hard[i, j] < groups.counts[i])
            made.append(resolved[i] if resolved[i] >= 0 or not self.forced else int(next(forced, -1)))
        return made, hints, [j >= 0 for j in resolved]

    def _resolvable(self, groups: Groups, found: Candidates, ranked: list[np.ndarray]) -> list[int]:
        """The first candidate of each group that has a saddle, of those in order that come into question; -1 where none has."""
        chosen, device = [-1] * len(ranked), found.evidence.device
        for first in range(0, max(map(len, ranked)), _AT_A_TIME):
            open_ = [i for i, order in enumerate(ranked) if chosen[i] < 0 and len(order) > first]
            if not open_:
                break
            tried = np.zeros((len(ranked), _AT_A_TIME), dtype=np.int64)
            for i in open_:
                part = ranked[i][first : first + _AT_A_TIME]
                tried[i, : len(part)] = part
                tried[i, len(part) :] = part[-1]
            which = torch.from_numpy(tried).to(device)
            odds = found.odds.gather(
                2, which[groups.points.group][:, None].expand(-1, found.odds.shape[1], -1)
            )
            ratios = saddle_ratios(groups.points, odds, found.pairs.at(which)).cpu().numpy()
            for i in open_:
                deep = np.nonzero(ratios[i] <= self.criteria.max_valley)[0]
                if len(deep):
                    chosen[i] = int(tried[i, deep[0]])
        return chosen
