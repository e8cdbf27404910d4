"""Columns of an astigmatic probe, which are ellipses, and of cells so wide that an image holds few of them."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.columns._cell_fit import sites_of

# Places in a cell and intensities, by the side of the cell over the nearest distance, and whether it is hexagonal.
CELLS = {
    "perovskite": (2.0, False, [(0, 0, 1.0), (0.5, 0.5, 0.55), (0.5, 0, 0.12), (0, 0.5, 0.12)]),
    "rock salt": (math.sqrt(2), False, [(0, 0, 1.0), (0.5, 0.5, 0.15)]),
    "WS2": (math.sqrt(3), True, [(0, 0, 1.0), (1 / 3, 1 / 3, 0.12)]),
}
SIDE = 300


def drawn(
    kind: str, apart: float, *, ratio: float, angle: float, dose: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Counts and columns of a crystal turned by 0.4, whose columns are ellipses of a quarter of their distance."""
    side, hexagonal, places = CELLS[kind]
    cell = apart * side * np.array([[1, 0], [0.5, math.sqrt(0.75)] if hexagonal else [0, 1]])
    cell = cell @ np.array([[math.cos(0.4), math.sin(0.4)], [-math.sin(0.4), math.cos(0.4)]])
    numbers = np.stack(np.meshgrid(*[np.arange(-60, 61)] * 2, indexing="ij"), -1).reshape(-1, 2)
    every = np.concatenate([(numbers + one[:2]) @ cell + SIDE / 2 for one in places])
    bright = np.repeat([one[2] for one in places], len(numbers))
    near = ((every > -3 * apart) & (every < SIDE + 3 * apart)).all(1)
    every, bright = every[near], bright[near]
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    widths = 0.25 * apart * np.array([math.sqrt(ratio), math.sqrt(1 / ratio)])
    step = np.arange(-round(1.4 * apart), round(1.4 * apart) + 1)
    nearest = np.rint(every).astype(int)
    row, col = (nearest[:, axis, None] + step for axis in (0, 1))
    away = np.stack(np.broadcast_arrays(row[:, :, None], col[:, None, :]), -1) - every[:, None, None]
    profile = bright[:, None, None] * np.exp(-((away @ turn.T / widths) ** 2).sum(-1) / 2)
    image, far = np.full((SIDE + 10 * round(apart),) * 2, 0.2), 5 * round(apart)
    np.add.at(image, (row[:, :, None] + far, col[:, None, :] + far), profile)
    image = image[far : far + SIDE, far : far + SIDE]
    counts = np.random.default_rng(seed).poisson(dose * image)
    return counts.astype(np.float32), every


def scores(pixels: np.ndarray, truth: np.ndarray, apart: float) -> tuple[float, float, float]:
    columns = tm.find_columns(pixels)
    inner = truth[((truth > 0.3 * apart) & (truth < SIDE - 1 - 0.3 * apart)).all(1)]
    at, near = np.asarray(columns.positions), 0.3 * apart
    recall = (cKDTree(at).query(inner)[0] < near).mean()
    return float(recall), float((cKDTree(truth).query(at)[0] < near).mean()), columns.spacing / apart


@pytest.mark.parametrize(("apart", "dose", "angle"), [(12.0, 60.0, 0.8), (24.0, 6.0, 0.0)])
@pytest.mark.parametrize("kind", CELLS)
def test_faint_columns_of_an_astigmatic_probe(kind: str, apart: float, dose: float, angle: float) -> None:
    pixels, truth = drawn(kind, apart, ratio=1.35, angle=angle, dose=dose)
    recall, precision, spacing = scores(pixels, truth, apart)
    assert recall >= 0.97
    assert precision >= 0.97
    assert spacing == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("ratio", [1.0, 1.25])
def test_faint_columns_where_an_image_holds_few_cells(ratio: float) -> None:
    # Five cells along each side: of bins half a pixel wide each holds seven pixels.
    pixels, truth = drawn("perovskite", 29.0, ratio=ratio, angle=0.5, dose=1.2)
    recall, precision, spacing = scores(pixels, truth, 29.0)
    assert recall >= 0.97
    assert precision >= 0.97
    assert spacing == pytest.approx(1.0, abs=0.05)


def test_a_cell_of_ellipses_has_no_other_sites() -> None:
    side, width, ellipse = 24, 3.0, (0.2, 0.2)
    covariance = width**2 * np.array([[1 + ellipse[0], ellipse[1]], [ellipse[1], 1 - ellipse[0]]])
    pixels = np.stack(np.mgrid[: 2 * side, : 2 * side], -1) / 2 + 0.25
    cell = np.zeros((2 * side, 2 * side))
    for place, bright in (((0.3, 0.4), 1.0), ((0.8, 0.9), 0.1)):
        for step in np.ndindex(5, 5):
            away = pixels - (np.array(place) + step - 2) * side
            cell += bright * np.exp(-np.einsum("...i,ij,...j", away, np.linalg.inv(covariance), away) / 2)
    noise = 1e-3
    cell += noise * np.random.default_rng(0).standard_normal(cell.shape)
    found = sites_of(cell, np.full(cell.shape, noise**2), side * np.eye(2))
    assert len(found.sites) == 2
    np.testing.assert_allclose(found.sites[found.strength.argsort()], [[0.8, 0.9], [0.3, 0.4]], atol=0.005)
    assert found.strength.min() / found.strength.max() == pytest.approx(0.1, rel=0.05)
    assert found.width == pytest.approx(width, rel=0.02)
    assert found.ellipse == pytest.approx(ellipse, abs=0.01)


@pytest.mark.parametrize("pool", [(2, 1), (1, 2)])
def test_oxygen_in_pixels_twice_as_long_as_wide(pool: tuple[int, int]) -> None:
    specimen = tm.datasets.perovskite((256 * pool[0], 256 * pool[1]), 0.0225)
    image = np.asarray(specimen.image).reshape(256, pool[0], 256, pool[1]).mean((1, 3))
    image += 0.2 * image.max()
    pixels = np.random.default_rng(0).poisson(200 * image / image.mean()).astype(np.float32)
    truth = (np.asarray(specimen.truth.positions) + 0.5) / pool - 0.5
    truth = truth[((truth > 2) & (truth < 253)).all(1)]
    found = tm.find_columns(tm.Micrograph(pixels, (0.0225 * pool[0], 0.0225 * pool[1]), "nm")).positions
    assert (cKDTree(found * pool).query(truth * pool)[0] < 3.0).mean() >= 0.97
    assert (cKDTree(truth * pool).query(found * pool)[0] < 3.0).mean() >= 0.95


@pytest.mark.parametrize("dose", [1.0, 0.1])
@pytest.mark.parametrize("heavy", ["Ba", "La"])
def test_faint_columns_of_an_image_that_was_sheared(heavy: str, dose: float) -> None:
    """As after a correction of drift, which makes ellipses of columns."""
    shear, side = 0.08, 320
    specimen = tm.datasets.perovskite((side, side), 0.015, a_site=heavy, rotation_rad=0.13)
    counts = specimen.draw(dose, torch.Generator().manual_seed(0)).numpy().astype(float)
    row, col = np.mgrid[:side, :side].astype(float)
    pixels = map_coordinates(counts, [row, col + shear * row], order=1, cval=0.0).astype(np.float32)
    truth = np.asarray(specimen.truth.positions)
    truth = truth - np.array([[0.0, shear]]) * truth[:, :1]
    found = np.asarray(tm.find_columns(pixels).positions)
    near = 0.25 * np.median(cKDTree(truth).query(truth, 2)[0][:, 1])
    inner = ((truth > 5) & (truth < side - 6)).all(1) & (truth[:, 1] + shear * truth[:, 0] < side - 6)
    assert (cKDTree(found).query(truth[inner])[0] < near).mean() >= 0.98
    assert (cKDTree(truth).query(found)[0] < near).mean() >= 0.98
