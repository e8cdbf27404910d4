import math

import numpy as np
import pytest
import torch
from drawn import BASIS, FULL, HALF, KERNELS, cumulants, moments_of, spots
from scipy import stats

from torchmotif.motifs._groups import Groups
from torchmotif.motifs._moments import n_max_of
from torchmotif.motifs._noise import CountingNoise, bent, matched_filter, noise_scale, straightened
from torchmotif.motifs._single_columns import single_columns
from torchmotif.motifs.detectability import CentralColumn, Middle
from torchmotif.zernike import ZernikeBasis


def noise_of(moments: torch.Tensor, level: float, offsets: torch.Tensor | None = None) -> CountingNoise:
    return CountingNoise(BASIS, n_max_of(moments.shape[1]), level, offsets)


def covariance(noise: CountingNoise, moments: torch.Tensor, rows: list[int] | None = None) -> torch.Tensor:
    index = torch.arange(len(moments)) if rows is None else torch.tensor(rows)
    return noise.covariances(moments[index].mean(0)[None], noise.offsets_of(index).mean(0)[None])[0]


def column_of(moments: torch.Tensor, noise: CountingNoise, scale: float = 1.0) -> CentralColumn:
    groups = Groups(moments.float(), [torch.arange(len(moments))], noise, BASIS, scale)
    return CentralColumn.of(Middle.of(groups)[0], noise, scale)


def test_the_covariance_is_that_of_drawn_patches(generator: torch.Generator) -> None:
    # A patch that its moments can tell: a smooth one.
    y, x = torch.meshgrid(torch.linspace(-1, 1, 15), torch.linspace(-1, 1, 15), indexing="ij")
    rate = 8 + 3 * x - 2 * y + 2 * x * y
    patches = torch.poisson(rate.expand(6000, 15, 15), generator=generator)
    offsets = torch.tensor([[0.5, -0.5]], dtype=torch.float64).expand(6000, 2)
    basis = ZernikeBasis(5, 15)
    moments = basis(patches - 8, offsets).double()
    known = covariance(CountingNoise(basis, 5, 8.0, offsets), moments)
    ratio = torch.linalg.eigvals(torch.linalg.solve(known, torch.cov(moments.T))).real
    assert float((ratio - 1).abs().max()) < 0.2


@pytest.mark.parametrize(("n", "k"), [(2000, 60), (100, 60), (40, 60)])
@pytest.mark.parametrize("scale", [0.01, 1.0, 40.0])
def test_the_scale_of_the_noise_is_seen_in_its_spectrum(
    n: int, k: int, scale: float, generator: torch.Generator
) -> None:
    moments = math.sqrt(scale) * torch.randn(n, k, generator=generator, dtype=torch.float64)
    moments[:, 0] *= 30  # structure
    scatter = torch.cov(moments.T, correction=0)
    assert noise_scale(scatter, torch.eye(k, dtype=torch.float64), n) == pytest.approx(scale, rel=0.15)


@pytest.fixture(scope="module")
def counted() -> tuple[torch.Tensor, CountingNoise]:
    """Moments of drawn patches, and their noise."""
    drawn = torch.poisson(FULL.expand(3000, -1, -1), generator=torch.Generator().manual_seed(1))
    moments = moments_of(drawn - 0.5, BASIS)
    return moments, noise_of(moments, 0.5)


def test_the_middle_of_a_motif_is_as_strong_and_noisy_as_its_counts(
    counted: tuple[torch.Tensor, CountingNoise],
) -> None:
    moments, noise = counted
    middle = column_of(moments, noise)
    column = single_columns(moments.mean(0)[None], BASIS)[0, 0]
    axis = matched_filter(column, covariance(noise, moments))[:, None]
    step = float((FULL - HALF).flatten().double() @ KERNELS @ axis[:, 0])
    assert middle.count == 3000
    assert max(middle.scatter) < 0.15
    assert middle.strength == pytest.approx(step / 0.5, rel=0.2)
    second, less = (cumulants(rate, axis)[0] for rate in (FULL, HALF))
    assert float(second) == pytest.approx(1, abs=0.05)
    assert middle.noise_of_column == pytest.approx(float(second - less) / 0.5, rel=0.1)


def test_the_middle_of_a_motif_in_other_units(counted: tuple[torch.Tensor, CountingNoise]) -> None:
    moments, noise = counted
    one = column_of(moments[::3], noise)
    other = column_of(moments[::3] * 10, noise_of(moments, 5.0), 10.0)
    assert one.count == other.count == 1000
    for name in ("strength", "noise_of_column"):
        assert getattr(other, name) == pytest.approx(getattr(one, name), rel=1e-3)


def test_the_scatter_of_the_middle_is_seen_on_the_side_it_is_on(
    counted: tuple[torch.Tensor, CountingNoise],
) -> None:
    moments, noise = counted
    column = single_columns(moments.mean(0)[None], BASIS)[0, 0]
    middle = column_of(moments, noise)
    draws = torch.randn(3000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    varying = 2 / middle.strength * draws * column  # by two standard deviations of the noise
    for scatter in column_of(moments + varying, noise).scatter:
        assert scatter == pytest.approx(4, rel=0.2)
    brighter = torch.where(draws > 0, varying, 0 * varying)
    low, high = column_of(moments + brighter, noise).scatter
    assert high > 2 * low


def test_a_motif_without_a_column_in_the_middle_has_none_to_change(generator: torch.Generator) -> None:
    rate = spots([0.0] + [9.0] * 6) + 1
    moments = moments_of(torch.poisson(rate.expand(50, -1, -1), generator=generator), BASIS)
    assert column_of(moments, noise_of(moments, 0.0)) == CentralColumn(50, 0.0, (0.0, 0.0), 0.0)


def test_cumulants_are_sums_over_the_pixels() -> None:
    moments = moments_of(FULL[None] - 0.5, BASIS)
    noise = noise_of(moments, 0.5)
    axes = torch.eye(len(moments.T), dtype=torch.float64)[:, [0, 4, 5, 12]]
    known = cumulants(FULL, axes)
    found = noise.cumulants(moments[0], axes)
    for one, other in zip(known, found, strict=True):
        assert float((one - other).abs().max()) < 0.05 * float(one.abs().max())
    found_ = axes.T @ covariance(noise, moments) @ axes
    assert float((found_ - known[0]).abs().max()) < 0.05 * float(known[0].max())


def test_cumulants_of_the_parts_are_those_of_the_whole() -> None:
    moments = moments_of(spots([4.0] + [1.0] * 3)[None], BASIS)
    noise = noise_of(moments, 2.0)
    axes = torch.eye(len(moments.T), dtype=torch.float64)[:, :4]
    whole = noise.cumulants(moments[0], axes)
    alone = noise.cumulants(moments[0], axes, level=False)
    level = noise.cumulants(0 * moments[0], axes)
    for i in range(2):
        assert float((whole[i] - alone[i] - level[i]).abs().max()) < 0.05 * float(whole[i].max())


def test_the_covariance_of_many_offsets_is_that_of_each_by_number() -> None:
    moments = moments_of(spots([4.0] + [1.0] * 3)[None].expand(5, -1, -1), BASIS)
    offsets = torch.tensor([[0.0, 0.0]] + [[0.5, -0.5]] * 4, dtype=torch.float64)
    noise = noise_of(moments, 1.0, offsets)
    first, second = covariance(noise, moments, [0]), covariance(noise, moments, [1, 2, 3, 4])
    assert float((first - second).abs().max()) > 1e-3 * float(first.max())
    torch.testing.assert_close(covariance(noise, moments), (first + 4 * second) / 5)
    torch.testing.assert_close(covariance(noise, moments, [0, 1]), (first + second) / 2)
    # Offsets are known to half a pixel.
    near = noise_of(moments, 1.0, offsets * 0.9 + 0.05)
    torch.testing.assert_close(covariance(near, moments), covariance(noise, moments))


def test_the_scale_of_half_as_many_samples_as_directions(generator: torch.Generator) -> None:
    for n, k in ((1000, 500), (300, 600)):
        moments = torch.randn(n, k, generator=generator, dtype=torch.float64)
        scatter = torch.cov(moments.T, correction=0)
        assert noise_scale(scatter, torch.eye(k, dtype=torch.float64), n) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("n", [1, 2])
def test_the_scale_of_hardly_any_patches_cannot_be_told(n: int) -> None:
    eye = torch.eye(6, dtype=torch.float64)
    assert noise_scale(eye, eye, n) == 0


@pytest.mark.parametrize(("neighbours", "found"), [([1.0] * 3, (3.0, 5.0)), ([0.0] * 3, (5.0, math.inf))])
def test_neighbours_begin_between_the_columns(neighbours: list[float], found: tuple[float, float]) -> None:
    basis = ZernikeBasis(14, 21)
    mean = moments_of(spots([2.0, *neighbours])[None], basis)[0]
    noise = CountingNoise(BASIS, 14, 0.0, None)
    assert found[0] <= noise.first_minimum(mean) <= found[1]
    assert noise.first_minimum(-mean) == math.inf


@pytest.mark.parametrize("skewness", [-0.4, 0.0, 0.05, 0.6])
def test_what_is_straightened_is_gaussian(skewness: float) -> None:
    """Against the third kind of Pearson's distributions, and the same bent back."""
    x = torch.linspace(-2.5, 2.5, 41, dtype=torch.float64)
    y, slope = straightened(x, torch.tensor(skewness, dtype=torch.float64))
    gaussian = stats.norm.ppf(stats.pearson3.cdf(x.numpy(), skewness))
    np.testing.assert_allclose(y.numpy(), gaussian, atol=0.06)  # as good as Wilson and Hilferty are, far out
    density = stats.norm.logpdf(y.numpy()) + slope.numpy()
    np.testing.assert_allclose(density, stats.pearson3.logpdf(x.numpy(), skewness), atol=0.15)
    torch.testing.assert_close(bent(y, torch.tensor(skewness, dtype=torch.float64)), x, atol=1e-3, rtol=0)


def test_third_and_fourth_cumulants_are_those_of_draws(generator: torch.Generator) -> None:
    rate = 0.05 * FULL
    moments = moments_of(torch.poisson(rate.expand(200_000, -1, -1), generator=generator), BASIS)
    noise = noise_of(moments[:1000], 0.0)
    axis = matched_filter(moments.mean(0), covariance(noise, moments[:1000]))
    x = moments @ axis
    third, fourth = noise.askew(moments.mean(0)[None], axis[None, None], 1.0)
    centred = x - x.mean()
    assert float(third) == pytest.approx(float((centred**3).mean()), rel=0.1)
    known = float((centred**4).mean() - 3 * centred.square().mean() ** 2)
    assert float(fourth) == pytest.approx(known, rel=0.25)
