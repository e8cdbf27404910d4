"""The checks of this repository, run in the environment nox itself lives in: ``nox`` runs all of them."""

from pathlib import Path

import nox

nox.options.default_venv_backend = "none"
nox.options.error_on_missing_interpreters = False


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: rules and format; the layers of the architecture."""
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")


@nox.session
def types(session: nox.Session) -> None:
    """Mypy, strict."""
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """Pytest and the doctests, with the coverage floor; arguments after -- go to pytest."""
    session.run("pytest", "--cov", "--cov-report=term", *session.posargs)


@nox.session
def notebooks(session: nox.Session) -> None:
    """Every notebook, run from top to bottom."""
    if any(Path("notebooks").glob("*.ipynb")):
        session.run("pytest", "--nbmake", "--nbmake-timeout=300", "-p", "no:cacheprovider", "notebooks")


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation: examples on its pages, then pages and internal links, warnings as errors. No network."""
    session.run(
        "pytest",
        "docs",
        "--doctest-glob=*.md",
        "--ignore-glob=*.py",
        "--ignore=docs/_build",
        "--ignore=docs/generated",
    )
    session.run("sphinx-build", "-W", "-n", "-q", "--keep-going", "-b", "html", "docs", "docs/_build/html")
