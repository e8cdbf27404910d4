"""Light columns that alternate between the cells of heavy ones: rutile along [001], and perovskites whose octahedra are tilted."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from probes import recall_and_precision
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.columns._superlattice import halved
from torchmotif.columns.calibrate import calibrate, without_empty
from torchmotif.columns.model import Cell, ImageModel, Pair
from torchmotif.datasets import Specimen, projection, with_edge, with_patch

SIDE = 360


def rutile(
    metal: str = "Ti", side_nm: float = 0.4594, oxygen: float = 0.305, *, shift: float = 0.0, **more: object
) -> Specimen:
    """MO2 along [001]: metal on a centred square, pairs of oxygen beside it that turn by a right angle from one to the next.

    Shifted by half a cell along both sides the metal is the same, and oxygen is not.
    """
    pairs = [(oxygen, oxygen), (-oxygen, -oxygen), (0.5 + oxygen, 0.5 - oxygen), (0.5 - oxygen, 0.5 + oxygen)]
    sites = [(metal, 0.0, 0.0), (metal, 0.5, 0.5), *(("O", row, col) for row, col in pairs)]
    columns = [(kind, (row + shift) % 1, (col + shift) % 1) for kind, row, col in sites]
    return projection(((side_nm, 0.0), (0.0, side_nm)), columns, (SIDE, SIDE), **more)  # type: ignore[arg-type]


def tilted(**more: object) -> Specimen:
    """SrTiO3 whose octahedra are rotated by 0.1 about the beam, alternately to either side: oxygen is off the middle between Ti by 0.02 nm, across it."""
    side, off = 0.3905 * math.sqrt(2), 0.02 / 0.3905 / 2
    oxygen = [(0.25, 0.25, 1, -1), (0.75, 0.75, -1, 1), (0.25, 0.75, 1, 1), (0.75, 0.25, -1, -1)]
    sites = [("Ti", 0.0, 0.0), ("Ti", 0.5, 0.5), ("Sr", 0.5, 0.0), ("Sr", 0.0, 0.5)]
    columns = [*sites, *(("O", row + off * up, col + off * across) for row, col, up, across in oxygen)]
    return projection(((side, 0.0), (0.0, side)), columns, (SIDE, SIDE), 0.014, **more)  # type: ignore[arg-type]


def wave(at: torch.Tensor) -> torch.Tensor:
    """A displacement that strains a crystal by up to 2 %."""
    turn = 2 * math.pi / 400
    return 1.2 * torch.stack([torch.sin(turn * at[:, 1]), torch.sin(turn * at[:, 0] + 1)], dim=1)


SPECIMENS: dict[str, Callable[[], Specimen]] = {
    "TiO2": rutile,
    "SnO2": lambda: rutile("Sn", 0.4737, 0.307, rotation_rad=0.3),
    "TiO2, strained": lambda: rutile(displacement=wave),
    "SnO2 along the rows": lambda: rutile("Sn", 0.4737, 0.307, rotation_rad=0.0),
    "tilted octahedra": lambda: tilted(rotation_rad=0.4),
}


def drawn(specimen: Specimen, dose: float, seed: int = 0) -> np.ndarray:
    """Counts."""
    return specimen.draw(dose, torch.Generator().manual_seed(seed)).numpy()


@pytest.mark.parametrize("dose", [1.0, 0.04])
@pytest.mark.parametrize("kind", SPECIMENS)
def test_columns_that_alternate_between_cells_are_found(kind: str, dose: float) -> None:
    specimen = SPECIMENS[kind]()
    positions = tm.find_columns(drawn(specimen, dose)).positions
    recall, precision = recall_and_precision(
        np.asarray(positions), np.asarray(specimen.truth.positions), SIDE, border=1.0
    )
    assert min(recall, precision) >= 0.97


RUTILES = {"TiO2": ("Ti", 0.4594, 0.1), "SnO2": ("Sn", 0.4737, 0.3), "RuO2": ("Ru", 0.4492, 0.6)}


@pytest.mark.parametrize(
    ("kind", "high", "wide", "crystal", "seed"),
    [
        ("TiO2", 1.0, 40.0, "everywhere", 0),
        ("SnO2", 0.5, 40.0, "everywhere", 0),
        ("TiO2", 10.0, 1.0, "everywhere", 0),
        ("TiO2", 10.0, 40.0, "everywhere", 0),
        ("TiO2", 3.0, 40.0, "everywhere", 0),
        # Streaks of the step in the spectra made a lattice thrice as large of that of tin.
        ("SnO2", 1.0, 1.0, "everywhere", 0),
        ("SnO2", 10.0, 40.0, "everywhere", 0),
        # What the step leaves outweighed oxygen in the mean cell twice as large.
        ("SnO2", 10.0, 3.0, "everywhere", 0),
        ("RuO2", 10.0, 40.0, "everywhere", 0),
        ("RuO2", 10.0, 10.0, "within", 0),
        ("RuO2", 10.0, 10.0, "within", 1),
        ("RuO2", 10.0, 10.0, "within", 2),
    ],
)
def test_columns_that_alternate_between_cells_are_found_beside_a_step(
    kind: str, high: float, wide: float, crystal: str, seed: int
) -> None:
    metal, side_nm, turn = RUTILES[kind]
    specimen = rutile(metal, side_nm, 0.306, rotation_rad=turn, electrons_per_pixel=50.0)
    high *= float(np.ptp(np.asarray(specimen.image)))
    specimen = with_edge(specimen, high, edge_px=wide, crystal=crystal)
    positions = tm.find_columns(drawn(specimen, 1.0, seed)).positions
    recall, precision = recall_and_precision(
        np.asarray(positions), np.asarray(specimen.truth.positions), SIDE, border=0.3
    )
    assert min(recall, precision) >= 0.97


def test_columns_that_alternate_between_cells_are_found_under_a_patch() -> None:
    specimen = rutile(electrons_per_pixel=50.0)
    specimen = with_patch(specimen, 10 * float(np.ptp(np.asarray(specimen.image))), edge_px=10.0)
    positions = tm.find_columns(drawn(specimen, 1.0)).positions
    recall, precision = recall_and_precision(
        np.asarray(positions), np.asarray(specimen.truth.positions), SIDE, border=0.3
    )
    assert min(recall, precision) >= 0.97


def test_each_side_of_an_antiphase_boundary_keeps_its_oxygen() -> None:
    sides = [rutile("Sn", 0.4737, 0.307, shift=shift, rotation_rad=0.2) for shift in (0.0, 0.5)]
    left, right = (drawn(one, 1.0) for one in sides)
    pixels = np.where(np.arange(SIDE) < SIDE // 2, left, right)
    positions = np.asarray(tm.find_columns(pixels).positions)
    inner = (positions > 15) & (positions < SIDE - 16)
    for sign, specimen in ((-1, sides[0]), (1, sides[1])):
        truth = np.asarray(specimen.truth.positions)
        truth = truth[((truth > 15) & (truth < SIDE - 16)).all(axis=1)]
        # Beside the boundary, within the windows in which the half of a cell is told, either may be taken.
        mine, found = (at[sign * (at[:, 1] - SIDE / 2) > 50] for at in (truth, positions[inner.all(axis=1)]))
        assert (np.asarray(cKDTree(positions).query(mine)[0]) < 2).mean() >= 0.97
        assert (np.asarray(cKDTree(truth).query(found)[0]) < 2).mean() >= 0.97


ORDERS = ((0.03, 0.01), (-0.01, 0.03))


def cell(sites: tuple[Pair, ...], intensities: tuple[float, ...], antiphase: Pair | None = None) -> Cell:
    return Cell(ORDERS, 40.0, sites, intensities, 3.0, antiphase=antiphase)


def test_empty_sites_go_alone_where_they_are_faint() -> None:
    plain = cell(((0.0, 0.0), (0.5, 0.5), (0.3, 0.1)), (30.0, 10.0, 1.0))
    assert without_empty((plain,), [False] * 3) == (plain,)
    (less,) = without_empty((plain,), [False, False, True])
    assert (less.sites, less.intensities) == (plain.sites[:2], (30.0, 10.0))
    assert without_empty((plain, plain), [False, True, False] + [False] * 3) == (plain,)
    assert without_empty((plain,), [True] * 3) == ()


def test_half_a_superlattice_cell_has_the_mean_of_both_halves() -> None:
    sites = ((0.0, 0.0), (0.5, 0.5), (0.2, 0.7), (0.3, 0.3))
    half = halved(cell(sites, (30.0, 32.0, 4.0, 1.0), (0.5, 0.5)))
    assert half.antiphase is None
    assert half.intensities == (31.0, 2.0)  # of the last there is less than a column has
    places = np.array(half.sites) @ np.linalg.inv(np.array(half.orders)).T
    truth = np.array(sites)[[0, 2]] @ np.linalg.inv(np.array(ORDERS)).T
    away = np.array(half.orders) @ (places - truth).T
    np.testing.assert_allclose(away, np.round(away), atol=1e-6)


def test_a_superlattice_with_empty_sites_stays_one_if_others_tell_its_halves() -> None:
    bright, light = ((0.0, 0.0), (0.5, 0.5)), ((0.2, 0.7), (0.3, 0.3))
    whole = cell((*bright, *light), (30.0, 30.0, 2.0, 1.0), (0.5, 0.5))
    (less,) = without_empty((whole,), [False, False, False, True])
    assert less == cell((*bright, light[0]), (30.0, 30.0, 2.0), (0.5, 0.5))
    (half,) = without_empty((whole,), [False, False, True, True])
    assert half.antiphase is None
    assert half.intensities == (30.0,)
    np.testing.assert_allclose(half.orders, whole.placing)
    (half,) = without_empty((whole,), [False, True, False, False])
    assert half.antiphase is None


def test_a_model_with_a_superlattice_is_the_same_after_it_was_written() -> None:
    model = calibrate(torch.as_tensor(drawn(rutile(), 1.0))[None], guided=True)
    assert [cell.antiphase for cell in model.cells] == [(0.5, 0.5)]
    assert ImageModel.from_dict(model.as_dict()) == model


PLAIN: dict[str, Callable[[], Specimen]] = {
    "perovskite": lambda: tm.datasets.perovskite((SIDE, SIDE)),
    "MoSe2": lambda: tm.datasets.mose2((SIDE, SIDE)),
    "rock salt": lambda: tm.datasets.rocksalt("Mg", "O", (SIDE, SIDE)),
    "square": lambda: tm.datasets.square((SIDE, SIDE), middle=0.3),
}


@pytest.mark.parametrize("dose", [1.0, 0.03])
@pytest.mark.parametrize("kind", PLAIN)
def test_crystals_without_a_superlattice_have_none(kind: str, dose: float) -> None:
    cells = calibrate(torch.as_tensor(drawn(PLAIN[kind](), dose))[None], guided=True).cells
    assert cells
    assert all(cell.antiphase is None for cell in cells)
