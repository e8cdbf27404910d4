"""Zernike basis, projection and dense maps against motif-learn, numpy and mahotas: medians, interleaved, in one process.

On one thread CPU time is measured, which other processes disturb little; on two, the clock on the wall, with a rest before
each, as threads of the library that ran before spin on for a while.

python benchmarks/zernike/zernike_speed.py             one and two threads, each in a process of its own
python benchmarks/zernike/zernike_speed.py --threads 1 --repeats 15
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from clock import medians

import torchmotif as tm

try:  # the extra `bench`
    import mahotas
    from mtflearn.features import KeyPoints, ZPs
except ImportError:
    mahotas = ZPs = None

RESULTS = Path(__file__).parents[1] / "results"
_REST = (
    0.2  # seconds in which the threads of the last one (OpenBLAS, OpenMP) stop spinning and free their cores
)


def measure(threads: int, repeats: int) -> dict[str, dict[str, float]]:
    torch.set_num_threads(threads)
    one = threads == 1
    timed = partial(
        medians, clock=time.process_time if one else time.perf_counter, rest=0.0 if one else _REST
    )
    theirs = ZPs is not None
    rng = np.random.default_rng(0)
    results: dict[str, dict[str, float]] = {}

    square = rng.random((2048, 2048), dtype=np.float32)
    peak = 2 * 2048**3 / timed({"sgemm": lambda: square @ square}, repeats)["sgemm"] / 1e9
    results["sgemm 2048, numpy"] = {"GFLOP/s": peak}

    for n_max, size in ((10, 33), (20, 65), (30, 65)):
        race: dict[str, Callable[[], object]] = {"torchmotif": lambda: tm.zernike_basis(n_max, size)}  # noqa: B023
        if theirs:
            race["motif-learn"] = lambda: ZPs(n_max, size)  # noqa: B023
        results[f"basis, n_max {n_max}, {size} px"] = timed(race, repeats)

    image = rng.random((1024, 1024), dtype=np.float32)
    for n_max, size in ((10, 33), (20, 65)):
        basis = tm.ZernikeBasis(n_max, size)
        positions = rng.integers(size, 1024 - size, (10_000, 2))
        fractional = positions + rng.random((10_000, 2)) - 0.5
        patches = tm.extract_patches(image, positions, size)
        flat = patches.reshape(10_000, -1)
        kernels = np.ascontiguousarray(basis.basis.numpy())
        race = {"torchmotif": lambda: basis.project(image, positions)}  # noqa: B023
        if theirs:
            zps = ZPs(n_max, size)
            xy = positions[:, ::-1].astype(float)
            race["motif-learn"] = lambda: zps.transform(KeyPoints(xy, image, size).extract_patches())  # noqa: B023
        race["torchmotif, fractions"] = lambda: basis.project(image, fractional)  # noqa: B023
        results[f"extract + project 10,000, {size}/{n_max}"] = timed(race, repeats)
        race = {
            "torchmotif": lambda: basis(patches),  # noqa: B023
            "numpy": lambda: flat @ kernels.T,  # noqa: B023
        }
        found = timed(race, repeats)
        found["GFLOP/s"] = 2 * kernels.size * 10_000 / found["torchmotif"] / 1e9
        found["share of sgemm peak"] = found["GFLOP/s"] / peak
        results[f"project 10,000 patches, {size}/{n_max}"] = found
        if mahotas is not None:
            some = patches[:50]
            race = {
                "torchmotif": lambda: basis(some),  # noqa: B023
                "mahotas": lambda: [mahotas.features.zernike_moments(p, size / 2, n_max) for p in some],  # noqa: B023
            }
            results[f"project 50 patches, {size}/{n_max}"] = timed(race, 3)

    basis = tm.ZernikeBasis(10, 33)
    small = image[:512, :512]
    race = {"torchmotif": lambda: basis.maps(small)}
    if theirs:
        zps10 = ZPs(10, 33)
        race["motif-learn"] = lambda: zps10.transform(small)
    results["dense maps 512 x 512, 33/10"] = timed(race, max(3, repeats // 3))
    return results


def table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    lines = ["| what | threads | torchmotif | other | ratio |", "|---|---|---|---|---|"]
    for threads, rows in results.items():
        for what, found in rows.items():
            if "torchmotif" not in found:
                lines.append(f"| {what} | {threads} | | {found['GFLOP/s']:.0f} GFLOP/s | |")
                continue
            ours = f"{1e3 * found['torchmotif']:.1f} ms"
            if "GFLOP/s" in found:
                ours += f" ({found['GFLOP/s']:.0f} GFLOP/s, {found['share of sgemm peak']:.0%} of peak)"
            for name in ("motif-learn", "numpy", "mahotas", "torchmotif, fractions"):
                if name in found:
                    ratio = found[name] / found["torchmotif"]
                    lines.append(
                        f"| {what} | {threads} | {ours} | {name} {1e3 * found[name]:.1f} ms | {ratio:.2f}x |"
                    )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int)
    parser.add_argument("--all", nargs="+", default=["1", "2"], help="numbers of threads to run with")
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    if arguments.threads:
        print(json.dumps(measure(arguments.threads, arguments.repeats)))
        return
    results = {}
    for threads in arguments.all:
        limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), threads)
        command = [sys.executable, __file__, "--threads", threads, "--repeats", str(arguments.repeats)]
        done = subprocess.run(
            command, env={**os.environ, **limits}, capture_output=True, text=True, check=True
        )
        results[threads] = json.loads(done.stdout)
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / "zernike_speed.json"
    earlier = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**earlier, **results}, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
