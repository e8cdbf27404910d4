from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import columns_of, grid

import torchmotif as tm

SMALL = st.floats(-0.03, 0.03)
SHIFT = st.floats(-1.5, 1.5)


@settings(max_examples=15, deadline=None)
@given(tensor=st.tuples(SMALL, SMALL, SMALL), angle=st.floats(-0.5, 0.5), shift=st.tuples(SHIFT, SHIFT))
def test_a_shift_within_any_even_lattice_is_found_exactly(
    tensor: tuple[float, float, float], angle: float, shift: tuple[float, float]
) -> None:
    a, b, c = tensor
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    basis = 20 * (np.eye(2) + np.array([[a, b], [b, c]])) @ turn
    sites = grid(9, basis)
    places = np.concatenate([sites, sites + basis.sum(axis=0) / 2 + np.array(shift)])
    field = columns_of(places, np.repeat([0, 1], 81), noise=0.0).polarisation()
    assert field.known.sum() > 40
    assert np.allclose(field.values[field.known], shift, atol=1e-8)


def test_errors_are_those_of_many_draws(made: Any, perovskite: Any) -> None:
    places, labels = perovskite(16, shift=(0.5, 0.0))
    z = []
    for seed in range(6):
        field = made(places, labels, error=0.1, seed=seed).polarisation()
        z.append(((field.values - [0.5, 0.0]) / field.errors)[field.known])
    assert np.concatenate(z).std() == pytest.approx(1, abs=0.06)
    assert field.errors[field.known].mean() < 0.13


def test_a_field_says_in_a_line_what_it_holds(made: Any, perovskite: Any) -> None:
    places, labels = perovskite(16, shift=(0.5, 0.0))
    field = made(places, labels, error=0.1, seed=0).polarisation()
    said = repr(field)
    assert said.startswith("Displacements(row_shift_px, col_shift_px; ")
    assert f"{int(field.known.sum())} known" in said
    assert len(said) < 100


def test_errors_that_were_stated_too_large_are_put_right(made: Any, perovskite: Any) -> None:
    places, labels = perovskite(20)
    field = made(places, labels, error=0.1, noise=0.085).polarisation()
    assert ((field.values / field.errors)[field.known]).std() == pytest.approx(1, abs=0.1)


def test_what_moves_all_columns_is_an_error_and_what_moves_some_is_not(made: Any, perovskite: Any) -> None:
    places, labels = perovskite(20)
    shaken = made(places, labels, error=0.05, noise=0.15).polarisation()
    assert shaken.jitter == pytest.approx(0.14, abs=0.03)
    assert shaken.significant().mean() < 0.02
    rng = np.random.default_rng(1)
    moved = places.copy()
    moved[labels == 1] += rng.normal(scale=0.6, size=(400, 2))
    real = made(moved, labels, error=0.05).polarisation()
    assert real.jitter.max() < 0.03
    assert real.significant().mean() > 0.9


def test_nothing_is_significant_where_nothing_is_displaced(made: Any, perovskite: Any) -> None:
    found = [made(*perovskite(16), error=0.1, seed=seed).polarisation() for seed in range(5)]
    assert np.mean([field.significant().mean() for field in found]) <= 0.05
    chance = np.concatenate([field.p_values[field.known] for field in found])
    assert (chance < 0.05).mean() == pytest.approx(0.05, abs=0.03)


def test_smoothing_and_profiles_know_their_errors(made: Any, perovskite: Any) -> None:
    places, labels = perovskite(16, shift=(0.3, 0.0))
    smooth, bins = [], []
    for seed in range(8):
        field = made(places, labels, error=0.1, seed=seed).polarisation()
        values, errors = field.smoothed(25.0)
        smooth.append(((values - [0.3, 0.0]) / errors)[field.known][::7])
        profile = field.profile(0.0, bins=8)
        bins.append((profile.values - [0.3, 0.0]) / profile.errors)
    assert np.nanmedian(errors) < 0.4 * np.nanmedian(field.errors)
    assert np.concatenate(smooth).std() == pytest.approx(1, abs=0.15)
    assert np.concatenate(bins).std() == pytest.approx(1, abs=0.2)
    assert profile.to_dataframe()["columns"].sum() == field.known.sum()


def test_profiles_of_intensities(made: Any) -> None:
    places = grid(20, 20 * np.eye(2))
    rng = np.random.default_rng(0)
    true = 10.0 + (places[:, 1] > 190)
    result = made(places, np.zeros(400, int), noise=0.0, intensities=true + rng.normal(scale=0.2, size=400))
    result = replace(result, columns=replace(result.columns, intensity_errors=np.full(400, 0.2, np.float32)))
    field = result.intensities()
    profile = field.profile(0.0, bins=20)
    expected = 10.0 + (np.arange(20) > 9.5)
    z = (profile.values[:, 0] - expected) / profile.errors[:, 0]
    assert profile.errors == pytest.approx(0.2 / np.sqrt(20))
    assert np.abs(z).max() < 4
    assert z.std() == pytest.approx(1, abs=0.4)
    assert profile.to_dataframe()["intensity"].iloc[-1] == pytest.approx(11, abs=0.2)
    assert len(result.intensities(result.columns.positions[:, 1] > 200)) < 220
    with pytest.raises(tm.errors.InputError, match="no errors"):
        made(places, np.zeros(400, int)).intensities()


def test_a_column_in_its_own_sublattice(made: Any) -> None:
    places = grid(13, 20 * np.eye(2))
    places[84] += [1.0, -2.0]
    field = made(places, np.zeros(169, int), noise=0.0).displacements()
    far = int(np.nanargmax(np.linalg.norm(np.nan_to_num(field.values), axis=1)))
    assert field.values[far] == pytest.approx([1.0, -2.0], abs=1e-8)
    assert field.values_pm[far] == pytest.approx([20.0, -40.0], abs=1e-5)
    assert np.degrees(field.angle_rad[far]) == pytest.approx(-153.43, abs=0.1)


def test_halves_of_one_square_lattice(made: Any, perovskite: Any) -> None:
    places, labels = perovskite(14, shift=(0.8, 0.0))
    result = made(places, np.zeros(len(labels), int), noise=0.0, intensities=2.0 - 0.4 * labels)
    field = result.polarisation()
    assert np.allclose(field.values[field.known], [0.8, 0.0], atol=1e-6)


def test_pixels_that_are_not_square(made: Any, perovskite: Any) -> None:
    places, labels = perovskite(14, shift=(0.5, 0.25))
    square = made(places, labels, noise=0.0).polarisation()
    flat = made(places * [2.0, 1.0], labels, noise=0.0, pixel_size=(0.01, 0.02)).polarisation()
    known = square.known & flat.known
    assert known.sum() > 100
    assert np.allclose(square.values_pm[known], flat.values_pm[known], atol=1e-6)


def test_a_lattice_in_which_columns_do_not_sit_is_refused(made: Any) -> None:
    sites = grid(12, 20 * np.eye(2))
    result = made(np.concatenate([sites, sites + 5.0]), np.repeat([0, 1], 144), noise=0.0)
    with pytest.raises(tm.errors.InputError, match="middle of its cells"):
        result.displacements(1, 0)


def test_bad_input_is_refused(made: Any, perovskite: Any) -> None:
    result = made(*perovskite(10))
    for call, words in {
        "of names no column": lambda: result.displacements(7),
        "of must be the number": lambda: result.displacements("Ti"),
        "shape": lambda: result.displacements(np.ones(3, bool)),
        "within needs of": lambda: result.displacements(within=0),
        "radius": lambda: result.displacements(1, 0, radius=3.0),
        "level": lambda: result.polarisation().significant(2.0),
    }.items():
        with pytest.raises(tm.errors.InputError, match=call):
            words()
    field = result.polarisation()
    for words, call in {
        "radius": lambda: field.smoothed(0.0),
        "either": field.profile,
        "shape": lambda: field.profile(distance=np.zeros(3)),
        "bins": lambda: field.profile(0.0, bins=0),
        "width": lambda: field.profile(0.0, width=-1.0),
        "weights": lambda: field.average(np.ones(3)),
    }.items():
        with pytest.raises(tm.errors.InputError, match=words):
            call()
    bare = made(*perovskite(10), pixel_size=None).polarisation()
    with pytest.raises(tm.errors.InputError, match="pixel size"):
        _ = bare.values_pm
    unfitted = made(*perovskite(10))
    object.__setattr__(unfitted.columns, "position_errors", None)
    with pytest.raises(tm.errors.InputError, match="refine=True"):
        unfitted.displacements()


def test_a_sublattice_without_a_lattice_takes_nothing_from_the_others(made: Any, perovskite: Any) -> None:
    places, labels = perovskite(14)
    third = places[labels == 0] + [10.0, 0.0]
    result = made(np.concatenate([places, third]), np.append(labels, np.full(len(third), 2)), error=0.1)
    whole = result.displacements()
    # Of the third sublattice the places of 12 columns were measured, which lie far from one another.
    poor = np.flatnonzero(result.labels == 2)
    kept = np.zeros(len(result.labels), bool)
    kept[np.random.default_rng(0).choice(poor, 12, replace=False)] = True
    result = replace(result, columns=replace(result.columns, is_fixed=(result.labels == 2) & ~kept))
    with pytest.raises(tm.errors.InputError, match="sits near a site"):
        result.displacements(kept, kept)
    found = result.displacements()
    for motif in (0, 1):
        mine, before = (result.labels[one.columns] == motif for one in (found, whole))
        assert found.known[mine].sum() == whole.known[before].sum() > 100


def test_a_crystal_without_cages_is_told_what_to_ask_for_instead(honeycomb: Any) -> None:
    places = honeycomb(10, 20.0, 0.1)[0][:100]  # one of its triangular lattices
    with pytest.raises(tm.errors.InputError, match=r"displacements\(\) has what columns do"):
        columns_of(places, np.zeros(100, int), noise=0.0).polarisation()
