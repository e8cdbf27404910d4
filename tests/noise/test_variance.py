from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import torchmotif as tm

SIZE, N_MAX, DRAWS = 33, 10, 20_000


@pytest.fixture(scope="module")
def expected() -> torch.Tensor:
    specimen = tm.datasets.mose2((96, 96))
    middle = specimen.truth.positions.sub(48).norm(dim=1).argmin()
    return tm.extract_patches(specimen.image.data, specimen.truth.positions[middle][None], SIZE)[0]


@pytest.mark.parametrize("dose", [1.0, 0.02], ids=["full", "fiftieth"])
def test_the_predicted_variance_of_moments_is_the_measured_one(
    expected: torch.Tensor, dose: float, generator: torch.Generator
) -> None:
    basis = tm.ZernikeBasis(N_MAX, SIZE, dtype=torch.float64)
    patches = torch.poisson((expected * dose).expand(DRAWS, -1, -1), generator=generator).double()
    measured = basis(patches).var(0)
    exact = tm.noise.moment_variance((expected * dose)[None], basis.basis)[0]
    from_counts = tm.noise.moment_variance(patches, basis.basis).mean(0)
    assert float((measured / exact).mean()) == pytest.approx(1, abs=0.02)
    assert float((from_counts / exact - 1).abs().max()) < 0.02
    # Each of the 66 by itself: four standard errors of a variance from that many draws.
    assert float((measured / exact - 1).abs().max()) < 4.5 * (2 / DRAWS) ** 0.5


def test_the_variance_follows_the_units_of_the_image(expected: torch.Tensor) -> None:
    basis = tm.zernike_basis(4, SIZE)
    counts = tm.noise.moment_variance(expected[None], basis)
    units = tm.noise.moment_variance(expected[None] / 5, basis, electrons_per_unit=5.0)
    assert torch.allclose(units * 25, counts, rtol=1e-5)
    assert isinstance(tm.noise.moment_variance(expected[None].numpy(), basis), np.ndarray)


@pytest.mark.parametrize("mean", [5.0, 20.0, 200.0])
def test_anscombe_makes_the_noise_one(mean: float, generator: torch.Generator) -> None:
    counts = torch.poisson(torch.full((300_000,), mean), generator=generator)
    assert float(tm.noise.anscombe(counts).std()) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("mean", [0.5, 2.0, 10.0, 100.0])
def test_the_inverse_gives_the_mean_without_bias(mean: float) -> None:
    k = np.arange(1000)
    transformed = (stats.poisson(mean).pmf(k) * tm.noise.anscombe(k.astype(float))).sum()
    assert float(tm.noise.inverse_anscombe(torch.tensor(transformed))) == pytest.approx(
        mean, rel=0.03, abs=0.02
    )


@pytest.mark.parametrize("transform", [tm.noise.anscombe, tm.noise.inverse_anscombe])
def test_anscombe_keeps_the_precision_and_makes_counts_single(transform: Callable[[Any], Any]) -> None:
    counts = np.array([[3, 200], [0, 17]])
    assert transform(counts).dtype == np.float32
    for kind in (np.float32, np.float64):
        assert transform(counts.astype(kind)).dtype == kind


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_anscombe_keeps_the_order(a: float, b: float) -> None:
    low, high = (float(tm.noise.anscombe(np.array([v]))[0]) for v in sorted((a, b)))
    assert low <= high


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tm.noise.moment_variance(torch.ones(2, 5, 5), torch.ones(3, 4, 4)), "as many pixels"),
        (lambda: tm.noise.moment_variance(torch.ones(5, 5), torch.ones(3, 5, 5)), "patches must be"),
        (
            lambda: tm.noise.moment_variance(
                torch.ones(2, 5, 5), torch.ones(3, 5, 5), electrons_per_unit=0.0
            ),
            "electrons_per_unit",
        ),
        (lambda: tm.noise.anscombe(np.array([-1.0])), "3/8"),
    ],
    ids=["pixels", "dimensions", "gain", "negative"],
)
def test_bad_input_is_refused(call, message: str) -> None:
    with pytest.raises(tm.errors.InputError, match=message):
        call()
