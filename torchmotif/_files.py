"""Folders and files that are either whole or not there, and the JSON in them."""

import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torchmotif.errors import OutputError

__all__ = ["check_new_folder", "json_text", "new_folder", "plain"]


def check_new_folder(folder: Path, marker: str, *, overwrite: bool) -> Path:
    """Check that `new_folder` may write `folder`, before the work that fills it is done.

    Parameters
    ----------
    folder : Path
    marker : str
        Name of the file by which a folder of ours is known; no other folder is ever replaced.
    overwrite : bool
        Whether a folder of ours may be replaced.

    Returns
    -------
    Path
        The nearest folder above it that exists.

    Raises
    ------
    OutputError
        If the folder exists and may not be replaced, or cannot be written.
    """
    folder = folder.absolute()
    if folder == Path.cwd():
        raise OutputError(f"{folder} is the working directory; choose a folder in it")
    if folder.exists() or folder.is_symlink():
        if not overwrite:
            raise OutputError(
                f"{folder} exists; choose another name, or replace it with --force (overwrite=True)"
            )
        ours = (
            folder.is_dir()
            and not folder.is_symlink()
            and ((folder / marker).exists() or not any(folder.iterdir()))
        )
        if not ours:
            raise OutputError(
                f"{folder} is not a folder of results (it has no {marker}): it will not be replaced"
            )
    above = next(parent for parent in folder.parents if parent.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=above):
            pass
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written: {error.strerror or error}; choose another place"
        ) from error
    return above


@contextmanager
def new_folder(folder: Path, marker: str, *, overwrite: bool) -> Iterator[Path]:
    """A folder to write into that becomes `folder` at the end, or nothing at all after an error or an interrupt.

    Parameters
    ----------
    folder, marker, overwrite
        As `check_new_folder`.

    Yields
    ------
    Path
        An empty folder beside the final one.

    Raises
    ------
    OutputError
        As `check_new_folder`, or if writing fails.
    """
    folder = folder.absolute()
    above = check_new_folder(folder, marker, overwrite=overwrite)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=above))
    old = partial / "old"
    try:
        new = partial / "new"
        new.mkdir()
        yield new
        for file in new.iterdir():  # some writers keep others out, a result does not
            file.chmod(0o666 & ~_umask())
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists():
            folder.replace(old)
        new.replace(folder)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        if old.exists() and not folder.exists():  # broken off between the two: what was there comes back
            old.replace(folder)
        shutil.rmtree(partial, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def json_text(value: Any) -> str:
    """JSON for machines: what is neither a number nor finite is null, what JSON does not know is text.

    Examples
    --------
    >>> print(json_text({"nan": float("nan"), "path": Path("a")}))
    {
      "nan": null,
      "path": "a"
    }
    """
    return json.dumps(plain(value), indent=2, default=str, allow_nan=False)


def plain(value: Any) -> Any:
    """The value with None for numbers that JSON cannot say: NaN and the infinite."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
