"""Whole analyses of real images, timed, their sublattices compared with the labels that came with the images.

Run ``python benchmarks/motifs/real_images.py``; the images are looked for in $TORCHMOTIF_DATA or ../shared/data.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree
from sklearn.metrics import adjusted_mutual_info_score

import torchmotif as tm

DATA = Path(os.environ.get("TORCHMOTIF_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
RESULTS = Path(__file__).parents[1] / "results"
REPEATS = 3

# image, table of labelled columns, labels of the two sublattices, reach of a match in px
IMAGES = (
    ("MoSe2_80kV.tif", "MoSe2_80kV_columns.csv", (0, 1), 6.0),
    ("TiWSe2_1028_11_ADF1.dm4", "TiWSe2_1028_11_columns.csv", (0, 2), 1.6),
    ("TiWSe2_1028_11_ADF2.dm4", "TiWSe2_1028_11_columns.csv", (0, 2), 1.6),
    ("TiWSe2_1028_25_ADF1.dm4", "TiWSe2_1028_25_columns.csv", (0, 2), 1.6),
    ("TiWSe2_1028_25_ADF2.dm4", "TiWSe2_1028_25_columns.csv", (0, 2), 1.6),
)


def measure(
    image: str, table: str, sublattices: tuple[int, int], reach_px: float, folder: Path
) -> dict[str, object]:
    out = folder / image
    command = [sys.executable, "-m", "torchmotif", "analyze", str(DATA / image), "--out", str(out), "--force"]
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    result = tm.MotifResult.load(out)
    given = np.loadtxt(DATA / table, delimiter=",", skiprows=1)
    distance, nearest = cKDTree(result.columns.positions).query(given[:, :2])
    here = (distance < reach_px) & np.isin(given[:, 2], sublattices) & (result.labels[nearest] >= 0)
    return {
        "image": image,
        "command_s": round(statistics.median(seconds), 1),
        "columns": len(result.columns),
        "motifs": result.n_motifs,
        "compared": int(here.sum()),
        "ami": round(float(adjusted_mutual_info_score(given[here, 2], result.labels[nearest[here]])), 3),
    }


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        rows = [measure(*image, folder) for image in IMAGES]
    finally:
        shutil.rmtree(folder)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "real_images.json").write_text(json.dumps(rows, indent=2) + "\n")
    print(
        "| image | `torchmotif analyze`, s | columns | motifs | columns compared | AMI of the sublattices |"
    )
    print("|---|---|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")


if __name__ == "__main__":
    main()
