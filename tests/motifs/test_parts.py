import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchmotif.motifs.noise import CountingNoise, noise_scale
from torchmotif.motifs.split import propose_splits
from torchmotif.motifs.valley import valley_at
from torchmotif.zernike import ZernikeBasis


def test_the_covariance_is_that_of_drawn_patches(generator: torch.Generator) -> None:
    # A patch that its moments can tell: a smooth one.
    y, x = torch.meshgrid(torch.linspace(-1, 1, 15), torch.linspace(-1, 1, 15), indexing="ij")
    rate = 8 + 3 * x - 2 * y + 2 * x * y
    patches = torch.poisson(rate.expand(6000, 15, 15), generator=generator)
    offsets = torch.tensor([[0.5, -0.5]], dtype=torch.float64).expand(6000, 2)
    basis = ZernikeBasis(5, 15)
    moments = basis(patches - 8, offsets).double()
    known = CountingNoise(basis, moments, 8.0, offsets).covariance(torch.arange(6000))
    ratio = torch.linalg.eigvals(torch.linalg.solve(known, torch.cov(moments.T))).real
    assert float((ratio - 1).abs().max()) < 0.2


@pytest.mark.parametrize(("n", "k"), [(2000, 60), (100, 60), (40, 60)])
@pytest.mark.parametrize("scale", [0.01, 1.0, 40.0])
def test_the_scale_of_the_noise_is_seen_in_its_spectrum(
    n: int, k: int, scale: float, generator: torch.Generator
) -> None:
    moments = math.sqrt(scale) * torch.randn(n, k, generator=generator, dtype=torch.float64)
    moments[:, 0] *= 30  # structure
    assert noise_scale(moments, torch.eye(k, dtype=torch.float64)) == pytest.approx(scale, rel=0.15)


def sides(values: torch.Tensor, threshold: float) -> tuple[torch.Tensor, torch.Tensor]:
    second = (values > threshold).double()
    return 1 - second, second


# Of a thousand draws of noise one or two look like anything: the same draws every time.
@settings(max_examples=15, deadline=None, derandomize=True)
@given(distance=st.floats(4.5, 40), share=st.floats(0.05, 0.5), seed=st.integers(0, 99))
def test_two_sharp_sides_have_a_deep_valley(distance: float, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = torch.from_numpy(rng.normal(size=3000) + distance * (rng.random(3000) < share))
    assert valley_at(values, distance / 2, *sides(values, distance / 2)) < 0.2


@settings(max_examples=15, deadline=None, derandomize=True)
@given(width=st.floats(5, 60), seed=st.integers(0, 99))
def test_a_continuum_has_no_valley(width: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = torch.from_numpy(rng.normal(size=3000) + width * rng.random(3000))
    assert valley_at(values, width / 2, *sides(values, width / 2)) > 0.2


def test_constant_values_have_no_valley() -> None:
    values = torch.ones(10, dtype=torch.float64)
    assert valley_at(values, 1.0, values, 0 * values) == 1.0


def test_noise_alone_supports_no_split(generator: torch.Generator) -> None:
    moments = torch.randn(1500, 28, generator=generator, dtype=torch.float64)
    found = propose_splits(moments, torch.eye(28, dtype=torch.float64), ZernikeBasis(6, 15))
    assert all(split.evidence < 0 for split in found)


def test_a_rare_group_is_proposed_first(generator: torch.Generator) -> None:
    moments = torch.randn(1500, 28, generator=generator, dtype=torch.float64)
    moments[:60, 7] += 6
    split = propose_splits(moments, torch.eye(28, dtype=torch.float64), ZernikeBasis(6, 15))[0]
    rare = split.responsibilities if split.share < 0.5 else 1 - split.responsibilities
    assert float(rare[:60].mean()) > 0.95
    assert float(rare[60:].mean()) < 0.01
    assert split.detectability() == pytest.approx(6, rel=0.1)
    assert split.detectability(0.25) == pytest.approx(3, rel=0.1)
    assert split.detectability(1 / 9) == pytest.approx(2, rel=0.1)
    torch.testing.assert_close(
        torch.sigmoid(split.log_odds(moments)), split.responsibilities, atol=0.01, rtol=0
    )
