import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch.utils.backend_registration as backends

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
# Importing these registers a device for the whole process; test_fakegpu.py starts one for them.
collect_ignore = [] if os.environ.get("TORCHMOTIF_FAKE_GPU") else ["backend.py", "device_checks.py"]
Counts = Callable[[str, int], dict[str, Any]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    absent = not hasattr(backends, "_setup_privateuseone_for_python_backend")
    skip = pytest.mark.skipif(absent, reason="this version of torch lets no Python code be a device")
    for item in items:
        if item.path.parent == HERE and "counts_on_stand_in" in getattr(item, "fixturenames", ()):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def counts_on_stand_in() -> Counts:
    """What a stage asks of the stand-in GPU for an image of a side, in a process of its own; each counted once."""
    root = HERE.parents[1]
    path = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))

    @cache
    def count(stage: str, side: int) -> dict[str, Any]:
        command = [sys.executable, str(HERE / "stages.py"), stage, str(side)]
        environment = {**os.environ, "PYTHONPATH": path}
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return count
