"""Types and shapes of every function of the package, checked at each call of it.

It checks what jaxtyping's own import hook checks, with the same two libraries. That hook binds the arguments of each
call to its signature and asks beartype about them twice, once before the call and once beside what it returned. With
coverage's tracer on top this took longer than what was called. Here beartype is asked once, only functions whose
hints name axes open a scope for them, and an array that is right is known as such in a few lines: coverage's tracer is
called at each line, also of jaxtyping. What is not known to be right jaxtyping judges, and says what is wrong.
"""

import ast
import dataclasses
import functools
import inspect
import sys
import threading
import typing
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, FunctionType, ModuleType, SimpleNamespace
from typing import Any

import beartype
import jaxtyping

# An int is welcome where a float is asked for (PEP 484).
_RULES = beartype.BeartypeConf(is_pep484_tower=True, violation_type=jaxtyping.TypeCheckError)
_beartype = beartype.beartype(conf=_RULES)
_MADE: dict[tuple[str, CodeType], tuple[Callable[..., Any], Callable[..., Any], bool]] = {}
_SCOPE = jaxtyping.jaxtyped("context")  # of the names of axes; it holds nothing itself
# Where jaxtyping keeps the scopes of each thread; should it keep them elsewhere, it judges every array.
_SCOPES = getattr(getattr(jaxtyping, "_storage", None), "_shape_storage", threading.local())
_ARRAYS: Any = type(jaxtyping.Float[Any, ""])  # whose instances are all hints of arrays
_HINTS: dict[Any, tuple[Any, set[Any], tuple[str, ...], dict[str, int]]] = {}
_judge = _ARRAYS.__instancecheck__
_NAME = "__checked__"


def checked(thing: Any) -> Any:
    """A function that checks its hints, or a class whose ``__init__`` does where it is a dataclass."""
    if isinstance(thing, type):
        if dataclasses.is_dataclass(thing) and not hasattr(thing.__init__, "__wrapped__"):
            thing.__init__ = checked(thing.__init__)
        return thing
    # Sizes that arguments give, "n {size}", need these by name; what a generator yields belongs to no one call.
    if inspect.isgeneratorfunction(thing) or any("{" in str(hint) for hint in thing.__annotations__.values()):
        return jaxtyping.jaxtyped(typechecker=_beartype)(thing)
    typed: Callable[..., Any] | None = None
    axes = False

    def called(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        nonlocal typed, axes
        if jaxtyping.config.jaxtyping_disable:
            return thing(*args, **kwargs)
        if typed is None:  # at the first call classes that are defined further down are known
            typed, axes = _typed(thing)
        if not axes:
            return typed(*args, **kwargs)
        scopes = getattr(_SCOPES, "memo_stack", None)
        if scopes is None:  # the first in this thread
            with _SCOPE:
                return typed(*args, **kwargs)
        scopes.append(({}, {}, {}, {}))  # as _SCOPE does
        try:
            return typed(*args, **kwargs)
        finally:
            scopes.pop()

    return functools.wraps(thing)(called)


def _typed(function: Callable[..., Any]) -> tuple[Callable[..., Any], bool]:
    """A function that asks beartype, and whether its hints name axes.

    beartype takes a millisecond to make one; what the same ``def`` within a function gives anew gets a copy of it.
    """
    place = (function.__module__, function.__code__)
    if place not in _MADE or "<locals>" not in function.__qualname__:
        hints, function.__annotations__ = function.__annotations__, _resolved(function)
        axes = any("jaxtyping" in str(hint) for hint in function.__annotations__.values())
        _MADE[place] = (function, _beartype(function), axes)
        function.__annotations__ = hints
    first, typed, axes = _MADE[place]
    if typed is first:  # without hints there is nothing to ask
        return function, axes
    if function is not first:
        asking, typed = (
            typed,
            FunctionType(typed.__code__, typed.__globals__, typed.__name__, typed.__defaults__),
        )
        typed.__kwdefaults__ = {
            name: function if it is first else it for name, it in asking.__kwdefaults__.items()
        }
    return typed, axes


def _resolved(function: Callable[..., Any]) -> dict[str, Any]:
    """The hints of a function; Any for what is imported for mypy alone."""

    def resolved(name: str, hint: Any) -> Any:
        try:
            return typing.get_type_hints(
                SimpleNamespace(__annotations__={name: hint}), function.__globals__, include_extras=True
            )[name]
        except NameError:
            return Any

    return {name: resolved(name, hint) for name, hint in function.__annotations__.items()}


def _is_array_of(hint: Any, value: Any) -> bool:
    """Whether a value is an array of a hint, as jaxtyping says, with a short way to a yes."""
    kind, dtypes, axes, known = _HINTS.get(hint) or _HINTS.setdefault(hint, _plain(hint))
    if type(value) is not kind:
        return _judge(hint, value)
    scopes = getattr(_SCOPES, "memo_stack", None)
    if scopes and value.dtype in dtypes:
        sizes, shape = scopes[-1][0], tuple(value.shape)
        before = len(sizes)
        sizes.update(known)
        if len(shape) == len(axes) and tuple(map(sizes.setdefault, axes, shape)) == shape:
            return True
        while len(sizes) > before:  # an array that is wrong says nothing about the others
            sizes.popitem()
    right = _judge(hint, value)
    if right:
        dtypes.add(value.dtype)
    return right


def _plain(hint: Any) -> tuple[Any, set[Any], tuple[str, ...], dict[str, int]]:
    """The class of a hint's arrays, their dtypes, of which none is known yet, their axes, and the size of those that have one.

    No class if there are other axes than those with a name or a size.
    """
    axes: list[str] = []
    known: dict[str, int] = {}
    for axis in getattr(hint, "dims", ()):
        name, size = getattr(axis, "name", None), getattr(axis, "size", None)
        axes.append(name or str(size))
        if size is not None:
            known[str(size)] = size
        if getattr(axis, "broadcastable", True) or getattr(axis, "treepath", False) or axes[-1] == "None":
            return None, set(), (), {}
    plain = getattr(hint, "index_variadic", 0) is None
    return hint.array_type if plain else None, set(), tuple(axes), known


class _Decorated(ast.NodeTransformer):
    """Every function and every class, with `checked` nearest to the function, and furthest from the class."""

    def visit_Module(self, node: ast.Module) -> ast.Module:
        self.generic_visit(node)
        at = int(ast.get_docstring(node, clean=False) is not None)
        node.body.insert(at, ast.ImportFrom(__name__, [ast.alias("checked", _NAME)], 0))
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.decorator_list.append(ast.copy_location(ast.Name(_NAME, ast.Load()), node))
        self.generic_visit(node)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        node.decorator_list.insert(0, ast.copy_location(ast.Name(_NAME, ast.Load()), node))
        self.generic_visit(node)
        return node


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        """Compiled anew: what Python keeps beside the file has no decorators."""
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)

    def source_to_code(self, data: Any, path: Any, **options: Any) -> CodeType:
        tree = _Decorated().visit(ast.parse(data, path))
        return super().source_to_code(ast.fix_missing_locations(tree), path, **options)


class _Finder(MetaPathFinder):
    def __init__(self, package: str) -> None:
        self._package = package

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] != self._package:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


def install(package: str) -> None:
    """Check every function of a package that is imported from here on, unless JAXTYPING_DISABLE is set."""
    _ARRAYS.__instancecheck__ = _is_array_of
    sys.meta_path.insert(0, _Finder(package))
