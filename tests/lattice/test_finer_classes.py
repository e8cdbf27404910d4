from typing import Any

import numpy as np
import pytest
from made import grid

import torchmotif as tm


def _strained(states: Any) -> np.ndarray:
    sites = grid(30, 20 * np.eye(2))
    across = np.concatenate([[0.0], np.cumsum(20 * (1 + states(np.arange(29) / 28)))])
    sites[:, 1] = across[np.rint(sites[:, 1] / 20).astype(int)]
    return sites


def test_two_states_of_strain_are_told_apart(made: Any) -> None:
    result = made(_strained(lambda x: np.where(x < 0.5, -0.005, 0.005)), np.zeros(900, int), error=0.04)
    found = result.split(0)
    assert len(found) == 2
    known = found.labels >= 0
    right = result.columns.positions[known, 1] > 310
    assert max((found.labels[known] == right).mean(), (found.labels[known] != right).mean()) > 0.93
    assert np.abs(np.diff(found.means[:, 1]))[0] == pytest.approx(0.01, abs=0.002)
    assert len(found.to_dataframe()) == 2


def test_a_gradient_is_not_cut(made: Any) -> None:
    for seed in range(4):
        result = made(_strained(lambda x: 0.02 * (x - 0.5)), np.zeros(900, int), error=0.04, seed=seed)
        found = result.split(0)
        assert len(found) == 1
        assert found.reason


def test_noise_is_not_cut_and_too_little_dose_is_said(made: Any) -> None:
    for seed in range(4):
        assert len(made(_strained(lambda x: 0 * x), np.zeros(900, int), error=0.1, seed=seed).split(0)) == 1
    low = made(_strained(lambda x: np.where(x < 0.5, -0.005, 0.005)), np.zeros(900, int), error=0.4).split(0)
    assert len(low) == 1
    assert "standard deviations" in low.reason or "evidence" in low.reason or "continuum" in low.reason


def test_displacements_make_classes_too(made: Any, perovskite: Any) -> None:
    places, labels = perovskite(20)
    right = (labels == 1) & (places[:, 1] > 200)
    places[labels == 1, 0] -= 1.0
    places[right, 0] += 2.0
    result = made(places, labels, error=0.1)
    found = result.split(1, result.polarisation(1, 0))
    assert len(found) == 2
    assert np.abs(np.diff(found.means[:, 0]))[0] == pytest.approx(2.0, abs=0.1)


def test_bad_input_is_refused(made: Any, perovskite: Any) -> None:
    result = made(*perovskite(10))
    with pytest.raises(tm.errors.InputError, match="motif"):
        result.split(9)
    few = np.zeros(len(result.labels), bool)
    few[:5] = True
    with pytest.raises(tm.errors.InputError, match="columns with a value"):
        result.split(few)
