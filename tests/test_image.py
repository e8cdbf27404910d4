from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import torchmotif as tm
from torchmotif.errors import InputError, InputTypeError


@pytest.mark.parametrize(
    ("unit", "nm"),
    [("nm", 0.5), ("A", 0.05), ("Å", 0.05), ("pm", 0.0005), ("um", 500.0), ("µm", 500.0), ("m", 5e8)],
)
def test_every_unit_becomes_nanometres(unit: str, nm: float) -> None:
    assert tm.Micrograph(np.zeros((4, 4)), 0.5, unit).pixel_size_nm == pytest.approx((nm, nm))


@given(st.floats(1e-6, 1e3), st.floats(1e-6, 1e3))
def test_each_axis_keeps_its_own_pixel_size(row: float, col: float) -> None:
    assert tm.Micrograph(np.zeros((4, 5)), (row, col)).pixel_size_nm == (row, col)


def test_missing_calibration_stays_missing() -> None:
    assert tm.Micrograph(np.zeros((4, 5))).pixel_size_nm is None


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.float32, np.float64])
def test_pixels_keep_their_type(dtype: type) -> None:
    assert tm.Micrograph(np.zeros((4, 5), dtype)).data.dtype == dtype


def test_torch_pixels_stay_torch_and_numpy_reads_them() -> None:
    scan = tm.Micrograph(torch.ones(4, 5))
    assert isinstance(scan.data, torch.Tensor)
    np.testing.assert_array_equal(np.asarray(scan), np.ones((4, 5)))


def test_calibration_and_dose_travel_with_new_pixels() -> None:
    scan = tm.Micrograph(np.zeros((4, 5)), 2.0, "A", {"title": "a"}, electrons_per_pixel=7.0)
    other = scan.replace(np.ones((2, 2)), notes=["cropped"])
    assert other.pixel_size_nm == scan.pixel_size_nm
    assert other.electrons_per_pixel == 7.0
    assert other.metadata == {"title": "a", "notes": ["cropped"]}


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (np.zeros(5), InputError, r"1 dimension \(5,\); give it the rows and columns"),
        (np.zeros((3, 8, 9)), InputError, "one frame of a stack"),
        (np.zeros((8, 9, 3)), InputError, "colours grey first"),
        (torch.zeros(8, 9, 4), InputError, "colours grey first"),
        (np.zeros((2, 3, 4, 5)), InputError, "4 dimensions"),
        (np.zeros((0, 5)), InputError, "no pixels"),
        (np.zeros((4, 4), complex), InputTypeError, "real numbers"),
        (np.zeros((4, 4), bool), InputTypeError, "real numbers"),
        (np.array([["a", "b"]]), InputTypeError, "real numbers"),
        (torch.zeros(4, 4, dtype=torch.complex64), InputTypeError, "real numbers"),
    ],
    ids=[
        "1-D",
        "stack",
        "colours",
        "torch colours",
        "4-D",
        "empty",
        "complex",
        "bool",
        "text",
        "torch complex",
    ],
)
def test_what_is_no_image_is_refused(data: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        tm.Micrograph(data)


@pytest.mark.parametrize("size", [0.0, -1.0, float("nan"), float("inf"), (1.0, 2.0, 3.0), (1.0, 0.0)])
def test_a_pixel_size_that_is_no_length_is_refused(size: object) -> None:
    with pytest.raises(InputError, match="pixel_size"):
        tm.Micrograph(np.zeros((4, 4)), size)


def test_a_unit_that_is_no_length_is_refused() -> None:
    with pytest.raises(InputError, match="1/nm"):
        tm.Micrograph(np.zeros((4, 4)), 1.0, "1/nm")


def test_a_dose_that_is_not_positive_is_refused() -> None:
    with pytest.raises(InputError, match="electrons_per_pixel"):
        tm.Micrograph(np.zeros((4, 4)), electrons_per_pixel=0.0)


def test_its_text_says_what_is_known() -> None:
    assert repr(tm.Micrograph(np.zeros((4, 5)), (0.1, 0.2))) == "Micrograph(4 x 5 float64, 0.1 x 0.2 nm/px)"
    assert "no pixel size" in repr(tm.Micrograph(np.zeros((4, 5))))


class Axis:
    """As HyperSpy's: navigation axes come before signal axes, and those of the image as (x, y)."""

    def __init__(self, index: int, scale: float, units: object) -> None:
        self.index_in_array, self.scale, self.units = index, scale, units


class Signal:
    """What of a HyperSpy signal is used."""

    def __init__(self, data: np.ndarray, *axes: tuple[float, object], title: str = "") -> None:
        made = [Axis(i, *axis) for i, axis in enumerate(axes)]
        self.data, self.title = data, title
        self.axes_manager = SimpleNamespace(navigation_axes=tuple(made[:-2]), signal_axes=tuple(made[:-3:-1]))
        self.metadata = SimpleNamespace(get_item=lambda _, default: title or default)


def test_a_hyperspy_signal_brings_its_calibration_and_title() -> None:
    signal = Signal(np.zeros((4, 5), np.uint16), (0.2, "Å"), (-0.03, "nm"), title="a scan")
    scan = tm.Micrograph.from_hyperspy(signal)
    assert scan.pixel_size_nm == pytest.approx((0.02, 0.03))
    assert scan.shape == (4, 5)
    assert scan.data.dtype == np.uint16
    assert scan.metadata == {"title": "a scan"}


@pytest.mark.parametrize("units", ["1/nm", "<undefined>", None])
def test_a_signal_without_lengths_is_not_calibrated(units: object) -> None:
    scan = tm.Micrograph.from_hyperspy(Signal(np.zeros((4, 5)), (0.2, units), (0.2, "nm")))
    assert scan.pixel_size is None
    assert scan.metadata == {}


def test_a_stack_and_an_array_are_no_signal_of_one_image() -> None:
    stack = Signal(np.zeros((3, 4, 5)), (1.0, None), (0.2, "nm"), (0.2, "nm"))
    with pytest.raises(InputError, match=r"inav\[0\]"):
        tm.Micrograph.from_hyperspy(stack)
    with pytest.raises(InputTypeError, match="HyperSpy signal, got ndarray"):
        tm.Micrograph.from_hyperspy(np.zeros((4, 5)))


def test_analyze_takes_the_calibration_of_a_signal() -> None:
    pixels = tm.datasets.mose2((128, 128), vacancy_rate=0.0).draw().numpy()
    result = tm.analyze(Signal(pixels, (0.15, "Å"), (0.15, "Å")), progress=False)
    assert result.image.pixel_size_nm == pytest.approx((0.015, 0.015))
