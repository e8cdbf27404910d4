"""What counting electrons does to moments: their covariance, and the gain where nobody gave it."""

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from torchmotif.motifs.source import n_max_of
from torchmotif.zernike import ZernikeBasis, zernike_basis
from torchmotif.zernike.polynomials import zernike_polynomials

__all__ = ["CountingNoise", "noise_scale"]

_STEPS = 2  # per pixel, of the offsets at which kernels are made for the noise


class CountingNoise:
    """Covariance of the moments of counted electrons, told from the moments themselves.

    A moment is a weighted sum of independent Poisson counts, so the covariance of two is the sum of the expected
    counts times the product of their kernels. The patch that the mean moments stand for gives the expected counts; with
    moments of four orders more than the basis has, finer structure weighs less than a few per cent. The kernels are those of each patch's own offset: at the
    rim of the disk they differ, and with one for all of them noise would look like structure.

    Parameters
    ----------
    basis : ZernikeBasis
    moments : Tensor of shape (n, l), float64
        Of pixels from which a constant was subtracted; to the order of the basis or a higher one.
    level : float
        What that constant stands above a pixel without electrons, in units of the moments.
    offsets : Tensor of shape (n, 2), optional
        True centre minus window centre in pixels.
    """

    def __init__(
        self,
        basis: ZernikeBasis,
        moments: Float[Tensor, "n l"],
        level: float,
        offsets: Float[Tensor, "n 2"] | None,
    ) -> None:
        self.moments = moments
        self._level = level
        self._order = len(basis.basis)
        self._area = math.pi * basis.size**2 / 4
        shifts = moments.new_zeros(len(moments), 2) if offsets is None else offsets
        steps = torch.round(shifts * _STEPS).clamp(-_STEPS, _STEPS).long()
        present, self._group = torch.unique(steps, dim=0, return_inverse=True)
        centres = [(row / _STEPS, col / _STEPS) for row, col in present.tolist()]
        self._kernels = [
            zernike_basis(basis.n_max, basis.size, offset=centre, device=moments.device).flatten(1)
            for centre in centres
        ]
        self._middle = int(np.argmin([math.hypot(*centre) for centre in centres]))
        n_max = n_max_of(moments.shape[1])
        self._shapes = [_shapes(n_max, basis.size, centre, moments.device) for centre in centres]

    def covariance(self, rows: Int[Tensor, " m"]) -> Float[Tensor, "k k"]:
        """Mean covariance of the moments of the patches `rows`, float64, in units of the moments per electron."""
        mean = self.moments[rows].mean(0).float()
        counts = torch.bincount(self._group[rows], minlength=len(self._kernels)).tolist()
        total = self.moments.new_zeros(self._order, self._order)
        for kernels, shapes, count in zip(self._kernels, self._shapes, counts, strict=True):
            if count:
                expected = mean @ shapes + self._level
                # No pixel is without noise: a hundredth of the mean stands in for those below zero.
                weight = expected.clamp(min=max(0.01 * float(expected.mean()), 1e-6))
                total += count * ((kernels * weight) @ kernels.T).double()
        return total / (len(rows) * self._area**2)

    def cumulants(
        self, patch: Float[Tensor, " l"], axes: Float[Tensor, "k q"], *, level: bool = True
    ) -> tuple[Float[Tensor, "q q"], Float[Tensor, "q q q"]]:
        """Second and third cumulants of the noise of one patch in some coordinates, in units of them per electron.

        The covariance, and what makes the noise of few electrons askew: of independent Poisson counts, both are sums over
        the pixels.

        Parameters
        ----------
        patch : Tensor of shape (l,)
            Its moments less noise.
        axes : Tensor of shape (k, q)
            From moments to the coordinates.
        level : bool
            Whether the constant that was subtracted from the pixels belongs to it.
        """
        expected = patch.float() @ self._shapes[self._middle][: len(patch)] + self._level * level
        along = (axes.float().T @ self._kernels[self._middle] / self._area).double()
        weight = expected.clamp(min=0.0).double() * along
        return weight @ along.T, torch.einsum("ap,bp,cp->abc", weight, along, along)


def _shapes(n_max: int, size: int, centre: tuple[float, float], device: torch.device) -> Float[Tensor, "l p"]:
    """The polynomials at the pixels of a window; beyond the disk, those at its rim."""
    axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    y, x = (
        grid.flatten() / (size / 2)
        for grid in torch.meshgrid(centre[0] - axis, axis - centre[1], indexing="ij")
    )
    r = torch.hypot(x, y).clamp(max=1.0)
    return zernike_polynomials(n_max, r, torch.atan2(y, x)).float().to(device)


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
