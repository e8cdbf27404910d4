"""Probes with side lobes, which add up to what looks like a faint column in the hollow between several columns."""

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.special import j1

import torchmotif as tm

SIDE = 256
APART = 11.0
Places = list[tuple[float, float, float]]  # in the sides of a cell, and intensities
HONEYCOMB: Places = [(0, 0, 1.0), (1 / 3, 1 / 3, 0.95)]
MX2: Places = [(0, 0, 1.0), (1 / 3, 1 / 3, 0.45)]
HOLLOW = (2 / 3, 2 / 3)


def airy(away: np.ndarray) -> np.ndarray:
    """By distances in widths of the Gaussian that is as wide in the middle: the first ring has 1.75 % of the peak."""
    x = 1.373 * np.maximum(away, 1e-6)
    found: np.ndarray = (2 * j1(x) / x) ** 2
    return found


def coma(row: np.ndarray, col: np.ndarray) -> np.ndarray:
    """A Gaussian with a weaker, wider one beside it."""
    found: np.ndarray = np.exp(-(row**2 + col**2) / 2) + 0.12 * np.exp(
        -((row - 1.2) ** 2 + col**2) / (2 * 1.35**2)
    )
    return found


def drawn(
    places: Places,
    sides: tuple[tuple[float, float], tuple[float, float]],
    *,
    dose: float,
    probe: str,
    width: float = APART / 3.9,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts, columns and intensities of a crystal whose cell has these places and sides in distances of neighbours, turned by 0.3."""
    turn = np.array([[np.cos(0.3), -np.sin(0.3)], [np.sin(0.3), np.cos(0.3)]])
    cell = APART * np.array(sides) @ turn
    numbers = np.stack(np.meshgrid(*[np.arange(-60, 61)] * 2, indexing="ij"), -1).reshape(-1, 2)
    every = np.concatenate([(numbers + one[:2]) @ cell + SIDE / 2 for one in places])
    bright = np.repeat([one[2] for one in places], len(numbers))
    far = round(8 * width)
    near = ((every > -far) & (every < SIDE + far)).all(1)
    every, bright = every[near], bright[near]
    step = np.arange(-far, far + 1)
    nearest = np.rint(every).astype(int)
    row, col = (nearest[:, axis, None] + step for axis in (0, 1))
    down, across = ((pixel - every[:, axis, None]) / width for axis, pixel in enumerate((row, col)))
    down, across = np.broadcast_arrays(down[:, :, None], across[:, None, :])
    away = np.hypot(down, across)
    profile = (
        coma(down, across) if probe == "coma" else airy(away) if probe == "airy" else np.exp(-(away**2) / 2)
    )
    image = np.full((SIDE + 4 * far + 2,) * 2, 0.1)
    at = (row[:, :, None] + 2 * far, col[:, None, :] + 2 * far)
    np.add.at(image, at, bright[:, None, None] * profile)
    image = image[2 * far : 2 * far + SIDE, 2 * far : 2 * far + SIDE]
    return np.random.default_rng(0).poisson(dose * image).astype(np.float32), every, bright


def scores(pixels: np.ndarray, truth: np.ndarray, bright: np.ndarray) -> tuple[float, dict[float, float]]:
    """Precision, and recall by intensity, but for the border."""
    at = np.asarray(tm.find_columns(pixels).positions)

    def inner(places: np.ndarray) -> np.ndarray:
        return np.asarray(((places > 3) & (places < SIDE - 4)).all(1))

    right = np.asarray(cKDTree(truth).query(at[inner(at)])[0]) < 0.25 * APART
    there = np.asarray(cKDTree(at).query(truth)[0]) < 0.25 * APART
    return float(right.mean()), {
        one: float(there[inner(truth) & (bright == one)].mean()) for one in set(bright.tolist())
    }


HEXAGONAL = ((3**0.5, 0.0), (0.75**0.5, 1.5))


@pytest.mark.parametrize("dose", [10.0, 1000.0])
@pytest.mark.parametrize("places", [HONEYCOMB, MX2], ids=["honeycomb", "MX2"])
def test_no_column_where_side_lobes_add_up(places: Places, dose: float) -> None:
    precision, recall = scores(*drawn(places, HEXAGONAL, dose=dose, probe="airy"))
    assert precision > 0.98
    assert min(recall.values()) > 0.98


@pytest.mark.parametrize(("probe", "bright", "dose"), [("airy", 0.08, 100.0), ("gaussian", 0.08, 100.0)])
def test_a_light_column_in_the_hollow_is_found(probe: str, bright: float, dose: float) -> None:
    places = [*HONEYCOMB, (*HOLLOW, bright)]
    precision, recall = scores(*drawn(places, HEXAGONAL, dose=dose, probe=probe, width=APART / 4.4))
    assert precision > 0.98
    assert min(recall.values()) > 0.95


@pytest.mark.parametrize(("probe", "dose"), [("airy", 100.0), ("coma", 1000.0)])
def test_no_column_between_dumbbells(probe: str, dose: float) -> None:
    places = [(0, 0, 1.0), (0.25, 0, 0.9), (0.5, 0.5, 1.0), (0.75, 0.5, 0.9)]
    sides = ((4.0, 0.0), (0.0, 8**0.5))
    precision, recall = scores(*drawn(places, sides, dose=dose, probe=probe, width=APART / 3.4))
    assert precision > 0.98
    assert min(recall.values()) > 0.98


def test_light_columns_beside_lobes_are_kept() -> None:
    places = [(0, 0, 1.0), (1 / 3, 1 / 3, 0.1)]
    precision, recall = scores(*drawn(places, HEXAGONAL, dose=10.0, probe="airy"))
    assert precision > 0.98
    assert min(recall.values()) > 0.95
