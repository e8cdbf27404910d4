"""Processor time of `find_columns` per pixel over the distance of columns, of a square lattice and of MoSe2, or of images in files.

    python benchmarks/columns/per_pixel.py [--side 1024] [--spacings 5 7 10 15 25 40 60 100]
    python benchmarks/columns/per_pixel.py --images FILE [FILE ...]

Widths of columns grow with their distance; 10 electrons per pixel, one draw each.
"""

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import torch

import torchmotif as tm
from torchmotif.io import read

KINDS = {"square": (tm.datasets.square, 0.3), "MoSe2": (tm.datasets.mose2, 0.19)}


def report(name: str, image: Any) -> None:
    """Print the time of one image."""
    start = time.process_time()
    columns = tm.find_columns(image)
    seconds = time.process_time() - start
    pixels = image.shape[0] * image.shape[1]
    print(
        f"{name} (found {columns.spacing:6.2f}): {len(columns):6} columns, {seconds:6.2f} s, "
        f"{1e6 * seconds / pixels:5.2f} us a pixel, {1e6 * seconds / max(len(columns), 1):7.0f} us a column",
        flush=True,
    )


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--spacings", type=float, nargs="+", default=[5, 7, 10, 15, 25, 40, 60, 100])
    parser.add_argument("--images", type=Path, nargs="+", default=[])
    chosen = parser.parse_args()
    tm.find_columns(tm.datasets.square((192, 192)).image)  # loads what is loaded on first use
    warnings.simplefilter("ignore")
    for path in chosen.images:
        image = read(path)
        report(f"{path.name}, {image.shape[0]} x {image.shape[1]} px", image)
    for name, (draw, nearest_nm) in ({} if chosen.images else KINDS).items():
        for spacing in chosen.spacings:
            specimen = draw((chosen.side, chosen.side), nearest_nm / spacing)
            image = specimen.draw(1.0, torch.Generator().manual_seed(1)).data
            report(f"{name:7} {spacing:6.1f} px", image)


if __name__ == "__main__":
    main()
