import gc
import html
import json
import shutil
import signal
import subprocess
import sys
import time
from inspect import signature
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.main import get_command
from typer.testing import CliRunner, Result

import torchmotif as tm
from torchmotif.analysis import MotifResult
from torchmotif.cli import app
from torchmotif.cli.common import _KEYWORDS, _running, in_options, load
from torchmotif.cli.replay import replayed


def run(*arguments: object) -> Result:
    words = [str(argument) for argument in arguments]
    if words[0] in {"analyze", "demo"} and not {"--report", "--help"} & set(words):
        words.append("--no-report")  # it takes longer than all else
    return CliRunner().invoke(app, words)


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scan") / "scan.npz"
    specimen = tm.datasets.mose2((192, 192), pixel_size_nm=0.02, vacancy_rate=0.0)
    image = specimen.draw(generator=torch.Generator().manual_seed(0)).numpy()
    np.savez(path, image=image.astype(np.uint16), pixel_size_nm=0.02)
    return path


Analyzed = tuple[Result, Path]


@pytest.fixture(scope="module")
def analyzed(scan: Path, tmp_path_factory: pytest.TempPathFactory) -> Analyzed:
    """What the command says and the folder it writes, without options."""
    folder = tmp_path_factory.mktemp("analyzed") / "out"
    done = run("analyze", scan, "--out", folder)
    assert done.exit_code == 0, done.output
    return done, folder


@pytest.fixture(scope="module")
def with_options(scan: Path, tmp_path_factory: pytest.TempPathFactory) -> Analyzed:
    folder = tmp_path_factory.mktemp("with_options") / "out"
    options = ["--motifs", 3, "--patch-size", 25, "--pixel-size", 0.5]
    done = run("analyze", scan, "--out", folder, *options)
    assert done.exit_code == 0, done.output
    return done, folder


def test_analyze_writes_the_folder_and_says_what_it_found(scan: Path, analyzed: Analyzed) -> None:
    done, folder = analyzed
    assert done.exit_code == 0, done.output
    assert "in 2 motifs" in done.stdout
    loaded = tm.MotifResult.load(folder)
    assert loaded.n_motifs == 2
    record = json.loads((folder / "run.json").read_text())
    assert record["input"]["file_sha256"] == tm.read(scan).metadata["sha256"]


def test_the_same_command_twice_writes_the_same_columns(
    scan: Path, analyzed: Analyzed, tmp_path: Path
) -> None:
    assert run("analyze", scan, "--out", tmp_path / "out").exit_code == 0
    first, second = ((folder / "columns.csv").read_bytes() for folder in (analyzed[1], tmp_path / "out"))
    assert first == second


def test_options_reach_the_analysis(with_options: Analyzed) -> None:
    done, folder = with_options
    assert done.exit_code == 0, done.output
    record = json.loads((folder / "run.json").read_text())
    assert record["found"]["n_motifs"] == 3
    assert record["found"]["patch_size_px"] == 25
    assert tm.MotifResult.load(folder).image.pixel_size_nm == (0.5, 0.5)


def test_force_replaces_results_and_nothing_else(scan: Path, analyzed: Analyzed, tmp_path: Path) -> None:
    shutil.copytree(analyzed[1], tmp_path / "out")
    refused = run("analyze", scan, "--out", tmp_path / "out")
    assert refused.exit_code == 2
    assert "--force" in refused.stderr
    assert run("analyze", scan, "--out", tmp_path / "out", "--force").exit_code == 0


def test_demo_names_the_sites_and_takes_the_next_free_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("demo")
    assert done.exit_code == 0, done.output
    for site in ("Se2", "Mo", "V_Se"):
        assert site in done.stdout
    (tmp_path / "torchmotif-demo-2").mkdir()
    found = json.loads(run("demo", "--dose", 0.5, "--json").stdout)
    assert {"Se2", "Mo"} <= {motif["site"] for motif in found["motifs"] if "site" in motif}
    assert (tmp_path / "torchmotif-demo-3" / "run.json").exists()


def test_what_is_imported_is_not_collected_again_and_garbage_is_as_before() -> None:
    before = gc.get_freeze_count()
    try:
        load("torchmotif.analysis")
        assert gc.get_freeze_count() > before
        assert gc.isenabled()
        with pytest.raises(ModuleNotFoundError):
            load("torchmotif.nothing")
        assert gc.isenabled()
        gc.disable()
        load("json")
        assert not gc.isenabled()
    finally:
        gc.enable()
        gc.unfreeze()


def test_the_version_is_said() -> None:
    assert run("--version").stdout == f"torchmotif {tm.__version__}\n"


def test_info_says_what_is_in_the_file(scan: Path, tmp_path: Path) -> None:
    done = run("info", scan)
    assert done.exit_code == 0, done.output
    for text in ("192 x 192 uint16", "0.02 nm", "3.84 x 3.84 nm", "range"):
        assert text in done.stdout
    np.save(tmp_path / "stack.npy", np.full((3, 20, 20), np.nan))
    stack = run("info", tmp_path / "stack.npy")
    for text in ("3 images", "not in the file", "1,200 values"):
        assert text in stack.stdout


def _bad_files(folder: Path) -> dict[str, Path]:
    rng = np.random.default_rng(0)
    arrays = {
        "1-D": np.zeros(50),
        "4-D": np.zeros((2, 2, 20, 20)),
        "all NaN": np.full((64, 64), np.nan),
        "constant": np.ones((64, 64)),
        "8x8": rng.normal(size=(8, 8)),
        "bool": np.zeros((64, 64), bool),
        "stack": rng.normal(size=(3, 64, 64)),
    }
    files = {}
    for name, array in arrays.items():
        files[name] = folder / f"{name}.npy"
        np.save(files[name], array)
    files["missing"] = folder / "missing.dm4"
    files["empty"] = folder / "empty.tif"
    files["empty"].touch()
    files["text"] = folder / "text.tif"
    files["text"].write_text("hello")
    files["no reader"] = folder / "scan.doc"
    files["no reader"].write_text("hello")
    return files


@pytest.mark.parametrize(
    "name",
    ["1-D", "4-D", "all NaN", "constant", "8x8", "bool", "stack", "missing", "empty", "text", "no reader"],
)
def test_bad_files_give_one_line_exit_code_2_and_no_folder(tmp_path: Path, name: str) -> None:
    path = _bad_files(tmp_path)[name]
    before = set(tmp_path.iterdir())
    done = run("analyze", path, "--out", tmp_path / "deep" / "out")
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) == 1
    assert set(tmp_path.iterdir()) == before


@pytest.mark.real_data
def test_a_truncated_dm4_gives_exit_code_2(real_data: Path, tmp_path: Path) -> None:
    whole = (real_data / "TiWSe2_1028_11_ADF2.dm4").read_bytes()
    (tmp_path / "cut.dm4").write_bytes(whole[: len(whole) // 2])
    done = run("analyze", tmp_path / "cut.dm4", "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "cut short" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_patch_larger_than_the_image_is_refused(scan: Path, tmp_path: Path) -> None:
    done = run("analyze", scan, "--out", tmp_path / "out", "--patch-size", 257)
    assert done.exit_code == 2
    assert "--patch-size must lie between" in done.stderr
    assert "set --patch-size" in done.stderr
    assert not list(tmp_path.iterdir())


def test_an_out_that_cannot_be_written_is_refused_before_the_work(scan: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("analyze", scan, "--out", tmp_path / "file" / "out")
    assert done.exit_code == 2
    assert "cannot be written" in done.stderr


def test_nan_pixels_are_tolerated_and_noted(tmp_path: Path) -> None:
    specimen = tm.datasets.mose2((192, 192), pixel_size_nm=0.02, vacancy_rate=0.0)
    image = specimen.draw(generator=torch.Generator().manual_seed(0)).numpy().copy()
    image[3, 4] = np.nan
    np.save(tmp_path / "scan.npy", image)
    done = run("analyze", tmp_path / "scan.npy", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "1 of 36864 pixels are not finite" in done.stderr
    assert "no pixel size" in done.stderr


def test_a_mask_of_true_and_false_values_leaves_out_what_it_says(scan: Path, tmp_path: Path) -> None:
    mask = np.zeros((192, 192), bool)
    mask[:90] = True
    np.save(tmp_path / "mask.npy", mask)
    done = run("analyze", scan, "--out", tmp_path / "out", "--mask", tmp_path / "mask.npy")
    assert done.exit_code == 0, done.output
    assert tm.MotifResult.load(tmp_path / "out").columns.positions[:, 0].min() > 80
    np.save(tmp_path / "small.npy", mask[:10, :10])
    done = run("analyze", scan, "--out", tmp_path / "other", "--mask", tmp_path / "small.npy")
    assert done.exit_code == 2
    assert "(192, 192)" in done.stderr
    assert "(10, 10)" in done.stderr


def test_an_interrupt_while_saving_leaves_nothing(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(MotifResult, "empty_sites", interrupt)
    done = run("analyze", scan, "--out", tmp_path / "out")
    assert done.exit_code == 130
    assert "nothing was written" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C cannot be sent to one process there")
@pytest.mark.parametrize("delay_s", [2.0, 5.0, 8.0])
def test_ctrl_c_leaves_a_whole_folder_or_none(tmp_path: Path, delay_s: float) -> None:
    command = [sys.executable, "-m", "torchmotif", "demo", "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(delay_s)
    process.send_signal(signal.SIGINT)
    process.wait(timeout=60)
    left = [path.name for path in tmp_path.iterdir()]
    assert left in ([], ["out"])
    if left:
        assert tm.MotifResult.load(tmp_path / "out").n_motifs > 0


def test_a_file_that_is_not_there_is_said_before_anything_is_loaded(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom torchmotif.cli import app\n"
        "try:\n app(['analyze', 'no.dm4', '--out', 'out'])\nfinally:\n print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "error: there is no file no.dm4\n"
    assert done.stdout == "False\n"


def test_a_name_that_is_too_long_is_said(tmp_path: Path) -> None:
    done = run("analyze", tmp_path / (300 * "a"), "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "cannot be opened" in done.stderr


def test_help_shows_an_example_of_every_command() -> None:
    assert "Exit codes" in run("--help").stdout
    for command in ("analyze", "batch", "demo", "dose", "info"):
        shown = run(command, "--help").stdout
        assert f"Example: torchmotif {command}" in shown
        assert "Exit codes: 0" in shown
        assert "\\b" not in shown


def test_completion_can_be_installed() -> None:
    assert "--install-completion" in run("--help").stdout


def test_analyze_and_demo_write_a_report(scan: Path, analyzed: Analyzed, tmp_path: Path) -> None:
    done = run("analyze", scan, "--out", tmp_path / "out", "--report")
    assert f"open {tmp_path / 'out' / 'report.html'}" in done.stdout.replace("\n", "")
    assert "scan.npz" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert not (analyzed[1] / "report.html").exists()


def test_json_is_all_there_is_on_stdout(scan: Path, tmp_path: Path) -> None:
    found = json.loads(run("analyze", scan, "--out", tmp_path / "out", "--json").stdout)
    assert found["columns"] == len(tm.MotifResult.load(tmp_path / "out").columns)
    assert sum(motif["columns"] for motif in found["motifs"]) + found["none"] == found["columns"]
    said = json.loads(run("info", scan, "--json").stdout)
    assert said["datasets"][0]["shape"] == [192, 192]
    assert said["datasets"][0]["pixel_size"] == [0.02, 0.02]
    np.save(tmp_path / "nan.npy", np.full((20, 20), np.nan))
    assert json.loads(run("info", tmp_path / "nan.npy", "--json").stdout)["datasets"][0]["max"] is None


def test_dose_says_in_json_how_far_each_motif_survives(scan: Path, tmp_path: Path) -> None:
    done = run("dose", scan, "--out", tmp_path / "dose", "--electrons-per-count", 1, "--json")
    found = json.loads(done.stdout)
    assert len(found["survives_to_relative_dose"]) == len(found["counts"])
    assert found == json.loads((tmp_path / "dose" / "dose.json").read_text()) | {
        key: found[key] for key in ("out", "survives_to_relative_dose")
    }


def test_a_run_record_is_replayed_and_options_win(scan: Path, with_options: Analyzed, tmp_path: Path) -> None:
    first = with_options[1]
    again = run("analyze", "--out", tmp_path / "b", "--config", first / "run.json")
    assert again.exit_code == 0, again.output
    columns = [(folder / "columns.csv").read_bytes() for folder in (first, tmp_path / "b")]
    assert columns[0] == columns[1]
    changed = run("analyze", scan, "--out", tmp_path / "c", "--config", first, "--motifs", 2)
    assert changed.exit_code == 0, changed.output
    record = json.loads((tmp_path / "c" / "run.json").read_text())
    assert record["parameters"]["n_motifs"] == 2
    assert record["parameters"]["patch_size"] == 25
    assert tm.MotifResult.load(tmp_path / "c").image.pixel_size_nm == (0.5, 0.5)


def test_names_are_replayed_and_those_that_are_given_win(tmp_path: Path) -> None:
    specimen = tm.datasets.mose2((256, 256), pixel_size_nm=0.02, vacancy_rate=0.05)
    np.save(tmp_path / "scan.npy", specimen.draw(generator=torch.Generator().manual_seed(0)).numpy())
    a, b, c = (tmp_path / name for name in "abc")
    named = run(
        "analyze",
        tmp_path / "scan.npy",
        "--out",
        a,
        "--composition",
        "MoSe2",
        "--dopants",
        "W:Mo,S",
        "--columns",
        "Mo,Se2",
        "--report",
    )
    assert named.exit_code == 0, named.output
    again = run("analyze", "--out", b, "--config", a)
    assert again.exit_code == 0, again.output
    assert (a / "names.csv").read_bytes() == (b / "names.csv").read_bytes()
    assert "(errors of counting alone)" in named.stdout
    assert "identify('MoSe2', dopants={'W': 'Mo', 'S': None}, columns=['Mo', 'Se2'])" in html.unescape(
        (a / "report.html").read_text()
    )
    other = run("analyze", "--out", c, "--config", a, "--composition", "MoSe2")
    assert other.exit_code == 0, other.output
    by = [json.loads((folder / "run.json").read_text())["named_by"] for folder in (b, c)]
    first = {"composition": "MoSe2", "dopants": {"W": "Mo", "S": None}, "columns": ["Mo", "Se2"]}
    assert by == [first, {"composition": "MoSe2"}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--columns", "Mo,Se2"], "--dopants, --gamma and --columns need --composition"),
        (["--composition", "MoSe2", "--columns", "Mo,W"], "--columns must be of the elements of MoSe2"),
        (["--composition", "MoSe2", "--columns", "mo"], "--columns is no chemical formula"),
    ],
    ids=["alone", "foreign", "no atoms"],
)
def test_columns_that_cannot_be_are_refused_before_the_work(
    scan: Path, tmp_path: Path, arguments: list[object], message: str
) -> None:
    done = run("analyze", scan, "--out", tmp_path / "out", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr


@pytest.mark.parametrize("command", ["analyze", "batch"])
def test_the_remedy_of_names_is_told_as_an_option(command: str) -> None:
    token = _running.set(SimpleNamespace(command=get_command(app).commands[command]))  # type: ignore[attr-defined]
    try:
        said = in_options("fit hardly worse; name those that there are with columns=...")
        assert said.endswith("name those that there are with --columns ...")
        plain = "columns were taken to be dark, and the image looks as if they were bright"
        assert in_options(plain) == plain
    finally:
        _running.reset(token)


def test_examples_are_replayed(tmp_path: Path) -> None:
    record = {"parameters": {}, "image": {"metadata": {}}, "named_by": {"examples": "known.csv"}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert replayed(tmp_path).names == {"examples": Path("known.csv")}


def test_a_record_of_a_file_that_has_changed_is_noted(tmp_path: Path) -> None:
    specimen = tm.datasets.mose2((192, 192), pixel_size_nm=0.02, vacancy_rate=0.0)
    image = specimen.draw(generator=torch.Generator().manual_seed(0)).numpy()
    np.save(tmp_path / "scan.npy", image)
    assert run("analyze", tmp_path / "scan.npy", "--out", tmp_path / "a").exit_code == 0
    np.save(tmp_path / "scan.npy", image + 1)
    again = run("analyze", "--out", tmp_path / "b", "--config", tmp_path / "a")
    assert "is not the file it was" in again.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"),
        ("{", "not a run record"),
        ('{"parameters": 3}', "not a run record"),
        ('{"parameters": {"of_tomorrow": 1}, "image": {"metadata": {}}}', "of_tomorrow"),
        ('{"parameters": {}, "image": {"metadata": {}}}', "on an array, not on a file"),
    ],
    ids=["missing", "cut", "other", "later", "array"],
)
def test_a_bad_config_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    done = run("analyze", "--out", tmp_path / "out", "--config", tmp_path / "run.json")
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--motifs", 99999], "--motifs must lie"),
        (["--frame", 3], "--frame 3 was asked for"),
        (["--spacing", 0.5], "--spacing must be"),
        (["--n-max", -1], "--n-max must be"),
        (["--device", "nonsense"], "--device must be"),
    ],
    ids=["motifs", "frame", "spacing", "n_max", "device"],
)
def test_errors_name_the_option(scan: Path, tmp_path: Path, arguments: list[object], message: str) -> None:
    done = run("analyze", scan, "--out", tmp_path / "out", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr


def test_an_option_with_the_name_of_a_keyword_means_the_same() -> None:
    for function in (tm.analyze, tm.field.analyze, tm.field.batch):
        assert not set(_KEYWORDS) & set(signature(function).parameters)
    assert signature(tm.analyze).parameters["learn"].default == "together"
    assert "<together|each>" in run("batch", "--help").stdout
