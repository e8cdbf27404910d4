"""Simulated MX2 with vacancies, divacancies, dopants and antisites, analysed once."""

from typing import Any

import pytest
import torch

import torchmotif as tm


def doped(dose: float, seed: int = 1, shape: tuple[int, int] = (448, 448)) -> tuple[Any, tm.MotifResult]:
    """MoS2 with 3 % vacancies, 1 % divacancies, 2 % W, 1 % antisites; and what is found in it at so many electrons per pixel."""
    specimen = tm.datasets.mx2(
        "Mo",
        "S",
        shape,
        vacancy_rate=0.03,
        divacancy_rate=0.01,
        antisite_rate=0.01,
        substitutions={"W": 0.02},
        random_state=seed,
    )
    scan = specimen.draw(dose / 10, torch.Generator().manual_seed(seed))
    return specimen, tm.analyze(scan, progress=False)


@pytest.fixture(scope="session")
def at_1() -> tuple[Any, tm.MotifResult]:
    return doped(1.0)


@pytest.fixture(scope="session")
def at_10() -> tuple[Any, tm.MotifResult]:
    return doped(10.0)


@pytest.fixture(scope="session")
def identified(at_1: tuple[Any, tm.MotifResult]) -> tm.MotifResult:
    return at_1[1].identify("MoS2", dopants=["W"])
