"""The checks of types and shapes that all other tests run under: what they must refuse, and what they must let pass."""

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
import typed
from hypothesis import given
from hypothesis import strategies as st

import torchmotif as tm

SOURCE = '''
"""A module."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jaxtyping import Float, Int
from torch import Tensor

if TYPE_CHECKING:
    from elsewhere import Thing


@dataclass(frozen=True)
class Pair:
    first: Float[Tensor, "n 2"]
    second: Float[Tensor, "n"]
    name: str = "pair"

    @property
    def length(self) -> int:
        return len(self.name) if self.name != "wrong" else "wrong"

    @classmethod
    def of(cls, first: Float[Tensor, "n 2"]) -> "Pair":
        return cls(first, first[:, 0])

    @staticmethod
    def doubled(number: float) -> float:
        return 2 * number

    def later(self, right: bool = False) -> "Later":
        return Later() if right else self.name


class Later:
    pass


def same(x: Float[Tensor, "n m"], y: Float[Tensor, "m"] | None = None) -> Float[Tensor, "n"]:
    return x.sum(1) if y is None else x.sum(0)


def sized(x: Float[Tensor, "n"], size: int) -> Float[Tensor, "n {size}"]:
    return x[:, None].expand(-1, 3)


def named(x: Int[Tensor, "a"], *, name: str) -> list[str]:
    return [name] * len(x)


def within(x: Tensor, factor: float) -> Callable[[Tensor], Tensor]:
    def scaled(y: Float[Tensor, "a a"]) -> Float[Tensor, "a a"]:
        return factor * y + x

    return scaled


def outer(x: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    same(x.new_ones(7, 3))  # another n
    return x


def yielded(x: Float[Tensor, "n"]) -> Iterator[Tensor]:
    yield from x


def unknown(x: "Thing", number: int) -> "Thing":
    return x


def recursive(x: Float[Tensor, "n"]) -> Float[Tensor, ""]:
    return recursive(x[1:]) if len(x) > 1 else x[0]


def unhinted(x, y=1):
    return x
'''


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    folder = tmp_path_factory.mktemp("typed")
    (folder / "hinted_module.py").write_text(SOURCE)
    sys.path.insert(0, str(folder))
    typed.install("hinted_module")
    yield importlib.import_module("hinted_module")
    sys.path.remove(str(folder))
    del sys.meta_path[0]


ONE, TWO = torch.ones(3), torch.ones(3, 2)
WRONG = {
    "dtype": lambda m: m.same(TWO.int()),
    "number of axes": lambda m: m.same(ONE),
    "axis shared by arguments": lambda m: m.same(TWO, torch.ones(3)),
    "axis shared with what is returned": lambda m: m.same(TWO, torch.ones(2)),
    "size given by an argument": lambda m: m.sized(ONE, 4),
    "numpy where a tensor is asked for": lambda m: m.same(np.ones((3, 2))),
    "keyword": lambda m: m.named(torch.arange(3), name=5),
    "dataclass": lambda m: m.Pair(TWO, torch.ones(4)),
    "field of a dataclass": lambda m: m.Pair(TWO, ONE, 3),
    "property": lambda m: m.Pair(TWO, ONE, "wrong").length,
    "class method": lambda m: m.Pair.of(ONE),
    "static method": lambda m: m.Pair.doubled("2"),
    "function within a function": lambda m: m.within(torch.ones(()), 2.0)(TWO),
    "what a function within a function returns": lambda m: m.within(torch.ones(4, 4), 2.0)(torch.ones(1, 1)),
    "argument of a generator": lambda m: m.yielded(TWO),
    "beside a hint for mypy alone": lambda m: m.unknown(1, "2"),
    "class defined further down": lambda m: m.Pair.of(TWO).later(),
    "deep down": lambda m: m.recursive(TWO),
}
RIGHT = {
    "float as an int": lambda m: m.Pair.doubled(2) == 4,
    "axes of another function": lambda m: m.outer(ONE) is ONE,
    "axes of a function within itself": lambda m: m.recursive(ONE) == 1,
    "default": lambda m: len(m.same(TWO)) == 3,
    "size given by an argument": lambda m: m.sized(ONE, 3).shape == (3, 3),
    "dataclass": lambda m: m.Pair.of(TWO).length == 4,
    "generator": lambda m: len(list(m.yielded(ONE))) == 3,
    "hint for mypy alone": lambda m: m.unknown("x", 2) == "x",
    "class defined further down": lambda m: isinstance(m.Pair.of(TWO).later(right=True), m.Later),
    "no hints": lambda m: m.unhinted(None) is None,
}


@pytest.mark.parametrize("what", WRONG)
def test_refuses(made: ModuleType, what: str) -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        WRONG[what](made)


@pytest.mark.parametrize("what", WRONG)
def test_refuses_what_comes_after_what_was_right(made: ModuleType, what: str) -> None:
    for right in RIGHT.values():
        assert right(made)
    with pytest.raises(jaxtyping.TypeCheckError):
        WRONG[what](made)


HINTS = [
    kind[array, axes]
    for kind in (jaxtyping.Float, jaxtyping.Int, jaxtyping.Bool, jaxtyping.Float32, jaxtyping.Shaped)
    for array in (torch.Tensor, np.ndarray)
    for axes in ("", "n", "n 2", "2 n", "n n", "n m", "n _", "*s n", "... n", "#n m", "1 n 2", "2 2")
]
VALUES = [
    torch.ones(shape, dtype=dtype)
    for shape in ((), (1,), (2,), (3,), (2, 2), (3, 2), (2, 3), (1, 3), (1, 3, 2), (2, 3, 2))
    for dtype in (torch.float32, torch.float64, torch.int64, torch.bool)
]


@given(st.lists(st.tuples(st.sampled_from(HINTS), st.sampled_from(VALUES), st.booleans()), max_size=8))
def test_arrays_are_those_that_jaxtyping_says(asked: list[tuple[Any, torch.Tensor, bool]]) -> None:
    """Also that of each other's axes the same is known, apart from those that are numbers."""
    known = []
    for judge in (typed._judge, typed._is_array_of):
        with jaxtyping.jaxtyped("context"):
            said = [judge(hint, value.numpy() if numpy else value) for hint, value, numpy in asked]
            sizes, more = typed._SCOPES.memo_stack[-1][:2]
            known.append((said, {name: size for name, size in sizes.items() if name.isalpha()}, dict(more)))
    assert known[0] == known[1]


def test_an_array_that_is_wrong_gives_no_axis_its_size() -> None:
    hint, one = jaxtyping.Float[torch.Tensor, "k n"], jaxtyping.Float[torch.Tensor, "n"]
    for _ in range(2):  # at the second time both are known
        with jaxtyping.jaxtyped("context"):
            assert typed._is_array_of(one, torch.ones(2))
            assert not typed._is_array_of(hint, torch.ones(5, 3))
            assert typed._is_array_of(hint, torch.ones(4, 2))


@pytest.mark.parametrize("what", RIGHT)
def test_lets_pass(made: ModuleType, what: str) -> None:
    assert RIGHT[what](made)


def test_the_same_function_within_a_function_is_another_each_time(made: ModuleType) -> None:
    two, three = made.within(torch.zeros(()), 2.0), made.within(torch.zeros(()), 3.0)
    assert (two(torch.ones(1, 1)), three(torch.ones(1, 1)), two(torch.ones(1, 1))) == (2, 3, 2)


def test_can_be_switched_off(made: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    assert made.Pair.doubled("2") == "22"
    assert len(made.same(TWO, torch.ones(2))) == 2


def test_the_package_is_under_it() -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        tm.find_columns(torch.ones(64, 64), guided="yes")
