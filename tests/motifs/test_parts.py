import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from torchmotif.errors import InputError
from torchmotif.motifs.centre import central_column
from torchmotif.motifs.limit import CentralColumn
from torchmotif.motifs.noise import CountingNoise, noise_scale
from torchmotif.motifs.outliers import Spread
from torchmotif.motifs.resolve import Conditions, Rules
from torchmotif.motifs.scale import MomentScale
from torchmotif.motifs.source import PatchSource, n_max_of
from torchmotif.motifs.split import Split, matched_filter, propose_splits
from torchmotif.motifs.tree import MotifTree, grow
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


SIZE = 21


def spots(heights: list[float], width: float = 6.0) -> torch.Tensor:
    """A patch of Gaussian columns: one in the middle, the others evenly around it."""
    axis = torch.arange(SIZE, dtype=torch.float64) - (SIZE - 1) / 2
    around = 2 * math.pi * torch.arange(len(heights) - 1, dtype=torch.float64) / max(len(heights) - 1, 1)
    row = torch.cat([torch.zeros(1), -6 * torch.sin(around)])[:, None]
    col = torch.cat([torch.zeros(1), 6 * torch.cos(around)])[:, None]
    height = torch.tensor(heights, dtype=torch.float64)
    down, across = torch.exp(-((axis - row) ** 2) / width), torch.exp(-((axis - col) ** 2) / width)
    return torch.einsum("s,sr,sc->rc", height, down, across)


def moments_of(patches: torch.Tensor, basis: ZernikeBasis) -> torch.Tensor:
    return basis(patches.float()).double()


BASIS = ZernikeBasis(10, SIZE)
RADIUS = torch.hypot(*torch.meshgrid(*[torch.arange(SIZE) - (SIZE - 1) / 2] * 2, indexing="ij"))
KERNELS = moments_of(torch.eye(SIZE**2).reshape(-1, SIZE, SIZE), BASIS)  # what each pixel adds to the moments


@pytest.mark.parametrize("neighbours", [3, 6])
@pytest.mark.parametrize("level", [0.0, 0.1])
def test_the_column_in_the_middle_is_what_stands_there(neighbours: int, level: float) -> None:
    whole, alone = spots([1.0] + [0.8] * neighbours), moments_of(spots([1.0])[None], BASIS)[0]
    found = central_column(moments_of((whole + level)[None], BASIS)[0], BASIS)
    assert float((found - alone).norm()) < 0.3 * float(alone.norm())


@pytest.mark.parametrize("neighbours", [0, 6])
def test_where_the_middle_is_dark_there_is_no_column(neighbours: int) -> None:
    patch = spots([0.0] + [1.0] * neighbours)
    assert not central_column(moments_of(patch[None], BASIS)[0], BASIS).any()


def test_a_lone_column_reaches_to_the_rim() -> None:
    wide = spots([1.0], width=60.0)
    known = moments_of((wide - wide[0, 10]).clamp(min=0)[None], BASIS)[0]
    found = central_column(moments_of(wide[None], BASIS)[0], BASIS)
    assert float((found - known).norm()) < 0.1 * float(known.norm())


FULL, HALF = (0.2 + spots([height] + [1.0] * 3) for height in (4.0, 2.0))


@pytest.fixture(scope="module")
def counted() -> tuple[torch.Tensor, CountingNoise]:
    """Moments of drawn patches, and their noise."""
    drawn = torch.poisson(FULL.expand(3000, -1, -1), generator=torch.Generator().manual_seed(1))
    moments = moments_of(drawn - 0.5, BASIS)
    return moments, CountingNoise(BASIS, moments, 0.5, None)


def cumulants(rate: torch.Tensor, axes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Second and third cumulants of the moments of Poisson counts: sums over the pixels."""
    along = KERNELS @ axes
    second = torch.einsum("p,pa,pb->ab", rate.flatten(), along, along)
    return second, torch.einsum("p,pa,pb,pc->abc", rate.flatten(), along, along, along)


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


@pytest.fixture(scope="module")
def scale() -> MomentScale:
    return MomentScale(ZernikeBasis(6, SIZE), ZernikeBasis(10, SIZE), level=9.0, unit=3.0, dark=2.0)


@pytest.mark.parametrize("finer", [False, True])
def test_patches_of_another_dose_have_the_same_moments(
    scale: MomentScale, finer: bool, generator: torch.Generator
) -> None:
    patches = 2 + torch.rand(4, SIZE, SIZE, generator=generator) * 20
    shifts = torch.rand(4, 2, generator=generator, dtype=torch.float64) - 0.5
    here = scale.of_patches(patches, shifts, finer=finer)
    assert here.shape == (4, 66 if finer else 28)
    less = scale.of_patches(2 + 0.25 * (patches - 2), shifts, 0.25, finer=finer)
    torch.testing.assert_close(less, here, atol=1e-4 * float(here.abs().max()), rtol=0)
    assert scale.counts_at_level == pytest.approx(7 / 3)


def test_moments_about_another_level_are_the_same(scale: MomentScale, generator: torch.Generator) -> None:
    patches = 2 + torch.rand(4, SIZE, SIZE, generator=generator) * 20
    here = scale.of_patches(patches, None)
    for dose, level in ((1.0, 5.0), (0.5, 0.0)):
        moments = moments_of(2 + dose * (patches - 2) - level, scale.basis)
        found = scale.of_moments(moments, level, dose)
        torch.testing.assert_close(found, here, atol=0.02 * float(here.abs().max()), rtol=0)


@pytest.mark.parametrize("dose", [0.0, -1.0, math.inf, math.nan])
def test_a_relative_dose_that_is_none_is_refused(scale: MomentScale, dose: float) -> None:
    with pytest.raises(InputError, match="relative_dose"):
        scale.of_moments(torch.zeros(1, 28, dtype=torch.float64), 0.0, dose)


def test_reconstructions_are_the_patches_within_the_disk(scale: MomentScale) -> None:
    axis = torch.linspace(-1, 1, SIZE)
    patches = torch.stack([8 + 3 * axis[:, None] + axis**2, 1 + 6 * axis[:, None] * axis])
    again = scale.reconstructed(scale.of_patches(patches, None))
    assert float((again - patches)[:, RADIUS < 0.8 * SIZE / 2].abs().mean()) < 0.2
    assert not again[:, RADIUS > 1.1 * SIZE / 2].any()


def test_patches_are_read_a_batch_at_a_time() -> None:
    patches = np.random.default_rng(0).normal(1e4, 2.0, (23, 5, 5)).astype(np.float32)
    source = PatchSource(patches, None)
    assert (len(source), source.size) == (23, 5)
    assert source.batch == (128 << 20) // 100
    source.batch = 7
    rows, windows = zip(*source, strict=True)
    assert [(part.start, part.stop) for part in rows] == [(0, 7), (7, 14), (14, 21), (21, 23)]
    np.testing.assert_array_equal(torch.cat(windows), patches)
    mean, deviation, least = source.mean_deviation_least()
    exact = patches.astype(np.float64)
    assert mean == pytest.approx(exact.mean(), abs=1e-4)
    assert deviation == pytest.approx(exact.std(), rel=1e-4)
    assert least == exact.min()
    np.testing.assert_array_equal(source.take(torch.tensor([3, 20])), patches[[3, 20]])


def test_of_dark_patches_the_mean_is_nothing() -> None:
    patches = np.zeros((4, 3, 3))
    assert PatchSource(patches, None).mean_deviation_least() == (0.0, 0.0, 0.0)
    patches[1:] = 2.0
    assert PatchSource(patches, None).mean_deviation_least() == pytest.approx((1.5, 0.75**0.5, 0.0))


def test_patches_on_disk_are_not_read_before_they_are_asked_for() -> None:
    class OnDisk:
        shape, read = (100, 5, 5), 0

        def __getitem__(self, rows: slice) -> np.ndarray:
            self.read += len(range(*rows.indices(100)))
            return np.ones((len(range(*rows.indices(100))), 5, 5))

    data = OnDisk()
    source = PatchSource(data, None)
    assert data.read == 0
    source.batch = 30
    next(iter(source))
    assert data.read == 30


def test_a_window_larger_than_a_batch_is_one() -> None:
    assert PatchSource(np.zeros((2, 6000, 6000), np.uint8)[:, :, :], None).batch == 1


@pytest.mark.parametrize(("k", "n_max"), [(1, 0), (2, 0), (3, 1), (6, 2), (65, 9), (66, 10), (5151, 100)])
def test_the_order_that_moments_reach(k: int, n_max: int) -> None:
    assert n_max_of(k) == n_max


def test_columns_of_a_motif_have_normal_scores(generator: torch.Generator) -> None:
    covariance = torch.diag(torch.linspace(0.5, 2, 30, dtype=torch.float64))
    covariance[0, 1] = covariance[1, 0] = 0.3
    noise = (
        torch.randn(6000, 30, generator=generator, dtype=torch.float64) @ torch.linalg.cholesky(covariance).T
    )
    varying = 3 * torch.randn(6000, generator=generator, dtype=torch.float64)  # strain
    labels = torch.arange(6000) % 3
    centres = torch.randn(3, 30, generator=generator, dtype=torch.float64) * 5
    moments = centres[labels] + noise
    moments[:, 5] += varying
    spread = Spread.learn(moments, labels, covariance)
    torch.testing.assert_close(spread.centres, centres, atol=0.3, rtol=0)
    assert spread.stretch == pytest.approx(1, abs=0.02)
    scores = spread.scores(moments, labels)
    assert float(scores.mean()) == pytest.approx(0, abs=0.05)
    assert float(scores.std()) == pytest.approx(1, abs=0.05)
    assert float(spread.distances(moments, labels).mean()) == pytest.approx(30, rel=0.02)
    assert int((spread.excess > 0).sum()) == 1
    assert float(spread.excess.max()) == pytest.approx(9 / float(covariance[5, 5]), rel=0.1)
    white = (moments - centres[labels]) @ spread.white
    torch.testing.assert_close(torch.cov(white.T), torch.eye(30, dtype=torch.float64), atol=0.15, rtol=0)
    # A quarter of the dose has four times the noise, and the same strain.
    less = centres[labels] + 2 * noise
    less[:, 5] += varying
    assert float(spread.scores(less, labels, 0.25).mean()) == pytest.approx(0, abs=0.1)


def test_where_distances_are_longer_than_gaussian_they_are_stretched(generator: torch.Generator) -> None:
    moments = torch.randn(3000, 20, generator=generator, dtype=torch.float64)
    moments[:40] *= 40
    spread = Spread.learn(moments, torch.zeros(3000, dtype=torch.long), torch.eye(20, dtype=torch.float64))
    labels = torch.zeros(3000, dtype=torch.long)
    assert spread.stretch >= 1
    assert float(spread.distances(moments[40:], labels[40:]).median()) <= 20.5
    assert float(spread.scores(moments[:40], labels[:40]).min()) > 3


def mixture(share: float, intrinsic: torch.Tensor, means: torch.Tensor) -> Split:
    q = means.shape[1]
    axes = torch.eye(q + 2, dtype=torch.float64)[:, :q]
    return Split(axes, means, intrinsic, share, 0.0, 100, torch.empty(0, dtype=torch.float64))


def test_log_odds_are_those_of_two_gaussians(generator: torch.Generator) -> None:
    means = torch.tensor([[0.0, 1.0], [3.0, -1.0]], dtype=torch.float64)
    intrinsic = torch.tensor([[1.0, 0.4], [0.4, 0.5]], dtype=torch.float64)
    split = mixture(0.2, intrinsic, means)
    moments = 3 * torch.randn(50, 4, generator=generator, dtype=torch.float64)
    for dose in (1.0, 0.25):
        covariance = intrinsic.numpy() + np.eye(2) / dose
        first, second = (
            stats.multivariate_normal(mean.numpy(), covariance).logpdf(moments[:, :2].numpy())
            for mean in means
        )
        known = second - first + math.log(0.2 / 0.8)
        np.testing.assert_allclose(split.log_odds(moments, dose), known, rtol=1e-9, atol=1e-9)
        step = (means[1] - means[0]).numpy()
        assert split.detectability(dose) == pytest.approx(math.sqrt(step @ np.linalg.solve(covariance, step)))


def test_the_sides_of_a_split_lie_along_what_tells_them_apart() -> None:
    means = torch.tensor([[0.0, 1.0], [3.0, -1.0]], dtype=torch.float64)
    intrinsic = torch.tensor([[1.0, 0.4], [0.4, 0.5]], dtype=torch.float64)
    split = mixture(0.2, intrinsic, means)
    doses = np.array([1.0, 0.25])
    sides_ = split.sides(doses)
    for i, dose in enumerate(doses):
        found = sides_.step[i] / math.sqrt(sides_.intrinsic[i] + sides_.noise[i, 0])
        assert abs(found) == pytest.approx(split.detectability(dose))
        np.testing.assert_allclose(sides_.noise[i], 1 / dose)
        np.testing.assert_allclose(sides_.skew[i], 0, atol=1e-12)
    assert sides_.share == 0.2


def test_the_sides_of_a_split_have_the_noise_of_their_patches(generator: torch.Generator) -> None:
    drawn = torch.poisson(torch.stack([FULL, HALF]).repeat(300, 1, 1), generator=generator)
    moments = moments_of(drawn - 0.5, BASIS)
    noise = CountingNoise(BASIS, moments, 0.5, None)
    split = propose_splits(moments, noise.covariance(torch.arange(600)), BASIS)[0]
    brighter = split.responsibilities[::2].mean() > 0.5
    split = replace(split, responsibilities=(torch.arange(600) % 2 == (0 if brighter else 1)).double())
    sides_ = split.with_cumulants(moments, noise, 1.0).sides(np.array([1.0, 0.5]))
    discriminant = split.means[1] - split.means[0]
    if len(discriminant) > 1:
        discriminant = torch.linalg.solve(split.intrinsic + torch.eye(len(discriminant)), discriminant)
    axis = (split.axes @ discriminant / discriminant.norm())[:, None]
    for side, rate in enumerate((HALF, FULL) if brighter else (FULL, HALF)):
        second, third = cumulants(rate, axis)
        assert sides_.noise[0, side] == pytest.approx(float(second), rel=0.1)
        assert sides_.skew[0, side] == pytest.approx(float(third), rel=0.1)
    np.testing.assert_allclose(sides_.noise[1], 2 * sides_.noise[0], rtol=0.1)
    double = split.with_cumulants(moments, noise, 2.0).sides(np.array([1.0]))
    np.testing.assert_allclose(double.noise[0], 2 * sides_.noise[0])
    np.testing.assert_allclose(double.skew[0], 4 * sides_.skew[0])


def test_the_evidence_is_the_gain_in_likelihood_less_its_price(generator: torch.Generator) -> None:
    moments = torch.randn(500, 28, generator=generator, dtype=torch.float64)
    moments[:60] += 5 * UP
    moments[:, 9] *= 2  # what varies beyond the noise
    for split in propose_splits(moments, torch.eye(28, dtype=torch.float64), SMALL):
        x = (moments @ split.axes).numpy()
        wide = split.intrinsic.numpy() + np.eye(x.shape[1])
        first, second = (stats.multivariate_normal(mean.numpy(), wide).logpdf(x) for mean in split.means)
        both = np.logaddexp(math.log(1 - split.share) + first, math.log(split.share) + second).sum()
        values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(x.T, bias=True)))
        one = vectors * np.maximum(values, 1) @ vectors.T  # nowhere narrower than the noise
        single = stats.multivariate_normal(x.mean(0), one).logpdf(x).sum()
        price = (x.shape[1] + 1) * math.log(500)
        assert split.evidence == pytest.approx(2 * (both - single) - price, abs=0.1)


def test_sides_have_the_means_and_the_scatter_of_their_columns(generator: torch.Generator) -> None:
    moments = 3.0 + torch.randn(1500, 28, generator=generator, dtype=torch.float64)
    moments[:500] += 9 * UP
    moments += 2 * torch.randn(1500, 1, generator=generator, dtype=torch.float64) * RIGHT
    split = propose_splits(moments, torch.eye(28, dtype=torch.float64), SMALL)[0]
    x, second = moments @ split.axes, split.responsibilities > 0.5
    assert {int(second.sum()), int((~second).sum())} == {500, 1000}
    means = torch.stack([x[~second].mean(0), x[second].mean(0)])
    torch.testing.assert_close(split.means, means, atol=0.02, rtol=0)
    scatter = torch.cov((x - means[second.long()]).T).reshape(len(split.intrinsic), -1)
    wide = split.intrinsic + torch.eye(len(scatter), dtype=torch.float64)
    assert float((wide - scatter).abs().max()) < 0.1
    assert float(scatter.diagonal().max()) > 2


@pytest.mark.parametrize(("gain", "stands_out"), [(5.0, False), (8.0, True)])
def test_what_stands_out_gains_more_than_starts_in_noise_do(gain: float, stands_out: bool) -> None:
    means = torch.tensor([[0.0, 1.0], [3.0, -1.0]], dtype=torch.float64)
    split = mixture(0.2, torch.zeros(2, 2, dtype=torch.float64), means)
    # Twice the gain in log-likelihood for each of three parameters, less their price.
    assert replace(split, evidence=3 * gain - 3 * math.log(100)).stands_out() == stands_out


def test_a_matched_filter_is_the_best_direction(generator: torch.Generator) -> None:
    root = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    covariance = root @ root.T + torch.eye(6, dtype=torch.float64)
    signal = torch.randn(6, generator=generator, dtype=torch.float64)
    best = matched_filter(signal, covariance)
    assert float(best @ covariance @ best) == pytest.approx(1)
    others = torch.randn(500, 6, generator=generator, dtype=torch.float64)
    found = (others @ signal) / (others @ covariance * others).sum(1).sqrt()
    assert float(found.abs().max()) <= float(best @ signal)
    assert not matched_filter(0 * signal, covariance).any()


@pytest.mark.parametrize(("distance", "width"), [(6.0, 1.0), (5.0, 1.5), (9.0, 2.5)])
def test_a_valley_is_as_deep_as_it_is_without_noise(distance: float, width: float) -> None:
    rng = np.random.default_rng(1)
    second = rng.random(40_000) < 0.4
    values = torch.from_numpy(rng.normal(size=40_000) + width * rng.normal(size=40_000) + distance * second)
    x = np.linspace(0, distance, 500)
    density = 0.6 * stats.norm.pdf(x, 0, width) + 0.4 * stats.norm.pdf(x, distance, width)
    known = density.min() / min(density[0], density[-1])
    found = valley_at(values, distance / 2, *sides(values, distance / 2))
    assert found == pytest.approx(known, rel=0.25, abs=0.02)
    assert valley_at(-values, -distance / 2, *sides(-values, -distance / 2)) == pytest.approx(
        found, rel=0.05, abs=0.01
    )


@pytest.mark.parametrize("step", [5, 8])
def test_a_side_may_have_peaks_of_its_own(step: int) -> None:
    rng = np.random.default_rng(0)
    values = torch.from_numpy(rng.normal(size=3000) + step * rng.choice(3, 3000, p=(0.2, 0.6, 0.2)))
    for threshold in (0.5 * step, 1.5 * step):
        assert valley_at(values, threshold, *sides(values, threshold)) < 0.01


def test_a_threshold_beyond_the_peaks_parts_nothing() -> None:
    rng = np.random.default_rng(0)
    for distance, share in ((0.0, 0.5), (9.0, 0.3), (9.0, 0.7)):
        values = torch.from_numpy(rng.normal(size=500) + distance * (rng.random(500) < share))
        for threshold in (-9.0, 20.0):
            assert valley_at(values, threshold, *sides(values, distance / 2)) == 1.0


class WhiteNoise(CountingNoise):
    """Noise of moments that scatter by 1."""

    def __init__(self, moments: torch.Tensor) -> None:
        self.moments = moments

    def covariance(self, rows: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        return torch.eye(self.moments.shape[1], dtype=torch.float64)

    def cumulants(self, patch: torch.Tensor, axes: torch.Tensor, *, level: bool = True) -> tuple:  # noqa: ARG002
        return axes.T @ axes, axes.new_zeros((axes.shape[1],) * 3)


RULES = Rules(min_evidence=10.0, min_detectability=2.0, max_valley=0.2, min_share=0.003)
SMALL = ZernikeBasis(6, SIZE)


def spot(row: float, col: float) -> torch.Tensor:
    """The direction in moment space in which there is more of a column at a place, but for a slope."""
    axis = torch.arange(SIZE) - (SIZE - 1) / 2
    patch = torch.exp(-((axis - row) ** 2) / 9)[:, None] * torch.exp(-((axis - col) ** 2) / 9)
    moments = moments_of(patch[None], SMALL)[0]
    moments[:3] = 0
    return moments / moments.norm()


UP, RIGHT = spot(-4, 0), spot(0, 4)


def groups(counts: list[int], moved: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Moments of groups of columns in noise, all but the first moved; and which column is of which."""
    kind = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    moments = torch.randn(len(kind), 28, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return moments + torch.stack([0 * moments[0], *moved])[kind], kind


def grown(moments: torch.Tensor, rules: Rules = RULES, n_motifs: int | None = None) -> MotifTree:
    return grow(moments, WhiteNoise(moments), SMALL, rules, n_motifs=n_motifs)


def test_a_tree_has_a_leaf_for_every_group() -> None:
    moments, kind = groups([300, 100, 200], [9 * UP, 9 * RIGHT])
    tree = grown(moments)
    logs = tree.log_probabilities(moments)
    torch.testing.assert_close(logs.exp().sum(1), torch.ones(600, dtype=torch.float64))
    assert logs.argmax(1).tolist() == torch.tensor([0, 2, 1])[kind].tolist()  # the most frequent first
    assert len(tree.splits) == 2
    assert not tree.candidates
    here = Conditions(RULES, 600, 600)
    found, perhaps = tree.resolutions(torch.arange(3), here)
    assert not perhaps
    assert [one.resolved for one in found] == [True, True]
    (one, two), last = sorted(found[0].motifs, key=len), found[1].motifs
    assert sorted(one + two) == [0, 1, 2]
    assert sorted(last[0] + last[1]) == sorted(two)
    # Where leaves are one motif in two orientations, nothing tells them apart; what fits none is left out.
    assert tree.resolutions(torch.tensor([0, 0, 0]), here)[0] == []
    sides_ = [sorted(one.motifs) for one in tree.resolutions(torch.tensor([0, 1, 0]), here)[0]]
    assert sides_ == [[(0,), (1,)]]
    sides_ = [sorted(one.motifs) for one in tree.resolutions(torch.tensor([0, 1, -1]), here)[0]]
    assert sides_ == [[(0,), (1,)]]


def test_both_sides_of_a_split_are_split_again() -> None:
    moments, kind = groups([300, 200, 150, 100], [12 * UP, 9 * RIGHT, 12 * UP + 9 * RIGHT])
    labels = grown(moments).log_probabilities(moments).argmax(1)
    assert labels.tolist() == kind.tolist()


@pytest.mark.parametrize("by", [3.0, -3.0])
def test_of_equally_frequent_leaves_the_brighter_is_first(by: float) -> None:
    moments, kind = groups([100, 100], [9 * UP])
    moments[kind == 1, 0] += by
    first = grown(moments).log_probabilities(moments).argmax(1) == 0
    assert bool((first == (kind == (by > 0))).all())


@pytest.mark.parametrize("n_motifs", [1, 2, 4])
def test_a_tree_has_as_many_leaves_as_asked_for(n_motifs: int) -> None:
    moments, kind = groups([300, 100, 200], [9 * UP, 9 * RIGHT])
    tree = grown(moments, n_motifs=n_motifs)
    labels = tree.log_probabilities(moments).argmax(1)
    assert labels.unique().tolist() == list(range(n_motifs))
    if n_motifs == 4:  # what is supported comes before what is forced
        assert all(len(kind[labels == i].unique()) == 1 for i in range(4))


def test_what_all_columns_share_does_not_matter() -> None:
    moments, kind = groups([300, 100], [9 * UP])
    moments[:, 0] += 100
    labels = grown(moments).log_probabilities(moments).argmax(1)
    assert labels.tolist() == kind.tolist()


def test_a_single_column_is_not_parted() -> None:
    moments = torch.randn(1, 28, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert len(grown(moments, n_motifs=2).leaves) == 1


@pytest.mark.parametrize(
    ("pattern", "motifs"),
    [
        ((RADIUS > 0.85 * SIZE / 2) & (RADIUS < SIZE / 2), 1),  # what lies beyond shines in at the rim
        (1.0 + 0 * RADIUS, 1),
        (torch.arange(SIZE).expand(SIZE, -1), 1),  # a slope
        (torch.roll(torch.exp(-(RADIUS**2) / 9), 4, 0), 2),
    ],
    ids=["rim", "constant", "slope", "column"],
)
def test_flat_differences_and_those_at_the_rim_are_no_motifs(pattern: torch.Tensor, motifs: int) -> None:
    difference = moments_of(pattern[None], SMALL)[0]
    moments, _ = groups([300, 100], [9 * difference / difference.norm()])
    assert len(grown(moments).leaves) == motifs


@pytest.mark.parametrize(("count", "distance", "motifs"), [(4, 20.0, 1), (6, 20.0, 2), (200, 1.5, 1)])
def test_groups_that_are_too_rare_or_too_alike_are_no_leaves(
    count: int, distance: float, motifs: int
) -> None:
    moments, _ = groups([400, count], [distance * UP])
    assert len(grown(moments).leaves) == motifs


def test_what_lacks_only_dose_is_a_candidate() -> None:
    moments, _ = groups([500, 120], [3.5 * UP])
    rules = Rules(min_evidence=10.0, min_detectability=6.0, max_valley=1.0, min_share=0.003)
    tree = grown(moments, rules)
    assert len(tree.leaves) == 1
    ((node, split),) = tree.candidates
    assert node == 0
    assert split.detectability() == pytest.approx(3.5, rel=0.2)
    _, (hint,) = tree.resolutions(torch.zeros(1, dtype=torch.long), Conditions(rules, 620, 620))
    assert hint.motifs == ((0,), (0,))
    assert not hint.resolved
    assert hint.least_relative_dose > 1
    assert tree.resolutions(torch.tensor([-1]), Conditions(rules, 620, 620))[1] == []
