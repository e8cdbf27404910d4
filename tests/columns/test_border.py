"""Columns near the border of an image, or of what was measured, where columns beyond it reach in."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.datasets import Specimen, mx2, projection

SIDE = 320
PEROVSKITE = [("Sr", 0.0, 0.0), ("TiO", 0.5, 0.5), ("O", 0.5, 0.0), ("O", 0.0, 0.5)]
RECTANGULAR = [("Ba", 0.0, 0.0), ("Ti", 0.5, 0.5), ("O", 0.5, 0.0)]


def simulated(sides: tuple[float, float], sites: list[tuple[str, float, float]], seed: int) -> Specimen:
    lattice = ((sides[0], 0.0), (0.0, sides[1]))
    rotation = 0.1 + 0.2 * seed
    return projection(lattice, sites, (SIDE, SIDE), 0.02, rotation_rad=rotation, electrons_per_pixel=50.0)


SPECIMENS: dict[str, Callable[[int], Specimen]] = {
    "perovskite": lambda seed: simulated((0.3905, 0.3905), PEROVSKITE, seed),
    "rectangular": lambda seed: simulated((0.36, 0.46), RECTANGULAR, seed),
    "WS2": lambda _: mx2("W", "S", (SIDE, SIDE), vacancy_rate=0.0),
}


def measured(filled: bool) -> np.ndarray:
    """Pixels inside a turned square, with a fill around it, or all."""
    row, col = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    inside = np.maximum(
        abs(row * np.cos(0.2) + col * np.sin(0.2)), abs(col * np.cos(0.2) - row * np.sin(0.2))
    )
    found: np.ndarray = inside < (120 if filled else SIDE)
    return found


@pytest.mark.parametrize("filled", [False, True])
@pytest.mark.parametrize("dose", [1.0, 0.1])
@pytest.mark.parametrize("name", SPECIMENS)
def test_intensities_near_the_border_are_those_inside_within_their_errors(
    name: str, dose: float, filled: bool
) -> None:
    off: dict[str, list[np.ndarray]] = {}
    seen = measured(filled)
    depth = distance_transform_edt(np.pad(seen, 1))[1:-1, 1:-1] - 1
    for seed in range(2):
        specimen = SPECIMENS[name](seed)
        image = np.where(seen, np.asarray(specimen.draw(dose, torch.Generator().manual_seed(seed))), 0.0)
        columns = tm.find_columns(image)
        away, atom = cKDTree(np.asarray(specimen.truth.positions)).query(columns.positions)
        deep = depth[tuple(np.clip(np.round(columns.positions).astype(int), 0, SIDE - 1).T)]
        widths, right = deep / max(columns.width or (1.0,)), away < 0.3 * columns.spacing
        kinds = np.asarray(specimen.truth.kinds)[atom]
        for kind in np.unique(kinds):
            mine = right & (kinds == kind)
            usual = np.median(columns.intensities[mine & (widths > 5)])
            near = mine & (widths < 4)
            off.setdefault(str(kind), []).append(
                (columns.intensities[near] - usual) / columns.intensity_errors[near]
            )
    for kind, parts in off.items():
        values = np.concatenate(parts)
        assert len(values) > 30, kind
        assert abs(values.mean()) < 0.7, kind
        assert values.std() < 1.7, kind
