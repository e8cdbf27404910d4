from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from torchmotif import plot


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


def _offsets_of_bar(ax: object) -> str:
    return " ".join(text.get_text() for text in ax.findobj(lambda a: hasattr(a, "get_text")))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("width", "pixel_size_nm", "label"),
    [
        (512, 0.0079, "1 nm"),
        (512, 0.0399, "5 nm"),
        (37, 0.015, "1 Å"),
        (69, None, "10 px"),
        (4096, 0.02, "20 nm"),
    ],
)
def test_the_scale_bar_has_a_round_length(width: int, pixel_size_nm: float | None, label: str) -> None:
    ax = Figure().add_subplot()
    ax.imshow(np.zeros((width, width)))
    plot.scale_bar(ax, width, pixel_size_nm)
    assert label in _offsets_of_bar(ax)


def test_forty_motifs_have_forty_styles() -> None:
    assert len({plot.motif_style(motif) for motif in range(40)}) == 40


def test_the_map_has_an_entry_for_every_motif() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 4, 200)
    ax = plot.motif_map(rng.normal(size=(60, 90)), rng.uniform(0, 60, (200, 2)), labels, spacing=8.0)
    entries = [text.get_text() for text in ax.get_legend().get_texts()]
    assert [entry.split(":")[0] for entry in entries] == ["0", "1", "2", "3", "none"]


def test_the_map_draws_where_it_is_told() -> None:
    ax = Figure().add_subplot()
    assert plot.motif_map(np.eye(30), np.array([[3.0, 4.0]]), np.array([0]), spacing=5.0, ax=ax) is ax


def test_pixels_that_are_not_square_keep_their_shape() -> None:
    ax = plot.motif_map(
        np.eye(30), np.array([[3.0, 4.0]]), np.array([0]), spacing=5.0, pixel_size_nm=(0.04, 0.02)
    )
    assert ax.get_aspect() == 2.0


@pytest.mark.parametrize("n", [1, 4, 5, 12])
def test_the_gallery_shows_every_motif_without_overlap(n: int) -> None:
    drawn = plot.motif_gallery(np.random.default_rng(0).normal(size=(n, 9, 9)), np.arange(n) + 1)
    plot.figure_of(drawn[0]).draw_without_rendering()
    boxes = [ax.get_tightbbox() for ax in drawn]
    assert len(boxes) == n
    assert all(not (a.x0 < b.x1 and b.x0 < a.x1 and a.y0 < b.y1 and b.y0 < a.y1) for a, b in pairwise(boxes))
