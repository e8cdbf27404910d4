from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.datasets.oxide import CAIRO

VERTICES = [CAIRO, (0.33, 0.10), (0.40, 0.10), (0.36, 0.20)]


def pentagons(truth: tm.datasets.Truth, size: float) -> np.ndarray:
    """Corners (n, 5, 2) in cyclic order of the pentagons around the inner centres, from positions alone."""
    is_centre = np.isin(truth.kinds, ["filled", "hollow"])
    places = truth.positions.numpy()
    centres, corners = places[is_centre], places[~is_centre]
    inner = ((centres > size) & (centres < np.array([511, 511]) - size)).all(1)
    near = cKDTree(corners).query(centres[inner], k=5)[1]
    rings = corners[near]
    away = rings - centres[inner][:, None]
    order = np.argsort(np.arctan2(away[..., 0], away[..., 1]), axis=1)
    return np.take_along_axis(rings, order[..., None], axis=1)


@pytest.mark.parametrize("vertex", VERTICES, ids=["equilateral", "skew", "wide", "other"])
def test_every_tile_is_the_same_pentagon_of_type_4(vertex: tuple[float, float]) -> None:
    truth = tm.datasets.pentagonal_oxide(vertex=vertex, lattice_nm=1.4).truth
    rings = pentagons(truth, 50)
    ahead = np.roll(rings, -1, axis=1) - rings
    side = np.linalg.norm(ahead, axis=2)
    behind = np.roll(ahead, 1, axis=1)
    cosine = (ahead * -behind).sum(2) / side / np.roll(side, 1, axis=1)
    assert np.ptp(np.sort(side, axis=1), axis=0).max() < 1e-6  # congruent
    equal = np.abs(side - np.roll(side, 1, axis=1)) < 1e-6
    right = np.abs(cosine) < 1e-6
    assert ((right & equal).sum(1) >= 2).all()
    at = np.argsort(~(right & equal), axis=1, kind="stable")[:, :2]
    assert np.isin((at[:, 1] - at[:, 0]) % 5, (2, 3)).all()  # the two right angles are not adjacent
    x, y = rings[..., 1], rings[..., 0]
    area = np.abs((x * np.roll(y, -1, 1) - y * np.roll(x, -1, 1)).sum(1)) / 2
    assert area == pytest.approx((1.4 / 0.025) ** 2 / 4, rel=1e-9)


def vertex_figures(centres: np.ndarray, spacing: float, size: tuple[int, int]) -> list[tuple[int, ...]]:
    """Sizes of the polygons around every inner point, in cyclic order, with points up to 1.22 spacings as neighbours."""
    tree = cKDTree(centres)
    around = tree.query_ball_point(centres, 1.22 * spacing)
    neighbours = [[j for j in near if j != i] for i, near in enumerate(around)]
    figures = []
    for i, near in enumerate(neighbours):
        if not ((centres[i] > 3 * spacing) & (centres[i] < np.array(size) - 3 * spacing)).all():
            continue
        away = centres[near] - centres[i]
        ring = [near[k] for k in np.argsort(np.arctan2(away[:, 0], away[:, 1]))]
        polygons = [3 if b in neighbours[a] else 4 for a, b in zip(ring, ring[1:] + ring[:1], strict=True)]
        turns = [tuple(polygons[k:] + polygons[:k]) for k in range(len(polygons))]
        figures.append(min(turns))
    return figures


@pytest.mark.parametrize("vertex", [CAIRO, (0.35, 0.14)], ids=["equilateral", "skew"])
def test_the_centres_form_the_snub_square_tiling(vertex: tuple[float, float]) -> None:
    truth = tm.datasets.pentagonal_oxide(vertex=vertex).truth
    centres = truth.positions.numpy()[np.isin(truth.kinds, ["filled", "hollow"])]
    spacing = np.median(cKDTree(centres).query(centres, k=2)[0][:, 1])
    figures = vertex_figures(centres, spacing, (512, 512))
    assert len(figures) > 200
    assert set(figures) == {(3, 3, 4, 3, 4)}


@pytest.mark.real_data
def test_the_tiling_goes_on_the_real_centres(real_data: Path) -> None:
    table = np.loadtxt(real_data / "POM_pentagon_centres.csv", delimiter=",", skiprows=1)
    centres = table[:, :2]
    specimen = tm.datasets.pentagonal_oxide((2048, 2048), centres=centres, filling=0.3)
    kinds = specimen.truth.kinds
    assert np.isin(kinds, ["filled", "hollow"]).sum() == len(centres)
    assert (kinds == "filled").sum() == round(0.3 * len(centres))
    # In a perfect tiling there are two vertices of degree three for each of degree four.
    assert (kinds == "M3").sum() / (kinds == "M4").sum() == pytest.approx(2, abs=0.03)
    figures = vertex_figures(centres, 21.0, (2048, 2048))
    assert np.mean([f == (3, 3, 4, 3, 4) for f in figures]) > 0.98


def test_classes_of_vertices_count_the_hollow_pentagons() -> None:
    truth = tm.datasets.pentagonal_oxide(filling=0.6, coupling=0.1).truth
    places = truth.positions.numpy()
    centre = np.isin(truth.kinds, ["filled", "hollow"])
    tree = cKDTree(places[centre])
    for kind, faces in (("M3", 3), ("M4", 4)):
        chosen = (truth.kinds == kind) & ((places > 30) & (places < 480)).all(1)
        near = tree.query(places[chosen], k=faces)[1]
        hollow = (truth.kinds[centre][near] == "hollow").sum(1)
        assert truth.classes[chosen].tolist() == [kind + (f" -{h} Nb" if h else "") for h in hollow]


@settings(max_examples=25, deadline=None)
@given(filling=st.floats(0, 1), seed=st.integers(0, 100))
def test_hollow_pentagons_have_no_atoms(filling: float, seed: int) -> None:
    truth = tm.datasets.pentagonal_oxide((100, 100), filling=filling, random_state=seed).truth
    assert ((truth.species == "") == (truth.kinds == "hollow")).all()
    assert (truth.species[truth.kinds == "filled"] == "Nb").all()


def test_any_set_of_centres_without_squares_and_triangles_is_refused() -> None:
    with pytest.raises(tm.errors.InputError, match="on a line"):
        tm.datasets.pentagonal_oxide((64, 64), centres=[(1.0, 1.0), (2.0, 2.0)])
    with pytest.raises(tm.errors.InputError, match="no triangles and squares"):
        tm.datasets.pentagonal_oxide((64, 64), centres=[(0.0, 0.0), (0.0, 1.0), (50.0, 3.0), (60.0, 30.0)])
    square = torch.tensor([(10.0, 10.0), (10.0, 30.0), (30.0, 10.0), (30.0, 30.0)])
    truth = tm.datasets.pentagonal_oxide((64, 64), centres=square, filling=1.0).truth
    assert sorted(truth.kinds) == ["M4", "filled", "filled", "filled", "filled"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"filling": 2.0}, "filling"),
        ({"vertex": (0.5, 0.5)}, "convex"),
        ({"vertex": (0.1, 0.4)}, "convex"),
        ({"metal": "Zz"}, "no element"),
        ({"lattice_nm": 0.0}, "lattice_nm"),
        ({"shape": (0, 0)}, "shape"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else v,
)
def test_bad_input_is_refused(options: dict, message: str) -> None:
    with pytest.raises(tm.errors.InputError, match=message):
        tm.datasets.pentagonal_oxide(**options)
