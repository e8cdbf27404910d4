"""Columns within 4 px of an image's border, of which a part is cut off: recall, and how far from the truth they are found.

    python benchmarks/columns/at_border.py [--draws 3] [--doses 1 0.3 0.1 0.03]

A column is found within a quarter of the nearest distance. False ones are those farther from all true columns, more than half a pixel
inside the image: nearer to the border lie columns beyond it, which the truth does not hold.
"""

import argparse
from collections.abc import Callable

import numpy as np
import torch
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.datasets import Specimen, mose2, mx2, perovskite, square

SIDE, CUT_OFF = 256, 4.0
SHAPE = (SIDE, SIDE)
SPECIMENS: dict[str, Callable[[], Specimen]] = {
    "MoSe2": lambda: mose2(SHAPE),
    "WS2": lambda: mx2("W", "S", SHAPE),
    "perovskite": lambda: perovskite(SHAPE),
    "square": lambda: square(SHAPE),
}


def depth(at: np.ndarray) -> np.ndarray:
    """Distance from the border, negative outside."""
    found: np.ndarray = np.minimum(at, SIDE - 1 - at).min(1)
    return found


def main() -> None:
    """Print a row for every specimen and dose."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--doses", type=float, nargs="+", default=[1.0, 0.3, 0.1, 0.03])
    given = parser.parse_args()
    shares = []
    for name, make in SPECIMENS.items():
        specimen = make()
        truth = np.asarray(specimen.truth.positions)
        near = 0.25 * np.median(cKDTree(truth).query(truth, k=2)[0][:, 1])
        cut = truth[(depth(truth) > -0.5) & (depth(truth) < CUT_OFF)]
        for dose in given.doses:
            away, false = [], 0
            for seed in range(given.draws):
                image = specimen.draw(dose, torch.Generator().manual_seed(seed))
                try:
                    found = np.asarray(tm.find_columns(image).positions)
                except tm.errors.InputError:
                    found = np.full((1, 2), np.inf)  # none
                away.append(cKDTree(found).query(cut)[0])
                found = found[(depth(found) > 0.5) & (depth(found) < CUT_OFF)]
                false += int((cKDTree(truth).query(found)[0] > near).sum())
            distance = np.concatenate(away)
            shares.append(float((distance < near).mean()))
            rms = float(np.sqrt(np.square(distance[distance < near]).sum() / max(1, (distance < near).sum())))
            print(
                f"{name}, dose {dose:g}: recall {shares[-1]:.3f} of {len(distance)}, {rms:.2f} px off, {false} false"
            )
    print(f"mean recall {np.mean(shares):.3f}, least {min(shares):.3f}")


if __name__ == "__main__":
    main()
