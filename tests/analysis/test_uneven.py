"""What the self-check says where noise is more in a part of an image."""

import pytest

from torchmotif.analysis.uneven import doubts_of_uneven
from torchmotif.columns._noisy import Noisy
from torchmotif.columns._rest import Rest, together


@pytest.mark.parametrize(
    ("noisy", "sentence"),
    [
        (Noisy(lost=0.4), "40% more of the lattice's places hold no column"),
        (Noisy(drowned=0.4), "hides about 40% of all columns"),
        (Noisy(assumed=0.4), "40% of the columns are where the lattice has them elsewhere"),
    ],
)
def test_what_noise_hides_is_said_with_its_share_and_a_remedy(noisy: Noisy, sentence: str) -> None:
    (found,) = doubts_of_uneven(Rest(noisy=noisy), guided=True)
    assert sentence in found
    assert "take an image of a higher dose" in found


def test_nothing_is_said_of_an_even_image() -> None:
    assert doubts_of_uneven(Rest(), guided=True) == []


@pytest.mark.parametrize(("guided", "said"), [(True, 0), (False, 1)])
def test_a_step_is_said_earlier_where_no_mean_cell_guides(guided: bool, said: int) -> None:
    assert len(doubts_of_uneven(Rest(step=10.0), guided=guided)) == said
    assert len(doubts_of_uneven(Rest(step=20.0), guided=guided)) == 1


def test_windows_have_the_mean_of_what_noise_hides() -> None:
    windows = [Rest(noisy=Noisy(drowned=0.2, assumed=0.6)), Rest()]
    assert together(windows).noisy == Noisy(drowned=0.1, assumed=0.3)
