"""Time and memory of finding columns, over the size of the image; extraction of patches against numpy.

    python benchmarks/columns/columns_speed.py [LARGEST [SMALLEST]]

Each size runs in a process of its own, so that its peak memory is its own; sizes measured before are kept. Images are simulated MoSe2 at 10
electrons per pixel, 9.2 px between columns.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from clock import medians

import torchmotif as tm
from torchmotif._windows import gather_windows

PIXEL_NM = 0.02055
RESULTS = Path(__file__).parents[1] / "results" / "columns_speed.json"


def resident_kib(what: str) -> int:
    """Memory that the process has resident now ("VmRSS"), or had at most since its peak was forgotten ("VmHWM"), in KiB; Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(what))


def find(side: int) -> dict[str, float]:
    """Seconds and peak memory of one image."""
    image = tm.datasets.mose2((side, side), PIXEL_NM).draw(1.0, torch.Generator().manual_seed(0)).data.numpy()
    tm.find_columns(image[:256, :256].copy())  # loads what is loaded on first use
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak, which was that of drawing the image
    before = resident_kib("VmRSS")
    start, busy = time.perf_counter(), time.process_time()
    columns = tm.find_columns(image)
    seconds, cpu = time.perf_counter() - start, time.process_time() - busy
    peak = resident_kib("VmHWM")
    return {
        "side": side,
        "columns": len(columns),
        "seconds": seconds,
        "cpu_seconds": cpu,
        "microseconds_per_column": 1e6 * seconds / len(columns),
        "peak_gib": peak / 2**20,
        "before_gib": before / 2**20,
        "threads": torch.get_num_threads(),
    }


def extract(count: int, size: int, repeats: int = 15) -> dict[str, float]:
    """Medians of the processor time of extraction and of numpy's gather from a sliding view, in random order, one thread.

    Once from positions on, which numpy has to round and check as well, and once the gathering alone.
    """
    rng = np.random.default_rng(0)
    image = rng.random((2048, 2048), dtype=np.float32)
    positions = rng.uniform(size, 2047 - size, (count, 2))
    start = np.round(positions - (size - 1) / 2).astype(int)
    view = np.lib.stride_tricks.sliding_window_view(image, (size, size))
    pixels, first = torch.from_numpy(image), torch.from_numpy(start)

    def numpys() -> np.ndarray:
        begin = np.round(positions - (size - 1) / 2).astype(int)
        if not (np.isfinite(positions).all() and begin.min() >= 0 and begin.max() <= 2048 - size):
            raise ValueError
        return view[begin[:, 0], begin[:, 1]]

    race: dict[str, Callable[[], object]] = {
        "ours_ms": lambda: tm.extract_patches(image, positions, size),
        "numpy_ms": numpys,
        "gather_ms": lambda: gather_windows(pixels, first, size),
        "numpy_gather_ms": lambda: view[start[:, 0], start[:, 1]],
    }
    found = {name: 1e3 * value for name, value in medians(race, repeats, time.process_time).items()}
    return {
        "windows": count,
        "size": size,
        **found,
        "ratio": found["numpy_ms"] / found["ours_ms"],
        "ratio_of_gathers": found["numpy_gather_ms"] / found["gather_ms"],
    }


def exponent(rows: list[dict[str, float]], key: str) -> float:
    """Growth of a time with the number of pixels: the slope of the logarithms; 1 is linear."""
    pixels, times = (np.log([row[name] for row in rows]) for name in ("side", key))
    return float(np.polyfit(2 * pixels, times, 1)[0])


def main() -> None:
    """Run all sizes, print a table, write the results."""
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(find(int(sys.argv[2]))))
        return
    largest = int(sys.argv[1]) if len(sys.argv) > 1 else 4096
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results = {"find": results.get("find", []), "extract": []}
    side = int(sys.argv[2]) if len(sys.argv) > 2 else 512
    while side <= largest:
        line = subprocess.run(
            [sys.executable, __file__, "--one", str(side)], check=True, capture_output=True, text=True
        ).stdout
        others = [row for row in results["find"] if row["side"] != side]
        results["find"] = sorted([*others, json.loads(line.splitlines()[-1])], key=lambda row: row["side"])
        print(line.splitlines()[-1], flush=True)
        side *= 2
    results["exponent"] = {key: exponent(results["find"], key) for key in ("seconds", "cpu_seconds")}
    print(results["exponent"])
    torch.set_num_threads(1)
    for count, size in ((300, 31), (3000, 15), (3000, 31), (3000, 71), (20_000, 15), (20_000, 31)):
        results["extract"].append(extract(count, size))
        print(results["extract"][-1], flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
