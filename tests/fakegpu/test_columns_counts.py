"""How much the search for columns asks of a GPU does not grow with the image, only with the batches that memory makes."""

from collections.abc import Callable
from typing import Any

import pytest

Counts = Callable[[str, int], dict[str, Any]]
# 29,294 and 150 at 2048, of full dose, where no column is held.
MOST_OPERATIONS, MOST_WAITS = 30_000, 150
GROWTH = 1.5  # of four times the pixels


@pytest.mark.slow
def test_operations_and_waits_of_columns_are_bounded_and_grow_little(counts_on_stand_in: Counts) -> None:
    """One test, so that each image is counted once however the tests are spread over processes."""
    smaller, larger = (counts_on_stand_in("find_columns", side) for side in (1024, 2048))
    for count in (smaller, larger):
        assert count["operations"] <= MOST_OPERATIONS
        assert count["waits"] <= MOST_WAITS, count["by_kind"]
    for what in ("operations", "waits"):
        assert larger[what] <= GROWTH * smaller[what]
