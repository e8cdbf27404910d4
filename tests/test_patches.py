import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import torchmotif as tm
from torchmotif.errors import InputError
from torchmotif.patches import inside

IMAGE = np.arange(40 * 50, dtype=np.int32).reshape(40, 50)


@given(st.integers(1, 11), st.data())
def test_windows_are_those_of_a_plain_slice(size: int, data: st.DataObject) -> None:
    row = data.draw(st.integers(0, 40 - size))
    col = data.draw(st.integers(0, 50 - size))
    centre = (row + (size - 1) / 2, col + (size - 1) / 2)
    patch = tm.extract_patches(IMAGE, [centre], size)[0]
    np.testing.assert_array_equal(patch, IMAGE[row : row + size, col : col + size])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.float32, torch.float64])
def test_torch_in_torch_out_of_the_same_type(dtype: torch.dtype, device: torch.device) -> None:
    image = torch.arange(100, device=device).reshape(10, 10).to(dtype)
    patches = tm.extract_patches(image, [(5, 5), (4, 4)], 3)
    assert (patches.dtype, patches.shape, patches.device.type) == (dtype, (2, 3, 3), device.type)


def test_no_positions_give_no_patches_of_the_right_shape() -> None:
    assert tm.extract_patches(IMAGE, [], 5).shape == (0, 5, 5)


def test_inside_tells_which_windows_are_whole() -> None:
    positions = np.array([(2, 2), (1, 2), (37, 47), (38, 47)])
    np.testing.assert_array_equal(inside(positions, IMAGE.shape, 5), [True, False, True, False])


@pytest.mark.parametrize(
    ("positions", "size", "message"),
    [
        ([(0, 0)], 5, "1 of 1 windows of 5 px reach over"),
        ([(5, 5)], 41, "shorter side, 40 px, got 41"),
        ([(5, 5)], 0, "got 0"),
        ([5, 5], 3, r"shape \(n, 2\)"),
        ([(5, np.nan)], 3, "not finite"),
    ],
    ids=["rim", "too large", "zero", "shape", "nan"],
)
def test_bad_input(positions: list[object], size: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        tm.extract_patches(IMAGE, positions, size)
