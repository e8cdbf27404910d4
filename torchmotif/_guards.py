"""What is checked before a reader is let loose on a file: that it holds what it says, and unpacks to what memory can hold.

Readers trust lengths that they find in files. A few flipped bits, or somebody's intent, make them loop or fill memory.
"""

import json
import math
import os
import stat
import struct
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from torchmotif.errors import ReadError

__all__ = ["check_dm", "check_hdf5", "check_regular", "check_unpacked", "read_json"]

_FREE_BYTES = 256 << 20  # that any file may unpack to
_MOST_UNPACKED = 250  # times the file's size; counted electrons at the lowest dose are packed 100 times
_MOST_JSON = 64 << 20  # bytes
_MOST_TEXT = 1 << 20  # characters of one text in a DM file; rosettasciio joins them one by one
_MOST_FIELDS = 1024
_MOST_NESTED = 64  # groups within groups

# Bytes of the simple types of DM files.
_DM_SIZES = {2: 2, 3: 4, 4: 2, 5: 4, 6: 4, 7: 8, 8: 1, 9: 1, 10: 1, 11: 8, 12: 8}
_DM_STRUCT, _DM_TEXT, _DM_ARRAY, _DM_GROUP, _DM_DATA = 15, 18, 20, 20, 21


def check_regular(path: Path, *, follow: bool = True) -> int:
    """The size of a file in bytes, having checked that it is one: no folder, device or pipe.

    Parameters
    ----------
    path : Path
    follow : bool
        Whether it may be a link to a file.

    Raises
    ------
    ReadError
        If it is anything else.
    """
    status = path.stat() if follow else path.lstat()
    if not stat.S_ISREG(status.st_mode):
        kind = (
            "link" if stat.S_ISLNK(status.st_mode) else "folder" if stat.S_ISDIR(status.st_mode) else "device"
        )
        raise ReadError(f"{path} is a {kind}, not a file")
    return status.st_size


def check_unpacked(unpacked: int, path: Path, size: int | None = None) -> None:
    """Check that a file does not claim to hold far more than any compression could have put there.

    Parameters
    ----------
    unpacked : int
        Bytes of its arrays in memory.
    path : Path
    size : int, optional
        Bytes on disk, for what is no single file.

    Raises
    ------
    ReadError
        If they are more than 256 MiB and more than 250 times the file's size.
    """
    size = path.stat().st_size if size is None else size
    if unpacked > max(_FREE_BYTES, _MOST_UNPACKED * size):
        raise ReadError(
            f"{path} has {size} bytes and would unpack to {unpacked}: it is damaged, or made to fill the memory"
        )


def read_json(path: Path) -> Any:
    """What is in a JSON file that we wrote ourselves, taken strictly: UTF-8, all numbers finite.

    Parameters
    ----------
    path : Path

    Raises
    ------
    ReadError
        If it is no regular file, larger than 64 MiB, nested too deeply, or no JSON.
    """
    size = check_regular(path, follow=False)
    if size > _MOST_JSON:
        raise ReadError(f"{path} has {size} bytes, more than any record of ours")

    def refuse(name: str) -> NoReturn:
        raise ValueError(f"{name} is no number of JSON")

    def finite(text: str) -> float:
        return number if math.isfinite(number := float(text)) else refuse(text)

    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse, parse_float=finite)
    except (ValueError, RecursionError) as error:
        raise ReadError(f"{path} cannot be read as JSON: {error}") from error


def check_hdf5(path: Path) -> None:
    """Check the links of an HDF5 file before it is read.

    Several ways to the same group or array are right, as in NeXus files; a way that comes back to where it was is not.

    Parameters
    ----------
    path : Path

    Raises
    ------
    ReadError
        If it points to other files, or if a group lies within itself.
    """
    import h5py

    with h5py.File(path, "r") as file:
        root = file["/"]
        above, done = {root}, set()  # groups on the way to this one; groups of which all is known
        waiting = [(root, iter(list(root)))]
        while waiting:
            group, keys = waiting[-1]
            key = next(keys, None)
            if key is None:
                above.discard(group)
                done.add(group)
                waiting.pop()
                continue
            if isinstance(group.get(key, getlink=True), h5py.ExternalLink):
                raise ReadError(f"{path} points to another file at {key}; copy the data into it")
            item = _behind(group, key, path)
            if isinstance(item, h5py.Dataset):
                _check_place(item, path)
            elif isinstance(item, h5py.Group) and item in above:
                raise ReadError(
                    f"{path} has the group {item.name} within itself: readers would go round in it"
                )
            elif isinstance(item, h5py.Group) and item not in done:
                above.add(item)
                waiting.append((item, iter(list(item))))


def _behind(group: Any, key: str, path: Path) -> Any:
    """What a link leads to; None where it leads nowhere."""
    try:
        return group.get(key)
    except RuntimeError as error:
        if "too many links" not in str(error):  # HDF5's words
            raise
        raise ReadError(f"{path} has the link {key}, which leads back to itself; remove it") from error


def _check_place(array: Any, path: Path) -> None:
    """Check that the values of an array are in its own file."""
    virtual = array.virtual_sources() if array.is_virtual else []
    if array.external or any(source.file_name != "." for source in virtual):
        raise ReadError(f"{path} keeps {array.name} in another file; copy the data into it")


def check_dm(path: Path) -> None:
    """Check the tags of a Gatan DM3 or DM4 file: every length lies within the file.

    The format is that described by C. Boothroyd, <https://www.er-c.org/cbb/info/dmformat/>.

    Parameters
    ----------
    path : Path

    Raises
    ------
    ReadError
        If a length does not, or groups are nested too deeply.
    """
    with path.open("rb") as file:
        _DmTags(file, path).check()


class _DmTags:
    """Walks the tags of a DM file, stepping over their values."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file, self.path = file, path
        self.size = os.fstat(file.fileno()).st_size
        self.long = ">i"

    def check(self) -> None:
        version = self._number(">i")
        if version not in {3, 4}:
            raise self._damaged(f"its version is {version}, not 3 or 4")
        self.long = ">q" if version == 4 else ">i"
        self._number(self.long)  # the file's size, which some programs leave wrong
        self._number(">i")  # byte order
        self._skip(2)
        open_groups = [self._count()]
        while open_groups:
            if open_groups[-1] == 0:
                open_groups.pop()
                continue
            open_groups[-1] -= 1
            kind = self._number(">B")
            self._skip(self._number(">H"))  # its name
            if version == 4:
                self._skip(8)
            if kind == _DM_GROUP:
                self._skip(2)
                open_groups.append(self._count())
            elif kind == _DM_DATA:
                self._value()
            else:
                raise self._damaged(f"a tag is of kind {kind}")
            if len(open_groups) > _MOST_NESTED:
                raise self._damaged("its groups are nested too deeply")

    def _value(self) -> None:
        """Step over a value, whose type is a row of numbers before it."""
        if self.file.read(4) != b"%%%%":
            raise self._damaged("a tag does not start where it should")
        words = self._count(most=_MOST_FIELDS)
        type_of = [self._number(self.long) for _ in range(words)]
        size, used = self._size_of(type_of)
        if used != len(type_of) or size < 0:
            raise self._damaged("the type of a tag is unknown")
        self._skip(size)

    def _size_of(self, type_of: list[int]) -> tuple[int, int]:
        """Bytes of a value, and how many of the numbers say so."""
        first = type_of[0] if type_of else 0
        if first in _DM_SIZES:
            return _DM_SIZES[first], 1
        if first == _DM_TEXT and len(type_of) > 1:
            if not 0 <= type_of[1] <= _MOST_TEXT:
                raise self._damaged("a text is too long")
            return type_of[1], 2
        if first == _DM_STRUCT and len(type_of) > 2:
            fields = type_of[4 : 3 + 2 * type_of[2] : 2]
            if not 0 < type_of[2] == len(fields) or any(field not in _DM_SIZES for field in fields):
                raise self._damaged("the type of a tag is unknown")
            return sum(_DM_SIZES[field] for field in fields), 3 + 2 * len(fields)
        if first == _DM_ARRAY and len(type_of) > 2:
            each, used = self._size_of(type_of[1:])
            count = type_of[1 + used] if len(type_of) > 1 + used else -1
            if each <= 0 or count < 0:
                raise self._damaged("the type of a tag is unknown")
            return each * count, 2 + used
        raise self._damaged("the type of a tag is unknown")

    def _number(self, form: str) -> int:
        size = struct.calcsize(form)
        data = self.file.read(size)
        if len(data) < size:
            raise self._damaged("it ends too early")
        return int(struct.unpack(form, data)[0])

    def _count(self, most: int | None = None) -> int:
        """A number of things that follow, each of at least one byte."""
        count = self._number(self.long)
        if not 0 <= count <= (self.size if most is None else most):
            raise self._damaged(f"{count} things cannot follow")
        return count

    def _skip(self, size: int) -> None:
        if self.file.tell() + size > self.size:
            raise self._damaged("it ends too early")
        self.file.seek(size, 1)

    def _damaged(self, how: str) -> ReadError:
        return ReadError(
            f"{self.path} may be damaged, cut short, or of another format: at byte {self.file.tell()} {how}"
        )
