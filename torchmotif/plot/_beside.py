"""Sheets drawn by a second process while this one computes, where there is one; else here.

Drawing needs neither torch nor what else the analysis loads: the second process has loaded matplotlib before there is anything
to draw. It is sent arrays, numbers and texts, of which nothing is unpickled, and sends back the bytes of a picture; it writes
no files. What it cannot draw, or draws with a warning, is drawn here, where errors and warnings belong.
"""

import io
import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Literal

import numpy as np

from torchmotif.plot._packed import IN_A_FILE, packed, pixels, svg
from torchmotif.plot._sheets import sheet

__all__ = ["Drawing", "Second", "beside", "draw", "main", "serve"]

Format = Literal["png", "svg"]
_SIZE = 8  # bytes before each message, that say how long it is
_ARRAY = "torchmotif array"  # in the place of an array: its number
# Of the interpreter's own search path and nothing else: a file of the working folder is not taken for a module.
_START = "import sys; sys.path[:] = sys.argv[1:]; from torchmotif.plot._beside import main; main()"
_ALONE = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMEXPR")}


class Drawing:
    """A sheet that is being drawn, or is: what `draw` was asked for, by the second process or, without one, here."""

    def __init__(self, name: str, kind: Format, arguments: dict[str, Any], second: "Second | None") -> None:
        self._what = name, kind, arguments
        self._found = _here(*self._what) if second is None else second.asked(*self._what)

    def result(self) -> bytes:
        """The picture, which is waited for."""
        found = self._found.result()
        return found or _here(*self._what).result()


class Second:
    """The second process, which draws one sheet after the other.

    Parameters
    ----------
    process : Popen
        Of `main`.

    Attributes
    ----------
    drawn : int
        How many sheets it has drawn.
    """

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process, self._pool, self.drawn = process, ThreadPoolExecutor(1), 0

    def asked(self, name: str, kind: Format, arguments: dict[str, Any]) -> "Future[bytes]":
        """Ask for a sheet; what comes is empty where the process could not draw it."""
        return self._pool.submit(self._reply, [name, kind, arguments])

    def _reply(self, what: list[Any]) -> bytes:
        message = _message(what)  # of one request at a time: it holds a copy of the image
        source: Any = self._process.stdout
        target: Any = self._process.stdin
        try:
            _write(target, message)
            found = _read(source) or b""
        except (OSError, ValueError):  # it is gone
            return b""
        self.drawn += bool(found)
        return found

    def end(self) -> None:
        """End the process, and leave what was not drawn: it holds nothing and writes no files.

        It is killed, not asked to end: its pipe cannot be closed while a thread writes to it, which waits for ever for a process that is stopped.
        """
        self._pool.shutdown(wait=False, cancel_futures=True)
        process = self._process
        try:
            process.kill()
        finally:
            process.wait()
            self._pool.shutdown()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):  # what was not written has nobody to go to
                    if pipe is not None:
                        pipe.close()


_second: "ContextVar[Second | None]" = ContextVar("second", default=None)


def draw(name: str, kind: Format, arguments: dict[str, Any]) -> Drawing:
    """Have a sheet drawn: by the second process within `beside`, else here and now.

    Parameters
    ----------
    name : str
        Of the sheet, see `torchmotif.plot._sheets`.
    kind : {"png", "svg"}
    arguments : dict
        Of the sheet.
    """
    return Drawing(name, kind, arguments, _second.get())


@contextmanager
def beside() -> "Iterator[Second | None]":
    """A second process, which draws all sheets within, and has ended afterwards; none on a single core.

    An interrupt from the terminal is for the first process alone, which ends the second.

    Yields
    ------
    Second or None
    """
    second = _started() if _cores() > 1 else None
    if second is None:
        yield None
        return
    token = _second.set(second)
    try:
        yield second
    finally:
        _second.reset(token)
        second.end()


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _started() -> Second | None:
    if not sys.executable:  # a program that has its interpreter built in
        return None
    group: dict[str, Any] = {"process_group": 0}
    if sys.platform == "win32":
        group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    try:
        process = subprocess.Popen(  # noqa: S603  # this interpreter
            [sys.executable, "-P", "-c", _START, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **_ALONE},
            **group,
        )
    except (OSError, ValueError):  # no interpreter to be had
        return None
    return Second(process)


def main() -> None:
    """The whole life of the second process: requests come from standard input, pictures go to standard output."""
    target = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints does not get among the pictures
    source: Any = sys.stdin.buffer
    serve(source, target)
    os._exit(0)  # nothing is left to be done


def serve(source: io.BufferedIOBase, target: io.BufferedIOBase) -> None:
    """Draw what is asked for until nothing more can come.

    Parameters
    ----------
    source, target : binary file
        Where requests come from and pictures go to.
    """
    _warm_up()
    said = _Said()
    logging.getLogger("matplotlib").addHandler(said)  # of a font that is missing it gives no warning
    with suppress(OSError):  # nobody is there any more
        while (message := _read(source)) is not None:
            said.any = False
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")  # it is drawn again where a warning is seen
                    for unseen in (DeprecationWarning, PendingDeprecationWarning):  # nor is it seen there
                        warnings.simplefilter("ignore", unseen)
                    found = _here(*_content(message)).result()
                    found = b"" if said.any else found
            except Exception:  # noqa: BLE001  # whatever it is, it comes again where it is seen
                found = b""
            _write(target, found)


class _Said(logging.Handler):
    """Whether a library has logged a warning, or worse."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.any = False

    def emit(self, record: logging.LogRecord) -> None:  # noqa: ARG002  # what it says is logged again where it is seen
        """Note that it has."""
        self.any = True


def _warm_up() -> None:
    """Load what drawing needs, fonts among it."""
    with suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        point = {
            "sizes": [1],
            "lines": np.zeros((0, 2, 2)),
            "points": {"neutral": np.ones((1, 2))},
            "null": "no",
        }
        for kind in ("png", "svg"):
            _here("growth", kind, point).result()


def _here(name: str, kind: Format, arguments: dict[str, Any]) -> "Future[bytes]":
    """Draw a sheet in this process; a thread packs pixels, which takes as long as drawing, while others are drawn."""
    figure = sheet(name, arguments)
    if kind == "svg":
        done: Future[bytes] = Future()
        done.set_result(svg(figure))
        return done
    pool = ThreadPoolExecutor(1)
    packing = pool.submit(packed, pixels(figure, IN_A_FILE), IN_A_FILE)
    pool.shutdown(wait=False)
    return packing


def _message(value: Any) -> bytes:
    """A value of numbers, texts, lists, mappings and arrays as bytes; of anything else a TypeError."""
    arrays: list[np.ndarray] = []

    def apart(one: Any) -> dict[str, int]:
        array = np.asarray(one)
        if array.dtype.hasobject:  # it would be pickled
            raise TypeError(f"a sheet is of arrays, numbers and texts, got {type(one).__name__}")
        arrays.append(array)
        return {_ARRAY: len(arrays) - 1}

    text = json.dumps(value, default=apart)
    named: dict[str, Any] = {f"array{k}": one for k, one in enumerate(arrays)}
    file = io.BytesIO()
    np.savez(file, text=np.frombuffer(text.encode(), np.uint8), **named)
    return file.getvalue()


def _content(message: bytes) -> Any:
    """The value of a message; tuples have become lists."""
    with np.load(io.BytesIO(message), allow_pickle=False) as file:
        text = file["text"].tobytes().decode()
        return json.loads(
            text, object_hook=lambda one: file[f"array{one[_ARRAY]}"][()] if one.keys() == {_ARRAY} else one
        )


def _write(target: io.BufferedIOBase, message: bytes) -> None:
    target.write(len(message).to_bytes(_SIZE, "little"))
    target.write(message)
    target.flush()


def _read(source: io.BufferedIOBase) -> bytes | None:
    """A whole message; None where there is none, or no end of it."""
    size = source.read(_SIZE)
    if len(size) < _SIZE:
        return None
    length = int.from_bytes(size, "little")
    message = source.read(length)
    return message if len(message) == length else None
