"""torchmotif doctor."""

import json
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

import torchmotif as tm
from torchmotif.cli import app
from torchmotif.cli.doctor import _OPTIONAL

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def test_it_lists_versions_devices_and_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(_OPTIONAL, "no-such-package", ("io", "opens nothing"))
    done = CliRunner().invoke(app, ["doctor", "--no-test"])
    assert done.exit_code == 0
    assert f"torchmotif     {tm.__version__}" in done.stdout
    assert "missing: pip install 'torchmotif[io]'  (opens nothing)" in done.stdout
    assert "cores" in done.stdout


def test_every_optional_package_is_brought_by_the_extra_that_is_named() -> None:
    extras = tomllib.loads(PROJECT.read_text())["project"]["optional-dependencies"]
    for name, (extra, _) in _OPTIONAL.items():
        if extra != "napari":
            assert any(one.startswith(name) for one in extras[extra]), name


@pytest.mark.slow
def test_the_self_test_passes_and_is_told_to_machines() -> None:
    done = CliRunner().invoke(app, ["doctor", "--json"])
    assert done.exit_code == 0, done.output
    test = json.loads(done.stdout)["test"]
    assert test["faults"] == []
    assert test["motifs"] == 2
    assert test["columns_found"] > 0.99


@pytest.mark.slow
def test_a_fault_is_said_and_sets_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchmotif.datasets.mose2", lambda shape, **_: tm.datasets.square(shape))
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 1
    assert "fault: the CPU does not find" in done.stdout


def test_a_device_that_is_not_there_is_refused() -> None:
    done = CliRunner().invoke(app, ["doctor", "--device", "cuda:77"])
    assert done.exit_code == 2
    assert "device" in done.stderr
