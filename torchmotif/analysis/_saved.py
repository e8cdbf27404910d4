"""The folder of a saved result: written, and read as if a stranger had written it."""

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from torchmotif._files import json_text
from torchmotif._guards import check_regular, read_json
from torchmotif.columns import Columns
from torchmotif.errors import ReadError
from torchmotif.image import Micrograph
from torchmotif.lattice import SiteTable

__all__ = ["FORMAT", "read_saved", "write_saved"]

FORMAT = 1  # of the folder; raised when an older torchmotif could no longer load it
_OF_COLUMNS = ("labels", "probabilities", "angles", "mirrored")
_SITES = "sites."
_MOST_HEADER = 1 << 20  # bytes of the names and shapes in front of arrays; ours take a few hundred


def write_saved(folder: Path, record_name: str, result: Any) -> None:
    """Write what `read_saved` reads: templates.safetensors, arrays.safetensors and the record."""
    from safetensors.numpy import save_file

    save_file({"templates": np.ascontiguousarray(result.templates)}, folder / "templates.safetensors")
    columns = {f"columns.{item.name}": getattr(result.columns, item.name) for item in fields(result.columns)}
    of_columns = {name: getattr(result, name) for name in _OF_COLUMNS}
    sites = {f"{_SITES}{name}": array for name, array in result.sites.arrays().items()}
    arrays = {"image": result.image.numpy(), "mask": result.image.mask, **of_columns, **columns, **sites}
    save_file(
        {key: np.ascontiguousarray(one) for key, one in arrays.items() if isinstance(one, np.ndarray)},
        folder / "arrays.safetensors",
    )
    kept = ("pixel_size", "unit", "electrons_per_pixel", "metadata")
    numbers = {key: value for key, value in vars(result.columns).items() if not isinstance(value, np.ndarray)}
    saved = {
        "format": FORMAT,
        **result.record,
        "image": {name: getattr(result.image, name) for name in kept},
        "columns": numbers,
    }
    (folder / record_name).write_text(json_text(saved) + "\n", encoding="utf-8")


def read_saved(folder: Path, record_name: str) -> dict[str, Any]:
    """Read a folder of results, as the arguments of `MotifResult`; of its numbers and shapes, each is checked.

    A ReadError says that the folder was written by a later version, or that something in it is not as `write_saved` writes
    it: links to other files, sizes, types, and numbers that cannot be.
    """
    try:
        record = _mapping(read_json(folder / record_name), record_name)
        written = record.pop("format", None)
        if not isinstance(written, int) or written < 1:
            raise ReadError(f"{record_name} names no format")
        if written > FORMAT:
            raise ReadError("it was written by a later version of torchmotif; update torchmotif to load it")
        templates = _arrays(folder / "templates.safetensors")["templates"]
        arrays = _arrays(folder / "arrays.safetensors")
        _check_arrays(arrays, templates)
        image = _mapping(record.pop("image"), "image")
        pixel_size, unit, dose = (image[name] for name in ("pixel_size", "unit", "electrons_per_pixel"))
        metadata = _mapping(image["metadata"], "metadata")
        scan = Micrograph(
            arrays["image"],
            pixel_size,
            unit,
            metadata,
            electrons_per_pixel=dose,
            mask=arrays.get("mask"),
        )
        columns = _columns(_mapping(record.pop("columns"), "columns"), arrays)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else error
        raise ReadError(f"{folder} holds no result that can be loaded: {what}") from error
    of_columns = {name: arrays.get(name) for name in _OF_COLUMNS}
    sites = {name.removeprefix(_SITES): one for name, one in arrays.items() if name.startswith(_SITES)}
    return {
        "image": scan,
        "columns": columns,
        "templates": templates,
        "record": record,
        "sites": sites or None,  # of an earlier version
        **of_columns,
    }


def _mapping(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ReadError(f"{name} is no mapping")
    return value


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file whose header is of a size that we write."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    size = check_regular(path, follow=False)
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    if not header <= min(_MOST_HEADER, size - 8):
        raise ReadError(f"{path.name} has a header of {header} bytes")
    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise ReadError(f"{path.name} is damaged: {error}") from error


def _check_arrays(arrays: dict[str, np.ndarray], templates: np.ndarray) -> None:
    labels, positions = arrays["labels"], arrays["columns.positions"]
    n = len(labels)
    expected = {"labels": "i8", "probabilities": "f8", "columns.positions": "f8"}
    expected |= {name: kind for name, kind in {"angles": "f8", "mirrored": "?"}.items() if name in arrays}
    wrong = [name for name, kind in expected.items() if arrays[name].dtype != kind]
    wrong += _wrong_sites(
        {name: one for name, one in arrays.items() if name.startswith(_SITES)}, n, len(templates)
    )
    for name, array in arrays.items():
        if name.startswith(_SITES):
            continue
        right = (n, 2) if name in {"columns.positions", "columns.position_errors"} else (n,)
        if name not in {"image", "mask"} and (array.shape != right or array.dtype.kind not in "iufb"):
            wrong.append(name)
    if templates.ndim != 3 or templates.dtype.kind != "f":
        wrong.append("templates")
    if wrong:
        raise ReadError(f"the arrays {', '.join(sorted(set(wrong)))} have wrong shapes or types")
    probabilities = arrays["probabilities"]
    if not np.isfinite(positions).all() or not ((probabilities >= 0) & (probabilities <= 1 + 1e-9)).all():
        raise ReadError("columns.positions or probabilities hold numbers that cannot be")
    if labels.min(initial=0) < -1 or labels.max(initial=-1) >= len(templates):
        raise ReadError("arrays.safetensors and templates.safetensors do not belong together")


def _wrong_sites(sites: dict[str, np.ndarray], n_columns: int, n_motifs: int) -> list[str]:
    """Arrays of the sites that are not as they must be; none is no fault."""
    if not sites:
        return []
    expected = {f"{_SITES}{name}": kind for name, kind in SiteTable.KINDS.items()}
    if set(sites) != set(expected):
        return sorted(set(sites) ^ set(expected))
    s = len(sites[f"{_SITES}column"])
    wrong = []
    for name, array in sites.items():
        right = (s, 2) if name in {f"{_SITES}positions", f"{_SITES}position_errors"} else (s,)
        if array.shape != right or array.dtype != expected[name]:
            wrong.append(name)
    if wrong:
        return wrong
    for name, end in (("column", n_columns), ("sublattice", n_motifs)):
        numbers = sites[f"{_SITES}{name}"]
        if numbers.min(initial=0) < -1 or numbers.max(initial=-1) >= end:
            wrong.append(f"{_SITES}{name}")
    for name in ("p_full", "p_partial", "p_empty"):
        values = np.nan_to_num(sites[f"{_SITES}{name}"])
        if not ((values >= 0) & (values <= 1 + 1e-9)).all():
            wrong.append(f"{_SITES}{name}")
    return wrong


def _columns(values: dict[str, Any], arrays: dict[str, np.ndarray]) -> Columns:
    """The columns, of what is known of them; what has another name is left out."""
    found: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
    for name in ("spacing", "spacing_nm"):
        value = found.get(name)
        if value is not None and not 0 < float(value) < math.inf:
            raise ReadError(f"{name} must be a length, got {value!r}")
    found |= {key.removeprefix("columns."): one for key, one in arrays.items() if key.startswith("columns.")}
    known = {item.name for item in fields(Columns)}
    return Columns(**{key: value for key, value in found.items() if key in known})
