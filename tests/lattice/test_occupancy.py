"""Sites: where they are, and how surely full, partly occupied or empty."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.columns import Columns
from torchmotif.columns.given import model_of
from torchmotif.errors import InputError
from torchmotif.lattice import SiteTable, find_sites, learn_states, occupancy_of


def drawn(n: int, shares: dict[float, float], error: float, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Intensities of counted electrons, their errors, and the true fractions."""
    rng = np.random.default_rng(seed)
    fraction = rng.choice(list(shares), n, p=list(shares.values()))
    electrons = 1 / error**2
    background = 0.5 * electrons
    counted = rng.poisson(electrons * fraction + background)
    variance = np.maximum(counted, 1.0)
    return (counted - background) / electrons, np.sqrt(variance) / electrons, fraction


def sites_at(
    specimen: Any, scan: tm.Micrograph, spacing: float, labels: np.ndarray, keep: np.ndarray
) -> tuple[SiteTable, np.ndarray]:
    """Sites of an image some of whose true positions are given as columns, and the truth of each site."""
    truth = np.asarray(specimen.truth.positions)
    within = ((truth > 0) & (truth < np.array(scan.shape) - 1)).all(1)
    given = truth[within & keep]
    columns = Columns(given, np.ones(len(given)), spacing, position_errors=np.full((len(given), 2), 0.1))
    pixels = torch.as_tensor(scan.numpy().astype(np.float32))
    model = model_of(pixels, spacing, (1.0, 1.0), dark=False)
    sites = find_sites(given, labels[within & keep], spacing, shape=scan.shape)
    table = occupancy_of(pixels, model, columns, sites)
    distance, nearest = cKDTree(truth).query(table.positions)
    kinds = np.asarray(specimen.truth.kinds).astype(str)
    return table, np.where(distance < spacing / 3, kinds[nearest], "none")


def f1(found: np.ndarray, true: np.ndarray) -> float:
    return 2 * (found & true).sum() / max(found.sum() + true.sum(), 1)


@settings(max_examples=8)
@given(error=st.floats(0.02, 0.2), share=st.floats(0.03, 0.2), seed=st.integers(0, 99))
def test_half_occupied_sites_are_found_where_the_noise_allows(error: float, share: float, seed: int) -> None:
    y, s, fraction = drawn(3000, {1.0: 1 - share, 0.5: share}, error, seed)
    states = learn_states(y, s)
    p = states.probabilities(y, s)
    assert sum(p.values()) == pytest.approx(1.0)
    assert states.kinds[0] == "full"
    # In 24 draws each of 18 errors and shares the number is off by 30 (error / 0.2)^3 at most, root mean square.
    assert p["partial"].sum() == pytest.approx((fraction == 0.5).sum(), abs=3 + 5 * 30 * (error / 0.2) ** 3)


@pytest.mark.parametrize("error", [0.08, 0.16, 0.22])
def test_probabilities_are_calibrated(error: float) -> None:
    y, s, fraction = drawn(20_000, {1.0: 0.9, 0.5: 0.07, 0.0: 0.03}, error)
    p = learn_states(y, s).probabilities(y, s)
    for kind, true in (("partial", fraction == 0.5), ("empty", fraction == 0.0)):
        for low in np.arange(0, 1, 0.1):
            here = (p[kind] >= low) & (p[kind] <= low + 0.1)
            if here.sum() >= 50:
                expected = p[kind][here].mean()
                sigma = np.sqrt(expected * (1 - expected) / here.sum())
                assert abs(true[here].mean() - expected) < 4 * sigma + 0.05, (kind, low)


@pytest.mark.parametrize("seed", range(20))
def test_full_sites_are_all_full(seed: int) -> None:
    y, s, _ = drawn(2000, {1.0: 1.0}, 0.15, seed)
    rng = np.random.default_rng(seed)
    p = learn_states(y + rng.normal(0, 0.05, len(y)), s).probabilities(y, s)
    assert p["empty"].max() < 0.5
    assert p["partial"].sum() < 10


def test_one_empty_site_is_enough() -> None:
    y, s, _ = drawn(1000, {1.0: 1.0}, 0.05)
    y[17], s[17] = 0.0, 0.035
    p = learn_states(y, s).probabilities(y, s)
    assert p["empty"][17] > 0.99
    assert (p["full"] > 0.99).sum() == 999


def test_scale_makes_no_difference() -> None:
    y, s, _ = drawn(2000, {1.0: 0.9, 0.5: 0.1}, 0.1)
    one, other = (learn_states(k * y, k * s).probabilities(k * y, k * s) for k in (1.0, 3e6))
    np.testing.assert_allclose(one["partial"], other["partial"], atol=1e-6)


def test_bad_intensities_are_named() -> None:
    with pytest.raises(InputError, match="of one length"):
        learn_states(np.ones(3), np.ones(4))
    with pytest.raises(InputError, match="finite and positive"):
        learn_states(np.ones(3), np.zeros(3))
    with pytest.raises(InputError, match="finite"):
        learn_states(np.array([1.0, np.nan]), np.ones(2))
    with pytest.raises(InputError, match="positive median"):
        learn_states(-np.ones(3), np.ones(3))


def mose2(dose: float, seed: int = 0, side: int = 420, **more: Any) -> tuple[Any, tm.Micrograph, np.ndarray]:
    """A specimen, an image of it, and the sublattice of every column."""
    options = {"vacancy_rate": 0.06, "divacancy_rate": 0.02} | more
    specimen = tm.datasets.mose2((side, side), 0.015, random_state=seed, **options)
    kinds = np.asarray(specimen.truth.kinds).astype(str)
    return specimen, specimen.draw(dose, torch.Generator().manual_seed(seed)), (kinds == "Mo").astype(int)


@pytest.mark.parametrize(
    ("dose", "partial", "empty"), [(1.0, 0.99, 0.99), (0.1, 0.94, 0.9), (0.02, 0.75, 0.85)]
)
def test_vacancies_of_one_atom_and_of_both_are_found(dose: float, partial: float, empty: float) -> None:
    specimen, scan, sublattice = mose2(dose)
    kinds = np.asarray(specimen.truth.kinds).astype(str)
    sites, truth = sites_at(specimen, scan, 12.66, sublattice, keep=kinds != "V_Se2")
    assert (sites.column[truth == "V_Se2"] == -1).all()
    assert f1(sites.states == "partial", truth == "V_Se") >= partial
    assert f1(sites.states == "empty", truth == "V_Se2") >= empty
    away = cKDTree(np.asarray(specimen.truth.positions)).query(sites.positions)[0]
    assert np.median(away) < 1.0
    assert (sites.position_errors > 0).all()


def test_a_perfect_crystal_has_no_empty_site() -> None:
    for seed in range(3):
        specimen, scan, sublattice = mose2(0.05, seed, 300, vacancy_rate=0.0, divacancy_rate=0.0)
        sites, _ = sites_at(specimen, scan, 12.66, sublattice, keep=np.ones(len(sublattice), bool))
        assert np.nanmax(sites.p_empty) < 0.5
        assert np.nanmean(sites.p_full) > 0.99


def test_the_inside_of_a_hole_is_no_site() -> None:
    specimen, scan, sublattice = mose2(1.0, side=420, holes=[(206, 206, 66)])
    kinds = np.asarray(specimen.truth.kinds).astype(str)
    sites, _ = sites_at(specimen, scan, 12.66, sublattice, keep=kinds != "V_Se2")
    from_centre = np.linalg.norm(sites.positions - 206, axis=1)
    assert not (sites.column[from_centre < 60] == -1).any()


def test_perovskite_sites_are_full() -> None:
    specimen = tm.datasets.perovskite((300, 300))
    kinds = np.asarray(specimen.truth.kinds).astype(str)
    order = {kind: number for number, kind in enumerate(np.unique(kinds))}
    spacing = float(np.median(cKDTree(specimen.truth.positions).query(specimen.truth.positions, k=[2])[0]))
    labels = np.array([order[kind] for kind in kinds])
    bright = ~np.char.startswith(kinds, "O")
    sites, _ = sites_at(specimen, specimen.draw(1.0), spacing, labels, keep=bright)
    assert (sites.states == "full").mean() > 0.97
    assert np.nanmax(sites.p_empty) < 0.5


def test_a_motif_of_both_sublattices_does_not_mix_them() -> None:
    specimen, scan, sublattice = mose2(0.05, side=512, divacancy_rate=0.0)
    sites, truth = sites_at(
        specimen, scan, 12.66, np.zeros(len(sublattice), int), np.ones(len(sublattice), bool)
    )
    assert (sites.states[truth == "Mo"] == "full").mean() > 0.99
    assert f1(sites.states == "partial", truth == "V_Se") > 0.85


def test_without_a_lattice_no_occupancy_is_claimed() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.poisson(10.0, (128, 128)).astype(np.float32)
    at = rng.uniform(5, 120, (60, 2))
    columns = Columns(at, np.ones(60), 12.0, width=(3.0, 3.0))
    sites = find_sites(at, np.zeros(60, int), 12.0)
    found = occupancy_of(
        pixels, model_of(torch.as_tensor(pixels), 12.0, (1.0, 1.0), dark=False), columns, sites
    )
    assert len(found) == 60
    assert np.isnan(found.p_empty).all()
    assert (found.states == "").all()


def test_no_columns_no_sites() -> None:
    pixels = np.random.default_rng(0).poisson(10.0, (64, 64)).astype(np.float32)
    columns = Columns(np.zeros((0, 2)), np.zeros(0), 12.0, width=(3.0, 3.0))
    sites = find_sites(np.zeros((0, 2)), np.zeros(0, int), 12.0)
    model = model_of(torch.as_tensor(pixels), 12.0, (1.0, 1.0), dark=False)
    assert len(occupancy_of(pixels, model, columns, sites)) == 0


def test_a_result_keeps_its_sites(tmp_path: Path) -> None:
    specimen = tm.datasets.mose2((260, 240), 0.02, vacancy_rate=0.08, divacancy_rate=0.03)
    result = tm.analyze(specimen.draw(0.3, torch.Generator().manual_seed(1)), progress=False)
    result.save(tmp_path / "one", report=False)
    again = tm.MotifResult.load(tmp_path / "one")
    for name, values in result.sites.arrays().items():
        np.testing.assert_array_equal(getattr(again.sites, name), values, name)
    table = result.sites.to_dataframe(result.image.pixel_size_nm)
    assert {
        "row_px",
        "row_nm",
        "sublattice",
        "intensity",
        "occupancy",
        "p_full",
        "p_partial",
        "p_empty",
    } <= set(table)
    assert (tmp_path / "one" / "sites.csv").is_file()
    assert (tmp_path / "one" / "sites.png").is_file()
    kinds = np.asarray(specimen.truth.kinds).astype(str)
    truth = kinds[cKDTree(specimen.truth.positions).query(result.sites.positions)[1]]
    assert f1(result.sites.states == "partial", truth == "V_Se") > 0.9
    assert f1(result.sites.states == "empty", truth == "V_Se2") > 0.95
    assert (result.empty_sites()["p_empty"] > 0.9).all()
    field = tm.field.analyze(
        specimen.draw(0.3, torch.Generator().manual_seed(1)), tmp_path / "store", progress=False
    )
    for name, values in result.sites.arrays().items():
        np.testing.assert_array_equal(getattr(field.sites, name), values, name)
