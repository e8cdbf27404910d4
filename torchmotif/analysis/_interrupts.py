"""Loaded by the worker processes of a run: Ctrl-C reaches them, too, but it is for the parent to end them."""

import signal
import threading
from typing import Any

__all__ = ["dask_setup"]


def dask_setup(worker: Any) -> None:  # noqa: ARG001  # dask's name and signature
    """Leave interrupts to the parent; a worker would only add its traceback to the parent's one line."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
