"""Columns that only the mean cell of the crystal around them shows, and what must stay empty."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.columns._mean_cell import cells_of, nearest_sites
from torchmotif.columns.model import Cell, ImageModel
from torchmotif.columns.pixels import levels
from torchmotif.datasets.mx2 import LATTICE_NM

SIDE = 320


def drawn(specimen: tm.datasets.Specimen, dose: float = 1.0, seed: int = 1) -> tm.Micrograph:
    return specimen.draw(dose, torch.Generator().manual_seed(seed))


def recall(columns: tm.Columns, specimen: tm.datasets.Specimen, *kinds: str) -> float:
    at, which = np.asarray(specimen.truth.positions), np.asarray(specimen.truth.kinds).astype(str)
    last = np.array(specimen.shape) - 21
    inner = ((at > 20) & (at < last)).all(axis=1) & np.isin(which, kinds)
    return float((cKDTree(np.asarray(columns.positions)).query(at[inner])[0] < 3.5).mean())


def false(columns: tm.Columns, specimen: tm.datasets.Specimen) -> int:
    """Columns away from all atoms."""
    at = np.asarray(specimen.truth.positions)
    atoms = at[[not (kind.startswith("V_") and kind.endswith("2")) for kind in specimen.truth.kinds.tolist()]]
    found = np.asarray(columns.positions)
    found = found[((found > 20) & (found < np.array(specimen.shape) - 21)).all(axis=1)]
    return int((cKDTree(atoms).query(found)[0] > 3.5).sum())


@pytest.mark.parametrize(("metal", "probe"), [("W", 0.045), ("Mo", 0.06)])
@pytest.mark.parametrize("dose", [1.0, 1 / 20])
def test_sulphur_beside_bright_metal_is_found(metal: str, probe: float, dose: float) -> None:
    specimen = tm.datasets.mx2(
        metal, "S", (SIDE, SIDE), vacancy_rate=0.05, probe=tm.datasets.GaussianProbe(probe), random_state=2
    )
    columns = tm.find_columns(drawn(specimen, dose))
    assert recall(columns, specimen, metal) >= 0.99
    assert recall(columns, specimen, "S2", "V_S") >= 0.98
    assert false(columns, specimen) <= 3
    assert columns.spacing == pytest.approx(0.3153 / 0.015 / math.sqrt(3), rel=0.04)
    assert columns.is_predicted.any()


def test_oxygen_of_a_perovskite_is_found() -> None:
    specimen = tm.datasets.perovskite((SIDE, SIDE))
    columns = tm.find_columns(drawn(specimen, 1 / 5))
    assert recall(columns, specimen, "O") >= 0.98
    assert recall(columns, specimen, "Sr", "Ti", "Nb") >= 0.99
    assert false(columns, specimen) == 0


@pytest.mark.parametrize("a_site", ["Sr", "La", "Ba"])
def test_a_cell_of_whole_pixels_along_their_rows_shows_faint_columns(a_site: str) -> None:
    # Its pixels lie in few places of the cell: 26.03 px a side.
    specimen = tm.datasets.perovskite((420, 420), a_site=a_site, rotation_rad=0.0)
    columns = tm.find_columns(drawn(specimen, 1 / 10, seed=7001))
    assert recall(columns, specimen, "O") >= 0.98
    assert false(columns, specimen) <= 3


@pytest.mark.parametrize("seed", [11, 12])
def test_a_cell_of_about_whole_pixels_is_no_reason_to_have_none(seed: int) -> None:
    specimen = tm.datasets.rocksalt(shape=(420, 420))
    columns = tm.find_columns(drawn(specimen, 1 / 20, seed=seed))
    assert recall(columns, specimen, "Mg", "O") >= 0.98
    assert false(columns, specimen) <= 3


@pytest.mark.parametrize("pixel_nm", [0.015, 0.022])
@pytest.mark.parametrize("dose", [1.0, 1 / 10])
def test_two_domains_on_one_lattice_keep_the_oxygen_of_each(pixel_nm: float, dose: float) -> None:
    specimen = tm.datasets.polar_perovskite((420, 420), pixel_nm, rotation_rad=0.0)
    columns = tm.find_columns(drawn(specimen, dose, seed=7001))
    assert recall(columns, specimen, "O") >= 0.97
    assert recall(columns, specimen, "Pb", "Ti") >= 0.99
    # Beside the wall, at the places of the other domain.
    assert false(columns, specimen) <= 0.015 * len(columns)


@pytest.mark.parametrize("seed", [7001, 7002])
def test_the_mean_of_two_domains_is_no_cell_of_its_own(seed: int) -> None:
    # Oxygen is displaced by an eighth of the cell: beside the wall the mean of both sides has none.
    specimen = tm.datasets.polar_perovskite((512, 512), displacement_pm=20.0)
    columns = tm.find_columns(drawn(specimen, seed=seed))
    assert recall(columns, specimen, "O") >= 0.97
    assert recall(columns, specimen, "Pb", "Ti") >= 0.99
    assert false(columns, specimen) <= 0.015 * len(columns)


# Lattices that differ by 0.05 are told apart in blocks of 380 px and more.
@pytest.mark.parametrize(
    ("twist", "side", "dose"), [(0.05, 512, 1.0), (0.1, 320, 1.0), (0.1, 320, 1 / 50), (0.15, 320, 1.0)]
)
def test_each_of_two_layers_turned_by_little_has_a_mean_cell(twist: float, side: int, dose: float) -> None:
    specimen = tm.datasets.twisted_bilayer_mos2(twist, (side, side))
    columns = tm.find_columns(drawn(specimen, dose, seed=1))
    at, kinds = specimen.truth.positions.numpy(), np.asarray(specimen.truth.kinds)
    # What is nearer to another column than a width is one with it.
    apart = cKDTree(at).query(at, 2)[0][:, 1] > max(columns.width)
    inner = ((at > 16) & (at < side - 17)).all(1)
    near = cKDTree(columns.positions).query(at)[0] < 2
    for kind in ("Mo", "S2"):
        assert near[apart & inner & (kinds == kind)].mean() >= 0.97
    assert (cKDTree(at).query(columns.positions)[0] > 3).mean() < 0.02


def test_layers_that_have_relaxed_have_no_mean_cells() -> None:
    # Columns that were held on rigid lattices would be 4 px off.
    specimen = tm.datasets.twisted_bilayer_mos2(0.1, (512, 512), relaxation=0.8)
    columns = tm.find_columns(drawn(specimen, 1 / 20, seed=1))
    assert not columns.is_fixed.any()
    away = cKDTree(specimen.truth.positions.numpy()).query(columns.positions)[0]
    assert (away > 3).mean() < 0.03


def test_few_electrons_show_a_lattice_where_they_show_no_column() -> None:
    specimen = tm.datasets.mose2((SIDE, SIDE), probe_sigma_nm=0.05)
    scan = drawn(specimen, 1 / 100)
    guided, blind = tm.find_columns(scan), tm.find_columns(scan, guided=False)
    assert recall(guided, specimen, "Mo") >= 0.97
    assert recall(guided, specimen, "Se2") >= 0.98
    assert false(guided, specimen) <= 3
    assert recall(blind, specimen, "Mo") < 0.5
    assert guided.spacing == pytest.approx(0.3289 / 0.015 / math.sqrt(3), rel=0.04)


def test_vacancies_and_holes_stay_empty() -> None:
    specimen = tm.datasets.mx2(
        "W", "S", (SIDE, SIDE), divacancy_rate=0.05, holes=[(170, 150, 50)], random_state=3
    )
    columns = tm.find_columns(drawn(specimen))
    assert recall(columns, specimen, "W", "S2") >= 0.99
    assert false(columns, specimen) == 0
    away = np.linalg.norm(columns.positions.numpy() - [170, 150], axis=1)
    assert away.min() > 46


def test_double_vacancies_at_a_tenth_of_the_dose_stay_empty() -> None:
    specimen = tm.datasets.mx2(
        "Mo", "S", (SIDE, SIDE), vacancy_rate=0.03, divacancy_rate=0.06, background=0.2, random_state=0
    )
    columns = tm.find_columns(drawn(specimen, 1 / 10))
    assert recall(columns, specimen, "Mo", "S2") >= 0.99
    assert recall(columns, specimen, "V_S") >= 0.9
    assert false(columns, specimen) <= 2  # of 17


@pytest.mark.parametrize("grains", [{"grains": 4}, {"grains": 2, "boundary": "mirror"}])
@pytest.mark.parametrize(("metal", "chalcogen", "dose"), [("W", "S", 1 / 10), ("Mo", "Se", 1 / 50)])
def test_grains_are_followed_to_their_boundaries(
    grains: dict[str, Any], metal: str, chalcogen: str, dose: float
) -> None:
    specimen = tm.datasets.mx2(metal, chalcogen, (420, 420), background=0.2, random_state=0, **grains)
    columns = tm.find_columns(drawn(specimen, dose))
    assert recall(columns, specimen, metal, chalcogen + "2") >= 0.97
    assert false(columns, specimen) <= 0.03 * len(columns)
    constant = LATTICE_NM[metal + chalcogen + "2"] / 0.015
    assert columns.spacing == pytest.approx(constant / math.sqrt(3), rel=0.06)


@pytest.mark.parametrize("dose", [1.0, 1 / 10, 1 / 50])
@pytest.mark.parametrize("angle", [0.052, 0.26])
def test_nothing_is_invented_where_two_layers_lie_on_each_other(angle: float, dose: float) -> None:
    specimen = tm.datasets.twisted_bilayer_mos2(angle, (420, 420), 0.015, background=0.2)
    columns = tm.find_columns(drawn(specimen, dose))
    # Without guidance as many are none: maxima between two columns of different layers.
    assert false(columns, specimen) <= 0.05 * len(columns)


def test_strain_is_followed() -> None:
    def displacement(at: torch.Tensor) -> torch.Tensor:
        return torch.stack([0.025 / SIDE * (at[:, 0] - SIDE / 2) ** 2, 0 * at[:, 0]], dim=1)

    specimen = tm.datasets.mx2("W", "S", (SIDE, SIDE), displacement=displacement, random_state=4)
    columns = tm.find_columns(drawn(specimen, 1 / 4))
    assert recall(columns, specimen, "W", "S2") >= 0.98
    assert false(columns, specimen) <= 2


@pytest.mark.parametrize("seed", [0, 1])
def test_nothing_is_predicted_where_nothing_is_hidden(seed: int) -> None:
    columns = tm.find_columns(drawn(tm.datasets.mose2((SIDE, SIDE), vacancy_rate=0.0), 1.0, seed))
    assert len(columns) > 480
    assert not columns.is_predicted.any()


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("correlated", [0.0, 3.0])
def test_noise_and_amorphous_images_have_no_mean_cell(seed: int, correlated: float) -> None:
    image = np.random.default_rng(seed).poisson(5.0, (SIDE, SIDE)).astype(np.float32)
    image = gaussian_filter(image, correlated) if correlated else image
    tiles = levels(torch.from_numpy(image)[None], axes=(1.0, 1.0), limit=None, dark=False)
    assert cells_of(tiles.normalised(torch.from_numpy(image)[None]), 12.0) == ()


def test_guidance_can_be_left_out() -> None:
    specimen = tm.datasets.mx2("W", "S", (SIDE, SIDE), random_state=2)
    columns = tm.find_columns(drawn(specimen), guided=False)
    assert recall(columns, specimen, "W") == 1
    assert recall(columns, specimen, "S2") == 0
    assert not columns.is_predicted.any()


def test_a_mean_cell_outlives_json() -> None:
    cell = Cell(((0.05, 0.0), (0.0, 0.05)), 40.0, ((0.0, 0.0), (0.5, 0.5)), (3.0, 1.0), 3.0)
    model = ImageModel(14.1, 1.0, 2.0, (0.0, 9.0), None, False, (1.0, 1.0), cells=(cell,))
    again = ImageModel.from_dict(model.as_dict())
    assert again == model
    # As written before cells had an ellipse, circles, and before slopes and drifting hum were known.
    older = model.as_dict()
    del older["cells"][0]["ellipse"], older["slopes"], older["drifts"]
    assert ImageModel.from_dict(older) == model
    assert nearest_sites(cell, (1.0, 1.0)) == pytest.approx(20 / math.sqrt(2))


def test_an_image_as_a_field_gives_the_same_columns() -> None:
    scan = drawn(tm.datasets.mx2("W", "S", (SIDE, SIDE), random_state=2))
    result = tm.analyze(scan, progress=False)
    found = tm.find_columns(scan)
    np.testing.assert_array_equal(result.columns.positions, found.positions)
    np.testing.assert_array_equal(result.columns.is_predicted, found.is_predicted)
    alone = tm.analyze(scan, guided=False, progress=False)
    assert len(alone.columns) < 0.6 * len(result.columns)


CUT_OFF = {
    "square": lambda: tm.datasets.square((256, 256)),
    "honeycomb": lambda: tm.datasets.mose2((256, 256)),
    "perovskite": lambda: tm.datasets.perovskite((256, 256)),
}


@pytest.mark.parametrize("dose", [0.3, 0.03])
@pytest.mark.parametrize("kind", CUT_OFF)
def test_columns_of_which_the_border_cuts_off_a_part_keep_their_places(kind: str, dose: float) -> None:
    specimen = CUT_OFF[kind]()
    truth = np.asarray(specimen.truth.positions)
    near = 0.25 * np.median(cKDTree(truth).query(truth, k=2)[0][:, 1])
    last = np.array(specimen.shape) - 1
    inside = np.minimum(truth, last - truth).min(1)
    cut = truth[(inside > -0.5) & (inside < 4)]
    images = [drawn(specimen, dose, seed) for seed in (0, 1)]
    found = [np.asarray(tm.find_columns(image).positions) for image in images]
    away = np.concatenate([cKDTree(one).query(cut)[0] for one in found])
    assert (away < near).mean() >= 0.95
    # Those nearer to it may be columns beyond, which the truth does not hold.
    depth = [np.minimum(one, last - one).min(1) for one in found]
    at_border = [one[(deep > 0.5) & (deep < 4)] for one, deep in zip(found, depth, strict=True)]
    false = np.concatenate([cKDTree(truth).query(one)[0] for one in at_border])
    assert (false < near).mean() >= 0.95
