"""Columns beside steps of the background: light ones, rims, and what the steps leave."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from probes import STEPPED, drawn
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.columns.calibrate import calibrate
from torchmotif.columns.tiled import columns_of_tiles
from torchmotif.datasets import (
    Specimen,
    mose2,
    perovskite,
    polar_perovskite,
    rocksalt,
    square,
    with_edge,
    with_patch,
)


def recall_and_precision(specimen: Specimen, pixels: np.ndarray, border: float = 4.0) -> tuple[float, float]:
    truth = np.asarray(specimen.truth.positions)
    near = 0.25 * np.median(cKDTree(truth).query(truth, k=2)[0][:, 1])
    inner = truth[((truth >= border) & (truth <= np.array(pixels.shape) - 1 - border)).all(axis=1)]
    found = tm.find_columns(pixels).positions
    hit, true = cKDTree(found).query(inner)[0] < near, cKDTree(truth).query(found)[0] < near
    return float(hit.mean()), float(true.mean())


@pytest.mark.parametrize(("element", "axis"), [("Au", "001"), ("Pt", "110")])
@pytest.mark.parametrize("dose", [0.3, 1.0])
def test_the_rim_of_a_particle_that_ends_with_a_patch_is_found(element: str, axis: str, dose: float) -> None:
    particle = tm.datasets.nanoparticle(
        (256, 256), 0.024, element=element, axis=axis, rotation_rad=0.4, random_state=3
    )
    radius = np.linalg.norm(np.asarray(particle.truth.positions) - 127.5, axis=1).max()
    high = 0.3 * float(np.ptp(np.asarray(particle.image)))
    specimen = with_patch(particle, high, radius=(radius - 2) / 256, edge_px=6.0)
    pixels = specimen.draw(dose, torch.Generator().manual_seed(1)).data
    assert recall_and_precision(specimen, np.asarray(pixels), border=0.0)[0] >= 0.98


@pytest.mark.parametrize("elements", [("Ga", "N"), ("In", "P")])
@pytest.mark.parametrize("high", [2.0, 5.0])
def test_the_light_columns_of_dumbbells_beside_a_step(elements: tuple[str, str], high: float) -> None:
    dumbbells = tm.datasets.dumbbells((256, 256), 0.011, elements=elements, rotation_rad=0.5)
    high *= float(np.ptp(np.asarray(dumbbells.image)))
    specimen = with_edge(dumbbells, high, at=0.5, angle_rad=0.2, edge_px=25.0, crystal="everywhere")
    pixels = specimen.draw(10.0, torch.Generator().manual_seed(1)).data
    recall, precision = recall_and_precision(specimen, np.asarray(pixels))
    assert recall >= 0.97
    assert precision >= 0.97


@pytest.mark.parametrize(("pixel", "high"), [(0.01, 3.0), (0.012, 5.0)])
def test_dumbbells_under_a_patch_have_a_mean_cell_of_two_columns(pixel: float, high: float) -> None:
    dumbbells = tm.datasets.dumbbells((320, 320), pixel, elements=("Si", "Si"), rotation_rad=0.2)
    high *= float(np.ptp(np.asarray(dumbbells.image)))
    specimen = with_patch(dumbbells, high, radius=0.25, edge_px=12.0)
    recall, precision = recall_and_precision(specimen, drawn(specimen, 1).numpy())
    assert recall >= 0.97
    assert precision >= 0.97


@pytest.mark.parametrize("elements", [("Ga", "As"), ("Si", "Si")])
def test_what_is_taken_off_as_a_step_shows_no_columns_between_dumbbells(elements: tuple[str, str]) -> None:
    """It follows columns by a thirtieth of their height, which many electrons tell."""
    dumbbells = tm.datasets.dumbbells(
        (320, 320), 0.01, elements=elements, rotation_rad=0.42, electrons_per_pixel=500.0
    )
    specimen = with_edge(
        dumbbells, 3 * float(np.ptp(np.asarray(dumbbells.image))), edge_px=10.0, crystal="everywhere"
    )
    recall, precision = recall_and_precision(specimen, drawn(specimen).numpy())
    assert recall >= 0.97
    assert precision >= 0.97


LOW: dict[str, Callable[[], Specimen]] = {
    "WS2": lambda: tm.datasets.mx2("W", "S", (360, 360), 0.014, rotation_rad=0.3, electrons_per_pixel=50.0),
    "GaN": lambda: tm.datasets.dumbbells(
        (360, 360), 0.011, elements=("Ga", "N"), rotation_rad=0.5, electrons_per_pixel=50.0
    ),
    "Si": lambda: tm.datasets.dumbbells(
        (360, 360), 0.011, elements=("Si", "Si"), rotation_rad=0.3, electrons_per_pixel=50.0
    ),
}


@pytest.mark.parametrize("high", [0.5, 1.0])
@pytest.mark.parametrize("kind", LOW)
def test_what_a_step_as_low_as_columns_leaves_is_no_column(kind: str, high: float) -> None:
    specimen = LOW[kind]()
    high *= float(np.ptp(np.asarray(specimen.image)))
    specimen = STEPPED["substrate"](specimen, high, 40.0)
    recall, precision = recall_and_precision(specimen, drawn(specimen).numpy())
    assert recall >= 0.97
    assert precision >= 0.97


@pytest.mark.parametrize("wide", [1.0, 40.0])
def test_light_columns_whose_noise_a_step_makes_high(wide: float) -> None:
    specimen = LOW["WS2"]()
    specimen = STEPPED["substrate"](specimen, 10 * float(np.ptp(np.asarray(specimen.image))), wide)
    recall, precision = recall_and_precision(specimen, drawn(specimen).numpy())
    assert recall >= 0.97
    assert precision >= 0.97


LIGHT: dict[str, Callable[[], Specimen]] = {
    "WS2": lambda: tm.datasets.mx2("W", "S", (320, 320), 0.014, rotation_rad=0.3, electrons_per_pixel=50.0),
    "SrTiO3": lambda: perovskite((320, 320), rotation_rad=0.2, electrons_per_pixel=50.0),
    "PbTiO3": lambda: polar_perovskite((320, 320), rotation_rad=0.2, electrons_per_pixel=50.0),
}


@pytest.mark.parametrize(
    ("kind", "stepped_as", "high", "wide"),
    [
        # What the step left looked like a superlattice with columns in hollows, whose crystal was then refused.
        ("WS2", "substrate", 1.0, 1.0),
        # Noise of the bright side hid sulphur and oxygen in the mean cell of all pixels.
        ("WS2", "substrate", 30.0, 1.0),
        ("SrTiO3", "substrate", 10.0, 40.0),
        ("PbTiO3", "substrate", 3.0, 40.0),
        # On the dark side nothing steps, and oxygen has places of its own.
        ("PbTiO3", "patch", 10.0, 3.0),
        ("PbTiO3", "patch", 10.0, 40.0),
    ],
)
def test_light_columns_beside_a_step_with_much_noise_on_its_bright_side(
    kind: str, stepped_as: str, high: float, wide: float
) -> None:
    specimen = LIGHT[kind]()
    specimen = STEPPED[stepped_as](specimen, high * float(np.ptp(np.asarray(specimen.image))), wide)
    recall, precision = recall_and_precision(specimen, drawn(specimen).numpy())
    assert recall >= 0.97
    assert precision >= 0.97


@pytest.mark.parametrize("wide", [20.0, 30.0])
def test_what_a_step_leaves_between_rows_that_are_far_apart_is_no_column(wide: float) -> None:
    rows = tm.datasets.rectangular((400, 400), 0.0134, ratio=2.6, rotation_rad=0.47)
    specimen = with_patch(rows, 5 * float(np.ptp(np.asarray(rows.image))), radius=0.25, edge_px=wide)
    pixels = specimen.draw(0.1, torch.Generator().manual_seed(0)).data
    recall, precision = recall_and_precision(specimen, np.asarray(pixels))
    assert recall >= 0.97
    assert precision >= 0.97


@pytest.mark.parametrize("lattice", [square, mose2])
@pytest.mark.parametrize(("kind", "high"), [("patch", 10.0), ("patch", 30.0), ("substrate", 30.0)])
def test_what_a_sharp_step_leaves_in_hollows_is_no_column(
    lattice: Callable[..., Specimen], kind: str, high: float
) -> None:
    specimen = lattice((320, 320), electrons_per_pixel=50.0)
    specimen = STEPPED[kind](specimen, high * float(np.ptp(np.asarray(specimen.image))), 1.0)
    recall, precision = recall_and_precision(specimen, drawn(specimen).numpy())
    assert recall >= 0.97
    assert precision >= 0.97


def test_columns_of_tiles_with_and_without_steps_do_not_depend_on_each_other() -> None:
    """Of two tiles one has a step lower than those that are taken off without doubt: its false columns go with that."""
    flat = LOW["Si"]()
    low = STEPPED["substrate"](flat, 0.5 * float(np.ptp(np.asarray(flat.image))), 40.0)
    images = torch.stack([drawn(one) for one in (flat, low)])
    model = calibrate(images, guided=True)
    both = columns_of_tiles(images, model)
    for number in (0, 1):
        mine = both["tile"] == number
        alone = columns_of_tiles(images[number : number + 1], model)
        assert int(mine.sum()) == len(alone["tile"])
        np.testing.assert_allclose(both["positions"][mine], alone["positions"], atol=1e-3)
        np.testing.assert_allclose(both["intensities"][mine], alone["intensities"], rtol=1e-3)
    truth = cKDTree(np.asarray(low.truth.positions))
    assert (truth.query(both["positions"][both["tile"] == 1])[0] < 3.0).mean() >= 0.97


def sloping(specimen: Specimen, dose: float, high: float, *, corner: bool) -> np.ndarray:
    """Pixels on a background that rises along the columns, or to a corner, to so many times their range."""
    pixels = np.asarray(specimen.draw(dose, torch.Generator().manual_seed(1)).data, float)
    lower, upper = np.percentile(pixels, [5, 95])
    row, col = np.mgrid[: pixels.shape[0], : pixels.shape[1]] / (len(pixels) - 1)
    rise = high * (upper - lower) * (row * col if corner else col)
    return pixels + np.random.default_rng(1).poisson(rise)


@pytest.mark.parametrize(("a_site", "high"), [("Sr", 8.0), ("Sr", 15.0), ("Ba", 8.0)])
def test_faint_columns_on_a_wedge_to_a_corner(a_site: str, high: float) -> None:
    specimen = perovskite((384, 384), 0.015, a_site=a_site)
    recall, precision = recall_and_precision(specimen, sloping(specimen, 1.0, high, corner=True))
    assert recall >= 0.97
    assert precision >= 0.97


@pytest.mark.parametrize("turn", [0.0, 0.3])
def test_columns_that_the_noise_of_a_slope_hides_are_held(turn: float) -> None:
    specimen = rocksalt("Mg", "O", (384, 384), 0.018, rotation_rad=turn)
    pixels = sloping(specimen, 0.3, 8.0, corner=False)
    recall, precision = recall_and_precision(specimen, pixels)
    assert recall >= 0.985
    assert precision >= 0.985
    columns = tm.find_columns(pixels)
    held, col = np.asarray(columns.is_fixed), np.asarray(columns.positions)[:, 1]
    assert held[col > 288].mean() > held[col < 96].mean() + 0.2


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("wide", [3.0, 40.0])
def test_faint_columns_of_a_domain_that_only_noise_shows(wide: float, seed: int) -> None:
    polar = polar_perovskite((320, 320), rotation_rad=0.2, electrons_per_pixel=50.0)
    quiet = polar.draw(1e4, torch.Generator().manual_seed(0)).data / 1e4
    # Of its two domains one lies on the bright side, where oxygen has the intensity of 1.5 standard deviations.
    specimen = with_edge(polar, 10 * float(quiet.max() - quiet.min()), edge_px=wide, crystal="everywhere")
    recall, precision = recall_and_precision(specimen, drawn(specimen, seed).numpy())
    assert recall >= 0.95
    assert precision >= 0.95


@pytest.mark.parametrize(("element", "pixel", "turn"), [("Au", 0.02, 0.4), ("Pd", 0.019, 0.78)])
def test_what_a_step_leaves_beside_a_particle_is_no_column(element: str, pixel: float, turn: float) -> None:
    particle = tm.datasets.nanoparticle((384, 384), pixel, element=element, rotation_rad=turn)
    high = 8 * float(np.ptp(np.asarray(particle.image)))
    specimen = with_edge(particle, high, at=0.55, edge_px=20.0, crystal="everywhere", angle_rad=0.0)
    pixels = specimen.draw(0.1, torch.Generator().manual_seed(3)).data
    assert recall_and_precision(specimen, np.asarray(pixels), border=0.0)[1] >= 0.98
