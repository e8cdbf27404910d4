"""Pixels that were not measured are found, and what the image itself shows is not taken for them."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch
from numpy.testing import assert_array_equal
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.columns import unmeasured as module
from torchmotif.columns.unmeasured import Unmeasured, unmeasured

SHAPE = (240, 200)


def lattice(offset: float = 0.0, noise: float = 0.08) -> np.ndarray:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
    waves = (np.cos(2 * np.pi * (y * np.cos(a) + x * np.sin(a)) / 14) for a in (0.1, 1.15, 2.2))
    image = np.exp(sum(waves) - 3) + offset
    return image + np.random.default_rng(0).normal(0, noise, SHAPE)


def found(image: np.ndarray) -> Unmeasured | None:
    """The same whether pixels come as an array or as a tensor, of which the border is asked first."""
    one, other = (
        unmeasured(lambda box, pixels=pixels: pixels[box[0] : box[2], box[1] : box[3]], image.shape)
        for pixels in (image, torch.from_numpy(image))
    )
    assert (one is None) == (other is None)
    assert one is None or other is None or (one.cells == other.cells).all()
    return one


def margin() -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[:30], mask[:, :4] = True, True
    return mask


def turned() -> np.ndarray:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] - np.array(SHAPE)[:, None, None] / 2
    return np.maximum(abs(y * 0.98 + x * 0.2), abs(x * 0.98 - y * 0.2)) > 80


def aborted() -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[150:] = True
    mask[149, 90:] = True
    return mask


@pytest.mark.parametrize("offset", [0.0, 1.0, 20.0])
@pytest.mark.parametrize("region", [margin, turned, aborted])
def test_constant_fill_is_found_to_the_pixel(region: Callable[[], np.ndarray], offset: float) -> None:
    mask = region()
    hidden = found(np.where(mask, 0.0, lattice(offset)))
    assert hidden is not None
    assert (hidden.mask != mask).mean() < 1e-3
    assert "constant 0" in hidden.note


def test_margins_of_fewer_frames_and_blank_rows_are_found() -> None:
    cover = np.zeros(SHAPE)
    for k in range(4):
        cover[6 * k : SHAPE[0] - 20 + 6 * k, 6 * k : SHAPE[1] - 20 + 6 * k] += 1
    hidden = found(lattice(20.0) * cover / 4)
    assert hidden is not None
    assert_array_equal(hidden.mask, cover < 4)
    blank = lattice(2.0)
    blank[[70, 71]] = 0
    hidden = found(blank)
    assert hidden is not None
    assert_array_equal(np.flatnonzero(hidden.mask.all(1)), [70, 71])


def test_text_in_a_bar_is_left_out_with_it() -> None:
    image = lattice(2.0)
    text = np.kron(np.random.default_rng(1).random((6, 40)) > 0.5, np.ones((4, 4)))
    image[-40:] = 0
    image[-32:-8, 20:180] = 9 * text
    hidden = found(image)
    assert hidden is not None
    assert_array_equal(np.flatnonzero(hidden.mask.all(1)), np.arange(200, 240))
    assert not hidden.mask[:200].any()


@pytest.mark.parametrize("electrons", [0.05, 0.3, 3.0, 100.0])
def test_counts_vacuum_and_clipped_images_are_measured(electrons: float) -> None:
    rng = np.random.default_rng(0)
    expected = lattice(noise=0.0) / lattice(noise=0.0).mean()
    counts = rng.poisson(electrons * expected)
    assert found(counts) is None
    particle = np.hypot(*(np.mgrid[: SHAPE[0], : SHAPE[1]] - 100)) < 70
    assert found(rng.poisson(3 * expected * particle + 0.05)) is None
    grey = np.clip(255 * (expected - 0.5) / 4, 0, 255).astype(np.uint8)
    assert found(grey) is None


def test_any_reader_gives_the_same_and_json_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.where(margin(), 0.0, lattice(5.0)).astype(np.float32)
    one, other = (
        found(image),
        unmeasured(lambda box: torch.from_numpy(image)[box[0] : box[2], box[1] : box[3]], SHAPE),
    )
    assert one is not None
    assert other is not None
    assert_array_equal(one.mask, other.mask)
    again = Unmeasured.from_dict(one.as_dict())
    assert_array_equal(again.mask, one.mask)
    assert again.count == one.mask.sum()
    monkeypatch.setattr(module, "_CELLS", 80)
    coarse = found(image)
    assert coarse is not None
    assert coarse.cell == 3
    assert not coarse.mask[36:, 12:].any()
    assert coarse.mask[margin()].all()


def test_columns_are_those_of_what_was_measured() -> None:
    image, mask = lattice(10.0), margin()
    whole = tm.find_columns(image, spacing=16.2)
    part = tm.find_columns(np.where(mask, 0.0, image), spacing=16.2)
    inside = ~ndi.binary_dilation(mask, iterations=3)
    here = inside[tuple(np.rint(whole.positions).astype(int).clip(0, np.array(SHAPE) - 1).T)]
    assert abs(len(part) - here.sum()) <= 0.06 * here.sum()
    result = tm.analyze(np.where(mask, 0.0, image), spacing=16.2, progress=False)
    assert any("were not measured" in note for note in result.record["notes"])
    assert result.image.mask[mask].all()
    assert not np.isfinite(result.image.measured()[mask]).any()


def beside(height: float, edge_px: float, axis: int) -> np.ndarray:
    """Squares, beside whose border the background is lower by so many of their contrasts, 40 px wide."""
    specimen = tm.datasets.square(SHAPE, electrons_per_pixel=50.0)
    bright = specimen.image.numpy()
    from_border = np.mgrid[: SHAPE[0], : SHAPE[1]][axis] - 40.0
    step = (
        ndi.gaussian_filter1d((from_border > 0).astype(float), edge_px, axis) if edge_px else from_border > 0
    )
    expected = bright + height * np.ptp(bright) * step
    return np.random.default_rng(0).poisson(expected).astype(np.float32)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize(("height", "edge_px"), [(0.5, 0.0), (2.0, 0.0), (2.0, 1.0), (5.0, 3.0), (10.0, 3.0)])
def test_a_step_along_the_border_is_measured_on_both_sides(height: float, edge_px: float, axis: int) -> None:
    assert found(beside(height, edge_px, axis)) is None


@pytest.mark.parametrize(
    ("axis", "height", "edge_px", "wide"),
    [
        (0, 2.0, 1.0, 30),
        (0, 2.0, 3.0, 50),
        (0, 5.0, 3.0, 40),
        (0, 10.0, 3.0, 30),
        (1, 2.0, 1.0, 30),
        (1, 5.0, 3.0, 40),
    ],
)
def test_a_step_that_rises_row_by_row_is_no_sum_of_frames(
    axis: int, height: float, edge_px: float, wide: int
) -> None:
    """Its steps from one row to the next are multiples of the least of them, as those of frames are."""
    bright = tm.datasets.mose2((300, 320), electrons_per_pixel=50.0).image.numpy()
    beyond = (np.mgrid[:300, :320][axis] > wide).astype(float)
    expected = bright + height * np.ptp(bright) * ndi.gaussian_filter1d(beyond, edge_px, axis)
    assert found(np.random.default_rng(0).poisson(expected).astype(np.float32)) is None


@pytest.mark.parametrize("axis", [0, 1])
def test_what_columns_add_tells_half_of_the_frames_from_half_of_the_background(axis: int) -> None:
    """Two frames 30 px apart, and a background that is as much less beside both borders."""
    bright = tm.datasets.square(SHAPE, electrons_per_pixel=50.0).image.numpy()
    high = 5 * np.ptp(bright)
    at = np.mgrid[: SHAPE[0], : SHAPE[1]][axis]
    one = (at < 30) | (at >= SHAPE[axis] - 30)
    rng = np.random.default_rng(0)
    hidden = found(rng.poisson((bright + high) * (1 - 0.5 * one)))
    assert hidden is not None
    assert_array_equal(hidden.mask, one)
    assert found(rng.poisson(bright + high - 0.5 * (high + bright.mean()) * one)) is None


def test_columns_of_a_strip_on_the_dark_side_of_a_step_are_found() -> None:
    image = beside(5.0, 3.0, 1)
    truth = np.asarray(tm.datasets.square(SHAPE, electrons_per_pixel=50.0).truth.positions)
    strip = ((truth > 4) & (truth < (SHAPE[0] - 5, 30))).all(1)
    distance = cKDTree(tm.find_columns(image).positions).query(truth[strip])[0]
    assert (distance < 4).mean() > 0.95


@pytest.mark.parametrize("offset", [2.0, 10.0, 40.0])
@pytest.mark.parametrize("frames", [4, 11])
def test_margins_that_fade_to_a_fill_are_found_with_it(frames: int, offset: float) -> None:
    """Zeros beyond all frames, beside which the level rises frame by frame: neither is a dark gap of the image."""
    specimen = tm.datasets.square(SHAPE, electrons_per_pixel=5.0)
    high = offset * float(np.ptp(specimen.image.numpy()))
    rng = np.random.default_rng(0)
    image, cover = np.zeros(SHAPE), np.zeros(SHAPE)
    for down, along in np.rint(np.cumsum(rng.normal(0, 2, (frames, 2)), 0)).astype(int).clip(-11, 11):
        inside = np.zeros(SHAPE, bool)
        inside[12 + down : SHAPE[0] - 12 + down, 12 + along : SHAPE[1] - 12 + along] = True
        image += inside * (rng.poisson(specimen.image.numpy() / frames) + high / frames)
        cover += inside
    hidden = found((image / frames).astype(np.float32))
    assert hidden is not None
    assert hidden.mask[cover == 0].all()
    assert hidden.mask[(cover > 0) & (cover < frames)].mean() > 0.9
    assert hidden.mask[cover == frames].mean() < 1e-3  # pixels at a corner that touch it
