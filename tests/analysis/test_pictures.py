"""Pictures in a folder of results: whole, framed, and written while others are drawn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from torchmotif.analysis._png import pictures_in
from torchmotif.plot._packed import packed, pixels


def figure(layout: Any = None) -> Figure:
    """An image with a long legend, beyond the edge of the figure where that is not laid out."""
    made = Figure(figsize=(3 if layout is None else 8, 2), dpi=150, layout=layout)
    axes = made.add_axes((0, 0, 1, 1)) if layout is None else made.add_subplot()
    axes.imshow(np.arange(12.0).reshape(3, 4))
    axes.plot([0, 1], [0, 1], label="a name that does not fit beside the picture")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return made


@pytest.mark.parametrize("layout", [None, "constrained"])
def test_a_picture_is_the_one_that_a_tight_frame_makes(tmp_path: Path, layout: Any) -> None:
    figure(layout).savefig(tmp_path / "expected.png", dpi=200, bbox_inches="tight")
    (tmp_path / "found.png").write_bytes(packed(pixels(figure(layout), 200), 200))
    with Image.open(tmp_path / "expected.png") as expected, Image.open(tmp_path / "found.png") as found:
        assert np.abs(np.subtract(found.size, expected.size)).max() <= 2
        assert found.mode == "RGB"
        assert found.info["dpi"] == pytest.approx((200, 200), abs=0.1)
        size = tuple(np.minimum(found.size, expected.size).tolist())
        one, other = (
            np.asarray(image.convert("L").crop((0, 0, *size)), float) for image in (found, expected)
        )
    assert np.abs(one - other).mean() < 3  # a pixel of difference at most in where lines lie


def test_a_picture_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="gone"), pictures_in(tmp_path / "gone") as write:
        write("motifs", {"templates": np.eye(3)[None], "counts": np.ones(1, int)})
