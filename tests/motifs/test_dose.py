import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import torchmotif as tm
from torchmotif.cli import app
from torchmotif.dose import DoseReport, dose_report
from torchmotif.errors import InputError


@pytest.fixture(scope="module")
def scan() -> np.ndarray:
    specimen = tm.datasets.mose2((420, 420), vacancy_rate=0.08)
    return specimen.draw(generator=torch.Generator().manual_seed(0)).numpy()


@pytest.fixture(scope="module")
def report(scan: np.ndarray) -> DoseReport:
    return dose_report(scan, (0.5, 1 / 150, 1 / 10_000), electrons_per_count=1.0)


def test_common_motifs_survive_longer_than_rare_ones(report: DoseReport) -> None:
    high, low, nothing = report.steps
    assert high.electrons_per_pixel == pytest.approx(5.0, rel=0.05)
    assert min(high.f1[:3]) > 0.95
    assert low.n_motifs < high.n_motifs
    assert report.survives_to(0) == pytest.approx(1 / 150)
    assert report.survives_to(3) == pytest.approx(0.5)
    assert "times longer per side" in str(report)
    assert nothing.columns_found < 0.5 < low.columns_found <= high.columns_found <= 1


def test_it_is_saved_whole(report: DoseReport, tmp_path: Path) -> None:
    report.save(tmp_path / "dose")
    assert (tmp_path / "dose" / "dose.png").stat().st_size > 10_000
    saved = json.loads((tmp_path / "dose" / "dose.json").read_text())
    assert saved["counts"] == report.counts
    assert saved["steps"][0]["relative_dose"] == 0.5


@pytest.mark.parametrize("fractions", [(), (1.0,), (0.0,), (0.5, -0.1)])
def test_doses_that_are_no_reductions_are_refused(scan: np.ndarray, fractions: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="fractions"):
        dose_report(scan, fractions)


def test_a_gain_that_is_none_is_refused(scan: np.ndarray) -> None:
    with pytest.raises(InputError, match="electrons_per_count"):
        dose_report(scan, (0.5,), electrons_per_count=-1.0)


@pytest.mark.slow
def test_the_command_writes_a_folder(scan: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "scan.npy", scan[:160, :160])
    command = [
        "dose",
        str(tmp_path / "scan.npy"),
        "--out",
        str(tmp_path / "out"),
        "--electrons-per-count",
        "1",
    ]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "down to 1/" in done.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"dose.json", "dose.png"}
    assert CliRunner().invoke(app, command).exit_code == 2
