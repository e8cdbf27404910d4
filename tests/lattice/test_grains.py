from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made import columns_of, grid

import torchmotif as tm


@settings(max_examples=12, deadline=None)
@given(a=st.floats(16, 24), ratio=st.floats(1.08, 1.25), gamma=st.floats(92, 112), angle=st.floats(0, 3))
def test_lattice_constants_of_any_cell(a: float, ratio: float, gamma: float, angle: float) -> None:
    cos, sin = np.cos(angle), np.sin(angle)
    b = a * ratio
    cell = np.array([[0.0, a], [-b * np.sin(np.radians(gamma)), b * np.cos(np.radians(gamma))]])
    turn = np.array([[cos, -sin], [sin, cos]])
    grain = columns_of(grid(12, cell @ turn.T), np.zeros(144, int), noise=0.0).grains[0]
    assert grain.a_nm[0] == pytest.approx(0.02 * a, rel=1e-7)
    assert grain.b_nm[0] == pytest.approx(0.02 * b, rel=1e-7)
    assert grain.gamma_deg[0] == pytest.approx(gamma, abs=1e-5)
    assert np.cos(2 * (np.radians(grain.orientation_deg[0]) - angle)) == pytest.approx(1, abs=1e-8)


def test_stated_errors_of_lattice_constants_hold(made: Any, honeycomb: Any) -> None:
    z = []
    for seed in range(40):
        grain = made(*honeycomb(14, 20.0, 0.3), error=0.1, seed=seed).grains[0]
        z += [(grain.a_px[0] - 20) / grain.a_px[1], (grain.gamma_deg[0] - 120) / grain.gamma_deg[1]]
    assert np.std(z) == pytest.approx(1, abs=0.2)
    assert (np.abs(z) < 1.96).mean() >= 0.9


@pytest.mark.parametrize("apart_deg", [2.0, 8.0, 25.0])
def test_two_grains_their_misorientation_and_boundary(made: Any, honeycomb: Any, apart_deg: float) -> None:
    parts, kinds, true = [], [], []
    for number, angle in enumerate((0.1, 0.1 + np.radians(apart_deg))):
        places, labels = honeycomb(40, 20.0, angle)
        places = places - places.mean(axis=0)
        inside = (
            (np.abs(places) < 170).all(axis=1)
            & ((places[:, 1] > 3) == bool(number))
            & (np.abs(places[:, 1]) > 3)
        )
        parts.append(places[inside])
        kinds.append(labels[inside])
        true.append(np.full(inside.sum(), number))
    places, kind = np.concatenate(parts), np.concatenate(kinds)
    truth = np.concatenate(true)
    result = made(places, kind + 2 * truth, error=0.05, intensities=2.0 - kind)
    grains = result.grains
    order = result.moved[0]
    assert len(grains) == 2
    agreed = max((grains.labels == truth[order]).mean(), (grains.labels == 1 - truth[order]).mean())
    assert agreed >= 0.995
    found, error = grains.misorientation_deg(0, 1)
    assert found == pytest.approx(apart_deg, abs=max(4 * error, 0.02))
    row = grains.boundaries.iloc[0]
    assert row["length_px"] == pytest.approx(330, rel=0.25)
    away = grains.distance(of=0)
    assert (away[grains.labels == 0] <= 0).all()
    assert np.abs(away).max() < 260


def test_a_cell_and_its_mirror_image_are_two_grains(made: Any, honeycomb: Any) -> None:
    places, kind = honeycomb(40, 20.0, 0.0)
    places = places - places[np.argmin(np.abs(places - places.mean(axis=0)).sum(axis=1))]
    lower = (places[:, 0] > 2) & (np.abs(places) < 170).all(axis=1)
    both = np.concatenate([places[lower], places[lower] * [-1, 1]])
    kinds = np.tile(kind[lower], 2)
    side = np.repeat([0, 1], lower.sum())
    result = made(both, kinds + 2 * side, error=0.05, intensities=2.0 - kinds)
    assert len(result.grains) == 2
    assert result.grains[0].fold == 3
    assert result.grains.misorientation_deg(0, 1)[0] == pytest.approx(60, abs=0.05)


@pytest.mark.parametrize("angle", [0.0, 0.7])
def test_an_edge_dislocation_has_its_burgers_vector(made: Any, angle: float) -> None:
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]])
    sites = (grid(24, 20 * np.eye(2)) - 230) @ turn.T
    centre, vector = turn @ [10.0, 5.0], turn @ [0.0, 20.0]
    slip = tm.datasets.edge_dislocation(tuple(centre), tuple(vector))
    moved = sites + slip(torch.as_tensor(sites)).numpy()
    result = made(moved, np.zeros(len(sites), int), error=0.1)
    found = result.dislocations
    assert len(result.grains) == 1
    assert len(found) == 1
    assert found.burgers_px[0] == pytest.approx(vector, abs=0.3)
    assert np.linalg.norm(found.positions[0] + result.moved[1] - centre) < 30
    assert len(found.to_dataframe()) == 1


def test_perfect_crystals_have_no_dislocation(made: Any, honeycomb: Any) -> None:
    rng = np.random.default_rng(0)
    for seed in range(20):
        places, labels = honeycomb(14, 20.0, 0.05 * seed)
        kept = rng.random(len(places)) > 0.03  # vacancies close every circuit
        result = made(places[kept], labels[kept], error=0.15, seed=seed)
        assert len(result.grains) == 1
        assert len(result.dislocations) == 0


def test_tables_and_bad_input(made: Any, perovskite: Any) -> None:
    grains = made(*perovskite(12)).grains
    table = grains.to_dataframe()
    assert {"a_nm", "a_nm_error", "orientation_deg", "area_nm2"} <= set(table)
    assert table["area_px"][0] == pytest.approx(11.5**2 * 400, rel=0.15)
    assert "1 grain" in repr(grains)
    with pytest.raises(tm.errors.InputError, match="numbered from 0"):
        grains.misorientation_deg(0, 4)
    with pytest.raises(tm.errors.InputError, match="no boundary"):
        grains.distance()


# B is found by the mean cell and fitted; so is oxygen, which keeps its place among its kind. At the wall Ti jumps by 40 pm, Pb does not.
@pytest.mark.parametrize(
    ("domains", "dose", "kept"),
    [
        (2, 10.0, 100),
        (1, 10.0, 100),
        (2, 1.0, 100),
    ],
)
def test_columns_that_the_mean_cell_shows_belong_to_their_grain(domains: int, dose: float, kept: int) -> None:
    specimen = tm.datasets.polar_perovskite(
        (320, 320), displacement_pm=20.0, domains=domains, electrons_per_pixel=dose
    )
    result = tm.analyze(specimen.draw(generator=torch.Generator().manual_seed(0)), progress=False)
    assert result.columns.is_predicted.sum() > 100
    assert result.columns.is_fixed.sum() >= kept
    assert len(result.grains) == 1
    assert (result.grains.labels >= 0).mean() > 0.99
    if dose < 10:
        return
    polar = result.polarisation()
    assert polar.known.sum() > 120
    assert abs(polar.values_pm[polar.known, 0]).mean() == pytest.approx(20, abs=1.0)
