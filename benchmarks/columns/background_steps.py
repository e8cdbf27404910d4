"""Recall and precision of columns where the background steps, by the step's height and the width of its edge.

    python benchmarks/columns/background_steps.py [DRAWS]

Heights are in units of the contrast: that of the brightest column above the background around it. Crystals end with the background
("edge of a crystal"), go on beyond it ("substrate"), or lie under a round patch of contamination ("patch"). A column is
found within a quarter of the nearest distance. Pixels have 50 electrons on average without the step, so
that noise hides few columns on the bright side.
"""

import json
import sys
import warnings
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.datasets import Specimen, mose2, square, with_edge, with_patch

RESULTS = Path(__file__).parents[1] / "results" / "background_steps.json"
Row = dict[str, Any]
HEIGHTS, WIDTHS = (0.0, 1.0, 3.0, 10.0, 30.0), (1.0, 3.0, 10.0, 40.0)
SIDE, ELECTRONS = 320, 50.0
_QUIET = 1e4  # relative dose at which noise is nothing
KINDS: dict[str, Callable[[Specimen, float, float], Specimen]] = {
    "edge of a crystal": lambda s, electrons, edge: with_edge(s, electrons, edge_px=edge),
    "substrate": lambda s, electrons, edge: with_edge(s, electrons, edge_px=edge, crystal="everywhere"),
    "patch": lambda s, electrons, edge: with_patch(s, electrons, edge_px=edge),
}
LATTICES: dict[str, Callable[[], Specimen]] = {
    "square": lambda: square((SIDE, SIDE), electrons_per_pixel=ELECTRONS),
    "honeycomb": lambda: mose2((SIDE, SIDE), electrons_per_pixel=ELECTRONS),
}


def found(specimen: Specimen, seed: int) -> tuple[int, int, int, int]:
    """True columns, those found, columns found, and those that are true."""
    image = specimen.draw(1.0, torch.Generator().manual_seed(seed))
    truth = np.asarray(specimen.truth.positions)
    near = 0.25 * np.median(cKDTree(truth).query(truth, k=2)[0][:, 1])
    try:
        positions = tm.find_columns(image).positions
    except tm.errors.InputError:
        return len(truth), 0, 0, 0
    inside = ((truth >= -0.5) & (truth <= SIDE - 0.5)).all(axis=1)
    seen = cKDTree(positions).query(truth[inside])[0] < near
    true = cKDTree(truth).query(positions)[0] < near
    return int(inside.sum()), int(seen.sum()), len(positions), int(true.sum())


def rows(draws: int) -> Iterator[Row]:
    """Recall and precision for every lattice, kind, height and width."""
    for lattice, make in LATTICES.items():
        specimen = make()
        quiet = specimen.draw(_QUIET, torch.Generator().manual_seed(0)).data / _QUIET
        contrast = float(quiet.max() - quiet.min())
        for (kind, stepped), height, width in product(KINDS.items(), HEIGHTS, WIDTHS):
            counts = [found(stepped(specimen, height * contrast, width), seed) for seed in range(draws)]
            true, seen, columns, right = np.sum(counts, axis=0)
            yield {
                "lattice": lattice,
                "kind": kind,
                "height": height,
                "width_px": width,
                "recall": float(seen / true),
                "precision": float(right / max(columns, 1)),
            }


def main() -> None:
    """Measure all, print a table, write the results."""
    warnings.simplefilter("ignore")
    every = []
    for one in rows(int(sys.argv[1]) if len(sys.argv) > 1 else 1):
        every.append(one)
        if one["width_px"] == WIDTHS[0]:
            if one["height"] == HEIGHTS[0]:
                print(
                    f"\n{one['lattice']}, {one['kind']}: recall / precision, edge widths {WIDTHS} px", end=""
                )
            print(f"\n{one['height']:6.0f}", end="")
        print(f"   {one['recall']:.3f} / {one['precision']:.3f}", end="", flush=True)
    worst = min(min(one["recall"], one["precision"]) for one in every)
    print(f"\nleast of all: {worst:.3f}")
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(every, indent=1) + "\n")


if __name__ == "__main__":
    main()
