"""The count of operations and waits where the CPU is taken for the device; device_checks.py has that of the stand-in."""

import sys
import threading
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from counting import PRETENDED, counted
from known import KNOWN, Given


@pytest.mark.parametrize("name", KNOWN)
def test_known_functions_count_what_is_known(name: str) -> None:
    function, operations, views, waits = KNOWN[name]
    given = Given.on(PRETENDED)
    with counted("cpu") as count:
        function(given)
    assert (count.operations, count.views, count.by_kind) == (operations, views, waits)
    assert count.waits == sum(waits.values())


def test_stages_lie_within_one_another() -> None:
    x = torch.ones(3)
    with counted() as whole:
        with counted() as first:
            x + x
        with counted() as second:
            float(x.sum())
    x + x
    assert (first.operations, second.operations, whole.operations) == (1, 2, 3)
    assert (first.waits, second.waits, whole.waits) == (0, 1, 1)
    assert whole.names == {"add": 1, "sum": 1, "_local_scalar_dense": 1}


def test_only_the_thread_that_counts_is_counted_and_torch_has_one() -> None:
    x, before = torch.ones(3), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with counted() as count:
            assert torch.get_num_threads() == 1
            other = threading.Thread(target=lambda: x + x)
            other.start()
            other.join()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert count.operations == 0


def test_each_wait_says_which_line_of_a_folder_it_comes_from(tmp_path: Path) -> None:
    code = compile("\nfor _ in range(2):\n    float(x[0])", str(tmp_path / "code.py"), "exec")
    x = torch.ones(3)
    with counted(inside=tmp_path) as count:
        exec(code, {"x": x})  # noqa: S102
        float(x[0])
    assert count.by_line == {("read", "code.py:3"): 2, ("read", ""): 1}
