"""New memory for large results, and work in batches that shrink when memory runs out."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from torchmotif.errors import OutOfMemoryError

__all__ = ["empty", "in_batches", "memory_for"]

T = TypeVar("T")
_HUGE = 1 << 22  # bytes from which numpy asks for huge pages
# What torch's allocators say that raise a plain RuntimeError: CPU (Linux, Windows), MPS, CUDA's libraries.
_SIGNS = ("can't allocate memory", "not enough memory", "out of memory", "ALLOC_FAILED")


def empty(like: Tensor, *shape: int) -> Tensor:
    """A new tensor of this shape, of the type and on the device of `like`; its values are anything.

    Large ones on a CPU get their memory as numpy does: in huge pages, where the system has them, which are twice as fast
    to touch first.

    Examples
    --------
    >>> empty(torch.zeros(2), 3, 4).shape
    torch.Size([3, 4])
    """
    nbytes = math.prod(shape) * like.dtype.itemsize
    if like.device.type != "cpu" or nbytes < _HUGE:
        return like.new_empty(shape)
    return torch.from_numpy(np.empty(nbytes, np.uint8)).view(like.dtype).view(shape)


def in_batches(step: Callable[[int, int], T], count: int, batch: int, remedy: str) -> Iterator[T]:
    """Run `step` over `count` items, at most `batch` at a time; where memory runs out, over half as many from there on.

    Parameters
    ----------
    step : function
        From the first item and the one after the last to a result. It may be called again with fewer items after it
        failed, so it must not have changed anything by then.
    count : int
        Number of items.
    batch : int
        Most items at a time, from a budget of bytes; values below 1 count as 1.
    remedy : str
        What to set where not even one item fits, such as "use smaller patches"; ends the error message.

    Yields
    ------
    object
        The results, in order.

    Raises
    ------
    OutOfMemoryError
        If a single item does not fit.

    Examples
    --------
    >>> list(in_batches(lambda start, stop: list(range(start, stop)), 5, 2, "count less"))
    [[0, 1], [2, 3], [4]]
    """
    start, batch = 0, max(1, batch)
    while start < count:
        stop = min(start + batch, count)
        try:
            result = step(start, stop)
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            if stop - start == 1:
                raise _with(remedy) from error
            batch = (stop - start) // 2
            continue  # ends the block, and with it what the failed step still held
        yield result
        start = stop


@contextmanager
def memory_for(remedy: str) -> Iterator[None]:
    """Within the block, running out of memory raises our error that ends with `remedy`.

    Raises
    ------
    OutOfMemoryError
        If memory runs out.
    """
    try:
        yield
    except OutOfMemoryError:  # says already what to do
        raise
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        raise _with(remedy) from error


def _with(remedy: str) -> OutOfMemoryError:
    return OutOfMemoryError(f"memory ran out, even in the smallest steps; {remedy}")


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in _SIGNS)
