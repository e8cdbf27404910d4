"""Motifs that occur in every orientation: patches rotated onto a reference, and motifs that are rotated copies."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchmotif.motifs._moments import n_max_of
from torchmotif.zernike import invariants, orders, reflect, rotate, rotation_distance
from torchmotif.zernike.invariants import RotationMatch
from torchmotif.zernike.polynomials import zernike_polynomials

__all__ = [
    "UNEXPLAINED",
    "Symmetries",
    "averaged",
    "learn_reference",
    "matched",
    "reference_of",
    "rotated_copies",
]

_MOST_SEEDS = 8  # groups of invariants to begin with
_MOST_LEARNT = 10_000  # columns on which the reference is learnt, which needs no rare ones
_ALIGNMENTS = 8  # of a group with its mean
_MOST_MERGES = 4  # rounds of joining groups that are rotated copies
_RADII = 64  # at which the strongest wave of a patch is summed up
_FOLDS = (6, 5, 4, 3, 2)
_MIN_SHARE = 0.02  # of the columns that are nearest to a seed
SEED_TOLERANCE = 0.15  # of the squares of what varies around the centre may break the symmetry of a seed
MOTIF_TOLERANCE = 0.01  # and of a motif: what sampling alone breaks
UNEXPLAINED = 0.1  # of a difference, in its squares, that is left when one motif is a rotated copy


@dataclass(frozen=True, eq=False)
class Symmetries:
    """Mean moments of some patches, and their symmetries as far as single columns can tell."""

    centres: Float[Tensor, "m k"]
    folds: Int[Tensor, " m"]  # rotations by 2 pi / fold leave each as it is
    chiral: Bool[Tensor, " m"]  # whether its mirror image is another, and mirrored patches are asked for

    @classmethod
    def of(
        cls,
        centres: Float[Tensor, "m k"],
        white: Float[Tensor, "k k"],
        least: float,
        tolerance: float,
        *,
        mirror: bool,
    ) -> "Symmetries":
        """The symmetries that single columns, `least` standard deviations apart, do not tell to be broken.

        The centres are made as symmetric as that: else noise would decide how a patch is rotated.
        """
        parts = [_symmetrised(centre, white, least, tolerance, mirror=mirror) for centre in centres]
        made, folds, chiral = zip(*parts, strict=True)
        device = centres.device
        return cls(torch.stack(made), torch.tensor(folds, device=device), torch.tensor(chiral, device=device))

    def angles(
        self, moments: Float[Tensor, "n k"], labels: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
        """How each centre lies on patches with these labels: mirrored or not, then rotated by 0 to 2 pi / fold."""
        match = matched(self.centres[labels], moments, self.chiral[labels])
        return torch.remainder(match.angle, 2 * math.pi / self.folds[labels]), match.mirrored

    def align(self, moments: Float[Tensor, "n l"]) -> Float[Tensor, "n l"]:
        """Patches rotated, and where asked for mirrored, onto the centre that is nearest to each.

        Their moments may reach to higher orders than those of the centres.
        """
        match = matched(self.centres[None], moments[:, None, : self.centres.shape[1]], self.chiral[None])
        nearest = match.distance.argmin(1, keepdim=True)
        return _back(moments, match.angle.gather(1, nearest)[:, 0], match.mirrored.gather(1, nearest)[:, 0])


def learn_reference(
    moments: Float[Tensor, "n k"],
    white: Float[Tensor, "k k"],
    least: float,
    *,
    mirror: bool,
    random_state: int,
) -> Symmetries:
    """Seeds in a reference orientation, onto which the columns of all grains of a polycrystal are rotated.

    Columns are grouped by what does not change when they are rotated; those of a group are rotated onto their mean, again
    and again; and groups that single columns do not tell apart, however rotated, are joined. See `rotated_copies`.
    """
    if len(moments) > _MOST_LEARNT:
        rows = np.random.default_rng(random_state).permutation(len(moments))[:_MOST_LEARNT]
        moments = moments[torch.from_numpy(np.sort(rows)).to(moments.device)]
    labels, centres = _grouped(moments, random_state)
    seeds = Symmetries.of(centres, white, 0.0, 0.0, mirror=mirror)
    for _ in range(_MOST_MERGES):
        centres = seeds.centres
        for _ in range(_ALIGNMENTS):
            aligned = _aligned(centres[labels], moments, seeds.chiral[labels])
            present = averaged(aligned, torch.ones_like(labels), labels)
            centres = torch.cat([present, centres[len(present) :]])
        counts = torch.bincount(labels, minlength=len(centres))
        group, rotated = rotated_copies(centres, counts, white, least, mirror=mirror)
        joined = averaged(rotated, counts, group)
        seeds = Symmetries.of(joined, white, least, SEED_TOLERANCE, mirror=mirror)
        labels = matched(joined[None], moments[:, None], seeds.chiral[None]).distance.argmin(1)
        if len(joined) == len(centres):
            break
    return reference_of(seeds, torch.bincount(labels, minlength=len(seeds.centres)))


def reference_of(seeds: Symmetries, counts: Int[Tensor, " m"]) -> Symmetries:
    """The common ones of some seeds, rotated onto the most common one, whose strongest wave is turned upright."""
    first = seeds.centres[counts.argmax()]
    first = rotate(first, -_crest(first))
    upright = rotate(seeds.centres, rotation_distance(seeds.centres, first.expand_as(seeds.centres)).angle)
    common = counts >= _MIN_SHARE * counts.sum()
    return Symmetries(upright[common], seeds.folds[common], seeds.chiral[common])


def rotated_copies(
    centres: Float[Tensor, "m k"],
    counts: Int[Tensor, " m"],
    white: Float[Tensor, "k k"],
    least: float,
    *,
    mirror: bool,
) -> tuple[Int[Tensor, " m"], Float[Tensor, "m k"]]:
    """Which of the mean moments of so many columns are one motif rotated: their groups, and the means rotated as its leader.

    In the coordinates that `white` leads to one column scatters by 1; single columns tell `least` of it. The leader of
    a group is its most common one; with `mirror` mirror images are one motif too.
    """
    group = torch.full((len(centres),), -1, dtype=torch.long, device=centres.device)
    rotated, number = centres.clone(), 0
    chiral = torch.full_like(group, mirror, dtype=torch.bool)
    for leader in torch.argsort(counts, descending=True, stable=True).tolist():
        if group[leader] >= 0:
            continue
        candidate = _aligned(centres[leader].expand_as(centres), centres, chiral)
        difference = candidate - centres[leader]
        # The means have noise of their own.
        noise = centres.shape[1] * (1 / counts.clamp(min=1) + 1 / counts[leader].clamp(min=1))
        near = (difference @ white).square().sum(1) - noise <= least**2
        before = (centres - centres[leader]).square().sum(1)
        joined = near | (difference.square().sum(1) <= UNEXPLAINED * before)
        joined[leader] = True
        joined &= group < 0
        group[joined], rotated[joined] = number, candidate[joined]
        rotated[leader] = centres[leader]
        number += 1
    return group, rotated


def averaged(
    values: Float[Tensor, "n k"], weights: Tensor, group: Int[Tensor, " n"], groups: int | None = None
) -> Float[Tensor, "g k"]:
    """Weighted mean of every group; of an empty one 0."""
    total = values.new_zeros(int(group.max()) + 1 if groups is None else groups).index_add(
        0, group, weights.to(values)
    )
    sums = values.new_zeros(len(total), values.shape[1]).index_add(0, group, values * weights[:, None])
    return sums / total.clamp(min=1e-12)[:, None]


def _grouped(moments: Tensor, random_state: int) -> tuple[Tensor, Tensor]:
    """Groups of patches of like power invariants, and a member of each."""
    from sklearn.cluster import KMeans

    powers = invariants(moments)
    count = max(1, min(_MOST_SEEDS, len(moments) // 20))
    found = KMeans(count, n_init=3, random_state=random_state).fit(powers.cpu().numpy())
    labels = torch.from_numpy(found.labels_).long().to(moments.device)
    middles = torch.from_numpy(found.cluster_centers_).to(powers)
    return labels, moments[torch.stack([(powers - m).square().sum(1).argmin() for m in middles])]


def matched(centres: Tensor, moments: Tensor, chiral: Tensor) -> RotationMatch:
    """How centres are rotated, and the chiral ones mirrored before, to lie on patches; shapes broadcast."""
    plain: RotationMatch = rotation_distance(centres, moments)
    if not bool(chiral.any()):
        return plain
    flipped = rotation_distance(reflect(centres), moments)
    better = chiral & (flipped.distance < plain.distance)
    distance, angle = (torch.where(better, *pair) for pair in zip(flipped[:2], plain[:2], strict=True))
    return RotationMatch(distance, angle, better)


def _aligned(centres: Tensor, moments: Tensor, chiral: Tensor) -> Tensor:
    """Each patch in the orientation of its centre."""
    match = matched(centres, moments, chiral)
    return _back(moments, match.angle, match.mirrored)


def _back(moments: Tensor, angle: Tensor, mirrored: Tensor) -> Tensor:
    """Patches into the orientation of the centres that match them so."""
    upright = rotate(moments, -angle)
    back: Tensor = torch.where(mirrored[:, None], reflect(upright), upright)
    return back


def _symmetrised(
    centre: Tensor, white: Tensor, least: float, tolerance: float, *, mirror: bool
) -> tuple[Tensor, int, bool]:
    """A centre made as symmetric as it seems to be, its fold, and whether it is chiral."""
    varying = (centre.square() * (_angular(len(centre)) != 0).to(centre)).sum()

    def alike(mean: Tensor, other: Tensor) -> bool:
        apart = float(((other - centre) @ white).norm())
        return apart <= least or bool((mean - centre).square().sum() <= tolerance * varying)

    fold, chosen = 1, centre
    for candidate in _FOLDS:
        angles = torch.arange(candidate, dtype=centre.dtype, device=centre.device) * (2 * math.pi / candidate)
        copies = rotate(centre.expand(candidate, -1), angles)
        furthest = copies[((copies - centre) @ white).square().sum(1).argmax()]
        if alike(copies.mean(0), furthest):
            fold, chosen = candidate, copies.mean(0)
            break
    if not mirror:
        return chosen, fold, False
    image = reflect(chosen)
    image = rotate(image, rotation_distance(image, chosen).angle)
    mean = (chosen + image) / 2
    return (mean, fold, False) if alike(mean, image) else (chosen, fold, True)


def _crest(centre: Tensor) -> Tensor:
    """Where the strongest wave around the centre of a patch has its crest, from the columns' direction."""
    m = _angular(len(centre)).to(centre.device)
    if int(m.max()) == 0:
        return centre.new_zeros(())
    power = centre.new_zeros(int(m.max()) + 1).index_add(0, m.abs(), centre.square())
    wave = int(power[1:].argmax()) + 1
    # The wave's mass at every angle, in the middles of rings: polynomials at the angle 0 are their radial parts.
    r = (torch.arange(_RADII, dtype=centre.dtype, device=centre.device) + 0.5) / _RADII
    mass = zernike_polynomials(int(m.max()), r, torch.zeros_like(r))[m == wave] @ r
    return torch.atan2(mass @ centre[m == -wave], mass @ centre[m == wave]) / wave


def _angular(k: int) -> Tensor:
    """The angular orders m of k moments."""
    return orders(n_max_of(k))[:, 1]
