"""What is said of files that hold no image, that need a package, or whose numbers cannot be."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import mrcfile
import numpy as np
import pytest
import scipy.io
import tifffile
import writers
import zarr
from PIL import Image
from writers import IMAGE, PIXEL, STACK

import torchmotif as tm
from torchmotif.errors import ReadError
from torchmotif.io import contents

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "hello")


NO_IMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "object.npy": (lambda p: np.save(p, np.array([{}], object), allow_pickle=True), "Python objects, which are never loaded"),
    "object.npz": (lambda p: np.savez(p, a=np.array([{}], object)), "Python objects under 'a'"),
    "bool.npy": (lambda p: np.save(p, IMAGE > 9), "true and false values .* use it as a mask"),
    "complex.npy": (lambda p: np.save(p, IMAGE + 1j), "complex numbers; take their modulus"),
    "bit.png": (lambda p: Image.fromarray(IMAGE % 2 == 0).save(p), "a picture of 1 bit"),
    "bit.tif": (lambda p: tifffile.imwrite(p, IMAGE % 2 == 0), "a picture of 1 bit"),
    "table.csv": (lambda p: p.write_text("row_px,col_px\n1.5,2.5\n" * 20), "as of a table with names"),
    "numbers.csv": (lambda p: p.write_text("1.5,2.5\n" * 20), "a table of 20 rows of 2 numbers"),
    "ragged.txt": (lambda p: p.write_text("1 2 3\n1 2 3\n1 2\n" * 5), "row 3 has 2 values and the first 3"),
    "index.csv": (lambda p: p.write_text(",0,1,2\n" + "0,1,2,3\n" * 20), "row 1 has '', which is no number"),
    "empty.txt": (lambda p: p.write_text("# nothing\n"), "it has no numbers"),
    "letter.txt": (lambda p: p.write_text("Dear colleague,\nsee the other file.\n"), "as of a table with names"),
    "text.mat": (lambda p: scipy.io.savemat(p, {"a": "hello"}), "it has no arrays of numbers"),
    "complex.mrc": (lambda p: mrcfile.write(p, IMAGE.astype(np.complex64)), "complex numbers"),
    "other.npz": (_zip, "a zip archive without arrays"),
    "lines.h5": (lambda p: h5py.File(p, "w").create_dataset("a", data=np.arange(9)).file.close(), "no arrays of numbers with rows and columns"),
    "complex.h5": (lambda p: h5py.File(p, "w").create_dataset("a", data=IMAGE + 1j).file.close(), r"a is \(40, 48\) complex"),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_IMAGES)
def test_what_is_no_image_is_named(tmp_path: Path, name: str) -> None:
    write, message = NO_IMAGES[name]
    write(tmp_path / name)
    for lazy in (False, True):
        with pytest.raises(ReadError, match=message) as caught:
            contents(tmp_path / name, lazy=lazy)
        assert "damaged" not in str(caught.value)
        assert str(tmp_path / name) in str(caught.value)


def test_a_folder_and_a_zarr_group_without_arrays_are_named(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="is a folder, and no zarr"):
        tm.read(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ReadError, match="is a folder of results, not an image"):
        tm.read(tmp_path)
    zarr.open_group(tmp_path / "g.zarr", mode="w")
    with pytest.raises(ReadError, match="holds no zarr array"):
        tm.read(tmp_path / "g.zarr")


def test_what_a_file_begins_like_is_said(tmp_path: Path) -> None:
    (tmp_path / "scan.dm4").write_bytes(b"\x89PNG\r\n\x1a\n" * 20)
    with pytest.raises(ReadError, match=r"scan\.dm4 may be damaged"):
        tm.read(tmp_path / "scan.dm4")
    (tmp_path / "scan.mrc").write_text("hello " * 500)
    with pytest.raises(ReadError, match="begins like text"):
        tm.read(tmp_path / "scan.mrc")


PACKAGES = {
    "lzw.tif": "imagecodecs",
    "float.tif": "imagecodecs",
    "scan.mrc": "mrcfile",
    "scan.hspy": "h5py",
    "velox.emd": "h5py",
    "scan.dm4": "rosettasciio",
    "v3.zarr": "zarr",
    "packed.h5": "hdf5plugin",
}


def test_a_package_that_is_missing_is_named_and_never_called_damage(tmp_path: Path) -> None:
    hdf5plugin = pytest.importorskip("hdf5plugin")
    packages = dict(PACKAGES)
    if sys.version_info < (3, 14):  # from then on Python has Zstandard
        packages["zstd.tif"] = "imagecodecs"
        tifffile.imwrite(tmp_path / "zstd.tif", IMAGE, compression="zstd")
    with h5py.File(tmp_path / "packed.h5", "w") as file:
        file.create_dataset("scan", data=IMAGE, chunks=(8, 8), **hdf5plugin.Bitshuffle())
    for form in writers.FORMATS:
        if form.file in PACKAGES:
            form.image(tmp_path / form.file)
    code = (
        "import sys\n"
        "hidden = sys.argv[2].split(',')\n"
        "sys.modules.update(dict.fromkeys(hidden))\n"
        "import torchmotif as tm\n"
        "for name in sys.argv[3:]:\n"
        "    try: tm.read(f'{sys.argv[1]}/{name}')\n"
        "    except tm.errors.MissingDependencyError as error: print(name, error)\n"
    )
    said = ""
    for hidden in ("imagecodecs,mrcfile,h5py,rsciio,zarr", "hdf5plugin"):
        command = [sys.executable, "-c", code, str(tmp_path), hidden, *packages]
        said += subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = dict(line.split(" ", 1) for line in said.splitlines())
    assert set(lines) == set(packages)
    for name, package in packages.items():
        assert package in lines[name]
        assert "pip install 'torchmotif[io]'" in lines[name]
        assert "damaged" not in lines[name]


@pytest.mark.parametrize("nm", [1e16, 1e-7, 2e6])
def test_a_pixel_size_that_cannot_be_is_left_out_with_a_note(tmp_path: Path, nm: float) -> None:
    writers.berkeley(tmp_path / "scan.emd", IMAGE, "yx")
    with h5py.File(tmp_path / "scan.emd", "a") as file:
        for i, n in enumerate(IMAGE.shape):
            file[f"data/scan/dim{i + 1}"][...] = nm * np.arange(n)
    scan = tm.read(tmp_path / "scan.emd")
    assert scan.pixel_size is None
    assert "cannot be; it is left out" in scan.metadata["notes"][0]


def _mode_0(
    path: Path, pixels: np.ndarray, stamp: int | None, flags: int = 0, *, ranged: bool = True
) -> None:
    with mrcfile.new(path) as file:
        file.set_data(pixels.view(np.int8))
    data = bytearray(path.read_bytes())
    low, high = (float(pixels.min()), float(pixels.max())) if ranged else (0.0, -1.0)
    data[76:84] = np.array([low, high], "<f4").tobytes()
    if stamp is not None:
        data[152:160] = np.array([stamp, flags], "<i4").tobytes()
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("kind", "stamp", "flags", "ranged"),
    [
        (np.int8, None, 0, True),
        (np.uint8, None, 0, True),
        (np.int8, None, 0, False),  # as the standard of 2014 says
        (np.uint8, 1146047817, 0, False),
        (np.int8, 1146047817, 1, False),
    ],
)
def test_bytes_of_mrc_have_the_sign_of_the_header(
    tmp_path: Path, kind: type, stamp: int | None, flags: int, ranged: bool
) -> None:
    pixels = (IMAGE % 256).astype(np.uint8).view(kind)
    _mode_0(tmp_path / "scan.mrc", pixels, stamp, flags, ranged=ranged)
    scan = tm.read(tmp_path / "scan.mrc")
    assert scan.data.dtype == kind
    np.testing.assert_array_equal(scan.numpy(), pixels)


def test_mrc_of_the_other_byte_order_and_longer_than_its_header(tmp_path: Path) -> None:
    with mrcfile.new(tmp_path / "scan.mrc") as file:
        file.set_data(IMAGE.astype(">i2"))
    np.testing.assert_array_equal(tm.read(tmp_path / "scan.mrc").numpy(), IMAGE)
    with (tmp_path / "scan.mrc").open("ab") as file_:
        file_.write(bytes(100))
    assert "100 bytes of the file belong to no image" in tm.read(tmp_path / "scan.mrc").metadata["notes"][0]


def test_the_pixel_size_of_thermo_fisher_is_in_the_extended_header(tmp_path: Path) -> None:
    from mrcfile.dtypes import get_ext_header_dtype

    kind = get_ext_header_dtype(b"FEI1")
    with mrcfile.new(tmp_path / "scan.mrc") as file:
        file.set_data(IMAGE)
        extended = np.zeros(1, kind)
        extended["Metadata size"] = kind.itemsize
        extended["Pixel size Y"], extended["Pixel size X"] = PIXEL[0] * 1e-9, PIXEL[1] * 1e-9
        file.header.exttyp = b"FEI1"
        file.set_extended_header(extended)
    assert tm.read(tmp_path / "scan.mrc").pixel_size_nm == pytest.approx(PIXEL)


def test_an_ome_tiff_opens_no_other_file(tmp_path: Path) -> None:
    """The OME-XML names a second file for half of the planes."""
    other = tmp_path / "other.ome.tif"
    tifffile.imwrite(other, STACK[:1])
    told = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:a"><Image ID="Image:0">'
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="48" SizeY="40" SizeZ="1" SizeC="1" SizeT="2">'
        '<TiffData IFD="0" FirstT="0" PlaneCount="1"><UUID FileName="scan.ome.tif">urn:uuid:a</UUID></TiffData>'
        '<TiffData IFD="0" FirstT="1" PlaneCount="1"><UUID FileName="other.ome.tif">urn:uuid:b</UUID></TiffData>'
        "</Pixels></Image></OME>"
    )
    tifffile.imwrite(tmp_path / "scan.ome.tif", IMAGE, description=told, metadata=None)
    (item,) = contents(tmp_path / "scan.ome.tif")
    np.testing.assert_array_equal(item.data, IMAGE)


def test_hdf5_may_have_several_ways_to_an_array(tmp_path: Path) -> None:
    writers.nexus(tmp_path / "scan.nxs", IMAGE)
    with h5py.File(tmp_path / "scan.nxs", "a") as file:
        file["entry/nowhere"] = h5py.SoftLink("/not/there")
        for i in range(40):  # twice as many ways with each: they are not all gone
            group = file.create_group(f"entry/g{i}")
            if i:
                group["a"] = group["b"] = file[f"entry/g{i - 1}"]
    assert tm.read(tmp_path / "scan.nxs").pixel_size_nm == pytest.approx(PIXEL)


def test_virtual_data_of_the_same_file_are_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["raw"] = IMAGE.reshape(-1)[None]
        layout = h5py.VirtualLayout(IMAGE.shape, IMAGE.dtype)
        for i in range(40):
            layout[i] = h5py.VirtualSource(file["raw"])[0, 48 * i : 48 * (i + 1)]
        file.create_virtual_dataset("scan", layout)
    np.testing.assert_array_equal(tm.read(tmp_path / "scan.h5", dataset="scan").numpy(), IMAGE)


def test_zarr_keeps_to_its_folder_and_to_numbers(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "scan.zarr", data=IMAGE, chunks=IMAGE.shape, compressors=None)
    chunk = next(path for path in (tmp_path / "scan.zarr" / "c").rglob("*") if path.is_file())
    (tmp_path / "secret").write_bytes(chunk.read_bytes())
    chunk.unlink()
    chunk.symlink_to(tmp_path / "secret")
    with pytest.raises(ReadError, match="link to another file"):
        tm.read(tmp_path / "scan.zarr")
    array = zarr.create_array(tmp_path / "pickle.zarr", data=IMAGE, zarr_format=2)
    head = Path(str(array.store_path).removeprefix("file://")) / ".zarray"
    text = head.read_text().replace('"filters": null', '"filters": [{"id": "pickle", "protocol": 5}]')
    assert "pickle" in text
    head.write_text(text)
    with pytest.raises(ReadError, match="pickle, which is not read: it may hold objects"):
        tm.read(tmp_path / "pickle.zarr")


@pytest.mark.parametrize("hidden", ["name", "value"])
def test_structures_of_matlab_are_looked_into(tmp_path: Path, hidden: str) -> None:
    scipy.io.savemat(tmp_path / "scan.mat", {"scan": {"image": IMAGE, hidden: "x", "pixel": 0.02}})
    (item,) = contents(tmp_path / "scan.mat")
    assert item.name == "scan.image"
    np.testing.assert_array_equal(item.data, IMAGE)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "latin-1"])
def test_text_of_any_encoding(tmp_path: Path, encoding: str) -> None:
    writers._text(tmp_path / "scan.txt", "\t", "# Bild für Äpfel\n", encoding=encoding)
    np.testing.assert_array_equal(tm.read(tmp_path / "scan.txt").numpy(), IMAGE)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_device_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "scan.txt")
    with pytest.raises(ReadError, match="not a file"):
        tm.read(tmp_path / "scan.txt")


def test_a_first_row_that_counts_columns_is_noted(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "scan.csv", np.vstack([np.arange(IMAGE.shape[1]), IMAGE]), delimiter=",")
    assert "names of columns" in contents(tmp_path / "scan.csv")[0].notes[0]


def test_spectra_are_noted(tmp_path: Path) -> None:
    hs = pytest.importorskip("hyperspy.api")
    hs.signals.Signal1D(np.ones((12, 16, 100), np.float32)).save(tmp_path / "spectra.hspy")
    hs.signals.Signal2D(STACK).save(tmp_path / "stack.hspy")
    assert "spectra along its last axis" in contents(tmp_path / "spectra.hspy")[0].notes[0]
    assert not contents(tmp_path / "stack.hspy")[0].notes


def test_a_wide_image_has_the_pixel_size_that_its_width_says(tmp_path: Path) -> None:
    rows = "\n".join("\t".join(map(str, row)) for row in IMAGE.tolist())
    height, width = IMAGE.shape
    (tmp_path / "wide.txt").write_text(f"# Width: {width * 2.5} um\n# Height: {height * 2.5} um\n{rows}\n")
    assert tm.read(tmp_path / "wide.txt").pixel_size_nm == pytest.approx((2500.0, 2500.0))
