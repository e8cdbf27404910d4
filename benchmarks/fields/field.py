"""Large fields and batches: time, memory, independence of tiles, and what happens when things go wrong.

Run: python benchmarks/fields/field.py SECTION..., one or several of
scaling [SIDE...]  time, exponent against pixels and memory of all processes together, two workers
tiles    4096 x 4096 in tiles of 512, 1024 and as a whole
kill     kill -9 at 20 random moments, parent and workers, then the same call again
disk     a disk that is full, a store that is read-only (needs to mount a small file system: root)
worker   a LocalCluster of two workers, one killed; two runs on one store
batch    50 files, 5 of them bad
workers  two workers against one; dask's share of a single small image
"""

import json
import os
import resource
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from clock import medians
from field_drawn import FOLDER, PIXEL_NM, drawn
from field_faults import batch, disk, kill, worker

RESULTS = Path(__file__).parents[1] / "results"


class Memory:
    """Greatest resident set of this process and all its children together, sampled twenty times a second.

    Pages that processes share are counted once for each of them. The unique memory (USS), which counts them once, is
    sampled beside it, more rarely.
    """

    def __enter__(self) -> Self:
        import psutil

        self.peak = self.unique = 0
        self._over = threading.Event()
        self._process = psutil.Process()

        def sample() -> None:
            turn = 0
            while not self._over.wait(0.05):
                try:
                    family = [self._process, *self._process.children(recursive=True)]
                    self.peak = max(self.peak, sum(one.memory_info().rss for one in family))
                    if turn % 200 == 0:
                        self.unique = max(self.unique, sum(one.memory_full_info().uss for one in family))
                except psutil.Error:
                    continue
                turn += 1

        self._thread = threading.Thread(target=sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def analysed(path: Path, store: Path, **options: Any) -> Any:
    import torchmotif as tm

    shutil.rmtree(store, ignore_errors=True)
    return tm.field.analyze(path, store, pixel_size_nm=PIXEL_NM, progress=False, **options)


def scaling(sides: list[int]) -> dict[str, Any]:
    rows = []
    for side in sides:
        path = drawn(side)
        with Memory() as memory:
            start, spent = time.perf_counter(), processor_seconds()
            result = analysed(path, FOLDER / "scaling", workers=2, memory_budget="3GiB")
            seconds, busy = time.perf_counter() - start, processor_seconds() - spent
        truth = np.load(path.with_suffix(".truth.npz"))
        rows.append(
            {
                "side px": side,
                "columns": len(result),
                "seconds": round(seconds, 1),
                "processor s, all processes": round(busy, 1),
                "peak RSS, all processes MiB": memory.peak >> 20,
                "peak USS, all processes MiB": memory.unique >> 20,
                "stages s": result.record["timings_s"],
                "motifs": result.n_motifs,
                **scored(result, truth),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
        del result
    found: dict[str, Any] = {"runs": rows}
    if len(rows) > 1:
        pixels = 2 * np.log([row["side px"] for row in rows])
        for key in ("seconds", "processor s, all processes"):
            slope = np.polyfit(pixels, np.log([row[key] for row in rows]), 1)[0]
            found[f"exponent of {key}"] = round(float(slope), 3)
    return found


def processor_seconds() -> float:
    """Of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def scored(result: Any, truth: Any) -> dict[str, float]:
    """Recall and precision of the columns, and F1 of the vacancies, every motif counting for its most frequent kind."""
    from scipy.spatial import cKDTree

    distance, nearest = cKDTree(truth["positions"]).query(result.positions, workers=1)
    good = distance < 0.5 * result.images[0]["spacing"]
    kinds, labels = truth["kinds"][nearest], result.labels
    vacant = np.zeros(result.n_motifs, bool)
    for motif in range(result.n_motifs):
        names, counts = np.unique(kinds[good & (labels == motif)], return_counts=True)
        vacant[motif] = len(names) > 0 and names[counts.argmax()] == "V_Se"
    called = (labels >= 0) & vacant[labels]
    true = (kinds == "V_Se") & good & (labels >= 0)
    hits = (called & true).sum()
    return {
        "recall": round(len(np.unique(nearest[good])) / len(truth["positions"]), 5),
        "precision": round(float(good.mean()), 5),
        "F1 of vacancies": round(float(2 * hits / max(called.sum() + true.sum(), 1)), 4),
    }


def same_columns(a: Any, b: Any) -> dict[str, Any]:
    """How two results agree: columns without a partner within 1e-3 px, equal labels, and bit for bit."""
    from scipy.spatial import cKDTree

    distance, partner = cKDTree(b.positions).query(a.positions)
    once = len(np.unique(partner)) == len(a) == len(b)
    return {
        "columns": [len(a), len(b)],
        "each once": bool(once),
        "further apart than 1e-3 px": int((distance > 1e-3).sum()),
        "equal labels": float((a.labels == b.labels[partner]).mean()),
        "bit for bit": bool(np.array_equal(a.positions, b.positions) and np.array_equal(a.labels, b.labels)),
    }


def tiles() -> dict[str, Any]:
    path = drawn(4096)
    results = {
        tile: analysed(path, FOLDER / f"tiles-{tile}", tile=tile, workers=2) for tile in (512, 1024, 4096)
    }
    found = {f"{tile} against whole": same_columns(results[tile], results[4096]) for tile in (512, 1024)}
    distance = nearest_distance(results[4096].positions)
    found["closest two columns px"] = float(distance.min())
    return found


def nearest_distance(positions: np.ndarray) -> np.ndarray:
    from scipy.spatial import cKDTree

    return np.asarray(cKDTree(positions).query(positions, k=2)[0])[:, 1]


def workers() -> dict[str, Any]:
    """Two workers against one, and what the machinery costs where there is one small image."""
    import torchmotif as tm

    path, seconds = drawn(4096), {}
    for count in (1, 2):
        start = time.perf_counter()
        analysed(path, FOLDER / f"workers-{count}", workers=count)
        seconds[count] = time.perf_counter() - start
    import torch

    torch.set_num_threads(1)
    small = tm.read(drawn(512, 1.0))
    tm.analyze(small, progress=False)
    ways: dict[str, Callable[[], Any]] = {
        "analyze": lambda: tm.analyze(small, progress=False),
        "field.analyze": lambda: analysed(FOLDER / "field-512-1.npy", FOLDER / "small-field", hierarchy=0),
    }
    found = {name: round(value, 2) for name, value in medians(ways, 5).items()}
    return {
        "4096 x 4096, seconds with one and two workers": [round(seconds[1], 1), round(seconds[2], 1)],
        "speed-up": round(seconds[1] / seconds[2], 2),
        "512 x 512, median seconds": found,
        "overhead s": round(found["field.analyze"] - found["analyze"], 2),
    }


def main() -> None:
    sections: dict[str, Callable[[], dict[str, Any]]] = {
        "tiles": tiles,
        "kill": kill,
        "disk": disk,
        "worker": worker,
        "batch": batch,
        "workers": workers,
    }
    words = sys.argv[1:]
    sides = [int(word) for word in words if word.isdigit()] or [2048, 4096]
    path = RESULTS / "field.json"
    result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    result["cores"] = os.cpu_count()
    for word in words:
        if word == "scaling":
            found = scaling(sides)
            result["scaling"] = found
        elif word in sections:
            found = result[word] = sections[word]()
        elif not word.isdigit():
            raise SystemExit(__doc__)
        else:
            continue
        print(json.dumps({word: found}, indent=1), flush=True)
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    main()
