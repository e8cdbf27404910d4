"""Folders that look like results and were made to do harm."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import torchmotif as tm
from torchmotif.columns import Columns
from torchmotif.errors import ReadError


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    positions = rng.uniform(5, 27, (12, 2))
    columns = Columns(positions, np.ones(12, np.float32), 4.0, is_rim=np.zeros(12, bool), width=(1.0, 1.5))
    scan = tm.Micrograph(rng.poisson(5.0, (32, 40)).astype(np.uint16), 0.02, metadata={"name": "scan"})
    labels = np.arange(12) % 3 - 1
    result = tm.MotifResult(
        scan,
        columns,
        labels,
        np.where(labels < 0, 0.0, 0.9),
        np.ones((2, 5, 5), np.float32),
        {"versions": {"torchmotif": "0"}},
    )
    folder = tmp_path_factory.mktemp("saved") / "result"
    result.save(folder, report=False)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "result"))


def _record(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "run.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def _array(folder: Path, name: str, array: np.ndarray) -> None:
    path = folder / ("templates.safetensors" if name == "templates" else "arrays.safetensors")
    save_file({**load_file(path), name: array}, path)


def test_it_loads_as_it_was(folder: Path) -> None:
    result = tm.MotifResult.load(folder)
    assert (len(result.columns), result.n_motifs, result.columns.width) == (12, 2, (1.0, 1.5))
    assert result.image.metadata["name"] == "scan"


@pytest.mark.parametrize("name", ["run.json", "arrays.safetensors", "templates.safetensors"])
def test_links_to_other_files_are_refused(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ReadError, match="is a link"):
        tm.MotifResult.load(folder)


@pytest.mark.parametrize("size", [2**63, 2**40, 5_000_000])
def test_huge_headers_are_refused(folder: Path, size: int) -> None:
    path = folder / "arrays.safetensors"
    path.write_bytes(size.to_bytes(8, "little") + path.read_bytes()[8:] + bytes(6_000_000))
    with pytest.raises(ReadError, match="header"):
        tm.MotifResult.load(folder)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("labels", np.zeros(12, np.float64)),
        ("labels", np.zeros(12, np.int32)),
        ("labels", np.full(12, 2)),
        ("labels", np.full(12, -2)),
        ("probabilities", np.full(12, np.nan)),
        ("probabilities", np.full(12, 2.0)),
        ("probabilities", np.ones(11)),
        ("image", np.zeros((3, 4, 5), np.uint8)),
        ("image", np.zeros((0, 5), np.uint8)),
        ("image", np.zeros((5, 5), np.bool_)),
        ("templates", np.zeros((2, 5), np.float32)),
        ("templates", np.zeros((2, 5, 5), np.int64)),
        ("columns.positions", np.full((12, 2), np.inf)),
        ("columns.positions", np.zeros((12, 3))),
        ("columns.intensities", np.zeros((12, 1), np.float32)),
        ("columns.is_rim", np.zeros(13, bool)),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.dtype}{value.shape}",
)
def test_arrays_that_cannot_be_are_refused(folder: Path, name: str, array: np.ndarray) -> None:
    _array(folder, name, array)
    with pytest.raises(ReadError, match="no result that can be loaded"):
        tm.MotifResult.load(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.update(format="1"),
        lambda record: record.update(format=None),
        lambda record: record.update(format=-5),
        lambda record: record.pop("format"),
        lambda record: record.update(image=[]),
        lambda record: record["image"].update(pixel_size={"a": 1}),
        lambda record: record["image"].update(pixel_size=-1.0),
        lambda record: record["image"].update(pixel_size=1e999),
        lambda record: record["image"].update(unit=5),
        lambda record: record["image"].update(metadata=[1, 2]),
        lambda record: record["image"].update(electrons_per_pixel="many"),
        lambda record: record["columns"].update(spacing=-1.0),
        lambda record: record["columns"].update(spacing=None, positions=3),
        lambda record: record["columns"].pop("spacing"),
        lambda record: record.update(columns="../../etc/passwd"),
        lambda record: record["columns"].update(spacing="wide"),
    ],
)
def test_records_that_cannot_be_are_refused(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    _record(folder, change)
    with pytest.raises(ReadError, match="no result that can be loaded"):
        tm.MotifResult.load(folder)


def test_names_that_are_not_ours_are_not_followed(folder: Path, tmp_path: Path) -> None:
    """Unknown fields stay in the record; no name in it is ever opened."""
    _array(folder, "columns.__class__", np.zeros(12))
    _record(folder, lambda record: record["columns"].update({"../x": 1, "__class__": 2}))
    _record(folder, lambda record: record.update(input={"path": str(tmp_path / "nowhere")}))
    assert len(tm.MotifResult.load(folder).columns) == 12


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["run.json", "arrays.safetensors", "templates.safetensors"]),
    place=st.floats(0, 1),
    bit=st.integers(0, 7),
    cut=st.booleans(),
)
def test_damage_anywhere_is_refused_or_harmless(
    saved: Path, tmp_path: Path, *, name: str, place: float, bit: int, cut: bool
) -> None:
    folder = tmp_path / "damaged"
    folder.mkdir(exist_ok=True)
    for path in saved.glob("*.*s*"):
        (folder / path.name).write_bytes(path.read_bytes())
    data = bytearray((folder / name).read_bytes())
    at = min(int(place * len(data)), len(data) - 1)
    data[at] ^= 1 << bit
    (folder / name).write_bytes(data[:at] if cut else data)
    try:
        result = tm.MotifResult.load(folder)
    except ReadError:
        return
    assert result.image.numpy().ndim == 2
    assert len(result.labels) == len(result.columns)
