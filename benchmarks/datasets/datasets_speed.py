"""How fast specimens are made, and how much memory a very large field takes in tiles.

Run: python benchmarks/datasets/datasets_speed.py [made] [field]; both by default.
"""

import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import torchmotif as tm

RESULTS = Path(__file__).parents[1] / "results"
REPEATS = 3


def timed(make: Callable[[], tm.datasets.Specimen]) -> dict[str, Any]:
    """Median seconds to a specimen with its image, the first time apart; processor seconds besides, all cores summed."""
    seconds, busy, columns = [], [], 0
    for _ in range(REPEATS + 1):
        start, spent = time.perf_counter(), time.process_time()
        specimen = make()
        specimen.image.data.sum()
        seconds.append(time.perf_counter() - start)
        busy.append(time.process_time() - spent)
        columns = len(specimen.truth)
    return {
        "first s": round(seconds[0], 2),
        "median s": round(statistics.median(seconds[1:]), 2),
        "least s": round(min(seconds[1:]), 2),
        "median processor s": round(statistics.median(busy[1:]), 2),
        "columns": columns,
    }


def large_field(side: int) -> dict[str, Any]:
    """A field drawn tile by tile: seconds, and how the peak of memory grows after the truth is made."""
    generator = torch.Generator().manual_seed(0)
    start = time.perf_counter()
    specimen = tm.datasets.mose2((side, side))
    truth_s = time.perf_counter() - start
    peaks, columns, electrons = [], 0, 0.0
    for _, tile in specimen.tiles(1024):
        electrons += float(tile.draw(1 / 10, generator).data.sum(dtype=torch.float64))
        columns += len(tile.truth)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10)
    return {
        "side px": side,
        "columns": columns,
        "truth s": round(truth_s, 1),
        "all tiles drawn s": round(time.perf_counter() - start - truth_s, 1),
        "processor s, all": round(time.process_time(), 1),
        "peak MiB after the first tile": round(peaks[0]),
        "peak MiB after the last tile": round(peaks[-1]),
        "the whole image would take MiB": round(side**2 * 4 / 2**20),
        "mean electrons per pixel": round(electrons / side**2, 4),
    }


def main() -> None:
    d = tm.datasets
    cases: dict[str, Callable[[], tm.datasets.Specimen]] = {
        "MoSe2 2048 x 2048": lambda: d.mose2((2048, 2048)),
        "MoSe2 2048 x 2048, aberrated probe": lambda: d.mose2(
            (2048, 2048), probe=d.AberratedProbe(a2_nm=20.0)
        ),
        "MoSe2 2048 x 2048, 8 grains": lambda: d.mose2((2048, 2048), grains=8),
        "twisted bilayer 1024 x 1024": lambda: d.twisted_bilayer_mos2(0.05, (1024, 1024), relaxation=0.5),
        "pentagonal oxide 1024 x 1024, J/kT 0.2": lambda: d.pentagonal_oxide((1024, 1024), coupling=0.2),
        "perovskite 1024 x 1024": lambda: d.perovskite((1024, 1024)),
        "colloid 1024 x 1024": lambda: d.colloid((1024, 1024)),
    }
    parts = sys.argv[1:] or ["made", "field"]
    path = RESULTS / "datasets_speed.json"
    result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    result |= {"threads": torch.get_num_threads(), "cores": os.cpu_count()}
    if "made" in parts:
        result["made"] = {}
        for name, make in cases.items():
            result["made"][name] = timed(make)
            print(f"{name:40} {result['made'][name]}", flush=True)
    if "field" in parts:
        result["large field"] = large_field(16384)
        print(json.dumps(result["large field"], indent=1))
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
