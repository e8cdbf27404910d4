"""What moves when a tuned constant of torchmotif.motifs does: each halved and doubled, the others as they are.

    python benchmarks/motifs/motif_constants.py [NAME ...]

prints, for each, the largest change of the AMI and of the number of motifs over simulated MoSe2 (full dose, 1/20, 1/50, 1/100), WS2, a
perovskite, a bilayer, MoSe2 without a vacancy at 1/100 (AMI of the sublattices) and the real MoSe2, if it is there. What moves nothing by 0.001 stands in
for no knowledge. Nothing is written.
"""

import argparse
import sys
from collections.abc import Iterator
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.metrics import ami
from torchmotif.patches import first_shell, inside

sys.path.insert(0, str(Path(__file__).parent))
from dose_sweep import DATA, real

CONSTANTS = {
    "_growth": ("_FIRST_SHELL",),
    "_choice": ("_CHANGED", "_MOST_AT_EDGE", "_NEARLY_ALL", "_MOST_FLAT", "_DISK_EDGE"),
    "_aside": ("_SCATTER",),
    "_split": ("_SOFT", "_STEPS_OF_ALL", "_LEAPS", "_MOST_KEPT", "_KEPT_ALONG", "_BY_CHANCE"),
    "_groups": ("_MOST_AXES",),
    "_mixture": ("_NARROWEST", "_MOST_LOST", "_FURTHEST"),
    "_saddles": ("_BINS", "_LEAPS_1D", "_PEAK_ERRORS", "_MOST_WIDER"),
    "_single_columns": ("_WITHIN", "_PEAK"),
    "_noise": ("_LEAST_SKEWNESS", "_FURTHEST_DOWN"),
    "detectability": ("FEWEST", "_ENOUGH"),
}  # fmt: skip


def cases() -> Iterator[tuple[str, Any, Any, np.ndarray]]:
    """Name, patches, offsets and classes."""
    mose2 = tm.datasets.mose2((700, 700), random_state=3)
    made = [(f"MoSe2 1/{1 / dose:.0f}", mose2, dose) for dose in (1.0, 1 / 20, 1 / 50, 1 / 100)]
    made += [
        ("WS2 1/5", tm.datasets.mx2("W", "S", (700, 700), vacancy_rate=0.06, random_state=3), 1 / 5),
        ("perovskite 1/10", tm.datasets.perovskite((500, 500), random_state=3), 1 / 10),
        ("bilayer 1", tm.datasets.twisted_bilayer_mos2(shape=(400, 400)), 1.0),
        ("perfect 1/100", tm.datasets.mose2((700, 700), vacancy_rate=0.0, random_state=3), 1 / 100),
    ]
    for name, specimen, dose in made:
        truth = specimen.truth
        distance, _ = cKDTree(truth.positions).query(truth.positions, 2)
        size = first_shell(float(np.median(distance[:, 1])))
        whole = inside(truth.positions, specimen.shape, size)
        counts = torch.as_tensor(specimen.draw(dose, torch.Generator().manual_seed(3)).data)
        at = truth.positions[whole]
        yield (
            name,
            tm.extract_patches(counts, at, size),
            tm.patches.offsets(at, size),
            truth.classes[whole.numpy()],
        )
    if (DATA / "MoSe2_80kV.tif").exists():
        _, case = next(islice(real(0), 1))
        yield "real MoSe2", case.patches, case.offsets, case.classes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="of constants; by default all")
    wanted = parser.parse_args().names
    known = list(cases())

    def found() -> list[tuple[float, int]]:
        models = [tm.MotifClassifier().fit(patches, offsets) for _, patches, offsets, _ in known]
        return [
            (float(ami(one[3], np.asarray(model.labels_))), model.n_motifs_)
            for one, model in zip(known, models, strict=True)
        ]

    usual = found()
    print(
        "usual: " + ", ".join(f"{one[0]} {a:.3f} ({m})" for one, (a, m) in zip(known, usual, strict=True)),
        flush=True,
    )
    for module, names in CONSTANTS.items():
        home = import_module(f"torchmotif.motifs.{module}")
        for name in names:
            if wanted and name not in wanted:
                continue
            value = getattr(home, name)
            for factor in (0.5, 2.0):
                setattr(
                    home,
                    name,
                    type(value)(max(1, round(value * factor)) if isinstance(value, int) else value * factor),
                )
                try:
                    changed = found()
                except Exception as error:  # noqa: BLE001  # a value that cannot be is an answer, too
                    print(f"{module}.{name} {value} x {factor}: {type(error).__name__}", flush=True)
                    continue
                finally:
                    setattr(home, name, value)
                moves = [a - b for (a, _), (b, _) in zip(changed, usual, strict=True)]
                more = [a - b for (_, a), (_, b) in zip(changed, usual, strict=True)]
                worst, best = int(np.argmin(moves)), int(np.argmax(moves))
                print(
                    f"{module}.{name} {value} x {factor}: AMI {moves[worst]:+.3f} ({known[worst][0]}) to {moves[best]:+.3f} "
                    f"({known[best][0]}), motifs {min(more):+d} to {max(more):+d}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
