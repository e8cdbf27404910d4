"""Processor time of `find_columns` per pixel over the distance of columns, of a square lattice and of MoSe2.

    python benchmarks/columns/per_pixel.py [--side 1024] [--spacings 5 7 10 15 25 40 60 100]

Widths of columns grow with their distance; 10 electrons per pixel, one draw each.
"""

import argparse
import time

import torch

import torchmotif as tm

KINDS = {"square": (tm.datasets.square, 0.3), "MoSe2": (tm.datasets.mose2, 0.19)}


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--spacings", type=float, nargs="+", default=[5, 7, 10, 15, 25, 40, 60, 100])
    chosen = parser.parse_args()
    tm.find_columns(tm.datasets.square((192, 192)).image)  # loads what is loaded on first use
    for name, (draw, nearest_nm) in KINDS.items():
        for spacing in chosen.spacings:
            specimen = draw((chosen.side, chosen.side), nearest_nm / spacing)
            image = specimen.draw(1.0, torch.Generator().manual_seed(1)).data
            start = time.process_time()
            columns = tm.find_columns(image)
            seconds = time.process_time() - start
            print(
                f"{name:7} {spacing:6.1f} px (found {columns.spacing:6.2f}): {len(columns):6} columns, {seconds:6.2f} s, "
                f"{1e6 * seconds / chosen.side**2:5.2f} us a pixel, {1e6 * seconds / len(columns):7.0f} us a column",
                flush=True,
            )


if __name__ == "__main__":
    main()
