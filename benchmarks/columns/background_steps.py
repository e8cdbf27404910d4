"""Recall and precision of columns where the background steps, by the step's height and the width of its edge.

    python benchmarks/columns/background_steps.py [--draws 1] [--seed 0] [--crystals square honeycomb SnO2 ...] [--heights 3 10 30] [--widths 3 40]

Heights are in units of the contrast: that of the brightest column above the background around it. Crystals end with the background
("edge of a crystal"), go on beyond it ("substrate"), or lie under a round patch of contamination ("patch"). A column is
found within a quarter of the nearest distance. Pixels have 50 electrons on average without the step, so
that noise hides few columns of a lattice on the bright side. Crystals with light columns can be asked for, too: noise may hide these.
"""

import argparse
import json
import warnings
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from any_crystal import rutile
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.datasets import (
    Specimen,
    dumbbells,
    mose2,
    mx2,
    perovskite,
    polar_perovskite,
    square,
    with_edge,
    with_patch,
)

RESULTS = Path(__file__).parents[1] / "results" / "background_steps.json"
Row = dict[str, Any]
HEIGHTS, WIDTHS = (0.0, 1.0, 3.0, 10.0, 30.0), (1.0, 3.0, 10.0, 40.0)
SIDE, ELECTRONS = 320, 50.0
SHAPE = (SIDE, SIDE)
_QUIET = 1e4  # relative dose at which noise is nothing
KINDS: dict[str, Callable[[Specimen, float, float], Specimen]] = {
    "edge of a crystal": lambda s, electrons, edge: with_edge(s, electrons, edge_px=edge),
    "substrate": lambda s, electrons, edge: with_edge(s, electrons, edge_px=edge, crystal="everywhere"),
    "patch": lambda s, electrons, edge: with_patch(s, electrons, edge_px=edge),
}
LATTICES: dict[str, Callable[[], Specimen]] = {
    "square": lambda: square(SHAPE, electrons_per_pixel=ELECTRONS),
    "honeycomb": lambda: mose2(SHAPE, electrons_per_pixel=ELECTRONS),
}
_DOSE: dict[str, Any] = {"electrons_per_pixel": ELECTRONS}
WITH_LIGHT: dict[str, Callable[[], Specimen]] = {
    "SnO2": lambda: rutile("Sn", 0.4737, 1.0, 0.3, SHAPE, **_DOSE),
    "TiO2": lambda: rutile("Ti", 0.4594, 1.0, 0.1, SHAPE, **_DOSE),
    "RuO2": lambda: rutile("Ru", 0.4492, 1.0, 0.6, SHAPE, **_DOSE),
    "SrTiO3": lambda: perovskite(SHAPE, rotation_rad=0.2, **_DOSE),
    "PbTiO3": lambda: polar_perovskite(SHAPE, rotation_rad=0.2, **_DOSE),
    "WS2": lambda: mx2("W", "S", SHAPE, 0.014, rotation_rad=0.3, **_DOSE),
    "GaN": lambda: dumbbells(SHAPE, 0.011, elements=("Ga", "N"), rotation_rad=0.5, **_DOSE),
    "Si": lambda: dumbbells(SHAPE, 0.011, elements=("Si", "Si"), rotation_rad=0.3, **_DOSE),
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


def rows(
    draws: int,
    first: int = 0,
    crystals: Iterable[str] = tuple(LATTICES),
    heights: Iterable[float] = HEIGHTS,
    widths: Iterable[float] = WIDTHS,
) -> Iterator[Row]:
    """Recall and precision for every crystal, kind, height and width."""
    for lattice in crystals:
        specimen = (LATTICES | WITH_LIGHT)[lattice]()
        quiet = specimen.draw(_QUIET, torch.Generator().manual_seed(0)).data / _QUIET
        contrast = float(quiet.max() - quiet.min())
        for (kind, stepped), height, width in product(KINDS.items(), heights, widths):
            counts = [
                found(stepped(specimen, height * contrast, width), seed)
                for seed in range(first, first + draws)
            ]
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of the first draw")
    parser.add_argument("--crystals", nargs="+", default=list(LATTICES), choices=[*LATTICES, *WITH_LIGHT])
    parser.add_argument("--heights", nargs="+", type=float, default=list(HEIGHTS), help="over the contrast")
    parser.add_argument("--widths", nargs="+", type=float, default=list(WIDTHS), help="of the edge in pixels")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    every = []
    for one in rows(given.draws, given.seed, given.crystals, given.heights, given.widths):
        every.append(one)
        if one["width_px"] == given.widths[0]:
            if one["height"] == given.heights[0]:
                said = f"{one['lattice']}, {one['kind']}: recall / precision, edge widths {given.widths} px"
                print(f"\n{said}", end="")
            print(f"\n{one['height']:6.0f}", end="")
        print(f"   {one['recall']:.3f} / {one['precision']:.3f}", end="", flush=True)
    lesser = np.array([min(one["recall"], one["precision"]) for one in every])
    good = (lesser >= 0.97).sum()
    print(f"\nleast {lesser.min():.3f}, mean {lesser.mean():.3f}; {good} of {len(every)} with 0.97 and more")
    if given != parser.parse_args([]):
        print(f"{RESULTS.name} holds what is measured without options: not written")
        return
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(every, indent=1) + "\n")


if __name__ == "__main__":
    main()
