"""Finding and refining columns: torchmotif against atomap (GPL; in an environment of its own), time and error.

    python benchmarks/columns/columns_atomap.py [SIDE]

atomap is given the separation of the columns, torchmotif is not.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree

import torchmotif as tm

RESULTS = Path(__file__).parents[1] / "results" / "columns_atomap.json"


def by_atomap(image: np.ndarray, separation: int) -> np.ndarray:
    """Positions (row, col) by atomap's peaks, centres of mass and Gaussian fits."""
    import atomap.api as am
    from hyperspy.signals import Signal2D

    positions = am.get_atom_positions(Signal2D(image), separation=separation, pca=False)
    sublattice = am.Sublattice(positions, image=image)
    sublattice.find_nearest_neighbors()
    sublattice.refine_atom_positions_using_center_of_mass(show_progressbar=False)
    sublattice.refine_atom_positions_using_2d_gaussian(show_progressbar=False)
    return np.column_stack([sublattice.y_position, sublattice.x_position])


def main() -> None:
    """Run both on the same draws, print a table, write the results."""
    side = int(sys.argv[1]) if len(sys.argv) > 1 else 256
    specimen = tm.datasets.mose2((side, side))
    truth = specimen.truth.positions.numpy()
    inner = ((truth > 14) & (truth < side - 15)).all(axis=1)
    rows = []
    for dose in (1.0, 1 / 10, 1 / 50):
        image = specimen.draw(dose, torch.Generator().manual_seed(0)).data.numpy().astype(np.float64)
        for name, run in (
            ("torchmotif", lambda image=image: tm.find_columns(image).positions),
            ("atomap", lambda image=image: by_atomap(image, 8)),
        ):
            begin, busy = time.perf_counter(), time.process_time()
            found = run()
            seconds, cpu = time.perf_counter() - begin, time.process_time() - busy
            distance = cKDTree(found).query(truth[inner])[0]
            away = cKDTree(truth).query(found[((found > 8) & (found < side - 9)).all(axis=1)])[0]
            near = distance < 4
            rows.append(
                {
                    "method": name,
                    "dose": dose,
                    "seconds": seconds,
                    "cpu_seconds": cpu,
                    "recall": float(near.mean()),
                    "precision": float((away < 4).mean()),
                    "rms_px": float(np.sqrt((distance[near] ** 2).mean() / 2)),
                }
            )
            print(rows[-1], flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
