import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import torchmotif as tm

sys.path.insert(0, str(Path(__file__).parent))

from made import columns_of, grid

Made = Callable[..., tm.MotifResult]


@pytest.fixture
def made() -> Made:
    return columns_of


@pytest.fixture
def honeycomb() -> Callable[[int, float, float], tuple[np.ndarray, np.ndarray]]:
    def build(n: int, constant: float, angle: float) -> tuple[np.ndarray, np.ndarray]:
        cos, sin = np.cos(angle), np.sin(angle)
        turn = np.array([[cos, -sin], [sin, cos]])
        basis = constant * np.array([[0.0, 1.0], [-np.sqrt(3) / 2, 0.5]])
        sites = grid(n, basis)
        both = np.concatenate([sites, sites + basis.sum(axis=0) / 3]) @ turn.T
        return both, np.repeat([0, 1], len(sites))

    return build


@pytest.fixture
def perovskite() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    def build(n: int = 16, constant: float = 20.0, shift: tuple[float, float] = (0.0, 0.0)) -> Any:
        sites = grid(n, constant * np.eye(2))
        return np.concatenate([sites, sites + constant / 2 + np.array(shift)]), np.repeat([0, 1], len(sites))

    return build
