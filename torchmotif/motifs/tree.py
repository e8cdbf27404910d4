"""A tree of splits: its leaves are the motifs."""

from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from torchmotif.motifs.noise import CountingNoise
from torchmotif.motifs.report import Resolution
from torchmotif.motifs.resolve import Conditions, Rules
from torchmotif.motifs.split import Split, propose_splits
from torchmotif.zernike import ZernikeBasis

__all__ = ["MotifTree", "grow"]

_RIM = 0.8  # of the disk's radius; beyond it lies the rim
_MAX_AT_RIM = 0.5  # of a difference between motifs, in its squares
_MAX_FLAT = 0.7  # of it, explained by a constant and a slope


@dataclass(frozen=True, eq=False)
class MotifTree:
    """Splits, each of a node in two: the first keeps the node's number, the second gets the next.

    Attributes
    ----------
    splits : list of (int, Split)
        The node that is split, and how, in the order in which the motifs parted.
    leaves : Tensor of shape (n_motifs,)
        Node of every motif, the most frequent first, the brighter first of equally frequent ones.
    candidates : list of (int, Split)
        Leaves that may be two motifs, for which the evidence is too little or single columns are too much alike.
    """

    splits: list[tuple[int, Split]]
    leaves: Int[Tensor, " m"]
    candidates: list[tuple[int, Split]]

    def log_probabilities(
        self, moments: Float[Tensor, "n k"], relative_dose: float = 1.0
    ) -> Float[Tensor, "n m"]:
        """Logarithm of the probability of every motif, for moments scaled to the learnt dose."""
        nodes = [moments.new_zeros(len(moments))]
        for node, split in self.splits:
            odds = split.log_odds(moments, relative_dose)
            nodes.append(nodes[node] + F.logsigmoid(odds))
            nodes[node] = nodes[node] + F.logsigmoid(-odds)
        return torch.stack(nodes, dim=1)[:, self.leaves]

    def resolutions(
        self, motif: Int[Tensor, " m"], conditions: Conditions
    ) -> tuple[list[Resolution], list[Resolution]]:
        """How the motifs are told apart, split by split, and which motifs may be two.

        Parameters
        ----------
        motif : Tensor of shape (m,)
            Number of the motif that each leaf is, -1 for none; splits within one motif are left out.
        conditions : Conditions
        """
        below: dict[int, set[int]] = {
            int(leaf): {int(of)} - {-1} for leaf, of in zip(self.leaves, motif, strict=True)
        }
        whole = {leaf: tuple(sorted(of)) for leaf, of in below.items()}
        found: list[Resolution] = []
        for number in range(len(self.splits), 0, -1):
            node, split = self.splits[number - 1]
            first, second = below[node], below[number]
            below[node] = first | second
            sides = tuple(sorted(first - second)), tuple(sorted(second - first))
            if all(sides) and all(sides != other.motifs for other in found):
                found.append(conditions.resolution(split, sides))
        perhaps = [conditions.resolution(split, (whole[node],) * 2) for node, split in self.candidates]
        return found[::-1], [one for one in perhaps if one.motifs[0] and one.least_relative_dose > 1]


def grow(
    moments: Float[Tensor, "n k"],
    noise: CountingNoise,
    basis: ZernikeBasis,
    rules: Rules,
    *,
    scale: float = 1.0,
    n_motifs: int | None = None,
) -> MotifTree:
    """Split the best supported node again and again, until no split is supported or there are `n_motifs`.

    Parameters
    ----------
    moments : Tensor of shape (n, k), float64
    noise : CountingNoise
        Of the same patches.
    basis : ZernikeBasis
    rules : Rules
        What a split needs; with `n_motifs` given only the order in which they are made.
    scale : float
        By what factor the noise is larger than that.
    n_motifs : int, optional
    """
    least = float(rules.fewest(len(moments)))

    def proposal(node: int) -> tuple[bool, Split] | None:
        rows = members[node]
        candidates.pop(node, None)
        known = partial(Split.with_cumulants, moments=noise.moments[rows], noise=noise, scale=scale)
        if len(rows) < (2 * least if n_motifs is None else 2):
            return None
        covariance = scale * noise.covariance(rows)
        splits = propose_splits(moments[rows], covariance, basis)
        able = [split for split in splits if _is_able(split, moments[rows], basis, least)]
        for split in able:
            if _is_told(split, moments[rows], rules):
                return True, known(split)
        hints = [split for split in able if split.stands_out()]
        if hints:
            candidates[node] = known(hints[0])
        if n_motifs is None:
            return None
        forced = [s for s in splits if 0 < int((s.responsibilities > 0.5).sum()) < len(rows)]
        return (False, known(forced[0])) if forced else None

    candidates: dict[int, Split] = {}
    members = [torch.arange(len(moments), device=moments.device)]
    proposals = [proposal(0)]
    splits: list[tuple[int, Split]] = []
    while n_motifs is None or len(members) < n_motifs:
        open_nodes = [node for node, found in enumerate(proposals) if found is not None]
        if not open_nodes:
            break
        node = max(open_nodes, key=lambda i: _rank(proposals[i]))
        _, split = proposals[node] or (False, None)
        assert split is not None  # noqa: S101  # only nodes with a proposal are open
        splits.append((node, split))
        second = split.responsibilities > 0.5
        members.append(members[node][second])
        members[node] = members[node][~second]
        proposals[node] = proposal(node)
        proposals.append(proposal(len(members) - 1))
    return MotifTree(_bare(splits), _by_frequency(moments, members), _bare(sorted(candidates.items())))


def _bare(splits: list[tuple[int, Split]]) -> list[tuple[int, Split]]:
    """The splits without what they say of each column they were learnt on, which serves no more.

    Not an empty view: it would keep all of them in memory, and in every copy sent to another process.
    """
    return [
        (node, replace(split, responsibilities=split.responsibilities.new_empty(0))) for node, split in splits
    ]


def _by_frequency(moments: Tensor, members: list[Tensor]) -> Tensor:
    """Nodes, the most frequent first; of equally frequent ones the brighter, so that rounding decides nothing."""
    sizes = torch.tensor([len(rows) for rows in members])
    brightness = torch.stack([moments[rows, 0].mean() for rows in members]).cpu()
    by_brightness = torch.argsort(brightness, descending=True, stable=True)
    return by_brightness[torch.argsort(sizes[by_brightness], descending=True, stable=True)]


def _rank(found: tuple[bool, Split] | None) -> tuple[bool, float]:
    """Kept splits come before forced ones, then the better supported first."""
    return (False, 0.0) if found is None else (found[0], found[1].evidence)


def _is_able(split: Split, moments: Tensor, basis: ZernikeBasis, least: float) -> bool:
    """Whether both sides could be motifs: not too rare, and unlike in what motifs are unlike in."""
    side = split.responsibilities
    if bool(torch.minimum(side.sum(), (1 - side).sum()) < least):
        return False
    difference = side @ moments / side.sum() - (1 - side) @ moments / (1 - side).sum()
    return _is_structure(difference, basis)


def _is_told(split: Split, moments: Tensor, rules: Rules) -> bool:
    """Whether the columns tell both sides apart."""
    return (
        split.evidence >= rules.min_evidence
        and split.detectability() >= rules.min_detectability
        and split.valley(moments) <= rules.max_valley
    )


def _is_structure(difference: Float[Tensor, " k"], basis: ZernikeBasis) -> bool:
    """Whether a difference lies within the disk, and is no background.

    What lies beyond the disk shines in at its rim; contamination and uneven illumination are nearly flat.
    """
    image = basis.reconstruct(difference[None])[0].square()
    axis = (torch.arange(basis.size, device=image.device) - (basis.size - 1) / 2) / (basis.size / 2)
    outer = torch.hypot(axis[:, None], axis[None, :]) > _RIM
    at_rim = image[outer].sum() / image.sum().clamp(min=1e-30)
    power = difference.square()
    low = (basis.orders[:, 0] <= 1).to(power.device)
    flat = power[low].sum() / power.sum().clamp(min=1e-30)
    return bool(at_rim <= _MAX_AT_RIM) and bool(flat <= _MAX_FLAT)
