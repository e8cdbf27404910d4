"""What detection limits say of a motif that was not found, held against brute force."""

import math

import pytest
from drawn import CRITERIA, components

from torchmotif.motifs.detectability import Acquisition, CentralColumn, DetectionLimit

NEVER = float("inf")


def column(**change: object) -> CentralColumn:
    known = {
        "count": 400,
        "strength": 10.0,
        "scatter": (0.0, 0.0),
        "noise_of_column": 0.0,
    }
    return CentralColumn(**(known | change))


def limit_of(
    middle: CentralColumn, change: float, share: float, dose: float = 1.0, columns: int = 1000
) -> DetectionLimit:
    return Acquisition(CRITERIA, 1000, columns, dose).detection_limit(7, middle, change, share)


@pytest.mark.parametrize("change", [-0.5, 0.7])
def test_a_changed_column_is_as_far_as_it_is_changed(change: float) -> None:
    found = limit_of(column(), change, 0.3)
    assert (found.motif, found.change, found.share, found.found) == (7, change, 0.3, True)
    assert found.detectability == pytest.approx(10 * abs(change), rel=0.01)
    # Of 400 columns here, so twice as many of twice the columns.
    gain = components(10 * change, share=0.3).found()[1][0]
    assert found.evidence == pytest.approx(800 * gain - 2 * math.log(400))
    many = limit_of(column(), change, 0.3, columns=2000)
    assert many.evidence == pytest.approx(1600 * gain - 2 * math.log(800))


@pytest.mark.parametrize(("change", "clear"), [(-0.8, (3.0, 0.0)), (0.8, (0.0, 3.0))])
def test_scatter_on_one_side_does_not_hide_what_is_on_the_other(
    change: float, clear: tuple[float, float]
) -> None:
    assert limit_of(column(scatter=clear), change, 0.4).detectability == pytest.approx(8, rel=0.01)
    assert limit_of(column(scatter=clear[::-1]), change, 0.4).detectability == pytest.approx(4, rel=0.01)


@pytest.mark.parametrize("change", [-0.5, 1.0])
@pytest.mark.parametrize("dose", [1.0, 4.0])
def test_darker_columns_are_less_noisy(change: float, dose: float) -> None:
    middle = column(noise_of_column=0.6)
    noise = (1 / dose, (1 + 0.6 * change) / dose)
    darker = components(10 * change, 0.0, noise, share=0.4)
    assert limit_of(middle, change, 0.4, dose=dose).detectability == pytest.approx(darker.found()[0][0])


@pytest.mark.parametrize(("change", "share"), [(-0.15, 0.05), (1.5, 0.3)])
@pytest.mark.parametrize("what", ["dose", "columns", "share", "change"])
def test_the_limits_of_detection_part_what_is_found_from_what_is_not(
    change: float, share: float, what: str
) -> None:
    middle = column(scatter=(0.2, 0.1))
    limit = limit_of(middle, change, share)
    assert limit.found == (limit.least_relative_dose <= 1) == (limit.least_columns <= 1000)
    for factor, found in ((1.02, True), (0.98, False)):
        if what == "dose":
            changed = limit_of(middle, change, share, dose=factor * limit.least_relative_dose)
        elif what == "columns" and math.isfinite(limit.least_columns):
            changed = limit_of(middle, change, share, columns=round(factor * limit.least_columns))
        elif what == "share" and not math.isnan(limit.least_share):
            changed = limit_of(middle, change, factor * limit.least_share)
        else:
            assert limit.least_change * change > 0
            changed = limit_of(middle, factor * limit.least_change, share)
        assert changed.found == found


def test_what_no_change_shows_has_no_least_one() -> None:
    faint = limit_of(column(strength=0.3), -0.5, 0.1)
    assert not faint.found
    assert math.isnan(faint.least_change)
    assert math.isnan(faint.least_share)
    assert faint.least_columns == NEVER
    assert math.isfinite(faint.least_relative_dose)
    hidden = limit_of(column(strength=0.3, scatter=(1.0, 1.0)), -0.5, 0.1)
    assert hidden.least_relative_dose == NEVER


def test_columns_may_be_four_times_as_bright_but_not_darker_than_dark() -> None:
    assert 2 / 0.9 < limit_of(column(strength=0.9), 0.5, 0.4).least_change <= 4
    assert math.isnan(limit_of(column(strength=0.9), -0.5, 0.4).least_change)


def test_too_few_columns_are_no_motif() -> None:
    # 5 of 400 columns at least.
    limit = limit_of(column(strength=40.0), -0.5, 4.9 / 400)
    assert not limit.found
    assert limit.least_share == pytest.approx(5 / 400, rel=0.02)
    assert limit_of(column(strength=40.0), -0.5, 5 / 400).found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {},
            (
                "motif 3: a part of 0.06 of it, 50% darker in the middle, would be found (d' 4.0); "
                "here from 0.012 of it or 25% darker on"
            ),
        ),
        ({"least_share": math.nan, "least_change": math.nan}, "would be found (d' 4.0)"),
        ({"change": 0.5, "least_change": 0.25}, "here from 0.012 of it or 25% brighter on"),
        (
            {"found": False},
            (
                "would not be found (d' 4.0): needs about 1,200 columns or about 1.5 times this dose; "
                "here from 0.012 of it or 25% darker on"
            ),
        ),
        (
            {"found": False, "least_columns": NEVER, "least_share": math.nan},
            "needs about 1.5 times this dose; here from 25% darker on",
        ),
        (
            {"found": False, "least_relative_dose": NEVER, "least_change": math.nan},
            "needs about 1,200 columns; here from 0.012 of it on",
        ),
        (
            {"found": False, "least_columns": NEVER, "least_relative_dose": NEVER, "least_share": math.nan},
            "needs another kind of image; here from 25% darker on",
        ),
    ],
)
def test_a_limit_says_what_it_takes(change: dict[str, object], said: str) -> None:
    known = {
        "motif": 3,
        "change": -0.5,
        "share": 0.06,
        "detectability": 4.0,
        "evidence": 99.0,
        "found": True,
        "least_relative_dose": 1.5,
        "least_columns": 1200.0,
        "least_share": 0.012,
        "least_change": -0.25,
    }
    assert str(DetectionLimit(**(known | change))).endswith(said)
