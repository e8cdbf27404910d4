import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import torchmotif as tm


def chi_square_p(counts: np.ndarray, distribution: Any) -> float:
    """Probability of a worse fit, over the values of which at least ten are expected."""
    low, high = max(int(distribution.ppf(1e-3)), 1), int(distribution.ppf(1 - 1e-3)) + 1
    inner = np.arange(low, high)
    expected = np.concatenate(
        [[distribution.cdf(low - 1)], distribution.pmf(inner), [distribution.sf(high - 1)]]
    )
    clipped = np.clip(counts.astype(int).ravel(), low - 1, high) - (low - 1)
    observed = np.bincount(clipped, minlength=len(expected))
    expected = expected * counts.size
    keep = expected > 10
    statistic = ((observed - expected)[keep] ** 2 / expected[keep]).sum()
    return float(stats.chi2.sf(statistic, keep.sum() - 1))


@pytest.mark.parametrize("dose", [0.05, 0.8, 7.0, 60.0], ids=lambda d: f"{d}e")
def test_a_dose_gives_poisson_counts(dose: float, generator: torch.Generator) -> None:
    counts = tm.apply_dose(np.ones((512, 512)), dose, generator=generator)
    assert chi_square_p(counts, stats.poisson(dose)) > 1e-3
    n = counts.size
    assert abs(counts.mean() - dose) < 4 * (dose / n) ** 0.5
    spread = (2 / n + 1 / (dose * n)) ** 0.5  # of the variance over its expectation
    assert abs(counts.var() / dose - 1) < 4 * spread


@pytest.mark.parametrize(("mean", "fraction"), [(40.0, 0.02), (40.0, 0.5), (3.0, 0.1), (400.0, 0.3)])
def test_thinned_counts_are_poisson_counts_of_the_lower_dose(
    mean: float, fraction: float, generator: torch.Generator
) -> None:
    counts = torch.poisson(torch.full((512, 512), mean), generator=generator)
    assert (
        chi_square_p(
            tm.noise.thin(counts, fraction, generator=generator).numpy(), stats.poisson(mean * fraction)
        )
        > 1e-3
    )


@pytest.mark.parametrize(("count", "fraction"), [(5, 0.3), (200, 0.05), (200, 0.5), (5000, 0.9)])
def test_thinning_is_binomial(count: int, fraction: float, generator: torch.Generator) -> None:
    kept = tm.noise.thin(np.full((400, 400), count), fraction, generator=generator)
    assert chi_square_p(kept, stats.binom(count, fraction)) > 1e-3


def test_what_is_thinned_away_is_independent_of_what_stays(generator: torch.Generator) -> None:
    counts = torch.poisson(torch.full((512, 512), 9.0), generator=generator)
    kept = tm.noise.thin(counts, 0.4, generator=generator)
    correlation = torch.corrcoef(torch.stack([kept.flatten(), (counts - kept).flatten()]))[0, 1]
    assert abs(float(correlation)) < 4 / 512


@given(
    counts=st.lists(st.integers(0, 70_000), min_size=1, max_size=20),
    fraction=st.floats(0, 1),
    dtype=st.sampled_from([np.int32, np.uint16, np.float32, np.float64]),
)
def test_thinning_never_adds_and_keeps_the_type(counts: list[int], fraction: float, dtype: type) -> None:
    before = np.array(counts).clip(max=np.iinfo(np.uint16).max).astype(dtype)
    after = tm.noise.thin(before, fraction)
    assert after.dtype == before.dtype
    assert ((after >= 0) & (after <= before) & (after == np.round(after))).all()


@pytest.mark.parametrize("most", [2**24 + 1, 2**40 + 3])
def test_counts_beyond_float32_stay_exact(most: int) -> None:
    counts = np.array([[7, most]])
    assert (tm.noise.thin(counts, 1.0) == counts).all()


def test_micrographs_keep_their_calibration_and_learn_their_dose(generator: torch.Generator) -> None:
    image = tm.Micrograph(np.ones((64, 64)), 0.01)
    counts = tm.apply_dose(image, 20.0, generator=generator)
    assert (counts.pixel_size, counts.electrons_per_pixel) == ((0.01, 0.01), 20)
    assert tm.noise.thin(counts, 0.1, generator=generator).electrons_per_pixel == pytest.approx(2)
    assert tm.apply_dose(image, 0.0).data.sum() == 0


def test_results_come_as_the_input_came(device: torch.device) -> None:
    source = torch.Generator(device).manual_seed(0)
    image = torch.ones(8, 8, device=device)
    counts = tm.apply_dose(image, 3.0, generator=source)
    assert isinstance(counts, torch.Tensor)
    assert counts.device == image.device
    assert tm.noise.thin(counts, 0.5, generator=source).device == image.device
    assert isinstance(tm.apply_dose(np.ones((8, 8)), 3.0), np.ndarray)


def test_a_nested_series_only_loses_electrons(generator: torch.Generator) -> None:
    counts = torch.poisson(torch.full((256, 256), 30.0), generator=generator)
    series = tm.noise.relative_dose_series(counts, (1.0, 0.5, 0.1, 0.0), nested=True, generator=generator)
    assert torch.equal(series[0], counts)
    assert all(bool((b <= a).all()) for a, b in itertools.pairwise(series))
    assert chi_square_p(series[2].numpy(), stats.poisson(3.0)) > 1e-3
    free = tm.noise.relative_dose_series(counts, (0.5, 0.5), generator=generator)
    assert not torch.equal(free[0], free[1])


def test_detected_electrons_of_a_common_setting() -> None:
    assert tm.noise.detected_electrons(30.0, 10.0, 1.0) == pytest.approx(1872.5, rel=1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tm.apply_dose(np.ones((4, 4)), -1.0), "electrons_per_pixel"),
        (lambda: tm.apply_dose(np.ones((4, 4)), np.inf), "finite"),
        (lambda: tm.apply_dose(-np.ones((4, 4)), 1.0), "negative"),
        (lambda: tm.apply_dose(np.zeros((4, 4)), 1.0), "no intensity"),
        (lambda: tm.apply_dose(np.full((4, 4), np.nan), 1.0), "not finite"),
        (lambda: tm.noise.thin(np.ones((4, 4)), 1.5), "fraction"),
        (lambda: tm.noise.thin(np.full((4, 4), 0.5), 0.5), "whole numbers"),
        (lambda: tm.noise.thin(-np.ones((4, 4)), 0.5), "negative"),
        (lambda: tm.noise.relative_dose_series(np.ones((4, 4)), (0.1, 0.5), nested=True), "must fall"),
        (lambda: tm.noise.detected_electrons(0.0, 10.0, 0.1), "current_pa"),
        (lambda: tm.noise.detected_electrons(30.0, 10.0, 2.0), "detected_fraction"),
    ],
    ids=lambda v: v.replace(" ", "-") if isinstance(v, str) else "",
)
def test_bad_input_is_refused(call, message: str) -> None:
    with pytest.raises(tm.errors.InputError, match=message):
        call()


@pytest.mark.parametrize(
    "values", [np.array([True]), np.array([1j]), np.array(["a"])], ids=["bool", "complex", "text"]
)
def test_counts_that_are_no_numbers_are_refused(values: np.ndarray) -> None:
    with pytest.raises(tm.errors.InputTypeError, match="real numbers"):
        tm.noise.thin(values, 0.5)
