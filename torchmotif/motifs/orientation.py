"""Motifs that occur in every orientation: patches turned into one frame, and what in it is the same motif turned."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from torchmotif.motifs.source import n_max_of
from torchmotif.zernike import invariants, orders, reflect, rotate, rotation_distance
from torchmotif.zernike.invariants import RotationMatch
from torchmotif.zernike.polynomials import zernike_polynomials

__all__ = ["HARDLY", "NEARLY", "Frame", "Symmetries", "averaged", "frame_of", "learn_frame", "same_turned"]

_SEEDS = 8  # groups of invariants to begin with
_MAX_LEARNT = 10_000  # columns on which the frame is learnt
_ROUNDS = 8  # of turning a group onto its mean
_RINGS = 64
_MERGES = 4  # rounds of joining groups that are one motif turned
_FOLDS = (6, 5, 4, 3, 2)
_COMMON = 0.02  # of the columns, at least, are nearest to a seed
NEARLY = 0.15  # of the squares of what varies around the centre may break the symmetry of a seed
HARDLY = 0.01  # and of a motif: what sampling alone breaks
_UNEXPLAINED = 0.1  # of a difference, in its squares, that is left when one motif is the other turned


@dataclass(frozen=True, eq=False)
class Symmetries:
    """Mean moments of some patches, and their symmetries as far as single columns can tell.

    Attributes
    ----------
    centres : Tensor of shape (m, k)
    folds : Tensor of shape (m,), int64
        Rotations by 2 pi / fold leave each as it is.
    chiral : Tensor of shape (m,), bool
        Whether its mirror image is another, and mirrored patches are asked for.
    """

    centres: Float[Tensor, "m k"]
    folds: Int[Tensor, " m"]
    chiral: Bool[Tensor, " m"]

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

        The centres are made as symmetric as that: else noise would decide how a patch is turned.
        """
        parts = [_symmetrised(centre, white, least, tolerance, mirror=mirror) for centre in centres]
        device = centres.device
        return cls(
            torch.stack([part[0] for part in parts]),
            torch.tensor([part[1] for part in parts], device=device),
            torch.tensor([part[2] for part in parts], device=device),
        )

    def angles(
        self, moments: Float[Tensor, "n k"], labels: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
        """How each centre lies on patches with these labels: mirrored or not, then turned by 0 to 2 pi / fold."""
        match = _match(self.centres[labels], moments, self.chiral[labels])
        return torch.remainder(match.angle, 2 * math.pi / self.folds[labels]), match.mirrored


@dataclass(frozen=True, eq=False)
class Frame:
    """Patches in one orientation onto which others are turned.

    Attributes
    ----------
    seeds : Symmetries
    """

    seeds: Symmetries

    def turned(self, moments: Float[Tensor, "n l"]) -> Float[Tensor, "n l"]:
        """Patches turned, and where asked for mirrored, onto the seed that is nearest to each.

        Their moments may reach to higher orders than those of the seeds.
        """
        lower = moments[:, : self.seeds.centres.shape[1]]
        match = _match(self.seeds.centres[None], lower[:, None], self.seeds.chiral[None])
        nearest = match.distance.argmin(1, keepdim=True)
        return _back(moments, match.angle.gather(1, nearest)[:, 0], match.mirrored.gather(1, nearest)[:, 0])


def learn_frame(
    moments: Float[Tensor, "n k"],
    white: Float[Tensor, "k k"],
    least: float,
    *,
    mirror: bool,
    random_state: int,
) -> Frame:
    """A frame in which the columns of all grains of a polycrystal lie alike.

    Columns are grouped by what does not change when they are turned; those of a group are turned onto their mean, again
    and again; and groups that single columns do not tell apart, however turned, are joined.

    Parameters
    ----------
    moments : Tensor of shape (n, k), float64
    white : Tensor of shape (k, k)
        From moments to coordinates in which one column scatters by 1.
    least : float
        Distance in standard deviations that single columns tell.
    mirror : bool
        Whether mirror images are alike too.
    random_state : int
    """
    if len(moments) > _MAX_LEARNT:
        rows = np.random.default_rng(random_state).permutation(len(moments))[:_MAX_LEARNT]
        moments = moments[torch.from_numpy(np.sort(rows)).to(moments.device)]
    labels, centres = _grouped(moments, random_state)
    seeds = Symmetries.of(centres, white, 0.0, 0.0, mirror=mirror)
    for _ in range(_MERGES):
        centres = _settled(moments, labels, seeds)
        counts = torch.bincount(labels, minlength=len(centres))
        group, turned = same_turned(centres, counts, white, least, mirror=mirror)
        joined = averaged(turned, counts, group)
        seeds = Symmetries.of(joined, white, least, NEARLY, mirror=mirror)
        labels = _match(joined[None], moments[:, None], seeds.chiral[None]).distance.argmin(1)
        if len(joined) == len(centres):
            break
    return frame_of(seeds, torch.bincount(labels, minlength=len(seeds.centres)))


def frame_of(seeds: Symmetries, counts: Int[Tensor, " m"]) -> Frame:
    """The common ones of some patches, all turned onto the most common one, whose strongest wave is turned upright."""
    first = seeds.centres[counts.argmax()]
    first = rotate(first, -_crest(first))
    onto = rotation_distance(seeds.centres, first.expand_as(seeds.centres))
    common = counts >= _COMMON * counts.sum()
    upright = rotate(seeds.centres, onto.angle)
    return Frame(Symmetries(upright[common], seeds.folds[common], seeds.chiral[common]))


def same_turned(
    centres: Float[Tensor, "m k"],
    counts: Int[Tensor, " m"],
    white: Float[Tensor, "k k"],
    least: float,
    *,
    mirror: bool,
) -> tuple[Int[Tensor, " m"], Float[Tensor, "m k"]]:
    """Which of the mean moments are one motif turned.

    Parameters
    ----------
    centres : Tensor of shape (m, k), float64
    counts : Tensor of shape (m,)
        Columns that each is the mean of.
    white : Tensor of shape (k, k)
        From moments to coordinates in which one column scatters by 1.
    least : float
        Distance in standard deviations that single columns tell.
    mirror : bool

    Returns
    -------
    group : Tensor of shape (m,), int64
    turned : Tensor of shape (m, k)
        The centres turned onto the most common one of their group.
    """
    group = torch.full((len(centres),), -1, dtype=torch.long, device=centres.device)
    turned, number = centres.clone(), 0
    chiral = torch.full_like(group, mirror, dtype=torch.bool)
    for leader in torch.argsort(counts, descending=True, stable=True).tolist():
        if group[leader] >= 0:
            continue
        match = _match(centres[leader].expand_as(centres), centres, chiral)
        candidate = _back(centres, match.angle, match.mirrored)
        difference = candidate - centres[leader]
        # The means have noise of their own.
        noise = centres.shape[1] * (1 / counts.clamp(min=1) + 1 / counts[leader].clamp(min=1))
        near = (difference @ white).square().sum(1) - noise <= least**2
        before = (centres - centres[leader]).square().sum(1)
        joined = near | (difference.square().sum(1) <= _UNEXPLAINED * before)
        joined[leader] = True
        joined &= group < 0
        group[joined], turned[joined] = number, candidate[joined]
        turned[leader] = centres[leader]
        number += 1
    return group, turned


def averaged(values: Float[Tensor, "n k"], weights: Tensor, group: Int[Tensor, " n"]) -> Float[Tensor, "g k"]:
    """Weighted mean of every group."""
    total = values.new_zeros(int(group.max()) + 1).index_add(0, group, weights.to(values))
    sums = values.new_zeros(len(total), values.shape[1]).index_add(0, group, values * weights[:, None])
    return sums / total.clamp(min=1e-12)[:, None]


def _grouped(moments: Tensor, random_state: int) -> tuple[Tensor, Tensor]:
    """Groups of patches of like power invariants, and a member of each."""
    from sklearn.cluster import KMeans

    powers = invariants(moments)
    count = max(1, min(_SEEDS, len(moments) // 20))
    found = KMeans(count, n_init=3, random_state=random_state).fit(powers.cpu().numpy())
    labels = torch.from_numpy(found.labels_).long().to(moments.device)
    middles = torch.from_numpy(found.cluster_centers_).to(powers)
    return labels, moments[torch.stack([(powers - m).square().sum(1).argmin() for m in middles])]


def _settled(moments: Tensor, labels: Tensor, seeds: Symmetries) -> Tensor:
    """The mean of every group after its columns were turned onto it again and again."""
    centres = seeds.centres
    for _ in range(_ROUNDS):
        match = _match(centres[labels], moments, seeds.chiral[labels])
        turned = _back(moments, match.angle, match.mirrored)
        present = averaged(turned, torch.ones_like(labels), labels)
        centres = torch.cat([present, centres[len(present) :]])
    return centres


def _match(centres: Tensor, moments: Tensor, chiral: Tensor) -> RotationMatch:
    """How centres are turned, and the chiral ones mirrored before, to lie on patches; shapes broadcast."""
    plain: RotationMatch = rotation_distance(centres, moments)
    if not bool(chiral.any()):
        return plain
    flipped = rotation_distance(reflect(centres), moments)
    better = chiral & (flipped.distance < plain.distance)
    return RotationMatch(
        torch.where(better, flipped.distance, plain.distance),
        torch.where(better, flipped.angle, plain.angle),
        better,
    )


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
    r = (torch.arange(_RINGS, dtype=centre.dtype, device=centre.device) + 0.5) / _RINGS
    mass = zernike_polynomials(int(m.max()), r, torch.zeros_like(r))[m == wave] @ r
    return torch.atan2(mass @ centre[m == -wave], mass @ centre[m == wave]) / wave


def _angular(k: int) -> Tensor:
    """The angular orders m of k moments."""
    return orders(n_max_of(k))[:, 1]
