import json
from collections import Counter
from collections.abc import Callable
from itertools import combinations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import torchmotif as tm
from torchmotif.hierarchy import coronas, inclusions, matrix_labels
from torchmotif.hierarchy.groups import connected_groups, estimate_groups

Lattice = Callable[[str, int], np.ndarray]


def _labelled(positions: np.ndarray, labels: int = 2, seed: int = 0) -> tm.PlaneGraph:
    random = np.random.default_rng(seed)
    return tm.PlaneGraph.from_positions(positions, random.integers(labels, size=len(positions)))


@given(seed=st.integers(0, 10**6), count=st.integers(4, 14))
@settings(max_examples=25, deadline=None)
def test_groups_are_all_connected_subsets(seed: int, count: int) -> None:
    points = np.random.default_rng(seed).random((count, 2)) * 100
    graph = tm.PlaneGraph.from_positions(points, radius=60.0)
    other = graph.to_networkx()
    for size, groups in enumerate(connected_groups(graph.embedding.rotation[0], 4), start=1):
        found = sorted(map(tuple, np.sort(groups, axis=1).tolist()))
        expected = [c for c in combinations(range(count), size) if nx.is_connected(other.subgraph(c))]
        assert found == expected


def test_estimate_of_groups_is_close(lattice: Lattice) -> None:
    neighbours = tm.PlaneGraph.from_positions(lattice("snub square", 8)).embedding.rotation[0]
    exact = [len(groups) for groups in connected_groups(neighbours, 5)]
    assert estimate_groups(neighbours, 5) == pytest.approx(exact, rel=0.2)
    assert estimate_groups(np.full((3, 2), -1), 4).tolist() == [3, 0, 0, 0]


@pytest.mark.parametrize("corners", ["none", "gaps", "faces"])
@pytest.mark.parametrize("reflections", [True, False])
def test_counts_are_those_of_codes_taken_one_by_one(
    lattice: Lattice, corners: str, reflections: bool
) -> None:
    graph = _labelled(lattice("snub square", 3), labels=3)
    hierarchy = tm.MotifHierarchy(3, corners=corners, reflections=reflections).fit(graph)
    groups = connected_groups(graph.embedding.rotation[0], 3)
    for level, some in zip(hierarchy.levels_, groups, strict=True):
        kept = some if corners == "none" else some[~graph.rim[some].any(axis=1)]
        expected = Counter(graph.canonical_code(g, corners=corners, reflections=reflections) for g in kept)
        assert dict(zip(level.codes, level.counts.tolist(), strict=True)) == dict(expected)
        for i in range(0, len(level), 5):
            group = level.occurrences(i)[0]
            assert graph.labels[group].tolist() == list(level.codes[i][0])


def test_counts_do_not_depend_on_rotation_mirror_or_order(lattice: Lattice) -> None:
    graph = _labelled(lattice("snub square", 5))
    order = np.random.default_rng(2).permutation(len(graph))
    turned = graph.positions[order] @ np.array([[-0.6, 0.8], [0.8, 0.6]])  # a reflection
    other = tm.PlaneGraph.from_positions(turned, graph.labels[order])
    first, second = (tm.MotifHierarchy(4).fit(g).levels_[3] for g in (graph, other))
    assert dict(zip(first.codes, first.counts, strict=True)) == dict(
        zip(second.codes, second.counts, strict=True)
    )


def test_perfect_crystal_has_one_assembly_of_each_kind(lattice: Lattice) -> None:
    points = lattice("honeycomb", 9)
    graph = tm.PlaneGraph.from_positions(points, np.repeat(["Mo", "Se2"], len(points) // 2))
    levels = tm.MotifHierarchy(3).fit(graph).levels_
    assert [sorted(code[0] for code in level.codes) for level in levels] == [
        [("Mo",), ("Se2",)],
        [("Mo", "Se2")],
        [("Mo", "Se2", "Mo"), ("Se2", "Mo", "Se2")],
    ]
    inner = graph.adjacency().astype(int)[~graph.rim][:, ~graph.rim]
    degree = inner.sum(axis=1)
    assert levels[1].counts.sum() == degree.sum() // 2
    assert levels[2].counts.sum() == (degree * (degree - 1) // 2).sum()  # bends at every node


def test_containment_is_an_acyclic_graph_of_growth(lattice: Lattice) -> None:
    hierarchy = tm.MotifHierarchy(4).fit(_labelled(lattice("snub square", 6)))
    growth = hierarchy.to_networkx()
    assert nx.is_directed_acyclic_graph(growth)
    assert growth.number_of_nodes() == sum(map(len, hierarchy.levels_))
    for (size, _), (larger, _), ways in growth.edges.data("ways"):
        assert larger == size + 1
        assert 1 <= ways <= larger
    for node in growth:
        labels = Counter(growth.nodes[node]["labels"])
        assert all(Counter(growth.nodes[smaller]["labels"]) < labels for smaller in growth.predecessors(node))
        assert node[0] == 1 or growth.in_degree(node) > 0
    # each group has two nodes or more whose removal leaves it connected
    for i in range(1, 4):
        contained = hierarchy.containment(i)
        assert np.bincount(contained[:, 0], contained[:, 2]).min() >= 2


def test_hierarchy_follows_scikit_learn(lattice: Lattice) -> None:
    hierarchy = tm.MotifHierarchy(max_size=2, corners="gaps")
    assert clone(hierarchy).get_params() == hierarchy.get_params()
    with pytest.raises(NotFittedError):
        hierarchy.to_networkx()
    graph = _labelled(lattice("square", 6))
    assert hierarchy.fit(graph) is hierarchy
    assert hierarchy.set_params(max_size=1).fit(graph).levels_[0].counts.sum() == 16


def test_json_holds_the_levels(lattice: Lattice) -> None:
    hierarchy = tm.MotifHierarchy(3).fit(_labelled(lattice("square", 7)))
    text = json.loads(hierarchy.to_json())
    assert [level["size"] for level in text["levels"]] == [1, 2, 3]
    assert sum(a["count"] for a in text["levels"][2]["assemblies"]) == len(hierarchy.levels_[2].assembly)
    assert text["levels"][1]["contains"] == hierarchy.containment(1).tolist()


def test_vacancies_are_the_inclusions(lattice: Lattice) -> None:
    points = lattice("honeycomb", 12)
    graph = tm.PlaneGraph.from_positions(points)
    labels = np.repeat(np.array(["Mo", "Se2"], dtype=object), len(points) // 2).astype(str).astype("U9")
    inner = np.linalg.norm(points - points.mean(axis=0), axis=1)
    selenium = np.flatnonzero(labels == "Se2")
    vacancies = selenium[np.argsort(inner[selenium])[[0, 25]]]
    labels[vacancies] = "V_Se"
    touched = np.unique(graph.adjacency()[vacancies].indices)
    labels[touched] = "Mo*"
    found = inclusions(graph.with_labels(labels))
    assert set(found.matrix) == {"Mo", "Se2"}
    assert len(found) == found.counts.sum() == 2
    assert sorted(found.codes[0][0]) == ["Mo*"] * 3 + ["V_Se"]
    assert {int(m[labels[m] == "V_Se"][0]) for m in found.members} == set(vacancies.tolist())
    cut = inclusions(graph.with_labels(np.where(graph.rim, "edge", "bulk")), ["bulk"])
    assert (len(cut), len(cut.cut)) == (0, 1)


def test_matrix_ends_where_labels_become_rare(lattice: Lattice) -> None:
    points = lattice("square", 10)
    labels = np.array([0] * 45 + [1] * 43 + [2] * 8 + [3] * 4)
    graph = tm.PlaneGraph.from_positions(points, labels)
    assert matrix_labels(graph).tolist() == [True, True, False, False]
    assert matrix_labels(graph.with_labels(labels > 50)).all()
    assert matrix_labels(graph, [2]).tolist() == [False, False, True, False]
    with pytest.raises(tm.errors.InputError, match="must name labels"):
        matrix_labels(graph, [7])


def test_coronas_tell_what_surrounds_each_node(lattice: Lattice) -> None:
    points = lattice("square", 7)
    labels = np.zeros(49, int)
    labels[24] = 1
    found = coronas(tm.PlaneGraph.from_positions(points, labels))
    assert found.codes == [
        (0, (0, 0, 0, 0), (4, 4, 4, 4)),
        (0, (0, 0, 0, 1), (4, 4, 4, 4)),
        (1, (0, 0, 0, 0), (4, 4, 4, 4)),
    ]
    assert found.counts.tolist() == [20, 4, 1]
    assert found.nodes[found.kind == 2].tolist() == [24]


def test_bad_input_is_refused(lattice: Lattice) -> None:
    graph = _labelled(lattice("square", 30))
    with pytest.raises(tm.errors.InputError, match=r"about .* groups and .* GB"):
        tm.MotifHierarchy(14).fit(graph)
    with pytest.raises(tm.errors.InputError, match="max_size must be at least 1"):
        tm.MotifHierarchy(0).fit(graph)
    with pytest.raises(tm.errors.InputError, match="corners must be"):
        tm.MotifHierarchy().set_params(corners="edges").fit(graph)
    with pytest.raises(tm.errors.InputTypeError, match="must be a PlaneGraph"):
        tm.MotifHierarchy().fit(graph.positions)
    with pytest.raises(tm.errors.InputError, match="no labels"):
        tm.MotifHierarchy().fit(tm.PlaneGraph.from_positions(graph.positions))
    bare = tm.PlaneGraph.from_positions(graph.positions, graph.labels, radius=5.0)
    with pytest.raises(tm.errors.InputError, match="no node off the rim"):
        tm.MotifHierarchy().fit(bare)
    assert len(tm.MotifHierarchy(2, corners="none").fit(bare).levels_) == 1
