from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.datasets.render import Window, gaussians
from torchmotif.lattice import mean_shells, shell_strain, split_motif

Lattice = Callable[[str, int], np.ndarray]
Warp = Callable[[np.ndarray], np.ndarray]


def _measured(warp: Warp) -> tm.PlaneGraph:
    """Columns found in a full-dose image of MoSe2 whose columns are moved by `warp`, labelled by the nearest one."""
    shape = 500, 500
    truth = tm.datasets.mose2((620, 620), vacancy_rate=0.0).truth
    positions = torch.as_tensor(warp(truth.positions.numpy() - 60))
    weights = torch.as_tensor(np.where(truth.kinds == "Mo", 42**1.7, 2 * 34**1.7))
    core, tail = (gaussians(Window(0, 0, *shape), positions, weights, sigma) for sigma in (3.0, 9.0))
    image = 0.9 * core + 0.1 * tail
    counts = torch.poisson(image * 10 / image.mean(), generator=torch.Generator().manual_seed(5))
    found = tm.find_columns(counts.numpy()).positions
    nearest = cKDTree(positions.numpy()).query(found)[1]
    return tm.PlaneGraph.from_positions(found, truth.kinds[nearest].astype(str))


@pytest.fixture(scope="module")
def relaxed() -> tm.PlaneGraph:
    return _measured(lambda p: p)


def test_uniaxial_strain_is_recovered_at_full_dose(relaxed: tm.PlaneGraph) -> None:
    strain = shell_strain(_measured(lambda p: 250 + (p - 250) * [1.0, 1.01]), mean_shells(relaxed))
    assert np.nanmean(strain.tensor, axis=0) == pytest.approx(np.diag([0, 0.01]), abs=1e-3)


def test_strain_gradient_is_recovered_at_full_dose(relaxed: tm.PlaneGraph) -> None:
    slope = 0.02 / 500  # row strain from -1 % to 1 %
    graph = _measured(lambda p: p + np.stack([slope * (p[:, 0] - 250) ** 2 / 2, 0 * p[:, 1]], axis=1))
    strain = shell_strain(graph, mean_shells(relaxed)).tensor[:, 0, 0]
    known = np.isfinite(strain)
    row = graph.positions[known, 0]
    expected = slope * (row - 250)
    fit = np.polyval(np.polyfit(row, strain[known], 1), row)
    assert np.abs(fit - expected).max() < 1e-3


@pytest.mark.parametrize("name", ["square", "triangular", "honeycomb", "snub square"])
def test_rotation_and_strain_are_told_apart(lattice: Lattice, name: str) -> None:
    points = lattice(name, 6)
    labels = np.repeat([0, 1], len(points) // 2) if name == "honeycomb" else np.zeros(len(points), int)
    before = tm.PlaneGraph.from_positions(points, labels)
    stretch, angle = np.array([[1.02, 0.005], [0.005, 0.99]]), 0.04
    turn = np.array(
        [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    )  # counter-clockwise, rows down
    after = tm.PlaneGraph(points @ (stretch @ turn).T, before.edges, labels)
    own, strain = shell_strain(before), shell_strain(after, mean_shells(before))
    inner = ~before.rim
    assert np.allclose(own.tensor[inner], 0, atol=1e-9)
    assert np.allclose(strain.tensor[inner], stretch - np.eye(2), atol=1e-9)
    turned = strain.rotation_rad[inner] - own.rotation_rad[inner]
    assert np.allclose(np.angle(np.exp(1j * turned)), angle, atol=1e-9)
    assert np.allclose(strain.residual[inner], 0, atol=1e-9)
    assert np.isnan(strain.residual[before.rim]).all()


def test_residual_is_what_no_strain_explains(lattice: Lattice) -> None:
    points = lattice("triangular", 7)
    reference = mean_shells(tm.PlaneGraph.from_positions(points, [0] * 49))
    moved = points.copy()
    moved[24] += [1.0, 0.0]  # off centre: no affine map does this
    strain = shell_strain(tm.PlaneGraph.from_positions(moved, [0] * 49), reference)
    assert strain.residual[24] == pytest.approx(1.0, rel=0.05)


def test_motif_splits_where_its_strain_does(lattice: Lattice) -> None:
    points = lattice("square", 24)
    right = points[:, 1] > 115
    points = points + np.random.default_rng(0).normal(scale=0.02, size=points.shape)
    points[right, 0] *= 1.02
    points = points[np.abs(points[:, 1] - 115) > 6]
    graph = tm.PlaneGraph.from_positions(points, ["a"] * len(points))
    parts = split_motif(graph, shell_strain(graph), "a")
    inner = parts >= 0
    assert parts.max() == 1
    assert ((points[inner, 1] > 115) == parts[inner]).mean() > 0.98


def test_bad_input_is_refused(lattice: Lattice) -> None:
    points = lattice("square", 5)
    graph = tm.PlaneGraph.from_positions(points, ["a"] * 25)
    with pytest.raises(tm.errors.InputError, match="no labels"):
        mean_shells(tm.PlaneGraph.from_positions(points))
    with pytest.raises(tm.errors.InputError, match="no node off the rim"):
        shell_strain(tm.PlaneGraph.from_positions(points, ["a"] * 25, radius=3.0))
    with pytest.raises(tm.errors.InputError, match="no node with a strain"):
        split_motif(graph, shell_strain(graph), "b")
    with pytest.raises(tm.errors.InputError, match="max_parts"):
        split_motif(graph, shell_strain(graph), "a", max_parts=0)
