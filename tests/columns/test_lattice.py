import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.columns import find_lattice
from torchmotif.columns._neighbours import pairs_within, strongest_first
from torchmotif.columns.lattice import dark_sites


def honeycomb(angle: float, cells: int = 12, a: float = 20.0) -> np.ndarray:
    basis = a * np.array([[0.0, 1.0], [-np.sqrt(3) / 2, 0.5]])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    sites = np.indices((cells, cells)).reshape(2, -1).T @ basis
    return np.concatenate([sites, sites + basis.sum(axis=0) / 3]) @ turn.T


@pytest.mark.parametrize("angle", [0.0, 0.3, 1.0])
def test_a_honeycomb_has_a_hexagonal_basis_and_two_sublattices(angle: float) -> None:
    rng = np.random.default_rng(0)
    points = honeycomb(angle) + rng.normal(0, 0.2, (288, 2))
    lattice = find_lattice(points, 20 / 3**0.5)
    assert lattice.vectors.shape == (1, 2, 2)
    np.testing.assert_allclose(np.linalg.norm(lattice.vectors[0], axis=1), 20, rtol=0.02)
    first, second = lattice.vectors[0]
    assert abs(first @ second) == pytest.approx(200, rel=0.05)
    assert (lattice.grain == 0).mean() > 0.98
    kinds = np.arange(288) // 144
    for kind in (0, 1):
        assert len(np.unique(lattice.sublattice[(kinds == kind) & (lattice.grain == 0)])) == 1
    assert lattice.sublattice.max() == 1


def test_two_grains_have_a_basis_each() -> None:
    left, right = honeycomb(0.0, 20), honeycomb(0.5, 20)
    left = left[(left[:, 1] > 0) & (left[:, 1] < 200)]
    right = right - right.mean(axis=0) + [left[:, 0].mean(), 330]
    right = right[(right[:, 1] > 212) & (right[:, 1] < 420)]
    lattice = find_lattice(np.concatenate([left, right]), 20 / 3**0.5)
    assert len(lattice.vectors) == 2
    sides = lattice.grain[: len(left)], lattice.grain[len(left) :]
    for grain in sides:
        counts = np.unique(grain, return_counts=True)[1]
        assert counts.max() / counts.sum() > 0.9
    assert np.bincount(sides[0] + 1).argmax() != np.bincount(sides[1] + 1).argmax()


def test_the_only_dark_site_is_the_one_that_was_taken_out() -> None:
    points = torch.as_tensor(honeycomb(0.2))
    inner = torch.argmin((points - points.mean(dim=0)).norm(dim=1))
    rest = points[torch.arange(len(points)) != inner]
    sites = dark_sites(rest, 20 / 3**0.5)
    hull = cKDTree(honeycomb(0.2)).query(sites.numpy())[0]
    assert float((sites - points[inner]).norm(dim=1).min()) < 1e-6
    assert (hull < 1e-6).sum() == 1


def test_without_a_lattice_there_is_no_grain() -> None:
    points = np.random.default_rng(0).uniform(0, 200, (300, 2))
    lattice = find_lattice(points, 10.0)
    assert len(lattice.vectors) == 0
    assert (lattice.grain == -1).all()
    assert (lattice.sublattice == -1).all()
    assert len(find_lattice(np.zeros((0, 2)), 10.0).grain) == 0


def test_a_bad_spacing_is_refused() -> None:
    with pytest.raises(tm.errors.InputError, match="spacing must be a positive"):
        find_lattice(np.zeros((3, 2)), 0.0)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), n=st.integers(0, 120), radius=st.floats(0.3, 30))
def test_pairs_are_those_of_a_tree(seed: int, n: int, radius: float) -> None:
    points = np.random.default_rng(seed).uniform(-20, 20, (n, 2))
    i, j = pairs_within(torch.as_tensor(points), radius)
    expected = cKDTree(points).query_pairs(radius) if n else set()
    found = set(zip(i.tolist(), j.tolist(), strict=True))
    assert found == expected | {(b, a) for a, b in expected}
    assert len(found) == len(i)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), n=st.integers(0, 80), radius=st.floats(0.3, 8))
def test_strongest_first_is_the_greedy_choice(seed: int, n: int, radius: float) -> None:
    rng = np.random.default_rng(seed)
    points, strength = rng.uniform(0, 20, (n, 2)), rng.integers(0, 10, n).astype(float)
    kept = strongest_first(torch.as_tensor(points), torch.as_tensor(strength), radius)
    chosen: list[int] = []
    for k in np.argsort(-strength, kind="stable"):
        if all(np.hypot(*(points[k] - points[other])) > radius for other in chosen):
            chosen.append(int(k))
    assert sorted(chosen) == torch.nonzero(kept).flatten().tolist()
