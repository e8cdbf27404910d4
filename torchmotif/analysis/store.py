"""The store of a field: a zarr group that is either whole or still at work, and what is finished of it."""

import errno
import hashlib
import json
import os
import shutil
import socket
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from torchmotif.errors import InputError, OutputError, ReadError

__all__ = [
    "FORMAT",
    "RECORD",
    "Memory",
    "Parts",
    "Work",
    "begun",
    "check_root",
    "claimed",
    "differing",
    "identity_of",
    "listed",
    "read_record",
    "remove_results",
    "unwritable",
]

FORMAT = 1  # of the store; raised when an older torchmotif could no longer read it
RECORD = "torchmotif-field"  # the key of the group's attributes that says what it is
_MAGIC = b"tmotifp1"
_DIGEST = 16
_OF_A_RUN = {".work", ".spill", ".lock", ".owner.json"}
_ARRAYS = ("columns", "moments", "labels", "probabilities", "templates")
_TABLES = {"csv", "summary.csv", "report.html"}
_OURS = _OF_A_RUN | _TABLES | {"zarr.json", "hierarchy", *_ARRAYS}


def unwritable(path: Path, error: OSError) -> OutputError:
    """What to tell of a failed write: why, what is kept, what to do."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return OutputError(
            f"{path}: the disk is full. What was finished is kept: free some space and run the same command again"
        )
    if error.errno in {errno.EROFS, errno.EACCES, errno.EPERM}:
        return OutputError(
            f"{path} cannot be written ({error.strerror}): it is read-only. Nothing was changed; choose another store, "
            "or give yourself the right to write there"
        )
    return OutputError(f"{path} cannot be written: {error.strerror or error}")


def read_record(root: Path) -> dict[str, Any] | None:
    """The record of a finished store; None where there is none. One that cannot be read raises a ReadError."""
    path = root / "zarr.json"
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text(encoding="utf-8")).get("attributes", {}).get(RECORD)
    except (OSError, ValueError) as error:
        raise ReadError(
            f"{root} holds a damaged store: {error}; analyse the field again with restart=True"
        ) from error
    if record is None:
        return None
    if not isinstance(record, dict) or not isinstance(record.get("format"), int):
        raise ReadError(
            f"{root} holds a damaged store: its record has no format; analyse the field again with restart=True"
        )
    if record["format"] != FORMAT:
        raise ReadError(
            f"{root} was written in format {record['format']}, this torchmotif reads format {FORMAT}; "
            "update torchmotif, or analyse the field again with restart=True"
        )
    return record


@contextmanager
def claimed(root: Path) -> Iterator[None]:
    """Keep every other run out of a store; a run that was killed no longer keeps anyone out."""
    from filelock import FileLock, Timeout

    owner = root / ".owner.json"
    lock = FileLock(root / ".lock")
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        try:
            who = json.loads(owner.read_text(encoding="utf-8"))
            by = f" (process {who['pid']} on {who['host']})"
        except (OSError, ValueError, KeyError):
            by = ""
        raise OutputError(
            f"{root} is in use by another run{by}; wait for it, or choose another store"
        ) from error
    except OSError as error:
        raise unwritable(root, error) from error
    try:
        try:
            _write(owner, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
            yield
        finally:
            owner.unlink(missing_ok=True)
    except OSError as error:
        if isinstance(error, OutputError | ReadError):
            raise
        raise unwritable(root, error) from error
    finally:
        with suppress(OSError):  # Windows removes no file that is open; it may stay
            (root / ".lock").unlink()
        lock.release()


class Work:
    """What is finished of a run: one file for each part, written whole or not at all, with its checksum.

    Another identity of what is computed from what has another folder, so that a straggler of a run that was killed cannot
    write into a new one.
    """

    def __init__(self, root: Path, identity: str) -> None:
        self.root, self.identity = root, identity
        self.folder = root / ".work" / identity

    def begin(self) -> None:
        """Make the folder."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self.root, error) from error

    def commit(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write a part; nothing is left of it where it cannot be written."""
        from safetensors.numpy import save

        data = save({key: np.ascontiguousarray(value) for key, value in arrays.items()})
        sum_ = hashlib.blake2b(data, digest_size=_DIGEST).digest()
        try:
            _write(self.folder / name, _MAGIC + sum_ + data)
        except OSError as error:
            raise unwritable(self.root, error) from error

    def load(self, name: str) -> dict[str, np.ndarray]:
        """Read a part that was committed, which must be what was written."""
        from safetensors.numpy import load

        try:
            data = (self.folder / name).read_bytes()
        except OSError as error:
            raise ReadError(f"{self.root}: part {name} is missing; run the same command again") from error
        head = len(_MAGIC) + _DIGEST
        sum_ = hashlib.blake2b(memoryview(data)[head:], digest_size=_DIGEST).digest()
        if data[:head] != _MAGIC + sum_:
            raise ReadError(f"{self.root}: part {name} is damaged; run the same command again")
        found: dict[str, np.ndarray] = load(data[head:])
        return found

    def has(self, name: str) -> bool:
        """Whether a part is there, whole; one that is damaged is removed."""
        path = self.folder / name
        if not path.exists():
            return False
        try:
            self.load(name)
        except ReadError:
            path.unlink(missing_ok=True)
            return False
        return True

    def write_json(self, name: str, value: Any) -> None:
        """Write a small record."""
        try:
            _write(self.folder / name, json.dumps(value, allow_nan=False).encode())
        except OSError as error:
            raise unwritable(self.root, error) from error

    def read_json(self, name: str) -> Any:
        """Read a small record; None where there is none or half of one."""
        try:
            return json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def clear(self) -> None:
        """Remove everything that only a run needs."""
        shutil.rmtree(self.root / ".work", ignore_errors=True)


class Memory(dict[str, Any]):
    """What is finished of a run that needs no store: the parts as they are."""

    commit = write_json = dict.__setitem__
    load, read_json, has = dict.__getitem__, dict.get, dict.__contains__


Parts = Work | Memory


def check_root(root: Path, *, restart: bool = False) -> None:
    """Refuse a folder that holds something else; with `restart`, a store that cannot be read is none the less ours."""
    if root.exists() and not root.is_dir():
        raise OutputError(f"store: {root} is a file; choose another name")
    if not root.is_dir():
        return
    names = {path.name for path in root.iterdir() if not path.name.startswith(".owner.json.")}
    begun = names <= _OF_A_RUN | {"zarr.json"} or ".work" in names
    if not (begun or _says_so(root) or (names <= _OURS and _looks_so(root))):
        raise OutputError(f"store: {root} is a folder with other things in it; choose another name")
    if not restart:
        read_record(root)


def remove_results(root: Path) -> None:
    """Remove a store's arrays and a run's parts, the record first, and nothing that is not ours.

    The folder of parts is there, empty, before, while and after: it says that the rest is of a store that is being replaced.
    """
    work = root / ".work"
    try:
        work.mkdir(exist_ok=True)
        (root / "zarr.json").unlink(missing_ok=True)
        for path in [*work.iterdir(), *(root / name for name in sorted(_OURS - _OF_A_RUN))]:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(root, error) from error


def _says_so(root: Path) -> bool:
    """Whether a record, of whatever format, says that a folder is a store."""
    with suppress(OSError, ValueError, AttributeError):
        return RECORD in json.loads((root / "zarr.json").read_text(encoding="utf-8")).get("attributes", {})
    return False


def _looks_so(root: Path) -> bool:
    """Whether a folder without a record that can be read has a store's arrays."""
    try:
        json.loads((root / "zarr.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return any((root / name / "zarr.json").is_file() for name in _ARRAYS)
    return False  # the group of somebody else


def begun(root: Path) -> dict[str, Any] | None:
    """Plan, surveys and names of the images of the run whose results or parts a store holds."""
    record = read_record(root)
    if record is not None:
        return {"plan": record["plan"], "surveys": record["surveys"], "names": record.get("names", [])}
    above = root / ".work"
    for folder in sorted(above.iterdir()) if above.is_dir() else []:
        found = Work(root, folder.name).read_json("plan.json")
        if found is not None:
            started: dict[str, Any] = found
            return started
    return None


def identity_of(plan: Mapping[str, Any]) -> str:
    """A short name for what is computed from what."""
    text = json.dumps(plan, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def differing(
    old: Mapping[str, Any], new: Mapping[str, Any], before: Sequence[str] = (), now: Sequence[str] = ()
) -> InputError:
    """What differs between the plans of a run that was started and of one that is asked for; and the names of their images."""
    old, new = (
        {
            "input": plan["input"],
            **plan["options"],
            **plan["versions"],
            "pixel_size_nm": plan["pixel_size_nm"],
        }
        for plan in (old, new)
    )
    what = {key: f"{key}={new[key]!r} instead of {old.get(key)!r}" for key in new if old.get(key) != new[key]}
    if "input" in what:
        added = listed([name for name in now if name not in before]) if before else ""
        missing = listed([name for name in before if name not in now])
        parts = [f"{names} {verb}" for names, verb in ((added, "added"), (missing, "missing")) if names]
        what["input"] = ": ".join(["the source has changed", *[", ".join(parts)] * bool(parts)])
        if parts:
            what.pop("pixel_size_nm", None)  # it is told for each image, and differs with them
    named = ", ".join(list(what.values())[:3]) or "another version"
    return InputError(
        f"store: it was begun with something else ({named}); give restart=True to throw that away, "
        "or choose another store"
    )


def listed(names: Sequence[str], most: int = 5) -> str:
    """Names for a sentence, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _write(path: Path, data: bytes) -> None:
    """A file, whole or not at all. A rename that a power cut undoes half is found by the checksum."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with partial.open("wb") as file:
            file.write(data)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
