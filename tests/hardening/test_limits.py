"""Very many pixels: 32-bit indices, sums in single precision, images of odd proportions."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import torchmotif as tm
from torchmotif.motifs._moments import add_by_label

WIDE, HIGH = 50_000, 44_000  # more than 2^31 pixels


@pytest.fixture(params=[np.uint8, np.float32], ids=["uint8", "float32"])
def huge(tmp_path: Path, request: pytest.FixtureRequest) -> np.ndarray:
    """Zeros that lie in no memory and on no disk, but for a ramp in the last corner."""
    if sys.platform == "win32":
        pytest.skip("files with holes take room on Windows")
    dtype = np.dtype(request.param)
    path = tmp_path / "huge.raw"
    with path.open("wb") as file:
        file.truncate(WIDE * HIGH * dtype.itemsize)
    pixels = np.memmap(path, dtype, "r+", shape=(HIGH, WIDE))
    pixels[-9:, -9:] = np.arange(81).reshape(9, 9)
    return pixels


def test_windows_beyond_two_billion_pixels(huge: np.ndarray) -> None:
    assert huge.size > 2**31
    corner = [(4.0, 4.0), (HIGH - 5.0, WIDE - 5.0)]
    expected = np.arange(81).reshape(9, 9)
    for image in (huge, torch.from_numpy(huge)):  # read by tiles, and gathered by flat indices
        patches = tm.extract_patches(image, corner, 9)
        np.testing.assert_array_equal(patches[1], expected)
        assert not patches[0].any()
    if huge.dtype == np.float32:  # other types would be converted as a whole
        basis = tm.ZernikeBasis(4, 9)
        moments = basis.project(torch.from_numpy(huge), corner)
        torch.testing.assert_close(moments[1:], basis(torch.from_numpy(expected[None].astype(np.float32))))
        assert not moments[0].any()


def test_positions_beyond_two_billion_pixels_are_told_apart() -> None:
    positions = torch.tensor([[4.25, WIDE - 5.0], [HIGH - 5.25, 4.0]], dtype=torch.float64)
    assert tm.patches.inside(positions, (HIGH, WIDE), 9).all()
    expected = torch.tensor([[0.25, 0.0], [-0.25, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(tm.patches.offsets(positions, 9), expected)


def test_single_electrons_count_beyond_two_to_the_24() -> None:
    """In single precision 2^24 + 1 is 2^24: a running sum would stop there."""
    total = torch.zeros(2, 1, dtype=torch.float64)
    ones, labels = torch.ones(50_000, 1, 1), torch.ones(50_000, dtype=torch.long)
    for _ in range(400):
        add_by_label(total, labels, ones)
    assert total.tolist() == [[0.0], [20_000_000.0]]


@pytest.mark.slow
def test_a_mean_over_a_hundred_million_pixels() -> None:
    """torch adds up pairwise: what is subtracted from large images is right to single precision."""
    pixels = torch.tensor([1000.3]).expand(10_000, 10_000)
    assert float(pixels.mean()) == pytest.approx(1000.3, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(65_536, 64), (64, 65_536)])
def test_long_images(shape: tuple[int, int]) -> None:
    tile = tm.datasets.mose2((64, 64), vacancy_rate=0.0).image.data.numpy()
    expected = torch.from_numpy(np.tile(tile, (shape[0] // 64, shape[1] // 64))).float()
    image = torch.poisson(expected, generator=torch.Generator().manual_seed(0))
    basis = tm.ZernikeBasis(2, 9)
    maps = basis.maps(image)
    assert maps.shape == (6, *shape)
    middle = (shape[0] // 2, shape[1] // 2)
    at = basis.project(image, [middle])[0]
    torch.testing.assert_close(maps[:, middle[0], middle[1]], at, atol=1e-3, rtol=1e-4)
    columns = tm.find_columns(image, spacing=12.5, refine=False)
    assert len(columns) > 1000
    assert float(columns.positions.max()) > 65_000
