import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from torchmotif.errors import InputError
from torchmotif.metrics import ami, ari, fmi, site_f1

partitions = st.integers(1, 40).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 3), min_size=n, max_size=n),
        st.lists(st.integers(-1, 4), min_size=n, max_size=n),
    )
)


@pytest.mark.parametrize("score", [fmi, ami, ari])
def test_the_same_partition_scores_one_whatever_its_names(score: object) -> None:
    truth = np.repeat([0, 1, 2], [5, 4, 3])
    assert score(truth, np.array([7, -1, 2])[truth]) == pytest.approx(1.0)  # type: ignore[operator]


def test_chance_scores_nothing() -> None:
    rng = np.random.default_rng(0)
    truth, labels = rng.integers(0, 3, (2, 5000))
    assert ami(truth, labels) == pytest.approx(0, abs=0.01)
    assert ari(truth, labels) == pytest.approx(0, abs=0.01)
    assert fmi(truth, labels) == pytest.approx(1 / 3, abs=0.02)


def test_pairs_are_counted() -> None:
    # pairs together: {01}, {23} in truth, {01}, {02}, {12} in labels; one of them in both
    assert fmi([0, 0, 1, 1], [0, 0, 0, 1]) == pytest.approx(1 / np.sqrt(2 * 3))


@given(partitions)
def test_site_f1_is_that_of_motifs_named_after_their_majority(pair: tuple[list[int], list[int]]) -> None:
    kinds, labels = (np.array(part) for part in pair)
    named = np.full(len(kinds), -1)
    for motif in set(labels.tolist()) - {-1}:
        named[labels == motif] = np.bincount(kinds[labels == motif]).argmax()
    scores = site_f1(kinds, labels)
    assert list(scores) == np.unique(kinds).tolist()
    expected = f1_score(kinds, named, labels=list(scores), average=None, zero_division=0)
    assert list(scores.values()) == pytest.approx(expected)


@given(partitions, st.permutations(range(5)))
def test_site_f1_does_not_depend_on_the_numbers_of_motifs(
    pair: tuple[list[int], list[int]], order: list[int]
) -> None:
    kinds, labels = (np.array(part) for part in pair)
    renamed = np.append(order, -1)[labels]
    assert site_f1(kinds, renamed) == site_f1(kinds, labels)


def test_a_rare_kind_that_was_missed_scores_zero() -> None:
    kinds = np.repeat(["Mo", "Se2", "V_Se"], [50, 45, 5])
    assert site_f1(kinds, np.repeat([0, 1], [50, 50])) == pytest.approx(
        {"Mo": 1.0, "Se2": 90 / 95, "V_Se": 0.0}
    )


def test_noise_counts_for_no_kind() -> None:
    assert site_f1(["a", "a", "b"], [-1, -1, -1]) == {"a": 0.0, "b": 0.0}


def test_motifs_may_be_finer_than_kinds() -> None:
    assert site_f1(["a", "a", "b", "b"], [0, 1, 2, 3]) == {"a": 1.0, "b": 1.0}


def test_tensors_are_welcome(device: torch.device) -> None:
    labels = torch.tensor([0, 0, 1], device=device)
    assert site_f1(["a", "a", "b"], labels) == {"a": 1.0, "b": 1.0}
    assert ami(labels, labels) == 1.0


@pytest.mark.parametrize("score", [fmi, ami, ari, site_f1])
@pytest.mark.parametrize(
    ("truth", "labels"), [([], []), ([0, 1], [0]), ([[0, 1]], [[0, 1]])], ids=["empty", "lengths", "2-D"]
)
def test_bad_input(score: object, truth: list[int], labels: list[int]) -> None:
    with pytest.raises(InputError, match="of one length and not empty"):
        score(truth, labels)  # type: ignore[operator]
