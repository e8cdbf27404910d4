"""How much the search for columns asks of a GPU does not grow with the image, only with the batches that memory makes."""

from collections.abc import Callable
from typing import Any

import pytest

Counts = Callable[[str, int], dict[str, Any]]
# 29,294 and 150 at 2048, of full dose, where no column is held.
MOST_OPERATIONS, MOST_WAITS = 30_000, 150
GROWTH = 1.5  # of four times the pixels


@pytest.mark.slow
@pytest.mark.parametrize("side", [1024, 2048])
def test_operations_and_waits_of_columns_are_bounded(counts_on_stand_in: Counts, side: int) -> None:
    count = counts_on_stand_in("find_columns", side)
    assert count["operations"] <= MOST_OPERATIONS
    assert count["waits"] <= MOST_WAITS, count["by_kind"]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["operations", "waits"])
def test_four_times_the_pixels_ask_for_little_more(counts_on_stand_in: Counts, what: str) -> None:
    smaller, larger = (counts_on_stand_in("find_columns", side)[what] for side in (1024, 2048))
    assert larger <= GROWTH * smaller
