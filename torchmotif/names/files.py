"""Names in a file: one safetensors file, its header holding what is no array; read as if a stranger had written it."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from torchmotif._files import json_text
from torchmotif._guards import check_regular
from torchmotif.errors import ReadError
from torchmotif.names.names import Names

__all__ = ["read_names", "write_names"]

_MOST_HEADER = 1 << 22  # bytes; a hundred kinds take 50,000
_TYPES = {
    "columns": "i8",
    "probabilities": "f8",
    "others": "i8",
    "other_probabilities": "f8",
    "empty_positions": "f8",
    "empty": "i8",
    "empty_probabilities": "f8",
}


def write_names(path: Path, names: Names) -> None:
    """Write what `read_names` reads."""
    from safetensors.numpy import save_file

    arrays = {name: np.ascontiguousarray(getattr(names, name)) for name in _TYPES}
    save_file(arrays, path, metadata={"names": json_text({"kinds": names.kinds, "record": names.record})})


def read_names(path: Path, n: int) -> Names:
    """Names of n columns; a ReadError says that they are damaged, or of other columns."""
    from safetensors import SafetensorError, safe_open

    try:
        size = check_regular(path, follow=False)
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little")
        if not header <= min(_MOST_HEADER, size - 8):
            raise ReadError(f"it has a header of {header} bytes")
        with safe_open(path, "numpy") as file:
            said = json.loads(file.metadata()["names"])
            arrays = {name: file.get_tensor(name) for name in _TYPES}
        return _checked(said, arrays, n)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else error
        raise ReadError(f"{path} holds no names that can be loaded: {what}") from error


def _checked(said: dict[str, Any], arrays: dict[str, np.ndarray], n: int) -> Names:
    kinds, record = said["kinds"], said["record"]
    if (
        not isinstance(kinds, list)
        or not all(isinstance(one, str) for one in kinds)
        or not isinstance(record, dict)
    ):
        raise ReadError("its kinds are no names")
    k = len(arrays["empty"])
    shapes: dict[str, tuple[int, ...]] = {
        field.name: (k,) if "empty" in field.name else (n,) for field in fields(Names)
    }
    shapes["empty_positions"] = (k, 2)
    wrong = [
        name
        for name, kind in _TYPES.items()
        if arrays[name].dtype != kind or arrays[name].shape != shapes[name]
    ]
    if wrong:
        raise ReadError(f"the arrays {', '.join(wrong)} have wrong shapes or types")
    for name in ("columns", "others", "empty"):
        if arrays[name].min(initial=-1) < -1 or arrays[name].max(initial=-1) >= len(kinds):
            raise ReadError(f"{name} holds names that are not there")
    for name in ("probabilities", "other_probabilities", "empty_probabilities"):
        if not ((arrays[name] >= 0) & (arrays[name] <= 1 + 1e-9)).all():
            raise ReadError(f"{name} holds numbers that are no probabilities")
    return Names(kinds, record=record, **arrays)
