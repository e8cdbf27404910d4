from typing import Any

import numpy as np
import pytest

from torchmotif.errors import InputError


def turned(places: np.ndarray, angle: float) -> np.ndarray:
    cos, sin = np.cos(angle), np.sin(angle)
    return (places - places.mean(axis=0)) @ np.array([[cos, sin], [-sin, cos]])


def over_one_another(made: Any, sheet: np.ndarray, twist_rad: float) -> tuple[Any, np.ndarray]:
    """Columns of two layers in a square, and the layer of each; those nearer than 3 px are one, in their middle, of layer -1."""
    parts = [turned(sheet, 0.2 - twist_rad / 2), turned(sheet, 0.2 + twist_rad / 2) + np.array([3.0, 4.0])]
    places, layer = np.concatenate(parts), np.repeat([0, 1], len(sheet))
    inside = (np.abs(places) < 150).all(axis=1)
    places, layer = places[inside], layer[inside]
    apart = np.linalg.norm(places[layer == 0][:, None] - places[layer == 1][None], axis=2)
    i, j = np.nonzero(apart < 3)
    first, second = np.flatnonzero(layer == 0)[i], np.flatnonzero(layer == 1)[j]
    middle = (places[first] + places[second]) / 2
    alone = np.setdiff1d(np.arange(len(places)), np.concatenate([first, second]))
    places, layer = np.concatenate([places[alone], middle]), np.append(layer[alone], [-1] * len(middle))
    result = made(places, np.zeros(len(places), int), error=0.1)
    return result, layer[result.__dict__["moved"][0]]


@pytest.mark.parametrize("twist_deg", [7.0, 12.0, 21.0])
def test_two_layers_their_columns_and_twist(made: Any, honeycomb: Any, twist_deg: float) -> None:
    result, layer = over_one_another(made, honeycomb(34, 20.0, 0.0)[0], np.radians(twist_deg))
    found = result.layers
    told = (layer >= 0) & ~found.shared
    assert told.sum() > 0.5 * (layer >= 0).sum()
    right = (found.labels == layer)[told].mean()
    assert max(right, 1 - right) >= 0.995
    twist, error = found.twist_deg
    assert abs(twist) == pytest.approx(twist_deg, abs=max(4 * error, 0.02))
    assert error < 0.05
    assert found.a_px[:, 0] == pytest.approx([20, 20], abs=0.02)
    assert "of both" in repr(found)


def test_layers_of_square_lattices(made: Any) -> None:
    sheet = np.argwhere(np.ones((34, 34))) * 16.0
    result, layer = over_one_another(made, sheet, np.radians(8))
    told = (layer >= 0) & ~result.layers.shared
    right = (result.layers.labels == layer)[told].mean()
    assert max(right, 1 - right) >= 0.995
    assert abs(result.layers.twist_deg[0]) == pytest.approx(8, abs=0.05)


def test_one_lattice_and_grains_are_no_layers(made: Any, honeycomb: Any) -> None:
    places, kind = honeycomb(20, 20.0, 0.1)
    with pytest.raises(InputError, match="one lattice"):
        _ = made(places, kind, error=0.1).layers
    parts = [turned(honeycomb(30, 20.0, 0.0)[0], angle) for angle in (0.0, 0.2)]
    parts = [part[(np.abs(part) < 150).all(axis=1)] for part in parts]
    side = np.concatenate([parts[0][parts[0][:, 1] < -2], parts[1][parts[1][:, 1] > 2]])
    with pytest.raises(InputError, match="side by side"):
        _ = made(side, np.zeros(len(side), int), error=0.1).layers


def test_columns_without_order_are_no_layers(made: Any) -> None:
    places = np.random.default_rng(0).uniform(0, 400, (300, 2))
    with pytest.raises(InputError, match="lattice"):
        _ = made(places, np.zeros(300, int), error=0.1).layers


def test_columns_that_keep_their_distance_are_no_layers(made: Any) -> None:
    rng = np.random.default_rng(1)
    # Columns at least 14 px apart without a lattice, as in a colloid: every place is near to some site of a large cell.
    places = np.zeros((0, 2))
    for one in rng.uniform(0, 320, (4000, 2)):
        if not len(places) or np.linalg.norm(places - one, axis=1).min() > 14:
            places = np.concatenate([places, one[None]])
    with pytest.raises(InputError, match="lattice"):
        _ = made(places, np.zeros(len(places), int), error=0.1).layers
