from collections.abc import Callable
from itertools import permutations, product

import networkx as nx
import numpy as np
import pytest

import torchmotif as tm
from torchmotif.statistics import (
    assembly_statistics,
    fit_ising,
    growth_graph,
    null_labels,
    sample_ising,
    shuffled_expectation,
)

Lattice = Callable[[str, int], np.ndarray]


def _metropolis(graph: tm.PlaneGraph, coupling: float, seed: int, sweeps: int = 100) -> np.ndarray:
    """An Ising configuration by another algorithm than the library's: Metropolis, colours by networkx."""
    random = np.random.default_rng(seed)
    colours = nx.greedy_color(graph.to_networkx(), "smallest_last")
    colour = np.array([colours[i] for i in range(len(graph))])
    adjacency = graph.adjacency().astype(float)
    spins = random.choice([-1.0, 1.0], len(graph))
    for _ in range(sweeps):
        for one in range(colour.max() + 1):
            gain = 2 * coupling * spins * (adjacency @ spins)
            flip = (colour == one) & (random.random(len(graph)) < np.exp(-np.maximum(gain, 0)))
            spins[flip] *= -1
    return spins


@pytest.mark.parametrize("coupling", [-0.3, 0.0, 0.25])
def test_coupling_is_recovered(lattice: Lattice, coupling: float) -> None:
    graph = tm.PlaneGraph.from_positions(lattice("snub square", 40))
    fits = [fit_ising(graph.with_labels(_metropolis(graph, coupling, seed) > 0)) for seed in range(4)]
    couplings = np.array([fit.coupling for fit in fits])
    assert couplings.mean() == pytest.approx(coupling, abs=0.02)
    assert np.abs(couplings - coupling).max() < 5 * max(fit.coupling_error for fit in fits)
    assert fits[0].coupling_error < 0.02


def test_samples_follow_the_exact_distribution(lattice: Lattice) -> None:
    graph = tm.PlaneGraph.from_positions(lattice("triangular", 3))
    states = np.array(list(product([-1, 1], repeat=9)))
    pair = states[:, graph.edges].prod(axis=2).sum(axis=1)
    weight = np.exp(0.3 * pair + 0.1 * states.sum(axis=1))
    weight /= weight.sum()
    spins = sample_ising(graph, 0.3, 0.1, n_samples=10000, sweeps=40, random_state=3).astype(int)
    drawn = spins[:, graph.edges].prod(axis=2).sum(axis=1)
    assert drawn.mean() == pytest.approx(weight @ pair, abs=0.25)
    assert spins.sum(axis=1).mean() == pytest.approx(weight @ states.sum(axis=1), abs=0.25)
    assert drawn.var() == pytest.approx(weight @ pair**2 - (weight @ pair) ** 2, rel=0.1)


def test_shuffled_expectation_is_the_mean_over_all_permutations(lattice: Lattice) -> None:
    graph = tm.PlaneGraph.from_positions(lattice("triangular", 3), [0, 0, 1, 1, 1, 2, 0, 1, 0])
    hierarchy = tm.MotifHierarchy(3, corners="none").fit(graph)
    every = np.array(sorted(set(permutations(graph.label_index.tolist()))))
    for level in hierarchy.levels_:
        keys = np.concatenate([level.pieces.keys(labels) for labels in every])
        found, counts = np.unique(keys, return_counts=True)
        expected = shuffled_expectation(level.pieces, found, np.bincount(graph.label_index))
        assert expected == pytest.approx(counts / len(every))


@pytest.fixture(scope="module")
def hierarchies(lattice: Lattice) -> dict[float, tm.MotifHierarchy]:
    graph = tm.PlaneGraph.from_positions(lattice("snub square", 20))
    labels = {j: np.where(_metropolis(graph, j, 7) > 0, "filled", "hollow") for j in (0.0, 0.25)}
    return {j: tm.MotifHierarchy(4).fit(graph.with_labels(label)) for j, label in labels.items()}


def test_chance_makes_nothing_significant(hierarchies: dict[float, tm.MotifHierarchy]) -> None:
    for null in ("shuffled", "ising"):
        table = assembly_statistics(hierarchies[0.0], null=null, n_samples=100).table
        assert len(table) > 250
        assert (table["character"] != "neutral").mean() <= 0.05
        inner = table["deviation"] > 0
        assert abs(table["z"][inner].mean()) < 1
        assert (table["p"] < 0.05).mean() < 0.2  # before correction


def test_attraction_favours_like_neighbours(hierarchies: dict[float, tm.MotifHierarchy]) -> None:
    statistics = assembly_statistics(hierarchies[0.25], n_samples=60)
    pairs = statistics.table[statistics.table["size"] == 2]
    like = pairs["labels"].map(lambda labels: labels[0] == labels[1]).to_numpy()
    assert (pairs["character"] == np.where(like, "favoured", "frustrated")).all()
    assert (pairs["energy_kt"][like] < -5 * pairs["energy_error_kt"][like]).all()
    explained = assembly_statistics(hierarchies[0.25], null="ising", n_samples=100).table
    assert (explained["character"] != "neutral").mean() <= 0.05


def test_assemblies_that_never_occur_are_tested(lattice: Lattice) -> None:
    points = lattice("square", 16)
    chequered = tm.PlaneGraph.from_positions(points, points.sum(axis=1).astype(int) // 10 % 2)
    table = assembly_statistics(tm.MotifHierarchy(2).fit(chequered)).table
    absent = table[table["count"] == 0]
    assert sorted(absent["labels"]) == [(0, 0), (1, 1)]
    assert (absent["character"] == "frustrated").all()
    assert np.isinf(absent["energy_kt"]).all()
    assert absent["energy_error_kt"].isna().all()


def test_attachments_add_up_along_every_path(hierarchies: dict[float, tm.MotifHierarchy]) -> None:
    statistics = assembly_statistics(hierarchies[0.25], n_samples=30)
    growth = growth_graph(hierarchies[0.25], statistics)
    for smaller, larger, cost in growth.edges.data("attachment_kt"):
        gain = growth.nodes[larger]["energy_kt"] - growth.nodes[smaller]["energy_kt"]
        assert cost == pytest.approx(gain)
    assert {growth.nodes[node]["character"] for node in growth} <= {"favoured", "frustrated", "neutral"}
    errors = [error for _, _, error in growth.edges.data("attachment_error_kt")]
    assert np.nanmedian(errors) < 0.2


def test_same_seed_gives_the_same_statistics(hierarchies: dict[float, tm.MotifHierarchy]) -> None:
    first, second = (assembly_statistics(hierarchies[0.0], n_samples=20, random_state=4) for _ in range(2))
    assert first.table.equals(second.table)


def test_bad_input_is_refused(lattice: Lattice, hierarchies: dict[float, tm.MotifHierarchy]) -> None:
    points = lattice("square", 6)
    with pytest.raises(tm.errors.InputError, match="two different labels"):
        fit_ising(tm.PlaneGraph.from_positions(points, np.arange(36) % 3))
    with pytest.raises(tm.errors.InputError, match="up must be"):
        fit_ising(tm.PlaneGraph.from_positions(points, np.arange(36) % 2), up=5)
    with pytest.raises(tm.errors.InputError, match="ordered too well"):
        fit_ising(tm.PlaneGraph.from_positions(points, (points[:, 0] > 25).astype(int)))
    with pytest.raises(tm.errors.InputError, match="n_samples and sweeps"):
        sample_ising(tm.PlaneGraph.from_positions(points), 0.1, n_samples=0)
    with pytest.raises(tm.errors.InputError, match="null must be"):
        next(null_labels(tm.PlaneGraph.from_positions(points), "potts", 1))
    with pytest.raises(tm.errors.InputError, match="at least 20, 2 and 4"):
        assembly_statistics(hierarchies[0.0], n_samples=5)
