"""Threads: how many compute, and parts of a work side by side on a CPU."""

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

import torch
from threadpoolctl import ThreadpoolController

__all__ = ["MOST_THREADS", "in_threads", "single_threaded", "threads_of_one"]

_S = TypeVar("_S")
_T = TypeVar("_T")
MOST_THREADS = 8  # parts that are worked on at once: each has intermediates of its own


_THREAD = threading.local()  # whether all that this thread calls computes in it alone


@contextmanager
def single_threaded() -> Iterator[None]:
    """One thread within, for torch and for the libraries beneath numpy, scipy and scikit-learn.

    Sums then come out the same to the last bit, however many threads or workers there are; and thousands of small steps do
    not each wait for a thread that another program keeps from running.
    """
    if getattr(_THREAD, "alone", False):
        yield
        return
    before = torch.get_num_threads()
    with _libraries(len(sys.modules)).limit(limits=1):
        _alone()  # MKL within torch is not among the libraries that are limited
        try:
            yield
        finally:
            _THREAD.alone = False
            torch.set_num_threads(before)


@lru_cache(maxsize=1)
def _libraries(modules: int) -> ThreadpoolController:  # noqa: ARG001  # asked again when there are more
    """The libraries that are loaded, with so many modules: to look for them takes milliseconds, and others come with modules."""
    return ThreadpoolController()


def _alone() -> None:
    _THREAD.alone = True
    torch.set_num_threads(1)


@contextmanager
def threads_of_one(count: int) -> Iterator[ThreadPoolExecutor]:
    """So many threads, each of which computes alone."""
    # Around all of them: what one puts back at its end is what it found.
    with single_threaded(), ThreadPoolExecutor(count, initializer=_alone) as pool:
        yield pool


def in_threads(work: Callable[[_S], _T], parts: Sequence[_S], device: torch.device) -> list[_T]:
    """What `work` makes of each part; on a CPU several parts at a time, each by one thread.

    Operations on a part are too small to be shared between threads: with two they take longer than with one. The number of
    threads is that of the thread that calls, as before, when this returns.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu":
        return [work(part) for part in parts]
    if threads == 1 or len(parts) == 1:
        with single_threaded():
            return [work(part) for part in parts]
    with threads_of_one(min(threads, MOST_THREADS)) as pool:
        return list(pool.map(work, parts))
