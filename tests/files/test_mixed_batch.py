"""Fifty files of every format in one batch."""

from pathlib import Path

import numpy as np
import pytest
import torch
import writers
from typer.testing import CliRunner

import torchmotif as tm
from torchmotif.cli import app

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
NM, SIDE, FILES = 0.025, 144, 50


def test_fifty_mixed_files_go_through_one_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    monkeypatch.setattr(writers, "PIXEL", (NM, NM))
    specimen = tm.datasets.mose2((SIDE, SIDE), NM, vacancy_rate=0.0)
    expected = {}
    forms = [form for form in writers.FORMATS if form.dtype is not np.uint8]
    for number in range(FILES - 3):
        form = forms[number % len(forms)]
        drawn = specimen.draw(1.0, torch.Generator().manual_seed(number)).numpy()
        monkeypatch.setattr(writers, "IMAGE", np.round(40 * drawn).astype(np.uint16))
        monkeypatch.setattr(writers, "GWYDDION", f"# Width: {NM * SIDE} nm\n# Height: {NM * SIDE} nm\n")
        name = f"{number:02} [{form.file.partition('.')[0]}].{form.file.partition('.')[2]}"
        form.image(folder / name)
        expected[name] = writers.IMAGE.astype(form.dtype)
    pixels = writers.IMAGE
    np.savez(folder / "several.npz", HAADF=pixels, BF=np.zeros_like(pixels))
    writers.velox(folder / "stack.emd", {"BF": pixels, "HAADF": np.stack([pixels, pixels])})
    (folder / "table.csv").write_text("row,col\n" + "1,2\n" * 20)
    words = ["batch", *map(str, sorted(folder.iterdir())), "--out", str(tmp_path / "store"), "--workers", "1"]
    words += ["--hierarchy", "0", "--patch-size", "25", "--motifs", "2", "--pixel-size", "25pm"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1, done.output
    result = tm.field.load(tmp_path / "store")
    failed = {one["name"]: one["reason"] for one in result.record["failures"]}
    assert set(failed) == {"several.npz", "stack.emd", "table.csv"}, failed
    assert "--dataset" in done.stderr
    assert {one["name"] for one in result.images} == set(expected)
    assert len(list((tmp_path / "store" / "csv").iterdir())) == FILES - 3
    for number in (0, 11, 23, 30, 37, 46):
        image = result[number].image
        assert image.pixel_size_nm == (NM, NM)
        np.testing.assert_array_equal(image.numpy(), expected[result.images[number]["name"]])
    assert all(one["n_columns"] > 100 for one in result.images)
    several = [str(folder / "several.npz"), str(folder / "stack.emd")]
    options = words[words.index("--workers") :]
    out = ["--out", str(tmp_path / "other")]
    done = CliRunner().invoke(app, ["batch", *several, *out, *options, "--dataset", "HAADF"])
    assert done.exit_code == 0, done.output
    names = [one["name"] for one in tm.field.load(tmp_path / "other").images]
    assert names == ["several.npz", "stack.emd frame 0", "stack.emd frame 1"]
