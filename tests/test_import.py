import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

import torchmotif as tm

HEAVY = {"hdbscan", "networkx", "matplotlib", "dask", "numba"}


def _run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_import_takes_less_than_two_seconds() -> None:
    # CPU time of the import alone: what else the machine does is not our import's fault
    code = "import time; t = time.process_time(); import torchmotif; print(time.process_time() - t)"
    assert float(_run(code)) < 2.0


def test_names_of_the_array_library_load_nothing_heavy() -> None:
    code = (
        "import sys, torchmotif as tm\n"
        "for name in tm.__all__: getattr(tm, name)\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    assert _run(code) == "[]"


def test_every_public_name_is_there_and_documented() -> None:
    for name in tm.__all__:
        assert getattr(tm, name).__doc__, name
    assert set(tm.__all__) <= set(dir(tm))


def test_what_is_in_a_file_is_said_without_torch(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["image"] = np.zeros((8, 9), np.float32)
    code = (
        "import sys\n"
        "from torchmotif.io import contents\n"
        f"assert contents({str(tmp_path / 'scan.h5')!r}, lazy=True)[0].data.shape == (8, 9)\n"
        "print('torch' in sys.modules)"
    )
    assert _run(code) == "False"


def test_the_version_is_that_of_the_distribution() -> None:
    assert tm.__version__ == version("torchmotif")


def test_modules_are_reached_from_the_package() -> None:
    for name in ("columns", "dose", "export", "hierarchy", "lattice", "statistics"):
        assert _run(f"import torchmotif as tm; print(tm.{name}.__name__)") == f"torchmotif.{name}"
    for name in ("sites", "strain"):
        assert _run(f"import torchmotif as tm; print(tm.{name}.__name__)") == f"torchmotif.lattice.{name}"
