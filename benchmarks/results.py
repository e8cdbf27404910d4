"""The page of results: every number with its command, commit, date and machine, and whether the code has changed since.

    python benchmarks/results.py [ROW ...]    measures all rows, or some, and writes the pages; --list names them
    python benchmarks/results.py --stale      measures those whose code has changed since they were measured
    python benchmarks/results.py --page       writes the pages again from results/page.json; --print prints the page

The rows are those of rows.py. Each runs in a process of its own, on one thread unless it says otherwise. A row is older than the code
where the modules that it runs, or its own script, have changed in anything but comments and docstrings since.
"""

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ages import codes

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
STORE, PAGE, README = HERE / "results" / "page.json", HERE / "RESULTS.md", ROOT / "README.md"
BEGIN, END = "<!-- measured: written by benchmarks/results.py -->", "<!-- end of measured -->"
LIMIT_S = 1200
Measured = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Found:
    """What a row found: a sentence of numbers, whether its target is met, and the numbers for machines."""

    text: str
    met: bool | None = None
    values: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One line of the page."""

    key: str
    section: str
    what: str
    target: str
    measure: Callable[[], Found]
    runs: tuple[str, ...]  # modules of torchmotif that the number comes from; what they import counts too
    threads: int = 1
    readme: bool = False

    @property
    def command(self) -> str:
        return f"python benchmarks/results.py {self.key}"


ROWS: dict[str, Row] = {}
COLUMNS, ANALYSIS = "torchmotif.columns.find", "torchmotif.analysis.analyze"  # what most rows run


def listed(values: dict[str, float], digits: int = 3) -> str:
    """Names and numbers as text."""
    return ", ".join(f"{name} {value:.{digits}f}" for name, value in values.items())


def row(
    section: str,
    what: str,
    *runs: str,
    key: str = "",
    target: str = "",
    threads: int = 1,
    readme: bool = False,
) -> Callable[[Callable[[], Found]], Callable[[], Found]]:
    """The function that follows measures a row; its name is the key unless another is given."""

    def named(measure: Callable[[], Found]) -> Callable[[], Found]:
        name = key or measure.__name__.replace("_", "-")
        ROWS[name] = Row(name, section, what, target, measure, runs, threads, readme)
        return measure

    return named


def commit() -> str:
    """The commit, and whether the code differs from it."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    return git("rev-parse", "--short=9", "HEAD") + (
        " and changes" if git("status", "--porcelain", "torchmotif") else ""
    )


def machine(threads: int) -> str:
    import torch
    from cpuinfo import get_cpu_info  # comes with pytest-benchmark

    name = get_cpu_info().get("brand_raw", platform.processor())
    return f"{name}, {threads} of {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}"


def measured(one: Row, code: str) -> dict[str, Any]:
    """The row, measured in a process of its own."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(one.threads))
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    start = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, __file__, "--one", one.key],
            env={**os.environ, **threads, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            text=True,
            timeout=LIMIT_S,
            check=True,
        )
        found = json.loads(done.stdout.splitlines()[-1])
    except subprocess.SubprocessError as error:
        found = asdict(Found(f"not measured: {type(error).__name__}", False))
    return {
        **found,
        "command": one.command,
        "code": code,
        "commit": commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(one.threads),
        "seconds": round(time.perf_counter() - start, 1),
    }


def page(rows: dict[str, Row], found: Measured, now: dict[str, str]) -> str:
    """RESULTS.md: what was asked and reached, then what is missed, in a table of its own."""
    intro = (
        "# Results\n\nWritten by `nox -s results` (under an hour on two cores); `nox -s results -- ROW` measures one row. From "
        "pixels on means: `find_columns` or `analyze` with default arguments, nothing given. Times are of the processor. Rows marked *older* "
        "were measured before the code that they run was changed. Everything else that was measured, with its history, is in "
        "`benchmarks/archive/`.\n"
    )
    sections: dict[str, list[str]] = {}
    missed = []
    for key, one in rows.items():
        got = found.get(key)
        if got is None:
            text, where = "not measured yet", ""
        else:
            old = ", *older than the code*" if got["code"] != now[key] else ""
            text, where = got["text"], f"{got['commit']}, {got['date']}{old}"
            if got["met"] is False:
                missed.append(f"| {one.what} | {one.target} | {text} |")
        sections.setdefault(one.section, []).append(
            f"| {one.what} | {text} | {one.target} | `{key}` | {where} |"
        )
    lines = [intro]
    for name, cells in sections.items():
        head = "| what | measured | asked | row | at |\n|---|---|---|---|---|\n"
        lines.append(f"## {name}\n\n{head}" + "\n".join(cells) + "\n")
    table = "| what | asked | measured |\n|---|---|---|\n" + "\n".join(missed) if missed else "None."
    lines.append("## Where it falls short\n\n" + table + "\n")
    machines = sorted({got["machine"] for got in found.values()})
    lines.append("## Machines\n\n" + "\n".join(f"- {name}" for name in machines) + "\n")
    return "\n".join(lines)


def short(rows: dict[str, Row], found: Measured, now: dict[str, str]) -> str:
    """The table of the README."""
    lines = [BEGIN, "", "| what | measured |", "|---|---|"]
    for key, one in rows.items():
        if one.readme and key in found:
            old = " (*older than the code*)" if found[key]["code"] != now[key] else ""
            anchor = one.section.lower().replace(",", "").replace(" ", "-")
            lines.append(f"| [{one.what}](benchmarks/RESULTS.md#{anchor}) | {found[key]['text']}{old} |")
    return "\n".join([*lines, "", END])


def write(rows: dict[str, Row], found: Measured, now: dict[str, str]) -> None:
    STORE.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    PAGE.write_text(page(rows, found, now), encoding="utf-8")
    before, rest = README.read_text(encoding="utf-8").split(BEGIN)
    README.write_text(before + short(rows, found, now) + rest.split(END)[1], encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", nargs="*")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--stale", action="store_true")
    parser.add_argument("--print", action="store_true", help="the page, with its ages as they are now")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    sys.path += [
        str(path) for path in HERE.iterdir() if path.is_dir()
    ]  # rows take what they need from scripts
    rows: dict[str, Row] = importlib.import_module("rows").ROWS
    if given.one:
        print(json.dumps(asdict(rows[given.one].measure())))
        return
    if given.list:
        print("\n".join(f"{key:24s}{one.section}: {one.what}" for key, one in rows.items()))
        return
    if unknown := set(given.rows) - set(rows):
        raise SystemExit(f"no such row: {', '.join(sorted(unknown))}; --list names them")
    found: Measured = json.loads(STORE.read_text(encoding="utf-8")) if STORE.exists() else {}
    found = {key: found[key] for key in rows if key in found}
    now = codes(rows.values())
    if given.print:
        print(page(rows, found, now), end="")
        return
    old = [key for key in rows if found.get(key, {}).get("code") != now[key]]
    for key in [] if given.page else given.rows or (old if given.stale else rows):
        found[key] = measured(rows[key], now[key])
        print(f"{key}: {found[key]['text']} ({found[key]['seconds']} s)", flush=True)
        write(rows, found, now)
    write(rows, found, now)


if __name__ == "__main__":
    main()
