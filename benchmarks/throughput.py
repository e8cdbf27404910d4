"""The throughput of every stage: tables and a plot, losses included, from what pytest-benchmark recorded, in archive/throughput.md.

python benchmarks/throughput.py cpu.json [cuda.json]    takes in new runs, each in place of the last on that device
python benchmarks/throughput.py                         writes the page again from results/throughput.json
"""

import argparse
import json
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
STORE, PLOT, PAGE = (
    HERE / "results" / "throughput.json",
    HERE / "results" / "throughput.png",
    HERE / "archive" / "throughput.md",
)
FACTS = ("stage", "who", "size", "n", "dose", "flops", "bytes", "ami")
TARGETS = (0.7, 0.9)
STAGES = ("basis", "extraction", "projection", "PCA fit", "PCA transform")
OURS = "torchmotif"
LOSS = 0.95  # of the other's speed
Row = dict[str, Any]
Run = dict[str, Any]


def taken_in(raw: dict[str, Any]) -> dict[str, Run]:
    """Of one file of pytest-benchmark, what is worth keeping, by device."""
    from importlib.metadata import version

    runs: dict[str, Run] = {}
    cpu = raw["machine_info"]["cpu"]
    for item in raw["benchmarks"]:
        facts, stats = item["extra_info"], item["stats"]
        count = facts["threads"]
        device = facts["device"] if facts["device"] != "cpu" else f"cpu, {count} thread{'s' * (count > 1)}"
        run = runs.setdefault(
            device,
            {
                "machine": {
                    "cpu": cpu.get("brand_raw", "unknown"),
                    "cores": cpu.get("count"),
                    "gpu": facts.get("gpu"),
                    "threads": facts["threads"],
                    "python": raw["machine_info"]["python_version"],
                    "versions": {name: version(name) for name in ("torch", "numpy", "scikit-learn")},
                },
                "date": raw["datetime"][:10],
                "clock": item["options"]["timer"],
                "seed": facts["seed"],
                "rows": [],
            },
        )
        row = {name: facts[name] for name in FACTS if name in facts}
        times = {name: float(f"{stats[name]:.5g}") for name in ("median", "q1", "q3")}
        run["rows"].append({**row, **times, "rounds": stats["rounds"]})
    return runs


def peak(run: Run, stage: str, fact: str) -> float:
    """Operations or bytes per second that the device reached where nothing else was asked of it."""
    row = next(row for row in run["rows"] if row["stage"] == stage)
    return float(row[fact] / row["median"])


def ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def as_dose(dose: float) -> str:
    return "1" if dose == 1 else f"1/{1 / dose:.0f}"


def each(rate: float) -> str:
    """A rate with three digits that count."""
    return f"{float(f'{rate:.3g}'):,.0f}"


def grouped(run: Run, dose: float = 1.0) -> dict[tuple[Any, ...], list[Row]]:
    """Rows of the stages at one dose by what was to be done."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in run["rows"]:
        if row["stage"] in STAGES and row.get("dose", 1.0) == dose:
            groups.setdefault((row["stage"], row["size"], row.get("n", 0)), []).append(row)
    return dict(sorted(groups.items(), key=lambda item: (STAGES.index(item[0][0]), *item[0][1:])))


def at_other_doses(run: Run, row: Row) -> str:
    """Times at the lower doses over that at full dose."""
    same = ("stage", "who", "size", "n")
    others = [
        other
        for other in run["rows"]
        if other.get("dose", 1.0) < 1 and all(other.get(name) == row.get(name) for name in same)
    ]
    others.sort(key=lambda other: -other["dose"])
    return ", ".join(f"{other['median'] / row['median']:.2f}" for other in others)


def stage_table(run: Run) -> list[str]:
    lines = [
        "| stage | px | patches | who | median (IQR) | patches/s | GFLOP/s (of sgemm) | share of the roof | torchmotif is | time at dose 1/10, 1/50, 1/200 over that at 1 |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    top, wide = peak(run, "sgemm", "flops"), peak(run, "copy", "bytes")
    for (stage, size, n), rows in grouped(run).items():
        ours = next((row for row in rows if row["who"] == OURS), None)
        for row in rows:
            time = row["median"]
            rate = (
                f"{row['flops'] / time / 1e9:.3g} ({row['flops'] / time / top:.0%})"
                if row.get("flops")
                else ""
            )
            roof = max(row.get("flops", 0.0) / top, row.get("bytes", 0.0) / wide)
            ratio = (
                "" if ours is None or row["who"].startswith(OURS) else f"{time / ours['median']:.2f}x as fast"
            )
            spread = ms(row["q3"] - row["q1"])
            lines.append(
                f"| {stage} | {size} | {n or ''} | {row['who']} | {ms(time)} ({spread}) | "
                f"{each(n / time) if n else ''} | {rate} | {f'{roof / time:.0%}' if roof else ''} | {ratio} | "
                f"{at_other_doses(run, row)} |"
            )
    return lines


def motif_rows(run: Run) -> list[Row]:
    return [row for row in run["rows"] if row["stage"] == "motifs"]


def motif_table(run: Run) -> list[str]:
    rows = motif_rows(run)
    doses = sorted({row["dose"] for row in rows}, reverse=True)
    lines = [
        "| from patches to labels | px | patches | " + " | ".join(f"dose {as_dose(d)}" for d in doses) + " |",
        "|---|---|---|" + "---|" * len(doses),
    ]
    keys = dict.fromkeys((row["who"], row["size"], row["n"]) for row in rows)
    for key in sorted(keys, key=lambda key: key[1:]):
        mine = {row["dose"]: row for row in rows if (row["who"], row["size"], row["n"]) == key}
        cells = (
            f"{round(mine[d]['ami'], 2) + 0.0:.2f} in {ms(mine[d]['median'])}" if d in mine else ""
            for d in doses
        )
        lines.append(f"| {key[0]} | {key[1]} | {key[2]} | " + " | ".join(cells) + " |")
    return lines


def accuracy_table(run: Run) -> list[str]:
    """The shortest time in which each kind of feature reaches an accuracy."""
    rows = motif_rows(run)
    kinds = {"Zernike": lambda who: "PCA" not in who, "PCA": lambda who: "PCA" in who}
    lines = [f"| patches | dose | AMI | {' | '.join(kinds)} |", "|---|---|---|" + "---|" * len(kinds)]
    for n in sorted({row["n"] for row in rows}):
        for dose in sorted({row["dose"] for row in rows}, reverse=True):
            for target in TARGETS:
                cells = []
                for belongs in kinds.values():
                    able = [
                        row
                        for row in rows
                        if (row["n"], row["dose"]) == (n, dose)
                        and row["ami"] >= target
                        and belongs(row["who"])
                    ]
                    best = min(able, key=lambda row: row["median"], default=None)
                    cells.append(
                        f"{ms(best['median'])}: {best['who']}, {best['size']} px" if best else "not reached"
                    )
                lines.append(f"| {n} | {as_dose(dose)} | {target} | " + " | ".join(cells) + " |")
    return lines


def losses(run: Run) -> list[str]:
    """What another does in less time, and how much less at each dose where it is so."""
    found: dict[str, list[str]] = {}
    for dose in sorted({row.get("dose", 1.0) for row in run["rows"]}, reverse=True):
        for (stage, size, n), rows in grouped(run, dose).items():
            ours = next((row for row in rows if row["who"] == OURS), None)
            for row in rows:
                if ours and not row["who"].startswith(OURS) and row["median"] < LOSS * ours["median"]:
                    what = f"- {stage}, {size} px{f', {n} patches' if n else ''}: {row['who']} is"
                    ratio = f"{ours['median'] / row['median']:.2f}x as fast"
                    found.setdefault(what, []).append(ratio + (f" at dose {as_dose(dose)}" if n else ""))
    return [f"{what} {', '.join(ratios)}" for what, ratios in found.items()] or ["- none"]


def accuracy_section(run: Run) -> list[str]:
    return [
        (
            "**Accuracy for the time**, adjusted mutual information with the true classes; k-means is told their number, "
            "MotifClassifier finds it. Features and clustering are timed together."
        ),
        "",
        *motif_table(run),
        "",
        "The shortest time to an accuracy:",
        "",
        *accuracy_table(run),
        "",
    ]


def device_section(name: str, run: Run) -> list[str]:
    machine = run["machine"]
    where = machine["gpu"] or f"{machine['cpu']}, {machine['threads']} of {machine['cores']} cores"
    clock = "processor time" if run["clock"] == "process_time" else "wall clock"
    versions = ", ".join(f"{package} {number}" for package, number in machine["versions"].items())
    return [
        f"## On {name}: {where}",
        "",
        (
            f"{run['date']}, Python {machine['python']}, {versions}, seed {run['seed']}; {clock}. sgemm reaches "
            f"{peak(run, 'sgemm', 'flops') / 1e9:.3g} GFLOP/s, copying {peak(run, 'copy', 'bytes') / 1e9:.3g} GB/s: the roof is "
            "the time that the operations and the bytes of a stage take at these rates, whichever is longer."
        ),
        "",
        *stage_table(run),
        "",
        "Where torchmotif is slower:",
        "",
        *losses(run),
        "",
        *(accuracy_section(run) if motif_rows(run) else []),
    ]


def page(runs: dict[str, Run]) -> str:
    lines = [
        "# Throughput",
        "",
        (
            "`pytest benchmarks --device cpu --benchmark-json=cpu.json`, then `python benchmarks/throughput.py cpu.json`. Simulated MoSe2, patches of 33 px with moments to order 10, of 65 px to order 20; 20 principal components. mahotas is "
            "timed on 50 patches. `--full` adds 100,000 patches and the lower doses: what a stage costs depends on the dose in clustering and where PCA iterates."
        ),
        "",
    ]
    for name, run in sorted(runs.items()):
        lines += device_section(name, run)
    if not any(name.startswith("cuda") for name in runs):
        lines += [
            "## On a GPU",
            "",
            (
                "Not measured here. `pytest benchmarks -m gpu --device cuda --benchmark-json=cuda.json`, then "
                "`python benchmarks/throughput.py cuda.json`, adds it."
            ),
            "",
        ]
    return "\n".join([*lines, "![Throughput and accuracy for the time](../results/throughput.png)", ""])


def draw(runs: dict[str, Run]) -> None:
    """Rates of the stages, and accuracy against time."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = Figure(figsize=(12, 5.2), dpi=130, layout="constrained")
    left, right = figure.subplots(1, 2)
    colours = mpl.color_sequences["petroff10"]
    name = min(runs)
    run = runs[name]
    most = max(
        row["n"] for row in run["rows"] if row.get("size") == 33 and "n" in row and row["stage"] != "motifs"
    )
    groups = {key: rows for key, rows in grouped(run).items() if key[1] == 33 and key[2] == most}
    names = list(dict.fromkeys(row["who"] for rows in groups.values() for row in rows))
    ticks, place = [], 0.0
    for (stage, *_), rows in groups.items():
        ticks.append((place + (len(rows) - 1) / 2, stage))
        for row in rows:
            colour = colours[names.index(row["who"])]
            left.barh(place, row["n"] / row["median"] / 1000, 0.85, color=colour, label=row["who"])
            place += 1
        place += 0.8
    left.set_yticks(*zip(*ticks, strict=True))
    left.invert_yaxis()
    left.set_xlabel("thousand patches per second")
    left.set_title(f"{most:,} patches of 33 px on {name}", fontsize=10)
    handles = dict(zip(*reversed(left.get_legend_handles_labels()), strict=True))
    left.legend(
        handles.values(), handles.keys(), fontsize=8, loc="upper center", bbox_to_anchor=(0.4, -0.14), ncols=3
    )
    rows = [row for row in motif_rows(run) if row["size"] == 33]
    many = max((row["n"] for row in rows), default=0)
    rows = [row for row in rows if row["n"] == many]
    for i, who in enumerate(dict.fromkeys(row["who"] for row in rows)):
        mine = sorted((row for row in rows if row["who"] == who), key=lambda row: -row["dose"])
        right.plot(
            [row["median"] for row in mine],
            [row["ami"] for row in mine],
            marker="osD^v"[i % 5],
            color=colours[i],
            label=who,
            lw=1,
        )
        for number, row in enumerate(mine if i == 0 else []):
            side = {"ha": "right", "xytext": (-7, -3)} if number % 2 else {"ha": "left", "xytext": (7, -3)}
            at = (row["median"], row["ami"])
            right.annotate(as_dose(row["dose"]), at, textcoords="offset points", fontsize=8, **side)
    right.set_xscale("log")
    right.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    right.xaxis.set_major_formatter("{x:g}")
    right.xaxis.set_minor_formatter(NullFormatter())
    right.margins(x=0.1)
    right.set_ylim(-0.06, 1.05)
    right.set_xlabel("seconds from patches to labels")
    right.set_ylabel("adjusted mutual information")
    right.set_title(f"{many:,} patches of 33 px at relative dose 1, 1/10, 1/50, 1/200 on {name}", fontsize=10)
    right.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=3)
    figure.savefig(PLOT)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=Path)
    runs: dict[str, Run] = json.loads(STORE.read_text()) if STORE.exists() else {}
    new: dict[str, Run] = {}
    for file in parser.parse_args().files:
        for device, run in taken_in(json.loads(file.read_text())).items():
            new.setdefault(device, {**run, "rows": []})["rows"] += run["rows"]
    runs |= new
    if not runs:
        raise SystemExit("nothing was measured yet: " + (__doc__ or ""))
    STORE.write_text(json.dumps(runs, indent=1) + "\n")
    draw(runs)
    PAGE.write_text(page(runs), encoding="utf-8")


if __name__ == "__main__":
    main()
