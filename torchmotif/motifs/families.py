"""Families: motifs that are one another turned or mirrored."""

from dataclasses import dataclass

import numpy as np
import torch

from torchmotif._threads import single_threaded
from torchmotif.motifs._orientation import UNEXPLAINED, matched
from torchmotif.zernike import ZernikeBasis
from torchmotif.zernike.basis import disk_area

__all__ = ["Family", "find_families"]

_ORDER = 10  # of the moments that are compared
# Of the squares of what no rotation changes (the moments of m = 0): motifs of one family differ by less. The three orientations of Mo
# beside a vacancy differ by 0.0006 at most, Mo and Se2 by 0.45, Mo and Mo beside a vacancy by 0.15.
_UNLIKE = 0.02
_NOISE = 2.0  # times the noise of two mean patches, which no rotation explains


@dataclass(frozen=True)
class Family:
    """Motifs that are one motif in several orientations.

    Attributes
    ----------
    motifs : tuple of int
        The most frequent first.
    angles_rad : tuple of float
        By how much the first is turned counter-clockwise to lie on each, from 0 to 2 pi.
    mirrored : tuple of bool
        Whether it is mirrored at the direction of the columns before.
    """

    motifs: tuple[int, ...]
    angles_rad: tuple[float, ...]
    mirrored: tuple[bool, ...]

    def __str__(self) -> str:
        """Say it in a line."""
        numbers, count = ", ".join(map(str, self.motifs)), len(self.motifs)
        if count == 1:
            return f"motif {numbers}: by itself"
        turned = "orientations, some of them mirrored" if any(self.mirrored) else "orientations"
        return f"motifs {numbers}: one motif in {count} {turned}"


@single_threaded()  # small steps, as those of the classifier
def find_families(
    templates: np.ndarray, counts: np.ndarray, electrons_per_count: float | None = None
) -> list[Family]:
    """Which motifs are one another turned or mirrored, as far as their mean patches tell.

    Two motifs are of one family if a rotation, or a mirror image and a rotation, explains nine tenths of their difference, in its
    squares, beyond the counting noise of both mean patches, and if their radial means are alike, which no rotation changes.

    Parameters
    ----------
    templates : array of shape (m, s, s)
        Mean patch of every motif.
    counts : array of shape (m,)
        Patches in every motif.
    electrons_per_count : float, optional
        Electrons that one unit of the patches stands for; by default their noise is left out of account.

    Returns
    -------
    list of Family
        Every motif is in one; in the order of their most frequent motifs.

    Examples
    --------
    >>> patch = np.zeros((1, 9, 9)); patch[0, 4, 7] = 1.0
    >>> print(*find_families(np.concatenate([patch, np.rot90(patch, axes=(1, 2))]), np.array([9, 5])))
    motifs 0, 1: one motif in 2 orientations
    """
    patches = torch.as_tensor(np.asarray(templates, dtype=np.float32))
    size = patches.shape[-1]
    basis = ZernikeBasis(min(_ORDER, size // 2), size)
    moments = basis(patches - patches.mean()).double()
    radial = torch.tensor([m == 0 for _, m in basis.orders])
    noise = np.zeros(len(patches))
    if electrons_per_count:
        bright = patches.clamp(min=0).mean((1, 2)).numpy() / electrons_per_count
        noise = _NOISE * len(basis.basis) * bright / np.maximum(counts, 1) / disk_area(size)
    families, left = [], np.argsort(-np.asarray(counts), kind="stable")
    while len(left):
        first, mine = int(left[0]), moments[left]
        apart = (mine - mine[0]).square().sum(1)
        most = UNEXPLAINED * apart + torch.from_numpy(noise[first] + noise[left])
        match, mirrored_match = (
            matched(mine[:1].expand_as(mine), mine, torch.full((len(left),), chiral))
            for chiral in (False, True)
        )
        # A mirror image is asked for only where a rotation does not do: symmetric motifs have both.
        turned = match.distance.square() <= most
        alike = (turned | (mirrored_match.distance.square() <= most)).numpy()
        middle = mine[:, radial]
        unlike = (middle - middle[0]).square().sum(1)
        usual = (middle.square().sum(1) + middle[0].square().sum()) / 2
        alike &= unlike.numpy() <= (_UNLIKE * usual).numpy() + noise[first] + noise[left]
        alike[0] = True
        angle = torch.where(turned, match.angle, mirrored_match.angle)
        angles = torch.remainder(angle, 2 * torch.pi).tolist()
        mirrored = (mirrored_match.mirrored & ~turned).tolist()
        angles[0], mirrored[0] = 0.0, False
        members = np.nonzero(alike)[0]
        families.append(
            Family(*(tuple(part[i] for i in members) for part in (left.tolist(), angles, mirrored)))
        )
        left = left[~alike]
    return families
