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
