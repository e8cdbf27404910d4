from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_mutual_info_score

import torchmotif as tm
from torchmotif.errors import InputError, TorchMotifWarning
from torchmotif.metrics import site_f1

Draw = Callable[..., tuple[torch.Tensor, torch.Tensor, np.ndarray]]


@pytest.fixture(scope="module")
def specimen() -> tm.datasets.Specimen:
    return tm.datasets.mose2((600, 600), vacancy_rate=0.06)


@pytest.fixture(scope="module")
def learnt(specimen: tm.datasets.Specimen, draw: Draw) -> tm.MotifClassifier:
    patches, offsets, _ = draw(specimen, 1 / 10)
    return tm.MotifClassifier().fit(patches, offsets)


@pytest.mark.parametrize("dose", [1, 1 / 10, 1 / 20], ids=["1", "1/10", "1/20"])
def test_vacancies_are_found_at_low_dose(specimen: tm.datasets.Specimen, draw: Draw, dose: float) -> None:
    patches, offsets, kinds = draw(specimen, dose)
    model = tm.MotifClassifier().fit(patches, offsets)
    assert min(site_f1(kinds, model.labels_.numpy()).values()) > 0.9
    assert model.n_motifs_ <= 8


@pytest.mark.parametrize("dose", [1, 1 / 20, 1 / 100], ids=["1", "1/20", "1/100"])
def test_a_perfect_crystal_has_two_motifs_at_every_dose(draw: Draw, dose: float) -> None:
    patches, offsets, _ = draw(tm.datasets.mose2((450, 450), vacancy_rate=0.0), dose)
    assert tm.MotifClassifier().fit(patches, offsets).n_motifs_ == 2


def test_where_the_data_do_not_tell_it_splits_nothing(specimen: tm.datasets.Specimen, draw: Draw) -> None:
    patches, offsets, _ = draw(specimen, 1 / 400)
    assert tm.MotifClassifier().fit(patches, offsets).n_motifs_ == 2


def test_the_gain_is_seen_in_the_patches(learnt: tm.MotifClassifier) -> None:
    assert learnt.electrons_per_count_ == pytest.approx(1.0, rel=0.1)


def test_given_and_estimated_gain_find_the_same(
    specimen: tm.datasets.Specimen, draw: Draw, learnt: tm.MotifClassifier
) -> None:
    patches, offsets, _ = draw(specimen, 1 / 10)
    scaled = tm.MotifClassifier(electrons_per_count=0.01, offset=-500.0).fit(patches * 100 - 500, offsets)
    assert adjusted_mutual_info_score(scaled.labels_, learnt.labels_) > 0.97


def test_motifs_of_one_dose_are_told_apart_at_another(
    specimen: tm.datasets.Specimen, draw: Draw, learnt: tm.MotifClassifier
) -> None:
    patches, offsets, kinds = draw(specimen, 1 / 30, seed=1)
    labels = learnt.predict(patches, offsets, relative_dose=1 / 3).numpy()
    assert site_f1(kinds, labels)["V_Se"] > 0.85
    right = learnt.predict_proba(patches, offsets, relative_dose=1 / 3).numpy()
    sure = right.max(1) > 0.99
    assert (right.argmax(1)[sure] == labels[sure]).all()
    assert (labels < 0).mean() < 0.01
    with pytest.raises(InputError, match="relative_dose"):
        learnt.predict(patches, offsets, relative_dose=0.0)


def test_probabilities_are_calibrated(specimen: tm.datasets.Specimen, draw: Draw) -> None:
    patches, offsets, kinds = draw(specimen, 1 / 30, seed=2)
    model = tm.MotifClassifier().fit(patches, offsets)
    probabilities = model.predict_proba(patches, offsets).numpy()
    best = probabilities.argmax(1)
    vacancy = np.array([np.mean(kinds[best == m] == "V_Se") > 0.5 for m in range(model.n_motifs_)])
    expected = probabilities[:, vacancy].sum()
    assert expected == pytest.approx((kinds == "V_Se").sum(), rel=0.3)


def test_resolutions_say_from_which_dose_on(learnt: tm.MotifClassifier) -> None:
    assert len(learnt.resolutions_) == learnt.n_motifs_ - 1
    assert {len(r.motifs[0]) + len(r.motifs[1]) for r in learnt.resolutions_} >= {learnt.n_motifs_}
    for resolution in learnt.resolutions_:
        assert resolution.detectability >= 2
        assert resolution.evidence >= 10
        assert resolution.least_relative_dose < 1
        assert "of this dose" in str(resolution)


def test_reconstructions_keep_the_motif_and_lose_the_noise(
    specimen: tm.datasets.Specimen, draw: Draw, learnt: tm.MotifClassifier
) -> None:
    patches, offsets, _ = draw(specimen, 1 / 40, seed=3)
    labels = learnt.labels_
    low = tm.MotifClassifier().fit(patches, offsets)
    high = learnt.reconstructions_[0].flatten()
    alike = [float(torch.corrcoef(torch.stack([high, t.flatten()]))[0, 1]) for t in low.reconstructions_]
    assert max(alike) > 0.99
    inside = learnt.reconstructions_[0] != 0
    mean = patches.new_tensor(0) + draw(specimen, 1 / 10)[0][labels == 0].mean(0)
    assert float((learnt.reconstructions_[0] - mean)[inside].abs().mean()) < 0.2 * float(mean.mean())


def test_a_slow_background_is_no_motif(draw: Draw) -> None:
    specimen = tm.datasets.mose2((450, 450), vacancy_rate=0.0)
    image = torch.as_tensor(specimen.image.data)
    row, col = torch.meshgrid(torch.linspace(0, 1, 450), torch.linspace(0, 1, 450), indexing="ij")
    cloud = 4.0 * torch.sigmoid(((row - 0.5) ** 2 + (col - 0.4) ** 2 - 0.06) * -60)
    dirty = tm.datasets.Specimen(tm.Micrograph(image + cloud, 0.015, "nm"), specimen.truth)
    patches, offsets, kinds = draw(dirty, 1.0)
    model = tm.MotifClassifier().fit(patches, offsets)
    assert model.n_motifs_ == 2
    assert min(site_f1(kinds, model.labels_.numpy()).values()) > 0.95


def test_identical_patches_cannot_be_made_two_motifs() -> None:
    with pytest.warns(TorchMotifWarning, match="only 1 of 2 motifs"):
        assert tm.MotifClassifier(2).fit(np.ones((20, 9, 9))).n_motifs_ == 1


@pytest.mark.parametrize("gain", [0.0, -1.0, float("nan")])
def test_a_gain_that_is_none_is_refused(gain: float) -> None:
    with pytest.raises(InputError, match="electrons_per_count"):
        tm.MotifClassifier(electrons_per_count=gain).fit(np.ones((20, 9, 9)))


def test_what_lacks_evidence_says_what_it_needs(draw: Draw) -> None:
    specimen = tm.datasets.mose2((1024, 1024), random_state=1)
    patches, offsets, kinds = draw(specimen, 1 / 110, seed=1)
    model = tm.MotifClassifier().fit(patches, offsets)
    assert model.n_motifs_ == 2
    (hint,) = [one for one in model.unresolved_ if (kinds[model.labels_ == one.motifs[0][0]] == "V_Se").any()]
    assert hint.motifs[0] == hint.motifs[1]
    assert not hint.resolved
    assert 1 < hint.least_relative_dose < 1.3
    assert hint.share == pytest.approx(0.06, abs=0.03)
    assert "not resolvable here: needs" in str(hint)
    enough = 1 / 110 * hint.least_relative_dose
    patches, offsets, kinds = draw(specimen, 1.1 * enough, seed=1)
    # Where there is so little light, who knows the true patches has about 0.75.
    assert site_f1(kinds, tm.MotifClassifier().fit_predict(patches, offsets).numpy())["V_Se"] > 0.6


def test_vacancies_beside_a_thousand_columns_are_found_at_a_fiftieth(draw: Draw) -> None:
    patches, offsets, kinds = draw(tm.datasets.mose2((1024, 1024), random_state=0), 1 / 50)
    metal = np.flatnonzero(kinds == "Mo")[:1000]
    model = tm.MotifClassifier().fit(patches[metal], offsets[metal])
    assert 4 <= model.n_motifs_ <= 8  # a neighbour is missing in one of three directions
    assert model.counts_[0] > 700


def test_vacancies_are_found_at_a_hundredth_of_the_dose(draw: Draw) -> None:
    patches, offsets, kinds = draw(tm.datasets.mose2((1024, 1024), random_state=0), 1 / 100)
    model = tm.MotifClassifier().fit(patches, offsets)
    assert site_f1(kinds, model.labels_.numpy())["V_Se"] > 0.55  # with the true patches known, 0.67
    assert model.n_motifs_ <= 7


@pytest.mark.parametrize("dose", [1 / 50, 1 / 200], ids=["1/50", "1/200"])
def test_a_perfect_crystal_hints_at_nothing(draw: Draw, dose: float) -> None:
    patches, offsets, _ = draw(tm.datasets.mose2((600, 600), vacancy_rate=0.0), dose)
    assert tm.MotifClassifier().fit(patches, offsets).unresolved_ == []


def test_resolutions_at_other_doses(learnt: tm.MotifClassifier) -> None:
    as_learnt, low = learnt.resolutions_at(), learnt.resolutions_at(1 / 20)
    assert all(one.resolved for one in as_learnt)
    unresolved = [one for one in low if not one.resolved]
    assert unresolved
    assert len(unresolved) < len(low)
    for one in unresolved:
        assert one.least_relative_dose > 1
        assert one.least_columns > len(learnt.labels_)
        again = learnt.resolutions_at(1.01 / 20 * one.least_relative_dose)
        assert next(other for other in again if other.motifs == one.motifs).resolved
    with pytest.raises(InputError, match="must be positive"):
        learnt.resolutions_at(0.0)


def test_how_many_there_are_is_better_known_than_which(draw: Draw) -> None:
    patches, offsets, kinds = draw(tm.datasets.mose2((600, 600), vacancy_rate=0.06), 1 / 50)
    model = tm.MotifClassifier().fit(patches, offsets)
    numbers, errors = model.expected_counts_.T
    assert numbers.sum() == pytest.approx(len(patches))
    proba = model.predict_proba(patches, offsets).numpy()
    np.testing.assert_allclose(numbers, proba.sum(0), rtol=1e-4)
    of = [
        max(set(kinds[proba.argmax(1) == i]), key=list(kinds[proba.argmax(1) == i]).count)
        for i in range(len(numbers))
    ]
    for kind in set(of):
        mine = [i for i, one in enumerate(of) if one == kind]
        error = float(np.hypot.reduce(errors[mine])) + 0.02 * (kinds == kind).sum()
        assert abs(numbers[mine].sum() - (kinds == kind).sum()) < 4 * error
