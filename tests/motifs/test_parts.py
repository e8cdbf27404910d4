import math

import numpy as np
import pytest
import torch
from drawn import BASIS, RADIUS, SIZE, moments_of, spots

from torchmotif.errors import InputError
from torchmotif.motifs._model import Spread
from torchmotif.motifs._moments import MomentScale, PatchSource, n_max_of
from torchmotif.motifs._single_columns import single_columns
from torchmotif.zernike import ZernikeBasis


@pytest.mark.parametrize("neighbours", [3, 6])
@pytest.mark.parametrize("level", [0.0, 0.1])
def test_the_column_in_the_middle_is_what_stands_there(neighbours: int, level: float) -> None:
    whole, alone = spots([1.0] + [0.8] * neighbours), moments_of(spots([1.0])[None], BASIS)[0]
    found = single_columns(moments_of((whole + level)[None], BASIS), BASIS)[0, 0]
    assert float((found - alone).norm()) < 0.3 * float(alone.norm())


@pytest.mark.parametrize("neighbours", [0, 6])
def test_where_the_middle_is_dark_there_is_no_column(neighbours: int) -> None:
    patch = spots([0.0] + [1.0] * neighbours)
    assert not single_columns(moments_of(patch[None], BASIS), BASIS)[:, 0].any()


def test_a_lone_column_reaches_to_the_edge_of_the_disk() -> None:
    wide = spots([1.0], width=60.0)
    known = moments_of((wide - wide[0, 10]).clamp(min=0)[None], BASIS)[0]
    found = single_columns(moments_of(wide[None], BASIS), BASIS)[0, 0]
    assert float((found - known).norm()) < 0.1 * float(known.norm())


@pytest.mark.parametrize("neighbours", [2, 3, 6])
def test_each_neighbour_is_what_its_patch_lacks_without_it(neighbours: int) -> None:
    heights = [1.0] + [0.8] * neighbours
    found = single_columns(moments_of(spots(heights)[None], BASIS), BASIS)[0, 1:]
    assert int((found != 0).any(1).sum()) == neighbours
    for i in range(1, neighbours + 1):
        without = spots([*heights[:i], 0.0, *heights[i + 1 :]])
        alone = moments_of((spots(heights) - without)[None], BASIS)[0]
        alike = torch.nn.functional.cosine_similarity(found, alone[None])
        assert float(alike.max()) > 0.95
        assert int((alike > 0.95).sum()) == 1


def test_a_lone_column_has_no_neighbours() -> None:
    assert not single_columns(moments_of(torch.ones(1, SIZE, SIZE), BASIS), BASIS)[:, 1:].any()


@pytest.fixture(scope="module")
def scale() -> MomentScale:
    return MomentScale(ZernikeBasis(6, SIZE), level=9.0, unit=3.0, dark=2.0)


def test_patches_of_another_dose_have_the_same_moments(
    scale: MomentScale, generator: torch.Generator
) -> None:
    patches = 2 + torch.rand(4, SIZE, SIZE, generator=generator) * 20
    shifts = torch.rand(4, 2, generator=generator, dtype=torch.float64) - 0.5
    here = scale.of_patches(patches, shifts)
    assert here.shape == (4, 28)
    less = scale.of_patches(2 + 0.25 * (patches - 2), shifts, 0.25)
    torch.testing.assert_close(less, here, atol=1e-4 * float(here.abs().max()), rtol=0)
    assert scale.counts_at_level == pytest.approx(7 / 3)


def test_moments_about_another_level_are_the_same(scale: MomentScale, generator: torch.Generator) -> None:
    patches = 2 + torch.rand(4, SIZE, SIZE, generator=generator) * 20
    here = scale.of_patches(patches, None)
    for dose, level in ((1.0, 5.0), (0.5, 0.0)):
        moments = moments_of(2 + dose * (patches - 2) - level, scale.basis)
        found = scale.of_moments(moments, level, dose)
        torch.testing.assert_close(found.float(), here, atol=0.02 * float(here.abs().max()), rtol=0)


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
    basis = ZernikeBasis(2, 5)
    moments, level, deviation, least, parts = source.read(basis)
    np.testing.assert_allclose(parts, [patches[i::4].mean(0) for i in range(4)], rtol=1e-6)
    exact = patches.astype(np.float64)
    assert level == pytest.approx(exact.mean(), abs=1e-4)
    assert deviation == pytest.approx(exact.std(), rel=1e-4)
    assert least == exact.min()
    np.testing.assert_allclose(moments, basis(patches - np.float32(level)), atol=1e-3)


def test_of_dark_patches_the_mean_is_nothing() -> None:
    basis, patches = ZernikeBasis(1, 3), np.zeros((4, 3, 3))
    assert PatchSource(patches, None).read(basis)[1:4] == (0.0, 0.0, 0.0)
    patches[1:] = 2.0
    assert PatchSource(patches, None).read(basis)[1:4] == pytest.approx((1.5, 0.75**0.5, 0.0))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_pixel_that_is_not_finite_is_refused_in_any_batch(bad: float) -> None:
    patches = np.zeros((10, 3, 3))
    patches[8, 1, 2] = bad
    source = PatchSource(patches, None)
    source.batch = 3
    with pytest.raises(InputError, match="not finite"):
        source.read(ZernikeBasis(1, 3))


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
    spread = Spread.learn(moments, labels, covariance, 3)
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
    labels = torch.zeros(3000, dtype=torch.long)
    spread = Spread.learn(moments, labels, torch.eye(20, dtype=torch.float64), 1)
    assert spread.stretch >= 1
    assert float(spread.distances(moments[40:], labels[40:]).median()) <= 20.5
    assert float(spread.scores(moments[:40], labels[:40]).min()) > 3
