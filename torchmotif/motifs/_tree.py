"""A tree of splits: its leaves are the motifs."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from torchmotif.motifs._noise import CountingNoise
from torchmotif.motifs._split import Split
from torchmotif.motifs.detectability import Acquisition, Motifs, Resolution

__all__ = ["MotifTree", "NumberedSplits"]

NumberedSplits = list[tuple[int, Split]]


@dataclass(frozen=True, eq=False)
class MotifTree:
    """Splits, each of a node in two: the first keeps the node's number, the second gets the next."""

    splits: NumberedSplits  # the node that is split, and how, in the order in which the motifs parted
    # Node of every motif, the most frequent first, the brighter first of equally frequent ones:
    leaves: list[int]
    # Leaves that may be two motifs, for which the evidence is too little or single columns are too much alike:
    candidates: NumberedSplits
    _tables: dict[Any, Tensor] = field(
        default_factory=dict, repr=False
    )  # of doses on devices, and of devices

    def log_probabilities(
        self, moments: Float[Tensor, "n k"], relative_dose: float = 1.0
    ) -> Float[Tensor, "n m"]:
        """Logarithm of the probability of every motif, for moments scaled to the learnt dose."""
        if not self.splits:
            return moments.new_zeros(len(moments), len(self.leaves), dtype=torch.float64)
        table, (to_second, to_first) = self._table(relative_dose, moments.device), self._ways(moments.device)
        odds = moments.double() @ table[:, :-1].T + table[:, -1]
        logarithms: Tensor = F.logsigmoid(odds) @ to_second + F.logsigmoid(-odds) @ to_first
        return logarithms

    def _ways(self, device: torch.device) -> Float[Tensor, "2 s l"]:
        """1 for each leaf at the splits of which it lies in the second component, and in the first one; sent to a device once."""
        if device not in self._tables:
            nodes = np.zeros((len(self.splits) + 1, 2, len(self.splits)))
            for number, (node, _) in enumerate(self.splits):
                nodes[number + 1] = nodes[node]
                nodes[number + 1, 0, number] = nodes[node, 1, number] = 1.0
            ways = torch.from_numpy(np.moveaxis(nodes[self.leaves], 0, -1).copy())
            self._tables[device] = ways.to(device, non_blocking=True)
        return self._tables[device]

    def _table(self, relative_dose: float, device: torch.device) -> Float[Tensor, "s k1"]:
        """Weights and bias of every split, sent to a device once."""
        if (relative_dose, device) not in self._tables:
            weights, biases = zip(*(split.weights(relative_dose) for _, split in self.splits), strict=True)
            table = torch.cat([torch.stack(weights), torch.tensor(biases)[:, None]], 1)
            self._tables[relative_dose, device] = table.double().to(device, non_blocking=True)
        return self._tables[relative_dose, device]

    def resolutions(
        self, motif: list[int], acquisition: Acquisition
    ) -> tuple[list[Resolution], list[Resolution]]:
        """How the motifs are told apart, split by split, and which motifs may be two.

        `motif` is the number of the motif that each leaf is, -1 for none; splits within one motif are left out.
        """
        below = self._motifs_below(motif)
        whole = {leaf: tuple(sorted(of)) for leaf, of in below.items()}
        parting: list[tuple[Split, Motifs]] = []
        for number in range(len(self.splits), 0, -1):
            node, split = self.splits[number - 1]
            first, second = below[node], below[number]
            below[node] = first | second
            parted = tuple(sorted(first - second)), tuple(sorted(second - first))
            if all(parted) and all(parted != motifs for _, motifs in parting):
                parting.append((split, parted))
        perhaps = [(split, (whole[node],) * 2) for node, split in self.candidates]
        every = [*parting[::-1], *perhaps]
        together = acquisition.resolutions([split for split, _ in every], [motifs for _, motifs in every])
        found, unsure = together[: len(parting)], together[len(parting) :]
        return found, [one for one in unsure if one.motifs[0] and one.least_relative_dose > 1]

    def with_cumulants(self, noise: CountingNoise, scale: float) -> "MotifTree":
        """The tree whose splits know how the noise of their sides is askew."""
        splits, candidates = (
            [(node, split.with_cumulants(noise, scale)) for node, split in part]
            for part in (self.splits, self.candidates)
        )
        return replace(self, splits=splits, candidates=candidates)

    def pruned(self, motif: list[int]) -> "MotifTree":
        """The tree less its least supported split of two motifs; `motif` is that of each leaf, -1 for none.

        The sides of that split hold one motif each, and what fits none.
        """
        below = self._motifs_below(motif)
        evidence: dict[int, float] = {}
        for number in range(len(self.splits), 0, -1):
            node, split = self.splits[number - 1]
            first, second = below[node], below[number]
            below[node] = first | second
            if len(first) == len(second) == 1 and first != second:
                evidence[number] = split.evidence
        weakest = min(evidence, key=lambda number: evidence[number])
        top, _ = self.splits[weakest - 1]
        beneath, kept = {weakest}, list(range(1, weakest))
        for number, (node, _) in list(enumerate(self.splits, 1))[weakest:]:
            if node in beneath | {top}:
                beneath.add(number)
            else:
                kept.append(number)
        new = {number: i for i, number in enumerate([0, *kept])}
        leaves = dict.fromkeys(top if leaf in beneath else leaf for leaf in self.leaves)
        return MotifTree(
            [(new[self.splits[number - 1][0]], self.splits[number - 1][1]) for number in kept],
            [new[leaf] for leaf in leaves],
            [(new[node], split) for node, split in self.candidates if node not in beneath | {top}],
        )

    def _motifs_below(self, motif: list[int]) -> dict[int, set[int]]:
        """Those of every leaf, from which those of the nodes above follow."""
        return {leaf: {of} - {-1} for leaf, of in zip(self.leaves, motif, strict=True)}
