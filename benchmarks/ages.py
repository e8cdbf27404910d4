"""Whether the code that a number came from has changed since: digests of syntax, without comments and docstrings."""

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from results import Found, Row

__all__ = ["codes", "digest"]

HERE = Path(__file__).resolve().parent


def bare(source: str) -> str:
    """A module's syntax without comments and docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:]
    return ast.dump(tree)


def digest(files: Iterable[Path]) -> str:
    """Of what the files do: changes with a constant, not with a comment."""
    return hashlib.sha256("".join(map(_digest, sorted(files))).encode()).hexdigest()[:16]


@cache
def _digest(path: Path) -> str:
    return hashlib.sha256((path.name + bare(path.read_text(encoding="utf-8"))).encode()).hexdigest()


@cache
def _scripts() -> dict[str | None, Path]:
    return {path.stem: path for path in HERE.rglob("*.py")}


def scripts_of(measure: "Callable[[], Found]") -> set[Path]:
    """Files of benchmarks/ that a row's function imports, and those that they import."""
    waiting = [textwrap.dedent(inspect.getsource(measure))]
    found: set[Path] = set()
    while waiting:
        for node in ast.walk(ast.parse(waiting.pop())):
            names = (
                [node.module]
                if isinstance(node, ast.ImportFrom)
                else [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else []
            )
            for name in names:
                path = _scripts().get(name)
                if path is not None and path not in found:
                    found.add(path)
                    waiting.append(path.read_text(encoding="utf-8"))
    return found


def function_of(measure: "Callable[[], Found]") -> str:
    """What a row's function does, but not what the page says of it: its syntax without decorators, and what it has from around it."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(measure)))
    function = tree.body[0]
    assert isinstance(function, ast.FunctionDef)
    function.decorator_list = []
    return bare(ast.unparse(tree)) + repr(sorted(inspect.getclosurevars(measure).nonlocals.items()))


def codes(rows: "Iterable[Row]") -> dict[str, str]:
    """What stands for the code of each row now."""
    import grimp

    graph = grimp.build_graph("torchmotif", cache_dir=None)

    def file_of(module: str) -> Path:
        path = HERE.parent.joinpath(*module.split("."))
        return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")

    found = {}
    for one in rows:
        modules = set().union(*({name, *graph.find_upstream_modules(name)} for name in one.runs))
        own = hashlib.sha256(function_of(one.measure).encode()).hexdigest()
        found[one.key] = digest({*map(file_of, modules), *scripts_of(one.measure)}) + own[:8]
    return found
