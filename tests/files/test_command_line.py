"""What a file is, on the command line: the same options everywhere, and messages in its words."""

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import writers
from typer.testing import CliRunner, Result
from writers import FORMATS, IMAGE, STACK

import torchmotif as tm
from torchmotif.cli import app

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SIDE = 160


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    specimen = tm.datasets.mose2((SIDE, SIDE), 0.025, vacancy_rate=0.0)
    generator = torch.Generator().manual_seed(0)
    return np.stack([specimen.draw(1.0, generator).numpy() for _ in range(2)]).astype(np.uint16)


def test_info_tells_several_data_sets_apart(tmp_path: Path) -> None:
    writers.velox(tmp_path / "scan.emd", {"HAADF": STACK, "BF": IMAGE})
    said = run("info", tmp_path / "scan.emd").stdout
    for text in (
        "scan.emd: 0 HAADF",
        "scan.emd: 1 BF",
        "format      Velox",
        "3 x 40 x 48 uint16",
        "0.03 x 0.02 nm",
    ):
        assert text in said
    found = json.loads(run("info", tmp_path / "scan.emd", "--json").stdout)["datasets"]
    assert [one["frames"] for one in found] == [3, 1]
    assert (found[0]["min"], found[0]["max"]) == (STACK.min(), STACK.max())
    assert found[0]["mean"] == pytest.approx(STACK.mean())


def test_info_says_of_a_size_that_cannot_be_that_it_is_left_out(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file.create_dataset("scan", data=IMAGE).attrs["pixel_size_nm"] = 1e16
    said = run("info", tmp_path / "scan.h5").stdout
    assert "pixel size  left out" in said
    assert "not in the file" not in said


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_json_of_every_format_is_all_there_is_on_stdout(tmp_path: Path, form: writers.Format) -> None:
    form.image(tmp_path / form.file)
    found = json.loads(run("info", tmp_path / form.file, "--json").stdout)
    assert found["datasets"][0]["shape"] == [40, 48]
    assert found["datasets"][0]["mean"] == pytest.approx(IMAGE.astype(form.dtype).mean())


def test_a_stack_is_refused_with_both_ways_on(tmp_path: Path, frames: np.ndarray) -> None:
    np.save(tmp_path / "stack.npy", frames)
    said = run("analyze", tmp_path / "stack.npy", "--out", tmp_path / "out").stderr
    assert "choose one with --frame 0" in said
    assert "torchmotif batch" in said
    assert "torchmotif batch" in run("info", tmp_path / "stack.npy").stdout


@pytest.mark.parametrize("command", ["analyze", "batch"])
def test_analyze_and_batch_choose_alike(tmp_path: Path, frames: np.ndarray, command: str) -> None:
    path = tmp_path / "scan [1].emd"
    writers.velox(path, {"HAADF": frames, "BF": frames[0]})
    out = ["--out", tmp_path / "out", "--patch-size", 25, "--pixel-size", "25pm"]
    rest = ["--no-report"] if command == "analyze" else ["--workers", 1, "--hierarchy", 0]
    for words, message in (
        ([], "choose one with --dataset"),
        (["--dataset", "DF"], "--dataset DF is not one of those"),
        (["--dataset", "HAADF", "--frame", 5], "--frame 5 is not in"),
    ):
        done = run(command, path, *out, *rest, *words)
        assert done.exit_code == 2
        assert message in done.stderr
    done = run(command, path, *out, *rest, "--dataset", "HAADF", "--frame", 1)
    assert done.exit_code == 0, done.output
    if command == "analyze":
        image = tm.MotifResult.load(tmp_path / "out").image
    else:
        stored = tm.field.load(tmp_path / "out")
        assert [one["name"] for one in stored.images] == ["scan [1].emd frame 1"]
        image = stored[0].image
    np.testing.assert_array_equal(image.numpy(), frames[1])
    assert image.pixel_size_nm == (0.025, 0.025)


@pytest.mark.parametrize("text", ["15km", "15 pm 3", "-3pm", "1,2,3", "nan", "much", "0", "1e16"])
@pytest.mark.parametrize("command", ["analyze", "batch"])
def test_pixel_sizes_are_lengths(tmp_path: Path, command: str, text: str) -> None:
    np.save(tmp_path / "scan.npy", IMAGE)
    done = run(command, tmp_path / "scan.npy", "--out", tmp_path / "out", f"--pixel-size={text}")
    assert done.exit_code == 2
    assert "--pixel-size must be" in done.stderr


@pytest.mark.parametrize("command", ["analyze", "batch"])
def test_a_unit_that_was_forgotten_is_said(tmp_path: Path, frames: np.ndarray, command: str) -> None:
    np.save(tmp_path / "scan.npy", frames[0])
    words = [command, tmp_path / "scan.npy", "--patch-size", 25]
    said = run(*words, "--out", tmp_path / "forgotten", "--pixel-size", 25).stderr
    (warning,) = (line for line in said.splitlines() if "nm apart" in line)
    assert warning.startswith("warning: ")
    assert re.search(
        r"were it in pm, 0\.\d+ nm; those of atoms are 0\.1 to 1 nm apart: see whether its unit", warning
    )
    assert "angstrom" not in warning
    assert "nm apart" not in run(*words, "--out", tmp_path / "right", "--pixel-size", "25pm").stderr


def test_a_pixel_size_of_a_file_is_no_doubt(tmp_path: Path, frames: np.ndarray) -> None:
    np.savez(tmp_path / "superlattice.npz", image=frames[0], pixel_size_nm=1.0)
    done = run(
        "analyze", tmp_path / "superlattice.npz", "--out", tmp_path / "out", "--no-report", "--patch-size", 25
    )
    (note,) = (line for line in done.stderr.splitlines() if "nm apart" in line)
    assert note.startswith("note: ")
    assert tm.MotifResult.load(tmp_path / "out").warnings == []
