"""Columns of exactly known shape, and the Cramer-Rao bound of what can be known of them."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from torchmotif.datasets import Specimen, with_edge, with_patch
from torchmotif.datasets.render import Window, gaussians


@dataclass(frozen=True)
class Scene:
    """Round Gaussian columns on a flat background: the mean counts."""

    positions: Tensor  # (n, 2)
    intensities: Tensor  # (n,)
    sigma: float
    background: float
    shape: tuple[int, int]

    def expected(self, dose: float = 1.0) -> Tensor:
        image = gaussians(Window(0, 0, *self.shape), self.positions, self.intensities, self.sigma)
        return dose * (image + self.background)

    def draw(self, dose: float = 1.0, seed: int = 0) -> Tensor:
        return torch.poisson(self.expected(dose), generator=torch.Generator().manual_seed(seed))

    def bound(self, dose: float = 1.0) -> np.ndarray:
        """Standard deviations (n, 3) of intensity, row and column: Poisson noise, all columns unknown, width and
        background known. Intensities are per unit dose."""
        rows, cols = (torch.arange(length, dtype=torch.float64) for length in self.shape)
        expected = self.expected(dose).double()
        derivatives = []
        for (r, c), intensity in zip(self.positions.tolist(), self.intensities.tolist(), strict=True):
            u, v = (
                torch.exp(-((axis - centre) ** 2) / (2 * self.sigma**2))
                / (math.sqrt(2 * math.pi) * self.sigma)
                for axis, centre in ((rows, r), (cols, c))
            )
            du, dv = (p * (axis - x) / self.sigma**2 for p, axis, x in ((u, rows, r), (v, cols, c)))
            for factor, a, b in ((1.0, u, v), (intensity, du, v), (intensity, u, dv)):
                derivatives.append((dose * factor * a[:, None] * b[None, :]).flatten())
        jacobian = torch.stack(derivatives)
        information = (jacobian / expected.flatten()) @ jacobian.T
        return torch.linalg.inv(information).diagonal().sqrt().view(-1, 3).numpy()


def honeycomb(
    side: int = 160,
    a: float = 22.0,
    sigma: float = 3.0,
    vacancy: float = 0.1,
    seed: int = 0,
    *,
    other: float = 2500.0,
) -> Scene:
    """MoSe2-like columns in a square image: intensities 1800, 2500 and 1250 counts (vacancies), or others and half of them."""
    rng = np.random.default_rng(seed)
    first, second = np.array([0.0, a]), np.array([-math.sqrt(3) / 2 * a, a / 2])
    turn = np.array([[math.cos(0.2), -math.sin(0.2)], [math.sin(0.2), math.cos(0.2)]])
    i, j = (x.reshape(-1, 1) for x in np.mgrid[-20:21, -20:21])
    cells = i * first + j * second
    positions = np.concatenate([cells, cells + (first + second) / 3]) @ turn.T + side / 2
    intensities = np.where(np.arange(len(positions)) < len(cells), 1800.0, other)
    intensities[(intensities == other) & (rng.random(len(positions)) < vacancy)] = other / 2
    kept = ((positions > -8) & (positions < side + 7)).all(axis=1)
    return Scene(
        torch.as_tensor(positions[kept]), torch.as_tensor(intensities[kept]), sigma, 0.5, (side, side)
    )


def dumbbells(side: int = 160, pitch: float = 26.0, gap: float = 8.0, sigma: float = 3.0) -> Scene:
    """Pairs of columns 2.7 widths apart on a square lattice."""
    at = np.arange(pitch / 2, side - pitch / 3, pitch)
    middles = np.stack(np.meshgrid(at, at, indexing="ij"), axis=-1).reshape(-1, 2)
    half = np.array([0.3, 0.954]) * gap / 2
    positions = torch.as_tensor(np.concatenate([middles - half, middles + half]))
    intensities = torch.cat(
        [torch.full((len(middles),), 2500.0), torch.full((len(middles),), 1800.0)]
    ).double()
    return Scene(positions, intensities, sigma, 0.5, (side, side))


def recall_and_precision(
    positions: np.ndarray, truth: np.ndarray, side: int, *, border: float
) -> tuple[float, float]:
    """Within 0.3 of the distance of true neighbours, so many of these distances from the border of a square image on."""
    near = float(np.median(np.asarray(cKDTree(truth).query(truth, k=2)[0])[:, 1]))

    def inner(at: np.ndarray) -> np.ndarray:
        kept: np.ndarray = at[((at > border * near) & (at < side - 1 - border * near)).all(axis=1)]
        return kept

    recall, precision = (
        (np.asarray(cKDTree(there).query(inner(at))[0]) < 0.3 * near).mean()
        for there, at in ((positions, truth), (truth, positions))
    )
    return float(recall), float(precision)


STEPPED: dict[str, Callable[[Specimen, float, float], Specimen]] = {
    "edge": lambda specimen, high, wide: with_edge(specimen, high, edge_px=wide),
    "substrate": lambda specimen, high, wide: with_edge(specimen, high, edge_px=wide, crystal="everywhere"),
    "patch": lambda specimen, high, wide: with_patch(specimen, high, edge_px=wide),
}


def drawn(specimen: Specimen, seed: int = 0) -> torch.Tensor:
    """Counts of its own dose."""
    return torch.as_tensor(specimen.draw(1.0, torch.Generator().manual_seed(seed)).data)
