"""PCA beside scikit-learn's: whole matrices and batches, in one process and in turn.

Run ``python benchmarks/motifs/pca.py``.
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA, IncrementalPCA

sys.path.insert(0, str(Path(__file__).parents[1]))
from clock import medians

import torchmotif as tm

RESULTS = Path(__file__).parents[1] / "results"
REPEATS = 3
BATCH = 2_000
SHAPES = ((4_500, 441), (50_000, 66), (256, 1_681))
COMPONENTS = (10,)


def patches(n: int, d: int) -> np.ndarray:
    """Counts in n windows of d pixels: a few smooth directions in Poisson noise."""
    rng = np.random.default_rng(0)
    directions = np.cos(np.outer(np.arange(1, 7), np.linspace(0, np.pi, d)))
    expected = 10 + rng.normal(size=(n, 6)) * [2.0, 1.5, 1.0, 0.7, 0.5, 0.3] @ directions
    return rng.poisson(expected.clip(min=0)).astype(np.float32)


def incremental(X: np.ndarray, k: int) -> object:
    return IncrementalPCA(k, batch_size=BATCH).fit(X)


def streamed(X: np.ndarray, k: int) -> object:
    return tm.PCA(k).fit_batches(X[start : start + BATCH] for start in range(0, len(X), BATCH))


METHODS: dict[str, Callable[[np.ndarray, int], object]] = {
    "torchmotif": lambda X, k: tm.PCA(k).fit(X),
    "scikit-learn": lambda X, k: PCA(k, random_state=0).fit(X),
    "torchmotif, batches": streamed,
    "scikit-learn, batches": incremental,
}


def agreement(X: np.ndarray, k: int) -> float:
    """Least singular value between the spaces of torchmotif and of scikit-learn's exact solver: 1 where they are one."""
    ours, theirs = tm.PCA(k).fit(X).components_, PCA(k, svd_solver="full").fit(X).components_
    return float(np.linalg.svd(ours @ theirs.T)[1].min())


def main() -> None:
    rows = []
    for n, d in SHAPES:
        X = patches(n, d)
        for k in COMPONENTS:
            methods = {name: fit for name, fit in METHODS.items() if "batches" not in name or n >= 2 * BATCH}
            race = {name: partial(fit, X, k) for name, fit in methods.items()}
            seconds = medians(race, REPEATS)
            rows.append(
                {
                    "shape": [n, d],
                    "components": k,
                    **{name: round(value, 3) for name, value in seconds.items()},
                    "agreement_6": round(agreement(X, 6), 6),
                }
            )
    RESULTS.mkdir(exist_ok=True)
    record = {"threads": torch.get_num_threads(), "rows": rows}
    (RESULTS / "pca.json").write_text(json.dumps(record, indent=2) + "\n")
    print(
        "| rows x features | components | " + " | ".join(f"{name}, s" for name in METHODS) + " | agreement |"
    )
    print("|---|---|" + "---|" * (len(METHODS) + 1))
    for row in rows:
        times = " | ".join(str(row.get(name, "-")) for name in METHODS)
        print(
            f"| {row['shape'][0]} x {row['shape'][1]} | {row['components']} | {times} | {row['agreement_6']} |"
        )


if __name__ == "__main__":
    main()
