"""Folders and files that are either whole or not there."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torchmotif.errors import OutputError

__all__ = ["check_new_folder", "new_folder"]


def check_new_folder(folder: Path, marker: str, *, overwrite: bool) -> None:
    """Check that `new_folder` may write `folder`, before the work that fills it is done.

    Parameters
    ----------
    folder : Path
    marker : str
        Name of the file by which a folder of ours is known; no other folder is ever replaced.
    overwrite : bool
        Whether a folder of ours may be replaced.

    Raises
    ------
    OutputError
        If the folder exists and may not be replaced, or cannot be written.
    """
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
    above = next(parent for parent in folder.absolute().parents if parent.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=above):
            pass
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written: {error.strerror or error}; choose another place"
        ) from error


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
    check_new_folder(folder, marker, overwrite=overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield partial
        partial.chmod(0o777 & ~_umask())  # mkdtemp keeps others out, a result does not
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
            folder.replace(old / folder.name)
            partial.replace(folder)
            shutil.rmtree(old)
        else:
            partial.replace(folder)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
