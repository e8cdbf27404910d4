"""Recall and precision of columns where pixels were not measured, by the kind of fill and the offset of what was.

    python benchmarks/columns/fills.py

Offsets of the measured pixels above the fill of zeros are in units of the contrast, that of the brightest column. A column is found
within a quarter of the nearest distance; only those that lie in measured pixels, three pixels inside, count as missed.
"""

import warnings
from collections.abc import Callable

import numpy as np
import torch
from scipy.ndimage import binary_erosion
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.datasets import Specimen, with_bar, with_fill, with_frames, with_mosaic

SIDE, ELECTRONS, OFFSETS = (320, 320), 50.0, (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
FILLS: dict[str, Callable[[Specimen, float], Specimen]] = {
    "margins": lambda s, value: with_fill(s, border=(30, 12, 20, 0), value=value),
    "4 px": lambda s, value: with_fill(s, border=(4, 0, 0, 4), value=value),
    "turned 12 deg": lambda s, value: with_fill(s, border=20, rotation_rad=np.deg2rad(12), value=value),
    "turned 1.5 deg": lambda s, value: with_fill(s, rotation_rad=np.deg2rad(1.5), value=value),
    "aborted": lambda s, value: with_fill(s, rows=(190, SIDE[0]), value=value),
    "blank rows": lambda s, value: with_fill(s, rows=(70, 72), value=value),
    "mosaic": lambda s, value: with_mosaic(s, value=value),
    "mean of frames": lambda s, value: with_frames(s, value=value),
    "bar": lambda s, value: with_bar(s, value=value),
}
LATTICES: dict[str, Callable[[], Specimen]] = {
    "square": lambda: tm.datasets.square(SIDE, electrons_per_pixel=ELECTRONS),
    "honeycomb": lambda: tm.datasets.mose2(SIDE, electrons_per_pixel=ELECTRONS),
}


def score(specimen: Specimen, offset: float) -> tuple[float, float]:
    """Recall of the columns in measured pixels, and precision."""
    image = specimen.draw(1.0, torch.Generator().manual_seed(0)).numpy() + np.float32(offset)
    truth, there = np.asarray(specimen.truth.positions), np.asarray(specimen.measured)
    near = 0.25 * np.median(cKDTree(truth).query(truth, k=2)[0][:, 1])
    pixel = np.rint(truth).astype(int)
    inside = ((pixel >= 0) & (pixel < SIDE)).all(axis=1)
    counted = binary_erosion(there, iterations=3, border_value=1)[tuple(pixel[inside].T)]
    try:
        found = np.asarray(tm.find_columns(image).positions)
    except tm.errors.InputError:
        return 0.0, 0.0
    if not len(found):
        return 0.0, 0.0
    recall = (cKDTree(found).query(truth[inside][counted])[0] < near).mean()
    return float(recall), float((cKDTree(truth).query(found)[0] < near).mean())


def main() -> None:
    """Print a table of recall / precision, and how many are at least 0.97."""
    warnings.simplefilter("ignore")
    good = total = 0
    print("| lattice, fill | " + " | ".join(f"offset {offset:g}" for offset in OFFSETS) + " |")
    print("|---" * (len(OFFSETS) + 1) + "|")
    for lattice, make in LATTICES.items():
        specimen = make()
        contrast = float(np.ptp(np.asarray(specimen.image)))
        for name, fill in FILLS.items():
            cells = [score(fill(specimen, -high), high) for high in contrast * np.array(OFFSETS)]
            good, total = good + sum(min(cell) >= 0.97 for cell in cells), total + len(cells)
            print(
                f"| {lattice}, {name} | " + " | ".join(f"{r:.2f} / {p:.2f}" for r, p in cells) + " |",
                flush=True,
            )
    print(f"\nBoth are at least 0.97 in {good} of {total}.")


if __name__ == "__main__":
    main()
