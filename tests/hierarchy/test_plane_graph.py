from collections.abc import Callable
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull, Delaunay

import torchmotif as tm
from torchmotif.plane_graph.neighbours import delaunay_edges, shell_end
from torchmotif.plane_graph.tiling import _UNIFORM

Lattice = Callable[[str, int], np.ndarray]

TILINGS = {
    "square": ((4, 4, 4, 4), "square", 4),
    "triangular": ((3, 3, 3, 3, 3, 3), "hexagonal", 3),
    "honeycomb": ((6, 6, 6), "triangular", 6),
    "kagome": ((3, 6, 3, 6), "rhombille", 3),
    "snub square": ((3, 3, 4, 3, 4), "pentagonal (type 4, Cairo)", 4),
}


@pytest.mark.parametrize("name", TILINGS)
@pytest.mark.parametrize("noise", [0.0, 0.4])
def test_lattices_have_their_vertex_figure(lattice: Lattice, name: str, noise: float) -> None:
    positions = lattice(name, 9)
    positions = positions + np.random.default_rng(0).normal(scale=noise, size=positions.shape)
    graph = tm.PlaneGraph.from_positions(positions)
    figure, dual_name, _ = TILINGS[name]
    inner = [found for found in graph.vertex_figures() if found is not None]
    assert len(inner) > 30
    assert set(inner) == {figure}
    tiling = graph.tiling()
    assert (tiling.vertex_figure, tiling.share, tiling.dual_name) == (figure, 1.0, dual_name)
    assert sum(tiling.cell_angles_rad) == pytest.approx((len(figure) - 2) * np.pi, rel=1e-2)


def test_the_named_tilings_are_the_eleven_uniform_ones() -> None:
    """Figures whose regular polygons fill the angle around a node, each with a name of its own and of its dual."""
    for figure, (name, dual) in _UNIFORM.items():
        assert sum(0.5 - 1 / sides for sides in figure) == pytest.approx(1), name
        assert figure == min(
            turn[i:] + turn[:i] for turn in (figure, figure[::-1]) for i in range(len(figure))
        ), name
        if dual.startswith("pentagonal"):
            assert len(figure) == 5
    assert len(_UNIFORM) == len({name for name, _ in _UNIFORM.values()}) == 11
    assert len({dual for _, dual in _UNIFORM.values()}) == 11


def test_mean_cell_of_the_cairo_tiling_is_the_known_pentagon(lattice: Lattice) -> None:
    tiling = tm.PlaneGraph.from_positions(lattice("snub square", 6)).tiling()
    assert np.degrees(tiling.cell_angles_rad) == pytest.approx([120, 120, 90, 120, 90])
    triangle, square = 10 / 12**0.5, 5.0  # apothems
    assert tiling.cell_sides == pytest.approx([2 * triangle] + 4 * [triangle + square])


@given(
    points=st.lists(st.tuples(*2 * [st.integers(0, 40)]), min_size=4, max_size=40, unique=True),
    radius=st.floats(3, 60),
)
@settings(max_examples=80, deadline=None)
def test_faces_are_those_of_networkx(points: list[tuple[int, int]], radius: float) -> None:
    positions = np.array(points, float)
    if np.linalg.matrix_rank(positions - positions[0]) < 2:
        return
    graph = tm.PlaneGraph.from_positions(positions, radius=radius)
    embedding = nx.PlanarEmbedding()
    embedding.add_nodes_from(range(len(positions)))
    for node in range(len(positions)):
        near = graph.edges[(graph.edges == node).any(axis=1)].sum(axis=1) - node
        step = positions[near] - positions[node]
        clockwise = np.argsort(-np.arctan2(-step[:, 0], step[:, 1]))
        last = None
        for other in near[clockwise].tolist():
            embedding.add_half_edge(node, other, **({} if last is None else {"cw": last}))
            last = other
    embedding.check_structure()
    seen: set[tuple[int, int]] = set()
    expected = [
        embedding.traverse_face(u, v, mark_half_edges=seen) for u, v in embedding.edges if (u, v) not in seen
    ]
    found = [*graph.faces, *graph.boundary]
    assert sorted(map(_cycle, found)) == sorted(_cycle(np.array(face)) for face in expected)
    assert (graph.faces.areas > 0).all()


def _cycle(face: np.ndarray) -> list[int]:
    return min(np.roll(face, -i).tolist() for i in range(len(face)))


@given(seed=st.integers(0, 10**6), count=st.integers(4, 60))
@settings(max_examples=50, deadline=None)
def test_all_delaunay_neighbours_fill_the_hull(seed: int, count: int) -> None:
    points = np.random.default_rng(seed).random((count, 2)) * 100
    graph = tm.PlaneGraph.from_positions(points, radius=1e3)
    assert len(graph.faces) == len(Delaunay(points).simplices)
    assert graph.faces.areas.sum() == pytest.approx(ConvexHull(points).volume)
    assert sorted(graph.boundary[0].tolist()) == sorted(ConvexHull(points).vertices.tolist())
    assert set(np.flatnonzero(graph.rim)) == set(graph.boundary[0])


def test_faces_do_not_depend_on_scale_rotation_or_order(lattice: Lattice) -> None:
    random = np.random.default_rng(1)
    points = lattice("snub square", 5) + random.normal(scale=0.3, size=(100, 2))
    graph = tm.PlaneGraph.from_positions(points)
    order = random.permutation(100)
    turned = (points[order] @ np.array([[0.6, -0.8], [0.8, 0.6]])) * 3.7 + 1e4
    other = tm.PlaneGraph.from_positions(turned)
    assert {frozenset(order[face]) for face in other.faces} == {frozenset(face) for face in graph.faces}


def test_holes_and_parts_are_kept_apart(lattice: Lattice) -> None:
    square = lattice("square", 9)
    hollow = square[~((square > 25) & (square < 55)).all(axis=1)]  # lacks 3 x 3 columns
    two = np.concatenate([hollow, hollow + np.array([0, 200])])
    graph = tm.PlaneGraph.from_positions(two)
    assert graph.ring_statistics() == {4: 96, 16: 2}
    assert len(set(graph.components)) == len(graph.boundary) == 2
    open_graph = tm.PlaneGraph.from_positions(two, max_face=8)
    assert open_graph.ring_statistics() == {4: 96}
    assert sorted(map(len, open_graph.boundary)) == [16, 16, 32, 32]
    assert open_graph.rim.sum() - graph.rim.sum() == 32
    assert graph.vertex_figures()[0] is None


def test_missing_columns_leave_larger_faces(lattice: Lattice) -> None:
    honeycomb = lattice("honeycomb", 8)
    middle = np.argmin(np.linalg.norm(honeycomb - honeycomb.mean(axis=0), axis=1))
    graph = tm.PlaneGraph.from_positions(np.delete(honeycomb, middle, axis=0))
    assert set(graph.ring_statistics()) == {6, 12}
    assert graph.ring_statistics()[12] == 1


def test_dual_of_the_dual_has_the_inner_nodes(lattice: Lattice) -> None:
    graph = tm.PlaneGraph.from_positions(lattice("snub square", 7))
    dual = graph.dual()
    assert len(dual) == len(graph.faces)
    assert dual.labels.tolist() == graph.faces.sizes.tolist()
    assert set(dual.ring_statistics()) == {5}
    assert len(dual.faces) == (~graph.rim).sum()
    nodes, cells = graph.cells()
    assert len(cells) == len(dual.faces)
    assert np.allclose(np.sort(cells.areas), np.sort(dual.faces.areas))
    around = graph.dual().dual().positions
    assert all(np.linalg.norm(around - graph.positions[node], axis=1).min() < 1 for node in nodes)


def test_graph_goes_to_networkx_and_scipy(lattice: Lattice) -> None:
    points = lattice("square", 4)
    graph = tm.PlaneGraph.from_positions(points, labels=["a"] * 8 + ["b"] * 8)
    other = graph.to_networkx()
    assert nx.is_isomorphic(other, nx.grid_2d_graph(4, 4))
    assert other.nodes[8] == {"pos": (20.0, 0.0), "label": "b"}
    adjacency = graph.adjacency()
    assert (adjacency != adjacency.T).nnz == 0
    assert adjacency.sum() == 2 * len(graph.edges)
    assert graph.with_labels([1] * 16).label_names.tolist() == [1]


def test_k_and_radius_are_kept_to(lattice: Lattice) -> None:
    points = lattice("triangular", 7)
    length = lambda graph: np.linalg.norm(np.diff(graph.positions[graph.edges], axis=1)[:, 0], axis=1)  # noqa: E731
    assert length(tm.PlaneGraph.from_positions(points, radius=10.5)).max() < 10.5
    assert tm.PlaneGraph.from_positions(points, radius=9.0).edges.shape == (0, 2)
    assert tm.PlaneGraph.from_positions(points, k=2).degrees.min() >= 2
    assert len(tm.PlaneGraph.from_positions(points, k=2).edges) <= 2 * len(points)


def test_torch_positions_and_labels_are_taken(lattice: Lattice, device: torch.device) -> None:
    points = torch.tensor(lattice("square", 4), device=device)
    graph = tm.PlaneGraph.from_positions(points, torch.arange(16, device=device) % 3)
    assert graph.ring_statistics() == {4: 9}
    assert graph.label_names.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("positions", "options", "message"),
    [
        ([[0, 0], [0, 1]], {}, "at least 3"),
        ([[0, 0], [1, 1], [2, 2], [5, 5]], {}, "one line"),
        ([[0, 0], [0, 1], [1, 0], [0, 1]], {}, "duplicates"),
        ([[0, 0], [0, 1], [np.nan, 0]], {}, "not finite"),
        ([[0, 0, 0], [0, 1, 0], [1, 0, 0]], {}, "shape"),
        ([[0, 0], [0, 1], [1, 0]], {"labels": [1, 2]}, "one label for each of 3"),
        ([[0, 0], [0, 1], [1, 0]], {"labels": [0.5, 1.5, 2]}, "integers or strings"),
        ([[0, 0], [0, 1], [1, 0]], {"radius": -1.0}, "radius must be"),
        ([[0, 0], [0, 1], [1, 0]], {"k": 0}, "k must be"),
    ],
    ids=["two", "collinear", "duplicates", "nan", "three-d", "labels", "floats", "radius", "k"],
)
def test_bad_input_is_refused(positions: list[list[float]], options: dict[str, object], message: str) -> None:
    with pytest.raises((tm.errors.InputError, tm.errors.InputTypeError), match=message):
        tm.PlaneGraph.from_positions(np.array(positions, float), **options)


@pytest.mark.parametrize(
    ("edges", "message"),
    [([[0, 9]], "must name nodes"), ([[0.5, 1]], "pairs of node indices"), ([[0, 3], [1, 2]], "edges cross")],
)
def test_bad_edges_are_refused(edges: list[list[float]], message: str) -> None:
    corners = [[0, 0], [0, 1], [1, 0], [1, 1]]
    around = [[0, 1], [1, 3], [3, 2], [2, 0]] if message == "edges cross" else []
    with pytest.raises(tm.errors.InputError, match=message):
        _ = tm.PlaneGraph(corners, around + edges).faces


def test_graph_without_faces_says_so(lattice: Lattice) -> None:
    graph = tm.PlaneGraph.from_positions(lattice("square", 3), radius=5.0)
    assert len(graph.faces) == 0
    assert graph.rim.all()
    assert graph.vertex_figures() == [None] * 9
    for use in (graph.dual, graph.tiling):
        with pytest.raises(tm.errors.InputError, match="no bounded face"):
            use()


@pytest.mark.real_data
def test_pentagon_centres_form_the_snub_square_tiling(real_data: Path) -> None:
    centres = np.loadtxt(real_data / "POM_pentagon_centres.csv", delimiter=",", skiprows=1)
    graph = tm.PlaneGraph.from_positions(centres)
    assert set(graph.ring_statistics()) == {3, 4}
    figures = [figure for figure in graph.vertex_figures() if figure is not None]
    assert figures == [(3, 3, 4, 3, 4)] * 9563
    tiling = graph.tiling()
    assert tiling.dual_name == "pentagonal (type 4, Cairo)"
    assert np.degrees(tiling.cell_angles_rad) == pytest.approx([120, 120, 90, 120, 90], abs=2)


def test_a_negative_zero_is_a_zero() -> None:
    rows, columns = np.mgrid[0:4, 0:5].reshape(2, -1).astype(float)
    plain = np.stack([rows, columns], axis=1)
    signed = plain.copy()
    signed[::2][signed[::2] == 0] = -0.0
    assert np.signbit(signed).any()
    graphs = [tm.PlaneGraph.from_positions(points) for points in (plain, signed)]
    assert [sorted(map(len, graph.faces)) for graph in graphs] == [[4] * 12] * 2


@pytest.mark.parametrize("noise", [0.0, 0.05])
@pytest.mark.parametrize(
    ("aspect", "least", "most"), [(1.3, 1.47, 1.51), (1.4, 1.53, 1.57), (1.5, 1.32, 1.36), (1.6, 1.37, 1.41)]
)
def test_the_shell_ends_in_the_middle_of_the_widest_gap(
    aspect: float, least: float, most: float, noise: float
) -> None:
    # Of a rectangular lattice: distances of 1 and of the aspect, sought between 1.25 and 1.65.
    grid = np.stack(np.meshgrid(np.arange(12.0), aspect * np.arange(12.0), indexing="ij"), axis=-1)
    points = 10 * grid.reshape(-1, 2)
    points += np.random.default_rng(0).normal(scale=noise, size=points.shape)
    assert least < shell_end(points, delaunay_edges(points)) < most


@pytest.mark.parametrize("count", [0, 1, 3])
def test_nodes_without_edges_have_no_faces(count: int) -> None:
    points = np.arange(2.0 * count).reshape(count, 2)
    graph = tm.PlaneGraph(points, np.zeros((0, 2), int))
    assert len(graph) == len(np.unique(graph.embedding.components)) == count
    assert len(graph.faces) == 0
