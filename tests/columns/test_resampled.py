"""Images that were resampled finer than they were recorded: their noise ends at a frequency, and what lies beyond are copies."""

import numpy as np
import pytest
import torch
from scipy.ndimage import zoom
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.datasets import Specimen, mose2, mx2, projection, with_carbon

SHAPE = (180, 180)


def simulated(sides: tuple[float, float], sites: list[tuple[str, float, float]], pixel: float) -> Specimen:
    lattice = ((sides[0], 0.0), (0.0, sides[1]))
    return projection(lattice, sites, SHAPE, pixel, rotation_rad=0.11, electrons_per_pixel=50.0)


PEROVSKITE = [("Sr", 0.0, 0.0), ("TiO", 0.5, 0.5), ("O", 0.5, 0.0), ("O", 0.0, 0.5)]
RUTILE = [("Ti", 0.0, 0.0), ("Ti", 0.5, 0.5), ("O", 0.5, 0.0), ("O", 0.0, 0.5)]
SPECIMENS = {
    "perovskite": lambda: simulated((0.3905, 0.3905), PEROVSKITE, 0.04),
    "rutile": lambda: simulated((0.459, 0.296), RUTILE, 0.025),
    "WS2": lambda: mx2("W", "S", SHAPE, vacancy_rate=0.0),
}


@pytest.mark.parametrize("dose", [1.0, 0.1])
@pytest.mark.parametrize(("times", "order"), [(2.0, 3), (2.0, 1), (1.5, 1), (3.0, 3)])
@pytest.mark.parametrize("name", SPECIMENS)
def test_light_columns_are_found_where_pixels_were_resampled_finer(
    name: str, times: float, order: int, dose: float
) -> None:
    specimen = SPECIMENS[name]()
    image = np.asarray(specimen.draw(dose, torch.Generator().manual_seed(3)), np.float32)
    finer = zoom(image, times, order=order, grid_mode=True, mode="nearest")
    truth = (np.asarray(specimen.truth.positions) + 0.5) * times - 0.5
    nearest = float(np.median(cKDTree(truth).query(truth, k=2)[0][:, 1]))
    columns = tm.find_columns(finer)
    assert columns.spacing == pytest.approx(nearest, rel=0.06)
    inner = ((truth > 8 * times) & (truth < np.array(finer.shape) - 1 - 8 * times)).all(1)
    kinds = np.asarray(specimen.truth.kinds)
    found = cKDTree(columns.positions).query(truth)[0] < 0.3 * nearest
    for kind in np.unique(kinds):
        assert found[inner & (kinds == kind)].mean() >= 0.97, kind
    assert (cKDTree(truth).query(columns.positions)[0] < 0.3 * nearest).mean() >= 0.95


def scatter(columns: tm.Columns, truth: np.ndarray, kinds: np.ndarray, near: float) -> tuple[float, float]:
    """Standard deviations of places and of intensities, over their errors."""
    away, atom = cKDTree(truth).query(columns.positions)
    told = (away < near) & ~np.asarray(columns.is_rim) & ~np.asarray(columns.is_fixed)
    places = (columns.positions[told] - truth[atom[told]]) / columns.position_errors[told]
    bright = []
    for kind in np.unique(kinds[atom[told]]):
        mine = told & (kinds[atom] == kind)
        usual = np.median(columns.intensities[mine])
        bright.append((columns.intensities[mine] - usual) / columns.intensity_errors[mine])
    return float(places.std()), float(np.concatenate(bright).std())


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("name", ["perovskite", "WS2"])
def test_errors_are_those_of_places_and_intensities_where_pixels_were_resampled_finer(
    name: str, times: int
) -> None:
    specimen = SPECIMENS[name]()
    image = np.asarray(specimen.draw(1.0, torch.Generator().manual_seed(1)), np.float32)
    image = zoom(image, times, order=3, grid_mode=True, mode="nearest") if times > 1 else image
    truth = (np.asarray(specimen.truth.positions) + 0.5) * times - 0.5
    found = scatter(tm.find_columns(image), truth, np.asarray(specimen.truth.kinds), 2.0 * times)
    assert min(found) > 0.8
    assert max(found) < 1.5


def test_errors_hold_speckle_that_is_as_wide_as_columns() -> None:
    """Without it places of this image scatter by 7.7 times their errors."""
    specimen = with_carbon(mose2((300, 300), vacancy_rate=0.0), 20.0)
    columns = tm.find_columns(np.asarray(specimen.draw(10.0, torch.Generator().manual_seed(0)), np.float32))
    places, _ = scatter(columns, np.asarray(specimen.truth.positions), np.asarray(specimen.truth.kinds), 2.0)
    assert 0.8 < places < 2.2
