"""Columns that the mean cell of a part of an image shows and that were not found are said, and those that were found are not."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.columns._rest import Rest, rest_of, together
from torchmotif.columns.calibrate import calibrate

SHAPE = (320, 320)
CRYSTALS: dict[str, tuple[Callable[[], tm.datasets.Specimen], float]] = {
    "rock salt": (lambda: tm.datasets.rocksalt("Ni", "O", SHAPE, rotation_rad=0.3), 0.3),
    "perovskite": (lambda: tm.datasets.perovskite(SHAPE, rotation_rad=0.3), 0.2),
    "PbTiO3": (lambda: tm.datasets.polar_perovskite(SHAPE, rotation_rad=0.3), 0.15),
    "WS2": (lambda: tm.datasets.mx2("W", "S", SHAPE, 0.014, vacancy_rate=0.1, rotation_rad=0.3), 0.3),
}


def left(name: str, lost: Callable[[np.ndarray], np.ndarray], dose: float = 10.0) -> Rest:
    """What is left where light columns at some places are lost, and the mean cells do not have them."""
    make, light = CRYSTALS[name]
    specimen = make()
    pixels = specimen.draw(dose, torch.Generator().manual_seed(1)).data
    found = tm.find_columns(pixels)
    model = calibrate(pixels[None], guided=True)
    assert model.cells
    cells = []
    for cell in model.cells:
        kept = [n for n, one in enumerate(cell.intensities) if one > light * max(cell.intensities)]
        sites, bright = (tuple(one[n] for n in kept) for one in (cell.sites, cell.intensities))
        cells.append(replace(cell, sites=sites, intensities=bright))
    at = np.asarray(found.positions)
    intensities = np.asarray(found.intensities) / model.scale
    faint = intensities < light * np.quantile(intensities, 0.98)
    assert faint.mean() > 0.3
    kept_ = torch.from_numpy(~(faint & lost(at)))
    tiles = model.normalised(torch.as_tensor(pixels)[None])
    return rest_of(
        tiles,
        replace(model, cells=tuple(cells)),
        torch.from_numpy(at)[kept_],
        torch.from_numpy(intensities).float()[kept_],
    )


@pytest.mark.parametrize("name", CRYSTALS)
def test_light_columns_that_a_part_lacks_are_said(name: str) -> None:
    rest = left(name, lambda at: at[:, 0] > 160)
    assert rest.hidden.places >= 30
    assert rest.hidden.part is not None
    assert rest.hidden.part[0] == 160
    assert rest.moved(100, 50).hidden.part == tuple(
        a + b for a, b in zip(rest.hidden.part, (100, 50, 100, 50), strict=True)
    )
    assert together([Rest(), rest]).hidden == rest.hidden


@pytest.mark.parametrize("name", CRYSTALS)
def test_light_columns_that_were_found_are_not_hidden_though_the_cell_lacks_them(name: str) -> None:
    assert left(name, lambda at: np.zeros(len(at), bool)).hidden.places == 0


@pytest.mark.parametrize("axis", [0, 1])
def test_what_is_there_in_a_part_alone_is_not_hidden_elsewhere(axis: int) -> None:
    """Sulphur is lacking in more and more places: no other part shows it."""
    full, poor = (
        np.asarray(
            tm.datasets.mx2("Mo", "S", SHAPE, 0.014, vacancy_rate=rate, rotation_rad=0.3).image.data, float
        )
        for rate in (0.0, 0.5)
    )
    share = np.expand_dims(np.linspace(0, 1, 320), 1 - axis)
    pixels = np.random.default_rng(0).poisson(full + share * (poor - full)).astype(np.float32)
    assert not any("were not found" in said for said in tm.analyze(pixels, progress=False).warnings)


@pytest.mark.parametrize("rotation", [0.0, 0.4])
def test_few_cut_off_tops_cost_no_oxygen(rotation: float) -> None:
    specimen = tm.datasets.polar_perovskite((384, 384), rotation_rad=rotation)
    pixels = specimen.draw(1.0, torch.Generator().manual_seed(43)).numpy()
    cut = np.clip(pixels, *np.percentile(pixels, [0.5, 99.5]))
    found = np.asarray(tm.find_columns(cut).positions)
    truth = np.asarray(specimen.truth.positions)
    inner = ((truth > 10) & (truth < 373)).all(1)
    assert (cKDTree(found).query(truth[inner])[0] < 3).mean() > 0.98
    assert (cKDTree(truth).query(found)[0] < 3).mean() > 0.98


@pytest.mark.parametrize("seed", [0, 1])
def test_hollows_beside_a_step_are_no_columns(seed: int) -> None:
    """Beside a slope of thirty pixels and 17 times the contrast the rest of it makes a cell of its own, with columns in the hollows."""
    specimen = tm.datasets.mx2(
        "Mo", "S", (448, 448), 0.014, vacancy_rate=0.04, rotation_rad=0.513, random_state=78
    )
    pixels = specimen.draw(10.0, torch.Generator().manual_seed(seed)).numpy()
    low, high = np.percentile(pixels, [5, 95])
    risen = 1 / (1 + np.exp(-(np.arange(448) - 147.6) / 7.84))
    step = np.random.default_rng(seed).poisson(17.4 * (high - low) * np.tile(risen, (448, 1)))
    found = np.asarray(tm.find_columns(pixels + step.astype(np.float32)).positions)
    truth = np.asarray(specimen.truth.positions)
    assert (cKDTree(found).query(truth)[0] < 4).mean() > 0.98
    assert (cKDTree(truth).query(found)[0] < 4).mean() > 0.98
