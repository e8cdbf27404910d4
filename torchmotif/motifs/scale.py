"""In what units moments are compared, and how those of another dose are brought there."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from torchmotif.errors import InputError
from torchmotif.zernike import ZernikeBasis

__all__ = ["MomentScale"]


@dataclass(frozen=True, eq=False)
class MomentScale:
    """Moments about the true centres of pixels less a level, at the learnt dose, over a unit.

    Attributes
    ----------
    basis : ZernikeBasis
    finer : ZernikeBasis
        Of a higher order, for the noise.
    level : float
        Mean of the learnt pixels: without it moments of unlike offsets are hardly comparable.
    unit : float
        Standard deviation of the learnt patches.
    dark : float
        Value of a pixel without electrons.
    """

    basis: ZernikeBasis
    finer: ZernikeBasis
    level: float
    unit: float
    dark: float

    @property
    def counts_at_level(self) -> float:
        """What the level stands above a pixel without electrons, in units of the moments."""
        return (self.level - self.dark) / self.unit

    def of_patches(
        self,
        windows: Float[Tensor, "n s s"],
        shifts: Float[Tensor, "n 2"] | None,
        relative_dose: float = 1.0,
        *,
        finer: bool = False,
    ) -> Float[Tensor, "n k"]:
        """From patches and their offsets."""
        basis = self.finer if finer else self.basis
        level = self.dark + (self.level - self.dark) * relative_dose
        return self.of_moments(basis(windows - level, shifts).double(), level, relative_dose)

    def of_moments(
        self, moments: Float[Tensor, "n k"], level: float, relative_dose: float = 1.0
    ) -> Float[Tensor, "n k"]:
        """From moments, float64, of pixels from which a level was subtracted."""
        if not (relative_dose > 0 and math.isfinite(relative_dose)):
            raise InputError(f"relative_dose must be positive and finite, got {relative_dose}")
        moments = moments / relative_dose
        moments[:, 0] += (level - self.dark) / relative_dose + self.dark - self.level
        return moments / self.unit

    def reconstructed(self, moments: Float[Tensor, "n k"]) -> Float[Tensor, "n s s"]:
        """The patches that moments stand for, zero outside the disk."""
        constant = torch.zeros_like(moments[:1])
        constant[0, 0] = 1.0  # the first polynomial is 1
        disk = self.basis.reconstruct(constant.float()).round()
        patches: Tensor = self.basis.reconstruct((moments * self.unit).float()) + self.level * disk
        return patches
