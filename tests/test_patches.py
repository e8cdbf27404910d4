from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import torchmotif as tm
from torchmotif.patches import covered, extract_patches, inside, offsets

DTYPES = ["u1", "u2", "i4", "f4", "f8", ">u2"]


def reference(image: np.ndarray, positions: np.ndarray, size: int) -> np.ndarray:
    view = np.lib.stride_tricks.sliding_window_view(image, (size, size))
    start = np.round(positions - (size - 1) / 2).astype(int)
    return view[start[:, 0], start[:, 1]]


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=5, deadline=None)
@given(size=st.integers(1, 20), seed=st.integers(0, 2**16), n=st.integers(0, 30))
def test_windows_are_those_of_a_sliding_view(dtype: str, size: int, seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 200, (25, 37)).astype(dtype)
    positions = rng.uniform(0, [24, 36], (n, 2))
    kept = positions[inside(positions, image.shape, size)]
    patches = extract_patches(image, kept, size)
    assert patches.dtype == image.dtype.newbyteorder("=")
    np.testing.assert_array_equal(patches, reference(image, kept, size))
    np.testing.assert_array_equal(extract_patches(image, positions, size, rim="drop"), patches)


@settings(max_examples=20, deadline=None)
@given(size=st.integers(1, 9), seed=st.integers(0, 2**16))
def test_padded_windows_hold_the_image_where_they_cover_it(size: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = rng.integers(1, 200, (12, 14))
    positions = rng.uniform(-20, 30, (40, 2))
    patches = extract_patches(image, positions, size, rim="pad")
    mask = covered(positions, image.shape, size)
    far = np.pad(image, 60)
    np.testing.assert_array_equal(patches, reference(far, positions + 60, size))
    np.testing.assert_array_equal(patches != 0, mask)
    np.testing.assert_array_equal(mask.all(axis=(1, 2)), inside(positions, image.shape, size))


@given(size=st.integers(1, 12), seed=st.integers(0, 2**16))
def test_offsets_are_what_the_windows_leave_over(size: int, seed: int) -> None:
    positions = np.random.default_rng(seed).uniform(20, 40, (30, 2))
    found = offsets(positions, size)
    assert np.abs(found).max() <= 0.5
    rows = np.arange(60.0)[:, None] + np.zeros((60, 60))
    centre = extract_patches(rows, positions, size).mean(axis=(1, 2))
    np.testing.assert_allclose(centre + found[:, 0], positions[:, 0])


def test_a_tensor_gives_a_tensor_on_its_device(device: torch.device, dtype: torch.dtype) -> None:
    image = torch.arange(400, dtype=dtype, device=device).view(20, 20)
    patches = extract_patches(image, [(10, 10), (5.4, 6.6)], 5)
    assert patches.device == image.device
    assert patches.dtype == dtype
    torch.testing.assert_close(patches[1], image[3:8, 5:10])


def test_a_part_of_a_larger_tensor_is_read_as_it_is() -> None:
    image = torch.arange(400.0).view(20, 20)[3:15, 4:18]
    torch.testing.assert_close(extract_patches(image, [(5, 6)], 3)[0], image[4:7, 5:8])


def test_micrographs_are_taken_apart() -> None:
    scan = tm.Micrograph(np.arange(100).reshape(10, 10), pixel_size=0.1)
    np.testing.assert_array_equal(extract_patches(scan, [(5, 5)], 1).ravel(), [55])


@pytest.mark.parametrize("rim", ["drop", "pad"])
@pytest.mark.parametrize("kind", ["memmap", "dask"])
def test_files_and_lazy_arrays_give_what_arrays_in_memory_give(kind: str, rim: str, tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 60000, (2100, 4200)).astype(np.uint16)
    np.save(tmp_path / "image.npy", image)
    positions = np.random.default_rng(1).uniform(-3, [2103, 4203], (500, 2))
    lazy = (
        np.load(tmp_path / "image.npy", mmap_mode="r")
        if kind == "memmap"
        else da.from_array(image, chunks=1000)
    )
    expected = extract_patches(image, positions, 21, rim=rim)
    np.testing.assert_array_equal(extract_patches(lazy, positions, 21, rim=rim), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([(0, 5)], 3), "1 of 1 windows of 3 px reach over"),
        (([(5, 5)], 11), "size must be between 1 and"),
        (([(5, 5)], 0), "size must be between 1 and"),
        (([(5, 5, 5)], 3), r"positions must have the shape \(n, 2\)"),
        (([(np.nan, 5)], 3), "not finite"),
    ],
    ids=["rim", "large", "zero", "three-columns", "nan"],
)
def test_bad_input_is_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(tm.errors.InputError, match=message):
        extract_patches(np.zeros((10, 10)), *arguments)


def test_an_unknown_rim_policy_is_refused() -> None:
    with pytest.raises(tm.errors.InputError, match="rim must be"):
        extract_patches(np.zeros((10, 10)), [(5, 5)], 3, rim="wrap")
