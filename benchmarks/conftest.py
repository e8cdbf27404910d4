"""Options of `pytest benchmarks`."""

from pathlib import Path

import pytest
import torch


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device", default="all", help="cpu, cuda, cuda:1; by default the CPU and, if there is one, the GPU"
    )
    parser.addoption(
        "--full", action="store_true", help="also 100,000 patches, every stage at every dose; hours on a CPU"
    )


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """The other files here are programs."""
    return True if collection_path.suffix == ".py" and not collection_path.name.startswith("test_") else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "device" not in metafunc.fixturenames:
        return
    wanted = metafunc.config.getoption("--device")
    names = [wanted] if wanted != "all" else ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    absent = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
    marks = [[] if name == "cpu" else [pytest.mark.gpu, absent] for name in names]
    metafunc.parametrize("device", [pytest.param(n, marks=m) for n, m in zip(names, marks, strict=True)])
