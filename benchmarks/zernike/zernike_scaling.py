"""How time and memory of projection and dense maps grow, each case in a process of its own, on one thread.

python benchmarks/zernike/zernike_scaling.py
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

import torchmotif as tm

RESULTS = Path(__file__).parents[1] / "results"
CASES = [
    *(("project", n) for n in (1_000, 10_000, 100_000, 1_000_000)),
    *(("maps, streamed", side) for side in (512, 1024, 2048, 4096)),
    *(("maps", side) for side in (512, 1024, 2048)),
    *(("motif-learn maps", side) for side in (512, 1024)),
]


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(what: str, number: int) -> dict[str, float]:
    """Seconds of CPU time, and MiB above what was held before, of one case; 33 px, n_max 10, float32."""
    rng = np.random.default_rng(0)
    basis = tm.ZernikeBasis(10, 33)
    side = 2048 if what == "project" else number
    image = torch.from_numpy(rng.random((side, side), dtype=np.float32))
    positions = torch.from_numpy(rng.integers(33, side - 33, (number if what == "project" else 1, 2)))
    basis.project(image, positions[:1])
    before, start = peak_mib(), time.process_time()
    if what == "project":
        for part in positions.split(10_000):
            basis.project(image, part)
    elif what == "maps, streamed":
        for _ in basis.iter_maps(image):
            pass
    elif what == "maps":
        basis.maps(image)
    else:
        from mtflearn.features import ZPs  # the extra `bench`; imported here only, as it takes 140 MiB

        ZPs(10, 33).transform(image.numpy())
    return {"seconds": time.process_time() - start, "MiB": peak_mib() - before, "peak MiB": peak_mib()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", nargs=2)
    case = parser.parse_args().case
    if case:
        print(json.dumps(measure(case[0], int(case[1]))))
        return
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    results = {}
    print(
        "| what | number or side | seconds | MiB above start | peak MiB of the process |\n|---|---|---|---|---|"
    )
    for what, number in CASES:
        if what.startswith("motif-learn") and find_spec("mtflearn") is None:
            continue
        command = [sys.executable, __file__, "--case", what, str(number)]
        done = subprocess.run(
            command, env={**os.environ, **limits}, capture_output=True, text=True, check=True
        )
        found = results[f"{what} {number}"] = json.loads(done.stdout)
        cells = (f"{found['seconds']:.3f}", f"{found['MiB']:.0f}", f"{found['peak MiB']:.0f}")
        print(f"| {what} | {number} | {' | '.join(cells)} |", flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "zernike_scaling.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
