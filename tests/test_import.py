import subprocess
import sys

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
