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

from torchmotif.errors import InputError, OutputError, ReadError, TorchMotifError
from torchmotif.names import Names
from torchmotif.names.files import read_names, write_names

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
    "keep_names",
    "kept_names",
    "listed",
    "read_record",
    "remove_results",
    "writing",
]

FORMAT = 1  # of the store; raised when an older torchmotif could no longer read it
RECORD = "torchmotif-field"  # the key of the group's attributes that says what it is
_MAGIC = b"tmotifp1"
_DIGEST = 16
_HEAD = len(_MAGIC) + _DIGEST  # bytes in front of a part
_OF_A_RUN = {".work", ".spill", ".lock", ".owner.json"}
_ARRAYS = ("columns", "moments", "labels", "probabilities", "templates")
_TABLES = {"csv", "summary.csv", "report.html"}
_NAMES = "names"  # folder of what the columns of each image are called, which may be said after the run
_OURS = _OF_A_RUN | _TABLES | {"zarr.json", "hierarchy", _NAMES, *_ARRAYS}


@contextmanager
def writing(root: Path) -> Iterator[None]:
    """Within, a write that fails raises an OutputError: why, what is kept, what to do."""
    try:
        yield
    except TorchMotifError:  # some of them are an OSError, too
        raise
    except OSError as error:
        said = f"cannot be written: {error.strerror or error}"
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            said = "cannot be written: the disk is full. What was finished is kept: free some space and run the same command again"
        if error.errno in {errno.EROFS, errno.EACCES, errno.EPERM}:
            said = (
                f"cannot be written ({error.strerror}): it is read-only. Nothing was changed; choose another store, "
                "or give yourself the right to write there"
            )
        raise OutputError(f"{root} {said}") from error


def read_record(root: Path) -> dict[str, Any] | None:
    """The record of a finished store; None where there is none. One that cannot be read raises a ReadError."""
    if not (root / "zarr.json").is_file():
        return None
    try:
        record: dict[str, Any] | None = _attributes(root).get(RECORD)
        written = FORMAT if record is None else record["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ReadError(
            f"{root} holds a damaged store: {error}; analyse the field again with restart=True"
        ) from error
    if written != FORMAT:
        raise ReadError(
            f"{root} was written in format {written}, this torchmotif reads format {FORMAT}; "
            "update torchmotif, or analyse the field again with restart=True"
        )
    return record


def _attributes(root: Path) -> dict[str, Any]:
    """The attributes of a zarr group; an OSError or ValueError says that they cannot be read."""
    found = json.loads((root / "zarr.json").read_text(encoding="utf-8"))
    return (isinstance(found, dict) and found.get("attributes")) or {}


def keep_names(root: Path, names: Mapping[int, Names]) -> None:
    """Write the names of the columns of some images into a store, each in one file that is whole or as it was."""
    folder = root / _NAMES
    with writing(root):
        folder.mkdir(exist_ok=True)
        for image, one in names.items():
            partial = folder / f".{image}.{uuid.uuid4().hex[:8]}"
            try:
                write_names(partial, one)
                partial.replace(folder / f"{image}.safetensors")
            finally:
                partial.unlink(missing_ok=True)


def kept_names(root: Path, image: int, n: int) -> Names | None:
    """The names of the n columns of an image, None where it has none."""
    path = root / _NAMES / f"{image}.safetensors"
    return read_names(path, n) if path.exists() else None


@contextmanager
def claimed(root: Path) -> Iterator[None]:
    """Keep every other run out of a store, as `writing`; a run that was killed no longer keeps anyone out."""
    from filelock import FileLock, Timeout

    owner, lock = root / ".owner.json", FileLock(root / ".lock")
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            by = ""
            with suppress(OSError, ValueError, KeyError):
                who = json.loads(owner.read_text(encoding="utf-8"))
                by = f" (process {who['pid']} on {who['host']})"
            raise OutputError(
                f"{root} is in use by another run{by}; wait for it, or choose another store"
            ) from error
        try:
            _write(owner, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode())
            yield
        finally:
            for path in (owner, root / ".lock"):
                with suppress(OSError):  # Windows removes no file that is open; it may stay
                    path.unlink()
            lock.release()


class Work:
    """What is finished of a run: one file for each part, written whole or not at all, with its checksum.

    Another identity of what is computed from what has another folder, so that a straggler of a run that was killed cannot
    write into a new one.
    """

    def __init__(self, root: Path, identity: str) -> None:
        self.root, self.identity = root, identity
        self.folder = root / ".work" / identity

    def commit(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write a part; nothing is left of it where it cannot be written."""
        from safetensors.numpy import save

        data = save({key: np.ascontiguousarray(value) for key, value in arrays.items()})
        with writing(self.root):
            _write(self.folder / name, _head(data) + data)

    def load(self, name: str) -> dict[str, np.ndarray]:
        """Read a part that was committed, which must be what was written."""
        from safetensors.numpy import load

        try:
            data = (self.folder / name).read_bytes()
        except OSError as error:
            raise ReadError(f"{self.root}: part {name} is missing; run the same command again") from error
        head, body = data[:_HEAD], data[_HEAD:]
        if head != _head(body):
            raise ReadError(f"{self.root}: part {name} is damaged; run the same command again")
        found: dict[str, np.ndarray] = load(body)
        return found

    def has(self, name: str) -> bool:
        """Whether a part is there, whole; one that is damaged is removed."""
        try:
            self.load(name)
        except ReadError:
            (self.folder / name).unlink(missing_ok=True)
            return False
        return True

    def write_json(self, name: str, value: Any) -> None:
        """Write a small record."""
        with writing(self.root):
            _write(self.folder / name, json.dumps(value, allow_nan=False).encode())

    def read_json(self, name: str) -> Any:
        """Read a small record; None where there is none or half of one."""
        try:
            return json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def finish(self, record: dict[str, Any]) -> None:
        """Write the record of the store, whose arrays are there, and remove everything that only a run needs."""
        group = {"zarr_format": 3, "node_type": "group", "attributes": {RECORD: record}}
        _write(self.root / "zarr.json", json.dumps(group, default=str).encode())
        self.clear()

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
    if not (begun or _is_ours(root, names)):
        raise OutputError(f"store: {root} is a folder with other things in it; choose another name")
    if not restart:
        read_record(root)


def _is_ours(root: Path, names: set[str]) -> bool:
    """Whether a folder is a store, of whatever format: by its record, or by its arrays where that cannot be read."""
    try:
        return RECORD in _attributes(root)
    except (OSError, ValueError):
        return names <= _OURS and any((root / name / "zarr.json").is_file() for name in _ARRAYS)


def remove_results(root: Path) -> None:
    """Remove a store's arrays and a run's parts, the record first, and nothing that is not ours.

    The folder of parts is there, empty, before, while and after: it says that the rest is of a store that is being replaced.
    """
    work = root / ".work"
    work.mkdir(exist_ok=True)
    ours = (root / name for name in sorted(_OURS - _OF_A_RUN))
    for path in [root / "zarr.json", *work.iterdir(), *ours]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


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


def _head(data: bytes) -> bytes:
    """What stands in front of a part: whose it is, and its checksum."""
    return _MAGIC + hashlib.blake2b(data, digest_size=_DIGEST).digest()


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
