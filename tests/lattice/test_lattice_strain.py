from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import columns_of, grid
from scipy.spatial import cKDTree

import torchmotif as tm

SMALL = st.floats(-0.05, 0.05)


@settings(max_examples=15, deadline=None)
@given(a=SMALL, b=SMALL, c=SMALL, angle=st.floats(-0.1, 0.1))
def test_even_strain_and_rotation_are_found_exactly(a: float, b: float, c: float, angle: float) -> None:
    stretch = np.eye(2) + np.array([[a, b], [b, c]])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    sites = grid(12, 20 * np.eye(2))
    result = columns_of(sites @ (stretch @ turn).T, np.zeros(144, int), noise=0.0)
    field = result.strain({"a_nm": 0.4})
    known = field.known
    assert known.sum() > 80
    # The reference is turned as the lattice is in the mean, which for an even strain leaves no rotation.
    assert np.allclose(field.values[known, 3], 0, atol=1e-9)
    eigenvalues = np.linalg.eigvalsh(field.tensor[known])
    assert np.allclose(eigenvalues, np.linalg.eigvalsh(stretch - np.eye(2)), atol=1e-8)
    assert np.allclose(field.tensor[known], stretch - np.eye(2), atol=1e-8)


def test_rotation_within_a_grain_is_counter_clockwise(made: Any) -> None:
    sites = grid(24, 20 * np.eye(2))
    bend = 1e-4 * (sites[:, 1] - 230)
    middle = np.array([230.0, 230.0])
    cos, sin = np.cos(bend), np.sin(bend)
    away = sites - middle
    turned = np.stack([cos * away[:, 0] - sin * away[:, 1], sin * away[:, 0] + cos * away[:, 1]], axis=1)
    field = made(turned + middle, np.zeros(len(sites), int), noise=0.0).strain()
    known = field.known & (np.abs(field.positions[:, 0] - np.median(field.positions[:, 0])) < 25)
    slope = np.polyfit(field.positions[known, 1], field.rotation_rad[known], 1)[0]
    assert slope > 0.8e-4


def test_errors_are_those_of_many_draws(made: Any, honeycomb: Any) -> None:
    places, labels = honeycomb(18, 20.0, 0.2)
    z = [
        (field.values[:, :3] / field.errors[:, :3])[field.known]
        for field in (
            made(places, labels, error=0.1, seed=seed).strain({"a_nm": 0.4, "gamma_deg": 120})
            for seed in range(6)
        )
    ]
    assert np.concatenate(z).std() == pytest.approx(1, abs=0.07)


def test_errors_fall_with_the_radius(made: Any, honeycomb: Any) -> None:
    result = made(*honeycomb(20, 20.0, 0.2), error=0.1)
    near, far = result.strain(), result.strain(radius=70.0)
    assert np.nanmedian(far.errors[:, 0]) < 0.35 * np.nanmedian(near.errors[:, 0])
    assert far.resolution > near.resolution


def test_references(made: Any) -> None:
    sites = grid(20, 20 * np.eye(2))
    stretched = sites.copy()
    right = sites[:, 1] > 190
    stretched[right, 1] += 0.01 * (sites[right, 1] - 190)
    result = made(stretched, np.zeros(400, int), noise=0.0)
    left = result.columns.positions[:, 1] < 180
    field = result.strain(left)
    far = field.known & (field.positions[:, 1] > 250)
    assert np.allclose(field.values[far, 1], 0.01, atol=1e-3)
    assert np.abs(np.nanmean(result.strain().values[:, 1])) < 2e-3
    assert "columns" in field.reference
    assert np.allclose(result.strain(0).values, result.strain().values, equal_nan=True)


def test_bad_input_is_refused(made: Any, perovskite: Any) -> None:
    result = made(*perovskite(10))
    for reference in ("best", 3, np.ones(4, bool), {"c_nm": 1.0}, {"a_nm": -1.0}, np.zeros(200, bool)):
        with pytest.raises(tm.errors.InputError, match="reference"):
            result.strain(reference)
    with pytest.raises(tm.errors.InputError, match="radius"):
        result.strain(radius=2.0)
    with pytest.raises(tm.errors.InputError, match="pixel size"):
        made(*perovskite(10), pixel_size=None).strain({"a_nm": 0.4})
    scattered = np.random.default_rng(0).random((60, 2)) * 200
    with pytest.raises(tm.errors.InputError, match="lattice"):
        made(scattered, np.zeros(60, int)).strain()


def test_errors_of_sublattices_that_scatter_unlike(made: Any, perovskite: Any) -> None:
    places, labels = perovskite(16)
    errors = np.where(labels == 1, 0.4, 0.1)
    z = []
    for seed in range(4):
        noisy = places + np.random.default_rng(seed).normal(size=places.shape) * errors[:, None]
        result = made(noisy, labels, noise=0.0)
        stated = np.where(result.labels == 1, 0.4, 0.1).astype(np.float32)
        object.__setattr__(result.columns, "position_errors", np.stack([stated, stated], axis=1))
        field = result.strain({"a_nm": 0.4})
        z.append((field.values[:, :3] / field.errors[:, :3])[field.known])
        mean, covariance = field.average(np.ones(len(field)))
        assert np.allclose(field.operators[1].toarray() @ np.ones(len(places)), 0, atol=1e-9)
        assert (np.abs(mean[0, :3]) < 5 * np.sqrt(np.diag(covariance[0])[:3])).all()
    assert np.concatenate(z).std() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("error", [0.1, 0.3])
def test_noise_makes_no_lattice_smaller(made: Any, perovskite: Any, error: float) -> None:
    # Columns at the rim of a fit are in it or not as noise has it: of (sigma / radius)^2, were the rim at a shell.
    places, labels = perovskite(16)
    means = [made(places, labels, error=error, seed=seed).strain({"a_nm": 0.4}).values for seed in range(12)]
    one = np.array([np.nanmean(each[:, :3], axis=0) for each in means])
    usual = one.std(axis=0) / np.sqrt(len(one))
    assert (np.abs(one.mean(axis=0)) < 3.5 * usual + 5e-5).all()


def test_errors_of_columns_that_are_drawn_aside_together(made: Any, honeycomb: Any) -> None:
    places, labels = honeycomb(16, 20.0, 0.3)
    rng = np.random.default_rng(1)
    pairs = cKDTree(places).query_pairs(15, output_type="ndarray")
    along = places[pairs[:, 1]] - places[pairs[:, 0]]
    along /= np.linalg.norm(along, axis=1)[:, None]
    constants, strains = [], []
    for seed in range(24):
        noise = rng.normal(scale=0.1, size=places.shape)
        both = rng.normal(scale=0.05, size=(len(pairs), 1)) * along
        np.add.at(noise, pairs[:, 0], both)
        np.add.at(noise, pairs[:, 1], both)
        result = made(places + noise, labels, error=float(noise.std()), noise=0.0, seed=seed)
        grain, field = result.grains[0], result.strain({"a_nm": 0.4, "gamma_deg": 120})
        constants += [(grain.a_px[0] - 20) / grain.a_px[1], (grain.b_px[0] - 20) / grain.b_px[1]]
        strains.append((field.values / field.errors)[field.known, :3])
    assert np.concatenate(strains).std() == pytest.approx(1, abs=0.05)
    assert np.std(constants) == pytest.approx(1, abs=0.25)
    assert np.mean(constants) == pytest.approx(0, abs=0.7)


def test_a_wall_that_the_cages_do_not_see_is_neither_a_boundary_nor_strain(
    made: Any, perovskite: Any
) -> None:
    places, labels = perovskite(20)
    places[labels == 1, 0] += np.where(places[labels == 1, 1] < 200, -1.4, 1.4)
    result = made(places, labels, error=0.05)
    assert len(result.grains) == 1
    assert (result.grains.labels == 0).all()
    strain = result.strain({"a_nm": 0.4})
    assert strain.significant().mean() < 0.05
    z = strain.values[strain.known] / strain.errors[strain.known]
    assert z.std() == pytest.approx(1, abs=0.15)
