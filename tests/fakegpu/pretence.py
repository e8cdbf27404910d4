"""A CPU that is taken for a device: which of its tensors would lie on that device, and which moves would be some."""

from collections.abc import Callable
from typing import Any

import torch
from count import Place, operated, tensors_in, waited
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["PRETENDED", "Functions", "Pretence"]

PRETENDED = torch.device("cpu:0")
_CPU = torch.device("cpu")
_MARK = "_lies_on_host"
_READERS = {"cpu", "numpy", "__array__", "tolist"}


class Pretence(Place):
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


class Functions(TorchFunctionMode):
    """On the CPU: sees the functions that move a tensor to where it is already, and where new ones are meant to be."""

    def __init__(self, place: Pretence) -> None:
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
                args = args[:1] + tuple(map(_plain, args[1:]))
                kwargs = {key: _plain(value) for key, value in kwargs.items()}
                return self.move(target, args[0], lambda: func(*args, **kwargs), hurried)
        before = place.where, place.where_fresh
        given = tensors_in((args, kwargs))
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
        operated("_to_copy")
        if not hurried:
            waited("upload" if target else "read", "aten::_to_copy", size=tensor.numel() if target else 0)
        return result


def _plain(argument: Any) -> Any:
    """The device that is pretended is another to torch, which would copy."""
    return _CPU if isinstance(argument, str | torch.device) and _is_pretended(argument) else argument


def _is_pretended(device: torch.device | str) -> bool:
    return torch.device(device) == PRETENDED
