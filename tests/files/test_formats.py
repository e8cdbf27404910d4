"""Every format: pixels, their orientation and their size, of one image and of a stack, read and lazy."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import writers
from writers import FORMATS, IMAGE, PIXEL, STACK, Format

import torchmotif as tm
from torchmotif.io import Dataset, contents

pytestmark = [
    # of HyperSpy, which writes, and of rosettasciio, which leaves files open that it maps
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "files.md"
STACKS = [form for form in FORMATS if form.stack is not None]


def _name(form: Format) -> str:
    return form.name


@pytest.mark.parametrize("form", FORMATS, ids=_name)
def test_pixels_orientation_and_pixel_size_come_from_the_file(form: Format, tmp_path: Path) -> None:
    path = tmp_path / form.file
    form.image(path)
    scan = tm.read(path)
    np.testing.assert_array_equal(scan.numpy(), IMAGE.astype(form.dtype))
    assert scan.data.dtype == form.dtype
    assert scan.pixel_size_nm == (pytest.approx(PIXEL, rel=1e-6) if form.calibrated else None)
    for lazy in (False, True):
        (item,) = contents(path, lazy=lazy)
        np.testing.assert_array_equal(np.asarray(item.data), scan.numpy())


@pytest.mark.parametrize("form", STACKS, ids=_name)
def test_a_stack_is_read_frame_by_frame(form: Format, tmp_path: Path) -> None:
    path = tmp_path / form.file
    assert form.stack is not None
    form.stack(path)
    for lazy in (False, True):
        (item,) = contents(path, lazy=lazy)
        assert item.frames == 3
        np.testing.assert_array_equal(np.asarray(item.data), STACK.astype(form.dtype))
        np.testing.assert_array_equal(
            np.asarray(item.data[1, 3:30, 5:7]), STACK[1, 3:30, 5:7].astype(form.dtype)
        )
    np.testing.assert_array_equal(tm.read(path, frame=-1).numpy(), STACK[2].astype(form.dtype))


@pytest.mark.skipif(not PAGE.exists(), reason="the pages are not here")
def test_the_table_of_formats_is_what_was_measured() -> None:
    """If it is not: python tests/files/writers.py."""
    assert writers.table() in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("names", "data", "first"),
    [
        ("YX", IMAGE, 1),
        ("xy", IMAGE, 1),
        ("tyx", STACK, 1),
        ("xyt", STACK, 1),
        ("yx", IMAGE, 0),
        ("ytx", STACK, 1),
    ],
    ids=lambda value: str(value) if isinstance(value, str | int) else "",
)
def test_names_of_axes_decide_what_is_a_row(tmp_path: Path, names: str, data: np.ndarray, first: int) -> None:
    writers.berkeley(tmp_path / "scan.emd", data, names, "n_m", first)
    scan = tm.read(tmp_path / "scan.emd", frame=1 if data.ndim == 3 else None)
    np.testing.assert_array_equal(scan.numpy(), data if data.ndim == 2 else data[1])
    assert scan.pixel_size_nm == pytest.approx(PIXEL)


def test_axes_without_names_stay_as_they_are(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "scan.emd", "w") as file:
        group = file.create_group("data/scan")
        group.attrs["emd_group_type"] = 1
        group["data"] = IMAGE
        for i, step in enumerate(PIXEL):
            group.create_dataset(f"dim{i + 1}", data=[0.0, step]).attrs.update({"name": "", "units": "[nm]"})
    scan = tm.read(tmp_path / "scan.emd")
    np.testing.assert_array_equal(scan.numpy(), IMAGE)
    assert scan.pixel_size_nm == pytest.approx(PIXEL)


def test_velox_gives_its_detectors_beside_spectra(tmp_path: Path) -> None:
    path = tmp_path / "scan.emd"
    writers.velox(path, {"HAADF": STACK, "BF": IMAGE, "DF4": IMAGE + 1}, spectra=True)
    found = {item.name: item for item in contents(path)}
    assert {name: item.data.shape for name, item in found.items()} == {
        "HAADF": (3, 40, 48), "BF": (40, 48), "DF4": (40, 48)
    }  # fmt: skip
    assert all(item.pixel_size == pytest.approx(PIXEL) for item in found.values())
    np.testing.assert_array_equal(tm.read(path, dataset="HAADF", frame=2).numpy(), STACK[2])
    np.testing.assert_array_equal(tm.read(path, dataset="BF").numpy(), IMAGE)


def test_ome_zarr_gives_its_channels_at_the_finest_level(tmp_path: Path) -> None:
    path = tmp_path / "scan.ome.zarr"
    writers.ome_zarr(path, {"HAADF": STACK, "BF": STACK + 1})
    np.testing.assert_array_equal(tm.read(path, dataset="BF", frame=1).numpy(), STACK[1] + 1)
    assert tm.read(path, dataset="HAADF", frame=0).pixel_size_nm == pytest.approx(PIXEL)


def test_ome_zarr_in_a_group_is_found(tmp_path: Path) -> None:
    writers.ome_zarr(tmp_path / "scan.zarr", {"HAADF": IMAGE}, group="0")
    scan = tm.read(tmp_path / "scan.zarr")
    np.testing.assert_array_equal(scan.numpy(), IMAGE)
    assert scan.pixel_size_nm == pytest.approx(PIXEL)


def test_nion_and_fiji_say_their_pixel_size_in_attributes(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "nion.h5", "w") as file:
        node = file.create_dataset("data/1", data=IMAGE)
        node.attrs["properties"] = (
            '{"dimensional_calibrations": [{"offset": 0, "scale": 0.03, "units": "nm"}, '
            '{"offset": 0, "scale": 0.02, "units": "nm"}]}'
        )
    with h5py.File(tmp_path / "fiji.h5", "w") as file:
        file.create_dataset("t0/channel0", data=STACK).attrs["element_size_um"] = (0.0, 3e-5, 2e-5)
    assert tm.read(tmp_path / "nion.h5").pixel_size_nm == pytest.approx(PIXEL)
    assert tm.read(tmp_path / "fiji.h5", frame=0).pixel_size_nm == pytest.approx(PIXEL)


def test_an_hdf5_file_with_several_arrays_lists_them(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    with h5py.File(path, "w") as file:
        file["run/haadf"], file["run/bf"], file["run/energies"] = IMAGE, IMAGE + 1, np.arange(10.0)
    with pytest.raises(tm.TorchMotifError, match=r"0: run/bf \(40, 48\), 1: run/haadf"):
        tm.read(path)
    for name in ("run/haadf", "haadf", 1):
        np.testing.assert_array_equal(tm.read(path, dataset=name).numpy(), IMAGE)
    np.testing.assert_array_equal(tm.read(path, dataset="RUN/BF").numpy(), IMAGE + 1)


def test_matrices_and_tables_beside_an_image_are_no_images(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["image"], file["affine"], file["positions"] = IMAGE, np.eye(3), np.zeros((50, 2))
    np.savez(tmp_path / "scan.npz", image=IMAGE, positions=np.zeros((50, 2)), counts=np.arange(9))
    for name in ("scan.h5", "scan.npz"):
        np.testing.assert_array_equal(tm.read(tmp_path / name).numpy(), IMAGE)


def test_hdf5_packed_by_plugins_opens(tmp_path: Path) -> None:
    hdf5plugin = pytest.importorskip("hdf5plugin")
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file.create_dataset("scan", data=IMAGE, chunks=(8, 8), **hdf5plugin.Bitshuffle())
    np.testing.assert_array_equal(tm.read(tmp_path / "scan.h5").numpy(), IMAGE)


@pytest.mark.parametrize("version", [2, 3])
def test_zspy_is_read_in_both_versions_of_zarr(tmp_path: Path, version: int) -> None:
    writers.zspy(tmp_path / "scan.zspy", STACK, version)
    scan = tm.read(tmp_path / "scan.zspy", frame=1)
    np.testing.assert_array_equal(scan.numpy(), STACK[1])
    assert scan.pixel_size_nm == pytest.approx(PIXEL)
    assert scan.metadata["title"] == "HAADF"


def test_the_content_says_what_a_file_is_rather_than_its_name(tmp_path: Path) -> None:
    for made, named in (
        ("scan.png", "png.tif"),
        ("cm.tif", "tif.png"),
        ("velox.emd", "velox.h5"),
        ("scan.npy", "npy.dat"),
    ):
        form = next(form for form in FORMATS if form.file == made)
        form.image(tmp_path / made)
        (tmp_path / made).rename(tmp_path / named)
        np.testing.assert_array_equal(tm.read(tmp_path / named).numpy(), IMAGE)


@pytest.mark.parametrize("shape", [(1, 40, 48), (40, 48, 1), (1, 1, 40, 48), (1, 40, 48, 1)], ids=str)
def test_axes_of_length_one_are_no_frames(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "scan.npy", IMAGE.reshape(shape))
    np.testing.assert_array_equal(tm.read(tmp_path / "scan.npy").numpy(), IMAGE)
    assert contents(tmp_path / "scan.npy", lazy=True)[0].frames == 1


def test_a_last_axis_that_counts_images_is_known(tmp_path: Path) -> None:
    np.save(tmp_path / "two.npy", np.stack([IMAGE, IMAGE + 1], axis=-1))
    scan = tm.read(tmp_path / "two.npy", frame=1)
    np.testing.assert_array_equal(scan.numpy(), IMAGE + 1)
    assert "counted by its last axis" in scan.metadata["notes"][0]
    np.save(tmp_path / "grey.npy", np.repeat((IMAGE % 256).astype(np.uint8)[..., None], 3, axis=-1))
    np.testing.assert_array_equal(tm.read(tmp_path / "grey.npy").numpy(), IMAGE % 256)


def test_names_that_say_less_are_enough_where_they_are_clear(tmp_path: Path) -> None:
    np.save(tmp_path / "scan.npy", IMAGE)
    scan = tm.read(tmp_path / "scan.npy", dataset="HAADF")
    assert "has no name" in scan.metadata["notes"][0]
    np.savez(tmp_path / "scan.npz", HAADF=IMAGE)
    with pytest.raises(tm.TorchMotifError, match="'BF' is not one of those"):
        tm.read(tmp_path / "scan.npz", dataset="BF")


def test_readers_log_to_stderr_and_once(tmp_path: Path) -> None:
    form = next(form for form in FORMATS if form.file == "scan.prz")
    form.image(tmp_path / form.file)
    code = f"import torchmotif as tm\nfor _ in range(3): tm.read({str(tmp_path / form.file)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert done.stderr.count("RosettaSciIO") == 1


def test_nothing_of_an_extra_is_imported_before_it_is_needed(tmp_path: Path) -> None:
    np.save(tmp_path / "scan.npy", IMAGE)
    code = (
        "import sys, torchmotif as tm\n"
        f"tm.read({str(tmp_path / 'scan.npy')!r})\n"
        "extras = {'rsciio', 'h5py', 'hdf5plugin', 'mrcfile', 'imagecodecs', 'zarr', 'dask', 'tifffile', 'anndata', 'pyarrow', 'ase'}\n"
        "print(sorted(extras & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_datasets_know_their_notes() -> None:
    assert Dataset(IMAGE, metadata={"notes": ["a"]}).notes == ["a"]
    assert Dataset(IMAGE).notes == []


def test_tiff_of_hyperspy_has_its_pixel_size_along_rows_and_columns(tmp_path: Path) -> None:
    writers._hyperspy(tmp_path / "scan.tif", IMAGE)
    assert tm.read(tmp_path / "scan.tif").pixel_size_nm == pytest.approx(PIXEL)
