"""Columns of images to whose rows something is added, that are clipped, that have hot pixels of one value, few electrons in dark columns, or few rows."""

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.columns._cell_bins import rendered
from torchmotif.columns._cell_fit import sites_of
from torchmotif.columns._rows import HUM, hum_of, offsets_of_rows
from torchmotif.columns.pixels import limit_of
from torchmotif.datasets import Specimen

SHAPE = (320, 300)
MAKE = {
    "WS2": lambda: tm.datasets.mx2("W", "S", SHAPE, random_state=1),
    "MoSe2, grains": lambda: tm.datasets.mose2(SHAPE, grains=3, random_state=2),
    "rock salt": lambda: tm.datasets.rocksalt("Sr", "O", SHAPE, lattice_nm=0.516, rotation_rad=0.2),
    "square": lambda: tm.datasets.square(SHAPE, lattice_nm=0.39, middle=0.5, rotation_rad=0.3),
    "along the rows": lambda: tm.datasets.square(SHAPE, lattice_nm=0.39, middle=0.5, rotation_rad=0.0),
    "dumbbells": lambda: tm.datasets.dumbbells(SHAPE, rotation_rad=0.7),
    "perovskite": lambda: tm.datasets.perovskite(SHAPE),
}


def drawn(specimen: Specimen, dose: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    pixels = np.asarray(specimen.draw(dose, torch.Generator().manual_seed(1)).data, float)
    return pixels, np.asarray(specimen.truth.positions)


def scores(pixels: np.ndarray, truth: np.ndarray, polarity: str = "auto") -> tuple[float, float]:
    at = np.asarray(tm.find_columns(pixels.astype(np.float32), polarity=polarity).positions)
    inner = truth[((truth > 3) & (truth < np.array(pixels.shape) - 4)).all(1)]
    near = 0.3 * np.median(cKDTree(truth).query(truth, k=2)[0][:, 1])
    return float((cKDTree(at).query(inner)[0] < near).mean()), float(
        (cKDTree(truth).query(at)[0] < near).mean()
    )


@pytest.mark.parametrize("share", [0.05, 0.4])
@pytest.mark.parametrize("kind", MAKE)
def test_what_is_added_to_rows_costs_no_columns(kind: str, share: float) -> None:
    pixels, truth = drawn(MAKE[kind]())
    lower, upper = np.percentile(pixels, [5, 95])
    hum = share * (upper - lower) * np.random.default_rng(0).standard_normal((SHAPE[0], 1))
    recall, precision = scores(pixels + hum, truth)
    assert recall >= 0.97
    assert precision >= 0.97


@pytest.mark.parametrize("kind", MAKE)
def test_rows_of_an_image_without_hum_stay_as_they_are(kind: str) -> None:
    pixels, _ = drawn(MAKE[kind]())
    data = torch.from_numpy(pixels)[None]
    assert float(hum_of(data, torch.ones_like(data, dtype=torch.bool))[0]) < HUM


@pytest.mark.parametrize("noise", [0.0, 1.0, 10.0])
@pytest.mark.parametrize("spacing", [8.0, 12.34, 20.3])
def test_columns_along_the_rows_are_no_hum_without_noise(spacing: float, noise: float) -> None:
    places = np.arange(256) / spacing
    profile = np.exp(-0.5 * ((places - places.round()) * 5) ** 2)
    pixels = 1000 * np.outer(profile, profile)
    pixels += noise * np.random.default_rng(0).standard_normal(pixels.shape)
    data = torch.from_numpy(pixels)[None]
    assert float(hum_of(data, torch.ones_like(data, dtype=torch.bool))[0]) < HUM


def test_a_crystal_that_ends_along_a_row_is_no_hum() -> None:
    pixels, _ = drawn(MAKE["perovskite"](), 100.0)
    pixels[140:] = np.random.default_rng(0).poisson(0.1 * pixels.mean(), pixels[140:].shape)
    data = torch.from_numpy(pixels)[None]
    assert float(hum_of(data, torch.ones_like(data, dtype=torch.bool))[0]) < HUM


def test_hum_beside_pixels_that_were_not_measured_is_seen() -> None:
    pixels, _ = drawn(MAKE["perovskite"]())
    hum = 0.2 * np.ptp(pixels) * np.random.default_rng(0).standard_normal((SHAPE[0], 1))
    data = torch.from_numpy(pixels + hum)[None]
    measured = torch.ones_like(data, dtype=torch.bool)
    measured[:, :150] = False
    assert float(hum_of(data, measured)[0]) > HUM
    assert float(hum_of(data, torch.zeros_like(measured)).max()) == 0


def test_offsets_are_those_that_were_added() -> None:
    pixels, _ = drawn(MAKE["along the rows"]())
    hum = 20 * np.random.default_rng(1).standard_normal((SHAPE[0], 1))
    data = torch.from_numpy(pixels + hum)[None]
    measured = torch.ones_like(data, dtype=torch.bool)
    measured[:, 100:110] = False
    found = offsets_of_rows(data, measured)[0].numpy()
    assert (found[100:110] == 0).all()
    rest = np.delete(found - hum, slice(100, 110))
    assert rest.std() < 0.4 * hum.std()


def test_hum_is_said_and_makes_no_motifs() -> None:
    pixels, _ = drawn(MAKE["square"]())
    hum = 0.3 * np.ptp(pixels) * np.random.default_rng(0).standard_normal((SHAPE[0], 1))
    result = tm.analyze((pixels + hum).astype(np.float32), progress=False)
    assert result.labels.max() == 1
    assert any("whole rows" in note for note in result.record["notes"])


@pytest.mark.parametrize("percentile", [90, 95, 98, 99.5])
@pytest.mark.parametrize("kind", ["WS2", "rock salt", "perovskite"])
def test_clipped_tops_cost_no_faint_columns(kind: str, percentile: float) -> None:
    pixels, truth = drawn(MAKE[kind]())
    recall, precision = scores(np.minimum(pixels, np.percentile(pixels, percentile)), truth)
    assert recall >= 0.97
    assert precision >= 0.97


@pytest.mark.parametrize("times", [2, 5, 12, 100])
@pytest.mark.parametrize("kind", ["WS2", "rock salt", "perovskite"])
def test_hot_pixels_of_one_value_are_no_tops_of_columns(kind: str, times: float) -> None:
    pixels, truth = drawn(MAKE[kind]())
    at = np.random.default_rng(0).choice(pixels.size, pixels.size // 400, replace=False)
    pixels.ravel()[at] = times * pixels.max()
    recall, precision = scores(pixels, truth)
    assert recall >= 0.97
    assert precision >= 0.97


@pytest.mark.parametrize("electrons", [1.0, 0.5])
@pytest.mark.parametrize("kind", ["WS2", "square"])
def test_no_electron_in_a_dark_column_is_no_limit_of_the_detector(kind: str, electrons: float) -> None:
    bright, truth = drawn(MAKE[kind](), 1e4)
    dark = 1.02 * bright.max() - bright
    pixels = np.random.default_rng(1).poisson(dark * electrons / dark.mean()).astype(np.float32)
    recall, precision = scores(pixels, truth, polarity="dark")
    assert recall >= 0.97
    assert precision >= 0.97


def test_what_more_pixels_have_than_the_next_value_is_a_limit_where_values_do_not_fall_off() -> None:
    noise = np.random.default_rng(0).normal(100, 30, (200, 200)).round()
    cut = torch.from_numpy(noise.clip(60, 130))
    assert limit_of(cut) == 130
    assert limit_of(cut, dark=True) == 60
    few = torch.from_numpy(np.random.default_rng(0).poisson(0.4, (200, 200)).astype(float))
    assert limit_of(few, dark=True) is None
    assert limit_of(few) is None


@pytest.mark.parametrize(("level", "cut"), [(50, 45), (50, 48), (20, 18), (100, 92)])
def test_flat_tops_below_their_mode_are_cut_off(level: int, cut: int) -> None:
    rng = np.random.default_rng(0)
    tops = rng.random((1024, 1024)) < 0.3
    pixels = torch.from_numpy(rng.poisson(np.where(tops, level, level // 5)).clip(max=cut).astype(float))
    assert limit_of(pixels) == cut


def test_rows_that_drift_cost_no_columns() -> None:
    pixels, truth = drawn(MAKE["dumbbells"]())
    lower, upper = np.percentile(pixels, [5, 95])
    walk = np.cumsum(np.random.default_rng(2).standard_normal((SHAPE[0], 1)), axis=0)
    recall, precision = scores(pixels + 0.1 * (upper - lower) * walk, truth)
    assert recall >= 0.97
    assert precision >= 0.97


@pytest.mark.parametrize("rotation_rad", [0.0, 0.51])
def test_rows_that_drift_hide_no_faint_columns(rotation_rad: float) -> None:
    specimen = tm.datasets.polar_perovskite((448, 448), rotation_rad=rotation_rad)
    pixels, truth = drawn(specimen, 0.3)
    lower, upper = np.percentile(pixels, [5, 95])
    walk = np.cumsum(np.random.default_rng(0).standard_normal((len(pixels), 1)), axis=0)
    recall, precision = scores(pixels + 0.05 * (upper - lower) * walk, truth)
    assert recall >= 0.97
    assert precision >= 0.95


def test_hum_of_columns_along_the_rows_shows_none_in_hollows() -> None:
    specimen = tm.datasets.mx2("W", "Se", (448, 448), rotation_rad=0.0)
    pixels, truth = drawn(specimen, 0.1)
    lower, upper = np.percentile(pixels, [5, 95])
    hum = 0.5 * (upper - lower) * np.random.default_rng(0).standard_normal((len(pixels), 1))
    recall, precision = scores(pixels + hum, truth)
    assert recall >= 0.97
    assert precision >= 0.97


@pytest.mark.parametrize("seed", [1, 3])
def test_hum_of_a_cell_on_the_grid_of_pixels_shows_none_between_columns(seed: int) -> None:
    square = tm.datasets.square((400, 400), rotation_rad=0.0)  # 20 px a side
    hummed = square.draw(
        1.0, torch.Generator().manual_seed(seed), detector=tm.datasets.Detector(row_noise=4.0)
    )
    pixels, truth = np.asarray(hummed.data, float), np.asarray(square.truth.positions)
    at = np.asarray(tm.find_columns(pixels.astype(np.float32)).positions)
    inner = at[((at > 10) & (at < 390)).all(1)]  # the outermost are cut by the border
    assert (cKDTree(truth).query(inner)[0] < 3).all()


def test_tops_that_a_limit_cuts_off_are_not_left_over() -> None:
    pixels, _ = drawn(tm.datasets.nanoparticle(SHAPE, random_state=3), 10.0)
    cut = np.minimum(pixels, np.percentile(pixels, 95)).astype(np.float32)
    assert not tm.analyze(cut, progress=False).warnings


@pytest.mark.parametrize("rotation_rad", [0.37, 0.71])
def test_a_strip_of_five_cells_has_the_faint_columns_of_its_crystal(rotation_rad: float) -> None:
    specimen = tm.datasets.polar_perovskite((110, 448), rotation_rad=rotation_rad)
    pixels, truth = drawn(specimen)
    recall, precision = scores(pixels, truth)
    assert recall >= 0.97
    assert precision >= 0.97


def test_oxygen_beside_lanthanum_is_no_trace() -> None:
    specimen = tm.datasets.perovskite((448, 448), a_site="La")
    pixels, truth = drawn(specimen, 0.1)
    lower, upper = pixels.min(), pixels.max()
    recall, precision = scores(np.round(255 * (pixels - lower) / (upper - lower)), truth)
    assert recall >= 0.97
    assert precision >= 0.97


def test_slow_drift_of_rows_is_no_line_of_columns() -> None:
    pixels, truth = drawn(tm.datasets.dumbbells((448, 448), 0.01168, rotation_rad=0.41))
    lower, upper = np.percentile(pixels, [5, 95])
    walk = np.cumsum(np.random.default_rng(2).standard_normal((len(pixels), 1)), axis=0)
    recall, precision = scores(pixels + 0.2 * (upper - lower) * walk, truth)
    assert recall >= 0.97
    assert precision >= 0.97


@pytest.mark.parametrize("beside", [0.0, 4.0])
def test_the_tail_of_columns_is_no_site_of_their_cell_and_hides_none(beside: float) -> None:
    real, bins, noise = np.diag([27.0, 80.0]), (54, 160), 0.003
    cell = np.random.default_rng(0).normal(0, noise, bins)
    for site, bright, width in (((0.2, 0.3), 100.0, 3.0), ((0.2, 0.3), 60.0, 9.4), ((0.7, 0.8), beside, 3.0)):
        cell += rendered(np.array([site]), np.array([bright]), width, bins, real)
    found = sites_of(cell, np.full(bins, noise**2), real)
    assert len(found.sites) == (2 if beside else 1)
    assert found.strength.min() == pytest.approx(beside or 100.0, rel=0.1)


def test_a_cell_finer_than_columns_has_none() -> None:
    noise = np.random.default_rng(0).normal(0, 1, (8, 8))
    found = sites_of(noise, np.ones((8, 8)), 2.5 * np.eye(2))
    assert found.sites.shape == (0, 2)
    assert len(found.strength) == 0


@pytest.mark.parametrize("wide", [10.0, 13.0])
@pytest.mark.parametrize("along", [0.11, 0.125])
def test_a_pair_that_one_wide_column_would_cover_is_two(along: float, wide: float) -> None:
    """What a step leaves around the pair is nearly as wide as the cell, and one column so wide has the pair as its misfit."""
    real, bins, noise = np.array([[28.2, 20.0], [28.2, -20.0]]), (69, 69), 0.012
    pair = np.array([[along, along], [1 - along, 1 - along]])
    cell = np.random.default_rng(0).normal(0, noise, bins)
    cell += rendered(pair, np.array([55.0, 50.0]), 4.2, bins, real)
    cell += rendered(np.zeros((1, 2)), np.array([300.0]), wide, bins, real)
    found = sites_of(cell, np.full(bins, noise**2), real)
    assert len(found.sites) == 2
    assert np.linalg.norm((np.sort(found.sites, axis=0) - pair) @ real, axis=1).max() < 1.0
    assert found.width < 5.5
