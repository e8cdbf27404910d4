import pytest
import torch

from torchmotif._memory import in_batches, memory_for
from torchmotif.errors import OutOfMemoryError, TorchMotifError


def no_room() -> None:
    torch.empty(1 << 50)  # what the CPU's allocator says of this is a plain RuntimeError


FAILURES = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    MemoryError(),
    RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"),
]


@pytest.mark.parametrize("failure", [*FAILURES, None], ids=["cuda", "numpy", "windows", "cufft", "real"])
def test_batches_are_halved_until_they_fit(failure: Exception | None) -> None:
    tried = []

    def step(start: int, stop: int) -> list[int]:
        tried.append(stop - start)
        if stop - start > 3:
            if failure is None:
                no_room()
            else:
                raise failure
        return list(range(start, stop))

    results = list(in_batches(step, 10, 8, "wait"))
    assert [item for part in results for item in part] == list(range(10))
    assert tried == [8, 4, 2, 2, 2, 2, 2]


def test_what_does_not_fit_at_all_says_what_to_set() -> None:
    for call in (
        lambda: list(in_batches(lambda *_: no_room(), 10, 8, "use smaller patches")),
        lambda: within("use smaller patches"),
    ):
        with pytest.raises(OutOfMemoryError, match="use smaller patches") as caught:
            call()
        assert isinstance(caught.value, TorchMotifError)
        assert isinstance(caught.value, MemoryError)


def within(remedy: str) -> None:
    with memory_for(remedy), memory_for("the inner remedy is not lost: use smaller patches"):
        no_room()


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="size"):
        list(in_batches(lambda *_: torch.zeros(2) @ torch.zeros(3), 10, 8, ""))
    with pytest.raises(RuntimeError, match="shape"), memory_for(""):
        raise RuntimeError("shape")
    assert list(in_batches(lambda *_: no_room(), 0, 8, "")) == []
