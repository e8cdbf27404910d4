"""Fixtures shared by all tests: the device, the dtype, one table of tolerances, the folder of real images."""

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import pytest
import torch
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))
from typed import install

mpl.use("Agg")
settings.register_profile(
    "torchmotif", deadline=None
)  # how long an example takes says nothing on a busy machine
settings.load_profile("torchmotif")
install("torchmotif")  # shapes and types are checked in tests only

# Absolute and relative tolerance of results computed in each precision.
TOLERANCE = {
    torch.float64: {"atol": 1e-12, "rtol": 1e-10},
    torch.float32: {"atol": 1e-5, "rtol": 1e-4},
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="torch device of the tests: cpu, cuda, cuda:1")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """`pytest -m gpu --device cuda` is what runs on the device: tests that take it, besides those that need it."""
    if config.getoption("--device") == "cpu":
        return
    for item in items:
        if "device" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.gpu)


def pytest_collection_finish() -> None:
    """Thousands of tests and what they import stay: no search for garbage need go through them."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    wanted = torch.device(request.config.getoption("--device"))
    if wanted.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    return wanted


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture
def tolerance(dtype: torch.dtype) -> dict[str, float]:
    return TOLERANCE[dtype]


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(20260101)


@pytest.fixture(scope="session")
def real_data() -> Path:
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("TORCHMOTIF_DATA", default))
    if not (folder / "MoSe2_80kV.tif").exists():
        pytest.skip(f"no real images at {folder}; set TORCHMOTIF_DATA to their folder")
    return folder


@pytest.fixture(autouse=True)
def _figures_closed() -> Iterator[None]:
    """Figures that tests leave open add up in a process, and pyplot warns of twenty."""
    yield
    if (pyplot := sys.modules.get("matplotlib.pyplot")) is not None:
        pyplot.close("all")
