"""The page of results says by itself which of its numbers are older than the code."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "results.py"
pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="the benchmarks are not in the package")

SOURCE = '"""A module."""\n\nWIDTH = 3  # pixels\n\n\ndef doubled(x):\n    """Twice x."""\n    return 2 * x\n'


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return importlib.import_module("results")


@pytest.mark.usefixtures("results")
@pytest.mark.parametrize(
    ("changed", "same"),
    [
        (SOURCE.replace("WIDTH = 3", "WIDTH = 4"), False),
        (SOURCE.replace("2 * x", "2 + x"), False),
        (SOURCE.replace("# pixels", "# px, tried on squares"), True),
        (SOURCE.replace("Twice x.", "Two times x."), True),
        (SOURCE.replace("\n\n\n", "\n\n\n\n"), True),
    ],
)
def test_a_constant_makes_a_number_old_and_a_comment_does_not(
    tmp_path: Path, changed: str, same: bool
) -> None:
    digests = []
    for name, text in (("before", SOURCE), ("after", changed)):
        path = tmp_path / name / "module.py"
        path.parent.mkdir()
        path.write_text(text)
        digests.append(importlib.import_module("ages").digest([path]))
    assert (digests[0] == digests[1]) is same


def test_a_row_says_that_it_is_old_and_a_missed_target_stands_apart(results: ModuleType) -> None:
    made = {
        key: results.Row(key, "Columns", f"What {key} is", "1.0", lambda: results.Found(""), ())
        for key in ("new", "old", "missed", "absent")
    }
    about = {"commit": "abc", "date": "2026-01-01", "machine": "one", "code": "x", "text": "1.0", "met": True}
    found = {"new": about, "old": {**about, "code": "y"}, "missed": {**about, "text": "0.5", "met": False}}
    text = results.page(made, found, dict.fromkeys(made, "x"))
    lines = {key: next(line for line in text.splitlines() if f"`{key}`" in line) for key in made}
    assert [key for key, line in lines.items() if "older than the code" in line] == ["old"]
    assert "not measured yet" in lines["absent"]
    short = text.split("## Where it falls short")[1]
    assert "What missed is" in short
    assert "What new is" not in short


def test_every_row_names_modules_that_are_there(results: ModuleType) -> None:
    rows = importlib.import_module("rows").ROWS
    codes = results.codes(rows.values())
    assert set(codes) == set(rows)
    assert len(set(codes.values())) > len(rows) / 3  # rows of one script share theirs
