import inspect

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.decomposition import PCA as Reference  # noqa: N811
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

import torchmotif as tm
from torchmotif.errors import InputError, InputTypeError

LEARNT = ("components_", "explained_variance_", "explained_variance_ratio_", "singular_values_", "mean_")


def _data(n: int = 200, d: int = 7, seed: int = 0) -> np.ndarray:
    """Rows whose variance falls from direction to direction."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, d)) * np.linspace(4, 1, d) @ np.linalg.qr(rng.normal(size=(d, d)))[0]) + 5


@parametrize_with_checks([tm.PCA(), tm.PCA(1)])
def test_scikit_learn_contract(estimator: tm.PCA, check: object, monkeypatch: pytest.MonkeyPatch) -> None:
    # one of the checks hands all sorts of values to __init__, which the tests' own type checks would refuse
    monkeypatch.setattr(tm.PCA, "__init__", inspect.unwrap(tm.PCA.__init__))
    check(estimator)  # type: ignore[operator]


@pytest.mark.parametrize(("n", "d"), [(200, 7), (12, 40), (30, 30)], ids=["tall", "wide", "square"])
@pytest.mark.parametrize("n_components", [1, 5, None])
def test_it_is_that_of_scikit_learn(n: int, d: int, n_components: int | None) -> None:
    X = _data(n, d)
    ours = tm.PCA(n_components).fit(X)
    theirs = Reference(n_components, svd_solver="full").fit(X)
    full = slice(None, min(n - 1, d) if n_components is None else n_components)  # the others have no variance
    for name in LEARNT:
        assert_allclose(
            getattr(ours, name)[full], getattr(theirs, name)[full], rtol=1e-6, atol=1e-8, err_msg=name
        )
    assert_allclose(ours.transform(X)[:, full], theirs.transform(X)[:, full], atol=1e-8)
    assert_allclose(ours.inverse_transform(ours.transform(X)), theirs.inverse_transform(theirs.transform(X)))


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(5, 60),
    d=st.integers(1, 12),
    cuts=st.lists(st.integers(1, 59), max_size=5),
    seed=st.integers(0, 99),
)
def test_batches_give_what_the_whole_gives(n: int, d: int, cuts: list[int], seed: int) -> None:
    X = _data(n, d, seed)
    batches = [part for part in np.split(X, sorted(set(cuts))) if len(part)]
    whole, streamed = tm.PCA().fit(X), tm.PCA().fit_batches(iter(batches))
    step_by_step = tm.PCA()
    for batch in batches:
        step_by_step.partial_fit(batch)
    for other in (streamed, step_by_step):
        assert other.n_samples_seen_ == n
        assert_allclose(other.mean_, whole.mean_, rtol=1e-9)
        assert_allclose(
            other.explained_variance_,
            whole.explained_variance_,
            rtol=1e-6,
            atol=1e-10 * whole.explained_variance_[0],
        )
        assert_allclose(other.inverse_transform(other.transform(X)), X, atol=1e-6)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(3, 40), d=st.integers(1, 20), seed=st.integers(0, 99))
def test_components_are_orthonormal_and_their_signs_fixed(n: int, d: int, seed: int) -> None:
    model = tm.PCA().fit(_data(n, d, seed))
    components = model.components_
    assert_allclose(components @ components.T, np.eye(min(n, d)), atol=1e-9)
    assert (np.take_along_axis(components, np.abs(components).argmax(axis=1)[:, None], axis=1) > 0).all()
    assert (np.diff(model.explained_variance_) <= 1e-12 * model.explained_variance_[0]).all()
    assert model.explained_variance_ratio_.sum() == pytest.approx(1)


def test_a_level_far_from_zero_costs_no_digits() -> None:
    X = _data(500, 4)
    assert_allclose(
        tm.PCA().fit(X + 1e8).explained_variance_, tm.PCA().fit(X).explained_variance_, rtol=1e-5, atol=1e-12
    )


def test_identical_rows_have_no_variance() -> None:
    model = tm.PCA(2).fit(np.full((9, 3), 0.1))
    assert_allclose(model.explained_variance_, 0, atol=1e-20)
    assert np.isfinite(model.explained_variance_ratio_).all()


def test_tensors_stay_tensors(device: torch.device, dtype: torch.dtype) -> None:
    X = torch.as_tensor(_data(), dtype=dtype, device=device)
    model = tm.PCA(3)
    coordinates = model.fit_transform(X)
    for result in (coordinates, model.components_, model.inverse_transform(coordinates)):
        assert isinstance(result, torch.Tensor)
        assert result.dtype == dtype
        assert result.device.type == device.type
    expected = tm.PCA(3).fit_transform(_data())
    assert_allclose(coordinates.cpu().numpy(), expected, atol=1e-3 if dtype == torch.float32 else 1e-9)
    assert_allclose(model.transform(X.cpu().numpy()), expected, atol=1e-3 if dtype == torch.float32 else 1e-9)


def test_fit_forgets_and_partial_fit_starts_anew_after_it() -> None:
    first, second = _data(50), _data(40, seed=1)
    model = tm.PCA().partial_fit(first).fit(second)
    assert model.n_samples_seen_ == 40
    assert model.partial_fit(first).n_samples_seen_ == 50
    assert_array_equal(model.components_, tm.PCA().partial_fit(first).components_)
    assert clone(model).get_params() == model.get_params()


def test_the_components_have_names() -> None:
    assert tm.PCA(2).fit(_data()).get_feature_names_out().tolist() == ["pca0", "pca1"]


@pytest.mark.parametrize(
    ("n_components", "X", "message"),
    [
        (0, _data(), "n_components must lie between 1 and .* = 7, got 0"),
        (8, _data(), "got 8"),
        (5, _data(4), "= 4, got 5"),
        (1, torch.zeros(5), r"shape \(n, d\)"),
        (1, torch.zeros(1, 5), "at least 2 row"),
        (1, torch.full((5, 3), torch.nan), "not finite"),
    ],
    ids=["none", "more than features", "more than rows", "1-D", "one row", "nan"],
)
def test_bad_input(n_components: int, X: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        tm.PCA(n_components).fit(X)


def test_complex_tensors_are_refused() -> None:
    with pytest.raises(InputTypeError, match="real numbers"):
        tm.PCA().fit(torch.zeros((5, 3), dtype=torch.complex64))


@pytest.mark.parametrize("batches", [[], [_data(1)]], ids=["no batch", "one row"])
def test_too_few_rows_in_all_batches(batches: list[np.ndarray]) -> None:
    with pytest.raises(InputError, match="at least two rows"):
        tm.PCA().fit_batches(batches)


def test_batches_must_have_the_same_features() -> None:
    with pytest.raises(InputError, match="fitted with 7"):
        tm.PCA().fit_batches([torch.as_tensor(_data()), torch.zeros(5, 6)])


def test_coordinates_of_another_width_are_refused() -> None:
    with pytest.raises(InputError, match=r"shape \(n, 2\)"):
        tm.PCA(2).fit(_data()).inverse_transform(np.zeros((5, 3)))


def test_transform_before_fit_says_so() -> None:
    with pytest.raises(NotFittedError):
        tm.PCA().transform(_data())


@pytest.mark.parametrize("shape", [(20, 5), (4, 9)])
def test_features_whose_squares_overflow_are_refused(shape: tuple[int, int]) -> None:
    X = np.random.default_rng(0).uniform(-1, 1, shape) * 1e200
    with pytest.raises(InputError, match="overflow"):
        tm.PCA(2).fit(X)


@pytest.fixture(params=["scatter matrix", "products of rows", "rows themselves"])
def many(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Rows with so many features that a few components are found by iteration, in each of the three ways."""
    n, d = {"scatter matrix": (700, 300), "products of rows": (280, 600), "rows themselves": (400, 350)}[
        request.param
    ]
    if request.param == "rows themselves":
        monkeypatch.setattr("torchmotif.pca._LARGEST_MATRIX", 100)
    rng = np.random.default_rng(3)
    signal = rng.normal(size=(n, 6)) * np.linspace(12, 4, 6) @ np.linalg.qr(rng.normal(size=(d, 6)))[0].T
    return signal + rng.normal(size=(n, d)) + 7


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_a_few_of_many_components_are_those_of_the_whole_decomposition(
    many: np.ndarray, kind: type, device: torch.device
) -> None:
    X = torch.as_tensor(many.astype(kind), device=device)
    model, exact = tm.PCA(12).fit(X), Reference(12, svd_solver="full").fit(many)
    close = {"rtol": 1e-9} if kind is np.float64 else {"rtol": 2e-5}
    for name in ("explained_variance_", "explained_variance_ratio_", "singular_values_"):
        assert_allclose(getattr(model, name).cpu(), getattr(exact, name), err_msg=name, **close)
    components = model.components_.double().cpu().numpy()
    assert_allclose(components @ components.T, np.eye(12), atol=1e-5)
    signal = np.linalg.svd(components[:6] @ exact.components_[:6].T)[1]  # well apart from the noise
    assert_allclose(signal, 1, atol=1e-12 if kind is np.float64 else 1e-6)
    noise = np.linalg.svd(components @ exact.components_.T)[1].min()
    assert noise > (1 - 1e-9 if kind is np.float64 else 0.999)
    expected = (many - many.mean(axis=0)) @ components.T
    assert_allclose(model.transform(X).cpu(), expected, atol=1e-10 if kind is np.float64 else 1e-4)


def test_iteration_gives_the_same_bits_every_time(many: np.ndarray) -> None:
    first, second = tm.PCA(12).fit(many), tm.PCA(12).fit(many)
    assert_array_equal(first.components_, second.components_)
    largest = np.abs(first.components_).argmax(axis=1)
    assert (first.components_[np.arange(12), largest] > 0).all()


def test_batches_find_a_few_of_many_components_too() -> None:
    X = _data(900, 300)
    whole = tm.PCA(5).fit(X)
    streamed = tm.PCA(5).fit_batches(np.array_split(X, 4))
    assert_allclose(streamed.explained_variance_, whole.explained_variance_, rtol=1e-9)
    assert_allclose(streamed.components_, whole.components_, atol=1e-5)


@pytest.mark.parametrize("shape", [(600, 300), (300, 600)], ids=["tall", "wide"])
def test_equal_variances_are_all_found(shape: tuple[int, int]) -> None:
    """One in each row: n equal variances, which a single Krylov vector sees as one."""
    X = np.zeros(shape)
    X[np.arange(300), np.arange(300)] = 1.0
    model, exact = tm.PCA(12).fit(X), Reference(12, svd_solver="full").fit(X)
    assert_allclose(model.explained_variance_, exact.explained_variance_, rtol=1e-8)
    assert_allclose(model.components_ @ model.components_.T, np.eye(12), atol=1e-9)


@pytest.mark.parametrize("large", [False, True])
def test_fewer_directions_than_components_lose_nothing(large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if large:
        monkeypatch.setattr("torchmotif.pca._LARGEST_MATRIX", 100)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3)) * [1, 1e-3, 1e-6] @ rng.normal(size=(3, 500))
    model = tm.PCA(8).fit(X)
    exact = Reference(8, svd_solver="full").fit(X)
    assert_allclose(model.explained_variance_[:2], exact.explained_variance_[:2], rtol=1e-8)
    assert_allclose(
        model.explained_variance_[2:],
        exact.explained_variance_[2:],
        atol=1e-14 * exact.explained_variance_[0],
    )
    assert_allclose(model.components_ @ model.components_.T, np.eye(8), atol=1e-9)
    assert_allclose(model.inverse_transform(model.transform(X)), X, atol=1e-8)


def test_a_few_components_of_identical_rows_or_huge_values(many: np.ndarray) -> None:
    model = tm.PCA(3).fit(np.full(many.shape, 0.25))
    assert_allclose(model.explained_variance_, 0, atol=1e-20)
    with pytest.raises(InputError, match="overflow"):
        tm.PCA(3).fit(many * 1e200)
    assert np.isfinite(tm.PCA(3).fit(many.astype(np.float32) * np.float32(1e15)).components_).all()
