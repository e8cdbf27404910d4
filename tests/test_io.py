import hashlib
from pathlib import Path
from typing import Any

import h5py
import imageio.v3 as iio
import mrcfile
import numpy as np
import pytest
import tifffile
from PIL import Image

import torchmotif as tm
from torchmotif.errors import InputError, MissingFileError, ReadError
from torchmotif.io import contents, read_mask

RAMP = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30)

REAL = {  # shape, dtype, pixel size in nm
    "MoSe2_80kV.tif": ((512, 512), "float32", None),
    "MoSe2_grain_boundary.tif": ((500, 500), "float32", None),
    "WS2Te2_cut.tif": ((374, 374), "float32", None),
    "TiWSe2_1028_11_ADF1.dm4": ((512, 512), "uint32", 0.03987935),
    "TiWSe2_1028_11_ADF2.dm4": ((512, 512), "uint32", 0.03987935),
    "TiWSe2_1028_25_ADF1.dm4": ((512, 512), "uint32", 0.03987935),
    "TiWSe2_1028_25_ADF2.dm4": ((512, 512), "uint32", 0.03987935),
    "TEMUL_Se_implanted_MoS2.dm3": ((1024, 1024), "uint32", 0.0126953),
    "TEMUL_PTO-SRO_supercrystal.hspy": ((224, 1312), "float64", 0.0149968),
    "SingleOrigin_BSSN_DPC_scan85.tif": ((1408, 1400), "uint16", None),
    "pychip_LSFO_squares_diamonds.png": ((790, 787), "uint8", None),
    "AtomSegNet_DSO_8nm.png": ((1024, 1024), "uint8", None),
    "SciLink_MoS2_Exp-000-2.npz": ((512, 512), "float32", 0.0175781),
}


@pytest.mark.real_data
@pytest.mark.parametrize("name", REAL)
def test_every_real_image_opens_with_the_calibration_it_has(real_data: Path, name: str) -> None:
    shape, dtype, nm = REAL[name]
    scan = tm.read(real_data / name)
    assert (scan.shape, str(scan.data.dtype)) == (shape, dtype)
    assert scan.pixel_size_nm == (None if nm is None else pytest.approx((nm, nm), rel=1e-5))


@pytest.mark.real_data
@pytest.mark.parametrize("keep", [0.001, 0.3, 0.9])
def test_a_truncated_dm4_is_refused(real_data: Path, tmp_path: Path, keep: float) -> None:
    whole = (real_data / "TiWSe2_1028_11_ADF2.dm4").read_bytes()
    path = tmp_path / "cut.dm4"
    path.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(ReadError, match=r"cut\.dm4"):
        tm.read(path)


def _save_hspy(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["file_format"] = "HyperSpy"
        file.attrs["file_format_version"] = "3.3"
        group = file.create_group("Experiments/scan")
        group["data"] = RAMP
        for i, (name, size) in enumerate((("y", 20), ("x", 30))):
            axis = group.create_group(f"axis-{i}")
            values = {
                "name": name,
                "scale": 0.2,
                "offset": 0.0,
                "size": size,
                "units": "Å",
                "navigate": False,
            }
            axis.attrs.update({**values, "_type": "UniformDataAxis", "is_binned": False})
        for name in ("metadata", "original_metadata", "learning_results"):
            group.create_group(name)
        group["metadata"].create_group("General").attrs["title"] = "scan"


def _save_mrc(path: Path) -> None:
    with mrcfile.new(path) as file:
        file.set_data(RAMP.astype(np.float32))
        file.voxel_size = 0.2  # angstrom


SAVERS: dict[str, Any] = {
    "scan.npy": lambda path: np.save(path, RAMP),
    "scan.npz": lambda path: np.savez(path, image=RAMP, pixel_size_nm=0.02),
    "scan.tif": lambda path: tifffile.imwrite(path, RAMP),
    "imagej.tif": lambda path: tifffile.imwrite(
        path, RAMP, imagej=True, resolution=(50.0, 25.0), metadata={"unit": "nm"}
    ),
    "centimetre.tif": lambda path: tifffile.imwrite(
        path, RAMP, resolution=(5e8, 5e8), resolutionunit="CENTIMETER"
    ),
    "printed.tif": lambda path: tifffile.imwrite(path, RAMP, resolution=(300, 300), resolutionunit="INCH"),
    "scan.png": lambda path: iio.imwrite(path, RAMP),
    "scan.hspy": _save_hspy,
    "scan.mrc": _save_mrc,
}
SIZES = {
    "scan.npz": (0.02, 0.02),
    "imagej.tif": (0.04, 0.02),
    "centimetre.tif": (0.02, 0.02),
    "scan.hspy": (0.02, 0.02),
    "scan.mrc": (0.02, 0.02),
}


@pytest.mark.parametrize("name", SAVERS)
def test_pixels_and_calibration_come_from_the_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    SAVERS[name](path)
    scan = tm.read(path)
    np.testing.assert_array_equal(scan.numpy(), RAMP)
    assert scan.pixel_size_nm == (pytest.approx(SIZES[name], rel=1e-4) if name in SIZES else None)
    assert scan.metadata["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_stack_asks_which_frame(tmp_path: Path) -> None:
    path = tmp_path / "stack.npy"
    np.save(path, np.stack([RAMP, RAMP + 1]))
    with pytest.raises(InputError, match="stack of 2 images"):
        tm.read(path)
    np.testing.assert_array_equal(tm.read(path, frame=-1).numpy(), RAMP + 1)
    with pytest.raises(InputError, match="frame=2"):
        tm.read(path, frame=2)
    assert contents(path)[0].frames == 2


def test_a_frame_of_a_single_image_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "scan.npy", RAMP)
    with pytest.raises(InputError, match="single image"):
        tm.read(tmp_path / "scan.npy", frame=3)


def test_a_file_with_several_images_asks_which(tmp_path: Path) -> None:
    path = tmp_path / "two.npz"
    np.savez(path, adf=RAMP, bf=RAMP + 1)
    with pytest.raises(InputError, match=r"0: adf .*1: bf"):
        tm.read(path)
    np.testing.assert_array_equal(tm.read(path, dataset="bf").numpy(), RAMP + 1)
    np.testing.assert_array_equal(tm.read(path, dataset=0).numpy(), RAMP)
    with pytest.raises(InputError, match="'df'"):
        tm.read(path, dataset="df")


def test_colour_becomes_luminance_and_says_so(tmp_path: Path) -> None:
    colour = np.zeros((20, 30, 3), np.uint8)
    colour[..., 1] = 200
    iio.imwrite(tmp_path / "colour.png", colour)
    scan = tm.read(tmp_path / "colour.png")
    assert scan.shape == (20, 30)
    assert "luminance" in scan.metadata["notes"][0]
    assert scan.numpy()[0, 0] == pytest.approx(0.7154 * 200 / 255, rel=1e-3)  # Rec. 709


def test_grey_stored_as_colour_keeps_its_integers(tmp_path: Path) -> None:
    grey = np.repeat(RAMP.astype(np.uint8)[..., None], 3, axis=-1)
    tifffile.imwrite(tmp_path / "grey.tif", grey, photometric="rgb")
    np.testing.assert_array_equal(tm.read(tmp_path / "grey.tif").numpy(), RAMP.astype(np.uint8))


@pytest.mark.parametrize("kind", ["u1", "u2", "i2", "u4", "f4"])
@pytest.mark.parametrize("frames", [3, 4])
def test_a_stack_of_few_frames_is_no_colour(tmp_path: Path, kind: str, frames: int) -> None:
    stack = np.arange(frames * 600).reshape(frames, 20, 30).astype(kind)
    # What tifffile writes of three or four frames when nobody says what they are:
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="rgb", planarconfig="separate")
    (item,) = contents(tmp_path / "stack.tif")
    assert (item.data.shape, item.is_rgb) == (stack.shape, False)
    assert "frames" in item.notes[0]
    np.testing.assert_array_equal(tm.read(tmp_path / "stack.tif", frame=1).numpy(), stack[1])
    with pytest.raises(InputError, match=f"stack of {frames} images"):
        tm.read(tmp_path / "stack.tif")


@pytest.mark.parametrize("axes", ["QYX", "ZYX", "TYX"])
def test_three_pages_are_three_frames(tmp_path: Path, axes: str) -> None:
    stack = np.arange(3 * 600, dtype=np.uint16).reshape(3, 20, 30)
    metadata = None if axes == "QYX" else {"axes": axes}
    tifffile.imwrite(tmp_path / "stack.tif", stack, photometric="minisblack", metadata=metadata)
    (item,) = contents(tmp_path / "stack.tif")
    assert (item.data.shape, item.is_rgb, item.notes) == (stack.shape, False, [])


@pytest.mark.parametrize("planar", [False, True], ids=["pixel by pixel", "plane by plane"])
@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_colours_of_a_tiff_stay_colours(tmp_path: Path, planar: bool, kind: str) -> None:
    colour = np.zeros((20, 30, 3), kind)
    colour[..., 1] = np.iinfo(kind).max
    tifffile.imwrite(
        tmp_path / "colour.tif",
        np.moveaxis(colour, -1, 0) if planar else colour,
        photometric="rgb",
        planarconfig="separate" if planar else "contig",
        metadata=None,  # as a program other than tifffile writes it
    )
    (item,) = contents(tmp_path / "colour.tif")
    assert item.is_rgb
    np.testing.assert_array_equal(np.asarray(item.data), colour)
    assert tm.read(tmp_path / "colour.tif").numpy()[0, 0] == pytest.approx(0.7154, rel=1e-3)


@pytest.mark.parametrize(
    "name", ["mask.npy", "mask.npz", "bits.png", "bits.tif", "grey.png", "colour.png", "numbers.npy"]
)
def test_a_mask_is_read_from_what_people_save(tmp_path: Path, name: str) -> None:
    mask = np.zeros((20, 30), bool)
    mask[:5, 10:] = True
    path = tmp_path / name
    if name == "mask.npz":
        np.savez(path, mask=mask)
    elif path.suffix == ".npy":
        np.save(path, mask if name == "mask.npy" else mask * 7.5)
    elif path.stem == "bits":
        Image.fromarray(mask).save(path)
    else:
        grey = mask.astype(np.uint8) * 255
        iio.imwrite(path, np.stack([grey, 0 * grey, 0 * grey], axis=-1) if name == "colour.png" else grey)
    read = read_mask(path)
    assert read.dtype == bool
    np.testing.assert_array_equal(read, mask)


def test_a_stack_is_no_mask(tmp_path: Path) -> None:
    np.save(tmp_path / "stack.npy", np.zeros((3, 20, 30), bool))
    with pytest.raises(InputError, match="a mask is one image"):
        read_mask(tmp_path / "stack.npy")


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4, 5)], ids=["1-D", "4-D"])
def test_arrays_that_are_no_image_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "array.npy", np.zeros(shape))
    with pytest.raises(InputError, match="dimensional"):
        tm.read(tmp_path / "array.npy")


def test_missing_file() -> None:
    with pytest.raises(MissingFileError, match="there is no file"):
        tm.read("nowhere.dm4")


@pytest.mark.parametrize("suffix", [".tif", ".dm4", ".npy", ".npz", ".png", ".hspy", ".mrc", ".emd"])
def test_text_under_another_name_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"text{suffix}"
    path.write_text("this is no image " * 100)
    with pytest.raises(ReadError, match="may be damaged"):
        tm.read(path)


@pytest.mark.parametrize("suffix", [".tif", ".dm4"])
def test_an_empty_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"empty{suffix}"
    path.touch()
    with pytest.raises(ReadError, match="0 bytes"):
        tm.read(path)


def test_a_folder_and_an_unknown_ending_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="folder"):
        tm.read(tmp_path)
    (tmp_path / "scan.xyz").write_text("x")
    with pytest.raises(ReadError, match="no reader knows"):
        tm.read(tmp_path / "scan.xyz")


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "object.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ReadError):
        tm.read(tmp_path / "object.npy")


def test_text_arrays_are_no_images(tmp_path: Path) -> None:
    np.save(tmp_path / "text.npy", np.array(["a", "b"]))
    with pytest.raises(ReadError, match="holds no image"):
        tm.read(tmp_path / "text.npy")
