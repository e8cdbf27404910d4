import inspect

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist
from sklearn.utils.estimator_checks import parametrize_with_checks

import torchmotif as tm
from torchmotif.errors import InputError
from torchmotif.layout import fuzzy_graph, nearest_neighbours


def _groups(n: int = 60, d: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Three groups of rows, n in each, and their labels."""
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(3), n)
    return 4 * rng.normal(size=(3, d))[label] + rng.normal(size=(3 * n, d)), label


@parametrize_with_checks([tm.ForceLayout(), tm.ForceLayout(3, metric="euclidean", n_iter=20)])
def test_scikit_learn_contract(
    estimator: tm.ForceLayout, check: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    # one of the checks hands all sorts of values to __init__, which the tests' own type checks would refuse
    monkeypatch.setattr(tm.ForceLayout, "__init__", inspect.unwrap(tm.ForceLayout.__init__))
    check(estimator)  # type: ignore[operator]


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(2, 150),
    d=st.integers(2, 6),
    k=st.integers(1, 40),
    metric=st.sampled_from(["correlation", "euclidean"]),
    seed=st.integers(0, 99),
)
def test_neighbours_are_those_of_all_pairs(n: int, d: int, k: int, metric: str, seed: int) -> None:
    X = np.random.default_rng(seed).normal(size=(n, d)) + 3
    indices, distances = nearest_neighbours(torch.as_tensor(X), k, metric=metric)
    everything = cdist(X, X, metric)
    np.fill_diagonal(everything, np.inf)
    expected = np.sort(everything, axis=1)[:, : min(k, n - 1)]
    # the root in the Euclidean distance doubles what rounding leaves of the square
    assert_allclose(distances.numpy(), expected, atol=1e-6)
    assert_allclose(np.take_along_axis(everything, indices.numpy(), axis=1), expected, atol=1e-6)


def test_neighbours_are_found_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    X = torch.randn(100, 5, generator=torch.Generator().manual_seed(0))
    whole, _ = nearest_neighbours(X, 7)
    monkeypatch.setattr("torchmotif.layout._BLOCK_BYTES", 4096)
    assert_array_equal(nearest_neighbours(X, 7)[0], whole)


def test_a_constant_row_correlates_with_none() -> None:
    X = torch.tensor([[1.0, 1.0, 1.0], [1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    _, distances = nearest_neighbours(X, 2)
    assert_allclose(distances[0], [1.0, 1.0], atol=1e-6)
    assert_allclose(distances[1], [1.0, 2.0], atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(3, 60), k=st.integers(2, 15), seed=st.integers(0, 99))
def test_weights_are_those_of_the_fuzzy_union(n: int, k: int, seed: int) -> None:
    X = torch.as_tensor(np.random.default_rng(seed).normal(size=(n, 4)))
    indices, distances = nearest_neighbours(X, k)
    k = indices.shape[1]
    source, target, weight = (part.numpy() for part in fuzzy_graph(indices, distances))
    graph = np.zeros((n, n))
    graph[source, target] = weight
    assert_array_equal(graph, graph.T)
    assert len(np.unique(source * n + target)) == len(source)
    assert (np.diff(source * n + target) > 0).all()
    assert (weight >= 0).all()
    assert (weight <= 1).all()
    # every point is joined with its nearest neighbour by a whole edge
    assert_allclose(graph[np.arange(n), indices[:, 0]], 1.0)
    # directed weights add up to log2 k, so that of a point's edges lies above; the union adds no more than both have
    assert (graph.sum(axis=1) >= np.log2(k) - 1e-6).all()
    assert graph.sum() <= 2 * n * np.log2(k) + 1e-6 or k == 2


def test_groups_stay_together_and_apart() -> None:
    X, label = _groups()
    layout = tm.ForceLayout().fit_transform(X)
    nearest, _ = nearest_neighbours(torch.as_tensor(layout), 10, metric="euclidean")
    assert (label[nearest.numpy()] == label[:, None]).mean() > 0.97
    blobs = tm.cluster.LayoutBlobs(radius=8).fit_predict(layout)
    assert tm.metrics.ami(label, blobs) > 0.8


def test_neighbours_stay_neighbours() -> None:
    X, _ = _groups(200)
    before, _ = nearest_neighbours(torch.as_tensor(X), 10)
    kept = {}
    for n_iter in (0, 100):  # without iterations the layout is that of the principal components
        layout = tm.ForceLayout(n_iter=n_iter).fit_transform(X)
        after, _ = nearest_neighbours(torch.as_tensor(layout), 10, metric="euclidean")
        kept[n_iter] = np.mean([np.isin(a, b).mean() for a, b in zip(after, before, strict=True)])
    assert kept[100] > 1.3 * kept[0]


def test_it_starts_at_the_principal_components() -> None:
    X, _ = _groups()
    start = tm.ForceLayout(n_iter=0).fit_transform(X)
    assert np.abs(start).max() == pytest.approx(10)
    components = tm.PCA(2).fit_transform(X)
    assert_allclose(start, components * 10 / np.abs(components).max(), atol=1e-4)


def test_same_seed_same_bits() -> None:
    X, _ = _groups()
    first, second, other = (tm.ForceLayout(random_state=seed).fit_transform(X) for seed in (3, 3, 4))
    assert_array_equal(first, second)
    assert (first != other).any()


def test_no_global_seed_is_used_or_set() -> None:
    X, _ = _groups()
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    tm.ForceLayout(n_iter=2).fit(X)
    assert_array_equal(torch.rand(3), expected)


def test_correlation_ignores_level_and_scale_of_a_row() -> None:
    X, _ = _groups()
    scale = np.random.default_rng(1).uniform(1, 2, (len(X), 1))
    plain, _ = nearest_neighbours(torch.as_tensor(X), 5)
    changed, _ = nearest_neighbours(torch.as_tensor(X * scale + 7 * scale), 5)
    assert_array_equal(plain, changed)


def test_torch_in_torch_out(device: torch.device, dtype: torch.dtype) -> None:
    X, _ = _groups()
    layout = tm.ForceLayout(n_iter=10).fit_transform(torch.as_tensor(X, dtype=dtype, device=device))
    assert isinstance(layout, torch.Tensor)
    assert layout.dtype == dtype
    assert layout.device.type == device.type
    assert bool(torch.isfinite(layout).all())


@pytest.mark.parametrize(
    "X",
    [np.ones((20, 4)), np.eye(2), np.arange(5.0)[:, None], np.repeat(np.eye(3), 10, axis=0)],
    ids=["identical", "two rows", "one feature", "three places"],
)
def test_degenerate_data_have_a_finite_layout(X: np.ndarray) -> None:
    layout = tm.ForceLayout().fit_transform(X)
    assert layout.shape == (len(X), 2)
    assert np.isfinite(layout).all()


def test_the_positions_have_names() -> None:
    layout = tm.ForceLayout(n_iter=0).fit(_groups()[0])
    assert layout.get_feature_names_out().tolist() == ["forcelayout0", "forcelayout1"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_neighbors": 0}, "n_neighbors must be at least 1, got 0"),
        ({"n_iter": -1}, "n_iter must be at least 0"),
        ({"negative_samples": -1}, "negative_samples must be at least 0"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"first_stage": (0, -2, 1, 1)}, "first_stage must be four numbers"),
        ({"metric": "cosine"}, "metric must be 'correlation' or 'euclidean', got 'cosine'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_parameters(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tm.ForceLayout(**parameters).fit(_groups()[0])


@pytest.mark.parametrize("X", [torch.zeros(1, 3), torch.zeros(5), torch.full((5, 2), torch.inf)], ids=str)
def test_bad_tensors(X: torch.Tensor) -> None:
    with pytest.raises(InputError, match="X "):
        tm.ForceLayout().fit(X)
