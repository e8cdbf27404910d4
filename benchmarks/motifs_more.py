"""What the dose sweep does not show of the motifs: one section for each claim of RESULTS.md, "Other measurements".

Run ``python benchmarks/motifs_more.py SECTION [SECTION ...]`` (--help lists them); each prints its table and keeps its
rows in results/motifs_more.json. Real images are looked for in $TORCHMOTIF_DATA or ../shared/data.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dose_sweep import DATA, DOSES, windows
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.metrics import site_f1
from torchmotif.patches import first_shell, inside

RESULTS = Path(__file__).parent / "results" / "motifs_more.json"
TIWSE2 = [(number, detector) for number in (11, 25) for detector in ("ADF2", "ADF1")]
Row = dict[str, Any]


def labelled_image(number: int, detector: str) -> tuple[torch.Tensor, torch.Tensor, np.ndarray, float]:
    """Pixels, positions refined by find_columns where it finds the labelled column, labels, spacing."""
    pixels = torch.as_tensor(tm.read(DATA / f"TiWSe2_1028_{number}_{detector}.dm4").numpy().astype("float32"))
    table = np.loadtxt(DATA / f"TiWSe2_1028_{number}_columns.csv", delimiter=",", skiprows=1)
    columns = tm.find_columns(pixels)
    found = np.asarray(columns.positions)
    distance, nearest = cKDTree(found).query(table[:, :2])
    seen = distance < columns.spacing / 3
    positions = table[:, :2].copy()
    positions[seen] = found[nearest[seen]]
    size = first_shell(columns.spacing)
    whole = np.asarray(inside(positions, tuple(pixels.shape), size))
    return pixels, torch.from_numpy(positions[whole]), table[whole, 2].astype(int), columns.spacing


def tiwse2() -> Iterator[Row]:
    """Real TiWSe2, labelled positions, default arguments: site F1 of Se2, V_Se, W, Ti."""
    for number, detector in TIWSE2:
        pixels, positions, labels, spacing = labelled_image(number, detector)
        size = first_shell(spacing)
        model = tm.MotifClassifier().fit(*windows(pixels, positions, size))
        scores = site_f1(labels, model.labels_.numpy())
        named = {name: round(scores[k], 3) for k, name in enumerate(("Se2", "V_Se", "W", "Ti"))}
        yield {"image": f"#{number} {detector}", "patch_px": size, **named, "motifs": model.n_motifs_}


def perfect() -> Iterator[Row]:
    """Crystals without a vacancy: number of motifs, 5 seeds at every dose."""
    for seed in range(5):
        specimen = tm.datasets.mose2((600, 600), vacancy_rate=0.0, random_state=seed)
        positions = specimen.truth.positions[inside(specimen.truth.positions, specimen.shape, 37)]
        generator = torch.Generator().manual_seed(seed)
        found = {}
        for dose in DOSES:
            counts = torch.as_tensor(specimen.draw(dose, generator).data)
            found[f"1/{1 / dose:.0f}"] = tm.MotifClassifier().fit(*windows(counts, positions, 37)).n_motifs_
        yield {"seed": seed, **found}


SECTIONS: dict[str, Callable[[], Iterator[Row]]] = {
    "tiwse2": tiwse2,
    "perfect": perfect,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(f"  {name}: {section.__doc__}" for name, section in SECTIONS.items()),
    )
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], help="default: all")
    for name in parser.parse_args().sections or SECTIONS:
        rows: list[Row] = []
        print(f"\n**{name}**: {SECTIONS[name].__doc__}\n", flush=True)
        for row in SECTIONS[name]():
            if not rows:
                print("| " + " | ".join(row) + " |\n" + "|---" * len(row) + "|")
            rows.append(row)
            print("| " + " | ".join(str(value) for value in row.values()) + " |", flush=True)
        kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        RESULTS.write_text(json.dumps({**kept, name: rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
