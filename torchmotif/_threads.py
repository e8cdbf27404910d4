"""Threads: parts of a work side by side on a CPU, each on one thread of torch."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

__all__ = ["in_threads", "single_threaded"]

_S = TypeVar("_S")
_T = TypeVar("_T")


@contextmanager
def single_threaded() -> Iterator[None]:
    """One thread for torch within: sums then come out the same to the last bit, however many threads there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_threads(work: Callable[[_S], _T], parts: Sequence[_S], device: torch.device) -> list[_T]:
    """What `work` makes of each part; on a CPU several parts at a time, each by one thread.

    Operations on a part are too small to be shared between threads: with two they take longer than with one. torch's
    number of threads is that of the thread that calls, as before, when this returns.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        return [work(part) for part in parts]
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(work, parts))
    finally:
        torch.set_num_threads(threads)
