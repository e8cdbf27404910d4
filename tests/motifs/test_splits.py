import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn import (
    BASIS,
    FULL,
    HALF,
    RIGHT,
    SMALL,
    UP,
    WhiteNoise,
    cumulants,
    in_white_noise,
    moments_of,
    parted,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from torchmotif.motifs._choice import _alike
from torchmotif.motifs._expectation import Components
from torchmotif.motifs._groups import Groups
from torchmotif.motifs._mixture import Pairs, Points
from torchmotif.motifs._noise import CountingNoise, matched_filter
from torchmotif.motifs._saddles import saddle_ratios
from torchmotif.motifs._split import Candidates, Split, propose, splits_of
from torchmotif.zernike import ZernikeBasis


def saddle_ratio(values: torch.Tensor, threshold: float) -> float:
    """Of values on both sides of a threshold."""
    points, pairs = parted(values, threshold)
    # The discriminant of a threshold: the distance from it, and the odds of a column that may be anywhere.
    centred = float(values.mean()) - threshold + float(pairs.share.logit())
    pairs = pairs._replace(discriminant=torch.tensor([[[1.0, centred]]]))
    return float(saddle_ratios(points, points.odds(pairs), pairs)[0, 0])


def proposed(moments: torch.Tensor, groups: Groups) -> tuple[Split, torch.Tensor, Candidates]:
    """The best supported split, the probability that each column belongs to its second component, and all candidates."""
    found = propose(groups)
    best = found.evidence.argmax().reshape(1, 1)
    splits, _ = splits_of(groups, found, best)
    return splits[0][0], torch.sigmoid(splits[0][0].log_odds(moments)), found


# Of a thousand draws of noise one or two look like anything: the same draws every time.
@settings(max_examples=15, deadline=None, derandomize=True)
@given(distance=st.floats(4.5, 40), share=st.floats(0.05, 0.5), seed=st.integers(0, 99))
def test_two_sharp_components_have_a_deep_saddle(distance: float, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = torch.from_numpy(rng.normal(size=3000) + distance * (rng.random(3000) < share))
    assert saddle_ratio(values, distance / 2) < 0.2


@settings(max_examples=15, deadline=None, derandomize=True)
@given(width=st.floats(5, 60), seed=st.integers(0, 99))
def test_a_continuum_has_no_saddle(width: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = torch.from_numpy(rng.normal(size=3000) + width * rng.random(3000))
    assert saddle_ratio(values, width / 2) > 0.2


def test_constant_values_have_no_saddle() -> None:
    values = torch.ones(10, dtype=torch.float64)
    assert saddle_ratio(values, 1.0) == 1.0


def test_noise_alone_supports_no_split(generator: torch.Generator) -> None:
    moments = torch.randn(1500, 28, generator=generator, dtype=torch.float64)
    assert float(propose(in_white_noise(moments, ZernikeBasis(6, 15))).evidence.max()) < 0


def test_a_rare_group_is_proposed_first(generator: torch.Generator) -> None:
    moments = torch.randn(1500, 28, generator=generator, dtype=torch.float64)
    moments[:60, 7] += 6
    split, second, _ = proposed(moments, in_white_noise(moments, ZernikeBasis(6, 15)))
    rare = second if split.share < 0.5 else 1 - second
    assert float(rare[:60].mean()) > 0.95
    assert float(rare[60:].mean()) < 0.01
    assert split.detectability() == pytest.approx(6, rel=0.1)
    assert split.detectability(0.25) == pytest.approx(3, rel=0.1)
    assert split.detectability(1 / 9) == pytest.approx(2, rel=0.1)


def test_groups_side_by_side_are_each_as_alone(generator: torch.Generator) -> None:
    one = torch.randn(700, 28, generator=generator, dtype=torch.float64)
    other = torch.randn(300, 28, generator=generator, dtype=torch.float64)
    one[:60, 7] += 6
    other[:90] += 5 * UP
    rows = [torch.arange(700), torch.arange(700, 1000)]
    both = Groups(torch.cat([one, other]).float(), rows, WhiteNoise(28), SMALL, 1.0)
    together = propose(both).evidence.amax(1).tolist()
    alone = [float(propose(in_white_noise(part)).evidence.max()) for part in (one, other)]
    assert together == pytest.approx(alone, abs=0.05)


@pytest.mark.parametrize("axes", [1, 3])
def test_no_component_is_narrower_than_the_noise(axes: int) -> None:
    rng = np.random.default_rng(0)
    second = rng.random(4000) < 0.4
    values = 0.7 * rng.normal(size=(4000, axes)) + 3 * second[:, None] * np.eye(axes)[0]
    values[:, 1:] += 2 * rng.normal(size=(4000, axes - 1))
    centred = values - values.mean(0)
    _, directions = np.linalg.eigh(np.cov(centred.T, bias=True).reshape(axes, axes))
    x = torch.from_numpy(centred @ directions).float()
    places = torch.cat([x, torch.ones(4000, 1)], 1)[None]
    points = Points(
        places, places / 4000, torch.zeros(1).long(), torch.tensor([4000.0]), x.var(0, correction=0)[None]
    )
    sums = points.sums(torch.from_numpy(second).float()[None, :, None])
    pairs = Pairs.maximising(points, sums, torch.ones(1, axes))
    for _ in range(20):  # the least variance is bettered in every step
        pairs = Pairs.maximising(points, sums, torch.ones(1, axes), pairs.narrowest)
    means = [x[torch.from_numpy(side)].double().mean(0).numpy() for side in (~second, second)]
    residual = x.double().numpy() - np.stack(means)[second.astype(int)]
    variances, vectors = np.linalg.eigh(np.cov(residual.T, bias=True).reshape(axes, axes))
    floored = (vectors * np.maximum(variances, 1)) @ vectors.T
    known = np.linalg.solve(floored, means[1] - means[0])
    np.testing.assert_allclose(pairs.discriminant[0, 0, :-1], known, rtol=0.02, atol=0.02)
    first, other = (stats.multivariate_normal(mean, floored).logpdf(x.numpy()) for mean in means)
    total = np.maximum(np.cov(x.numpy().T, bias=True).reshape(axes, axes).diagonal(), 1)
    single = stats.multivariate_normal(np.zeros(axes), np.diag(total)).logpdf(x.numpy()).sum()
    both = np.logaddexp(math.log(1 - second.mean()) + first, math.log(second.mean()) + other).sum()
    assert float(pairs.gains(points, points.odds(pairs))) == pytest.approx(both - single, rel=0.01)


def mixture(share: float, intrinsic: torch.Tensor, means: torch.Tensor) -> Split:
    q = means.shape[1]
    axes = torch.eye(q + 2, dtype=torch.float64)[:, :q]
    return Split(axes, means, intrinsic, share, 0.0, 100, torch.zeros(2, q + 2, dtype=torch.float64))


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


def test_the_components_of_a_split_lie_along_what_tells_them_apart() -> None:
    means = torch.tensor([[0.0, 1.0], [3.0, -1.0]], dtype=torch.float64)
    intrinsic = torch.tensor([[1.0, 0.4], [0.4, 0.5]], dtype=torch.float64)
    split = mixture(0.2, intrinsic, means)
    doses = np.array([1.0, 0.25])
    found_ = Components.of(split, doses)
    for i, dose in enumerate(doses):
        apart = found_.step[i] / math.sqrt(found_.intrinsic[i] + found_.noise[i, 0])
        assert abs(apart) == pytest.approx(split.detectability(dose))
        np.testing.assert_allclose(found_.noise[i], 1 / dose)
        np.testing.assert_allclose(found_.skew[i], 0, atol=1e-12)
    assert found_.share == 0.2


def test_the_components_of_a_split_have_the_noise_of_their_patches(generator: torch.Generator) -> None:
    drawn = torch.poisson(torch.stack([FULL, HALF]).repeat(300, 1, 1), generator=generator)
    moments = moments_of(drawn - 0.5, BASIS)
    noise = CountingNoise(BASIS, BASIS.n_max, 0.5, None)
    split, _, _ = proposed(moments, Groups(moments.float(), [torch.arange(600)], noise, BASIS, 1.0))
    brighter = (split.log_odds(moments[::2]) > 0).double().mean() > 0.5
    full, half = moments[::2].mean(0), moments[1::2].mean(0)
    split = replace(split, sides=torch.stack([half, full] if brighter else [full, half]))
    if split.straight:  # what was taken out is not there
        assert not Components.of(split.with_cumulants(noise, 1.0), np.array([1.0])).skew.any()
        split = replace(split, straight=False)
    found_ = Components.of(split.with_cumulants(noise, 1.0), np.array([1.0, 0.5]))
    discriminant = split.means[1] - split.means[0]
    if len(discriminant) > 1:
        discriminant = torch.linalg.solve(split.intrinsic + torch.eye(len(discriminant)), discriminant)
    axis = (split.axes @ discriminant / discriminant.norm())[:, None]
    for side, rate in enumerate((HALF, FULL) if brighter else (FULL, HALF)):
        second, third = cumulants(rate, axis)
        assert found_.noise[0, side] == pytest.approx(float(second), rel=0.1)
        assert found_.skew[0, side] == pytest.approx(float(third), rel=0.1)
    np.testing.assert_allclose(found_.noise[1], 2 * found_.noise[0], rtol=0.1)
    double = Components.of(split.with_cumulants(noise, 2.0), np.array([1.0]))
    np.testing.assert_allclose(double.noise[0], 2 * found_.noise[0])
    np.testing.assert_allclose(double.skew[0], 4 * found_.skew[0])


def test_the_evidence_is_the_gain_in_likelihood_less_its_price(generator: torch.Generator) -> None:
    moments = torch.randn(500, 28, generator=generator, dtype=torch.float64)
    moments[:60] += 5 * UP
    moments[:, 9] *= 2  # what varies beyond the noise
    groups = in_white_noise(moments)
    found = propose(groups)
    for j in torch.nonzero(torch.isfinite(found.evidence[0])).flatten().tolist():
        ((split,),), _ = splits_of(groups, found, torch.tensor([[j]]))
        x = (moments @ split.axes).numpy()
        wide = split.intrinsic.numpy() + np.eye(x.shape[1])
        first, second = (stats.multivariate_normal(mean.numpy(), wide).logpdf(x) for mean in split.means)
        both = np.logaddexp(math.log(1 - split.share) + first, math.log(split.share) + second).sum()
        values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(x.T, bias=True)))
        one = vectors * np.maximum(values, 1) @ vectors.T  # nowhere narrower than the noise
        single = stats.multivariate_normal(x.mean(0), one).logpdf(x).sum()
        price = (x.shape[1] + 1) * math.log(500)
        assert split.evidence == pytest.approx(2 * (both - single) - price, abs=0.1)


def test_components_have_the_means_and_the_scatter_of_their_columns(generator: torch.Generator) -> None:
    moments = 3.0 + torch.randn(1500, 28, generator=generator, dtype=torch.float64)
    moments[:500] += 9 * UP
    moments += 2 * torch.randn(1500, 1, generator=generator, dtype=torch.float64) * RIGHT
    split, probability, _ = proposed(moments, in_white_noise(moments))
    x, second = moments @ split.axes, probability > 0.5
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
def test_a_saddle_is_as_deep_as_it_is_without_noise(distance: float, width: float) -> None:
    rng = np.random.default_rng(1)
    second = rng.random(40_000) < 0.4
    values = torch.from_numpy(rng.normal(size=40_000) + width * rng.normal(size=40_000) + distance * second)
    x = np.linspace(0, distance, 500)
    density = 0.6 * stats.norm.pdf(x, 0, width) + 0.4 * stats.norm.pdf(x, distance, width)
    known = density.min() / min(density[0], density[-1])
    found = saddle_ratio(values, distance / 2)
    assert found == pytest.approx(known, rel=0.25, abs=0.02)
    assert saddle_ratio(-values, -distance / 2) == pytest.approx(found, rel=0.05, abs=0.01)


@pytest.mark.parametrize("step", [5, 8])
def test_a_component_may_have_peaks_of_its_own(step: int) -> None:
    rng = np.random.default_rng(0)
    values = torch.from_numpy(rng.normal(size=3000) + step * rng.choice(3, 3000, p=(0.2, 0.6, 0.2)))
    for threshold in (0.5 * step, 1.5 * step):
        assert saddle_ratio(values, threshold) < 0.01


def test_a_threshold_beyond_the_peaks_parts_nothing() -> None:
    rng = np.random.default_rng(0)
    for distance, share in ((0.0, 0.5), (9.0, 0.3), (9.0, 0.7)):
        values = torch.from_numpy(rng.normal(size=500) + distance * (rng.random(500) < share))
        for threshold in (-9.0, 20.0):
            assert saddle_ratio(values, threshold) == 1.0


@given(st.integers(0, 2**31), st.booleans(), st.booleans())
def test_parts_are_alike_whichever_side_is_called_the_second(seed: int, first: bool, other: bool) -> None:
    """Most of what lies in either of the smaller sides lies in both."""
    rng = np.random.default_rng(seed)
    mine = rng.random(200) < rng.uniform(0.05, 0.45)
    yours = mine ^ (rng.random(200) < rng.uniform(0, 0.3))
    small = [side if 2 * side.sum() <= 200 else ~side for side in (mine, yours)]
    known = (small[0] & small[1]).sum() > (small[0] | small[1]).sum() / 2
    one, two = (~mine if first else mine), (~yours if other else yours)
    found = _alike(200, float(one.sum()), np.array([two.sum()]), np.array([(one & two).sum()]))
    # Of two halves either is the smaller one.
    assert found[0] == known or 100 in {mine.sum(), yours.sum()}
