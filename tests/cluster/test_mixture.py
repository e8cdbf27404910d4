import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from torchmotif.cluster import Mixture, fit_mixture, mixture_modes, ridgeline_ratio


def _pair(distance: float, d: int = 2, weight: float = 0.5) -> Mixture:
    means = np.zeros((2, d))
    means[1, 0] = distance
    return Mixture(np.array([weight, 1 - weight]), means, np.stack([np.eye(d)] * 2))


def test_densities_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    roots = rng.normal(size=(3, 4, 4))
    mixture = Mixture(
        np.array([0.2, 0.3, 0.5]), rng.normal(size=(3, 4)), roots @ roots.swapaxes(1, 2) + np.eye(4)
    )
    X = rng.normal(size=(7, 4))
    expected = [np.log(w) + multivariate_normal(m, c).logpdf(X) for w, m, c in zip(*mixture, strict=True)]
    np.testing.assert_allclose(mixture.log_densities(X), np.stack(expected, axis=1), rtol=1e-12)


@given(st.floats(0, 2), st.integers(1, 5))
def test_two_equal_gaussians_have_no_valley_within_two_deviations(distance: float, d: int) -> None:
    # Everitt & Hand (1981): the mixture of two equal Gaussians has two modes only beyond 2 standard deviations
    assert ridgeline_ratio(_pair(distance, d)) == pytest.approx(1.0, abs=1e-9)


@given(st.floats(2.5, 12))
def test_the_valley_has_the_depth_of_the_density(distance: float) -> None:
    x = np.linspace(-1, distance + 1, 20_001)
    density = np.exp(-(x**2) / 2) + np.exp(-((x - distance) ** 2) / 2)
    valley = np.exp(-((distance / 2) ** 2) / 2) * 2
    assert ridgeline_ratio(_pair(distance)) == pytest.approx(valley / density.max(), rel=0.05)


@settings(max_examples=20)
@given(st.integers(1, 4), st.integers(0, 100))
def test_modes_are_found_whatever_components_they_are_made_of(k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    means = np.zeros((3 * k, 2))
    means[:, 0] = 20 * np.repeat(np.arange(k), 3) + rng.uniform(-0.5, 0.5, 3 * k)
    mixture = Mixture(np.full(3 * k, 1 / (3 * k)), means, np.stack([np.eye(2)] * (3 * k)))
    groups, _ = mixture_modes(mixture, 0.2)
    assert sorted(sorted(group) for group in groups) == np.arange(3 * k).reshape(k, 3).tolist()


def test_the_number_of_modes_can_be_given() -> None:
    groups, ratios = mixture_modes(_pair(10.0), 0.2, n_modes=1)
    assert groups == [[0, 1]]
    assert len(ratios) == 1


def test_the_criterion_finds_the_components() -> None:
    rng = np.random.default_rng(1)
    X = np.concatenate([rng.normal(0, 1, (300, 2)), rng.normal(8, 1, (200, 2))])
    mixture = fit_mixture(X, 6)
    assert len(mixture.weights) == 2
    assert sorted(mixture.weights) == pytest.approx([0.4, 0.6], abs=0.01)


def test_identical_rows_are_one_component() -> None:
    assert len(fit_mixture(np.zeros((50, 2)), 5).weights) == 1
