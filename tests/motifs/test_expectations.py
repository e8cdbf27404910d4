"""What is expected of two motifs at some dose, held against integrals, draws and brute force."""

import math

import numpy as np
import pytest
import torch
from drawn import CRITERIA, components
from numpy.testing import assert_allclose, assert_array_equal
from scipy import integrate, stats
from sklearn.mixture import GaussianMixture

from torchmotif.motifs._expectation import Components, expected, found_detectability, min_scale
from torchmotif.motifs._split import Split
from torchmotif.motifs.detectability import Acquisition, Resolution

NEVER = float("inf")


@pytest.mark.parametrize(
    ("step", "intrinsic", "share"), [(4.0, 0.0, 0.5), (-5.0, 1.0, 0.3), (8.0, 2.0, 0.1), (-20.0, 0.0, 0.02)]
)
def test_two_gaussians_are_found_as_they_are(step: float, intrinsic: float, share: float) -> None:
    width = math.sqrt(1 + intrinsic)
    detectability, gain = components(step, intrinsic, share=share).found()
    assert detectability[0] == pytest.approx(abs(step) / width, rel=2e-3)

    def density(x: float) -> float:
        return (1 - share) * stats.norm.pdf(x, 0, width) + share * stats.norm.pdf(x, step, width)

    one = stats.norm(share * step, math.sqrt(width**2 + share * (1 - share) * step**2))
    exact, _ = integrate.quad(
        lambda x: density(x) * (math.log(density(x)) - one.logpdf(x)),
        min(step, 0) - 6 * width,
        max(step, 0) + 6 * width,
        limit=200,
    )
    assert gain[0] == pytest.approx(exact, rel=2e-3)


@pytest.mark.parametrize("step", [-4.0, 5.0])
def test_what_is_found_in_skewed_noise_is_what_a_mixture_finds_in_draws(step: float) -> None:
    generator = np.random.default_rng(0)
    intrinsic, noise, skew, share = 0.3, (1.0, 0.6), (0.8, 0.5), 0.4
    width = [math.sqrt(intrinsic + one) for one in noise]
    second = generator.random(100_000) < share
    draws = [
        stats.pearson3.rvs(s / w**3, loc=m, scale=w, size=len(second), random_state=generator)
        for s, w, m in zip(skew, width, (0.0, step), strict=True)
    ]
    values = np.where(second, draws[1], draws[0])[:, None]
    fitted = GaussianMixture(2, covariance_type="tied", tol=1e-5, random_state=0).fit(values)
    detectability, gain = components(step, intrinsic, noise, skew, share).found()
    apart = abs(np.diff(fitted.means_[:, 0])[0]) / math.sqrt(fitted.covariances_[0, 0])
    assert detectability[0] == pytest.approx(apart, rel=0.02)
    single = stats.norm(values.mean(), values.std()).logpdf(values).mean()
    assert gain[0] == pytest.approx(fitted.score(values) - single, abs=0.01)


def test_components_at_many_doses_are_those_at_each() -> None:
    step, intrinsic = np.array([3.0, -6.0, 12.0]), np.array([0.0, 1.0, 4.0])
    noise, skew = (
        np.array([[1.0, 0.5], [2.0, 1.0], [0.1, 3.0]]),
        np.array([[0.1, 0.2], [1.0, 0.0], [0.0, 2.0]]),
    )
    together = Components(step, intrinsic, noise, skew, 0.2).found()
    for i in range(3):
        alone = components(step[i], intrinsic[i], tuple(noise[i]), tuple(skew[i]), 0.2).found()
        for all_, one in zip(together, alone, strict=True):
            assert_allclose(all_[i], one[0], rtol=1e-12)


def test_one_motif_is_found_as_one() -> None:
    detectability, gain = components(0.0).found()
    assert detectability[0] == pytest.approx(0, abs=1e-6)
    assert gain[0] == pytest.approx(0, abs=1e-6)


def test_no_component_is_narrower_than_the_noise() -> None:
    # With the noise of both sides, 1 and 0.04, one width serves: at least their mean by share.
    detectability, _ = components(6.0, noise=(1.0, 0.04)).found()
    assert detectability[0] == pytest.approx(6 / math.sqrt(0.52), rel=0.01)


def test_a_part_of_the_distance_is_left() -> None:
    assert_allclose(components(8.0).found(0.5), components(4.0).found(), rtol=1e-12)
    assert components(8.0).found(np.array([0.5]))[0] == pytest.approx(components(4.0).found()[0])


def test_beyond_thirty_standard_deviations_nothing_changes() -> None:
    far = components(1e4, intrinsic=3.0).found()
    assert far[0][0] == pytest.approx(30, rel=1e-3)
    assert_allclose(components(-1e9, intrinsic=3.0).found(), far, rtol=1e-9)


def test_what_is_one_costs_the_price_of_two() -> None:
    for axes, columns in ((1, 100), (4, 2000)):
        detectability, evidence = expected(components(0.0), columns, axes)
        assert detectability[0] == pytest.approx(0, abs=1e-6)
        assert evidence[0] == pytest.approx(-(axes + 1) * math.log(columns), rel=1e-3)
    assert expected(components(0.0), 0.5, 1)[1][0] == pytest.approx(0, abs=1e-6)


def test_evidence_grows_with_the_columns() -> None:
    few, many = (expected(components(3.0), n, 2, 1.0)[1][0] + 3 * math.log(n) for n in (500, 1500))
    assert many == pytest.approx(3 * few)
    assert few == pytest.approx(1000 * components(3.0).found()[1][0])


@pytest.mark.parametrize("least", [1e-4, 0.3, 1.0, 7.7, 6e4])
def test_the_min_scale_is_the_threshold(least: float) -> None:
    assert least <= min_scale(lambda x: x >= least) <= 1.006 * least


def test_factors_out_of_reach() -> None:
    assert min_scale(lambda x: x > 1e9) == NEVER
    assert min_scale(lambda x: x > 0) == 2.0**-16


def test_from_the_min_scale_on_more_is_enough_too() -> None:
    assert min_scale(lambda x: ((x > 0.1) & (x < 8)) | (x > 90)) == pytest.approx(90, rel=0.01)
    assert min_scale(lambda x: x < 100) == NEVER


@pytest.mark.parametrize("seed", [0, 1])
def test_what_is_lost_when_the_direction_has_to_be_found(seed: int) -> None:
    rng = np.random.default_rng(seed)
    distance, share, moments, columns = 3.0, 0.2, 300, 1500
    x = rng.normal(size=(columns, moments))
    x[:, 0] += distance * (rng.random(columns) < share)
    _, _, directions = np.linalg.svd(x - x.mean(0), full_matrices=False)
    left = found_detectability(distance, share, moments, columns)
    assert left == pytest.approx(distance * abs(directions[0, 0]), rel=0.04)
    assert left < 0.97 * distance


def test_known_directions_lose_nothing_and_weak_ones_all() -> None:
    assert found_detectability(2.5, 0.1, 0, 10) == 2.5
    assert found_detectability(2.5, 0.1, 66, 1e12) == pytest.approx(2.5)
    assert found_detectability(1.0, 0.1, 66, 100) == 0
    assert found_detectability(1.0, 0.5, 4, 64) == 0  # at the edge itself
    assert found_detectability(5.0, 0.5, 6, 0.5) == found_detectability(5.0, 0.5, 6, 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "0 | 1 2: d' 3.2, 12.5% on the smaller side, evidence 40, down to 0.25 of this dose"),
        (
            {"least_relative_dose": 3e-5},
            "0 | 1 2: d' 3.2, 12.5% on the smaller side, evidence 40, even at 0.001 of this dose",
        ),
        (
            {"resolved": False, "least_relative_dose": 2.0, "motifs": ((1,), (1,))},
            (
                "1, perhaps two motifs: d' 3.2, 12.5% on the smaller side, not resolvable here: "
                "needs about 12,300 columns or 2 times this dose"
            ),
        ),
        ({"resolved": False, "least_columns": NEVER}, "not resolvable here: needs 0.25 times this dose"),
        ({"resolved": False, "least_relative_dose": NEVER}, "here: needs about 12,300 columns"),
        (
            {"resolved": False, "least_relative_dose": NEVER, "least_columns": NEVER},
            "not resolvable here: needs another kind of image",
        ),
    ],
)
def test_a_resolution_says_what_it_takes(change: dict[str, object], said: str) -> None:
    known = {
        "motifs": ((0,), (1, 2)),
        "detectability": 3.2,
        "share": 0.125,
        "evidence": 40.2,
        "resolved": True,
        "least_relative_dose": 0.25,
        "least_columns": 12345.0,
    }
    assert str(Resolution(**(known | change))).endswith(said)


def test_criteria_are_met_by_both_numbers() -> None:
    met = CRITERIA.are_met(np.array([1.9, 2.0, 2.0, 3.0]), np.array([99.0, 9.9, 10.0, 11.0]))
    assert_array_equal(met, [False, False, True, True])
    assert_allclose(CRITERIA.min_columns(np.array([10, 3000, 5000, 1e6])), [5, 9, 15, 50])
    assert float(CRITERIA.min_columns(2000)) == pytest.approx(6)


def split(distance: float, share: float, used: int, axes: int, columns: int) -> Split:
    """A split along the first of some axes in 40 moments, of which some are used."""
    along = torch.zeros(40, axes, dtype=torch.float64)
    along[:used] = 1.0
    means = torch.zeros(2, axes, dtype=torch.float64)
    means[1, 0] = distance
    intrinsic = torch.zeros(axes, axes, dtype=torch.float64)
    return Split(
        along, means, intrinsic, share, 50.0, columns, torch.zeros(2, len(along), dtype=torch.float64)
    )


def test_a_split_under_the_conditions_it_was_learnt_in_is_as_it_was() -> None:
    told = split(4.0, 0.7, 40, 2, 900)
    here = Acquisition(CRITERIA, learnt=1000, columns=1000)
    found = here.resolutions([told], [((0,), (1,))])[0]
    assert (found.detectability, found.evidence, found.resolved) == (pytest.approx(4.0), 50.0, True)
    assert found.share == pytest.approx(0.3)
    assert not here.resolutions([told], [((0,), (0,))])[0].resolved


def test_a_split_at_another_dose() -> None:
    told = split(6.0, 0.3, 1, 1, 900)
    found = Acquisition(CRITERIA, 1000, 1000, 0.25).resolutions([told], [((0,), (1,))])[0]
    assert found.detectability == pytest.approx(3.0, rel=0.01)
    more = Acquisition(CRITERIA, 1000, 5000, 0.25).resolutions([told], [((0,), (1,))])[0]
    assert more.detectability == pytest.approx(found.detectability)
    price = 2 * math.log(900)
    assert more.evidence + 2 * math.log(4500) == pytest.approx(5 * (found.evidence + price))


@pytest.mark.parametrize(("used", "axes"), [(40, 3), (1, 1), (3, 3)])
@pytest.mark.parametrize("distance", [2.6, 4.0])
def test_what_was_measured_is_expected_again(used: int, axes: int, distance: float) -> None:
    told = split(distance, 0.2, used, axes, 900)
    almost = Acquisition(CRITERIA, 1000, 1000, 1.0001).resolutions([told], [((0,), (1,))])[0]
    assert almost.detectability == pytest.approx(distance, rel=0.02)


def test_with_fewer_columns_a_direction_among_many_is_lost() -> None:
    known, found, all_ = (
        Acquisition(CRITERIA, 1000, 40).resolutions([split(3.5, 0.2, used, axes, 1000)], [((0,), (1,))])[0]
        for used, axes in ((40, 1), (40, 3), (3, 3))
    )
    assert known.detectability == pytest.approx(3.5, rel=0.01)
    assert all_.detectability == pytest.approx(3.5, rel=0.01)
    assert found.detectability < 3.0


@pytest.mark.parametrize("what", ["least_relative_dose", "least_columns"])
@pytest.mark.parametrize("start", [0.02, 1.0, 5.0])
def test_what_it_takes_is_enough_and_less_is_not(what: str, start: float) -> None:
    told, parted = split(3.0, 0.1, 40, 3, 300), ((0,), (1,))
    at = Acquisition(CRITERIA, 1000, 1200, start).resolutions([told], [parted])[0]
    least = getattr(at, what)
    if not math.isfinite(least):
        assert what == "least_columns"
        assert at.detectability < 2
        return
    for factor, enough in ((1.02, True), (0.98, False)):
        dose = start * least * factor if what == "least_relative_dose" else start
        columns = round(least * factor) if what == "least_columns" else 1200
        assert Acquisition(CRITERIA, 1000, columns, dose).resolutions([told], [parted])[0].resolved == enough
