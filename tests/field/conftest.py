from pathlib import Path

import numpy as np
import pytest
import torch

import torchmotif as tm
from torchmotif.columns import grid

PIXEL_NM = 0.025


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 128 pixels, one in each batch, so that an image of few columns has many of them."""
    monkeypatch.setattr(grid, "_SIDE", 96)
    monkeypatch.setattr(grid, "_SPACINGS", 1.0)
    monkeypatch.setattr(grid, "BATCH", 30_000)


@pytest.fixture(scope="session")
def specimen() -> tm.datasets.Specimen:
    return tm.datasets.mose2((220, 200), PIXEL_NM, vacancy_rate=0.05)


@pytest.fixture(scope="session")
def scan(specimen: tm.datasets.Specimen, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("field") / "scan.npy"
    np.save(path, specimen.draw(1.0, torch.Generator().manual_seed(0)).numpy().astype(np.uint16))
    return path
