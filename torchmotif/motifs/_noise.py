"""What counting electrons does to moments: their covariance, and the gain where nobody gave it."""

import math

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from torchmotif.motifs._moments import n_max_of
from torchmotif.zernike import ZernikeBasis, zernike_basis
from torchmotif.zernike.polynomials import zernike_polynomials

__all__ = ["CountingNoise", "matched_filter", "noise_edge", "noise_scale", "principal_axes"]

_KERNELS_PER_PIXEL = 2  # steps of the offsets at which kernels are made for the noise
_LEAST_COUNT = 0.01, 1e-6  # of the mean, and at all, that a pixel expects: none is without noise


class CountingNoise:
    """Covariance of the moments of counted electrons, told from the moments themselves.

    A moment is a weighted sum of independent Poisson counts, so the covariance of two is the sum of the expected
    counts times the product of their kernels. The patch that the mean moments stand for gives the expected counts; with
    moments of four orders more than the basis has, finer structure weighs less than a few per cent. The kernels are those of
    each patch's own offset: at the disk's edge they differ, and with one for all of them noise would look like structure.

    The moments, float64, are those of pixels from which a constant was subtracted, to the order of the basis or a higher one;
    `level` is what that constant stands above a pixel without electrons, in units of the moments.
    """

    def __init__(
        self,
        basis: ZernikeBasis,
        moments: Float[Tensor, "n l"],
        level: float,
        offsets: Float[Tensor, "n 2"] | None,
    ) -> None:
        self.moments, self._level = moments, level
        self._area = math.pi * basis.size**2 / 4
        fine, device = _KERNELS_PER_PIXEL, moments.device
        shifts = moments.new_zeros(len(moments), 2) if offsets is None else offsets
        present, self._group = torch.unique(
            torch.round(shifts * fine).clamp(-fine, fine).long(), dim=0, return_inverse=True
        )
        centres = [(row / fine, col / fine) for row, col in present.tolist()]
        self._middle = int(np.argmin([math.hypot(*centre) for centre in centres]))
        self._kernels = [
            zernike_basis(basis.n_max, basis.size, offset=centre, device=device).flatten(1)
            for centre in centres
        ]
        n_max = n_max_of(moments.shape[1])
        self._shapes = [_shapes(n_max, basis.size, centre, device) for centre in centres]

    def covariance(self, rows: Int[Tensor, " m"] | None = None) -> Float[Tensor, "k k"]:
        """Mean covariance of the moments of all patches or of `rows`, float64, in units of the moments per electron."""
        moments, group = (
            (self.moments, self._group) if rows is None else (self.moments[rows], self._group[rows])
        )
        mean = moments.mean(0).float()
        counts = torch.bincount(group, minlength=len(self._kernels)).tolist()
        total, (share, least) = moments.new_zeros(()), _LEAST_COUNT
        for kernels, shapes, count in zip(self._kernels, self._shapes, counts, strict=True):
            if count:
                expected = mean @ shapes + self._level
                weight = expected.clamp(min=max(share * float(expected.mean()), least))
                total = total + count * ((kernels * weight) @ kernels.T).double()
        return total / (len(moments) * self._area**2)

    def cumulants(
        self, patch: Float[Tensor, " l"], axes: Float[Tensor, "k q"], *, level: bool = True
    ) -> tuple[Float[Tensor, "q q"], Float[Tensor, "q q q"]]:
        """Second and third cumulants of the noise of one patch along some axes, in units of them per electron.

        The covariance, and what makes the noise of few electrons askew: of independent Poisson counts, both are sums over
        the pixels. `patch` are its moments less noise; `level` says whether the constant that was subtracted from the
        pixels belongs to it.
        """
        expected = patch.float() @ self._shapes[self._middle][: len(patch)] + self._level * level
        along = (axes.float().T @ self._kernels[self._middle] / self._area).double()
        weight = expected.clamp(min=0.0).double() * along
        return weight @ along.T, torch.einsum("ap,bp,cp->abc", weight, along, along)


def _shapes(n_max: int, size: int, centre: tuple[float, float], device: torch.device) -> Float[Tensor, "l p"]:
    """The polynomials at the pixels of a window; beyond the disk, those at its edge."""
    axis = (torch.arange(size, dtype=torch.float64) - (size - 1) / 2) / (size / 2)
    row, col = (2 * part / size for part in centre)
    y, x = (grid.flatten() for grid in torch.meshgrid(row - axis, axis - col, indexing="ij"))
    shapes: Tensor = zernike_polynomials(n_max, torch.hypot(x, y).clamp(max=1.0), torch.atan2(y, x))
    return shapes.float().to(device)


def noise_scale(moments: Float[Tensor, "n k"], covariance: Float[Tensor, "k k"]) -> float:
    """By what factor the noise of `moments` is larger than `covariance` says; 0 where it cannot be told.

    Most directions of moment space hold nothing but noise. So the middle one of the variances along the principal
    directions, in units of `covariance`, is set to what noise alone would make of it (Marchenko & Pastur, 1967).
    """
    n, k = moments.shape
    rank = min(n - 1, k)
    if rank < 2:
        return 0.0
    variances, _ = principal_axes(moments - moments.mean(0), covariance)
    return float(variances[rank // 2]) / _middle_variance(k / n)


def principal_axes(
    moments: Float[Tensor, "n k"], covariance: Float[Tensor, "k k"]
) -> tuple[Float[Tensor, " k"], Float[Tensor, "k k"]]:
    """Variances of centred moments in units of noise, the largest first, and the axes along which they have them.

    Along the axes, the columns of the second result, noise of that covariance is uncorrelated and scatters by 1.
    """
    factor = torch.linalg.cholesky(covariance)
    white = torch.linalg.solve_triangular(factor, moments.T, upper=False)
    variances, directions = torch.linalg.eigh(white @ white.T / len(moments))
    return variances.flip(0), torch.linalg.solve_triangular(factor.T, directions.flip(1), upper=True)


def noise_edge(n: int, k: int) -> float:
    """What variance along k principal axes of n columns noise alone reaches (Marchenko & Pastur, 1967)."""
    return (1 + math.sqrt(k / n)) ** 2


def matched_filter(signal: Float[Tensor, " k"], covariance: Float[Tensor, "k k"]) -> Float[Tensor, " k"]:
    """The direction in which a signal stands out most of noise, which scatters by 1 there; zero without a signal."""
    direction = torch.linalg.solve(covariance, signal)
    scaled: Tensor = direction / (signal @ direction).clamp(min=1e-30).sqrt()
    return scaled


def _middle_variance(ratio: float) -> float:
    """Median of the non-zero eigenvalues of a sample covariance of white noise, `ratio` dimensions per sample."""
    least, most = (1 - math.sqrt(ratio)) ** 2, (1 + math.sqrt(ratio)) ** 2
    # Substituting the cosine takes the square roots of the density at both edges away.
    angle = (torch.arange(2000, dtype=torch.float64) + 0.5) * (math.pi / 2000)
    value = (least + most) / 2 - (most - least) / 2 * torch.cos(angle)
    share = torch.cumsum(torch.sin(angle) ** 2 / value, 0)
    return float(value[torch.searchsorted(share, share[-1] / 2)])
