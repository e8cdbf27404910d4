"""The stand-ins for files that once failed, in the folder of real data."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

import torchmotif as tm
from torchmotif.analysis.sources import Files

pytestmark = pytest.mark.real_data


@pytest.fixture(scope="module")
def cases(real_data: Path) -> Path:
    if not (real_data / "cases").is_dir():
        pytest.skip("the folder of real images has no cases")
    return real_data / "cases"


CALIBRATED = {  # file: size in nm
    "berkeley_rows_Y_columns_X.emd": 0.0122,
    "mode0_signed_bytes.mrc": 0.015,
    "imagej_unit_micron.tif": 0.015,
    "ome_physical_size_nm.ome.tif": 0.015,
}
PLAIN = {  # file: type of its pixels
    "lzw_compressed_8bit.tif": np.uint8,
    "lzw_compressed_16bit.tif": np.uint16,
    "plain_dataset.h5": np.uint16,
    "single_frame_1hw.npy": np.uint16,
    "trailing_axis_hw1.npy": np.uint16,
    "scan [1].npy": np.uint16,
    "text_image.txt": np.float64,
}


@pytest.mark.parametrize("name", CALIBRATED)
def test_the_pixel_size_is_read(cases: Path, name: str) -> None:
    assert tm.read(cases / name).pixel_size_nm == pytest.approx((CALIBRATED[name],) * 2, rel=1e-5)


@pytest.mark.parametrize("name", PLAIN)
def test_it_opens_as_one_image(cases: Path, name: str) -> None:
    scan = tm.read(cases / name)
    assert (scan.shape, scan.data.dtype) == ((128, 128), PLAIN[name])
    assert scan.numpy().std() > 0


def test_every_file_of_the_folder_opens_or_is_a_table(cases: Path) -> None:
    images = [path for path in sorted(cases.iterdir()) if path.suffix not in {".csv", ".md"}]
    found, failures = Files(images).opened(None)
    assert [one["name"] for one in failures] == ["two_detectors.npz"]
    assert "0: HAADF (128, 128), 1: BF (128, 128)" in failures[0]["reason"]
    assert len(found) == len(images) - 1
    assert tm.read(cases / "two_detectors.npz", dataset="HAADF").shape == (128, 128)


def test_the_mark_lies_along_the_columns(cases: Path) -> None:
    image = tm.read(cases / "berkeley_rows_Y_columns_X.emd").numpy().astype(float)
    bright = image[:60, :60] > (image.min() + image.max()) / 2
    rows, columns = np.flatnonzero(bright.mean(axis=1) > 0.4), np.flatnonzero(bright.mean(axis=0) > 0.25)
    assert (len(rows), len(columns)) == (20, 40)


def test_bytes_are_signed(cases: Path) -> None:
    assert tm.read(cases / "mode0_signed_bytes.mrc").data.min() < 0


def test_values_are_those_that_other_readers_find(cases: Path) -> None:
    pytest.importorskip("imagecodecs")
    for name in ("lzw_compressed_8bit.tif", "lzw_compressed_16bit.tif", "imagej_unit_micron.tif"):
        np.testing.assert_array_equal(tm.read(cases / name).numpy(), tifffile.imread(cases / name))
    with h5py.File(cases / "plain_dataset.h5") as file:
        np.testing.assert_array_equal(tm.read(cases / "plain_dataset.h5").numpy(), file["image"][()])
    text = np.loadtxt(cases / "text_image.txt")
    np.testing.assert_array_equal(tm.read(cases / "text_image.txt").numpy(), text)
