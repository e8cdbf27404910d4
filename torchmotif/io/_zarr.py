"""Folders of zarr, versions 2 and 3: arrays, OME-Zarr, and zspy of HyperSpy. Nothing in them is unpickled."""

import json
import os
from collections.abc import Iterator
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from torchmotif._guards import check_unpacked
from torchmotif._units import nm_of_axes
from torchmotif.errors import MissingDependencyError, ReadError
from torchmotif.io._dataset import Dataset, StoredArray, with_axes
from torchmotif.io._hyperspy import is_hyperspy, signals

__all__ = ["store"]

_HEADS = ("zarr.json", ".zarray", ".zgroup")
_NAMES = {*_HEADS, ".zattrs", ".zmetadata"}
_BLOSC_LENGTH = slice(12, 16)  # where a chunk of blosc says how many bytes it has
_MOST_HEAD = 1 << 26  # bytes
_MOST_FOLDERS = 10_000
# Compressions and filters that only turn bytes into numbers. Pickle, JSON and text of objects are not among them.
_CODECS = {
    "bytes", "transpose", "sharding_indexed", "crc32c", "gzip", "zlib", "zstd", "blosc", "lz4", "lzma", "bz2", "shuffle",
    "bitshuffle", "delta", "fixedscaleoffset", "quantize", "bitround", "adler32", "crc32", "fletcher32", "jenkins_lookup3",
    "astype", "packbits",
}  # fmt: skip


def store(path: Path, *, lazy: bool = False) -> list[Dataset]:
    """The images of a folder of zarr."""
    _check_head(path)
    try:
        import zarr
    except ImportError as error:
        raise MissingDependencyError(
            f"{path} needs the package zarr: pip install 'torchmotif[io]'"
        ) from error
    for folder in _arrays(path):  # by their own words, before zarr builds what unpacks them
        _check_codecs(path, folder)
    try:
        root = _opened(path)
        if isinstance(root, zarr.Array):
            found = [Dataset(_stored(path, root))]
        elif is_hyperspy(root):
            found = signals(root, partial(_stored, path), "HyperSpy (zarr)")
        else:
            groups = [root, *(one for _, one in sorted(root.groups(), key=itemgetter(0)))]
            found = [item for group in groups for item in _ome(path, group)] or [
                Dataset(_stored(path, one), name)
                for name, one in sorted(root.members(max_depth=None), key=itemgetter(0))
                if hasattr(one, "dtype")
            ]
    except ReadError:
        raise
    except Exception as error:  # zarr raises in whatever way it meets the damage
        raise ReadError(f"{path} is no zarr array or group, or may be damaged") from error
    if not found:
        raise ReadError(f"{path} holds no zarr array")
    if not lazy:
        found = [
            Dataset(np.asarray(item.data), item.name, item.pixel_size, item.unit, item.is_rgb, item.metadata)
            if item.data.dtype.kind in "iuf" and item.data.ndim >= 2
            else item
            for item in found
        ]
    return found


def _check_head(path: Path) -> None:
    """Check that a folder begins as one of zarr."""
    if not any((path / head).is_file() for head in _HEADS):
        if (path / "run.json").is_file():
            raise ReadError(
                f"{path} is a folder of results, not an image; MotifResult.load opens it in Python, {path / 'report.html'} in a browser"
            )
        raise ReadError(
            f"{path} is a folder, and no zarr array or group: it has no zarr.json; give a file in it"
        )


def _opened(path: Path, *, blosc: bool = False) -> Any:
    import zarr

    return zarr.open(store=_inside(path, blosc=blosc), mode="r")


def _inside(path: Path, *, blosc: bool) -> Any:
    """The folder, of which no link leads out; with `blosc`, its chunks are as long as they say, which blosc takes on trust."""
    from zarr.storage import LocalStore

    class Inside(LocalStore):  # type: ignore[misc]
        """A folder that gives nothing of what lies outside of it."""

        async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
            real, within = os.path.realpath(self.root / key), os.path.realpath(self.root)
            if os.path.commonpath([real, within]) != within:
                raise ReadError(f"{path} has a link to another file at {key}; copy the data into it")
            value = await super().get(key, prototype, byte_range)
            if blosc and value is not None and byte_range is None and key.rpartition("/")[2] not in _NAMES:
                told = int.from_bytes(value[_BLOSC_LENGTH].to_bytes(), "little")
                if told != len(value):
                    raise ReadError(
                        f"{path} is damaged or cut short: {key} has {len(value)} bytes and says {told}"
                    )
            return value

    return Inside(path, read_only=True)


def _stored(path: Path, array: Any) -> StoredArray:
    """The values of an array, still in the folder."""
    shape = tuple(int(n) for n in array.shape)
    return StoredArray(
        partial(_read, path, array.path), shape, np.dtype(array.dtype), tuple(range(len(shape)))
    )


def _read(path: Path, name: str, key: tuple[slice, ...]) -> np.ndarray:
    _check_codecs(path, path / name)
    root = _opened(path, blosc=_last_codec(_head(path, path / name)) == "blosc")
    array = root[name] if name else root
    count = int(np.prod([max(part.stop - part.start, 0) for part in key], dtype=object))
    if count * array.dtype.itemsize > 1 << 28:  # a walk through all chunks, for what is large only
        size = sum(one.stat().st_size for one in (path / name).rglob("*") if one.is_file())
        check_unpacked(count * array.dtype.itemsize, path, size)
    return np.asarray(array[key])


def _arrays(path: Path) -> Iterator[Path]:
    """The folders of all arrays within a folder; not what is in them."""
    waiting = [path]
    for count, folder in enumerate(waiting):  # which grows meanwhile
        if count > _MOST_FOLDERS:
            raise ReadError(
                f"{path} has more than {_MOST_FOLDERS} groups; give the folder of one of its arrays"
            )
        told = _head(path, folder)
        if told.get("node_type") == "array" or (folder / ".zarray").is_file():
            yield folder
        else:
            waiting += sorted(one for one in folder.iterdir() if one.is_dir() and not one.is_symlink())


def _head(path: Path, folder: Path) -> dict[str, Any]:
    """What a folder says of itself; nothing where it is neither an array nor a group."""
    head = next((folder / name for name in (".zarray", "zarr.json") if (folder / name).is_file()), None)
    if head is None:
        return {}
    if head.stat().st_size > _MOST_HEAD:
        raise ReadError(f"{path} may be damaged: {head.name} has {head.stat().st_size} bytes")
    try:
        told = json.loads(head.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ReadError(f"{path} may be damaged: {head.name} is no JSON") from error
    return told if isinstance(told, dict) else {}


def _check_codecs(path: Path, folder: Path) -> None:
    """Check that nothing in an array is made into objects, by the names of what it is packed with."""
    try:
        names = set(_named(_head(path, folder)))
    except (KeyError, TypeError, AttributeError) as error:
        raise ReadError(f"{path} may be damaged: what it is packed with is not said") from error
    unknown = sorted(name for name in names if name.rpartition(".")[2].lower() not in _CODECS)
    if unknown:
        raise ReadError(
            f"{path} is packed by {', '.join(unknown)}, which is not read: it may hold objects; save it as numbers"
        )


def _last_codec(told: dict[str, Any]) -> str:
    """The name of what the bytes of a chunk come from."""
    last = told.get("compressor") or {} if told.get("zarr_format") == 2 else (told.get("codecs") or [{}])[-1]
    return (
        str(last.get("id") or last.get("name") or "").rpartition(".")[2]
        if isinstance(last, dict)
        else str(last)
    )


def _named(told: dict[str, Any]) -> Iterator[str]:
    """The names of all codecs in the description of an array, of both versions."""
    if told.get("zarr_format") == 2:
        yield from (str(one["id"]) for one in [told.get("compressor"), *(told.get("filters") or [])] if one)
        return
    waiting = list(told.get("codecs") or [])
    for one in waiting:
        name = one if isinstance(one, str) else str(one["name"])
        yield name
        inner = {} if isinstance(one, str) else one.get("configuration") or {}
        waiting += [*inner.get("codecs", []), *inner.get("index_codecs", [])]


def _ome(path: Path, root: Any) -> Iterator[Dataset]:
    """The finest level of every image of OME-Zarr, a data set for each of its channels."""
    told = dict(root.attrs).get("ome", dict(root.attrs))
    for number, image in enumerate(told.get("multiscales", [])):
        level = image["datasets"][0]
        axes = [one if isinstance(one, dict) else {"name": str(one)} for one in image.get("axes", [])]
        data = _stored(path, root[level["path"]])
        axes = axes or [{"name": name} for name in "tczyx"[-data.ndim :]]
        scales = np.ones(data.ndim)
        for step in [
            *level.get("coordinateTransformations", []),
            *image.get("coordinateTransformations", []),
        ]:
            if step.get("type") == "scale":
                scales = scales * np.asarray(step["scale"], float)
        names = [str(axis["name"]).lower() for axis in axes]
        row, column = names.index("y"), names.index("x")
        size = nm_of_axes((scales[i], axes[i].get("unit")) for i in (row, column))
        channel = names.index("c") if "c" in names and data.shape[names.index("c")] > 1 else None
        others = [i for i in range(data.ndim) if i not in {row, column, channel}]
        title = "/".join(filter(None, (root.path, str(image.get("name") or (number or "")))))
        labels = [str(one.get("label", "")) for one in told.get("omero", {}).get("channels", [])]
        for i in range(1 if channel is None else data.shape[channel]):
            at = {} if channel is None else {channel: i}
            label = labels[i] if channel is not None and i < len(labels) else ""
            name = "/".join(filter(None, (title, label or ("" if channel is None else f"channel {i}"))))
            yield Dataset(
                with_axes(data, [*others, row, column], at), name, size, "nm", False, {"format": "OME-Zarr"}
            )
