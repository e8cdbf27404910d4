"""What becomes of stores that are begun anew, cannot be read, or are not ours."""

import json
from pathlib import Path
from typing import Any

import pytest

import torchmotif as tm
from torchmotif.analysis import store
from torchmotif.errors import InputError, OutputError, ReadError

pytestmark = pytest.mark.usefixtures("small_blocks")


def analyzed(scan: Path, folder: Path, **options: Any) -> tm.field.FieldResult:
    return tm.field.analyze(
        scan, folder, pixel_size_nm=0.025, hierarchy=0, workers=1, progress=False, **options
    )


def _interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_restart_replaces_a_store(scan: Path, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    analyzed(scan, folder, n_motifs=1)
    result = analyzed(scan, folder, n_motifs=2, restart=True)
    assert result.n_motifs == 2
    with pytest.raises(InputError, match="hierarchy=3"):
        _ = result.hierarchy


def test_restart_replaces_a_store_that_cannot_be_read(scan: Path, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    analyzed(scan, folder, n_motifs=1)
    record = (folder / "zarr.json").read_text()
    for damaged in (record.replace('"format": 1', '"format": 2'), record[:40]):
        assert damaged != record
        (folder / "zarr.json").write_text(damaged)
        with pytest.raises(ReadError, match="restart=True"):
            analyzed(scan, folder, n_motifs=1)
        assert analyzed(scan, folder, n_motifs=1, restart=True).n_motifs == 1


@pytest.mark.parametrize(("died", "restart"), [("record", False), ("arrays", True), ("anywhere", False)])
def test_a_restart_that_is_killed_goes_on(
    died: str, restart: bool, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "store"
    folder.mkdir()
    for name in ("columns", "labels", "hierarchy"):
        (folder / name).mkdir()
        (folder / name / "zarr.json").write_text("{}")
    (folder / "summary.csv").write_text("")
    if died != "anywhere":  # elsewhere nothing but the arrays themselves is left to know the store by
        with monkeypatch.context() as patch:
            patch.setattr(
                f"torchmotif.analysis.store.{'shutil.rmtree' if died == 'arrays' else 'Path.unlink'}",
                _interrupt,
            )
            with pytest.raises(KeyboardInterrupt):
                store.remove_results(folder)
    analyzed(scan, folder, n_motifs=1, restart=restart)
    assert not (folder / "hierarchy").exists()
    assert not (folder / ".work").exists()


def test_nothing_of_others_is_taken_for_a_store_or_removed(scan: Path, tmp_path: Path) -> None:
    for names in (
        ["labels/zarr.json", "thesis.tex"],
        ["csv/a.csv", "report.html"],
        ["zarr.json", "labels/zarr.json"],
    ):
        folder = tmp_path / names[-1].replace("/", "-")
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
        with pytest.raises(OutputError, match="other things"):
            analyzed(scan, folder, restart=True)
        assert all((folder / name).exists() for name in names)
    analyzed(scan, tmp_path / "store", n_motifs=1)
    (tmp_path / "store" / "notes.txt").write_text("mine")
    analyzed(scan, tmp_path / "store", n_motifs=2, restart=True)
    assert (tmp_path / "store" / "notes.txt").read_text() == "mine"


def test_what_a_killed_run_leaves_is_no_obstacle(scan: Path, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    for name in (
        ".lock",
        ".owner.json",
        ".owner.json.12345678",
        ".spill/source-0.npy",
    ):  # killed in the survey
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    result = analyzed(scan, folder, n_motifs=1)
    (folder / ".work" / "0123").mkdir(parents=True)  # killed once the record was there
    assert len(analyzed(scan, folder, n_motifs=1)) == len(result)
    assert not (folder / ".work").exists()


def test_a_run_that_is_killed_before_its_record_is_written_goes_on(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, folder = analyzed(scan, tmp_path / "whole", n_motifs=2), tmp_path / "store"
    with monkeypatch.context() as patch:
        patch.setattr(store.Work, "finish", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            analyzed(scan, folder, n_motifs=2)
    assert (folder / "labels" / "zarr.json").is_file()
    with pytest.raises(ReadError, match="not finished"):
        tm.field.load(folder)
    again = analyzed(scan, folder, n_motifs=2)
    assert all((again.group[name][:] == whole.group[name][:]).all() for name in ("labels", "templates/0"))
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        path.name for path in whole.path.iterdir()
    )


def test_stores_of_other_versions_and_other_folders_are_refused(scan: Path, tmp_path: Path) -> None:
    (tmp_path / "later").mkdir()
    attributes = {"zarr_format": 3, "node_type": "group", "attributes": {"torchmotif-field": {"format": 99}}}
    (tmp_path / "later" / "zarr.json").write_text(json.dumps(attributes))
    for way in (tm.field.load, lambda folder: analyzed(scan, folder)):
        with pytest.raises(ReadError, match="format 99"):
            way(tmp_path / "later")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(OutputError, match="other things"):
        analyzed(scan, tmp_path / "mine", restart=True)
    with pytest.raises(OutputError, match="is a file"):
        analyzed(scan, scan)
    with pytest.raises(ReadError, match="no field's store"):
        tm.field.load(tmp_path / "nothing")
