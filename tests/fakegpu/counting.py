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

What makes the host wait is what CUDA does, by kind. It was read in torch's sources, not measured on a GPU:

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

On an accelerator, such as the stand-in of backend.py, a tensor says where it lies. On the CPU alone one pretends: tensors from outside are
taken to be on the device, arrays of numpy, results of `.cpu()` and what is made without a device to be on the host, and what
is computed from the host's tensors alone is the host's. There the device of a tensor reads `cpu:0` if it is pretended,
`cpu` if it is the host, and branches `if device.type == "cpu"` are taken as ever, so the two may differ in such code.

Only the thread that counts is counted. torch's own threads do not matter; code that works in a pool of threads where torch
has several of them does: while it counts, torch has one.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from count import OPEN, Count, Place, operated, tensors_in, waited
from pretence import PRETENDED, Functions, Pretence
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["PRETENDED", "Count", "counted"]

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


@contextmanager
def counted(device: torch.device | str = "cpu", inside: Path | str = "") -> Iterator[Count]:
    """Count what is asked of `device` in this block by this thread; "cpu": of one that the CPU is taken for.

    Blocks may lie within one another, on the same device. With a folder of code as `inside`, each wait says which of its
    lines it comes from.
    """
    count, threads = Count(inside=str(inside)), torch.get_num_threads()
    with ExitStack() as stack:
        if not OPEN:
            stack.callback(torch.set_num_threads, threads)
            torch.set_num_threads(1)
            kind = torch.device(device).type
            place = Pretence() if kind == "cpu" else Place(kind)
            stack.enter_context(_Operators(place))
            if isinstance(place, Pretence):
                stack.enter_context(Functions(place))
        OPEN.append(count)
        stack.callback(OPEN.pop)
        yield count


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
        self.given, self.results = tensors_in((self.args, self.kwargs)), tensors_in(self.result)

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

    def __init__(self, place: Place) -> None:
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
                waited("upload", call.full, size=call.results[0].numel())
            else:
                operated(call.name, call.is_view)
                self.waits(call)
        return call.result

    def waits(self, call: _Call) -> None:
        """Those of one operator."""
        if call.name in _ALWAYS:
            if call.name != "repeat_interleave" or call.kwargs.get("output_size") is None:
                kind, times = _ALWAYS[call.name]
                waited(kind, call.full, times)
        elif call.name in self.special:
            self.special[call.name](call)
        elif call.name.endswith("_ex") and call.argument("check_errors"):
            waited("check", call.full)

    def copies(self, call: _Call) -> None:
        """From one tensor to another, if they lie apart."""
        source, target = (*call.given, *call.results)[:2]
        if call.name == "copy_":
            source, target = target, source
        start, end = self.place.there(source), self.place.there(target)
        if start != end and not call.argument("non_blocking"):
            waited("upload" if end else "read", call.full, size=source.numel() if end else 0)

    def chooses(self, call: _Call) -> None:
        """Between tensors, of which those of the host are sent."""
        for tensor in call.given:
            if not self.place.there(tensor):
                waited("upload", call.full, size=tensor.numel())

    def fills(self, call: _Call) -> None:
        """With a value, which is looked at if it is a tensor of the device."""
        value = call.args[-1]
        if isinstance(value, Tensor) and self.place.there(value):
            waited("read", call.full)

    def indexes(self, call: _Call) -> None:
        """By masks, by tensors of the host; and a number of the host's is sent unless it fills a mask."""
        indices = [index for index in call.args[1] if index is not None]
        for index in indices:
            if not self.place.there(index):
                waited("upload", call.full, size=index.numel())
        masks = [index for index in indices if index.dtype in {torch.bool, torch.uint8}]
        value = call.args[2] if len(call.args) > 2 else None
        if value is not None and value.ndim == 0 and not self.place.there(value):
            if len(indices) == len(masks) == 1 and not call.argument("accumulate"):
                return  # as masked_fill
            waited("upload", call.full, size=1)
        if masks:
            waited("size", f"{call.full} by mask", len(masks))
