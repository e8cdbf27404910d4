"""A stand-in GPU for machines that have none: a torch device named "fakegpu" whose data lies in host memory.

Operations run on the CPU, but the device is another: mixing it with CPU tensors raises as on a real accelerator, and
every read from the host is counted. Importing this module registers the device for the rest of the process, so tests
that use it run in a process of their own.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import torch
import torch.utils.backend_registration
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

__all__ = ["DEVICE", "FakeGpuTensor", "count_reads", "count_uploads"]

torch.utils.backend_registration._setup_privateuseone_for_python_backend("fakegpu")
torch.get_device_module("fakegpu").get_amp_supported_dtype = lambda: [torch.float16]  # what autocast asks for
DEVICE = torch.device("fakegpu:0")

# The host must learn the number of results before it can go on.
_SIZED_BY_DATA = {
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
    "aten::unique_dim",
    "aten::bincount",
    "aten::repeat_interleave",
}
_INDEXING = {"aten::index", "aten::_index_put_impl_", "aten::index_put", "aten::index_put_"}
_reads: list[str] = []
_uploads: list[int] = []


class FakeGpuTensor(Tensor):
    """A tensor that says it is on the device and keeps its values in `raw`."""

    raw: Tensor

    @staticmethod
    def __new__(cls, raw: Tensor) -> Self:
        return Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, raw.shape, strides=raw.stride(), dtype=raw.dtype, device=DEVICE
        )

    def __init__(self, raw: Tensor) -> None:
        self.raw = raw

    def __repr__(self) -> str:  # type: ignore[override]
        return f"FakeGpuTensor({self.raw})"

    def tolist(self) -> Any:
        """Values on the host, as on a real device: by a transfer."""
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run `func` on the values; count what the host reads, refuse tensors of another device."""
        kwargs = dict(kwargs or {})
        name = func._schema.name
        if name in _SIZED_BY_DATA or name == "aten::_local_scalar_dense":
            _reads.append(name)
        if name == "aten::_to_copy":
            return _move(func, args, kwargs)
        if name == "aten::copy_":
            return _copy(*args[:2])
        kwargs.pop("device", None)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if name in _INDEXING:
            _reads.extend(f"{name} by mask" for t in tensors[1:] if t.dtype == torch.bool)
        elif any(not isinstance(t, cls) and t.ndim > 0 for t in tensors):
            raise RuntimeError(f"Expected all tensors to be on the same device, fakegpu:0 and cpu ({name})")
        result = func(*_raw(args), **_raw(kwargs))
        if func._schema.is_mutable and tensors and result is getattr(tensors[0], "raw", None):
            return tensors[0]
        return tree_map_only(Tensor, cls, result)


def _raw(tree: Any) -> Any:
    return tree_map_only(FakeGpuTensor, lambda t: t.raw, tree)


def _move(func: Any, args: Any, kwargs: dict[str, Any]) -> Tensor:
    to = torch.device(kwargs.pop("device", None) or DEVICE)
    moved = func(*_raw(args), **kwargs)
    if to.type == "cpu":
        if isinstance(args[0], FakeGpuTensor):
            _reads.append("aten::_to_copy")
        return moved
    if not isinstance(args[0], FakeGpuTensor):
        _uploads.append(moved.numel())
    return FakeGpuTensor(moved)


def _copy(target: Tensor, source: Tensor) -> Tensor:
    if isinstance(source, FakeGpuTensor) and not isinstance(target, FakeGpuTensor):
        _reads.append("aten::copy_")
    if isinstance(target, FakeGpuTensor) and not isinstance(source, FakeGpuTensor):
        _uploads.append(source.numel())
    _raw(target).copy_(_raw(source))
    return target


@contextmanager
def count_reads() -> Iterator[list[str]]:
    """The operations, so far within the block, that had the host wait for values from the device."""
    start = len(_reads)
    seen: list[str] = []
    try:
        yield seen
    finally:
        seen.extend(_reads[start:])


@contextmanager
def count_uploads() -> Iterator[list[int]]:
    """The sizes of the tensors that were sent to the device so far within the block."""
    start = len(_uploads)
    seen: list[int] = []
    try:
        yield seen
    finally:
        seen.extend(_uploads[start:])


def _empty(size: Any, *, dtype: Any = None, **_: Any) -> Tensor:
    return FakeGpuTensor(torch.empty(size, dtype=dtype, device="cpu"))


def _empty_strided(size: Any, stride: Any, *, dtype: Any = None, **_: Any) -> Tensor:
    return FakeGpuTensor(torch.empty_strided(size, stride, dtype=dtype, device="cpu"))


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:  # noqa: ARG001
    return _copy(target, source)


def _made_by(factory: Any) -> Any:
    """A function that makes a tensor without being given one, such as `arange`."""

    def make(*args: Any, device: Any = None, pin_memory: Any = None, **kwargs: Any) -> Tensor:  # noqa: ARG001
        return FakeGpuTensor(factory(*args, device="cpu", **kwargs))

    return make


_library = torch.library.Library("aten", "IMPL")
_library.impl("empty.memory_format", _empty, "PrivateUse1")
_library.impl("empty_strided", _empty_strided, "PrivateUse1")
_library.impl("_copy_from", _copy_from, "PrivateUse1")
for _factory in ("arange", "arange.start", "arange.start_step", "eye", "eye.m", "linspace"):
    _library.impl(_factory, _made_by(getattr(torch, _factory.split(".")[0])), "PrivateUse1")
