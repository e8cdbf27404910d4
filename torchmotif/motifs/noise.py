"""What counting electrons does to moments: their covariance, and the gain where nobody gave it."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torchmotif.zernike import ZernikeBasis, zernike_basis

__all__ = ["CountingNoise", "noise_scale"]

_STEPS = 2  # per pixel, of the offsets at which kernels are made for the noise


class CountingNoise:
    """Covariance of the moments of patches of counted electrons.

    A moment is a weighted sum of independent Poisson counts, so the covariance of two is the sum of the expected
    counts times the product of their kernels; the counts stand for their expectation. The kernels are those of each
    patch's own offset: at the rim of the disk they differ.

    Parameters
    ----------
    basis : ZernikeBasis
    patches : Tensor of shape (n, s, s)
        Proportional to the expected number of electrons.
    offsets : Tensor of shape (n, 2), optional
        True centre minus window centre in pixels.
    """

    def __init__(
        self, basis: ZernikeBasis, patches: Float[Tensor, "n s s"], offsets: Float[Tensor, "n 2"] | None
    ) -> None:
        self._patches = patches
        self._area = math.pi * basis.size**2 / 4
        shifts = patches.new_zeros(len(patches), 2) if offsets is None else offsets
        steps = torch.round(shifts * _STEPS).clamp(-_STEPS, _STEPS).long()
        present, self._group = torch.unique(steps, dim=0, return_inverse=True)
        self._kernels = [
            zernike_basis(
                basis.n_max,
                basis.size,
                offset=(row / _STEPS, col / _STEPS),
                dtype=patches.dtype,
                device=patches.device,
            ).flatten(1)
            for row, col in present.tolist()
        ]

    def covariance(self, rows: Int[Tensor, " m"]) -> Float[Tensor, "k k"]:
        """Mean covariance of the moments of the patches `rows`, float64."""
        sums = self._patches.new_zeros(len(self._kernels), self._patches[0].numel())
        sums.index_add_(0, self._group[rows], self._patches[rows].flatten(1))
        total = torch.stack([(k * weight) @ k.T for k, weight in zip(self._kernels, sums, strict=True)])
        return total.double().sum(0) / (len(rows) * self._area**2)


def noise_scale(moments: Float[Tensor, "n k"], covariance: Float[Tensor, "k k"]) -> float:
    """By what factor the noise of `moments` is larger than `covariance` says; 0 where it cannot be told.

    Most directions of moment space hold nothing but noise. So the middle one of the variances along the principal
    directions, in units of `covariance`, is set to what noise alone would make of it (Marchenko & Pastur, 1967).
    """
    n, k = moments.shape
    rank = min(n - 1, k)
    white = whitened(moments - moments.mean(0), covariance)
    variances = torch.linalg.eigvalsh(white.T @ white / n).flip(0)
    return float(variances[rank // 2]) / _middle_variance(k / n) if rank >= 2 else 0.0


def whitened(moments: Float[Tensor, "n k"], covariance: Float[Tensor, "k k"]) -> Float[Tensor, "n k"]:
    """Moments in coordinates in which `covariance` is the identity."""
    factor = torch.linalg.cholesky(covariance)
    white: Tensor = torch.linalg.solve_triangular(factor, moments.T, upper=False).T
    return white


def _middle_variance(ratio: float) -> float:
    """Median of the non-zero eigenvalues of a sample covariance of white noise, `ratio` dimensions per sample."""
    least, most = (1 - math.sqrt(ratio)) ** 2, (1 + math.sqrt(ratio)) ** 2
    # Substituting the cosine takes the square roots of the density at both edges away.
    angle = (torch.arange(2000, dtype=torch.float64) + 0.5) * (math.pi / 2000)
    value = (least + most) / 2 - (most - least) / 2 * torch.cos(angle)
    share = torch.cumsum(torch.sin(angle) ** 2 / value, 0)
    return float(value[torch.searchsorted(share, share[-1] / 2)])
