"""How many operations a piece of code gives to a device, and how often it has the host wait for that device.

A GPU works through a queue. Each operator that torch is asked for costs the host some 6 to 10 microseconds; as long as
the queue is not empty the device works meanwhile. A *wait* is a point where the host can go on only once the queue is
empty, 15 microseconds and more, and the device then stands idle until the host has given it the next operation.

    with counted(image.device) as count:
        tm.find_columns(image)
    count.operations, count.waits, count.by_kind

An operation is an operator of torch's dispatcher (`aten::...`) that takes or makes a tensor on the device; a composite
such as `einsum` counts as the operators it consists of. Views (`x[3:5]`, `x.T`) compute nothing but cost the host almost
as much: they are among the operations, and counted apart as well. An operation may launch no kernel, or several.

What makes the host wait is what CUDA does, by kind:

read    values come to the host: `.cpu()`, `.tolist()`; `.item()`, which is in `float`, `bool`, `if`, `range` and in an
        index that is a tensor of no dimension; `equal`, `allclose`; `masked_fill` by a value on the device.
size    the host must know how many results there are before it can make room for them: `nonzero`, a mask as index,
        `masked_select`, `unique`; twice each `bincount` (least and greatest value) and `repeat_interleave` without
        `output_size` (the sum; no negative number).
check   the host looks whether a decomposition succeeded: `eigh`, `solve`, `inv`, `cholesky`, `lu_factor`, `lstsq`; not
        their `_ex` without `check_errors`, nor `qr`, `det`, `cholesky_solve`, `solve_triangular`. `svd` twice: whether
        Jacobi's method converged, and as the others.
upload  values go to the device from memory that is not pinned: `.to(device)`, `torch.tensor(..., device=...)`,
        `new_tensor`, a list or a tensor of the host as index, a number assigned to one element or to `x[index]`, a
        tensor of the host without dimension in `torch.where`. Numbers are free in arithmetic, `x[mask] = 0.0`,
        `x[2:] = 0.0`, `torch.full` and `torch.where`.

Copies with `non_blocking=True` are no waits. What a wait takes depends on what is queued, so counts are no times.

On a stand-in or real accelerator a tensor says where it lies. On the CPU alone one pretends: tensors from outside are
taken to be on the device, arrays of numpy, results of `.cpu()` and what is made without a device to be on the host, and what
is computed from the host's tensors alone is the host's. There the device of a tensor reads `cpu:0` if it is pretended,
`cpu` if it is the host, and branches `if device.type == "cpu"` are taken as ever, so the two may differ in such code.

Only the thread that counts is counted. torch's own threads do not matter; code that works in a pool of threads where torch
has several of them does: while it counts, torch has one.
"""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["PRETENDED", "Count", "Wait", "counted"]

PRETENDED = torch.device("cpu:0")
_CPU = torch.device("cpu")
_MARK = "_lies_on_host"

_READS = {"_local_scalar_dense": 1, "equal": 1, "allclose": 1}
_SIZES = {
    "nonzero": 1,
    "masked_select": 1,
    "_unique": 1,
    "_unique2": 1,
    "unique_consecutive": 1,
    "unique_dim": 1,
    "bincount": 2,
    "repeat_interleave": 2,
}
_CHECKS = {
    "_linalg_check_errors": 1,
    "_linalg_eigh": 1,
    "linalg_eig": 1,
    "linalg_lstsq": 1,
    "cholesky_inverse": 1,
    "_linalg_svd": 2,
    "linalg_pinv": 2,  # by its svd
}
_ALWAYS = {
    name: (kind, times)
    for kind, table in (("read", _READS), ("size", _SIZES), ("check", _CHECKS))
    for name, times in table.items()
}
_BY_VALUE = {"masked_fill", "masked_fill_", "index_fill", "index_fill_"}  # a tensor as value is looked at
_INDEXING = {"index", "_unsafe_index", "index_put", "index_put_", "_index_put_impl_"}


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


_open: list[Count] = []


@contextmanager
def counted(device: torch.device | str = "cpu", inside: Path | str = "") -> Iterator[Count]:
    """Count what is asked of `device` in this block by this thread; "cpu": of one that the CPU is taken for.

    Blocks may lie within one another, on the same device. With a folder of code as `inside`, each wait says which of its
    lines it comes from.
    """
    count, threads = Count(inside=str(inside)), torch.get_num_threads()
    with ExitStack() as stack:
        if not _open:
            stack.callback(torch.set_num_threads, threads)
            torch.set_num_threads(1)
            kind = torch.device(device).type
            place = _Pretence() if kind == "cpu" else _Place(kind)
            stack.enter_context(_Operators(place))
            if isinstance(place, _Pretence):
                stack.enter_context(_Functions(place))
        _open.append(count)
        stack.callback(_open.pop)
        yield count


def _waited(kind: str, name: str, times: int = 1, size: int = 0) -> None:
    for count in _open:
        count.log.append(Wait(kind, name, times, size, _line_within(count.inside)))


def _line_within(folder: str) -> str:
    """The innermost line of a file in the folder that is running, as "path:line"."""
    frame = sys._getframe(1) if folder else None
    while frame is not None and not frame.f_code.co_filename.startswith(folder + os.sep):
        frame = frame.f_back
    return "" if frame is None else f"{os.path.relpath(frame.f_code.co_filename, folder)}:{frame.f_lineno}"


def _operated(name: str, view: bool = False) -> None:
    for count in _open:
        count.operations += 1
        count.views += view
        count.names[name] += 1


class _Place:
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


class _Pretence(_Place):
    """Where tensors of the CPU would lie: on the device, but for those with a mark."""

    def __init__(self) -> None:
        super().__init__("cpu")
        self.where = False  # where what is made from no tensor belongs
        self.where_fresh = False  # where values from Python belong

    def there(self, tensor: Tensor) -> bool:
        return not getattr(tensor, _MARK, False)

    def made(self, fresh: bool, given: list[Tensor], results: list[Tensor]) -> bool:
        if fresh or not given:
            there = self.where_fresh if fresh else self.where
        else:
            there = any(map(self.there, given))
        if not there:
            for result in results:
                setattr(result, _MARK, True)
        return there


@dataclass
class _Call:
    """One call of an operator."""

    schema: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any

    def __post_init__(self) -> None:
        self.full = self.schema.name
        self.name = self.full.removeprefix("aten::")
        self.given, self.results = _tensors((self.args, self.kwargs)), _tensors(self.result)

    @property
    def is_view(self) -> bool:
        """Whether it only looks at what is there, in another shape."""
        returns = self.schema.returns
        alias = returns[0].alias_info if returns else None
        return alias is not None and not alias.is_write

    def argument(self, name: str) -> Any:
        """The value of an argument, None where it was left out."""
        if name in self.kwargs:
            return self.kwargs[name]
        place = [argument.name for argument in self.schema.arguments].index(name)
        return self.args[place] if place < len(self.args) else None


class _Operators(TorchDispatchMode):
    """Sees each operator with the tensors that it takes and makes."""

    def __init__(self, place: _Place) -> None:
        super().__init__()
        self.place = place
        self.special = {
            "_to_copy": self.copies,
            "copy_": self.copies,
            "where": self.chooses,
            **dict.fromkeys(_INDEXING, self.indexes),
            **dict.fromkeys(_BY_VALUE, self.fills),
        }

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        call = _Call(func._schema, args, kwargs, func(*args, **kwargs))
        fresh = call.name == "lift_fresh"
        there = self.place.made(fresh, call.given, call.results)
        if there and not self.place.silent:
            if fresh:
                _waited("upload", call.full, size=call.results[0].numel())
            else:
                _operated(call.name, call.is_view)
                self.waits(call)
        return call.result

    def waits(self, call: _Call) -> None:
        """Those of one operator."""
        if call.name in _ALWAYS:
            if call.name != "repeat_interleave" or call.kwargs.get("output_size") is None:
                kind, times = _ALWAYS[call.name]
                _waited(kind, call.full, times)
        elif call.name in self.special:
            self.special[call.name](call)
        elif call.name.endswith("_ex") and call.argument("check_errors"):
            _waited("check", call.full)

    def copies(self, call: _Call) -> None:
        """From one tensor to another, if they lie apart."""
        source, target = (*call.given, *call.results)[:2]
        if call.name == "copy_":
            source, target = target, source
        start, end = self.place.there(source), self.place.there(target)
        if start != end and not call.argument("non_blocking"):
            _waited("upload" if end else "read", call.full, size=source.numel() if end else 0)

    def chooses(self, call: _Call) -> None:
        """Between tensors, of which those of the host are sent."""
        for tensor in call.given:
            if not self.place.there(tensor):
                _waited("upload", call.full, size=tensor.numel())

    def fills(self, call: _Call) -> None:
        """With a value, which is looked at if it is a tensor of the device."""
        value = call.args[-1]
        if isinstance(value, Tensor) and self.place.there(value):
            _waited("read", call.full)

    def indexes(self, call: _Call) -> None:
        """By masks, by tensors of the host; and a number of the host's is sent unless it fills a mask."""
        indices = [index for index in call.args[1] if index is not None]
        for index in indices:
            if not self.place.there(index):
                _waited("upload", call.full, size=index.numel())
        masks = [index for index in indices if index.dtype in {torch.bool, torch.uint8}]
        value = call.args[2] if len(call.args) > 2 else None
        if value is not None and value.ndim == 0 and not self.place.there(value):
            if len(indices) == len(masks) == 1 and not call.argument("accumulate"):
                return  # as masked_fill
            _waited("upload", call.full, size=1)
        if masks:
            _waited("size", f"{call.full} by mask", len(masks))


class _Functions(TorchFunctionMode):
    """On the CPU: sees the functions that move a tensor to where it is already, and where new ones are meant to be."""

    def __init__(self, place: _Pretence) -> None:
        super().__init__()
        self.place = place

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        place, name = self.place, getattr(func, "__name__", "")
        if name == "__get__" and getattr(func, "__self__", None) is torch.Tensor.device:
            return PRETENDED if place.there(args[0]) else _CPU
        if name in _READERS and args and isinstance(args[0], Tensor):
            return self.move(False, args[0], lambda: func(*args, **kwargs))
        if name in {"to", "as_tensor", "asarray"} and isinstance(args[0], Tensor):
            target = self.target(args[1:] if name == "to" else (), kwargs)
            if target is not None:
                hurried = kwargs.get("non_blocking", False)
                args = tuple(
                    _CPU if not isinstance(arg, Tensor) and arg == PRETENDED else arg for arg in args
                )  # else torch copies
                return self.move(target, args[0], lambda: func(*args, **kwargs), hurried)
        before = place.where, place.where_fresh
        given = _tensors((args, kwargs))
        device = kwargs.get("device")
        place.where = any(map(place.there, given)) if device is None else _is_pretended(device)
        # a list in an index becomes a tensor of the host first, and so does a number that is assigned
        place.where_fresh = place.where and name not in {"__getitem__", "__setitem__"}
        try:
            return func(*args, **kwargs)
        finally:
            place.where, place.where_fresh = before

    def target(self, args: Any, kwargs: Any) -> bool | None:
        """Whether `.to(...)` goes to the device; None: it says nothing of devices."""
        wanted = kwargs.get("device", kwargs.get("other", args[0] if args else None))
        if isinstance(wanted, Tensor):
            return self.place.there(wanted)
        return _is_pretended(wanted) if isinstance(wanted, str | torch.device) else None

    def move(self, target: bool, tensor: Tensor, call: Callable[[], Any], hurried: bool = False) -> Any:
        """Let the function run; one operation and one wait if the tensor lies elsewhere."""
        start = self.place.there(tensor)
        if start == target:
            return call()
        self.place.silent = True
        try:
            result = call()
            if isinstance(result, Tensor):
                result = torch.ops.aten.alias(result)  # the tensor itself stays where it is
                setattr(result, _MARK, not target)
        finally:
            self.place.silent = False
        _operated("_to_copy")
        if not hurried:
            _waited("upload" if target else "read", "aten::_to_copy", size=tensor.numel() if target else 0)
        return result


_READERS = {"cpu", "numpy", "__array__", "tolist"}


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _is_pretended(device: torch.device | str) -> bool:
    return torch.device(device) == PRETENDED
