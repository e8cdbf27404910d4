"""Mutation testing on a random sample: small faults are put into the source, and the tests must see them.

python benchmarks/mutation.py --sample 200 --seed 0               the sample of that seed, one after the other
python benchmarks/mutation.py --sample 200 --minutes 15           as many of them as fit in the time
python benchmarks/mutation.py --only zernike --sample 20

Operators, comparisons, constants, conditions and statements of zernike/, noise/, plane_graph/ and motifs/ are changed, one
at a time, in a copy of the repository; the tests that belong to the package run in a process of their own (Linux,
macOS) and stop at the first failure. A mutant that survives is a test that is missing, or changes nothing that matters.
Counts and survivors go to results/mutation.json.
"""

import argparse
import ast
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "mutation.json"
TESTS = {
    "zernike": ["tests/zernike"],
    "noise": ["tests/noise"],
    "plane_graph": ["tests/hierarchy/test_plane_graph.py", "tests/hierarchy/test_codes.py"],
    "motifs": [
        "tests/motifs/test_parts.py",
        "tests/motifs/test_classifier.py",
        "tests/hardening/test_determinism.py",
    ],
}
PRELOADED = ("torch", "numpy", "scipy.spatial", "scipy.ndimage", "sklearn.utils.estimator_checks", "hypothesis", "networkx",
             "matplotlib.figure", "beartype", "jaxtyping", "skimage", "pytest")  # fmt: skip
SWAPS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.Div,), ast.Div: (ast.Mult,), ast.FloorDiv: (ast.Mult,),
    ast.Mod: (ast.FloorDiv,), ast.Pow: (ast.Mult,), ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt), ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,),
    ast.And: (ast.Or,), ast.Or: (ast.And,), ast.BitAnd: (ast.BitOr,), ast.BitOr: (ast.BitAnd,),
    ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change of one file."""

    file: str
    line: int
    what: str
    source: str


def sites(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes that are executed: no annotations, no docstrings, no messages of errors, no type checking."""
    skipped: set[int] = set()
    for part in ast.walk(node):
        if isinstance(part, ast.arg | ast.AnnAssign):
            skipped.add(id(part.annotation))
        elif isinstance(part, ast.FunctionDef):
            skipped.add(id(part.returns))
        elif isinstance(part, ast.Raise | ast.JoinedStr | ast.Assert) or (
            isinstance(part, ast.If) and ast.unparse(part.test) == "TYPE_CHECKING"
        ):
            skipped.add(id(part))
    waiting = [node]
    while waiting:
        part = waiting.pop()
        if id(part) not in skipped:
            yield part
            waiting += ast.iter_child_nodes(part)


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:  # noqa: C901  # a table of cases
    """What can be put in the node's place."""
    if isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp):
        for other in SWAPS.get(type(node.op), ()):
            yield f"{type(node.op).__name__} -> {other.__name__}", _with(node, op=other())
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        for other in SWAPS.get(type(node.ops[0]), ()):
            yield f"{type(node.ops[0]).__name__} -> {other.__name__}", _with(node, ops=[other()])
    elif isinstance(node, ast.UnaryOp):
        yield f"without {type(node.op).__name__}", node.operand
    elif isinstance(node, ast.If | ast.IfExp | ast.While):
        yield "condition negated", _with(node, test=ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield f"{node.value} -> {not node.value}", ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int):
        yield f"{node.value} -> {node.value + 1}", ast.Constant(node.value + 1)
        yield f"{node.value} -> {node.value - 1}", ast.Constant(node.value - 1)
    elif isinstance(node, ast.Constant) and isinstance(node.value, float):
        yield f"{node.value} -> {2 * node.value + 0.5}", ast.Constant(2 * node.value + 0.5)
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield f"without {ast.unparse(node)[:50]}", ast.Pass()
    elif isinstance(node, ast.Return) and node.value is not None:
        yield "returns None", ast.Return(ast.Constant(None))


def _with(node: ast.AST, **fields: object) -> ast.AST:
    copy = type(node)(**{**dict(ast.iter_fields(node)), **fields})
    return ast.copy_location(copy, node)


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else self.generic_visit(node)


def all_sites(packages: list[str]) -> list[tuple[str, int, int]]:
    """File, number of the site in it, and number of the change, for every mutant there could be."""
    found = []
    for package in packages:
        for path in sorted((ROOT / "torchmotif" / package).glob("*.py")):
            name = str(path.relative_to(ROOT))
            for i, node in enumerate(sites(ast.parse(path.read_text(encoding="utf-8")))):
                found += [(name, i, j) for j, _ in enumerate(changes(node))]
    return found


def mutant(name: str, site: int, change: int) -> Mutant:
    tree = ast.parse((ROOT / name).read_text(encoding="utf-8"))
    node = list(sites(tree))[site]
    what, new = list(changes(node))[change]
    line = getattr(node, "lineno", 0)
    source = ast.unparse(ast.fix_missing_locations(_Replace(node, new).visit(tree)))
    return Mutant(name, line, what, source)


def run_tests(folder: Path, tests: list[str], seconds: float, report: Path | None = None) -> int:
    """Exit status of pytest in a fork of this process, which has the slow imports behind it; -1 where time ran out."""
    child = os.fork()
    if child == 0:
        sys.dont_write_bytecode = True
        os.chdir(folder)
        sys.path.insert(0, str(folder))
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        signal.alarm(int(seconds))
        pytest = importlib.import_module("pytest")
        options = ["-q", "-m", "not slow", "-p", "no:cacheprovider", "--hypothesis-seed=0"]
        options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # hypothesis was imported before
        os._exit(
            int(pytest.main([*options, *(["-x"] if report is None else [f"--junitxml={report}"]), *tests]))
        )
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else -1


def baseline(folder: Path, package: str) -> tuple[list[str], float]:
    """Tests of the package that pass without any fault, and the seconds that they take."""
    import xml.etree.ElementTree as ET  # reads what pytest has just written

    report = folder / f"{package}.xml"
    start = time.monotonic()
    run_tests(folder, TESTS[package], 900, report)
    took = time.monotonic() - start
    options = list(TESTS[package])
    for case in ET.parse(report).iter("testcase"):  # noqa: S314
        if case.find("failure") is not None or case.find("error") is not None:
            place = case.get("classname", "").replace(".", "/")
            options += ["--deselect", f"{place}.py::{case.get('name')}"]
    return options, took


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sample", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--only", nargs="+", choices=list(TESTS), default=list(TESTS))
    arguments = parser.parse_args()
    for module in PRELOADED:
        importlib.import_module(module)
    possible = all_sites(arguments.only)
    chosen = random.Random(arguments.seed).sample(possible, min(arguments.sample, len(possible)))  # noqa: S311
    end = time.monotonic() + 60 * arguments.minutes
    outcomes: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("torchmotif", "tests"):
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        ready: dict[str, tuple[list[str], float]] = {}
        for site in chosen:
            if time.monotonic() > end:
                break
            package = Path(site[0]).parts[1]
            if package not in ready:
                ready[package] = baseline(folder, package)
                print(f"{package}: {ready[package][1]:.0f} s without a fault", *ready[package][0], flush=True)
            tests, took = ready[package]
            change = mutant(*site)
            (folder / change.file).write_text(change.source, encoding="utf-8")
            status = run_tests(folder, tests, 3 * took + 20)
            shutil.copy(ROOT / change.file, folder / change.file)
            killed = status != 0
            outcomes.append({"file": change.file, "line": change.line, "what": change.what, "killed": killed})
            print(
                f"{'killed' if killed else 'SURVIVES':9} {change.file}:{change.line} {change.what}",
                flush=True,
            )
    table = Counter((Path(str(o["file"])).parts[1], o["killed"]) for o in outcomes)
    summary = {}
    for package in arguments.only:
        killed, alive = table[package, True], table[package, False]
        summary[package] = {"mutants": killed + alive, "killed": killed}
    killed = sum(bool(o["killed"]) for o in outcomes)
    print(f"{killed} of {len(outcomes)} killed of {len(possible)} possible", summary)
    survivors = [o for o in outcomes if not o["killed"]]
    record = {"seed": arguments.seed, "possible": len(possible), "packages": summary, "survivors": survivors}
    RESULTS.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
