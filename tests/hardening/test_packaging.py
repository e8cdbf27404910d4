"""What is said about the package is true of it."""

import tomllib
from importlib.metadata import version
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def dependencies() -> ModuleType:
    path = ROOT / "docs" / "dependencies.py"
    if not path.exists():
        pytest.skip("the documentation is not here")
    spec = spec_from_file_location("dependencies", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_dependency_is_in_the_table_with_its_licence(dependencies: ModuleType) -> None:
    rows = [line.split(" | ") for line in dependencies.PAGE.read_text(encoding="utf-8").splitlines()]
    table = {row[0].removeprefix("| "): row[1:] for row in rows if len(row) == 4}
    for name in dependencies.direct():
        assert name in table, "run: python docs/dependencies.py"
        assert table[name][1] not in {"", "see its files"}


def test_the_table_is_that_of_the_pinned_versions(dependencies: ModuleType) -> None:
    pinned = dependencies.pinned()
    if any(version(name) != pinned.get(name) for name in dependencies.direct() if name != "torch"):
        pytest.skip("other versions than those of constraints.txt are installed")
    assert dependencies.page() == dependencies.PAGE.read_text(encoding="utf-8"), (
        "run: python docs/dependencies.py"
    )


def test_every_dependency_has_a_floor_and_no_cap() -> None:
    if not (ROOT / "constraints.txt").exists():
        pytest.skip("the repository is not here")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for line in project["dependencies"]:
        assert ">=" in line
        assert "<" not in line
        assert "==" not in line
