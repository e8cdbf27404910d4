"""Every stage on a GPU beside the CPU of the same machine: time, parity, memory, launches, share of what the device could do.

    python benchmarks/gpu.py [--device cuda|cpu] [--only TEXT ...] [--small] [--budget SECONDS] [--json FILE]
                             [--profile FOLDER]

One command without a network: needs what `pip install "torchmotif[field]"` brings. Prints a line of JSON for each stage as
it ends, then the table of RESULTS.md. Everything is on the device beforehand and the clock stops when the device is done: median
and interquartile range of warm calls. Launches, copies and waits are those of one call, by torch's profiler, and so is the
time in which the device computes. The roof is the longer of bytes over the bandwidth of a copy and operations over the speed
of a matrix product, both measured here. The device goes first through all stages, then the CPU; once the budget (by default
330 s) is used up, what is left is not run, and said so. `--profile` keeps, for each stage, a table of its operations and
Python's profile. Without a GPU the CPU's rows are made alone; `--small` is what the tests run.
"""

import argparse
import json
import os
import platform
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from gpu_clock import Bench
from gpu_stages import Facts, Stage, stages

import torchmotif as tm

DEVICE_SHARE = 0.72  # of the budget, after which no stage begins on the device
QUICK = 0.05  # s; what takes longer on the device is run on the CPU once, and not warm


def on_device(stage: Stage, bench: Bench) -> tuple[Facts, Any]:
    """One stage and its result; an error is a row of its own, since the next stage is still of interest."""
    row: Facts = {"stage": stage.name, "items": stage.items, "device": bench.device.type}
    try:
        facts, found = bench.measured(stage, stage.repeats, stage.warm)
    except Exception as error:  # noqa: BLE001 - whatever fails there is a finding
        return row | {"error": f"{type(error).__name__}: {error}"[:400]}, None
    return row | facts | {"items_per_second": stage.items / facts["seconds"]}, found


def beside_cpu(row: Facts, found: Any, stage: Stage, cpu: Bench) -> Facts:
    """The row with the time of the CPU and how far the two results are apart."""
    quick = row["seconds"] < QUICK
    try:
        facts, expected = cpu.measured(stage, 3 if quick else 1, warm=quick)
        row |= {"cpu_seconds": facts["seconds"], "over_cpu": facts["seconds"] / row["seconds"]}
        return row | stage.compare(found, expected)
    except Exception as error:  # noqa: BLE001
        return row | {"error": f"on the CPU: {type(error).__name__}: {error}"[:400]}


def table_of(rows: list[Facts]) -> str:
    """Rows as Markdown."""
    parity = ("largest_difference", "without_partner", "labels_differ")
    heads = (
        "stage",
        "time",
        "IQR",
        "a second",
        "times the CPU",
        "parity",
        "peak MiB",
        "launches",
        "waits",
        "device busy",
        "of the roof",
    )
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for row in rows:
        if "seconds" not in row:
            lines.append(f"| {row['stage']} | {row.get('error') or row.get('left_out')} |" + " |" * 9)
            continue
        differs = next((f"{row[name]:.2g} {name.replace('_', ' ')}" for name in parity if name in row), "")
        shares = (
            f"{100 * row[name]:.0f} %" if name in row else "" for name in ("device_busy", "share_of_roof")
        )
        over = f"{row['over_cpu']:.2g}" if "over_cpu" in row else ""
        counts = (f"{row[name]:,.0f}" if name in row else "" for name in ("peak_mib", "launches", "waits"))
        times = (f"{1e3 * row['seconds']:,.3g} ms", f"{1e3 * row['iqr']:.2g}")
        cells = (
            row["stage"],
            *times,
            f"{row['items_per_second']:,.3g}",
            over,
            differs,
            *counts,
            *shares,
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def machine(bench: Bench) -> Facts:
    name = torch.cuda.get_device_name(bench.device) if bench.cuda else platform.processor() or "cpu"
    return {
        "device": name,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "torchmotif": tm.__version__,
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
        "tflops": bench.flops / 1e12,
        "gb_per_second": bench.bandwidth / 1e9,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--only", nargs="*", default=[""], metavar="TEXT", help="stages whose name holds one of these"
    )
    parser.add_argument("--small", action="store_true", help="small inputs, to test this script")
    parser.add_argument("--budget", type=float, default=330.0, metavar="SECONDS")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument(
        "--profile", type=Path, metavar="FOLDER", help="where to keep a profile of each stage"
    )
    given = parser.parse_args()
    warnings.simplefilter("ignore", tm.errors.TorchMotifWarning)
    start = time.perf_counter()

    def in_time(share: float) -> bool:
        return time.perf_counter() - start < share * given.budget

    bench = Bench(torch.device(given.device), given.small, given.profile)
    cpu = Bench(torch.device("cpu"), given.small) if bench.cuda else None
    about = machine(bench)
    print(json.dumps(about), flush=True)
    chosen = [stage for stage in stages(given.small) if any(text in stage.name for text in given.only)]
    rows: list[Facts] = []
    results = []

    def told(row: Facts) -> None:
        print(json.dumps(row), flush=True)
        if given.json:
            given.json.write_text(json.dumps({"machine": about, "rows": rows}, indent=1) + "\n")

    for stage in chosen:
        late = {"stage": stage.name, "left_out": "out of time"}, None
        row, found = on_device(stage, bench) if in_time(DEVICE_SHARE) else late
        rows.append(row)
        results.append(found)
        told(row)
    for number, (stage, found) in enumerate(zip(chosen, results, strict=True)):
        if cpu is not None and stage.on_cpu and "seconds" in rows[number] and in_time(1.0):
            rows[number] = beside_cpu(rows[number], found, stage, cpu)
            told(rows[number])
    print(table_of(rows))
    sys.exit(any("error" in row for row in rows))


if __name__ == "__main__":
    main()
