"""Position and intensity errors on probes of exactly known shape, as ratios to the Cramer-Rao bound.

    python benchmarks/columns/columns_precision.py [DRAWS [BIAS_DRAWS]]

The bound takes width and background as known and all positions and intensities as unknown. Columns next to a vacancy
and overlapping pairs (2.7 widths apart) are counted apart, and so are faint columns, a tenth as bright as their neighbours, which only the mean
cell shows: at low doses they are held at the places of the lattice, which are known better than the bound of one column. BIAS_DRAWS is the number of draws of the honeycomb that tell its
bias at a fiftieth of the dose: about 70 columns each, so that 430 draws give a standard error of 0.0035 px; a quarter of
them tells it at the higher doses. Beside the standard deviation of errors over claimed errors stands 1.48 times the
median of their sizes, which few columns that are none do not touch. Doubled are columns around which two were found.
"""

import json
import sys
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

import torchmotif as tm

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "columns"))
from probes import Scene, dumbbells, honeycomb

FAINT = 180.0
_TWICE = 2.0  # widths around a true column: where two were found there it was taken for two
RESULTS = Path(__file__).parents[1] / "results" / "columns_precision.json"


def groups(scene: Scene, inner: np.ndarray) -> dict[str, np.ndarray]:
    """Masks of the kinds of column that are counted apart."""
    truth, intensity = scene.positions.numpy(), scene.intensities.numpy()
    if (intensity == FAINT).any():
        return {"faint columns": inner & (intensity == FAINT)}
    vacancies = truth[intensity == 1250]
    if len(vacancies) == 0:
        return {"overlapping pairs": inner}
    distance = cKDTree(vacancies).query(truth)[0]
    beside = (distance > 1) & (distance < 16)
    return {
        "full columns": inner & (intensity != 1250) & ~beside,
        "beside a vacancy": inner & beside,
        "vacancies": inner & (intensity == 1250),
    }


def measure(scene: Scene, dose: float, spacing: float | None, draws: int) -> list[dict[str, float | str]]:
    """One row per group."""
    truth, side = scene.positions.numpy(), scene.shape[0]
    inner = ((truth > 14) & (truth < side - 15)).all(axis=1)
    bound = scene.bound(dose)
    every = {name: ([], [], []) for name in groups(scene, inner)}
    missed, doubled = dict.fromkeys(every, 0), dict.fromkeys(every, 0)
    for seed in range(draws):
        columns = tm.find_columns(scene.draw(dose, seed).numpy(), spacing=spacing)
        distance, index = cKDTree(columns.positions).query(truth)
        two = cKDTree(columns.positions).query(truth, k=2)[0][:, 1] < _TWICE * scene.sigma
        claims = np.column_stack([columns.intensity_errors / dose, columns.position_errors])
        found = np.column_stack([columns.intensities / dose, columns.positions])
        wanted = np.column_stack([scene.intensities.numpy(), truth])
        for name, mask in groups(scene, inner).items():
            near = mask & (distance < scene.sigma)
            missed[name] += int((mask & ~near).sum())
            doubled[name] += int((mask & two).sum())
            error = found[index[near]] - wanted[near]
            for store, part in zip(every[name], (error, bound[near], claims[index[near]]), strict=True):
                store.append(part)
    rows: list[dict[str, float | str]] = []
    for name, parts in every.items():
        error, limit, claim = (np.concatenate(part) for part in parts)
        z = error / claim
        rows.append(
            {
                "group": name,
                "dose": dose,
                "columns": len(error),
                "missed": missed[name],
                "doubled": doubled[name],
                "bound_px": float(np.sqrt((limit[:, 1:] ** 2).mean())),
                "position_ratio": float(np.sqrt((error[:, 1:] ** 2).mean() / (limit[:, 1:] ** 2).mean())),
                "bias_px": float(np.abs(error[:, 1:].mean(axis=0)).max()),
                "bias_error_px": float(error[:, 1:].std() / np.sqrt(len(error))),
                "intensity_ratio": float(np.sqrt((error[:, 0] ** 2).mean() / (limit[:, 0] ** 2).mean())),
                "z_position": float(z[:, 1:].std()),
                "z_intensity": float(z[:, 0].std()),
                "z_position_median": 1.4826 * float(np.median(np.abs(z[:, 1:]))),
                "z_intensity_median": 1.4826 * float(np.median(np.abs(z[:, 0] - np.median(z[:, 0])))),
            }
        )
    return rows


def main() -> None:
    """Run all scenes and doses, print a table, write the results."""
    draws = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    rows = []
    many = int(sys.argv[2]) if len(sys.argv) > 2 else draws
    for scene, spacing in (
        (honeycomb(), None),
        (dumbbells(), 8.0),
        (honeycomb(vacancy=0.0, other=FAINT), None),
    ):
        for dose in (1.0, 1 / 10, 1 / 50):
            count = draws if spacing else many if dose < 1 / 10 else max(draws, many // 4)
            for row in measure(scene, dose, spacing, count):
                rows.append(row)
                print(
                    " ".join(f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items())
                )
                sys.stdout.flush()
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
