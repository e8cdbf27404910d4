"""ForceLayout beside motif-learn's ForceGraph8: time, neighbours kept, growth with the number of points.

Run ``python benchmarks/motifs/layout.py`` with motif-learn 0.1.2 and numba installed. Features are the Zernike moments of
simulated MoSe2 columns (6 % vacancies, 0.15 A/px, 10 electrons per pixel at relative dose 1).
"""

import argparse
import contextlib
import io
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors

import torchmotif as tm
from torchmotif.patches import inside

RESULTS = Path(__file__).parents[1] / "results"
PATCH_PX = 37
NEIGHBOURS = 10
RELEASED = {"num_negative_samples": 10, "force_params2": (2, 4, 5, 2)}  # defaults of motif-learn 0.1.2
PUBLISHED = {"num_negative_samples": 5, "force_params2": (2, 5, 5, 1)}

Layout = Callable[[np.ndarray], np.ndarray]


def moments(n: int, dose: float) -> np.ndarray:
    """Zernike moments of n columns of a simulated field."""
    side = int(np.sqrt(n * 250) + 4 * PATCH_PX)
    specimen = tm.datasets.mose2((side, side))
    image = specimen.draw(dose, torch.Generator().manual_seed(0))
    positions = np.asarray(specimen.truth.positions)
    kept = positions[inside(positions, (side, side), PATCH_PX)]
    patches = torch.as_tensor(tm.extract_patches(image, kept, PATCH_PX)).float()
    features: np.ndarray = tm.ZernikeBasis(10, PATCH_PX)(patches - patches.mean()).numpy()
    assert len(features) >= n, f"{len(features)} columns in a field of {side} px, {n} wanted"
    return features[np.random.default_rng(0).permutation(len(features))[:n]]


def neighbours(points: np.ndarray, metric: str) -> np.ndarray:
    """The nearest other rows, by scikit-learn."""
    search = NearestNeighbors(n_neighbors=NEIGHBOURS, metric=metric).fit(points)
    found: np.ndarray = search.kneighbors(return_distance=False)
    return found


def kept(before: np.ndarray, layout: np.ndarray) -> float:
    """Share of the neighbours in feature space that are neighbours in the layout."""
    after = neighbours(layout, "euclidean")
    return float((before[:, :, None] == after[:, None, :]).any(axis=2).mean())


def ours(**parameters: object) -> Layout:
    return lambda X: np.asarray(tm.ForceLayout(**parameters).fit_transform(X))


def theirs(**parameters: object) -> Layout:
    from mtflearn.manifold import ForceGraph8

    def layout(X: np.ndarray) -> np.ndarray:
        with contextlib.redirect_stdout(io.StringIO()):
            return np.asarray(ForceGraph8(**parameters).fit_transform(X))

    return layout


def compare(methods: dict[str, Layout], X: np.ndarray, repeats: int) -> list[dict[str, object]]:
    """Median wall and processor time and neighbours kept of every method, run in turn."""
    before = neighbours(X, "correlation")
    wall: dict[str, list[float]] = {name: [] for name in methods}
    processor: dict[str, list[float]] = {name: [] for name in methods}
    shares: dict[str, float] = {}
    for _ in range(repeats):
        for name, method in methods.items():
            start = time.perf_counter(), time.process_time()
            layout = method(X)
            wall[name].append(time.perf_counter() - start[0])
            processor[name].append(time.process_time() - start[1])
            shares[name] = kept(before, layout)
    return [
        {
            "method": name,
            "points": len(X),
            "wall_s": round(statistics.median(wall[name]), 2),
            "processor_s": round(statistics.median(processor[name]), 2),
            "kept": round(shares[name], 4),
        }
        for name in methods
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--growth", type=int, nargs="*", default=[2_500, 5_000, 10_000, 20_000, 40_000])
    parser.add_argument("--doses", type=float, nargs="*", default=[1.0, 0.05])
    options = parser.parse_args()
    published = {"negative_samples": 5, "second_stage": (2, 5, 5, 1)}
    methods = {
        "ForceLayout, published forces": ours(**published),
        "ForceGraph8, published forces": theirs(**PUBLISHED),
        "ForceLayout, defaults (released forces)": ours(),
        "ForceGraph8, defaults (released forces)": theirs(**RELEASED),
    }
    for method in methods.values():  # compile and warm up
        method(moments(500, 1.0))
    rows: list[dict[str, object]] = []
    print("| dose | method | points | wall, s | processor, s | neighbours kept |\n|---|---|---|---|---|---|")
    for dose in options.doses:
        for row in compare(methods, moments(options.points, dose), options.repeats):
            rows.append({"dose": dose, **row})
            print("| " + " | ".join(str(value) for value in rows[-1].values()) + " |", flush=True)
    print("\n| points | ForceLayout, processor s |\n|---|---|")
    growth = []
    for n in options.growth:
        X = moments(n, 1.0)
        start = time.process_time()
        tm.ForceLayout().fit(X)
        growth.append({"points": n, "processor_s": round(time.process_time() - start, 2)})
        print(f"| {n} | {growth[-1]['processor_s']} |", flush=True)
    RESULTS.mkdir(exist_ok=True)
    record = {"threads": torch.get_num_threads(), "methods": rows, "growth": growth}
    (RESULTS / "layout.json").write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
