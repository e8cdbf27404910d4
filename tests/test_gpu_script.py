"""The script that measures a GPU, at small size, since most machines have none."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "benchmarks" / "gpu.py"


@pytest.mark.slow
@pytest.mark.skipif(not SCRIPT.exists(), reason="the benchmarks are not in the package")
def test_a_machine_without_gpu_gets_the_rows_of_its_cpu(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    command = [
        sys.executable,
        str(SCRIPT),
        "--small",
        "--device",
        "cpu",
        "--only",
        "project patches",
        "33 px, dose 0.0",
        "--json",
        str(file),
    ]
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": paths}, check=True, capture_output=True, text=True
    )
    found = json.loads(file.read_text())
    names = [row["stage"] for row in found["rows"]]
    assert "project patches, 33 px" in names
    assert sum(name.startswith("motifs") for name in names) == 2
    assert all(row["seconds"] > 0 and "error" not in row for row in found["rows"])
    assert found["machine"]["tflops"] > 0
    assert done.stdout.count("| project patches, 33 px |") == 1
