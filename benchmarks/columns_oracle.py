"""How well columns can be fitted where nothing has to be found: maximum likelihood from the truth on, at 1/50 of the dose.

    python benchmarks/columns_oracle.py [DRAWS]

Pairs of columns 2.7 widths apart, as in columns_precision.py. The fit knows how many columns there are, their width and
the background, and sets out from the true positions and intensities: what it lacks of the Cramer-Rao bound no search
can make good.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "columns"))
from probes import Scene, dumbbells

DOSE = 1 / 50
STEPS, HALVINGS, NEAR = 60, 12, 1e-4  # of Fisher scoring; pixels


def model(scene: Scene, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Expected counts (p,), and their derivatives (3 n, p) by intensity, row and column of each column."""
    waves, slopes = [], []
    for axis in (0, 1):
        step = torch.arange(scene.shape[axis], dtype=torch.float64) - columns[:, axis + 1, None]
        wave = torch.exp(-(step**2) / (2 * scene.sigma**2)) / (np.sqrt(2 * np.pi) * scene.sigma)
        waves.append(wave)
        slopes.append(wave * step / scene.sigma**2)
    (u, v), (du, dv) = waves, slopes
    pictures = [torch.einsum("nr,nc->nrc", a, b) for a, b in ((u, v), (du, v), (u, dv))]
    derivatives = DOSE * torch.stack([pictures[0], *(columns[:, 0, None, None] * p for p in pictures[1:])], 1)
    expected = DOSE * (torch.einsum("n,nrc->rc", columns[:, 0], pictures[0]) + scene.background)
    return expected.flatten(), derivatives.flatten(2).flatten(0, 1)


def fitted(scene: Scene, counts: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Intensities and positions of greatest likelihood, (n, 3), and their claimed errors."""

    def likelihood(expected: Tensor) -> float:
        return float((counts * expected.log() - expected).sum())

    columns = torch.cat([scene.intensities[:, None], scene.positions], dim=1).double()
    for _ in range(STEPS):
        expected, jacobian = model(scene, columns)
        score = jacobian @ ((counts - expected) / expected)
        step = torch.linalg.solve((jacobian / expected) @ jacobian.T, score).view(-1, 3)
        for _ in range(HALVINGS):
            tried = columns + step
            tried[:, 0].clamp_(min=1.0)
            if likelihood(model(scene, tried)[0]) >= likelihood(expected):
                break
            step /= 2
        columns = tried
        if float(step[:, 1:].abs().max()) < NEAR:
            break
    expected, jacobian = model(scene, columns)
    covariance = torch.linalg.inv((jacobian / expected) @ jacobian.T)
    return columns.numpy(), covariance.diagonal().sqrt().view(-1, 3).numpy()


def main() -> None:
    draws = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    scene = dumbbells()
    truth = np.column_stack([scene.intensities.numpy(), scene.positions.numpy()])
    inner = ((truth[:, 1:] > 14) & (truth[:, 1:] < scene.shape[0] - 15)).all(axis=1)
    fits = [fitted(scene, scene.draw(DOSE, seed).double().flatten()) for seed in range(draws)]
    errors = np.concatenate([(columns - truth)[inner] for columns, _ in fits])
    claims = np.concatenate([claim[inner] for _, claim in fits])
    bound = np.tile(scene.bound(DOSE)[inner], (draws, 1))
    lost = np.hypot(errors[:, 1], errors[:, 2]) >= scene.sigma
    for name, part in (("intensity", slice(0, 1)), ("position", slice(1, 3))):
        ratio = np.sqrt((errors[:, part] ** 2).mean() / (bound[:, part] ** 2).mean())
        z = (errors / claims)[:, part].std()
        print(f"{name}: error over bound {ratio:.2f}, z {z:.2f}")
    print(f"{int(lost.sum())} of {len(lost)} columns more than a width from the truth")


if __name__ == "__main__":
    main()
