"""Light columns of crystals whose thickness changes: wedges, steps of thickness, and layers beside that hold none."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from probes import recall_and_precision
from scipy.spatial import cKDTree
from torch import Tensor

import torchmotif as tm
from torchmotif.datasets import Specimen

SIDE = 300
SPECIMENS: dict[str, Callable[[float], Specimen]] = {
    "perovskite": lambda dose: tm.datasets.perovskite(
        (SIDE, SIDE), b_share=0.0, tilt_rad=0.0, electrons_per_pixel=dose, background=0.1
    ),
    "WS2": lambda dose: tm.datasets.mx2("W", "S", (SIDE, SIDE), electrons_per_pixel=dose, background=0.1),
}
# From columns of pixels to the thickness there.
THICKNESS: dict[str, Callable[[Tensor], Tensor]] = {
    "wedge": lambda col: 0.1 + 0.9 * (col / SIDE).clamp(0, 1),
    "step": lambda col: torch.where(col < 0.4 * SIDE, 0.33, 1.0),
    "terraces": lambda col: 0.25 + 0.25 * (4 * col / SIDE).floor().clamp(0, 3),
    "even": torch.ones_like,
}


def drawn(specimen: Specimen, share: Callable[[Tensor], Tensor]) -> np.ndarray:
    """Counts of the specimen with a share of the intensity of each column, by its position."""
    scene = specimen.scene
    layers = [(probe, at, weights * share(at).to(weights)) for probe, at, weights in scene.layers]
    thinner = Specimen(scene.changed(layers), specimen.truth)
    return thinner.draw(1.0, torch.Generator().manual_seed(0)).numpy()


def scores(pixels: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Recall and precision within 0.3 of the distance of neighbours, half of it from the border on."""
    return recall_and_precision(np.asarray(tm.find_columns(pixels).positions), truth, SIDE, border=0.5)


@pytest.mark.parametrize("dose", [100.0, 10.0])
@pytest.mark.parametrize("thickness", THICKNESS)
@pytest.mark.parametrize("kind", SPECIMENS)
def test_light_columns_where_the_crystal_is_thinner(kind: str, thickness: str, dose: float) -> None:
    specimen = SPECIMENS[kind](dose)
    pixels = drawn(specimen, lambda at: THICKNESS[thickness](at[:, 1]))
    recall, precision = scores(pixels, np.asarray(specimen.truth.positions))
    assert recall >= 0.95
    assert precision >= 0.98


def without(specimen: Specimen, gone: np.ndarray, thickness: Callable[[Tensor], Tensor]) -> np.ndarray:
    """Counts of the specimen without some of its columns."""
    kept = cKDTree(np.asarray(specimen.truth.positions)[~gone])

    def share(positions: Tensor) -> Tensor:
        empty = positions.new_tensor(kept.query(positions.numpy())[0] > 1.0)
        return thickness(positions[:, 1]) * (1 - empty)

    return drawn(specimen, share)


@pytest.mark.parametrize("thin", [1.0, 0.35])
def test_a_thinner_layer_without_oxygen_gets_none(thin: float) -> None:
    specimen = SPECIMENS["perovskite"](100.0)
    at = np.asarray(specimen.truth.positions)
    gone = (specimen.truth.kinds == "O") & (at[:, 1] > 160)
    pixels = without(specimen, gone, lambda col: torch.where(col > 160, thin, 1.0))
    recall, precision = scores(pixels, at[~gone])
    assert recall >= 0.98
    assert precision >= 0.98


@pytest.mark.parametrize("thickness", ["wedge", "step", "terraces"])
def test_empty_sites_of_oxygen_stay_empty(thickness: str) -> None:
    specimen = SPECIMENS["perovskite"](100.0)
    at, oxygen = np.asarray(specimen.truth.positions), specimen.truth.kinds == "O"
    gone = oxygen & (np.random.default_rng(0).random(len(at)) < 0.1)
    recall, precision = scores(without(specimen, gone, THICKNESS[thickness]), at[~gone])
    assert recall >= 0.95
    assert precision >= 0.98


def core_and_shell(shell: float, seed: int, *, square: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts of a particle in vacuum whose shell has that part of the intensity of its core; its columns, and their distance from the middle."""
    side, apart, width, turn = 360, 10.0, 2.2, 0.2 + 0.1 * seed
    along = np.array([np.cos(turn), np.sin(turn)])
    across = np.array([-np.sin(turn), np.cos(turn)])
    second = across if square else 0.5 * along + np.sqrt(0.75) * across
    number = np.stack(np.meshgrid(*[np.arange(-40, 41)] * 2), -1).reshape(-1, 2)
    at = apart * number @ np.stack([along, second]) + side / 2
    radius = np.hypot(*(at - side / 2).T)
    at, radius = at[radius < 150], radius[radius < 150]
    pixel = np.arange(side)
    rows, cols = (np.exp(-((pixel - one[:, None]) ** 2) / (2 * width**2)) for one in at.T)
    height = np.where(radius < 80, 1.0, shell)
    mean = 0.05 + np.einsum("n,ni,nj->ij", height, rows, cols)
    return np.random.default_rng(seed).poisson(6 * mean).astype(np.float32), at, radius


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("shell", [0.25, 0.4])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_shell_of_a_particle_is_found_beside_a_brighter_core(
    shell: float, seed: int, square: bool
) -> None:
    pixels, truth, radius = core_and_shell(shell, seed, square=square)
    found = np.asarray(tm.find_columns(pixels).positions)
    hit = cKDTree(found).query(truth)[0] < 3
    assert hit[radius < 75].mean() >= 0.99
    assert hit[(radius > 85) & (radius < 140)].mean() >= 0.96
    assert (cKDTree(truth).query(found)[0] < 3).mean() >= 0.97
