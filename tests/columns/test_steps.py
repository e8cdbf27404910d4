from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from probes import STEPPED, drawn
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.columns._beside_steps import rise_within, weights_in_cells
from torchmotif.columns._filters import without_slow
from torchmotif.columns._steps import stepped
from torchmotif.columns._windows_spacing import spacing_of
from torchmotif.columns.model import Tiles
from torchmotif.columns.pixels import levels
from torchmotif.datasets import (
    Specimen,
    mose2,
    perovskite,
    polar_perovskite,
    square,
    with_edge,
    with_patch,
    with_wedge,
)

SIDE, SPACING = 240, 20.0
_EVEN = (1.0, 1.0)


def tiles_of(image: torch.Tensor) -> tm.columns.model.Tiles:
    return levels(image[None], axes=_EVEN, limit=None, dark=False).normalised(image[None])


@pytest.mark.parametrize("lattice", [square, mose2])
@pytest.mark.parametrize("kind", STEPPED)
@pytest.mark.parametrize(("high", "wide"), [(500.0, 1.0), (500.0, 6.0), (2000.0, 3.0)])
def test_columns_on_both_sides_of_a_step(
    lattice: Callable[..., Specimen], kind: str, high: float, wide: float
) -> None:
    specimen = STEPPED[kind](lattice((SIDE, SIDE), electrons_per_pixel=50.0), high, wide)
    truth = np.asarray(specimen.truth.positions)
    near = 0.25 * np.median(cKDTree(truth).query(truth, k=2)[0][:, 1])
    found = tm.find_columns(drawn(specimen).numpy()).positions
    inside = ((truth >= 0) & (truth <= SIDE - 1)).all(axis=1)
    assert (cKDTree(found).query(truth[inside])[0] < near).mean() >= 0.95
    assert (cKDTree(truth).query(found)[0] < near).mean() >= 0.95


@pytest.mark.parametrize("lattice", [square, mose2])
@pytest.mark.parametrize("kind", STEPPED)
@pytest.mark.parametrize("wide", [10.0, 40.0, 80.0])
def test_columns_on_a_slope_steeper_than_their_own(
    lattice: Callable[..., Specimen], kind: str, wide: float
) -> None:
    specimen = lattice((320, 320), electrons_per_pixel=50.0)
    specimen = STEPPED[kind](specimen, 30 * float(np.ptp(np.asarray(specimen.image))), wide)
    truth = np.asarray(specimen.truth.positions)
    truth = truth[((truth >= 0) & (truth <= 319)).all(axis=1)]
    found = tm.find_columns(drawn(specimen).numpy()).positions
    near = 0.25 * np.median(cKDTree(truth).query(truth, k=2)[0][:, 1])
    assert np.mean(cKDTree(found).query(truth)[0] < near) >= 0.96
    assert np.mean(cKDTree(truth).query(found)[0] < near) >= 0.96


@pytest.mark.parametrize("lattice", [square, mose2])
def test_the_noise_of_a_bright_patch_has_no_spacing(lattice: Callable[..., Specimen]) -> None:
    specimen = lattice((320, 320), electrons_per_pixel=50.0)
    specimen = with_patch(specimen, 30 * float(np.ptp(np.asarray(specimen.image))), edge_px=1.0)
    truth = np.asarray(specimen.truth.positions)
    nearest = np.median(cKDTree(truth).query(truth, k=2)[0][:, 1])
    tiles = tiles_of(drawn(specimen))
    assert spacing_of(tiles, _EVEN) == pytest.approx(nearest, rel=0.05)


@pytest.mark.parametrize(
    "specimen",
    [
        square((SIDE, SIDE)),
        mose2((SIDE, SIDE)),
        with_wedge(square((SIDE, SIDE))),
        with_wedge(square((SIDE, SIDE), electrons_per_pixel=50.0), 2000.0),
        with_edge(square((SIDE, SIDE)), 0.0),
    ],
    ids=["square", "honeycomb", "wedge", "steep wedge", "vacuum"],
)
def test_no_step_where_there_is_none(specimen: Specimen) -> None:
    tiles = tiles_of(drawn(specimen))
    assert stepped(tiles, SPACING, _EVEN).step is None


def test_no_step_in_noise() -> None:
    noise = torch.poisson(torch.full((SIDE, SIDE), 10.0), generator=torch.Generator().manual_seed(0))
    assert stepped(tiles_of(noise), SPACING, _EVEN).step is None


def test_a_tile_does_not_depend_on_the_others() -> None:
    plain, high = (with_edge(square((SIDE, SIDE)), electrons, edge_px=3.0) for electrons in (0.0, 500.0))
    images = torch.stack([drawn(plain), drawn(high)])
    both = levels(images, axes=_EVEN, limit=None, dark=False).normalised(images)
    step, alone = stepped(both, SPACING, _EVEN).step, stepped(both.some(slice(1, 2)), SPACING, _EVEN).step
    assert step is not None
    assert alone is not None
    assert bool((step[0] == 0).all())
    torch.testing.assert_close(step[1], alone[0])


def test_a_step_rises_where_it_is_and_not_where_its_mean_slopes() -> None:
    image = drawn(stepping(500.0, edge_px=2.0))
    tiles = stepped(tiles_of(image), SPACING, _EVEN)
    rise = rise_within(tiles, 4)[0].mean(0)
    assert rise[SIDE // 2] > 0.9 * rise.max()
    away = torch.cat([rise[10 : SIDE // 2 - 60], rise[SIDE // 2 + 60 : -10]])
    assert away.max() < 0.01 * rise.max()


def test_pixels_that_step_or_are_noisy_count_less_in_mean_cells() -> None:
    noise = torch.randn(1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    bright = torch.arange(SIDE) > SIDE // 2
    under = torch.where(bright, 50.0, 0.0).expand(1, SIDE, SIDE)
    none = torch.zeros_like(noise) > 0
    tiles = Tiles(noise, ~none, none, torch.full_like(noise, 1.0), under)
    weights = weights_in_cells(tiles, noise * torch.where(bright, 10.0, 1.0), ~none, 12.0)
    columns = weights[0].mean(0)
    assert weights.mean() == pytest.approx(1.0, rel=1e-3)
    # One over the variance, and next to nothing over the step.
    assert columns[: SIDE // 2 - 40].mean() / columns[SIDE // 2 + 40 :].mean() == pytest.approx(100, rel=0.2)
    assert columns[SIDE // 2 - 3 : SIDE // 2 + 3].max() < 1e-3 * columns.max()
    # And where there is no noise, and no step, all count alike.
    still = weights_in_cells(
        replace(tiles, under=torch.zeros_like(under)), torch.zeros_like(noise), ~none, 12.0
    )
    torch.testing.assert_close(still, torch.ones_like(still))


@pytest.mark.parametrize("least", [1.0, 0.01])
def test_what_changes_slowly_goes_whatever_the_weights(least: float) -> None:
    weights = torch.where(torch.arange(SIDE) > SIDE // 2, least, 1.0).expand(1, SIDE, SIDE)
    image = torch.full((1, SIDE, SIDE), 3.0)
    torch.testing.assert_close(without_slow(image, weights, 20.0), torch.zeros_like(image), atol=1e-4, rtol=0)


def test_what_was_not_measured_is_no_step() -> None:
    image = drawn(square((SIDE, SIDE)))
    image[:, :60] = torch.nan
    image[100:160, 150:200] = torch.nan
    assert stepped(tiles_of(image), SPACING, _EVEN).step is None


def test_a_step_is_found_where_it_is() -> None:
    tiles = tiles_of(drawn(with_edge(square((SIDE, SIDE)), 500.0, at=0.5, angle_rad=0.0, edge_px=1.0)))
    step = stepped(tiles, SPACING, _EVEN).step
    assert step is not None
    fall = step[0, :, 117] - step[0, :, 122]
    height = tiles.data[0, :, :100].mean() - tiles.data[0, :, 140:].mean()
    torch.testing.assert_close(fall.median(), height, rtol=0.1, atol=0.0)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_step_does_not_depend_on_the_shape_of_pixels(axis: int) -> None:
    """Each pixel is drawn as four in a row, which are a quarter as long: the background steps by as much."""
    image = drawn(stepping(1000.0, edge_px=3.0))
    axes = (4.0, 1.0) if axis == 0 else (1.0, 4.0)
    even = stepped(tiles_of(image), SPACING, _EVEN).step
    narrow = stepped(tiles_of(image.repeat_interleave(4, axis)), SPACING, axes).step
    assert even is not None
    assert narrow is not None
    pooled = narrow[0].unflatten(axis, (-1, 4)).mean(axis + 1)
    fall, usual = (step[:, 117] - step[:, 122] for step in (pooled, even[0]))
    torch.testing.assert_close(fall.median(), usual.median(), rtol=0.05, atol=0.0)


def stepping(height: float, edge_px: float) -> Specimen:
    """A square crystal across whose middle column the background steps."""
    crystal = square((SIDE, SIDE), electrons_per_pixel=50.0)
    return with_edge(crystal, height, at=0.5, angle_rad=0.0, edge_px=edge_px, crystal="everywhere")


def test_columns_across_a_high_step_are_rim() -> None:
    columns = tm.find_columns(drawn(stepping(1000.0, edge_px=3.0)).numpy())
    away = np.abs(columns.positions[:, 1] - (SIDE - 1) / 2)
    assert columns.is_rim[away < 4].all()
    inner = ((columns.positions > 12) & (columns.positions < SIDE - 13)).all(axis=1)
    assert not columns.is_rim[inner & (away > 15)].any()


@pytest.mark.parametrize("angle_rad", [0.6, 2.3, -1.0])
def test_a_step_goes_on_to_the_border(angle_rad: float) -> None:
    specimen = with_edge(
        square((SIDE, SIDE)), 2000.0, angle_rad=angle_rad, edge_px=30.0, crystal="everywhere"
    )
    tiles = tiles_of(drawn(specimen))
    smooth = tiles.data - stepped(tiles, SPACING, _EVEN).level
    rise = (tiles.data - smooth)[0]
    inner = rise[20:-20, 20:-20].max()
    border = torch.cat(
        [rise[:10].flatten(), rise[-10:].flatten(), rise[:, :10].flatten(), rise[:, -10:].flatten()]
    )
    assert border.max() < 1.3 * inner


def test_columns_of_a_steep_wedge_and_no_others() -> None:
    specimen = with_wedge(square((320, 320), rotation_rad=0.5, electrons_per_pixel=50.0), 2000.0)
    truth = np.asarray(specimen.truth.positions)
    found = tm.find_columns(drawn(specimen, 24).numpy()).positions
    assert (cKDTree(found).query(truth)[0] < 5).mean() >= 0.95
    assert (cKDTree(truth).query(found)[0] < 5).mean() >= 0.95


def test_errors_are_wider_beside_a_step() -> None:
    specimen = stepping(500.0, edge_px=10.0)
    columns = tm.find_columns(drawn(specimen).numpy())
    off, kind = cKDTree(np.asarray(specimen.truth.positions)).query(columns.positions)
    assert (off < 5).mean() > 0.95
    away = np.abs(columns.positions[:, 1] - (SIDE - 1) / 2)
    inner = ((columns.positions > 12) & (columns.positions < SIDE - 13)).all(axis=1)
    scatter = (columns.positions - np.asarray(specimen.truth.positions)[kind]) / columns.position_errors
    beside = columns.position_errors[inner & (away < 6)].mean(1)
    far = columns.position_errors[inner & (away > 30)].mean(1)
    assert np.median(beside) > 3 * np.median(far)
    assert 1.48 * np.median(np.abs(scatter[inner & (away < 6)])) < 3
    assert 0.7 < 1.48 * np.median(np.abs(scatter[inner & (away > 30)])) < 1.4


@pytest.mark.parametrize("kind", ["edge", "substrate", "patch"])
@pytest.mark.parametrize("wide", [1.0, 40.0])
def test_light_columns_beside_a_step(kind: str, wide: float) -> None:
    rocksalt = tm.datasets.rocksalt("Sr", "O", (SIDE, SIDE), lattice_nm=0.516, electrons_per_pixel=50.0)
    high = 3 * float(np.ptp(np.asarray(rocksalt.image)))
    specimen = STEPPED[kind](rocksalt, high, wide)
    truth = np.asarray(specimen.truth.positions)
    truth = truth[((truth >= 0) & (truth <= SIDE - 1)).all(axis=1)]
    found = tm.find_columns(drawn(specimen).numpy()).positions
    assert (cKDTree(found).query(truth)[0] < 3.0).mean() >= 0.95
    assert (cKDTree(truth).query(found)[0] < 3.0).mean() >= 0.95


@pytest.mark.parametrize("make", [perovskite, polar_perovskite])
@pytest.mark.parametrize("times", [4, 12])
def test_light_columns_on_a_slope(make: Callable[..., Specimen], times: int) -> None:
    specimen = make((320, 320), 0.015, electrons_per_pixel=1000.0, rotation_rad=0.6)
    high = times * float(np.ptp(np.asarray(specimen.image)))
    slope = np.random.default_rng(0).poisson(high * np.arange(320) / 319, (320, 320))
    recall, precision = of_all((drawn(specimen).numpy() + slope).astype(np.float32), specimen)
    assert min(recall, precision) >= 0.97


def test_light_columns_on_a_slope_to_a_corner() -> None:
    specimen = perovskite((320, 320), 0.015, electrons_per_pixel=1000.0)
    row, col = np.mgrid[:320, :320] / 319
    high = 12 * float(np.ptp(np.asarray(specimen.image)))
    slope = np.random.default_rng(0).poisson(high * row * col)
    recall, precision = of_all((drawn(specimen).numpy() + slope).astype(np.float32), specimen)
    assert min(recall, precision) >= 0.98


@pytest.mark.parametrize("seed", [0, 1])
def test_light_columns_on_a_slope_that_ends_at_the_border(seed: int) -> None:
    """The lattice lies along the rows: where a window ends, a slope draws the phases of orders along them."""
    specimen = perovskite((448, 448), 0.0234)
    counts = drawn(specimen, seed).numpy()
    lower, upper = np.percentile(counts, [5, 95])
    slope = np.random.default_rng(seed).poisson(10 * (upper - lower) * np.arange(448) / 447, counts.shape)
    recall, precision = of_all((counts + slope).astype(np.float32), specimen)
    assert min(recall, precision) >= 0.985


def of_all(pixels: np.ndarray, specimen: Specimen) -> tuple[float, float]:
    """Recall and precision of all columns."""
    truth = np.asarray(specimen.truth.positions)
    truth = truth[((truth >= 0) & (truth <= len(pixels) - 1)).all(axis=1)]
    found = np.asarray(tm.find_columns(pixels).positions)
    near = 0.25 * np.median(cKDTree(truth).query(truth, k=2)[0][:, 1])
    recall, precision = (
        (cKDTree(one).query(other)[0] < near).mean() for one, other in ((found, truth), (truth, found))
    )
    return float(recall), float(precision)
