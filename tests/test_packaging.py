"""What is released: the recipe asks for what the package asks for, and a tag is checked against all that names a version."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGING = ROOT / "packaging"
pytestmark = pytest.mark.skipif(not PACKAGING.exists(), reason="not in an installed package")
# What conda-forge calls otherwise.
CONDA = {"torch": "pytorch", "matplotlib": "matplotlib-base"}


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def floors(asked: list[str]) -> dict[str, str]:
    """Every package by conda-forge's name, and its floor; those that an extra asks for stand by themselves."""
    found = (re.fullmatch(r"(\w[\w.-]*)(?:\[(.+)\])?>=(\S+)", one) for one in asked)
    parts = (
        (name, floor[3]) for floor in found if floor for name in (floor[1], *(floor[2] or "").split(","))
    )
    return {CONDA.get(name, name): floor for name, floor in parts if name not in {"", "array"}}


def test_the_recipe_has_the_floors_of_the_package() -> None:
    recipe = (PACKAGING / "conda" / "recipe.yaml").read_text()
    run = recipe.partition("  run:\n")[2].partition("  run_constraints")[0]
    asked = dict(re.findall(r"- (\S+) >=(.+)", run))
    python = asked.pop("python")
    assert python == "${{ python_min }}"
    assert asked == floors(project()["dependencies"])


def test_the_recipe_has_the_floors_of_what_is_optional() -> None:
    recipe = (PACKAGING / "conda" / "recipe.yaml").read_text()
    constraints = recipe.partition("  run_constraints:\n")[2].partition("\n\n")[0]
    extras = project()["optional-dependencies"]
    optional = [one for extra in ("io", "field", "export", "anndata") for one in extras[extra]]
    assert dict(re.findall(r"- (\S+) >=(.+)", constraints)) == floors(optional)


def test_the_metadata_are_of_a_version_that_the_upload_knows() -> None:
    targets = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    assert {one["core-metadata-version"] for one in targets.values()} == {"2.4"}


def test_a_tag_is_checked_against_every_file_that_names_a_version() -> None:
    def checked(tag: str) -> str:
        script = PACKAGING / "release.py"
        return subprocess.run(
            [sys.executable, str(script), tag], capture_output=True, text=True, check=False
        ).stderr

    other = checked("v99.0.0")
    for file in ("pyproject.toml", "CITATION.cff", ".zenodo.json", "packaging/conda/recipe.yaml"):
        assert f"{file} says {project()['version']}" in other
    assert "CHANGELOG.md has no section [99.0.0]" in other
    assert "says" not in checked(f"v{project()['version']}")


def test_a_release_is_prepared_in_all_files(tmp_path: Path) -> None:
    files = (
        "pyproject.toml",
        "CITATION.cff",
        ".zenodo.json",
        "packaging/conda/recipe.yaml",
        "packaging/release.py",
    )
    for file in (*files, "CHANGELOG.md", "README.md"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text((ROOT / file).read_text())
    script, notes = tmp_path / "packaging" / "release.py", tmp_path / "notes.md"
    before = subprocess.run(
        [sys.executable, str(script), "v98.7.6"], capture_output=True, text=True, check=False
    )
    assert before.returncode != 0
    subprocess.run([sys.executable, str(script), "v98.7.6", "--prepare"], check=True, capture_output=True)
    subprocess.run(
        [sys.executable, str(script), "v98.7.6", "--notes", str(notes)], check=True, capture_output=True
    )
    assert notes.read_text().startswith("### ")
    changelog = (tmp_path / "CHANGELOG.md").read_text()
    assert changelog.index("## [Unreleased]") < changelog.index("## [98.7.6] - 2")
    day = re.search(r"^## \[98\.7\.6\] - (\S+)$", changelog, re.MULTILINE)
    assert day
    assert f"version: 98.7.6\ndate-released: {day[1]}\n" in (tmp_path / "CITATION.cff").read_text()
    subprocess.run([sys.executable, str(script), "v98.7.6", "--prepare"], check=True, capture_output=True)
    assert (tmp_path / "CITATION.cff").read_text().count("date-released") == 1
    after = (tmp_path / "pyproject.toml").read_text()
    assert after == (ROOT / "pyproject.toml").read_text().replace(str(project()["version"]), "98.7.6", 1)
    subprocess.run([sys.executable, str(script), "v98.7.6", "--address", "https://a.b/c"], check=True)
    readme = (tmp_path / "README.md").read_text()
    assert "](https://a.b/c/raw/v98.7.6/docs/readme.png)" in readme
    assert "](https://a.b/c/blob/v98.7.6/benchmarks/RESULTS.md#where-it-falls-short)" in readme
    assert not re.search(r"\]\((?!https?:|#)", readme)
    urls = tomllib.loads((tmp_path / "pyproject.toml").read_text())["project"]["urls"]
    assert urls["Repository"] == "https://a.b/c"
