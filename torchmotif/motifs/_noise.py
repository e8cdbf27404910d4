"""What counting electrons does to moments: their covariance, and the gain where nobody gave it."""

import math
from functools import lru_cache
from itertools import product

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from torchmotif.motifs._single_columns import rings
from torchmotif.zernike import ZernikeBasis
from torchmotif.zernike.polynomials import zernike_polynomials

__all__ = [
    "CountingNoise",
    "bent",
    "matched_filter",
    "noise_edge",
    "noise_scale",
    "principal_axes",
    "straightened",
]

_BATCH_BYTES = 4 << 20  # of weighted kernels at a time on a CPU: what stays in its cache
_BATCH_BYTES_ON_ACCELERATOR = 1 << 30
_KERNELS_PER_PIXEL = 2  # steps of the offsets at which kernels are made for the noise
# What is divided by where noise is not askew: below, a Gaussian is as good in float32, and ten times as much moves nothing. Written
# without a division, both formulas differ by rounding, which parts three of twelve twisted bilayers otherwise.
_LEAST_SKEWNESS = 1e-4
_FURTHEST_DOWN = 0.9  # of the way to where a gamma variable ends
_LEAST_COUNT = 0.01, 1e-6  # of the mean, and at all, that a pixel expects: none is without noise


class CountingNoise:
    """Covariance of the moments of counted electrons, told from the moments themselves.

    A moment is a weighted sum of independent Poisson counts, so the covariance of two is the sum of the expected
    counts times the product of their kernels. The patch that the mean moments stand for gives the expected counts; with
    moments of four orders more than the basis has, finer structure weighs less than a few per cent. The kernels are those of
    each patch's own offset: at the disk's edge they differ, and with one for all of them noise would look like structure.

    The moments are those of pixels from which a constant was subtracted, to the order of the basis or a higher one;
    `level` is what that constant stands above a pixel without electrons, in units of the moments; `parts` are means of the
    patches of several parts of them.
    """

    def __init__(
        self,
        basis: ZernikeBasis,
        orders: int,
        level: float,
        offsets: Float[Tensor, "n 2"] | None,
        parts: Float[Tensor, "p s s"] | None = None,
    ) -> None:
        self._parts = parts
        reach = 0 if offsets is None else _KERNELS_PER_PIXEL // 2
        steps = list(product(range(-reach, reach + 1), repeat=2))
        centres = [(row / _KERNELS_PER_PIXEL, col / _KERNELS_PER_PIXEL) for row, col in steps]
        self._level, self._middle, self._kernels = level, steps.index((0, 0)), basis.kernels(centres)
        self._shapes, self._places = _shapes(orders, basis.size, tuple(centres), basis.basis.device), None
        if offsets is not None:
            step = torch.round(offsets * _KERNELS_PER_PIXEL).long().clamp(-reach, reach) + reach
            self._places = F.one_hot(step[:, 0] * (2 * reach + 1) + step[:, 1], len(steps)).float()

    def offsets_of(self, rows: Int[Tensor, " n"]) -> Float[Tensor, "n o"]:
        """1 at the offset of each of some columns, else 0."""
        return self._kernels.new_ones(len(rows), 1) if self._places is None else self._places[rows]

    def covariances(
        self, means: Float[Tensor, "g l"], shares: Float[Tensor, "g o"]
    ) -> Float[Tensor, "g k k"]:
        """Mean covariance, float64, of the moments of groups of patches with these mean moments and shares of the offsets.

        In units of the moments per electron.
        """
        expected = torch.einsum("gl,olp->gop", means.float(), self._shapes) + self._level
        share, least = _LEAST_COUNT
        floor = (share * expected.mean(-1, keepdim=True)).clamp(min=least)
        weights = (torch.maximum(expected, floor) * shares[..., None].to(expected)).sqrt()
        kernels, weights = self._kernels.transpose(0, 1).flatten(1), weights.flatten(1)
        budget = _BATCH_BYTES if kernels.device.type == "cpu" else _BATCH_BYTES_ON_ACCELERATOR
        batch = max(1, budget // (kernels.numel() * kernels.element_size()))
        parts = (kernels * some[:, None] for some in weights.split(batch))
        return torch.cat([torch.bmm(part, part.mT) for part in parts]).double()

    def first_minimum(self, mean: Float[Tensor, " l"]) -> float:
        """Radius in pixels at which the neighbours of the column in the middle begin; inf where it is not known.

        It is the first minimum of the mean patch, averaged over all angles, if those of its parts agree within a pixel. Without patches,
        it is that of the patch which mean moments stand for; to a low order in a wide window that is too smooth.
        """
        if self._parts is None:
            return _first_minima((mean.float() @ self._shapes[self._middle])[None])[0]
        whole, *parts = _first_minima(torch.cat([self._parts.mean(0, keepdim=True), self._parts]).flatten(1))
        return whole if max(abs(part - whole) for part in parts) <= 1 else math.inf

    def cumulants(
        self, patch: Float[Tensor, " l"], axes: Float[Tensor, "k q"], *, level: bool = True
    ) -> tuple[Float[Tensor, "q q"], Float[Tensor, "q q q"]]:
        """Second and third cumulants of the noise of one patch along some axes, in units of them per electron.

        The covariance, and what makes the noise of few electrons askew: of independent Poisson counts, both are sums over
        the pixels. `patch` are its moments less noise; `level` says whether the constant that was subtracted from the
        pixels belongs to it.
        """
        expected = patch.float() @ self._shapes[self._middle][: len(patch)] + self._level * level
        along = (axes.float().T @ self._kernels[self._middle]).double()
        weight = expected.clamp(min=0.0).double() * along
        return weight @ along.T, torch.einsum("ap,bp,cp->abc", weight, along, along)

    def askew(
        self, means: Float[Tensor, "g l"], directions: Float[Tensor, "g c k"], scale: float
    ) -> tuple[Float[Tensor, "g c"], Float[Tensor, "g c"]]:
        """Third and fourth cumulants of the noise of groups with these mean moments along directions; it is larger by `scale`."""
        expected = (means.float() @ self._shapes[self._middle] + self._level).clamp(min=0.0)[:, None]
        along = directions.float() @ self._kernels[self._middle]
        weight = expected * along.square() * along
        return scale**2 * weight.sum(-1), scale**3 * (weight * along).sum(-1)


def straightened(x: Tensor, skewness: Tensor) -> tuple[Tensor, Tensor]:
    """Values of a variable of unit variance that is askew, as those of a Gaussian, and the logarithm of the slope.

    The variable is one of Pearson's third kind, a shifted gamma variable (Wilson & Hilferty, 1931).
    """
    askew = torch.where(skewness.abs() < _LEAST_SKEWNESS, _LEAST_SKEWNESS, skewness)
    log = torch.log1p((askew * x / 2).clamp(min=-_FURTHEST_DOWN))
    return 6 / askew * torch.expm1(log / 3) + askew / 6, -2 / 3 * log


def bent(y: Tensor, skewness: Tensor) -> Tensor:
    """The inverse of `straightened`."""
    askew = torch.where(skewness.abs() < _LEAST_SKEWNESS, _LEAST_SKEWNESS, skewness)
    return 2 / askew * ((1 + (y - askew / 6) * askew / 6) ** 3 - 1)


@lru_cache(maxsize=2)
def _shapes(
    n_max: int, size: int, centres: tuple[tuple[float, float], ...], device: torch.device
) -> Float[Tensor, "o l p"]:
    """The polynomials about some centres at the pixels of a window; beyond the disk, those at its edge."""
    axis = (torch.arange(size, dtype=torch.float64) - (size - 1) / 2) / (size / 2)
    row, col = (2 / size * torch.tensor(centres, dtype=torch.float64)).T[:, :, None, None]
    y, x = torch.broadcast_tensors(row - axis[:, None], axis - col)
    radius = torch.hypot(x, y).clamp(max=1.0)
    shapes: Tensor = zernike_polynomials(n_max, radius.flatten(), torch.atan2(y, x).flatten())
    return shapes.float().view(-1, len(centres), size**2).transpose(0, 1).contiguous().to(device)


def _first_minima(patches: Float[Tensor, "n p"]) -> list[float]:
    """Radius of the first minimum of square patches averaged over all angles, of a parabola through three radii; inf without one."""
    size = math.isqrt(patches.shape[1])
    means = patches @ rings(size, patches.device, nearest=True)[:, : (size + 1) // 2]
    return [_first_minimum(profile) for profile in means.cpu()]


def _first_minimum(profile: Float[Tensor, " r"]) -> float:
    """That of the means over all angles."""
    rises = torch.nonzero(profile.diff() > 0).flatten().tolist()
    if not rises or rises[0] == 0:
        return math.inf
    before, least, after = profile[rises[0] - 1 : rises[0] + 2].tolist()
    return float(rises[0] + (before - after) / (2 * (before - 2 * least + after)))


def noise_scale(scatter: Float[Tensor, "k k"], covariance: Float[Tensor, "k k"], n: int) -> float:
    """By what factor the noise of n columns is larger than `covariance` says; 0 where it cannot be told.

    Most directions of moment space hold nothing but noise. So the middle one of the variances along the principal
    directions, in units of `covariance`, is set to what noise alone would make of it (Marchenko & Pastur, 1967).
    """
    k = len(scatter)
    rank = min(n - 1, k)
    if rank < 2:
        return 0.0
    variances, _ = principal_axes(scatter, covariance)
    return float(variances[rank // 2]) / _middle_variance(k / n)


def principal_axes(
    scatter: Float[Tensor, "... k k"], covariance: Float[Tensor, "... k k"]
) -> tuple[Float[Tensor, "... k"], Float[Tensor, "... k k"]]:
    """Variances of moments in units of noise, the largest first, and the axes along which they have them.

    Along the axes, the columns of the second result, noise of that covariance is uncorrelated and scatters by 1.
    """
    # Whether it succeeded is not looked at, which would be waited for: `eigh` refuses what is no number.
    factor, failed = torch.linalg.cholesky_ex(covariance)
    factor = torch.where(failed[..., None, None] > 0, torch.nan, factor)
    half = torch.linalg.solve_triangular(factor, scatter, upper=False)
    white = torch.linalg.solve_triangular(factor, half.mT, upper=False)
    variances, directions = torch.linalg.eigh((white + white.mT) / 2)
    axes: Tensor = torch.linalg.solve_triangular(factor.mT, directions.flip(-1), upper=True)
    return variances.flip(-1), axes


def noise_edge(n: Tensor, k: int) -> Tensor:
    """What variance along k principal axes of n columns noise alone reaches (Marchenko & Pastur, 1967)."""
    return (1 + (k / n).sqrt()) ** 2


def matched_filter(
    signal: Float[Tensor, "... k"], covariance: Float[Tensor, "... k k"]
) -> Float[Tensor, "... k"]:
    """The direction in which a signal stands out most of noise, which scatters by 1 there; zero without a signal."""
    direction = torch.linalg.solve_ex(covariance, signal[..., None])[0][..., 0]
    power = (signal * direction).sum(-1, keepdim=True)
    scaled: Tensor = direction / power.clamp(min=1e-30).sqrt()
    return scaled


def _middle_variance(ratio: float) -> float:
    """Median of the non-zero eigenvalues of a sample covariance of white noise, `ratio` dimensions per sample."""
    least, most = (1 - math.sqrt(ratio)) ** 2, (1 + math.sqrt(ratio)) ** 2
    # Substituting the cosine takes the square roots of the density at both edges away.
    angle = (torch.arange(2000, dtype=torch.float64) + 0.5) * (math.pi / 2000)
    value = (least + most) / 2 - (most - least) / 2 * torch.cos(angle)
    share = torch.cumsum(torch.sin(angle) ** 2 / value, 0)
    return float(value[torch.searchsorted(share, share[-1] / 2)])
