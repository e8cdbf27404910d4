import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import torchmotif as tm
from torchmotif.errors import InputError
from torchmotif.lattice import find_sites

RNG = np.random.default_rng(0)


def honeycomb(cells: int = 14, bond: float = 10.0, angle: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Both sublattices of a honeycomb, and which of them each column is of."""
    a = bond * np.sqrt(3) * np.array([[1.0, 0.0], [0.5, np.sqrt(3) / 2]])
    cell = np.argwhere(np.ones((cells, cells))) @ a
    points = np.concatenate([cell, cell + a.sum(axis=0) / 3])
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return points @ turn, np.repeat([0, 1], cells**2)


@settings(max_examples=10)
@given(angle=st.floats(0, 6.3), scatter=st.floats(0, 0.06), seed=st.integers(0, 99))
def test_rare_motifs_are_found_on_their_sublattice(angle: float, scatter: float, seed: int) -> None:
    points, kind = honeycomb(angle=angle)
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random(len(kind)) < 0.08, kind + 2, kind)
    sites = find_sites(points + rng.normal(0, scatter * 10.0, points.shape), labels, 10.0)
    assert_array_equal(sites.motifs, [0, 1, 0, 1])
    assert (sites.columns == kind).mean() > 0.99


def test_columns_in_hexagons_are_between_the_sites() -> None:
    points, kind = honeycomb()
    hollow = points[kind == 1][RNG.choice(160, 15, replace=False)] + (points[14 * 14] - points[0])
    sites = find_sites(np.concatenate([points, hollow]), [*kind, *[2] * len(hollow)], 10.0)
    assert sites.motifs.tolist() == [0, 1, -1]
    assert (sites.columns[len(points) :] == -1).all()
    assert sites.where(2) == "between the sites"
    assert sites.where(0) == "on sites of its own"


def test_a_site_without_a_column_is_empty() -> None:
    points, kind = honeycomb()
    missing = [100, 105, 300]
    kept = np.delete(np.arange(len(kind)), missing)
    sites = find_sites(points[kept] + RNG.normal(0, 0.2, (len(kept), 2)), kind[kept], 10.0)
    inner = ((sites.empty > points[kept].min(axis=0)) & (sites.empty < points[kept].max(axis=0))).all(axis=1)
    found = sites.empty[inner]
    distance = np.linalg.norm(found[:, None] - points[missing], axis=2)
    assert distance.min(axis=0).max() < 1.0
    assert sites.empty_of[inner][distance.argmin(axis=0)].tolist() == [0, 0, 1]


def test_a_site_among_columns_of_another_motif_is_empty_too() -> None:
    square = 10.0 * np.argwhere(np.ones((12, 12)))
    at, near = np.array([50.0, 50.0]), np.hypot(*(square - [50.0, 50.0]).T)
    positions = square[near > 0]
    labels = np.where(near[near > 0] < 15, 1, 0)  # all around it are of a rare motif
    sites = find_sites(positions, labels, 10.0)
    np.testing.assert_allclose(sites.empty, [at], atol=1e-6)
    assert sites.empty_of.tolist() == [0]


def test_a_column_that_moved_off_its_site_does_not_leave_it_empty() -> None:
    points, kind = honeycomb()
    for far, empty in ((4.5, False), (6.0, True)):
        moved = points.copy()
        moved[100] += [far, 0.0]
        sites = find_sites(moved, kind, 10.0)
        assert sites.columns[100] == -1
        assert (np.linalg.norm(sites.empty - points[100], axis=1).min(initial=99.0) < 1.0) == empty


def test_columns_in_no_motif_have_a_site_too() -> None:
    points, kind = honeycomb()
    labels = kind.copy()
    labels[[90, 290]] = -1
    assert find_sites(points, labels, 10.0).columns[[90, 290]].tolist() == [0, 1]


def test_sublattices_that_share_a_net_are_told_by_their_motifs() -> None:
    """A and B of a perovskite lie on one square net, yet no translation leads from one to the other."""
    place = np.argwhere(np.ones((16, 16)))
    kind = place.sum(axis=1) % 2
    assert find_sites(10.0 * place, kind, 10.0).motifs.tolist() == [0, 1]


def test_a_motif_on_equivalent_sublattices_is_one() -> None:
    points, kind = honeycomb()
    sites = find_sites(points, np.where(np.arange(len(kind)) % 17 == 5, 1, 0), 10.0)
    assert sites.motifs.tolist() == [0, 0]
    assert (sites.columns == 0).mean() > 0.97


def test_grains_keep_their_own_lattices() -> None:
    first, kind = honeycomb(24)
    second, _ = honeycomb(24, angle=0.3)
    second += np.array([0, first[:, 1].max() - second[:, 1].min() + 10])
    labels = np.concatenate([kind, kind])
    labels[[300, 1500]] = 2, 3
    sites = find_sites(np.concatenate([first, second]), labels, 10.0)
    assert sites.motifs.tolist() == [0, 1, 0, 0]
    assert (sites.columns == np.concatenate([kind, kind])).mean() > 0.97


def test_where_nothing_repeats_no_site_is_claimed() -> None:
    sites = find_sites(RNG.uniform(0, 300, (400, 2)), RNG.integers(0, 3, 400), 10.0)
    assert_array_equal(sites.motifs, -1)
    assert sites.where(0) == "where no lattice is seen"


@pytest.mark.parametrize("n", [0, 1, 9])
def test_few_columns_are_no_lattice(n: int) -> None:
    sites = find_sites(RNG.uniform(0, 30, (n, 2)), np.zeros(n, int), 10.0, n_motifs=2)
    assert sites.motifs.tolist() == [-1, -1]
    assert_array_equal(sites.columns, np.full(n, -1))


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="labels must have the shape"):
        find_sites(np.zeros((4, 2)), [0, 1], 10.0)
    with pytest.raises(InputError, match="spacing"):
        find_sites(np.zeros((20, 2)), [0] * 20, 0.0)


def test_a_result_says_where_its_motifs_sit() -> None:
    specimen = tm.datasets.mose2((300, 280), pixel_size_nm=0.02, vacancy_rate=0.06)
    result = tm.analyze(specimen.draw(), progress=False)
    crystal = [motif for motif in range(result.n_motifs) if result.sites.motifs[motif] == motif]
    assert len(crystal) == 2
    assert result.sites.sublattices == crystal
    table = result.to_dataframe()
    assert_array_equal(table["site"], result.sites.columns)
    assert result.empty_sites().empty
    assert set(result.groups) == {*range(result.n_motifs)} | ({-1, -2} & set(result.groups))
