"""contents(): every image of a file, whatever it is."""

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from torchmotif._guards import check_regular
from torchmotif._units import nm_per, plausible_nm
from torchmotif.errors import MissingDependencyError, MissingFileError, ReadError, TorchMotifError
from torchmotif.io._dataset import Dataset, images_last, noted
from torchmotif.io._kinds import begins, kind_of

__all__ = ["contents", "reading"]

# For every family of formats its module, and the words for it.
_READERS = {
    "npy": ("_numpy", "npy", "an npy file"),
    "zip": ("_numpy", "npz", "an npz archive"),
    "tiff": ("_tiff", "tiff", "a TIFF"),
    "picture": ("_picture", "picture", "a picture"),
    "text": ("_text", "text", "text"),
    "mat": ("_mat", "mat", "a MATLAB file"),
    "mrc": ("_mrc", "mrc", "an MRC file"),
    "hdf5": ("_hdf5", "hdf5", "an HDF5 file"),
    "zarr": ("_zarr", "store", "a zarr store"),
    "microscope": ("_microscope", "microscope", "a microscope file"),
}
_LEAST_SIDE = 8  # pixels
_KINDS = {
    "b": "true and false values (a mask, or a picture of 1 bit); save its grey values, or use it as a mask",
    "c": "complex numbers; take their modulus",
    "O": "Python objects, which are never loaded; save them as numbers",
    "U": "text; save the pixels as numbers",
    "S": "text; save the pixels as numbers",
    "V": "records; save one of their fields",
}


def contents(path: str | Path, *, lazy: bool = False, kinds: str = "iuf") -> list[Dataset]:
    """Every data set of a file that holds images.

    Parameters
    ----------
    path : str or Path
    lazy : bool
        Map the pixels, or leave them in the file until a part is asked for, where the format allows it, rather than read
        them.
    kinds : str
        Of numbers that make an image, by numpy's letters; "b" for masks.

    Returns
    -------
    list of Dataset
        Without axes of length one.

    Raises
    ------
    MissingFileError, ReadError, MissingDependencyError
        As `read`.
    """
    path = Path(path)
    if not path.exists():
        raise MissingFileError(f"there is no file {path}")
    if not path.is_dir() and check_regular(path) == 0:
        raise ReadError(f"{path} is empty (0 bytes); export or copy it again")
    module, name, words = _READERS[kind_of(path)]
    function = getattr(import_module(f"torchmotif.io.{module}"), name)
    found: list[Dataset] = reading(path, words, function, path, lazy=lazy)
    images = [images_last(item) for item in found if item.data.dtype.kind in kinds and item.data.size]
    if not images:
        raise ReadError(f"{path} holds no image: {_what(found)}")
    large = [item for item in images if _is_large(item)]  # beside images, matrices and tables are none
    return [_plausible(item) for item in large or images]


def reading(path: Path, words: str, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """What a reader gives; whatever it raises on a damaged file becomes an error of ours.

    Parameters
    ----------
    path : Path
    words : str
        What the file is taken for, such as "a TIFF".
    function, arguments, options
        The reader, and with what it is called.

    Raises
    ------
    ReadError, MissingDependencyError
        With the reason in words of ours; that of the reader is its cause.
    """
    try:
        return function(*arguments, **options)
    except TorchMotifError:
        raise
    except ImportError as error:
        package = (error.name or "a package").partition(".")[0]
        raise MissingDependencyError(
            f"{path} needs the package {package}: pip install 'torchmotif[io]' {package}"
        ) from error
    except MemoryError as error:
        raise ReadError(f"{path} does not fit into memory, or may be damaged so that it seems so") from error
    except Exception as error:  # readers fail on damaged files in whatever way they meet the damage
        like = begins(path) if path.is_file() else ""
        looks = (
            f" (it begins like {like})"
            if like and like.rpartition(" ")[2] != words.rpartition(" ")[2]
            else ""
        )
        raise ReadError(
            f"{path} cannot be read as {words}: it may be damaged, cut short, or of another format{looks}"
        ) from error


def _is_large(item: Dataset) -> bool:
    sides = item.data.shape[:2] if item.is_rgb else item.data.shape[-2:]
    return len(sides) == 2 and min(sides) >= _LEAST_SIDE


def _what(found: list[Dataset]) -> str:
    """What a file holds that is no image, in words."""
    said = []
    for item in found[:5]:
        name = f"{item.name} is " if item.name else ""
        kind = _KINDS.get(item.data.dtype.kind, f"values of type {item.data.dtype}")
        said.append(f"{name}{item.data.shape} {kind}" if item.data.size else f"{name}{item.data.shape} empty")
    return "; ".join(said) or "it has no arrays of numbers with rows and columns"


def _plausible(item: Dataset) -> Dataset:
    """The data set without a pixel size that no micrograph has."""
    factor = nm_per(item.unit)
    if item.pixel_size is None or factor is None:
        return item
    row, column = item.pixel_size
    size, notes = plausible_nm((row * factor, column * factor), "the file")
    return item if size is not None else noted(replace(item, pixel_size=None), *notes)
