"""A small result that all tests of the report share, and one whose metadata are meant to do harm."""

import dataclasses
from pathlib import Path

import pytest
import torch

import torchmotif as tm

HARM = "</script><script>window.harmed = 1</script><img src=x onerror='window.harmed = 2'>{{ 7 * 7 }}\"'&"


@pytest.fixture(scope="session")
def result() -> tm.MotifResult:
    specimen = tm.datasets.mose2((300, 280), pixel_size_nm=0.02, vacancy_rate=0.06)
    return tm.analyze(specimen.draw(generator=torch.Generator().manual_seed(1)), progress=False)


@pytest.fixture(scope="session")
def harmful(result: tm.MotifResult) -> tm.MotifResult:
    metadata = {"path": HARM, "title": HARM, HARM: HARM, "\x00control": "\u2028"}
    record = {
        **result.record,
        "notes": [HARM],
        "command": ["torchmotif", HARM],
        "parameters": {**result.record["parameters"], HARM: HARM},
        "versions": {HARM: HARM},
        "input": {"path": HARM},
    }
    image = dataclasses.replace(result.image, metadata=metadata)
    return dataclasses.replace(result, image=image, record=record)


@pytest.fixture(scope="session")
def page(result: tm.MotifResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    result.report(path)
    return path
