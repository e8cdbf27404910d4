"""Columns of images to whose rows something is added that drifts from row to row, and of crystals along rows that drift."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.columns._reciprocal import lattices
from torchmotif.columns.calibrate import calibrate

SHAPE = (400, 380)


def dumbbells() -> tuple[np.ndarray, np.ndarray]:
    specimen = tm.datasets.dumbbells(SHAPE, 0.0125, rotation_rad=0.3)
    pixels = np.asarray(specimen.draw(1.0, torch.Generator().manual_seed(1)).data, float)
    return pixels, np.asarray(specimen.truth.positions)


def hum(pixels: np.ndarray, share: float, rows: float, seed: int = 0) -> np.ndarray:
    """Added to every row: its deviation as a share of the columns' height, and over how many rows it is averaged."""
    white = np.random.default_rng(seed).standard_normal(len(pixels))
    slow = gaussian_filter1d(white, rows)
    height = np.subtract(*np.percentile(pixels, [99, 1]))
    offsets: np.ndarray = (share * height * slow / slow.std())[:, None]
    return offsets


@pytest.mark.parametrize("rows", [1.5, 3.0])
@pytest.mark.parametrize("share", [0.1, 0.25])
def test_hum_that_drifts_shows_no_columns_between_dumbbells(rows: float, share: float) -> None:
    pixels, truth = dumbbells()
    at = np.asarray(tm.find_columns((pixels + hum(pixels, share, rows)).astype(np.float32)).positions)
    near = 0.3 * np.median(cKDTree(truth).query(truth, k=2)[0][:, 1])
    inner = truth[((truth > 4) & (truth < np.array(SHAPE) - 5)).all(1)]
    assert (cKDTree(at).query(inner)[0] < near).mean() >= 0.99
    assert (cKDTree(truth).query(at)[0] < near).mean() >= 0.98


def test_hum_that_drifts_is_not_said_to_be_what_columns_leave() -> None:
    pixels, _ = dumbbells()
    result = tm.analyze((pixels + hum(pixels, 0.1, 3.0)).astype(np.float32), progress=False)
    assert not result.warnings
    assert any("whole rows" in note for note in result.record["notes"])


@pytest.mark.parametrize("side", [8.0, 14.0])
def test_columns_along_rows_that_drift_are_no_hum(side: float) -> None:
    rng = np.random.default_rng(0)
    row, col = np.meshgrid(np.arange(0, 300, side), np.arange(0, 300, side), indexing="ij")
    # Each row of columns is off its place, more and more.
    row = row + np.cumsum(0.4 * rng.standard_normal((len(row), 1)), axis=0)
    y, x = np.arange(300)[:, None], np.arange(300)
    width = 0.2 * side
    down, across = (np.exp(-0.5 * ((a - b) / width) ** 2) for a, b in ((y, row[:, 0]), (x[:, None], col[0])))
    pixels = rng.poisson(200 * (0.2 + np.outer(down.sum(1), across.sum(1))))
    model = calibrate(torch.from_numpy(pixels.astype(np.float32))[None])
    assert model.drifts  # as hum that drifts does
    assert not model.hum


def test_what_is_the_same_in_all_of_a_row_makes_no_lattice_where_rows_have_hum() -> None:
    pixels, _ = dumbbells()
    level = torch.from_numpy(pixels - pixels.mean())[None].float()
    slow = torch.sin(torch.arange(SHAPE[0]) * (2 * np.pi / 37))[:, None] * level.std()
    usable = torch.ones_like(level, dtype=torch.bool)
    alone, hummed = (lattices(one, usable, 11.0, across=True)[0].vectors for one in (level, level + slow))
    assert np.allclose(abs(np.linalg.det(alone)), abs(np.linalg.det(hummed)), rtol=0.01)
