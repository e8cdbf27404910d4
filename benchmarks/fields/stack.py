"""Frames per second of a stack from pixels to labels, on one thread, and how good the labels are.

    python benchmarks/fields/stack.py [FRAMES]

Simulated MoSe2 of 256 x 256 px, about 310 columns a frame, 6 % vacancies, 10 electrons per pixel, in an npy file that is mapped. To
compare versions, run this file with the other one on PYTHONPATH: it uses nothing that is new. Times are of the processor.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.metrics import site_f1

SIDE, PIXEL_NM, MARGIN = 256, 0.015, 24
RESULTS = Path(__file__).parents[1] / "results" / "stack.json"


def specimen(seed: int) -> tm.datasets.Specimen:
    return tm.datasets.mose2((SIDE, SIDE), PIXEL_NM, vacancy_rate=0.06, random_state=seed)


def drawn(path: Path, frames: int) -> None:
    stack = np.lib.format.open_memmap(path, "w+", np.float32, (frames, SIDE, SIDE))
    for seed in range(frames):
        stack[seed] = specimen(seed).draw(1.0, torch.Generator().manual_seed(seed)).numpy()


def scores(result: tm.field.FieldResult) -> dict[str, float]:
    """F1 of every kind over all true sites with a whole patch; a site that was not found counts as missed."""
    kinds, labels = [], []
    for seed in range(len(result.images)):
        truth, rows = specimen(seed).truth, result.rows(seed)
        at = truth.positions.numpy()
        inner = ((at > MARGIN) & (at < SIDE - 1 - MARGIN)).all(axis=1)
        distance, nearest = cKDTree(result.positions[rows]).query(at[inner])
        kinds.append(np.asarray(truth.kinds)[inner])
        labels.append(np.where(distance < 3, result.labels[rows][nearest], -1))
    names, which = np.unique(np.concatenate(kinds), return_inverse=True)
    return {str(names[kind]): round(f1, 4) for kind, f1 in site_f1(which, np.concatenate(labels)).items()}


def measured(frames: int) -> dict[str, Any]:
    """Pixels to labels of a stack of so many frames, one thread."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "stack.npy"
        drawn(path, frames)
        start, busy = time.perf_counter(), time.process_time()
        result = tm.field.analyze(
            path, Path(name) / "store", pixel_size_nm=PIXEL_NM, workers=1, hierarchy=0, progress=False
        )
        seconds, cpu = time.perf_counter() - start, time.process_time() - busy
        return {
            "frames": frames,
            "columns": len(result),
            "motifs": result.n_motifs,
            "seconds": round(seconds, 1),
            "cpu_seconds": round(cpu, 1),
            "frames_per_cpu_second": round(frames / cpu, 2),
            "f1": scores(result),
            "stages": result.record["timings_s"],
        }


def main(frames: int) -> None:
    found = measured(frames)
    print(json.dumps(found))
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
