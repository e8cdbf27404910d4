"""Writes docs/dependencies.md: what torchmotif installs, in which versions CI runs it, and under which licences.

python docs/dependencies.py
"""

import re
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "dependencies.md"
EXTRAS = ("io", "field", "export")  # those that `all` installs
_STATED = {
    "torch": "BSD-3-Clause",
    "hdf5plugin": "MIT, its filters under their own",
}  # in their LICENSE files alone
_NAMES = {"MIT License": "MIT", "BSD License": "BSD", "Apache Software License": "Apache-2.0"}


def canonical(name: str) -> str:
    """The one spelling of a package's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned() -> dict[str, str]:
    """Version of every package in constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if "==" in line)
    return {canonical(name): version for name, version in pairs}


def licence(name: str) -> str:
    """As the installed package states it: an SPDX expression, else a short text or what its classifiers say."""
    if name in _STATED:
        return _STATED[name]
    said = distribution(name).metadata
    short = (said.get("License-Expression") or said.get("License") or "").strip()
    if short and "\n" not in short and len(short) < 60:
        return _NAMES.get(short, short)
    marks = [c.split(" :: ")[-1] for c in said.get_all("Classifier") or [] if c.startswith("License ::")]
    return ", ".join(_NAMES.get(mark, mark) for mark in marks) or "see its files"


def direct() -> dict[str, tuple[Requirement, str]]:
    """The packages that pyproject.toml names, by name, and which extra does."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = {"": project["dependencies"], **{key: project["optional-dependencies"][key] for key in EXTRAS}}
    return {
        canonical(Requirement(line).name): (Requirement(line), extra)
        for extra, lines in reversed(lists.items())
        for line in lines
        if not line.startswith("torchmotif")
    }


def needed(first: Iterable[Requirement]) -> set[str]:
    """All that these packages need in turn, here."""
    found: set[str] = set()
    waiting = list(first)
    while waiting:
        asked = waiting.pop()
        name = canonical(asked.name)
        try:
            lines = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        if name in found and not asked.extras:
            continue
        found.add(name)
        extras = asked.extras or {""}
        for line in map(Requirement, lines):
            marker = line.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(line)
    return found


def page() -> str:
    """The text of docs/dependencies.md."""
    first, versions = direct(), pinned()
    names = needed(requirement for requirement, _ in first.values()) - set(first)
    rest = sorted(name for name in names if name in versions)
    lines = [
        "# Dependencies",
        "",
        "What `pip install torchmotif` and its extras install, with the versions that CI runs (constraints.txt) and the licence",
        "that each package states. Written by `python docs/dependencies.py`; the floors and their reasons are in pyproject.toml.",
        "On Linux, torch from PyPI also installs NVIDIA's CUDA libraries, which have a licence of their own.",
        "",
        "| package | version | licence | installed by |",
        "|---|---|---|---|",
    ]
    for name in sorted(first, key=lambda name: (first[name][1], name)):
        by = f"the extra `{first[name][1]}`" if first[name][1] else "torchmotif"
        lines.append(f"| {name} | {versions.get(name, '')} | {licence(name)} | {by} |")
    lines += [f"| {name} | {versions[name]} | {licence(name)} | one of the above |" for name in rest]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
