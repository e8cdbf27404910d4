"""What each stage asks of a GPU: operations, waits of the host by kind; and its seconds on one CPU thread.

    python benchmarks/operations.py [STAGE ...] [--small] [--device fakegpu|cpu] [--json FILE] [--waits]

Counted on the stand-in GPU, or with `--device cpu` where the CPU is taken for one (quicker, and it takes the CPU's branches);
tests/fakegpu/counting.py says what counts. A stage may name the side of its image: `find_columns:1024`. Each runs in a
process of its own, timed without being counted, the least of three runs. `--waits` lists the lines of code that wait.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "tests" / "fakegpu"
KINDS = ("read", "size", "check", "upload")
SMALL = ("find_columns:512", "project:512", "fit:512", "analyze:512", "stack:256")
LARGE = ("find_columns:1024", "find_columns:2048")
RUNS = 3


def seconds_of(stage: str, side: int) -> float:
    """The least of some runs, one thread."""
    sys.path.insert(0, str(FOLDER))
    from stages import STAGES

    torch.set_num_threads(1)
    run = STAGES[stage][0](side, torch.device("cpu"))
    taken = []
    for _ in range(RUNS):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return min(taken)


def output_of(*command: str) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, *command], env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def row_of(stage: str, side: int, device: str) -> dict[str, Any]:
    *waits, last = output_of(
        str(FOLDER / "stages.py"), stage, str(side), "--device", device, "--waits"
    ).splitlines()
    seconds = float(output_of(__file__, "--seconds", f"{stage}:{side}"))
    return {
        "stage": stage,
        "side": side,
        "device": device,
        **json.loads(last),
        "seconds": seconds,
        "lines": waits,
    }


def text_of(row: dict[str, Any]) -> str:
    kinds = "".join(f"{row['by_kind'].get(kind, 0):9,d}" for kind in KINDS)
    name = f"{row['stage']} {row['side']}"
    return f"{name:20s}{row['operations']:12,d}{row['views']:10,d}{row['waits']:9,d}{kinds}{row['seconds']:10.4g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "stages", nargs="*", metavar="STAGE[:SIDE]", help=f"by default {' '.join(SMALL + LARGE)}"
    )
    parser.add_argument("--small", action="store_true", help="leave out the large images")
    parser.add_argument("--device", choices=["fakegpu", "cpu"], default="fakegpu")
    parser.add_argument("--json", type=Path, help="file for the same numbers")
    parser.add_argument("--waits", action="store_true", help="also the lines of code that wait")
    parser.add_argument("--seconds", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    stages = [name.partition(":") for name in given.stages or (SMALL if given.small else SMALL + LARGE)]
    usual = {name: int(side) for name, _, side in (stage.partition(":") for stage in SMALL)}
    wanted = [(name, int(side or usual[name])) for name, _, side in stages]
    if given.seconds:
        print(seconds_of(*wanted[0]))
        return
    heads = f"{'operations':>12s}{'views':>10s}{'waits':>9s}" + "".join(f"{kind:>9s}" for kind in KINDS)
    print(f"{'stage':20s}{heads}{'seconds':>10s}", flush=True)
    rows = []
    for name, side in wanted:
        rows.append(row_of(name, side, given.device))
        print(text_of(rows[-1]), flush=True)
        if given.waits:
            print("\n".join(rows[-1]["lines"]), flush=True)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
