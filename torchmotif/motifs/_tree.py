"""A tree of splits: its leaves are the motifs."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from torchmotif.motifs._noise import CountingNoise
from torchmotif.motifs._split import Split, propose_splits
from torchmotif.motifs.detectability import Acquisition, Resolution, SplitCriteria
from torchmotif.zernike import ZernikeBasis

__all__ = ["MotifTree", "grow"]

_DISK_EDGE = 0.8  # of the disk's radius; what lies beyond is its edge, where what is outside shines in
_MOST_AT_EDGE = 0.5  # of a difference between motifs, in its squares
_MOST_FLAT = 0.7  # of it, explained by a constant and a slope: contamination, uneven illumination

NumberedSplits = list[tuple[int, Split]]


@dataclass(frozen=True, eq=False)
class MotifTree:
    """Splits, each of a node in two: the first keeps the node's number, the second gets the next."""

    splits: NumberedSplits  # the node that is split, and how, in the order in which the motifs parted
    # Node of every motif, the most frequent first, the brighter first of equally frequent ones:
    leaves: Int[Tensor, " m"]
    # Leaves that may be two motifs, for which the evidence is too little or single columns are too much alike:
    candidates: NumberedSplits

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
        self, motif: Int[Tensor, " m"], acquisition: Acquisition
    ) -> tuple[list[Resolution], list[Resolution]]:
        """How the motifs are told apart, split by split, and which motifs may be two.

        `motif` is the number of the motif that each leaf is, -1 for none; splits within one motif are left out.
        """
        below = {int(leaf): {int(of)} - {-1} for leaf, of in zip(self.leaves, motif, strict=True)}
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


def grow(
    moments: Float[Tensor, "n k"],
    noise: CountingNoise,
    basis: ZernikeBasis,
    criteria: SplitCriteria,
    *,
    scale: float = 1.0,
    n_motifs: int | None = None,
) -> MotifTree:
    """Split the best supported node again and again, until no split is supported or there are `n_motifs`.

    The moments are float64; the noise, of the same patches, is larger by the factor `scale`. With `n_motifs` given the criteria
    say only in which order splits are made.
    """
    least = float(criteria.min_columns(len(moments)))
    members = [torch.arange(len(moments), device=moments.device)]
    candidates: dict[int, Split] = {}
    proposals: dict[int, tuple[bool, float, Split]] = {}  # resolvable, evidence, split

    def propose(node: int) -> None:
        rows = members[node]
        candidates.pop(node, None)
        proposals.pop(node, None)
        if len(rows) < (2 * least if n_motifs is None else 2):
            return
        mine = moments[rows]
        splits = propose_splits(mine, scale * noise.covariance(rows), basis)
        large = [one for one in splits if _large_enough(one, mine, basis, least)]
        resolved = next((one for one in large if _resolvable(one, mine, criteria)), None)
        hint = next((one for one in large if one.stands_out()), None)
        forced = next((one for one in splits if 0 < int(_second(one).sum()) < len(rows)), None)
        best = resolved or (forced if n_motifs is not None else None)
        if best is not None:
            known = best.with_cumulants(noise.moments[rows], noise, scale)
            proposals[node] = resolved is not None, best.evidence, known
        if resolved is None and hint is not None:
            candidates[node] = hint.with_cumulants(noise.moments[rows], noise, scale)

    propose(0)
    splits: NumberedSplits = []
    while proposals and (n_motifs is None or len(members) < n_motifs):
        # What is resolvable comes before what is forced, then the better supported first.
        node = max(sorted(proposals), key=lambda i: proposals[i][:2])
        split = proposals[node][2]
        splits.append((node, split))
        second = _second(split)
        members.append(members[node][second])
        members[node] = members[node][~second]
        propose(node)
        propose(len(members) - 1)
    return MotifTree(_bare(splits), _by_frequency(moments, members), _bare(sorted(candidates.items())))


def _second(split: Split) -> Tensor:
    """Which of the learnt columns belong to the second component."""
    return split.responsibilities > 0.5


def _bare(splits: NumberedSplits) -> NumberedSplits:
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


def _large_enough(split: Split, moments: Tensor, basis: ZernikeBasis, least: float) -> bool:
    """Whether both components could be motifs: not too rare, and unlike within the disk, and not by a background alone."""
    second = split.responsibilities
    if bool(torch.minimum(second.sum(), (1 - second).sum()) < least):
        return False
    difference = second @ moments / second.sum() - (1 - second) @ moments / (1 - second).sum()
    power, image = difference.square(), basis.reconstruct(difference[None])[0].square()
    axis = (torch.arange(basis.size, device=image.device) - (basis.size - 1) / 2) / (basis.size / 2)
    edge = torch.hypot(axis[:, None], axis[None, :]) > _DISK_EDGE
    flat = (basis.orders[:, 0] <= 1).to(power.device)
    shares = ((part[of].sum() / part.sum().clamp(min=1e-30)) for part, of in ((image, edge), (power, flat)))
    return all(bool(share <= most) for share, most in zip(shares, (_MOST_AT_EDGE, _MOST_FLAT), strict=True))


def _resolvable(split: Split, moments: Tensor, criteria: SplitCriteria) -> bool:
    """Whether the columns tell both components apart."""
    return (
        split.evidence >= criteria.min_evidence
        and split.detectability() >= criteria.min_detectability
        and split.saddle_ratio(moments) <= criteria.max_valley
    )
