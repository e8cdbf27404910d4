"""Small faults for mutation.py: where they can be put into the source, and the source with one of them."""

import ast
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SWAPS: dict[type[ast.AST], tuple[type[ast.AST], ...]] = {
    ast.Add: (ast.Sub,), ast.Sub: (ast.Add,), ast.Mult: (ast.Div,), ast.Div: (ast.Mult,), ast.FloorDiv: (ast.Mult,),
    ast.Mod: (ast.FloorDiv,), ast.Pow: (ast.Mult,), ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt), ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,),
    ast.And: (ast.Or,), ast.Or: (ast.And,), ast.BitAnd: (ast.BitOr,), ast.BitOr: (ast.BitAnd,),
    ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
}  # fmt: skip


@dataclass(frozen=True)
class Site:
    """Where one change would be made."""

    key: str  # of file, function, statement and change: the same as long as these are
    file: str
    node: int  # number of it among those of the file
    change: int  # and of the change among those of the node

    def score(self, seed: int) -> str:
        """By which the sample is drawn."""
        return _short(f"{seed}:{self.key}", 40)


@dataclass(frozen=True)
class Mutant:
    """One change of one file."""

    file: str
    lines: range  # of the statement
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


def all_sites(packages: list[str]) -> list[Site]:
    """Every mutant there could be."""
    found = []
    for package in packages:
        for path in sorted((ROOT / "torchmotif" / package).glob("*.py")):
            name = str(path.relative_to(ROOT))
            tree = ast.parse(path.read_text(encoding="utf-8"))
            places, alike = dict(_places(tree, "", "")), Counter[str]()
            for i, node in enumerate(sites(tree)):
                for j, (what, _) in enumerate(changes(node)):
                    function, head = places[node]
                    key = f"{name}:{function}:{_short(f'{head}|{what}', 8)}"
                    alike[key] += 1
                    found.append(Site(f"{key}:{alike[key]}", name, i, j))
    return found


def _places(node: ast.AST, function: str, head: str) -> Iterator[tuple[ast.AST, tuple[str, str]]]:
    """Of every node below, the function or class it is in, and its statement without those within."""
    if isinstance(node, ast.stmt):
        inner = {name: [] for name in ("body", "orelse", "finalbody", "handlers") if hasattr(node, name)}
        head = ast.unparse(_with(node, **inner))
    yield node, (function, head)
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        function = f"{function}.{node.name}".lstrip(".")
    for child in ast.iter_child_nodes(node):
        yield from _places(child, function, head)


def _short(text: str, length: int) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:length]


def mutant(site: Site) -> Mutant:
    tree = ast.parse((ROOT / site.file).read_text(encoding="utf-8"))
    node = list(sites(tree))[site.node]
    what, new = list(changes(node))[site.change]
    statement = min(
        (s for s in ast.walk(tree) if isinstance(s, ast.stmt) and any(part is node for part in ast.walk(s))),
        key=lambda s: sum(1 for _ in ast.walk(s)),
    )
    inner = getattr(statement, "body", None)  # of a loop, a condition, a function: its head
    last = inner[0].lineno - 1 if inner else statement.end_lineno or statement.lineno
    lines = range(statement.lineno, max(last, statement.lineno) + 1)
    source = ast.unparse(ast.fix_missing_locations(_Replace(node, new).visit(tree)))
    return Mutant(site.file, lines, what, source)
