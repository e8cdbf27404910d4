"""Mutation testing on a random sample: small faults are put into the source, and the tests must see them.

python benchmarks/robustness/mutation.py --sample 220 --seed 0               the mutants of that sample that have no outcome yet
python benchmarks/robustness/mutation.py --sample 220 --minutes 5            as many of them as fit in the time; call it again
python benchmarks/robustness/mutation.py --only zernike --sample 20
python benchmarks/robustness/mutation.py --survivors                         those that survived and have no verdict, after tests were added
python benchmarks/robustness/mutation.py --table                             what is in results/mutation.json, survivors with verdicts

Operators, comparisons, constants, conditions and statements of zernike/, noise/, plane_graph/ and motifs/ are changed, one
at a time, in a copy of the repository. The sample are the mutants with the smallest hashes of the seed, the statement and the
change, so it stays the same where the source does. Coverage tells which of the package's tests (without the slow ones) come by the
statement; those run, the fastest first, in a process of their own (Linux, macOS) that stops at the first failure. Where all
of them pass and the module keeps results in a cache, which one test fills for the next, the others of the package follow.
After a minute of tests (--patience) a mutant counts as one that survives.

A mutant that survives is a test that is missing, or changes nothing that matters. Outcomes are added to
results/mutation.json as they come; a mutant whose file has changed since runs again. A survivor that was judged there by
hand ("verdict": a reason, "equivalent": true where no test could see it) keeps its verdict as long as it survives.
"""

import argparse
import hashlib
import importlib
import json
import math
import os
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from mutants import ROOT, Mutant, all_sites, mutant

RESULTS = Path(__file__).parents[1] / "results" / "mutation.json"
TESTS = {
    "zernike": ["tests/zernike", "torchmotif/zernike"],  # the second: the examples in docstrings
    "noise": ["tests/noise", "torchmotif/noise"],
    "plane_graph": [
        "tests/hierarchy/test_plane_graph.py",
        "tests/hierarchy/test_codes.py",
        "torchmotif/plane_graph",
    ],
    "motifs": ["tests/motifs", "tests/hardening/test_determinism.py", "torchmotif/motifs"],
}
PRELOADED = ("torch", "numpy", "scipy.spatial", "scipy.ndimage", "sklearn.utils.estimator_checks", "hypothesis", "networkx",
             "matplotlib.figure", "beartype", "jaxtyping", "skimage", "pytest")  # fmt: skip


class _Alarm:
    """Ends the process where a test takes much longer than it did without a fault."""

    def __init__(self, limits: dict[str, float]) -> None:
        self._limits = limits

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        signal.alarm(math.ceil(self._limits.get(nodeid, 1200)))


def run_tests(folder: Path, options: list[str], limits: dict[str, float]) -> int:
    """Exit status of pytest in a fork of this process, which has the slow imports behind it; -1 where time ran out.

    `limits` are those of the tests in seconds.
    """
    child = os.fork()
    if child == 0:
        sys.dont_write_bytecode = True
        os.chdir(folder)
        sys.path.insert(0, str(folder))
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        signal.alarm(60)  # until the first test
        hypothesis = importlib.import_module("hypothesis")
        phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]  # a smaller example tells no more
        hypothesis.settings.register_profile("mutants", phases=phases)
        hypothesis.settings.load_profile("mutants")
        pytest = importlib.import_module("pytest")
        usual = ["-q", "--tb=no", "-m", "not slow", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
        usual += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # hypothesis was imported before
        os._exit(int(pytest.main([*usual, *options], plugins=[_Alarm(limits)])))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else -1


@dataclass
class Tests:
    """The tests of a package: how long each takes, and which come by a line."""

    seconds: dict[str, float] = field(default_factory=dict)
    by_line: dict[str, dict[str, list[str]]] = field(default_factory=dict)  # file, line

    def of(self, change: Mutant) -> list[str]:
        """Those that come by the statement, the fastest first."""
        lines = self.by_line.get(change.file, {})
        found = {test for line in change.lines for test in lines.get(str(line), [])}
        return sorted(found & set(self.seconds), key=self.seconds.__getitem__)

    def rest(self, done: list[str]) -> list[str]:
        return sorted(set(self.seconds) - set(done), key=self.seconds.__getitem__)

    def limits(self) -> dict[str, float]:
        """Of every test in seconds; any may have to prepare what those of its file share."""
        files: dict[str, float] = {}
        for test, seconds in self.seconds.items():
            file = test.split("::")[0]
            files[file] = max(files.get(file, 0.0), seconds)
        return {test: 10 + 4 * files[test.split("::")[0]] for test in self.seconds}


def tests_of(package: str, folder: Path) -> Tests:
    """The tests that pass without any fault; kept between runs, file by file, as long as these and the package stay."""
    result = Tests()
    for name in TESTS[package]:
        files = [ROOT / name] if name.endswith(".py") else sorted((ROOT / name).rglob("test_*.py"))
        for file in [str(path.relative_to(ROOT)) for path in files] or [name]:
            kept = Path(tempfile.gettempdir()) / f"torchmotif-mutation-{package}-{_state(package, file)}.json"
            if not kept.exists():
                kept.write_text(json.dumps(_measured(package, file, folder).__dict__))
            found = Tests(**json.loads(kept.read_text()))
            result.seconds |= found.seconds
            for path, lines in found.by_line.items():
                known = result.by_line.setdefault(path, {})
                for line, tests in lines.items():
                    known[line] = known.get(line, []) + tests
    return result


def _state(package: str, file: str) -> str:
    """Of a file of tests, its fixtures and the package."""
    digest = hashlib.sha1(file.encode(), usedforsecurity=False)
    beside = (ROOT / file).parent.glob("conftest.py")
    tests = [ROOT / file, *beside] if file.endswith(".py") else []
    for path in [*tests, *sorted((ROOT / "torchmotif" / package).glob("*.py"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _measured(package: str, file: str, folder: Path) -> Tests:
    import xml.etree.ElementTree as ET  # reads what pytest has just written

    from coverage import CoverageData

    report = folder / "tests.xml"
    covered = [
        f"--cov={folder}/torchmotif/{package}",
        "--cov-context=test",
        "--cov-report=",
        "--cov-fail-under=0",
    ]
    run_tests(folder, [f"--junitxml={report}", *covered, file], {})
    result = Tests()
    for case in ET.parse(report).iter("testcase"):  # noqa: S314
        if all(case.find(bad) is None for bad in ("failure", "error", "skipped")):
            place = case.get("classname", "").replace(".", "/")
            result.seconds[f"{place}.py::{case.get('name')}"] = float(case.get("time", 0))
    data = CoverageData(str(folder / ".coverage"))
    data.read()
    for path in data.measured_files():
        lines = result.by_line.setdefault(str(Path(path).relative_to(folder)), {})
        for line, contexts in data.contexts_by_lineno(path).items():
            tests = set()
            for test, _, phase in (context.partition("|") for context in contexts):
                # What runs on import, or for a fixture that others may share, runs for all.
                tests |= {test} if test and phase != "setup" else set(result.seconds)
            lines[str(line)] = sorted(tests)
    (folder / ".coverage").unlink(missing_ok=True)
    return result


def outcome(change: Mutant, tests: Tests, folder: Path, patience: float) -> str:
    """What the tests make of a mutant: killed, timed out, survived."""
    (folder / change.file).write_text(change.source, encoding="utf-8")
    try:
        first = tests.of(change)
        cached = "cache" in change.source
        for some in (first, tests.rest(first) if cached or not first else []):
            spent = accumulate(tests.seconds[test] for test in some)
            chosen = [test for test, until in zip(some, spent, strict=True) if until <= patience]
            status = run_tests(folder, ["-x", *chosen], tests.limits()) if chosen else 0
            if status != 0:
                return "timed out" if status == -1 else "killed"
        return "survived"
    finally:
        shutil.copy(ROOT / change.file, folder / change.file)


def kept_outcomes() -> dict[str, dict[str, Any]]:
    """What earlier runs found, as far as the files are still the same."""
    return {key: one for key, one in recorded().items() if one["of"] == _digest(one["file"])}


def recorded() -> dict[str, dict[str, Any]]:
    record = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return {one["key"]: one for one in record.get("mutants", [])}


def _digest(name: str) -> str:
    path = ROOT / name
    return hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest()[:12] if path.exists() else ""


def save(outcomes: dict[str, dict[str, Any]], **facts: Any) -> None:
    """Add outcomes to those on record, which another run, or a verdict, may have changed meanwhile."""
    mutants = sorted((recorded() | outcomes).values(), key=lambda one: (one["file"], one["line"], one["key"]))
    text = json.dumps({**facts, "mutants": mutants}, indent=1) + "\n"
    part = RESULTS.with_suffix(".part")
    part.write_text(text)
    part.replace(RESULTS)


def show(outcomes: dict[str, dict[str, Any]]) -> None:
    """Counts by package, and the survivors."""
    print("| package | mutants | killed | equivalent | killed of the others |\n|---|---|---|---|---|")
    for package in [*TESTS, ""]:
        mine = [one for one in outcomes.values() if one["file"].startswith(f"torchmotif/{package}")]
        killed = sum(one["outcome"] != "survived" for one in mine)
        same = sum(bool(one.get("equivalent")) for one in mine)
        share = f"{killed / (len(mine) - same):.0%}" if len(mine) > same else ""
        print(f"| {package or 'all'} | {len(mine)} | {killed} | {same} | {share} |")
    for one in outcomes.values():
        if one["outcome"] == "survived":
            kind = "equivalent" if one.get("equivalent") else "survives"
            print(
                f"{kind}: {one['file']}:{one['line']} {one['what']}: {one.get('verdict', 'not judged yet')}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sample", type=int, default=220)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument(
        "--patience", type=float, default=60, help="seconds of tests; what survives them survives"
    )
    parser.add_argument("--only", nargs="+", choices=list(TESTS), default=list(TESTS))
    parser.add_argument(
        "--survivors", action="store_true", help="run those again that survived and have no verdict"
    )
    parser.add_argument("--table", action="store_true", help="run nothing")
    arguments = parser.parse_args()
    possible = all_sites(list(TESTS))
    chosen = sorted(possible, key=lambda site: site.score(arguments.seed))[: arguments.sample]
    before, outcomes = recorded(), kept_outcomes()
    if arguments.table:
        return show({site.key: outcomes[site.key] for site in chosen if site.key in outcomes})
    if arguments.survivors:
        again = {k for k, one in outcomes.items() if one["outcome"] == "survived" and "verdict" not in one}
        chosen = [site for site in chosen if site.key in again]
        outcomes = {}
    end = time.monotonic() + 60 * arguments.minutes
    for module in PRELOADED:
        importlib.import_module(module)
    facts = {"seed": arguments.seed, "sample": arguments.sample, "possible": len(possible)}
    tests: dict[str, Tests] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        for part in ("torchmotif", "tests"):
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        for site in chosen:
            package = Path(site.file).parts[1]
            if site.key in outcomes or package not in arguments.only:
                continue
            if time.monotonic() > end:
                break
            if package not in tests:  # once, as tests may be written meanwhile
                tests[package] = tests_of(package, folder)
            change = mutant(site)
            start = time.monotonic()
            found = outcome(change, tests[package], folder, arguments.patience)
            outcomes[site.key] = {
                "key": site.key,
                "file": change.file,
                "of": _digest(change.file),
                "line": change.lines.start,
                "what": change.what,
                "outcome": found,
            }
            if found == "survived":
                judged = before.get(site.key, {})
                outcomes[site.key] |= {key: judged[key] for key in ("verdict", "equivalent") if key in judged}
            save({site.key: outcomes[site.key]}, **facts)
            print(
                f"{found:9} {time.monotonic() - start:5.1f} s {change.file}:{change.lines.start} {change.what}",
                flush=True,
            )
    show({site.key: outcomes[site.key] for site in chosen if site.key in outcomes})
    return None


if __name__ == "__main__":
    main()
