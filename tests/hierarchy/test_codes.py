from collections.abc import Callable
from itertools import combinations

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networkx.algorithms.isomorphism import DiGraphMatcher, categorical_edge_match, categorical_node_match
from scipy.sparse.csgraph import connected_components
from scipy.spatial import Delaunay

import torchmotif as tm
from torchmotif.hierarchy.groups import connected_groups
from torchmotif.plane_graph import canonical_shapes

Lattice = Callable[[str, int], np.ndarray]
Piece = tuple[np.ndarray, np.ndarray, np.ndarray]  # positions, edges, labels

# Free and one-sided polyominoes (OEIS A000105, A000988), polyhexes (A000228, A006535) and polyiamonds (A000577,
# A006534), and free polycairos.
POLYFORMS = {
    ("square", True): [1, 1, 2, 5, 12, 35],
    ("square", False): [1, 1, 2, 7, 18, 60],
    ("triangular", True): [1, 1, 3, 7, 22, 82],
    ("triangular", False): [1, 1, 3, 10, 33, 147],
    ("honeycomb", True): [1, 1, 1, 3, 4, 12, 24],
    ("honeycomb", False): [1, 1, 1, 4, 6, 19, 43],
    ("snub square", True): [1, 2, 5, 17, 55],
}


@pytest.mark.parametrize(("name", "reflections"), POLYFORMS)
def test_shapes_on_lattices_are_the_polyforms(lattice: Lattice, name: str, reflections: bool) -> None:
    expected = POLYFORMS[name, reflections]
    graph = tm.PlaneGraph.from_positions(lattice(name, 16 if name == "square" else 12))
    groups = connected_groups(graph.embedding.rotation[0], len(expected))
    whole = [group[~graph.rim[group].any(axis=1)] for group in groups]
    found = [len(canonical_shapes(graph.embedding, g, reflections=reflections).codes) for g in whole]
    assert found == expected


def _random_piece(random: np.random.Generator) -> Piece:
    """A connected labelled plane graph of up to seven nodes."""
    while True:
        points = random.random((int(random.integers(3, 8)), 2))
        edges = np.array(
            [pair for simplex in Delaunay(points).simplices for pair in combinations(simplex, 2)]
        )
        edges = np.unique(np.sort(edges, axis=1), axis=0)
        edges = edges[random.random(len(edges)) < random.choice([0.6, 0.8, 1.0])]
        piece = points, edges, random.integers(2, size=len(points))
        if len(edges) and connected_components(_darts(piece)[1], directed=False)[0] == 1:
            return piece


def _darts(piece: Piece) -> tuple[list[tuple[int, int]], np.ndarray]:
    points, edges, _ = piece
    adjacency = np.zeros((len(points), len(points)), bool)
    adjacency[edges[:, 0], edges[:, 1]] = adjacency[edges[:, 1], edges[:, 0]] = True
    return [(int(u), int(v)) for u, v in np.argwhere(adjacency)], adjacency


def _dart_graph(piece: Piece) -> nx.DiGraph:
    """What isomorphisms must keep: labels, the cyclic order around nodes, and which side is outside."""
    points, _, labels = piece
    darts, adjacency = _darts(piece)
    following = {}
    for node in range(len(points)):
        near = np.flatnonzero(adjacency[node])
        step = points[near] - points[node]
        ring = near[np.argsort(np.arctan2(-step[:, 0], step[:, 1]))].tolist()
        following.update({(node, a): (node, b) for a, b in zip(ring, ring[1:] + ring[:1], strict=True)})
    before = {b: a for a, b in following.items()}
    area: dict[tuple[int, int], float] = {}
    for dart in darts:  # the walk with the face to its left
        walk, current = [], dart
        while not walk or current != dart:
            walk.append(current)
            current = before[current[1], current[0]]
        x, y = points[[d[0] for d in walk], 1], -points[[d[0] for d in walk], 0]
        area[dart] = float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum())
    graph = nx.DiGraph()
    for dart in darts:
        graph.add_node(dart, label=int(labels[dart[0]]), outside=area[dart] < 1e-9)
    for dart in darts:
        graph.add_edge(dart, following[dart], turn=True, flip=following[dart] == dart[::-1])
        graph.add_edge(dart, dart[::-1], turn=following[dart] == dart[::-1], flip=True)
    return graph


def _match(first: nx.DiGraph, second: nx.DiGraph) -> bool:
    nodes = categorical_node_match(["label", "outside"], [None, None])
    edges = categorical_edge_match(["turn", "flip"], [None, None])
    return bool(DiGraphMatcher(first, second, nodes, edges).is_isomorphic())


def _mirrored(piece: Piece) -> Piece:
    return piece[0] * [1, -1], piece[1], piece[2]


def _code(piece: Piece, *, reflections: bool) -> object:
    return tm.PlaneGraph(*piece).canonical_code(reflections=reflections)


@given(seed=st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_codes_agree_with_brute_force_isomorphism(seed: int) -> None:
    random = np.random.default_rng(seed)
    pieces = [_random_piece(random) for _ in range(12)]
    graphs = [_dart_graph(piece) for piece in pieces]
    mirrors = [_dart_graph(_mirrored(piece)) for piece in pieces]
    turned = [_code(piece, reflections=False) for piece in pieces]
    either = [_code(piece, reflections=True) for piece in pieces]
    for i, j in combinations(range(len(pieces)), 2):
        matches = _match(graphs[i], graphs[j])
        assert (turned[i] == turned[j]) == matches
        assert (either[i] == either[j]) == (matches or _match(graphs[i], mirrors[j]))


@given(seed=st.integers(0, 2**32), angle=st.floats(0, 6.28), reflect=st.booleans())
@settings(max_examples=100, deadline=None)
def test_codes_are_invariant(seed: int, angle: float, reflect: bool) -> None:
    random = np.random.default_rng(seed)
    points, edges, labels = piece = _random_piece(random)
    order = random.permutation(len(points))
    place = np.argsort(order)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = 31 * points[order] @ turn * [1, -1 if reflect else 1] + 5
    other = moved, random.permutation(place[edges]), labels[order]
    assert _code(piece, reflections=True) == _code(other, reflections=True)
    if not reflect:
        assert _code(piece, reflections=False) == _code(other, reflections=False)


def test_inside_and_outside_are_told_apart() -> None:
    triangle = [[0.0, 0.0], [0.0, 9.0], [9.0, 4.0]]
    edges = [[0, 1], [1, 2], [2, 0], [0, 3]]
    inside = tm.PlaneGraph([*triangle, [2.0, 4.0]], edges)
    outside = tm.PlaneGraph([*triangle, [-5.0, -5.0]], edges)
    assert inside.canonical_code() != outside.canonical_code()


def test_two_triangles_are_not_a_hexagon(lattice: Lattice) -> None:
    hexagon = tm.PlaneGraph(
        [[0, 1], [0, 2], [1, 3], [2, 2], [2, 1], [1, 0]], [[i, (i + 1) % 6] for i in range(6)]
    )
    graph = tm.PlaneGraph.from_positions(lattice("honeycomb", 5))
    assert graph.canonical_code(graph.faces[0]) == hexagon.canonical_code()
    triangles = [[0, 1], [1, 2], [2, 0], [3, 4], [4, 5], [5, 3]]
    two = tm.PlaneGraph([[0, 0], [0, 1], [1, 0], [5, 5], [5, 6], [6, 5]], triangles)
    with pytest.raises(tm.errors.InputError, match="one connected piece"):
        two.canonical_code()


def test_straight_and_bent_pieces_differ_by_their_gaps(lattice: Lattice) -> None:
    graph = tm.PlaneGraph.from_positions(lattice("square", 6))
    straight, bent = [13, 14, 15], [13, 14, 20]
    assert graph.canonical_code(straight) == graph.canonical_code(bent)
    assert graph.canonical_code(straight, corners="gaps") != graph.canonical_code(bent, corners="gaps")


def test_codes_hold_the_names_of_labels() -> None:
    graph = tm.PlaneGraph([[0, 0], [0, 1]], [[0, 1]], ["V_Se", "Mo"])
    assert graph.canonical_code()[0] == ("Mo", "V_Se")
    with pytest.raises(tm.errors.InputError, match="at least one"):
        graph.canonical_code([])


@pytest.mark.parametrize("seed", [0, 1])
def test_shapes_do_not_depend_on_the_order_of_columns(lattice: Lattice, seed: int) -> None:
    positions = np.random.default_rng(seed).permutation(lattice("square", 11))
    graph = tm.PlaneGraph.from_positions(positions)
    for group, expected in zip(
        connected_groups(graph.embedding.rotation[0], 4), POLYFORMS["square", False][:4], strict=True
    ):
        whole = group[~graph.rim[group].any(axis=1)]
        assert len(canonical_shapes(graph.embedding, whole, reflections=False).codes) == expected


@pytest.mark.parametrize("corners", ["none", "gaps", "faces"])
def test_codes_do_not_depend_on_what_is_elsewhere(corners: str) -> None:
    points, edges = [[0, 0], [0, 9], [9, 4], [9, 14]], [[0, 1], [1, 2], [2, 0], [1, 3], [2, 3]]
    star = [[60, 60], [60, 66], [66, 60], [60, 54], [54, 60], [64, 64], [56, 56]]
    alone = tm.PlaneGraph(points, edges)
    beside = tm.PlaneGraph(points + star, edges + [[4, i] for i in range(5, 11)])
    for piece in ([0, 1, 2, 3], [0, 1, 2], [1, 3], [0]):
        assert alone.canonical_code(piece, corners=corners) == beside.canonical_code(piece, corners=corners)
