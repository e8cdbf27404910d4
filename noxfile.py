"""The checks of this repository, run in the environment nox itself lives in: ``nox`` runs all of them."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nox

nox.options.default_venv_backend = "none"
nox.options.error_on_missing_interpreters = False

# Up to four processes, one thread each: most tensors in the tests are too small for two threads to help.
_SPREAD = ("-n", "logical", "--maxprocesses=4", "--dist=worksteal")
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: rules and format; the layers of the architecture."""
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")


@nox.session
def side_by_side(session: nox.Session) -> None:
    """The sessions types, docs and package: each keeps but one core busy, so mypy runs beside the others."""
    with ThreadPoolExecutor() as pool:
        ended = list(pool.map(_sessions, (["types"], ["docs", "package"])))
    for one in ended:
        sys.stdout.write(one.stdout)
    if any(one.returncode for one in ended):
        session.error("types, docs or package failed: see above")


def _sessions(names: list[str]) -> subprocess.CompletedProcess[str]:
    """Sessions that run in a process of their own, and what they said."""
    command = [sys.executable, "-m", "nox", "--noxfile", __file__, "--session", *names]
    return subprocess.run(
        command,
        env={**os.environ, **_ONE_THREAD},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


@nox.session(default=False)
def types(session: nox.Session) -> None:
    """Mypy, strict."""
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """Pytest and the doctests, with the coverage floor; arguments after -- go to pytest."""
    options = ["--cov", "--cov-report=term", "--benchmark-disable", *session.posargs]
    session.run("pytest", *_SPREAD, *options, env=_ONE_THREAD)


@nox.session
def notebooks(session: nox.Session) -> None:
    """Every notebook, run from top to bottom."""
    if any(Path("notebooks").glob("*.ipynb")):
        notebooks = ["--nbmake", "--nbmake-timeout=300", "-p", "no:cacheprovider", "notebooks"]
        session.run("pytest", *_SPREAD, *notebooks, env=_ONE_THREAD)


@nox.session(default=False)
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


@nox.session(default=False)
def results(session: nox.Session) -> None:
    """The page of results, under an hour on two cores; arguments after -- are rows, --stale, --page or --list."""
    session.run("python", "benchmarks/results.py", *session.posargs)


@nox.session(default=False)
def package(session: nox.Session) -> None:
    """The wheel, built from the source archive: small, installable, and it passes tests that see nothing but it."""
    session.run("python", "-m", "pip", "check")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        session.run("python", "-m", "build", "--outdir", str(folder), silent=True)
        wheel = next(folder.glob("*.whl"))
        size = wheel.stat().st_size
        session.log(f"{wheel.name}: {size / 1024:.0f} KiB")
        if size >= 1 << 20:
            session.error("the wheel must stay below 1 MiB")
        python = _clean_python(folder / "venv")
        session.run(python, "-m", "pip", "install", "--quiet", "--no-deps", str(wheel), external=True)
        (folder / "run").mkdir()
        for part in ("tests", "pyproject.toml"):
            copy = shutil.copytree if Path(part).is_dir() else shutil.copy
            copy(part, folder / "run" / part)
        subset = [f"tests/test_{what}.py" for what in ("import", "image", "io", "patches", "metrics", "pca")]
        with session.chdir(folder / "run"):
            where = "import torchmotif, sys; sys.exit(sys.prefix not in torchmotif.__file__)"
            clean = {"PYTHONPATH": None}
            session.run(python, "-c", where, external=True, env=clean)
            session.run(python, "-m", "torchmotif", "--help", external=True, env=clean, silent=True)
            session.run(python, "-m", "pytest", "-q", "-m", "not slow", *subset, external=True, env=clean)


def _clean_python(folder: Path) -> str:
    """A Python that sees the packages installed here, but none that is installed for editing, such as this one."""
    venv.create(folder, with_pip=True)
    place = sysconfig.get_path("purelib", vars={"base": str(folder)})
    (Path(place) / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return str(
        folder / ("Scripts" if sys.platform == "win32" else "bin") / f"python{'.exe' * (os.name == 'nt')}"
    )
