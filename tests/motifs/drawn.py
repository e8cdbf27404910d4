"""Patches of Gaussian columns, their moments, directions in moment space, and criteria: what tests of the parts share."""

import math

import numpy as np
import torch

from torchmotif.motifs._expectation import Components
from torchmotif.motifs._groups import Groups
from torchmotif.motifs._mixture import Pairs, Points
from torchmotif.motifs._noise import CountingNoise
from torchmotif.motifs.detectability import SplitCriteria
from torchmotif.zernike import ZernikeBasis

SIZE = 21
CRITERIA = SplitCriteria(min_evidence=10.0, min_detectability=2.0, max_valley=0.2, min_share=0.003)


def spots(heights: list[float], width: float = 6.0) -> torch.Tensor:
    """A patch of Gaussian columns: one in the middle, the others evenly around it."""
    axis = torch.arange(SIZE, dtype=torch.float64) - (SIZE - 1) / 2
    around = 2 * math.pi * torch.arange(len(heights) - 1, dtype=torch.float64) / max(len(heights) - 1, 1)
    row = torch.cat([torch.zeros(1), -6 * torch.sin(around)])[:, None]
    col = torch.cat([torch.zeros(1), 6 * torch.cos(around)])[:, None]
    height = torch.tensor(heights, dtype=torch.float64)
    down, across = torch.exp(-((axis - row) ** 2) / width), torch.exp(-((axis - col) ** 2) / width)
    return torch.einsum("s,sr,sc->rc", height, down, across)


def moments_of(patches: torch.Tensor, basis: ZernikeBasis) -> torch.Tensor:
    return basis(patches.float()).double()


BASIS = ZernikeBasis(10, SIZE)
RADIUS = torch.hypot(*torch.meshgrid(*[torch.arange(SIZE) - (SIZE - 1) / 2] * 2, indexing="ij"))
KERNELS = moments_of(torch.eye(SIZE**2).reshape(-1, SIZE, SIZE), BASIS)  # what each pixel adds to the moments
FULL, HALF = (0.2 + spots([height] + [1.0] * 3) for height in (4.0, 2.0))


def cumulants(rate: torch.Tensor, axes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Second and third cumulants of the moments of Poisson counts: sums over the pixels."""
    along = KERNELS @ axes
    second = torch.einsum("p,pa,pb->ab", rate.flatten(), along, along)
    return second, torch.einsum("p,pa,pb,pc->abc", rate.flatten(), along, along, along)


SMALL = ZernikeBasis(6, SIZE)


def spot(row: float, col: float) -> torch.Tensor:
    """The direction in moment space in which there is more of a column at a place, but for a slope."""
    axis = torch.arange(SIZE) - (SIZE - 1) / 2
    patch = torch.exp(-((axis - row) ** 2) / 9)[:, None] * torch.exp(-((axis - col) ** 2) / 9)
    moments = moments_of(patch[None], SMALL)[0]
    moments[:3] = 0
    return moments / moments.norm()


UP, RIGHT = spot(-4, 0), spot(0, 4)


def components(
    step: float,
    intrinsic: float = 0.0,
    noise: tuple[float, float] = (1.0, 1.0),
    skew: tuple[float, float] = (0.0, 0.0),
    share: float = 0.5,
) -> Components:
    return Components(np.array([step]), np.array([intrinsic]), np.array([noise]), np.array([skew]), share)


class WhiteNoise(CountingNoise):
    """Noise of moments that scatter by 1."""

    def __init__(self, k: int) -> None:
        self.k = k

    def offsets_of(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.ones(len(rows), 1)

    def covariances(self, means: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        return torch.eye(self.k, dtype=torch.float64).expand(len(means), -1, -1)

    def cumulants(self, patch: torch.Tensor, axes: torch.Tensor, *, level: bool = True) -> tuple:  # noqa: ARG002
        return axes.T @ axes, axes.new_zeros((axes.shape[1],) * 3)

    def askew(self, means: torch.Tensor, directions: torch.Tensor, scale: float) -> tuple:  # noqa: ARG002
        return (torch.zeros(directions.shape[:2]),) * 2

    def first_minimum(self, mean: torch.Tensor) -> float:  # noqa: ARG002
        return math.inf


def in_white_noise(moments: torch.Tensor, basis: ZernikeBasis = SMALL) -> Groups:
    """All columns as one group."""
    rows = [torch.arange(len(moments))]
    return Groups(moments.float(), rows, WhiteNoise(moments.shape[1]), basis, 1.0)


def parted(values: torch.Tensor, threshold: float) -> tuple[Points, Pairs]:
    """Values along one axis, and two components that begin on both sides of a threshold."""
    x = (values - values.mean()).float()
    places = torch.stack([x, torch.ones_like(x)], 1)[None]
    spread = x.var(correction=0).reshape(1, 1)
    n = torch.tensor([float(len(x))])
    points = Points(places, places / n, torch.zeros(1, dtype=torch.long), n, spread)
    second = (values > threshold).float()[None, :, None]
    return points, Pairs.maximising(points, points.sums(second), torch.ones(1, 1))
