"""Lattices in a set of columns: basis vectors and sublattices, grain by grain, and the sites they predict."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from torchmotif._arrays import as_positions, keeps_digits, like, sent
from torchmotif.columns._neighbours import nearest_within, pairs_within, strongest_first
from torchmotif.errors import InputError

__all__ = ["Lattice", "dark_sites", "find_lattice", "translations"]

_REACH = 3.2  # spacings: the longest translation that is looked for
_BINS = 8  # per spacing, in the histogram of vectors between columns
# Of the columns that must have a partner one translation away; sublattices share half of theirs or less.
_SHARE = 0.6
_BLOCK = 12.0  # spacings: side of the blocks in which a grain is recognised
_NEAR = 0.3  # spacings within which a column counts as being at a predicted place
_ALIKE = 0.12  # difference of two bases, relative to their lengths, below which they are one grain's
_LEAST_VOTES = 1.5  # translations that lead to a place at the image's border: two
_SMALLEST = 12  # columns needed to tell a lattice
_BLOCKS = 512  # whose vectors are counted at a time


@dataclass(frozen=True, eq=False)
class Lattice:
    """Lattices of the grains of an image.

    Attributes
    ----------
    vectors : array of shape (g, 2, 2), float64
        Two basis vectors (row, col) in pixels of each grain, the shorter first; the largest grain first.
    grain : array of shape (n,), int64
        The grain of each column, -1 where its surroundings fit none.
    sublattice : array of shape (n,), int64
        Columns of one number are joined by lattice translations; numbered over all grains, the most frequent is 0.
        -1 where a column has no grain.
    """

    vectors: Any
    grain: Any
    sublattice: Any

    def of(self, columns: Any) -> "Lattice":
        """The same of some of the columns, by a mask or their numbers."""
        return replace(self, grain=self.grain[columns], sublattice=self.sublattice[columns])


@keeps_digits
def find_lattice(positions: Any, spacing: float) -> Lattice:
    """Basis vectors and sublattices of the grains that columns form.

    Vectors between columns are counted in blocks of a dozen spacings; those that lead from most columns to another
    are translations. Equal translations of several blocks make a grain. Cells longer than 3.2 spacings are not seen.

    Parameters
    ----------
    positions : array of shape (n, 2)
        (row, col) in pixels.
    spacing : float
        Distance between neighbouring columns in pixels.

    Returns
    -------
    Lattice
        Arrays are numpy or torch as `positions` came.

    Raises
    ------
    InputError
        If positions do not have the shape (n, 2), or the spacing is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> square = 10.0 * np.argwhere(np.ones((12, 12)))
    >>> abs(find_lattice(square, 10.0).vectors[0]).round(6).tolist()
    [[0.0, 10.0], [10.0, 0.0]]
    """
    points = as_positions(positions)
    if not spacing > 0:
        raise InputError(f"spacing must be a positive number of pixels, got {spacing}")
    bases = _bases(points, spacing)
    # Three translations of each; the others are their opposites.
    partners = [[_partner(points, move, spacing) for move in moves[:3]] for moves in translations(bases)]
    grain = _grains(partners, len(points), points.device)
    size = torch.bincount(grain[grain >= 0], minlength=len(bases))
    order = torch.argsort(size, descending=True, stable=True)
    order = order[size[order] >= _SMALLEST]
    renumber = torch.full((len(bases) + 1,), -1, device=points.device)
    renumber[order] = torch.arange(len(order), device=points.device)
    grain = renumber[grain]
    sublattice = _sublattices(partners, grain, order)
    return Lattice(like(bases[order], positions), like(grain, positions), like(sublattice, positions))


def dark_sites(
    positions: Float[Tensor, "n 2"],
    spacing: float,
    lattice: Lattice | None = None,
    shape: tuple[int, int] | None = None,
) -> Float[Tensor, "k 2"]:
    """Places to which half of the six shortest translations lead from a column, and where no column is.

    `lattice` is that of the columns, of tensors; by default it is looked for. With the `shape` of the image given, translations from
    beyond its border do not count.
    """
    lattice = lattice or find_lattice(positions, spacing)
    moves = translations(lattice.vectors)
    known = lattice.grain >= 0
    target = (positions[known, None] + moves[lattice.grain[known]]).reshape(-1, 2)
    grain = lattice.grain[known].repeat_interleave(moves.shape[1])
    i, j = pairs_within(torch.cat([target, positions]), 2 * _NEAR * spacing)
    taken = torch.zeros(len(target) + len(positions), dtype=torch.bool, device=positions.device)
    taken[i[j >= len(target)]] = True
    target, grain = (values[~taken[: len(target)]] for values in (target, grain))
    i, j = pairs_within(target, _NEAR * spacing)
    votes = 1.0 + torch.bincount(i, minlength=len(target))
    mean = (target + torch.zeros_like(target).index_add_(0, i, target[j])) / votes[:, None]
    needed = torch.full_like(votes, moves.shape[1] / 2)
    if shape is not None:
        origin = mean[:, None] - moves[grain]
        last = sent(shape, origin) - 0.5
        within = ((origin >= -0.5) & (origin <= last)).all(dim=2).sum(dim=1)
        needed = torch.where(within < moves.shape[1], (within / 2).clamp(min=_LEAST_VOTES), needed)
    chosen = strongest_first(target, votes, 2 * _NEAR * spacing) & (votes >= needed)
    return mean[chosen]


def translations(vectors: Float[Tensor, "g 2 2"]) -> Float[Tensor, "g 6 2"]:
    """The six shortest translations of each grain."""
    a, b = vectors[:, 0], vectors[:, 1]
    both = torch.where((a - b).norm(dim=1, keepdim=True) < (a + b).norm(dim=1, keepdim=True), a - b, a + b)
    half = torch.stack([a, b, both], dim=1)
    return torch.cat([half, -half], dim=1)


def _bases(points: Tensor, spacing: float) -> Float[Tensor, "g 2 2"]:
    """Different bases of the blocks of an image."""
    if not len(points):
        return points.new_zeros(0, 2, 2)
    i, j = pairs_within(points, _REACH * spacing)
    row, col = ((points - points.min(dim=0).values) / (_BLOCK * spacing)).long().unbind(1)
    number, count = torch.unique(row * (col.max() + 1) + col, return_inverse=True, return_counts=True)[1:]
    full = torch.nonzero(count >= _SMALLEST)[:, 0]
    renumber = torch.full_like(count, -1).index_copy(0, full, torch.arange(len(full), device=full.device))
    of = renumber[number][i]
    order = torch.argsort(of, stable=True)
    order = order[of[order] >= 0]
    vectors, of, parts = (points[j] - points[i])[order], of[order], []
    ends = torch.bincount(of, minlength=len(full)).cumsum(0).tolist()
    for low in range(0, len(full), _BLOCKS):
        high = min(low + _BLOCKS, len(full))
        here = slice(ends[low - 1] if low else 0, ends[high - 1])
        parts.append(_bases_of(vectors[here], of[here] - low, count[full[low:high]], spacing))
    every = torch.cat([points.new_zeros(0, 2, 2), *parts])
    found: list[Tensor] = []
    while len(every):
        found.append(every[0])
        every = every[~_alike(every, every[0])]
    return torch.stack(found) if found else every


def _bases_of(
    vectors: Float[Tensor, "p 2"], block: Int[Tensor, " p"], columns: Int[Tensor, " b"], spacing: float
) -> Float[Tensor, "k 2 2"]:
    """Of each block that has them, the two shortest independent vectors that lead from most columns to another."""
    half = round(_REACH * _BINS)
    side, blocks = 2 * half + 1, len(columns)
    index = (vectors * (_BINS / spacing)).round().long() + half
    flat = (block * side + index[:, 0]) * side + index[:, 1]
    every = (torch.ones_like(vectors[:, 0]), *vectors.unbind(1))
    counts, rows, cols = (torch.bincount(flat, one, minlength=blocks * side * side) for one in every)
    near = F.avg_pool2d(counts.view(blocks, 1, side, side), 5, 1, 2) * 25
    blurred = F.avg_pool2d(near, 3, 1, 1)
    enough = near >= _SHARE * columns[:, None, None, None]
    peak = (blurred == F.max_pool2d(blurred, 5, 1, 2)) & enough
    at = torch.nonzero(peak[:, 0]).unbind(1)
    # The mean of the vectors in as many bins around each peak; beyond the border there are none.
    step = torch.arange(-2, 3, device=flat.device)
    i, j = (at[1][:, None, None] + step[:, None]), (at[2][:, None, None] + step)
    bins = (at[0][:, None, None] * side + i.clamp(0, side - 1)) * side + j.clamp(0, side - 1)
    whole = (i >= 0) & (i < side) & (j >= 0) & (j < side)
    mean = torch.stack([(image[bins] * whole).sum(dim=(1, 2)) for image in (rows, cols)], dim=1)
    mean = mean / near[:, 0][at][:, None]
    least = 1e-3 * spacing
    one_of_two = (mean[:, 0] > least) | ((mean[:, 0].abs() <= least) & (mean[:, 1] > 0))
    mean, of = mean[one_of_two], at[0][one_of_two]
    # The shortest first, block by block.
    size = (mean.norm(dim=1) / (0.05 * spacing)).round()
    order = torch.argsort(size, stable=True)
    order = order[torch.argsort(of[order], stable=True)]
    mean, of = mean[order], of[order]
    first = _first(of, torch.ones_like(of, dtype=torch.bool), blocks)
    lead = mean[first[of]]
    cross = (lead[:, 0] * mean[:, 1] - lead[:, 1] * mean[:, 0]).abs() / (lead.norm(dim=1) * mean.norm(dim=1))
    second = _first(of, cross > 0.4, blocks)
    told = torch.nonzero(second < len(mean))[:, 0]
    return torch.stack([mean[first[told]], mean[second[told]]], dim=1)


def _first(of: Int[Tensor, " n"], which: Tensor, groups: int) -> Int[Tensor, " g"]:
    """Number of the first of some rows in each group, that of all rows where there is none."""
    number = torch.where(which, torch.arange(len(of), device=of.device), len(of))
    return torch.full((groups,), len(of), device=of.device).scatter_reduce_(0, of, number, "amin")


def _alike(bases: Float[Tensor, "k 2 2"], other: Float[Tensor, "2 2"]) -> Bool[Tensor, " k"]:
    """Which bases are of the lattice of another: each vector of one is a short translation of the other."""
    moves = translations(other[None])[0]
    gap = (bases[:, :, None] - moves).norm(dim=3).min(dim=2).values
    found: Tensor = (gap <= _ALIKE * bases.norm(dim=2)).all(dim=1)
    return found


def _grains(partners: Sequence[Sequence[Tensor]], n: int, device: torch.device) -> Int[Tensor, " n"]:
    """The basis most of whose translations lead from a column to another, -1 where fewer than two do."""
    if not partners or not n:
        return torch.full((n,), -1, device=device)
    support = torch.zeros(len(partners), n, dtype=torch.long, device=device)
    for number, each in enumerate(partners):
        for partner in each:
            support[number] += partner >= 0
            # Where a translation leads to, its opposite leads from.
            back = torch.zeros(n + 1, dtype=torch.bool, device=device).index_fill(
                0, partner % (n + 1), value=True
            )
            support[number] += back[:n]
    best, grain = support.max(dim=0)
    return torch.where(best >= 2, grain, -1)


def _partner(points: Tensor, move: Tensor, spacing: float) -> Int[Tensor, " n"]:
    """The column one translation away from each, -1 where there is none."""
    return nearest_within(points + move, points, _NEAR * spacing)


def _sublattices(
    partners: Sequence[Sequence[Tensor]], grain: Int[Tensor, " n"], order: Int[Tensor, " g"]
) -> Int[Tensor, " n"]:
    """Numbers of the sets of columns that translations of their grains join, the most frequent first."""
    n = len(grain)
    edges = []
    for number, basis in enumerate(order.tolist()):
        for partner in partners[basis]:
            linked = (grain == number) & (partner >= 0) & (grain[partner] == number)
            edges.append(torch.stack([torch.nonzero(linked)[:, 0], partner[linked]]))
    if not edges:
        return torch.full((n,), -1, device=grain.device)
    i, j = torch.cat(edges, dim=1).cpu().numpy()
    label = connected_components(coo_array((np.ones(len(i)), (i, j)), shape=(n, n)), directed=False)[1]
    joined = torch.as_tensor(label, device=grain.device).long()
    size = torch.bincount(joined[grain >= 0], minlength=int(joined.max()) + 1)
    rank = torch.empty_like(size)
    rank[torch.argsort(size, descending=True, stable=True)] = torch.arange(len(size), device=grain.device)
    return torch.where(grain >= 0, rank[joined], -1)
