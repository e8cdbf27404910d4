"""What a file is: told by how it begins, and by its ending where that says nothing."""

import os
from pathlib import Path

__all__ = ["begins", "kind_of"]

# What files of a kind begin with.
_BEGINNINGS = (
    ("npy", b"\x93NUMPY"),
    ("zip", b"PK\3\4"),
    ("tiff", b"II*\0"),
    ("tiff", b"MM\0*"),
    ("tiff", b"II+\0"),
    ("tiff", b"MM\0+"),
    ("picture", b"\x89PNG\r\n\x1a\n"),
    ("picture", b"\xff\xd8\xff"),
    ("picture", b"BM"),
    ("mat", b"MATLAB 5.0 MAT-file"),
    ("hdf5", b"\x89HDF\r\n\x1a\n"),
)
_ENDINGS = {
    ".npy": "npy",
    ".npz": "zip",
    ".tif": "tiff",
    ".tiff": "tiff",
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".bmp"), "picture"),
    ".mat": "mat",
    **dict.fromkeys((".txt", ".csv", ".tsv", ".asc", ".dat"), "text"),
    **dict.fromkeys((".mrc", ".mrcs", ".ali", ".st", ".rec", ".map"), "mrc"),
    **dict.fromkeys((".hspy", ".emd", ".de5", ".h5", ".hdf5", ".hdf", ".nxs", ".he5"), "hdf5"),
}
_MICROSCOPE = (".dm3", ".dm4", ".ser", ".prz")  # whatever they begin with
_NAMES = {
    "npy": "an npy file of numpy",
    "zip": "a zip archive",
    "tiff": "a TIFF",
    "picture": "a picture (png, jpg, bmp)",
    "mat": "a MATLAB file",
    "hdf5": "an HDF5 file",
    "mrc": "an MRC file",
    "text": "text",
}
_MRC_STAMP, _HDF5_PLACES = 208, (0, 512, 1024, 2048)


def kind_of(path: Path) -> str:
    """The family of formats that a file belongs to, such as "tiff" or "hdf5"; "microscope" where nothing else is known.

    A folder is "zarr" where it holds one.
    """
    if path.is_dir():
        return "zarr"
    ending = path.suffix.lower()
    if ending in _MICROSCOPE:
        return "microscope"
    told = _by_beginning(path)
    if told == "text":  # of formats with a header in text, the ending says more
        told = ""
    return told or _ENDINGS.get(ending, "microscope")


def begins(path: Path) -> str:
    """What a file looks like, in words; empty where it cannot be told."""
    return _NAMES.get(_by_beginning(path), "")


def _by_beginning(path: Path) -> str:
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(2048)
        for kind, signature in _BEGINNINGS:
            if head.startswith(signature):
                return "" if signature == b"BM" and head[6:10] != bytes(4) else kind  # it begins words, too
        for place in _HDF5_PLACES[1:]:  # behind a block of the user's, as in files of MATLAB 7.3
            if size >= place + 8:
                file.seek(place, os.SEEK_SET)
                if file.read(8) == b"\x89HDF\r\n\x1a\n":
                    return "hdf5"
    if head[_MRC_STAMP : _MRC_STAMP + 4] == b"MAP " and path.suffix.lower() != ".dm3":
        return "mrc"
    printable = sum(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head)
    return "text" if head and printable > 0.97 * len(head) else ""
