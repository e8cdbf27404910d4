from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

import torchmotif as tm
from torchmotif.analysis import survey
from torchmotif.analysis.batches import _motif_names
from torchmotif.cli import app
from torchmotif.errors import InputError

pytestmark = pytest.mark.usefixtures("small_blocks")


def image(size: int, pixel_nm: float, seed: int) -> np.ndarray:
    specimen = tm.datasets.mose2((size, size), pixel_nm, vacancy_rate=0.0, random_state=seed)
    return specimen.draw(1.0, torch.Generator().manual_seed(seed)).numpy()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for i, (size, pixel) in enumerate([(160, 0.025), (160, 0.025), (240, 0.0166)]):
        np.savez(folder / f"scan{i}.npz", image=image(size, pixel, i), pixel_size_nm=pixel)
    (folder / "cut.npz").write_bytes((folder / "scan0.npz").read_bytes()[:500])
    np.savez(folder / "noise.npz", image=np.random.default_rng(0).poisson(5, (160, 160)), pixel_size_nm=0.025)
    np.savez(folder / "uncalibrated.npz", image=image(160, 0.025, 3))
    return folder


def test_bad_files_are_listed_and_the_others_go_through(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "store"
    arguments = ["batch", str(files / "*.npz"), "--out", str(out), "--workers", "1", "--hierarchy", "2"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1, done.output
    assert "3 of 6 failed" in done.stderr
    assert "give --pixel-size, which holds for all, or --learn each" in done.stderr
    result = tm.field.load(out)
    assert [one["name"] for one in result.images] == ["scan0.npz", "scan1.npz", "scan2.npz"]
    reasons = {one["name"]: one["reason"] for one in result.record["failures"]}
    assert set(reasons) == {"cut.npz", "noise.npz", "uncalibrated.npz"}
    assert "no pixel size" in reasons["uncalibrated.npz"]
    assert "no regular spacing" in reasons["noise.npz"]
    table = pd.read_csv(out / "summary.csv")
    assert table["columns"].tolist()[:3] == [one["n_columns"] for one in result.images]
    assert table["failed"].notna().sum() == 3
    for i in range(3):
        columns = pd.read_csv(out / "csv" / f"scan{i}.csv")
        assert len(columns) == result.images[i]["n_columns"]
    page = (out / "report.html").read_text()
    assert all(name in page for name in ("scan2.npz", "cut.npz", "data:image/png"))
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 1, again.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--motifs", 0], "--motifs must be"),
        (["--tile", 4], "--tile must be"),
        (["--hierarchy", -1], "--hierarchy must be"),
        (["--memory-budget", "much"], "--memory-budget must be"),
        (["--pixel-size", -1], "--pixel-size must be"),
        (["--workers", 0], "--workers must be"),
        (["--workers", 1], "give --restart to"),
    ],
    ids=["motifs", "tile", "hierarchy", "memory_budget", "pixel_size", "workers", "store"],
)
def test_errors_name_the_option(
    files: Path, tmp_path: Path, arguments: list[object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begun(*_: object, **__: object) -> None:
        raise InputError("store: it was begun with something else; give restart=True to throw that away")

    if message == "give --restart to":
        monkeypatch.setattr("torchmotif.field.batch", begun)
    command = ["batch", files / "scan0.npz", "--out", tmp_path / "store", *arguments]
    done = CliRunner().invoke(app, [str(word) for word in command])
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_motifs_learnt_together_mean_the_same_at_other_pixel_sizes(files: Path, tmp_path: Path) -> None:
    result = tm.field.batch(
        [files / "scan0.npz", files / "scan2.npz"], tmp_path / "store", workers=1, progress=False
    )
    assert result.n_motifs == 2
    means = []
    for i in range(2):
        labels, columns = result.labels[result.rows(i)], result.columns_of(i)
        means.append([np.median(columns.intensities[labels == motif]) for motif in range(2)])
        assert (labels >= 0).sum() > 80
    assert (np.diff(means, axis=1) > 0).all() or (np.diff(means, axis=1) < 0).all()
    spacing = [one["spacing_nm"] for one in result.images]
    assert spacing[0] == pytest.approx(spacing[1], rel=0.02)


def test_motifs_of_each_file(files: Path, tmp_path: Path) -> None:
    result = tm.field.batch(
        str(files / "scan[01].npz"), tmp_path / "store", learn="each", hierarchy=0, workers=1, progress=False
    )
    assert [one["images"] for one in result.record["motif_groups"]] == [[0], [1]]
    assert result.templates_of(1).shape[0] == 2
    table = tm.field.summary(result)
    assert table["motif_0"].notna().all()
    with pytest.raises(InputError, match="learn='together'"):
        tm.field.track(result)


def test_one_file_takes_nobody_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zarr = pytest.importorskip("zarr")
    pixels = image(160, 0.025, 0)
    for i in range(2):
        np.save(tmp_path / f"scan{i}.npy", pixels + i)
    np.save(tmp_path / "small.npy", pixels[:24, :24])
    np.save(tmp_path / "wider.npy", image(160, 0.0166, 1))
    np.savez(tmp_path / "line.npz", image=pixels[0])
    (tmp_path / "junk.zarr").mkdir()
    (tmp_path / "junk.zarr" / "zarr.json").write_text("{}")
    group = zarr.open_group(tmp_path / "group.zarr", mode="w")
    for name in "ab":
        group.create_array(name, shape=(64, 64), dtype="f4")
    options = {
        "spacing": None,
        "patch_size": 33,
        "hierarchy": 0,
        "n_motifs": 2,
        "workers": 1,
        "progress": False,
    }
    result = tm.field.batch(str(tmp_path / "*.*"), tmp_path / "store", **options)
    assert [one["name"] for one in result.images] == ["scan0.npy", "scan1.npy"]
    reasons = {one["name"]: one["reason"] for one in result.record["failures"]}
    assert set(reasons) == {"small.npy", "wider.npy", "line.npz", "junk.zarr", "group.zarr"}
    assert "zarr array" in reasons["junk.zarr"]
    assert "2 data sets (0: a (64, 64), 1: b (64, 64))" in reasons["group.zarr"]
    assert "give pixel_size_nm=" in reasons["wider.npy"]
    assert f"({pixels.shape[1]},)" in reasons["line.npz"]
    measured: list[str] = []
    calibrated = survey.calibrated
    monkeypatch.setattr(
        survey,
        "calibrated",
        lambda some, *rest: measured.extend(one.name for one in some) or calibrated(some, *rest),
    )
    tm.field.batch(str(tmp_path / "*.*"), tmp_path / "store", **options)
    assert not {"scan0.npy", "scan1.npy"} & set(measured)  # what is known of them is not looked for again


def test_unlike_spacings_without_pixel_size_are_refused(tmp_path: Path) -> None:
    stacks = [image(160, 0.025, 0), image(160, 0.0166, 1)]
    with pytest.raises(InputError, match="no pixel size"):
        tm.field.analyze(stacks, tmp_path / "store", workers=1, progress=False)
    with pytest.raises(InputError, match="nothing matches"):
        tm.field.batch(str(tmp_path / "*.dm4"), tmp_path / "store")
    (tmp_path / "empty.npy").write_bytes(b"")
    with pytest.raises(InputError, match="no file could be read"):
        tm.field.batch(tmp_path / "empty.npy", tmp_path / "store")


def test_a_stack_is_learnt_together_and_followed(tmp_path: Path) -> None:
    specimen = tm.datasets.mose2((190, 190), 0.025, vacancy_rate=0.06)
    generator = torch.Generator().manual_seed(0)
    frames = np.stack(
        [specimen.draw(1.0, generator).numpy()[i : 170 + i, 2 * i : 170 + 2 * i] for i in range(3)]
    )
    result = tm.field.analyze(frames, tmp_path / "store", workers=1, progress=False, hierarchy=0)
    assert len(result.images) == 3
    followed = tm.field.track(result)
    np.testing.assert_allclose(followed.drift, [[0, 0], [-1, -2], [-2, -4]], atol=0.1)
    assert (followed.lengths == 3).mean() > 0.75
    counts = followed.transitions(result.n_motifs)[:-1, :-1]
    assert np.trace(counts) > 0.95 * counts.sum()


def test_the_page_and_the_tables_have_names_and_the_composition_of_each_file(
    files: Path, tmp_path: Path
) -> None:
    out = tmp_path / "store"
    result = tm.field.batch(str(files / "scan[01].npz"), out, workers=1, progress=False)
    assert "Names" not in (out / "report.html").read_text()
    named = result.identify("MoSe2")
    page, table = (out / "report.html").read_text(), pd.read_csv(out / "summary.csv")
    for i, row in enumerate(table.to_dict("records")):
        names = named.names_of(i)
        assert names is not None
        assert row["name_Mo"] == names.counts["Mo"]
        [at_percent, error] = names.composition.set_index("element").loc["Mo"]
        assert row["at_percent_Mo"] == pytest.approx(at_percent, abs=1e-3)
        assert f"{at_percent:.2f} ± {error:.2f}" in page
    assert "errors are of counting columns alone" in page
    assert "<th>Se2</th>" in page
    assert set(_motif_names(named) or []) == {"Mo", "Se2"}


def test_motifs_are_called_what_their_columns_are_in_whatever_order_these_are_stored(
    files: Path, tmp_path: Path
) -> None:
    result = tm.field.batch(files / "scan0.npz", tmp_path / "store", workers=1, progress=False)
    named = result.identify("MoSe2")
    positions = result._array("columns/positions")
    order = np.random.default_rng(0).permutation(len(positions))
    named.__dict__["labels"] = named.labels[order]
    named._arrays = {"columns/positions": positions[order]}
    one = result.result_of(0)
    names = named.names_of(0)
    assert names is not None
    assert _motif_names(named) == [name for name, _ in names.of_motifs(one.labels, one.n_motifs)]
    assert set(_motif_names(named) or []) == {"Mo", "Se2"}


def test_a_motif_without_columns_has_no_name(files: Path, tmp_path: Path) -> None:
    named = tm.field.batch(
        str(files / "scan[01].npz"), tmp_path / "store", workers=1, progress=False
    ).identify("MoSe2")
    labels = named.labels
    assert named.n_motifs == 2
    named.__dict__["labels"] = np.where(labels == 1, -1, labels)
    names = _motif_names(named)
    assert names is not None
    assert names[0] is not None
    assert names[1] is None


def test_a_composition_that_does_not_fit_the_one_file_is_said(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "store"
    command = ["batch", files / "scan0.npz", "--out", out, "--workers", 1, "--composition", "Au"]
    done = CliRunner().invoke(app, [str(word) for word in command])
    assert done.exit_code == 0, done.output
    assert "warning: scan0.npz: --composition: Au" in done.stderr
    assert "scan0.npz: composition: Au" in (out / "report.html").read_text()
