import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.columns.polarity import is_bright_field

SPECIMENS = {
    "honeycomb": lambda: tm.datasets.mose2((256, 256)),
    "square": lambda: tm.datasets.square((256, 256)),
    "perovskite": lambda: tm.datasets.perovskite((256, 256)),
    "pairs": lambda: tm.datasets.dumbbells((256, 256)),
    "oxide": lambda: tm.datasets.pentagonal_oxide((256, 256)),
}


def drawn(name: str) -> tuple[tm.datasets.Specimen, np.ndarray]:
    specimen = SPECIMENS[name]()
    return specimen, specimen.draw(generator=torch.Generator().manual_seed(0)).numpy()


def precision(specimen: tm.datasets.Specimen, found: tm.Columns) -> float:
    distance = cKDTree(specimen.truth.positions).query(found.positions)[0]
    return float((distance < 0.3 * found.spacing).mean())


@pytest.mark.parametrize("name", SPECIMENS)
def test_bright_columns_are_found_by_themselves(name: str) -> None:
    specimen, pixels = drawn(name)
    assert precision(specimen, tm.find_columns(pixels)) > 0.9


@pytest.mark.parametrize("name", ["honeycomb", "perovskite", "pairs", "oxide"])
def test_dark_columns_are_found_by_themselves(name: str) -> None:
    specimen, pixels = drawn(name)
    found = tm.find_columns(pixels.max() - pixels)
    assert len(found) > 20
    assert precision(specimen, found) > 0.9


def test_a_given_polarity_is_taken() -> None:
    _, pixels = drawn("honeycomb")
    auto, bright = tm.find_columns(pixels), tm.find_columns(pixels, polarity="bright")
    np.testing.assert_array_equal(auto.positions, bright.positions)


def test_dark_columns_are_said_to_be_dark() -> None:
    _, pixels = drawn("honeycomb")
    result = tm.analyze(pixels.max() - pixels, hierarchy=0, progress=False)
    assert any("dark" in note for note in result.record["notes"])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("scan_BF.dm4", True),
        ("ABF", True),
        ("Bright Field", True),
        ("HAADF", False),
        ("abfall", False),
        (None, False),
    ],
)
def test_names_say_bright_field(name: str | None, said: bool) -> None:
    assert is_bright_field(name) == said
