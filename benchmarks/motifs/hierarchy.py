"""The hierarchy of motifs, measured: run ``python benchmarks/motifs/hierarchy.py [section ...]``.

Sections: pentagons ising faces scaling disorder. Comparisons need shapely and motif-learn 0.1.2; where one is
missing its column is empty. Times are medians of interleaved runs in one process.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from clock import medians

import torchmotif as tm
from torchmotif.hierarchy import compose
from torchmotif.plane_graph.embedding import Embedding
from torchmotif.plane_graph.faces import darts_by_angle
from torchmotif.statistics import assembly_statistics, fit_ising

HERE = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("TORCHMOTIF_DATA", HERE.parents[1] / "shared" / "data"))


def centres() -> np.ndarray:
    return np.loadtxt(DATA / "POM_pentagon_centres.csv", delimiter=",", skiprows=1)


def metropolis(
    graph: tm.PlaneGraph, colour: np.ndarray, coupling: float, seed: int, sweeps: int = 200
) -> np.ndarray:
    """An Ising configuration by Metropolis updates of one colour of nodes at a time."""
    random = np.random.default_rng(seed)
    adjacency = graph.adjacency().astype(float)
    spins = random.choice([-1.0, 1.0], len(graph))
    for _ in range(sweeps):
        for one in range(colour.max() + 1):
            gain = 2 * coupling * spins * (adjacency @ spins)
            flip = (colour == one) & (random.random(len(graph)) < np.exp(-np.maximum(gain, 0)))
            spins[flip] *= -1
    return spins


def pentagons() -> dict[str, Any]:
    """Pentagon centres: graph, faces, figures, the mean cell."""
    points = centres()
    time_s = medians({"graph": lambda: tm.PlaneGraph.from_positions(points).faces}, 5)["graph"]
    graph = tm.PlaneGraph.from_positions(points)
    tiling = graph.tiling()
    return {
        "graph_and_faces_s": time_s,
        "rings": graph.ring_statistics(),
        "figures": {".".join(map(str, figure)): n for figure, n in tiling.counts.items()},
        "tiling": str(tiling),
    }


def ising() -> dict[str, Any]:
    """Couplings recovered, assemblies up to five pentagons counted, how many are called significant."""
    graph = tm.PlaneGraph.from_positions(centres())
    result: dict[str, Any] = {}
    colours = nx.greedy_color(graph.to_networkx(), "smallest_last")
    colour = np.array([colours[i] for i in range(len(graph))])
    for coupling in (-0.3, 0.0, 0.25):
        labelled = [
            graph.with_labels((metropolis(graph, colour, coupling, seed) > 0).astype(int))
            for seed in range(6)
        ]
        found = np.array([fit_ising(one).coupling for one in labelled]) - coupling
        start = time.perf_counter()
        hierarchy = tm.MotifHierarchy(5).fit(labelled[0])
        fit_s = time.perf_counter() - start
        row: dict[str, Any] = {
            "first_error": found[0],
            "largest_error_of_6": np.abs(found).max(),
            "rms_error_of_6": (found**2).mean() ** 0.5,
            "count_s": fit_s,
            "assemblies": [len(level) for level in hierarchy.levels_],
            "occurrences": [len(level.assembly) for level in hierarchy.levels_],
        }
        for null in ("shuffled", "ising"):
            start = time.perf_counter()
            table = assembly_statistics(hierarchy, null=null, n_samples=50).table
            row[f"significant_{null}"] = float((table["character"] != "neutral").mean())
            row[f"statistics_{null}_s"] = time.perf_counter() - start
        result[f"J={coupling}"] = row
    return result


def honeycomb(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """About `count` noisy columns of a honeycomb, and its edges."""
    n = round((count / 2) ** 0.5)
    grid = np.stack(np.meshgrid(range(n), range(n), indexing="ij"), axis=-1).reshape(-1, 2)
    oblique = 10 * 3**0.5 * grid @ np.array([[3**0.5 / 2, 0.5], [0, 1]])
    points = np.concatenate([oblique, oblique + 10 * 3**0.5 * np.array([3**0.5 / 2, 1.5]) / 3])
    points = points + np.random.default_rng(seed).normal(scale=0.4, size=points.shape)
    return points, tm.PlaneGraph.from_positions(points).edges


def our_faces(points: np.ndarray, edges: np.ndarray) -> Any:
    return Embedding(points, edges, darts_by_angle(points, edges), None).faces


def faces() -> dict[str, Any]:
    """Faces of 20,000 columns against motif-learn and shapely, from the same positions and edges."""
    points, edges = honeycomb(20_000)
    runs: dict[str, Callable[[], Any]] = {"torchmotif": lambda: our_faces(points, edges)}
    result: dict[str, Any] = {"columns": len(points)}
    try:
        import shapely

        lines = shapely.linestrings(points[edges])
        runs["shapely"] = lambda: shapely.polygonize(lines)
        theirs = shapely.get_parts(shapely.polygonize(lines))
        ours = our_faces(points, edges)
        known = {frozenset(map(tuple, points[face].tolist())) for face in ours}
        given = {frozenset(map(tuple, shapely.get_coordinates(one).tolist())) for one in theirs}
        result["same_polygons_as_shapely"] = known == given
        result["polygons"] = len(ours)
        hollow = np.random.default_rng(3).random(len(edges)) > 0.02  # bonds missing at random: larger faces
        kept = edges[hollow]
        ours = our_faces(points, kept)
        theirs = shapely.get_parts(shapely.polygonize(shapely.linestrings(points[kept])))
        result["same_areas_with_missing_bonds"] = bool(
            len(ours) == len(theirs) and np.allclose(np.sort(ours.areas), np.sort(shapely.area(theirs)))
        )
    except ImportError:
        pass
    fast = medians(runs, 9)
    try:
        from mtflearn.graph.find_regions import find_regions

        both = np.concatenate([edges, edges[:, ::-1]])
        slow = {
            "torchmotif": runs["torchmotif"],
            "motif-learn": lambda: find_regions(points, both, return_dict=False),
        }
        fast |= {"motif-learn": medians(slow, 3)["motif-learn"]}
    except ImportError:
        pass
    result["seconds"] = fast
    result["ratio"] = {
        name: value / fast["torchmotif"] for name, value in fast.items() if name != "torchmotif"
    }
    return result


def scaling() -> dict[str, Any]:
    """Time of graph and faces against the number of columns."""
    result = {}
    for count in (10_000, 100_000, 1_000_000):
        points, edges = honeycomb(count)
        runs = {
            "faces_s": lambda: our_faces(points, edges),  # noqa: B023
            "graph_s": lambda: tm.PlaneGraph.from_positions(points),  # noqa: B023
        }
        result[str(len(points))] = medians(runs, 3 if count < 10**6 else 1)
    return result


def disorder() -> dict[str, Any]:
    """Description length per column of simulated MoSe2."""
    result = {}
    for name, rate in {"perfect": 0.0, "1 %": 0.01, "6 %": 0.06, "20 %": 0.2, "random": None}.items():
        bits = []
        for seed in range(4):
            specimen = tm.datasets.mose2(
                (700, 700), vacancy_rate=0.2 if rate is None else rate, random_state=seed
            )
            kinds = specimen.truth.kinds.astype(str)
            if rate is None:
                kinds = np.random.default_rng(seed).permutation(kinds)
            bits.append(
                compose(tm.PlaneGraph.from_positions(specimen.truth.positions, kinds)).bits_per_column
            )
        result[name] = {
            "bits_per_column": float(np.mean(bits)),
            "standard_deviation": float(np.std(bits, ddof=1)),
        }
    return result


SECTIONS = {f.__name__: f for f in (pentagons, ising, faces, scaling, disorder)}


def main() -> None:
    path = HERE / "results" / "hierarchy.json"
    path.parent.mkdir(exist_ok=True)
    results = json.loads(path.read_text()) if path.exists() else {}
    for name in sys.argv[1:] or SECTIONS:
        results[name] = SECTIONS[name]()
        print(name)
        for key, value in results[name].items():
            print(f"  {key}: {value}")
        path.write_text(json.dumps(results, indent=1, default=float) + "\n")


if __name__ == "__main__":
    main()
