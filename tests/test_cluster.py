import importlib.util
import sys
import types
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy.spatial.distance import pdist, squareform

import torchmotif as tm
from torchmotif.cluster import (
    HDBSCAN,
    Clusterer,
    GaussianMixture,
    KMeans,
    LayoutBlobs,
    clusterer,
    ordered_by_size,
)
from torchmotif.errors import InputError, MissingDependencyError

HAS_FAST = importlib.util.find_spec("fast_hdbscan") is not None
SIZES = (60, 40, 25)
BACKENDS = {
    "hdbscan": {"min_cluster_size": 15, "min_samples": 5},
    "sklearn-hdbscan": {"min_cluster_size": 15, "min_samples": 5},
    "fast-hdbscan": {"min_cluster_size": 15, "min_samples": 5},
    "kmeans": {"n_clusters": 3},
    "torch-kmeans": {"n_clusters": 3},
    "gaussian-mixture": {"n_clusters": 3},
    "layout-blobs": {"radius": 6},
}


def _blobs(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three round clusters, the smallest first, and the label each should get."""
    rng = np.random.default_rng(seed)
    label = np.repeat([2, 1, 0], SIZES[::-1])
    return np.array([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])[label] + rng.uniform(
        -0.4, 0.4, (len(label), 2)
    ), label


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Clusterer:
    if request.param == "fast-hdbscan" and not HAS_FAST:
        pytest.skip("fast_hdbscan is not installed")
    return clusterer(request.param, **BACKENDS[request.param])


def test_clusters_are_found_and_ordered_by_size(backend: Clusterer) -> None:
    X, label = _blobs()
    found = backend.fit_predict(X)
    assert found.dtype == np.int64
    assert_array_equal(found, label)


def test_torch_in_torch_out(backend: Clusterer, device: torch.device, dtype: torch.dtype) -> None:
    X, label = _blobs()
    found = backend.fit_predict(torch.as_tensor(X, dtype=dtype, device=device))
    assert isinstance(found, torch.Tensor)
    assert found.device.type == device.type
    assert_array_equal(found.cpu().numpy(), label)


def test_same_call_same_labels(backend: Clusterer) -> None:
    X = np.random.default_rng(1).normal(size=(150, 2))
    assert_array_equal(backend.fit_predict(X), backend.fit_predict(X))


@pytest.mark.parametrize(
    "X",
    [np.zeros(5), np.zeros((0, 2)), np.full((60, 2), np.nan), np.zeros((0, 0))],
    ids=["1-D", "no rows", "nan", "empty"],
)
def test_what_is_no_matrix_is_refused(backend: Clusterer, X: np.ndarray) -> None:
    with pytest.raises(InputError, match="X "):
        backend.fit_predict(X)


@pytest.mark.parametrize("backend", list(BACKENDS)[:6], indirect=True)
def test_too_few_rows_are_refused(backend: Clusterer) -> None:
    with pytest.raises(InputError, match=r"at least .* rows, got 2; lower"):
        backend.fit_predict(np.zeros((2, 2)))


@pytest.mark.parametrize("library", ["sklearn", "fast_hdbscan"])
def test_min_samples_means_the_same_in_all_libraries(library: Literal["sklearn", "fast_hdbscan"]) -> None:
    # Edges of equal length leave the spanning tree open, so single columns may differ; one sample more or less shows.
    if library == "fast_hdbscan" and not HAS_FAST:
        pytest.skip("fast_hdbscan is not installed")
    differ = {-1: 0, 0: 0, 1: 0}
    for seed in range(3):
        rng = np.random.default_rng(seed)
        groups = [rng.normal(0, 1, (120, 2)), rng.normal(5, 1.5, (80, 2)), rng.uniform(-8, 12, (60, 2))]
        X = np.concatenate(groups)
        for samples in (2, 4, 7, 9):
            exact = HDBSCAN(10, samples).fit_predict(X)
            for offset in differ:
                differ[offset] += int((HDBSCAN(10, samples + offset, library).fit_predict(X) != exact).sum())
    assert differ[0] <= 10
    assert min(differ[-1], differ[1]) > 3 * differ[0] + 10


def test_min_samples_is_min_cluster_size_unless_given() -> None:
    X = np.random.default_rng(0).normal(size=(200, 2))
    for library in ("hdbscan", "sklearn"):
        assert_array_equal(
            HDBSCAN(12, library=library).fit_predict(X), HDBSCAN(12, 12, library).fit_predict(X)
        )


def test_hdbscan_leaves_noise_out() -> None:
    X, label = _blobs()
    found = HDBSCAN(15, 5).fit_predict(np.concatenate([X, [[100.0, 100.0]]]))
    assert_array_equal(found, np.append(label, -1))


@given(st.integers(1, 60), st.integers(0, 50), st.integers(0, 8))
def test_blobs_are_connected_components_of_overlapping_disks(n: int, seed: int, radius: int) -> None:
    positions = np.random.default_rng(seed).integers(0, 200, (n, 2)).astype(float)
    positions[:1], positions[1:2] = 0.0, 230.0  # one layout unit is one pixel of a raster of 256
    found = LayoutBlobs(resolution=256, radius=radius).fit_predict(positions)
    assert found.max() < n
    distance = squareform(pdist(positions))
    near = distance <= 2 * radius  # such disks share a pixel or touch
    assert (found[:, None] == found[None, :])[near].all() or n == 1
    for blob in range(found.max() + 1):  # blobs apart are further apart than their disks reach
        here = found == blob
        if not here.all():
            assert distance[here][:, ~here].min() > 2 * radius - 1.5


def test_small_blobs_can_be_noise() -> None:
    X, label = _blobs()
    assert_array_equal(
        LayoutBlobs(radius=6, min_cluster_size=30).fit_predict(X), np.where(label == 2, -1, label)
    )


@pytest.mark.parametrize("X", [np.zeros((1, 2)), np.ones((9, 2)) * 3], ids=["one point", "all the same"])
def test_points_at_one_place_are_one_blob(X: np.ndarray) -> None:
    assert_array_equal(LayoutBlobs().fit_predict(X), np.zeros(len(X)))


def test_blobs_need_a_layout() -> None:
    with pytest.raises(InputError, match=r"shape \(n, 2\), got \(9, 3\)"):
        LayoutBlobs().fit_predict(np.zeros((9, 3)))


@given(st.lists(st.integers(-1, 5), min_size=0, max_size=40))
def test_order_is_by_size_and_keeps_the_partition(labels: list[int]) -> None:
    given_labels = np.array(labels, dtype=np.int64)
    ordered = ordered_by_size(given_labels)
    sizes = np.bincount(ordered + 1)[1:] if len(labels) else np.array([])
    assert (np.diff(sizes) <= 0).all()
    assert (sizes > 0).all()
    assert_array_equal(ordered < 0, given_labels < 0)
    same = given_labels[:, None] == given_labels[None, :]
    assert_array_equal(ordered[:, None] == ordered[None, :], same)


def test_back_ends_have_names() -> None:
    assert clusterer("kmeans", n_clusters=4) == KMeans(4)
    assert clusterer("gaussian-mixture", n_clusters=4, random_state=1) == GaussianMixture(4, 1)
    assert clusterer("sklearn-hdbscan") == HDBSCAN(library="sklearn")
    assert clusterer("layout-blobs", radius=2) == LayoutBlobs(radius=2)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("dbscan", {}, "name must be one of hdbscan, sklearn-hdbscan, .*, got 'dbscan'"),
        ("kmeans", {"k": 3}, "kmeans has no parameter k; it takes n_clusters, random_state"),
        ("hdbscan", {"library": "sklearn"}, "hdbscan has no parameter library"),
        ("kmeans", {}, "kmeans needs more parameters; it takes n_clusters"),
    ],
    ids=["name", "parameter", "library", "missing"],
)
def test_wrong_names_are_explained(name: str, parameters: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        clusterer(name, **parameters)


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        (HDBSCAN(1), "min_cluster_size must be at least 2"),
        (HDBSCAN(5, 0), "min_samples at least 1"),
        (KMeans(0), "n_clusters must be at least 1, got 0"),
        (GaussianMixture(-1), "n_clusters must be at least 1, got -1"),
        (LayoutBlobs(resolution=1), "resolution must be at least 2"),
        (LayoutBlobs(radius=-1), "radius at least 0"),
    ],
    ids=repr,
)
def test_parameters_out_of_range(backend: Clusterer, message: str) -> None:
    with pytest.raises(InputError, match=message):
        backend.fit_predict(np.zeros((50, 2)))


@pytest.mark.skipif(HAS_FAST, reason="fast_hdbscan is installed")
def test_a_missing_library_says_how_to_get_it() -> None:
    with pytest.raises(MissingDependencyError, match="pip install fast-hdbscan"):
        HDBSCAN(5, library="fast_hdbscan").fit_predict(np.zeros((50, 2)))


def test_a_machine_without_hdbscan_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hdbscan", None)  # as if it could not be imported
    with pytest.raises(MissingDependencyError, match="pip install hdbscan; or take library='sklearn'"):
        HDBSCAN(5).fit_predict(np.zeros((50, 2)))


def test_analyze_needs_no_hdbscan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hdbscan", None)
    scan = tm.datasets.mose2((160, 160)).draw(generator=torch.Generator().manual_seed(0))
    assert tm.analyze(scan, progress=False).n_motifs >= 1


@pytest.mark.parametrize("name", ["cuml-hdbscan", "cuml-kmeans"])
def test_a_machine_without_cuml_says_what_it_needs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuml", None)
    monkeypatch.setitem(sys.modules, "cuml.cluster", None)
    parameters = {"n_clusters": 3} if "kmeans" in name else {}
    with pytest.raises(MissingDependencyError, match="NVIDIA GPU"):
        clusterer(name, **parameters).fit_predict(np.zeros((50, 2)))


@pytest.mark.parametrize("name", ["cuml-hdbscan", "cuml-kmeans"])
def test_cuml_is_given_what_the_libraries_on_the_cpu_are(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a stand-in of the signatures of cuML, which nothing here can run."""
    X, _ = _blobs(0)

    def density(*, min_cluster_size: int, min_samples: int, output_type: str) -> Any:
        assert output_type == "numpy"
        return HDBSCAN(min_cluster_size, min_samples)

    def means(n_clusters: int, *, n_init: int, random_state: int, output_type: str) -> Any:
        assert (n_init, output_type) == (10, "numpy")
        return KMeans(n_clusters, random_state, "sklearn")

    stub = types.ModuleType("cuml.cluster")
    vars(stub).update(HDBSCAN=density, KMeans=means)
    monkeypatch.setitem(sys.modules, "cuml", types.ModuleType("cuml"))
    monkeypatch.setitem(sys.modules, "cuml.cluster", stub)
    parameters = {"n_clusters": 3} if name == "cuml-kmeans" else {"min_cluster_size": 15, "min_samples": 5}
    found = clusterer(name, **parameters).fit_predict(torch.from_numpy(X))
    assert isinstance(found, torch.Tensor)
    assert found.dtype == torch.int64
    assert_array_equal(found, clusterer(name.removeprefix("cuml-"), **parameters).fit_predict(X))


@pytest.mark.skipif(importlib.util.find_spec("cuml") is None, reason="cuml is not installed")
@pytest.mark.parametrize("seed", range(3))
def test_cuml_labels_all_but_single_points_as_hdbscan_does(seed: int) -> None:
    X, _ = _blobs(seed)
    assert (HDBSCAN(15, 5, "cuml").fit_predict(X) != HDBSCAN(15, 5).fit_predict(X)).mean() < 0.02


@given(st.integers(1, 5), st.integers(0, 20))
def test_k_means_in_torch_is_as_good_as_that_of_scikit_learn(count: int, seed: int) -> None:
    X = np.random.default_rng(seed).normal(size=(60, 3)) + 50.0
    found = KMeans(count, library="torch").fit_predict(X)
    other = KMeans(count, library="sklearn").fit_predict(X)

    def loss(labels: np.ndarray) -> float:
        parts = [X[labels == i] for i in range(count)]
        return float(sum(((part - part.mean(0)) ** 2).sum() for part in parts))

    assert set(found) == set(range(count))
    assert loss(found) <= 1.05 * loss(other)
