"""What was counted, and where tensors lie; counting.py says what counts."""

import os
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

__all__ = ["OPEN", "Count", "Place", "Wait", "operated", "tensors_in", "waited"]


@dataclass(frozen=True)
class Wait:
    """Why the host waited: kind, operator, how often in it, number of values of an upload, line of code."""

    kind: str
    name: str
    times: int = 1
    size: int = 0
    where: str = ""


@dataclass
class Count:
    """What was counted, so far within the block."""

    operations: int = 0
    views: int = 0
    inside: str = ""  # the folder whose lines of code are noted
    log: list[Wait] = field(default_factory=list)
    names: Counter[str] = field(default_factory=Counter)

    @property
    def waits(self) -> int:
        """How often the host waited."""
        return sum(wait.times for wait in self.log)

    @property
    def by_kind(self) -> dict[str, int]:
        """How often for each kind; kinds that did not occur are absent."""
        return dict(self._sums(lambda wait: wait.kind))

    @property
    def by_line(self) -> dict[tuple[str, str], int]:
        """How often for each kind and line of code, the most frequent first."""
        return dict(self._sums(lambda wait: (wait.kind, wait.where)).most_common())

    def _sums(self, key: Callable[[Wait], Any]) -> Counter[Any]:
        sums: Counter[Any] = Counter()
        for wait in self.log:
            sums[key(wait)] += wait.times
        return sums

    @property
    def reads(self) -> list[str]:
        """The operators of which the host needed the values, or their number; without the checks."""
        return [wait.name for wait in self.log if wait.kind in {"read", "size"}]

    @property
    def uploads(self) -> list[int]:
        """Number of values of each tensor that was sent to the device."""
        return [wait.size for wait in self.log if wait.kind == "upload"]


OPEN: list[Count] = []  # those of the blocks that are running


def waited(kind: str, name: str, times: int = 1, size: int = 0) -> None:
    for count in OPEN:
        count.log.append(Wait(kind, name, times, size, _line_within(count.inside)))


def _line_within(folder: str) -> str:
    """The innermost line of a file in the folder that is running, as "path:line"."""
    frame = sys._getframe(1) if folder else None
    while frame is not None and not frame.f_code.co_filename.startswith(folder + os.sep):
        frame = frame.f_back
    return "" if frame is None else f"{os.path.relpath(frame.f_code.co_filename, folder)}:{frame.f_lineno}"


def operated(name: str, view: bool = False) -> None:
    for count in OPEN:
        count.operations += 1
        count.views += view
        count.names[name] += 1


class Place:
    """Where tensors lie: they say it themselves."""

    silent = False  # what runs now is counted by who runs it

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def there(self, tensor: Tensor) -> bool:
        """Whether a tensor lies on the device."""
        return tensor.device.type == self.kind

    def made(self, fresh: bool, given: list[Tensor], results: list[Tensor]) -> bool:
        """Whether an operator worked on the device. `fresh`: it took values from Python."""
        del fresh
        return any(map(self.there, given)) or any(map(self.there, results))


def tensors_in(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
