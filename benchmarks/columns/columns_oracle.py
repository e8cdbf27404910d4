"""How well columns can be fitted where nothing has to be found: maximum likelihood from the truth on, at 1/50 of the dose.

    python benchmarks/columns/columns_oracle.py [DRAWS]

Pairs of columns 2.7 widths apart and, in a smaller image and ten times the draws, the honeycomb with vacancies of
columns_precision.py. The fit knows how many columns there are, their width and the background, and sets out from the
true positions and intensities: what it lacks of the Cramer-Rao bound no search can make good.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "columns"))
from probes import Scene, dumbbells, honeycomb

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


def fitted(scene: Scene, counts: Tensor, free: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Intensities and positions of greatest likelihood, (n, 3), and their claimed errors; only `free` columns are fitted."""

    def likelihood(expected: Tensor) -> float:
        return float((counts * expected.log() - expected).sum())

    columns = torch.cat([scene.intensities[:, None], scene.positions], dim=1).double()
    unknown = free.repeat_interleave(3)
    for _ in range(STEPS):
        expected, jacobian = model(scene, columns)
        jacobian = jacobian[unknown]
        score = jacobian @ ((counts - expected) / expected)
        step = torch.zeros_like(columns)
        step[free] = torch.linalg.solve((jacobian / expected) @ jacobian.T, score).view(-1, 3)
        for _ in range(HALVINGS):
            tried = columns + step
            tried[:, 0].clamp_(min=1.0)
            if likelihood(model(scene, tried)[0]) >= likelihood(expected):
                break
            step /= 2
        columns = tried
        if float(step[:, 1:].abs().max()) < NEAR:
            break
    return columns.numpy(), claimed(scene, columns, free)


def claimed(scene: Scene, columns: Tensor, free: Tensor) -> np.ndarray:
    """Standard deviations (n, 3) by the Cramer-Rao bound at the given columns, those of `free` ones unknown."""
    expected, jacobian = model(scene, columns)
    jacobian = jacobian[free.repeat_interleave(3)]
    errors = torch.full_like(columns, torch.nan)
    errors[free] = torch.linalg.inv((jacobian / expected) @ jacobian.T).diagonal().sqrt().view(-1, 3)
    return errors.numpy()


def report(name: str, scene: Scene, draws: int) -> None:
    """Print the ratio to the bound, z with its standard error, and the bias of each kind of column."""
    truth = torch.cat([scene.intensities[:, None], scene.positions], dim=1).double()
    side = scene.shape[0]
    free = ((truth[:, 1:] > -1) & (truth[:, 1:] < side)).all(
        dim=1
    )  # further out the image tells nothing of them
    inner = ((truth[:, 1:] > 14) & (truth[:, 1:] < side - 15)).all(dim=1).numpy()
    bound = claimed(scene, truth, free)
    fits = [fitted(scene, scene.draw(DOSE, seed).double().flatten(), free) for seed in range(draws)]
    for kind in sorted(set(truth[inner, 0].tolist())):
        which = inner & (truth[:, 0].numpy() == kind)
        error = np.concatenate([(columns - truth.numpy())[which] for columns, _ in fits])
        claim = np.concatenate([claims[which] for _, claims in fits])
        limit = np.tile(bound[which], (draws, 1))
        lost = np.hypot(error[:, 1], error[:, 2]) >= scene.sigma
        print(
            f"{name}, {kind * DOSE:.0f} counts: {int(lost.sum())} of {len(lost)} more than a width from the truth"
        )
        error, claim, limit = error[~lost], claim[~lost], limit[~lost]
        for quantity, part in (("intensity", slice(0, 1)), ("position", slice(1, 3))):
            ratio = np.sqrt((error[:, part] ** 2).mean() / (limit[:, part] ** 2).mean())
            z = (error / claim)[:, part]
            spread = z.std() * np.sqrt((((z - z.mean()) ** 4).mean() / z.var() ** 2 - 1) / z.size) / 2
            bias, by_chance = error[:, part].mean(axis=0), error[:, part].std() / np.sqrt(len(error))
            print(f"  {quantity}: error over bound {ratio:.3f}, z {z.std():.3f} +- {spread:.3f}", end="")
            print(f", bias {np.round(bias, 4).tolist()} +- {by_chance:.4f}")


def main() -> None:
    draws = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    report("pairs", dumbbells(), draws)
    report("honeycomb", honeycomb(side=96, vacancy=0.2, seed=1), 10 * draws)


if __name__ == "__main__":
    main()
