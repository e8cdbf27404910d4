"""How much each stage after the columns asks of a GPU; benchmarks/operations.py prints the numbers."""

from collections.abc import Callable
from typing import Any

import pytest

Counts = Callable[[str, int], dict[str, Any]]


@pytest.mark.slow
@pytest.mark.parametrize("side", [256, 1024])
def test_projection_never_waits_and_asks_for_as_much_whatever_the_image(
    counts_on_stand_in: Counts, side: int
) -> None:
    count = counts_on_stand_in("project", side)
    assert count["waits"] == 0, count["by_kind"]
    assert count["operations"] <= 105  # 95, and a tenth


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "side", "operations", "waits", "checks"),
    [
        ("fit", 512, 14_400, 52, 7),
        ("fit_many", 512, 8_600, 46, 5),
        ("fit_perovskite", 500, 17_200, 57, 8),
        ("fit_bilayer", 400, 29_600, 81, 13),
        ("fit_oxide", 450, 31_500, 79, 14),
    ],
)
def test_learning_motifs_asks_for_no_more_than_it_did(
    counts_on_stand_in: Counts, stage: str, side: int, *, operations: int, waits: int, checks: int
) -> None:
    """Of a few levels and of eleven; each bound is what was counted and a tenth at most. A check is a decomposition."""
    count = counts_on_stand_in(stage, side)
    assert count["operations"] <= operations
    assert count["waits"] <= waits, count["by_kind"]
    assert count["by_kind"]["check"] <= checks
