"""How a tree of splits is grown: as far as the evidence goes, and further where a number of motifs was given."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from torchmotif._arrays import sent
from torchmotif.motifs._aside import hiding
from torchmotif.motifs._choice import Choice, Chooser, Proposal
from torchmotif.motifs._groups import Groups
from torchmotif.motifs._noise import CountingNoise
from torchmotif.motifs._split import Split
from torchmotif.motifs._tree import MotifTree
from torchmotif.motifs.detectability import SplitCriteria
from torchmotif.zernike import ZernikeBasis

__all__ = ["Grower"]

# Times the radius at which a column's neighbours begin: what lies beyond surrounds the motif. Windows of the first shell
# (`first_shell`) end before, so this touches only larger ones, which otherwise part each motif by the vacancies of further shells.
_FIRST_SHELL = 2.2


@dataclass(frozen=True, eq=False)
class Grower:
    """Splits sets of columns by their moments, to the order of the basis or a higher one, float32."""

    finer: Float[Tensor, "n l"]
    noise: CountingNoise
    basis: ZernikeBasis
    criteria: SplitCriteria
    scale: float = 1.0  # by which factor the noise is larger

    def grown(self) -> tuple[MotifTree, Tensor | None]:
        """All splits that the criteria let, level by level; and the columns that they were looked for in, None for all.

        Once none is left to make, leaves of which flat differences part some columns are looked at again without these: a few columns on and beside
        contamination differ so much that two kinds among the others are lost in their scatter. Where these are split, what was set aside stays so.
        """
        members = [torch.arange(len(self.finer), device=self.finer.device)]
        splits: list[tuple[int, Split]] = []
        candidates: dict[int, Split] = {}
        rests: dict[int, Tensor] = {}
        fresh, rows, uneven = [0], dict(enumerate(members)), False
        while fresh:
            choices = self._choices(rows, fresh, 2 * self._chooser.least, uneven=uneven)
            proposals = {node: one.made for node, one in choices.items() if one.made is not None}
            for node, one in choices.items():
                if one.hint is not None and not uneven:
                    candidates[node] = one.hint
                if one.rest is not None:
                    rests[node] = one.rest
            fresh = []
            for node in sorted(proposals, key=lambda i: proposals[i].rank):
                split, _, sides = proposals[node]
                splits.append((node, split))
                candidates.pop(node, None)
                members[node], second = sides
                members.append(second)
                fresh += [node, len(members) - 1]
            uneven = not fresh
            if uneven:
                rows, rests = hiding(self.finer, members, rests), {}
                fresh = sorted(rows)
            else:
                rows = dict(enumerate(members))
        tree = MotifTree(splits, _by_frequency(self.finer[:, 0], members), sorted(candidates.items()))
        some = sum(map(len, members)) < len(self.finer)
        return tree, torch.cat(members) if some else None

    def forced(self, tree: MotifTree, rows: list[Tensor], more: int, fewest: int) -> MotifTree:
        """The tree with up to so many splits more, whatever the criteria say: the best supported one of all, again and again.

        `rows` are the columns of each leaf that are looked at. Splits with at least `fewest` of them on both sides come first.
        """
        members, splits, candidates = (
            dict(zip(tree.leaves, rows, strict=True)),
            list(tree.splits),
            dict(tree.candidates),
        )
        proposals: dict[int, Proposal] = {}
        fresh = list(tree.leaves)
        for _ in range(more):
            choices = self._choices(members, fresh, 2, forced=fewest)
            proposals |= {node: one.made for node, one in choices.items() if one.made is not None}
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
    def _chooser(self) -> Chooser:
        shell = _FIRST_SHELL * self.noise.first_minimum(self.finer.mean(0))
        return Chooser(self.basis, self.criteria, float(self.criteria.min_columns(len(self.finer))), shell)

    def _choices(
        self,
        members: dict[int, Tensor],
        nodes: Iterable[int],
        least: float,
        *,
        forced: int = 0,
        uneven: bool = False,
    ) -> dict[int, Choice]:
        """What comes of looking for splits of nodes with at least so many columns."""
        large = [node for node in nodes if len(members[node]) >= least]
        if not large:
            return {}
        rows = [members[node] for node in large]
        groups = Groups(self.finer, rows, self.noise, self.basis, self.scale, uneven=uneven)
        return dict(zip(large, self._chooser.choose(groups, forced, uneven=uneven), strict=True))


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
