import math

import pytest
import torch
from drawn import BASIS, FULL, HALF, KERNELS, cumulants, moments_of, spots

from torchmotif.motifs._noise import CountingNoise, matched_filter, noise_scale
from torchmotif.motifs._split import central_column
from torchmotif.motifs.detectability import CentralColumn
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


@pytest.fixture(scope="module")
def counted() -> tuple[torch.Tensor, CountingNoise]:
    """Moments of drawn patches, and their noise."""
    drawn = torch.poisson(FULL.expand(3000, -1, -1), generator=torch.Generator().manual_seed(1))
    moments = moments_of(drawn - 0.5, BASIS)
    return moments, CountingNoise(BASIS, moments, 0.5, None)


def test_the_middle_of_a_motif_is_as_strong_and_noisy_as_its_counts(
    counted: tuple[torch.Tensor, CountingNoise],
) -> None:
    moments, noise = counted
    rows = torch.arange(len(moments))
    middle = CentralColumn.of(moments, noise, BASIS, 1.0, rows)
    axis = matched_filter(central_column(moments.mean(0), BASIS), noise.covariance(rows))[:, None]
    step = float((FULL - HALF).flatten().double() @ KERNELS @ axis[:, 0])
    assert middle.count == 3000
    assert max(middle.scatter) < 0.15
    assert middle.strength == pytest.approx(step / 0.5, rel=0.2)
    (second, third), (less, third_less) = cumulants(FULL, axis), cumulants(HALF, axis)
    assert float(second) == pytest.approx(1, abs=0.05)
    assert middle.noise_of_column == pytest.approx(float(second - less) / 0.5, rel=0.1)
    assert middle.skew == pytest.approx(float(third), rel=0.1)
    assert middle.skew_of_column == pytest.approx(float(third - third_less) / 0.5, rel=0.1)


def test_the_middle_of_a_motif_in_other_units(counted: tuple[torch.Tensor, CountingNoise]) -> None:
    moments, noise = counted
    rows = torch.arange(0, 3000, 3)
    ten = CountingNoise(BASIS, moments * 10, 5.0, None)
    one, other = (
        CentralColumn.of(moments, noise, BASIS, 1.0, rows),
        CentralColumn.of(moments * 10, ten, BASIS, 10.0, rows),
    )
    assert one.count == other.count == 1000
    for name in ("strength", "skew", "noise_of_column", "skew_of_column"):
        assert getattr(other, name) == pytest.approx(getattr(one, name), rel=1e-3)


def test_the_scatter_of_the_middle_is_seen_on_the_side_it_is_on(
    counted: tuple[torch.Tensor, CountingNoise],
) -> None:
    moments, noise = counted
    rows = torch.arange(len(moments))
    column = central_column(moments.mean(0), BASIS)
    middle = CentralColumn.of(moments, noise, BASIS, 1.0, rows)
    draws = torch.randn(3000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    varying = 2 / middle.strength * draws * column  # by two standard deviations of the noise
    for scatter in CentralColumn.of(moments + varying, noise, BASIS, 1.0, rows).scatter:
        assert scatter == pytest.approx(4, rel=0.2)
    brighter = torch.where(draws > 0, varying, 0 * varying)
    low, high = CentralColumn.of(moments + brighter, noise, BASIS, 1.0, rows).scatter
    assert high > 2 * low


def test_a_motif_without_a_column_in_the_middle_has_none_to_change(generator: torch.Generator) -> None:
    rate = spots([0.0] + [9.0] * 6) + 1
    moments = moments_of(torch.poisson(rate.expand(50, -1, -1), generator=generator), BASIS)
    noise = CountingNoise(BASIS, moments, 0.0, None)
    middle = CentralColumn.of(moments, noise, BASIS, 1.0, torch.arange(50))
    assert middle == CentralColumn(50, 0.0, (0.0, 0.0), 0.0, 0.0, 0.0)


def test_cumulants_are_sums_over_the_pixels() -> None:
    moments = moments_of(FULL[None] - 0.5, BASIS)
    noise = CountingNoise(BASIS, moments, 0.5, None)
    axes = torch.eye(len(moments.T), dtype=torch.float64)[:, [0, 4, 5, 12]]
    known = cumulants(FULL, axes)
    found = noise.cumulants(moments[0], axes)
    for one, other in zip(known, found, strict=True):
        assert float((one - other).abs().max()) < 0.05 * float(one.abs().max())
    covariance = axes.T @ noise.covariance(torch.arange(1)) @ axes
    assert float((covariance - known[0]).abs().max()) < 0.05 * float(known[0].max())


def test_cumulants_of_the_parts_are_those_of_the_whole() -> None:
    moments = moments_of(spots([4.0] + [1.0] * 3)[None], BASIS)
    noise = CountingNoise(BASIS, moments, 2.0, None)
    axes = torch.eye(len(moments.T), dtype=torch.float64)[:, :4]
    whole = noise.cumulants(moments[0], axes)
    alone = noise.cumulants(moments[0], axes, level=False)
    level = noise.cumulants(0 * moments[0], axes)
    for i in range(2):
        assert float((whole[i] - alone[i] - level[i]).abs().max()) < 0.05 * float(whole[i].max())


def test_the_covariance_of_many_offsets_is_that_of_each_by_number() -> None:
    moments = moments_of(spots([4.0] + [1.0] * 3)[None].expand(5, -1, -1), BASIS)
    offsets = torch.tensor([[0.0, 0.0]] + [[0.5, -0.5]] * 4, dtype=torch.float64)
    noise = CountingNoise(BASIS, moments, 1.0, offsets)
    first, second = noise.covariance(torch.arange(1)), noise.covariance(torch.arange(1, 5))
    assert float((first - second).abs().max()) > 1e-3 * float(first.max())
    torch.testing.assert_close(noise.covariance(torch.arange(5)), (first + 4 * second) / 5)
    torch.testing.assert_close(noise.covariance(torch.tensor([0, 1])), (first + second) / 2)
    # Offsets are known to half a pixel.
    near = CountingNoise(BASIS, moments, 1.0, offsets * 0.9 + 0.05)
    torch.testing.assert_close(near.covariance(torch.arange(5)), noise.covariance(torch.arange(5)))


def test_the_scale_of_half_as_many_samples_as_directions(generator: torch.Generator) -> None:
    for n, k in ((1000, 500), (300, 600)):
        moments = torch.randn(n, k, generator=generator, dtype=torch.float64)
        assert noise_scale(moments, torch.eye(k, dtype=torch.float64)) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("n", [1, 2])
def test_the_scale_of_hardly_any_patches_cannot_be_told(n: int) -> None:
    assert noise_scale(torch.randn(n, 6, dtype=torch.float64), torch.eye(6, dtype=torch.float64)) == 0
