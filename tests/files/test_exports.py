"""Tables and signals for other programs, read back by those."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

import torchmotif as tm
from torchmotif.cli import app
from torchmotif.errors import InputError, OutputError
from torchmotif.export import to_anndata, write_h5ad, write_hspy, write_table

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def result() -> tm.MotifResult:
    specimen = tm.datasets.mose2((160, 160), pixel_size_nm=0.02, vacancy_rate=0.0)
    drawn = specimen.draw(generator=torch.Generator().manual_seed(0))
    scan = tm.Micrograph(drawn.numpy(), (0.02, 0.021), metadata={"title": "HAADF"})
    found: tm.MotifResult = tm.analyze(scan, patch_size=25, progress=False)
    return found


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_table_is_read_back(result: tm.MotifResult, tmp_path: Path, ending: str) -> None:
    write_table(tmp_path / f"columns.{ending}", result)
    read: Any = pd.read_csv if ending == "csv" else pd.read_parquet
    table = read(tmp_path / f"columns.{ending}")
    pd.testing.assert_frame_equal(table, result.to_dataframe(), check_dtype=ending == "parquet")
    assert [path.name for path in tmp_path.iterdir()] == [f"columns.{ending}"]


def test_hyperspy_gets_back_what_it_gave(result: tm.MotifResult, tmp_path: Path) -> None:
    import hyperspy.api as hs

    write_hspy(tmp_path / "result.hspy", result)
    signal = hs.load(tmp_path / "result.hspy")
    assert isinstance(signal, hs.signals.Signal2D)
    np.testing.assert_array_equal(signal.data, result.image.numpy())
    assert signal.metadata.General.title == "HAADF"
    rows, columns = signal.axes_manager["y"], signal.axes_manager["x"]
    assert (rows.scale, columns.scale, rows.units) == (0.02, 0.021, "nm")
    table = signal.metadata.torchmotif.columns
    np.testing.assert_array_equal(table.motif, result.labels)
    np.testing.assert_array_equal(table.row_px, result.columns.positions[:, 0])
    markers = {name: signal.metadata.Markers[name] for name in signal.metadata.Markers.keys()}  # noqa: SIM118
    assert sum(len(marker.kwargs["offsets"]) for marker in markers.values()) == len(result.columns)
    np.testing.assert_allclose(
        markers["motif_0"].kwargs["offsets"],
        (result.columns.positions * (0.02, 0.021))[result.labels == 0][:, ::-1],
    )
    again = tm.read(tmp_path / "result.hspy")
    np.testing.assert_array_equal(again.numpy(), result.image.numpy())
    assert again.pixel_size_nm == (0.02, 0.021)


def test_anndata_holds_moments_motifs_and_places(result: tm.MotifResult, tmp_path: Path) -> None:
    anndata = pytest.importorskip("anndata")
    cells = to_anndata(result)
    np.testing.assert_array_equal(cells.X, result.moments.astype(np.float32))
    assert cells.obs["motif"].astype(int).tolist() == result.labels.tolist()
    np.testing.assert_allclose(cells.obsm["spatial"], (result.columns.positions * (0.02, 0.021))[:, ::-1])
    assert cells.var.loc["Z(2,-2)"].tolist() == [2, -2]
    write_h5ad(tmp_path / "result.h5ad", result)
    again = anndata.read_h5ad(tmp_path / "result.h5ad")
    np.testing.assert_array_equal(again.X, cells.X)
    assert again.obs["motif"].tolist() == cells.obs["motif"].tolist()
    assert again.uns["torchmotif"]["unit"] == "nm"


def test_bad_endings_and_places_are_refused(result: tm.MotifResult, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.csv or \.parquet"):
        write_table(tmp_path / "columns.xlsx", result)
    with pytest.raises(InputError, match=r"\.hspy"):
        write_hspy(tmp_path / "result.emd", result)
    with pytest.raises(OutputError, match="cannot be written"):
        write_table(tmp_path / "nowhere" / "columns.csv", result)


def test_the_command_line_writes_them_beside_the_rest(
    result: tm.MotifResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez(tmp_path / "scan.npz", image=result.image.numpy())
    words = ["analyze", str(tmp_path / "scan.npz"), "--out", str(tmp_path / "out"), "--patch-size", "25"]
    words += ["--pixel-size", "20pm,21pm", "--no-report"]
    done = CliRunner().invoke(app, [*words, "--also", "parquet", "--also", "hspy", "--also", "h5ad"])
    assert done.exit_code == 0, done.output
    assert pd.read_parquet(tmp_path / "out" / "columns.parquet")["motif"].tolist() == result.labels.tolist()
    assert tm.read(tmp_path / "out" / "result.hspy").pixel_size_nm == (0.02, 0.021)
    assert (tmp_path / "out" / "result.h5ad").exists()
    monkeypatch.setattr(sys.modules["torchmotif.cli.analyze"], "find_spec", lambda _: None)
    done = CliRunner().invoke(app, [*words, "--force", "--also", "parquet"])
    assert done.exit_code == 2
    assert "--also parquet needs pyarrow: pip install 'torchmotif[export]'" in done.stderr
