"""Moments keep their digits whatever torch was told; what needs a GPU runs where there is one."""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import torchmotif as tm
from torchmotif._arrays import full_precision


@pytest.fixture
def precision(request: pytest.FixtureRequest) -> Iterator[str]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(request.param)
    yield request.param
    torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("precision", ["highest", "high", "medium"], indirect=True)
@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_settings_come_back_and_nothing_is_lowered_within(precision: str, kind: str) -> None:
    with full_precision(kind):
        assert not torch.backends.cuda.matmul.allow_tf32 or kind == "cpu"
        if kind == "cpu" and hasattr(torch.backends.mkldnn, "matmul"):
            assert torch.backends.mkldnn.matmul.fp32_precision in {"ieee", "none"}  # type: ignore[attr-defined]
    assert torch.get_float32_matmul_precision() == precision


@pytest.mark.skipif(
    not hasattr(torch.backends, "fp32_precision"), reason="torch before 2.9 has no such names"
)
def test_settings_by_the_newer_names_come_back() -> None:
    """In a process of its own: torch refuses to answer by the old names once both were used."""
    lines = ["import torch", "from torchmotif._arrays import full_precision"]
    for kind, place, lower in (("cpu", "mkldnn.conv", "bf16"), ("cuda", "cuda.matmul", "tf32")):
        lines += [
            f"torch.backends.{place}.fp32_precision = {lower!r}",
            f"with full_precision({kind!r}):",
            f"    assert torch.backends.{place}.fp32_precision == 'ieee'",
            f"assert torch.backends.{place}.fp32_precision == {lower!r}",
        ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_settings_come_back_after_an_error() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with pytest.raises(ZeroDivisionError), full_precision("cuda"):
            raise ZeroDivisionError
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)


def _case(device: Any) -> tuple[tm.ZernikeBasis, torch.Tensor, torch.Tensor]:
    patches = torch.rand(300, 33, 33, generator=torch.Generator().manual_seed(0))
    offsets = torch.rand(300, 2, generator=torch.Generator().manual_seed(1)) - 0.5
    return tm.ZernikeBasis(10, 33, device=device), patches.to(device), offsets.to(device)


@pytest.mark.parametrize("precision", ["medium"], indirect=True)
@pytest.mark.usefixtures("precision")
def test_moments_do_not_lose_digits(device: torch.device) -> None:
    basis, patches, offsets = _case(device)
    exact = tm.ZernikeBasis(10, 33, dtype=torch.float64)
    for shift in (None, offsets):
        expected = exact(patches.cpu().double(), None if shift is None else shift.cpu())
        with torch.autocast(device.type, torch.bfloat16):
            moments = basis(patches, shift)
            back = basis.reconstruct(moments)
        assert float((moments.cpu() - expected).abs().max()) < 1e-5
        assert float((basis(back).cpu() - moments.cpu()).abs().max()) < 1e-4


def test_autocast_around_a_network_changes_no_measurement(device: torch.device) -> None:
    generator = torch.Generator().manual_seed(0)
    scan = tm.datasets.mose2((112, 116)).draw(generator=generator)
    moments = torch.randn(90, 15, generator=generator).to(device)

    def measured() -> list[Any]:
        columns = tm.find_columns(scan, device=device)
        positions = torch.as_tensor(columns.positions)
        inner = positions[tm.patches.inside(positions, scan.shape, 15)]
        patches = tm.extract_patches(scan, inner, 15)
        return [
            tm.datasets.mose2((64, 64)).image.data,
            columns.positions,
            tm.MotifClassifier().fit(patches).probabilities_,
            tm.ForceLayout(random_state=0).fit_transform(moments),
            tm.PCA(2).fit_transform(moments),
            tm.rotational_symmetry(moments, (2, 3)),
            tm.invariants(moments, "complete"),
        ]

    expected = measured()
    with torch.autocast(device.type, torch.bfloat16):
        within = measured()
    for one, other in zip(within, expected, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(
            torch.as_tensor(one), torch.as_tensor(other), rtol=0, atol=0, equal_nan=True
        )


@pytest.mark.gpu
def test_moments_on_a_gpu_are_those_of_the_cpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    basis, patches, offsets = _case("cuda")
    expected = tm.ZernikeBasis(10, 33)(patches.cpu(), offsets.cpu())
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # work goes to the stream that is current
        moments = basis(patches, offsets)
    torch.cuda.current_stream().wait_stream(stream)
    torch.testing.assert_close(moments.cpu(), expected, atol=1e-5, rtol=1e-4)
    pinned = patches.cpu().pin_memory()
    torch.testing.assert_close(
        basis(pinned).cpu(), tm.ZernikeBasis(10, 33)(patches.cpu()), atol=1e-5, rtol=1e-4
    )


@pytest.mark.gpu
def test_another_gpu_than_the_first() -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("fewer than two CUDA devices here")
    scan = tm.datasets.mose2((160, 160)).draw(generator=torch.Generator().manual_seed(0))
    result = tm.analyze(scan, device="cuda:1", progress=False)
    assert (result.labels == tm.analyze(scan, device="cuda:0", progress=False).labels).all()
    basis, patches, _ = _case("cuda:1")
    assert basis(patches).device == torch.device("cuda:1")
