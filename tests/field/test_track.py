import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchmotif.errors import InputError
from torchmotif.field import track

LATTICE = np.stack(np.meshgrid(range(8), range(7), indexing="ij"), axis=-1).reshape(-1, 2) * 10.0


@given(seed=st.integers(0, 10_000), row=st.floats(-4, 4), col=st.floats(-4, 4))
@settings(max_examples=25)
def test_shuffled_noisy_drifting_columns_keep_their_tracks(seed: int, row: float, col: float) -> None:
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(LATTICE))
    moved = (LATTICE + rng.normal(0, 0.2, LATTICE.shape) + [row * 0.7, col * 0.7])[order]
    followed = track([LATTICE, moved])
    np.testing.assert_array_equal(followed.tracks[1], order)
    np.testing.assert_allclose(followed.drift[1], [row * 0.7, col * 0.7], atol=0.15)


def test_columns_that_come_and_go() -> None:
    missing = np.delete(LATTICE, [3, 20], axis=0)
    followed = track([LATTICE, missing, LATTICE])
    assert followed.n_tracks == len(LATTICE) + 2
    joined = track([LATTICE, missing, LATTICE], max_gap=1)
    assert joined.n_tracks == len(LATTICE)
    assert (joined.lengths == 3).sum() == len(LATTICE) - 2
    np.testing.assert_array_equal(joined.tracks[2], np.arange(len(LATTICE)))


def test_transitions_count_what_a_motif_becomes() -> None:
    first = np.zeros(len(LATTICE), int)
    second = first.copy()
    second[:5], second[5] = 1, -1
    followed = track([LATTICE, LATTICE], [first, second])
    assert followed.transitions().tolist() == [[len(LATTICE) - 6, 5, 1], [0, 0, 0], [0, 0, 0]]
    assert followed.transitions(3).shape == (4, 4)
    with pytest.raises(InputError, match="n_motifs"):
        followed.transitions(1)
    table = followed.to_dataframe()
    assert list(table) == ["frame", "track", "row_px", "col_px", "motif"]
    assert len(table) == 2 * len(LATTICE)


def test_the_assignment_is_the_best_one_not_the_nearest_first() -> None:
    before = np.array([[0.0, 0.0], [0.0, 4.0]])
    after = np.array([[0.0, 2.4], [0.0, 6.4]])
    followed = track([before, after], max_distance=3.0, correct_drift=False)
    assert followed.tracks[1].tolist() == [0, 1]  # the nearest pair first would leave two columns alone


def test_frames_without_columns_and_bad_input() -> None:
    none = np.zeros((0, 2))
    followed = track([LATTICE, none, LATTICE])
    assert followed.n_tracks == 2 * len(LATTICE)
    with pytest.raises(InputError, match="frames is empty"):
        track([])
    with pytest.raises(InputError, match="labels"):
        track([LATTICE], [np.zeros(3, int)])
    for labels in (np.zeros(len(LATTICE)), np.full(len(LATTICE), -2), np.zeros((len(LATTICE), 1), int)):
        with pytest.raises(InputError, match="labels must"):
            track([LATTICE], [labels])
    with pytest.raises(InputError, match="max_gap"):
        track([LATTICE], max_gap=-1)
    with pytest.raises(InputError, match="max_distance"):
        track([none, none])
    with pytest.raises(InputError, match="give less"):
        track(
            [np.random.default_rng(0).random((3000, 2)), np.random.default_rng(1).random((3000, 2))],
            max_distance=9.0,
        )
    with pytest.raises(InputError, match="labels are needed"):
        track([LATTICE]).transitions()
