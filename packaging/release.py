"""A release: its version written into every file that names one, and whether a tag is ready to be released.

    python packaging/release.py v0.1.0 --prepare        before the tag: writes the version, and dates the citation and the changelog's section
    python packaging/release.py v0.1.0 [--notes FILE] [--address URL]
                                                        in the workflow of the tag: checks it, gives what its release says, and
                                                        writes the repository's address into the metadata and the README's
                                                        links, which PyPI shows without the repository

Exits with an error where a file names another version than the tag, or where the changelog has no section about it.
"""

import argparse
import datetime as dt
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UNRELEASED = "## [Unreleased]\n"
# The files that name the version, and how.
PLACES = {
    "pyproject.toml": r'^version = "(.+)"$',
    "CITATION.cff": r"^version: (\S+)$",
    ".zenodo.json": r'^ *"version": "(.+)",$',
    "packaging/conda/recipe.yaml": r'^ *version: "(.+)"$',
}


def version_in(file: str) -> str:
    found = re.search(PLACES[file], (ROOT / file).read_text(), re.MULTILINE)
    return found[1] if found else "nothing"


def notes_of(version: str) -> str:
    """The section of the changelog about a version; empty where there is none."""
    sections = re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)[1:]
    return next((text.partition("\n")[2].strip() for text in sections if text.startswith(f"[{version}]")), "")


def prepare(version: str, day: dt.date) -> None:
    """Write a version into every file that names one; what is unreleased in the changelog becomes its section."""
    for file, pattern in PLACES.items():
        path = ROOT / file
        text = path.read_text()
        found = re.search(pattern, text, re.MULTILINE)
        if not found:
            sys.exit(f"{file} names no version")
        path.write_text(text[: found.start(1)] + version + text[found.end(1) :])
    citation = ROOT / "CITATION.cff"
    undated = re.sub(r"^date-released: .*\n", "", citation.read_text(), flags=re.MULTILINE)
    citation.write_text(
        re.sub(r"^(version: .*\n)", rf"\1date-released: {day}\n", undated, flags=re.MULTILINE)
    )
    changelog = ROOT / "CHANGELOG.md"
    text = changelog.read_text()
    if not notes_of(version):
        if UNRELEASED not in text:
            sys.exit("CHANGELOG.md has no section [Unreleased]")
        changelog.write_text(text.replace(UNRELEASED, f"{UNRELEASED}\n## [{version}] - {day}\n", 1))


def with_address(tag: str, address: str) -> None:
    """Links of the README within the repository become links to it as it is at the tag, and the metadata name it."""
    readme, project = ROOT / "README.md", ROOT / "pyproject.toml"
    text = re.sub(r"(!\[[^\]]*\]\()(?!https?:|#)", rf"\g<1>{address}/raw/{tag}/", readme.read_text())
    readme.write_text(re.sub(r"(\]\()(?!https?:|#)", rf"\g<1>{address}/blob/{tag}/", text))
    urls = f'[project.urls]\nRepository = "{address}"\nChangelog = "{address}/blob/{tag}/CHANGELOG.md"\n\n'
    project.write_text(project.read_text().replace("[project.scripts]", f"{urls}[project.scripts]", 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tag", help="such as v0.1.0")
    parser.add_argument("--notes", type=Path, metavar="FILE", help="where the section of the changelog goes")
    parser.add_argument("--address", metavar="URL", help="of the repository")
    parser.add_argument("--prepare", action="store_true", help="write the version into all files first")
    given = parser.parse_args()
    version = given.tag.removeprefix("v")
    if given.prepare:
        prepare(version, dt.datetime.now(dt.UTC).date())
    faults = [f"{file} says {said}" for file in PLACES if (said := version_in(file)) != version]
    notes = notes_of(version)
    if not notes:
        faults.append(f"CHANGELOG.md has no section [{version}]")
    if faults:
        sys.exit(f"not ready for {given.tag}: {'; '.join(faults)}")
    if given.notes:
        given.notes.write_text(notes + "\n")
    if given.address:
        with_address(given.tag, given.address)
    sys.stdout.write(f"{given.tag} is ready\n")


if __name__ == "__main__":
    main()
