"""Small files of every format, written by libraries that torchmotif does not read them with, or by their specification.

python tests/files/writers.py     the table of formats in docs/how-to/files.md
"""

import codecs
import json
import struct
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import h5py
import imageio.v3 as iio
import mrcfile
import numpy as np
import scipy.io
import tifffile
import zarr

SHAPE = (40, 48)
IMAGE = np.arange(40 * 48, dtype=np.uint16).reshape(SHAPE)  # no two of its turns and mirrors are alike
STACK = np.stack([IMAGE, IMAGE + 7, IMAGE + 11])
PIXEL = (0.03, 0.02)  # nm along rows, columns

Writer = Callable[[Path], Any]


@dataclass(frozen=True)
class Format:
    """A format, and how its files are made.

    Attributes
    ----------
    name : str
    file : str
        Name of a file of it.
    image : callable
        Writes IMAGE, with PIXEL where `calibrated`.
    writer : str
        What writes it, for people.
    calibrated : bool
    stack : callable or None
        Writes STACK.
    needs : str
        The extra, or "" for the core.
    dtype : type
        Of the pixels; IMAGE is cast to it.
    """

    name: str
    file: str
    image: Writer
    writer: str
    calibrated: bool = True
    stack: Writer | None = None
    needs: str = "io"
    dtype: Any = np.uint16


def _ome(path: Path, data: np.ndarray, axes: str) -> None:
    metadata = {"axes": axes, "PhysicalSizeY": PIXEL[0], "PhysicalSizeX": PIXEL[1]}
    units = {"PhysicalSizeYUnit": "nm", "PhysicalSizeXUnit": "nm"}
    tifffile.imwrite(path, data, ome=True, metadata=metadata | units)


def _imagej(path: Path, data: np.ndarray, unit: str = "nm", scale: float = 1.0) -> None:
    resolution = (1 / PIXEL[1] * scale, 1 / PIXEL[0] * scale)
    tifffile.imwrite(path, data, imagej=True, resolution=resolution, metadata={"unit": unit})


def dm_tags() -> list[tuple[Any, ...]]:
    """The private tags that DigitalMicrograph writes: of x, then of y."""
    units = [(code, "s", 0, "nm", True) for code in (65003, 65004)]
    return [*units, (65009, "d", 1, PIXEL[1], True), (65010, "d", 1, PIXEL[0], True)]


def _mrc(path: Path, data: np.ndarray, *, signed: bool = True) -> None:
    with mrcfile.new(path) as file:
        file.set_data(data.astype(np.int8) if not signed else data)
        file.voxel_size = (PIXEL[1] * 10, PIXEL[0] * 10, 1.0)


def _hyperspy(path: Path, data: np.ndarray, names: str = "yx", unit: str = "nm") -> None:
    import hyperspy.api as hs

    signal = hs.signals.Signal2D(data)
    for axis, name, size in zip(signal.axes_manager.signal_axes[::-1], names, PIXEL, strict=True):
        axis.name, axis.units, axis.scale = name, unit, size
    signal.metadata.General.title = "HAADF"
    with redirect_stdout(StringIO()):
        signal.save(path, overwrite=True)


def berkeley(path: Path, data: np.ndarray, names: str, units: str = "[n_m]", first: int = 1) -> None:
    """By the specification of EMD 0.2; the data are turned so that their axes have these names in this order."""
    steps = {"y": PIXEL[0], "x": PIXEL[1], "t": 1.0}
    order = ["tyx"[-data.ndim :].index(name.lower()) for name in names]
    with h5py.File(path, "w") as file:
        file.attrs.update({"version_major": 0, "version_minor": 2})
        group = file.create_group("data/scan")
        group.attrs["emd_group_type"] = 1
        group["data"] = data.transpose(order)
        for i, name in enumerate(names):
            length, step = group["data"].shape[i], steps[name.lower()]
            dim = group.create_dataset(f"dim{first + i}", data=step * np.arange(length))
            dim.attrs.update({"name": name, "units": units if name.lower() in "yx" else "[s]"})


def velox(path: Path, images: dict[str, np.ndarray], *, spectra: bool = False) -> None:
    """As Velox lays them out: frames last, a column of JSON for each."""
    with h5py.File(path, "w") as file:
        version = json.dumps({"format": "Velox", "version": "1.0"}).encode()
        file.create_dataset("Version", data=[version], dtype=h5py.string_dtype())
        for number, (detector, data) in enumerate(images.items()):
            sizes = {"height": str(PIXEL[0] * 1e-9), "width": str(PIXEL[1] * 1e-9)}
            about = {
                "BinaryResult": {
                    "PixelSize": sizes,
                    "PixelUnitX": "m",
                    "PixelUnitY": "m",
                    "Detector": detector,
                }
            }
            frames = np.atleast_3d(np.moveaxis(data, 0, -1) if data.ndim == 3 else data)
            text = np.frombuffer(json.dumps(about).encode().ljust(2000, b"\0"), np.uint8)
            group = file.create_group(f"Data/Image/{number:032x}")
            group.create_dataset("Data", data=frames, chunks=(*frames.shape[:2], 1), compression="gzip")
            group["Metadata"] = np.repeat(text[:, None], frames.shape[2], axis=1)
        if spectra:
            stream = np.random.default_rng(0).integers(0, 4096, 5000).astype(np.uint16)
            file["Data/SpectrumStream/0/Data"] = stream[:, None]
            file["Data/SpectrumImage/0/SpectrumImageSettings"] = np.array([b"{}"])
            file["Data/Spectrum/0/Data"] = np.zeros((4096, 1), np.uint32)


def nexus(path: Path, data: np.ndarray) -> None:
    """A detector's array that a data group links to, as NeXus asks for; the links are soft."""
    names = ["frame", "y", "x"][-data.ndim :]
    with h5py.File(path, "w") as file:
        file.attrs["default"] = "entry"
        entry = file.create_group("entry")
        entry.attrs.update({"NX_class": "NXentry", "default": "data"})
        detector = entry.create_group("instrument/detector")
        detector["data"] = data
        group = entry.create_group("data")
        group.attrs.update({"NX_class": "NXdata", "signal": "data", "axes": names})
        group["data"] = h5py.SoftLink("/entry/instrument/detector/data")
        for name, step in zip(("y", "x"), PIXEL, strict=True):
            values = step * 10 * np.arange(data.shape[names.index(name)])
            group.create_dataset(name, data=values).attrs["units"] = "angstrom"
        entry["raw"] = h5py.SoftLink("/entry/instrument")
        entry["twice"] = entry["instrument/detector"]


def matlab73(path: Path, data: np.ndarray) -> None:
    """As MATLAB lays them out: a block of text first, and the axes in reverse."""
    with h5py.File(path, "w", userblock_size=512) as file:
        stored = data if data.ndim == 2 else np.moveaxis(data, 0, -1)  # (h, w, frames), MATLAB's way
        file["scan"] = stored.transpose(*range(stored.ndim)[::-1])
        file["scan"].attrs["MATLAB_class"] = np.bytes_("uint16")
    with path.open("r+b") as file_:
        file_.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(128))


def plain_hdf5(path: Path, data: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        node = file.create_dataset("scan", data=data, chunks=True, compression="gzip")
        node.attrs["pixel_size_nm"] = PIXEL


def zspy(path: Path, data: np.ndarray, version: int = 2) -> None:
    """As HyperSpy lays them out in zarr; its own writer knows zarr 2 only."""
    root = zarr.open_group(path, mode="w", zarr_format=version)
    root.attrs.update({"file_format": "ZSpy", "file_format_version": "3.3"})
    group = root.create_group("Experiments/HAADF")
    group.create_array("data", data=data)
    for i, (name, step) in enumerate(list(zip("tyx", (1.0, *PIXEL), strict=True))[-data.ndim :]):
        values = {"name": name, "scale": step, "units": "nm", "navigate": name == "t", "size": data.shape[i]}
        group.create_group(f"axis-{i}").attrs.update(values)


def ome_zarr(path: Path, channels: dict[str, np.ndarray], version: int = 3, group: str = "") -> None:
    """By the specification of OME-Zarr: 0.5 in version 3 of zarr, 0.4 in version 2; in a group as bioformats2raw lays it out."""
    root = zarr.open_group(path, mode="w", zarr_format=version)
    root = root.create_group(group) if group else root
    data = np.stack([np.atleast_3d(one.T).T for one in channels.values()])  # c, t, y, x
    data = data.transpose(1, 0, 2, 3)[:, :, None]  # t, c, z, y, x
    root.create_array("0", data=data, chunks=(1, 1, 1, 16, 16))
    root.create_array("1", data=np.ascontiguousarray(data[..., ::2, ::2]))
    axes = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}]
    axes += [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]

    def scaled(factor: float) -> list[dict[str, Any]]:
        return [{"type": "scale", "scale": [1.0, 1.0, 1.0, PIXEL[0] * factor, PIXEL[1] * factor]}]

    levels = [{"path": str(i), "coordinateTransformations": scaled(2.0**i)} for i in range(2)]
    told: dict[str, Any] = {"multiscales": [{"axes": axes, "datasets": levels}]}
    told["omero"] = {"channels": [{"label": name} for name in channels]}
    root.attrs.update({"ome": {"version": "0.5", **told}} if version == 3 else told)


def _zarr(path: Path, data: np.ndarray, version: int) -> None:
    chunks = (*(1,) * (data.ndim - 2), 16, 16)
    zarr.create_array(path, data=data, chunks=chunks, zarr_format=version, overwrite=True)


def _text(path: Path, sign: str, head: str = "", decimal: str = ".", encoding: str = "utf-8") -> None:
    rows = [sign.join(f"{value:.1f}".replace(".", decimal) for value in row) for row in IMAGE]
    path.write_bytes(
        (codecs.BOM_UTF16_LE if encoding == "utf-16-le" else b"") + (head + "\n".join(rows)).encode(encoding)
    )


GWYDDION = f"# Channel: HAADF\n# Width: {PIXEL[1] * 48} nm\n# Height: {PIXEL[0] * 40} nm\n# Value units: V\n"


def dm(version: int, path: Path, data: np.ndarray) -> None:
    """A Gatan file with the tags that readers need, by the description of the format by C. Boothroyd."""
    long = ">q" if version == 4 else ">i"

    def number(value: int) -> bytes:
        return struct.pack(long, value)

    def tag(kind: int, name: str, body: bytes) -> bytes:
        size = struct.pack(">q", len(body)) if version == 4 else b""
        return struct.pack(">BH", kind, len(name)) + name.encode() + size + body

    def group(name: str, *members: bytes) -> bytes:
        return tag(20, name, b"\1\0" + number(len(members)) + b"".join(members))

    def value(name: str, type_of: tuple[int, ...], data: bytes) -> bytes:
        return tag(21, name, b"%%%%" + number(len(type_of)) + b"".join(map(number, type_of)) + data)

    def ulong(name: str, what: int) -> bytes:
        return value(name, (5,), struct.pack("<I", what))

    def real(name: str, what: float) -> bytes:
        return value(name, (6,), struct.pack("<f", what))

    def text(name: str, what: str) -> bytes:
        return value(name, (20, 4, len(what)), what.encode("utf-16-le"))

    def axis(step: float, unit: str) -> bytes:
        return group("", real("Origin", 0.0), real("Scale", step), text("Units", unit))

    depth = [axis(1.0, "s")] * (data.ndim - 2)
    brightness = group("Brightness", real("Origin", 0.0), real("Scale", 1.0), text("Units", ""))
    image = group(
        "ImageData",
        group(
            "Calibrations", brightness, group("Dimension", axis(PIXEL[1], "nm"), axis(PIXEL[0], "nm"), *depth)
        ),
        value("Data", (20, 4, data.size), data.astype("<u2").tobytes()),
        ulong("DataType", 10),
        group("Dimensions", *(ulong("", n) for n in data.shape[::-1])),
        ulong("PixelDepth", 2),
    )
    clip = value("Clip", (15, 0, 4, 0, 3, 0, 3, 0, 3, 0, 3), struct.pack("<4i", 0, 0, 40, 48))
    tags = group("ImageTags", clip, group("DigiScan", real("Sample Time", 8.0)))
    list_ = group("ImageList", group("", image, tags, text("Name", "scan")))
    root = b"\1\0" + number(1) + list_
    path.write_bytes(
        struct.pack(">i", version) + number(len(root) + 4) + struct.pack(">i", 1) + root + bytes(8)
    )


def _rsciio(path: Path, data: np.ndarray) -> None:
    _hyperspy(path, data)


FORMATS = (
    Format("npy", "scan.npy", lambda p: np.save(p, IMAGE), "numpy", False, lambda p: np.save(p, STACK), ""),
    Format(
        "npz", "scan.npz", lambda p: np.savez(p, image=IMAGE, pixel_size_nm=np.array(PIXEL)), "numpy", True,
        lambda p: np.savez(p, image=STACK), "",
    ),
    Format("TIFF", "scan.tif", lambda p: tifffile.imwrite(p, IMAGE), "tifffile", False, lambda p: tifffile.imwrite(p, STACK, photometric="minisblack"), ""),
    Format(
        "TIFF, centimetres", "cm.tif",
        lambda p: tifffile.imwrite(p, IMAGE, resolution=(1e7 / PIXEL[1], 1e7 / PIXEL[0]), resolutionunit="CENTIMETER"),
        "tifffile", True, None, "",
    ),
    Format("TIFF, Deflate", "deflate.tif", lambda p: tifffile.imwrite(p, IMAGE, compression="zlib", predictor=True), "tifffile", False,
           lambda p: tifffile.imwrite(p, STACK, compression="zlib", photometric="minisblack"), ""),
    Format("TIFF, LZW", "lzw.tif", lambda p: tifffile.imwrite(p, IMAGE, compression="lzw"), "tifffile", False,
           lambda p: tifffile.imwrite(p, STACK, compression="lzw", photometric="minisblack")),
    Format("TIFF, Deflate, floating-point predictor", "float.tif",
           lambda p: tifffile.imwrite(p, IMAGE.astype(np.float32), compression="zlib", predictor=3), "tifffile", False, dtype=np.float32),
    Format("TIFF of ImageJ", "imagej.tif", lambda p: _imagej(p, IMAGE, "micron", 1000.0), "tifffile", True, lambda p: _imagej(p, STACK), ""),
    Format("TIFF of DigitalMicrograph", "dm.tif", lambda p: tifffile.imwrite(p, IMAGE, extratags=dm_tags()), "tifffile", True, None, ""),
    Format("OME-TIFF", "scan.ome.tif", lambda p: _ome(p, IMAGE, "YX"), "tifffile", True, lambda p: _ome(p, STACK, "TYX"), ""),
    Format("png", "scan.png", lambda p: iio.imwrite(p, IMAGE), "imageio", False, None, ""),
    Format("bmp", "scan.bmp", lambda p: iio.imwrite(p, IMAGE.astype(np.uint8)), "imageio", False, None, "", np.uint8),
    Format("text, tabs", "tabs.txt", lambda p: _text(p, "\t"), "by hand", False, None, "", np.float64),
    Format("text, blanks", "blanks.txt", lambda p: np.savetxt(p, IMAGE), "numpy", False, None, "", np.float64),
    Format("text of Gwyddion", "gwyddion.txt", lambda p: _text(p, "\t", GWYDDION), "by hand", True, None, "", np.float64),
    Format("csv", "scan.csv", lambda p: np.savetxt(p, IMAGE, delimiter=","), "numpy", False, None, "", np.float64),
    Format("csv with decimal commas", "comma.csv", lambda p: _text(p, ";", decimal=","), "by hand", False, None, "", np.float64),
    Format("MATLAB 4, 5, 7", "scan.mat", lambda p: scipy.io.savemat(p, {"scan": IMAGE}), "scipy", False,
           lambda p: scipy.io.savemat(p, {"scan": np.moveaxis(STACK, 0, -1)}, do_compression=True), ""),
    Format("MATLAB 7.3", "v73.mat", lambda p: matlab73(p, IMAGE), "h5py, as laid out by MATLAB", False, lambda p: matlab73(p, STACK)),
    Format("MRC", "scan.mrc", lambda p: _mrc(p, IMAGE), "mrcfile", True, lambda p: _mrc(p, STACK)),
    Format("DM3", "scan.dm3", lambda p: dm(3, p, IMAGE), "by hand", True, lambda p: dm(3, p, STACK)),
    Format("DM4", "scan.dm4", lambda p: dm(4, p, IMAGE), "by hand", True, lambda p: dm(4, p, STACK)),
    Format("hspy", "scan.hspy", lambda p: _hyperspy(p, IMAGE), "HyperSpy", True, lambda p: _hyperspy(p, STACK)),
    Format("zspy", "scan.zspy", lambda p: zspy(p, IMAGE), "zarr, as laid out by HyperSpy", True, lambda p: zspy(p, STACK)),
    Format("EMD of Velox", "velox.emd", lambda p: velox(p, {"HAADF": IMAGE}), "h5py, as laid out by Velox", True,
           lambda p: velox(p, {"HAADF": STACK})),
    Format("EMD of Berkeley", "berkeley.emd", lambda p: berkeley(p, IMAGE, "YX"), "h5py, by its specification", True,
           lambda p: berkeley(p, STACK, "tyx")),
    Format("EMD of HyperSpy", "hyperspy.emd", lambda p: _hyperspy(p, IMAGE), "HyperSpy"),
    Format("NeXus", "scan.nxs", lambda p: nexus(p, IMAGE), "h5py, by its specification", True, lambda p: nexus(p, STACK)),
    Format("NeXus of HyperSpy", "hyperspy.nxs", lambda p: _hyperspy(p, IMAGE), "HyperSpy"),
    Format("HDF5, any other", "scan.h5", lambda p: plain_hdf5(p, IMAGE), "h5py", True, lambda p: plain_hdf5(p, STACK)),
    Format("OME-Zarr 0.5", "v5.ome.zarr", lambda p: ome_zarr(p, {"HAADF": IMAGE}), "zarr, by its specification", True,
           lambda p: ome_zarr(p, {"HAADF": STACK})),
    Format("OME-Zarr 0.4", "v4.ome.zarr", lambda p: ome_zarr(p, {"HAADF": IMAGE}, 2), "zarr, by its specification", True,
           lambda p: ome_zarr(p, {"HAADF": STACK}, 2)),
    Format("zarr 3", "v3.zarr", lambda p: _zarr(p, IMAGE, 3), "zarr", False, lambda p: _zarr(p, STACK, 3)),
    Format("zarr 2", "v2.zarr", lambda p: _zarr(p, IMAGE, 2), "zarr", False, lambda p: _zarr(p, STACK, 2)),
    Format("Semper unf", "scan.unf", lambda p: _rsciio(p, IMAGE.astype(np.float32)), "HyperSpy", dtype=np.float32),
    Format("PantaRhei prz", "scan.prz", lambda p: _rsciio(p, IMAGE), "HyperSpy", False),
)  # fmt: skip


def row(form: Format, folder: Path) -> str:
    """The line of the table: what its files were seen to do."""
    from torchmotif.io import StoredArray, chosen, contents, read

    path = folder / form.file
    form.image(path)
    scan = read(path)
    assert np.array_equal(scan.numpy(), IMAGE.astype(form.dtype)), form.name
    stack = "–"
    lazy = chosen(contents(path, lazy=True), None, path).data
    if form.stack is not None:
        again = folder / f"stack-{form.file}"
        form.stack(again)
        for i in range(3):
            assert np.array_equal(read(again, frame=i).numpy(), STACK[i].astype(form.dtype)), form.name
        stack, lazy = "yes", chosen(contents(again, lazy=True), None, again).data
    how = "no"
    if isinstance(lazy, np.memmap):
        how = "mapped"
    elif isinstance(lazy, StoredArray):
        how = "by the window" if lazy.windows else "by the frame"
    elif hasattr(lazy, "compute"):
        how = "mapped"
    size = "no" if scan.pixel_size_nm is None else "yes"
    return f"| {form.name} | yes | {size} | {stack} | {how} | {form.needs or '–'} | {form.writer} |"


def table() -> str:
    """The table of formats, made by writing and reading a file of each."""
    head = "| format | opens | pixel size | stacks | lazily | extra | tested with files by |\n|---|---|---|---|---|---|---|"
    with tempfile.TemporaryDirectory() as folder:
        return "\n".join([head, *(row(form, Path(folder)) for form in FORMATS)])


if __name__ == "__main__":
    page = Path(__file__).parents[2] / "docs" / "how-to" / "files.md"
    text = page.read_text(encoding="utf-8")
    start, end = "<!-- formats: made by tests/files/writers.py -->\n", "\n<!-- formats end -->"
    first, rest = text.split(start)
    page.write_text(first + start + table() + end + rest.split(end)[1], encoding="utf-8")
    sys.exit(0)
