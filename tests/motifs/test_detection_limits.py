"""What is said of motifs that were not found is held against specimens that have them."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

import torchmotif as tm
from torchmotif.errors import InputError

Draw = Callable[..., tuple[torch.Tensor, torch.Tensor, np.ndarray]]


@pytest.fixture(scope="module")
def faint(draw: Draw) -> tuple[tm.MotifClassifier, int]:
    """Motifs of MoSe2 with 6 % vacancies at a hundredth of the dose, and which of them is Se2."""
    patches, offsets, kinds = draw(tm.datasets.mose2((600, 600), vacancy_rate=0.06), 1 / 100)
    model = tm.MotifClassifier().fit(patches, offsets)
    labels = model.labels_.numpy()
    return model, int(np.bincount(labels[(kinds == "Se2") & (labels >= 0)]).argmax())


@pytest.fixture(scope="module")
def plain() -> tm.MotifClassifier:
    """Two motifs of a column in the middle."""
    y, x = np.mgrid[-8:9, -8:9]
    disk = 20.0 * np.exp(-(x**2 + y**2) / 18)
    rates = np.repeat([1.0 + disk, 1.0 + 0.5 * disk], 100, axis=0)
    return tm.MotifClassifier().fit(np.random.default_rng(0).poisson(rates))


@pytest.mark.slow
def test_vacancies_that_were_not_found_need_the_dose_at_which_they_are(
    faint: tuple[tm.MotifClassifier, int],
) -> None:
    model, se2 = faint
    assert model.n_motifs_ == 2
    limit = model.detection_limits(-0.5, 0.06)[se2]
    assert not limit.found
    # Simulated crystals of this size show them from 1/70 to 1/50 of the dose on.
    assert 1.2 < limit.least_relative_dose < 2.5
    assert "would not be found" in str(limit)
    assert model.detection_limits(-0.5, 0.06, relative_dose=1.1 * limit.least_relative_dose)[se2].found
    assert not model.detection_limits(-0.5, 0.06, relative_dose=0.9 * limit.least_relative_dose)[se2].found


@pytest.mark.slow
def test_what_would_be_found_here_would_be(faint: tuple[tm.MotifClassifier, int]) -> None:
    model, se2 = faint
    limit = model.detection_limits(-0.5, 0.06)[se2]
    assert limit.share < limit.least_share <= 0.5
    assert -1 <= limit.least_change < limit.change
    assert model.detection_limits(-0.5, min(0.5, 1.05 * limit.least_share))[se2].found
    assert model.detection_limits(max(-1.0, 1.05 * limit.least_change), 0.06)[se2].found


@pytest.mark.parametrize(
    "arguments",
    [
        {"change": 0.0},
        {"change": -1.5},
        {"change": float("nan")},
        {"share": 0.0},
        {"share": 0.6},
        {"relative_dose": 0.0},
        {"columns": 0},
    ],
    ids=str,
)
def test_questions_out_of_range_are_refused(plain: tm.MotifClassifier, arguments: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(arguments))):
        plain.detection_limits(**arguments)


@pytest.mark.parametrize("change", [-1.0, -0.1, 0.5])
def test_one_answer_for_each_motif(plain: tm.MotifClassifier, change: float) -> None:
    limits = plain.detection_limits(change, 0.5)
    assert [limit.motif for limit in limits] == [0, 1]
    assert {limit.change for limit in limits} == {change}
