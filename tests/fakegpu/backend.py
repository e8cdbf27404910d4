"""A stand-in GPU for machines that have none: a torch device named "fakegpu" whose data lies in host memory.

Operations run on the CPU, but the device is another: mixing it with CPU tensors raises as on a real accelerator, and a
tensor says where it lies, so that `counting.counted` sees what moves and what the host waits for. Importing this module
registers the device for the rest of the process, so tests that use it run in a process of their own.
"""

from typing import Any, Self

import torch
import torch.utils.backend_registration
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

__all__ = ["DEVICE", "FakeGpuTensor"]

torch.utils.backend_registration._setup_privateuseone_for_python_backend("fakegpu")
torch.get_device_module("fakegpu").get_amp_supported_dtype = lambda: [torch.float16]  # what autocast asks for
DEVICE = torch.device("fakegpu:0")

_INDEXING = {"aten::index", "aten::_index_put_impl_", "aten::index_put", "aten::index_put_"}


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

    def __setitem__(self, index: Any, value: Any) -> None:
        """A number is one of the host's, as on CUDA, where it need not be sent to fill a slice or a mask."""
        if isinstance(value, bool | int | float | complex):
            value = torch.tensor(value, dtype=self.dtype)
        super().__setitem__(index, value)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run `func` on the values; refuse tensors of another device."""
        kwargs = dict(kwargs or {})
        name = func._schema.name
        if name == "aten::_to_copy":
            return _move(func, args, kwargs)
        if name == "aten::copy_":
            return _copy(*args[:2])
        kwargs.pop("device", None)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if name not in _INDEXING and any(not isinstance(t, cls) and t.ndim > 0 for t in tensors):
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
    return moved if to.type == "cpu" else FakeGpuTensor(moved)


def _copy(target: Tensor, source: Tensor) -> Tensor:
    _raw(target).copy_(_raw(source))
    return target


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
