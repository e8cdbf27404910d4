"""Images that were resampled finer than they were recorded: their noise ends at a frequency, and what lies beyond are copies."""

import numpy as np
import pytest
import torch
from scipy.ndimage import zoom
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.datasets import Specimen, mx2, projection

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
