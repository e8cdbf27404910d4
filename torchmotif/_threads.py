"""How many threads compute."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits

__all__ = ["single_threaded"]


@contextmanager
def single_threaded() -> Iterator[None]:
    """One thread within, for torch and for the libraries beneath numpy, scipy and scikit-learn.

    Sums then come out the same to the last bit, however many threads or workers there are; and thousands of small steps do
    not each wait for a thread that another program keeps from running.
    """
    before = torch.get_num_threads()
    with threadpool_limits(1):
        torch.set_num_threads(1)  # MKL within torch is not among the libraries that are limited
        try:
            yield
        finally:
            torch.set_num_threads(before)
