"""Recall and precision of the columns of simulated MoSe2 at low dose.

    python benchmarks/columns/columns_low_dose.py [DRAWS [DOSE]]

Each draw has vacancies, orientation and noise of its own. The seeds start where no threshold was chosen by them. A
column is found if one of those found is within a third of the spacing; columns cut by the rim, eight pixels, do not count.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree

import torchmotif as tm

SIDE, PIXEL_NM, RIM = 256, 0.015, 8
FIRST_SEED = 7000
TOLERANCE = 0.3289 / math.sqrt(3) / PIXEL_NM / 3
RESULTS = Path(__file__).parents[1] / "results" / "columns_low_dose.json"


def share_near(points: np.ndarray, others: np.ndarray) -> float:
    """Of the points inside the rim, the share that has one of the others near."""
    inner = points[((points > RIM) & (points < SIDE - 1 - RIM)).all(axis=1)]
    return float((cKDTree(others).query(inner)[0] < TOLERANCE).mean())


def draw(seed: int, dose: float) -> dict[str, float]:
    """Recall and precision of one draw, default arguments."""
    rotation = np.random.default_rng(seed).uniform(0, math.pi / 3)
    specimen = tm.datasets.mose2((SIDE, SIDE), PIXEL_NM, rotation_rad=rotation, random_state=seed)
    image = specimen.draw(dose, torch.Generator().manual_seed(seed))
    found, truth = tm.find_columns(image).positions.numpy(), specimen.truth.positions.numpy()
    return {
        "seed": seed,
        "dose": dose,
        "columns": len(found),
        "recall": share_near(truth, found),
        "precision": share_near(found, truth),
    }


def main() -> None:
    """All draws, their mean and worst; write the results."""
    draws = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    dose = float(sys.argv[2]) if len(sys.argv) > 2 else 1 / 50
    rows = [draw(FIRST_SEED + number, dose) for number in range(draws)]
    for row in rows:
        print(" ".join(f"{k}={v:.4g}" for k, v in row.items()))
    summary = {
        f"{name}_{key}": float(take([row[name] for row in rows]))
        for name in ("recall", "precision")
        for key, take in (("mean", np.mean), ("worst", np.min))
    }
    print(" ".join(f"{k}={v:.4f}" for k, v in summary.items()))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"draws": rows, **summary}, indent=1) + "\n")


if __name__ == "__main__":
    main()
