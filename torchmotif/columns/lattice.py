"""Lattices in a set of columns: basis vectors and sublattices, grain by grain, and the sites they predict."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from torchmotif._arrays import as_positions, keeps_digits, like, sent
from torchmotif.columns._neighbours import pairs_within, strongest_first
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
    grain = _grains(points, bases, spacing)
    size = torch.bincount(grain[grain >= 0], minlength=len(bases))
    order = torch.argsort(size, descending=True, stable=True)
    order = order[size[order] >= _SMALLEST]
    renumber = torch.full((len(bases) + 1,), -1, device=points.device)
    renumber[order] = torch.arange(len(order), device=points.device)
    grain = renumber[grain]
    sublattice = _sublattices(points, bases[order], grain, spacing)
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
    found: list[Tensor] = []
    i, j = pairs_within(points, _REACH * spacing)
    vector = points[j] - points[i]
    block = (
        ((points - points.min(dim=0).values) / (_BLOCK * spacing)).long() if len(points) else points.long()
    )
    number = torch.unique(block, dim=0, return_inverse=True)[1] if len(points) else block[:, 0]
    count = torch.bincount(number)
    order = torch.argsort(number[i], stable=True)
    for vectors, columns in zip(
        vector[order].split(torch.bincount(number[i], minlength=len(count)).tolist()),
        count.tolist(),
        strict=True,
    ):
        basis = _basis(vectors, columns, spacing) if columns >= _SMALLEST else None
        if basis is not None and not any(_alike(basis, other) for other in found):
            found.append(basis)
    return torch.stack(found) if found else points.new_zeros(0, 2, 2)


def _basis(vectors: Float[Tensor, "p 2"], columns: int, spacing: float) -> Float[Tensor, "2 2"] | None:
    """The two shortest independent vectors that lead from most columns to another."""
    half = round(_REACH * _BINS)
    side = 2 * half + 1
    index = (vectors * (_BINS / spacing)).round().long() + half
    flat = index[:, 0] * side + index[:, 1]
    counts = torch.bincount(flat, minlength=side * side).view(1, side, side).to(vectors.dtype)
    near = F.avg_pool2d(counts, 5, 1, 2) * 25
    blurred = F.avg_pool2d(near, 3, 1, 1)
    peak = (blurred == F.max_pool2d(blurred, 5, 1, 2)) & (near >= _SHARE * columns)
    centres = (torch.nonzero(peak[0]) - half).to(vectors.dtype) * (spacing / _BINS)
    members = torch.cdist(centres, vectors) <= 0.35 * spacing
    mean = (members.to(vectors.dtype) @ vectors) / members.sum(dim=1, keepdim=True).clamp(min=1)
    mean = mean[(mean[:, 0] > 1e-3 * spacing) | ((mean[:, 0].abs() <= 1e-3 * spacing) & (mean[:, 1] > 0))]
    mean = mean[torch.argsort((mean.norm(dim=1) / (0.05 * spacing)).round(), stable=True)]
    if len(mean) < 2:
        return None
    first = mean[0]
    cross = (first[0] * mean[:, 1] - first[1] * mean[:, 0]).abs() / (first.norm() * mean.norm(dim=1))
    independent = torch.nonzero(cross > 0.4).flatten()
    return torch.stack([first, mean[independent[0]]]) if len(independent) else None


def _alike(one: Tensor, other: Tensor) -> bool:
    """Whether two bases are of the same lattice: each vector of one is a short translation of the other."""
    moves = translations(other[None])[0]
    gap = (one[:, None] - moves[None]).norm(dim=2).min(dim=1).values
    return bool((gap <= _ALIKE * one.norm(dim=1)).all())


def _grains(points: Tensor, bases: Tensor, spacing: float) -> Int[Tensor, " n"]:
    """The basis most of whose translations lead from a column to another, -1 where fewer than two do."""
    if len(bases) == 0 or len(points) == 0:
        return torch.full((len(points),), -1, device=points.device)
    moves = translations(bases)
    support = torch.stack(
        [torch.stack([_partner(points, move, spacing) >= 0 for move in grain]).sum(dim=0) for grain in moves]
    )
    best, grain = support.max(dim=0)
    return torch.where(best >= 2, grain, -1)


def _partner(points: Tensor, move: Tensor, spacing: float) -> Int[Tensor, " n"]:
    """The column one translation away from each, -1 where there is none."""
    n = len(points)
    i, j = pairs_within(torch.cat([points + move, points]), _NEAR * spacing)
    partner = torch.full((n,), -1, device=points.device)
    across = (i < n) & (j >= n)
    partner[i[across]] = j[across] - n
    return partner


def _sublattices(points: Tensor, bases: Tensor, grain: Tensor, spacing: float) -> Int[Tensor, " n"]:
    """Numbers of the sets of columns that translations of their grains join, the most frequent first."""
    n = len(points)
    edges = []
    for number, moves in enumerate(translations(bases)):
        for move in moves[:3]:
            partner = _partner(points, move, spacing)
            linked = (grain == number) & (partner >= 0) & (grain[partner] == number)
            edges.append(torch.stack([torch.nonzero(linked)[:, 0], partner[linked]]))
    if not edges:
        return torch.full((n,), -1, device=points.device)
    i, j = torch.cat(edges, dim=1).cpu().numpy()
    label = connected_components(coo_array((np.ones(len(i)), (i, j)), shape=(n, n)), directed=False)[1]
    joined = torch.as_tensor(label, device=points.device).long()
    size = torch.bincount(joined[grain >= 0], minlength=int(joined.max()) + 1)
    rank = torch.empty_like(size)
    rank[torch.argsort(size, descending=True, stable=True)] = torch.arange(len(size), device=points.device)
    return torch.where(grain >= 0, rank[joined], -1)
