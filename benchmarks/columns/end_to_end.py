"""From pixels to columns with default arguments: which true columns of simulated specimens are found, kind by kind.

    python benchmarks/columns/end_to_end.py [--rows MoSe2 WS2 perovskite ...] [--probes 0.40 0.50 ...] [--doses 1 1/50 ...]
                                    [--side 1024] [--seeds 1] [--blind] [--oracle] [--out results/end_to_end.json]

A column within 0.3 spacings of a true one is right. Recall is of the true columns of each kind, precision of all that are found; sites that hold no
atom (V_X2, holes) are none to be found, and columns there are false. Columns less than two spacings from the image's border do not
count. `--blind` is the search without guidance; `--oracle` also fits the intensities at all true positions, and says how
many of their standard errors each kind has in the median.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.columns.calibrate import calibrate_image
from torchmotif.columns.tiled import columns_at
from torchmotif.datasets import GaussianProbe

RESULTS = Path(__file__).parents[1] / "results" / "end_to_end.json"
PIXEL_NM, ELECTRONS, NEAR = 0.015, 10.0, 0.3
DOSES = ("1", "1/10", "1/20", "1/50", "1/100", "1/200")
PROBES = ("0.40", "0.45", "0.50", "0.55", "0.60")  # angstrom
PAIRS = {
    "MoS2": ("Mo", "S"),
    "MoSe2": ("Mo", "Se"),
    "MoTe2": ("Mo", "Te"),
    "WS2": ("W", "S"),
    "WSe2": ("W", "Se"),
}


def common(side: int, probe: float) -> dict[str, Any]:
    return {
        "shape": (side, side),
        "pixel_size_nm": PIXEL_NM,
        "electrons_per_pixel": ELECTRONS,
        "background": 0.2,
        "probe": GaussianProbe(probe / 10),
    }


def monolayer(name: str, **more: Any) -> Callable[[int, float, int], Any]:
    defects = {"vacancy_rate": 0.06, "divacancy_rate": 0.01} | more
    return lambda side, probe, seed: tm.datasets.mx2(
        *PAIRS[name],
        **common(side, probe),
        **{
            key: value(side) if callable(value) and key != "displacement" else value
            for key, value in defects.items()
        },
        rotation_rad=0.2 + 0.13 * seed,
        random_state=seed,
    )


def gradient(side: int, probe: float, seed: int) -> Any:
    """5 % from one side to the other, with a hole."""

    def displacement(at: torch.Tensor) -> torch.Tensor:
        away = at - side / 2
        return torch.stack([0.025 / side * away[:, 0] ** 2, torch.zeros_like(away[:, 0])], dim=1)

    hole = (0.3 * side, 0.6 * side, 0.12 * side)
    return monolayer("MoSe2", displacement=displacement, holes=[hole])(side, probe, seed)


ROWS: dict[str, Callable[[int, float, int], Any]] = {
    **{name: monolayer(name) for name in PAIRS},
    "perovskite": lambda side, probe, seed: tm.datasets.perovskite(**common(side, probe), random_state=seed),
    "oxide": lambda side, probe, seed: tm.datasets.pentagonal_oxide(
        **common(side, probe) | {"pixel_size_nm": 0.025}, random_state=seed
    ),
    "bilayer": lambda side, probe, seed: tm.datasets.twisted_bilayer_mos2(
        **common(side, probe), rotation_rad=0.1 * seed
    ),
    **{
        f"bilayer_{degrees}": lambda side, probe, seed, degrees=degrees: tm.datasets.twisted_bilayer_mos2(
            math.radians(degrees), **common(side, probe), rotation_rad=0.31 + 0.1 * seed
        )
        for degrees in (2.2, 3.5, 5, 7.5, 12, 21.8, 30)
    },
    "grains": monolayer("MoSe2", grains=4),
    "grains_WS2": monolayer("WS2", grains=4),
    "gradient": gradient,
    "hole": monolayer("WS2", holes=lambda side: [(0.4 * side, 0.6 * side, 0.15 * side)]),
}


def occupied(kinds: np.ndarray) -> np.ndarray:
    """Which sites hold an atom."""
    return np.array([not (kind.startswith("V_") and kind.endswith("2")) for kind in kinds])


def distinct(at: np.ndarray, kinds: np.ndarray, closest: float) -> tuple[np.ndarray, np.ndarray]:
    """Columns of two layers nearer to each other than that are one in projection: the first counts."""
    keep = np.ones(len(at), bool)
    for i, j in sorted(cKDTree(at).query_pairs(closest)):
        if keep[i]:
            keep[j] = False
    return at[keep], kinds[keep]


def scored(found: np.ndarray, specimen: Any, spacing: float) -> dict[str, Any]:
    """Recall of every kind, precision, and columns on sites that hold nothing."""
    every, kinds = np.asarray(specimen.truth.positions), np.asarray(specimen.truth.kinds).astype(str)
    there = occupied(kinds)
    at, which = every[there], kinds[there]
    limit, margin = np.array(specimen.shape) - 1.0, 2 * spacing

    def inner(points: np.ndarray) -> np.ndarray:
        return ((points >= margin) & (points <= limit - margin)).all(axis=1)

    if len(found) == 0:
        found = np.full((1, 2), -1e6)
    near = cKDTree(found).query(at)[0] <= NEAR * spacing
    recall = {kind: round(float(near[inner(at) & (which == kind)].mean()), 4) for kind in sorted(set(which))}
    counted = found[inner(found)]
    right = cKDTree(at).query(counted)[0] <= NEAR * spacing if len(counted) else np.zeros(0, bool)
    empty = every[~there & inner(every)]
    filled = (
        int((cKDTree(counted).query(empty)[0] <= NEAR * spacing).sum()) if len(empty) and len(counted) else 0
    )
    return {
        "recall": recall,
        "precision": round(float(right.mean()), 4) if len(right) else None,
        "found": len(counted),
        "false": int((~right).sum()),
        "empty": len(empty),
        "filled": filled,
    }


def nearest(specimen: Any) -> float:
    """Median distance of nearest columns, of each layer by itself."""
    at = np.asarray(specimen.truth.positions)
    layer = np.asarray(specimen.truth.more.get("layer", np.zeros(len(at))))
    return float(
        np.median(
            [np.median(cKDTree(at[layer == n]).query(at[layer == n], k=2)[0][:, 1]) for n in set(layer)]
        )
    )


def oracle(scan: Any, specimen: Any, spacing: float) -> dict[str, float]:
    """Median intensity over its error of every kind where all true positions are given."""
    pixels = torch.as_tensor(np.asarray(scan.data, np.float32))
    model = calibrate_image(
        [lambda box: pixels[box[0] : box[2], box[1] : box[3]]], tuple(pixels.shape), spacing=spacing
    )
    at = torch.as_tensor(np.asarray(specimen.truth.positions))
    kinds = np.asarray(specimen.truth.kinds).astype(str)
    inside = ((at > -0.5) & (at < torch.tensor(pixels.shape) - 0.5)).all(1)
    inside &= torch.from_numpy(occupied(kinds))
    at, kinds = at[inside], kinds[inside.numpy()]
    fixed = torch.ones(len(at), dtype=torch.bool)
    fit = columns_at(pixels[None], model, at, torch.zeros(len(at), dtype=torch.long), fixed)
    score = (fit["intensities"] / fit["intensity_errors"]).numpy()
    return {kind: round(float(np.median(score[kinds == kind])), 2) for kind in sorted(set(kinds.tolist()))}


def row(
    name: str, probe: float, dose: str, side: int, seed: int, *, blind: bool, with_oracle: bool
) -> dict[str, Any]:
    specimen = ROWS[name](side, probe, seed)
    scan = specimen.draw(float(Fraction(dose)), generator=torch.Generator().manual_seed(1000 + seed))
    spacing = nearest(specimen)
    start = time.process_time()
    try:
        columns = tm.find_columns(scan, **({"guided": False} if blind else {}))
        found, measured, predicted = (
            np.asarray(columns.positions),
            columns.spacing,
            int(np.asarray(columns.is_predicted).sum()),
        )
    except tm.errors.InputError as error:
        print(error)
        found, measured, predicted = np.zeros((0, 2)), math.nan, 0
    seconds = time.process_time() - start
    result = {"row": name, "probe_A": probe, "dose": dose, "side": side, "seed": seed, "guided": not blind}
    result |= {"spacing": round(spacing, 2), "measured_spacing": round(measured, 2), "predicted": predicted}
    result |= scored(found, specimen, spacing) | {"seconds": round(seconds, 2)}
    if with_oracle:
        result["oracle_standard_errors"] = oracle(scan, specimen, spacing)
    return result


def means(name: str, doses: Iterable[str], seeds: int = 1) -> dict[str, dict[str, float]]:
    """At each dose the recall of every kind and the precision, the mean over seeds, with a probe of 0.50 A."""
    found = {}
    for dose in doses:
        kinds: dict[str, list[float]] = {}
        for seed in range(seeds):
            one = row(name, 0.50, dose, 1024, seed, blind=False, with_oracle=False)
            for kind, value in [*one["recall"].items(), ("precision", one["precision"] or 0.0)]:
                kinds.setdefault(kind, []).append(value)
        found[dose] = {kind: float(np.nanmean(values)) for kind, values in kinds.items()}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--probes", nargs="+", default=list(PROBES))
    parser.add_argument("--doses", nargs="+", default=list(DOSES))
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--blind", action="store_true")
    parser.add_argument("--oracle", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    results = []
    for name in given.rows:
        for probe in given.probes:
            for dose in given.doses:
                for seed in range(given.seeds):
                    one = row(
                        name,
                        float(probe),
                        dose,
                        given.side,
                        seed,
                        blind=given.blind,
                        with_oracle=given.oracle,
                    )
                    results.append(one)
                    recall = " ".join(f"{kind} {value:.3f}" for kind, value in one["recall"].items())
                    print(
                        f"{name:11s} {probe} {dose:>5s} seed {seed}: {recall}  precision {one['precision']}, false {one['false']}, "
                        f"filled {one['filled']}/{one['empty']}, spacing {one['measured_spacing']}/{one['spacing']}, "
                        f"{one['seconds']} s {one.get('oracle_standard_errors', '')}",
                        flush=True,
                    )
                    given.out.parent.mkdir(exist_ok=True)
                    given.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
