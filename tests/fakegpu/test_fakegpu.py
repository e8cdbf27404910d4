import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch.utils.backend_registration as backends


@pytest.mark.slow
@pytest.mark.skipif(
    not hasattr(backends, "_setup_privateuseone_for_python_backend"),
    reason="this version of torch lets no Python code be a device",
)
def test_everything_holds_on_the_stand_in_gpu(pytestconfig: pytest.Config) -> None:
    """In a process of its own: the device cannot be taken back once it is registered."""
    here = Path(__file__).parent
    root = here.parents[1]
    path = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path, "TORCHMOTIF_FAKE_GPU": "1"}
    # Warnings are to it what they are to this process: with old versions, -W default.
    warnings = [f"-W{filter_}" for filter_ in pytestconfig.getoption("pythonwarnings") or ()]
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", *warnings, str(here / "device_checks.py")]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
