"""What the dose sweep does not show of the motifs: one section for each of "Other measurements" in archive/2026-11.md.

Run ``python benchmarks/motifs/motifs_more.py SECTION [SECTION ...]`` (--help lists them); each prints its table and keeps its
rows in results/motifs_more.json. Real images are looked for in $TORCHMOTIF_DATA or ../shared/data.
"""

import contextlib
import io
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from dose_sweep import DOSES, simulated, windows
from motifs_real import bound, detectors, labelled_image, tiwse2
from scipy.spatial import cKDTree

sys.path.insert(0, str(Path(__file__).parents[1]))
from clock import medians
from sections import run

import torchmotif as tm
from torchmotif.metrics import ami, site_f1
from torchmotif.patches import first_shell, inside

RESULTS = Path(__file__).parents[1] / "results" / "motifs_more.json"
Row = dict[str, Any]


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


def figure_1d() -> Iterator[Row]:
    """Correlation of average patches, 1/50 against full dose, simulated MoSe2, motifs of 20 columns or more."""
    cases = {dose: case for dose, case in simulated(0) if dose in {1.0, 1 / 50}}
    full, low = (tm.MotifClassifier().fit(cases[d].patches, cases[d].offsets) for d in (1.0, 1 / 50))
    for motif, count in enumerate(low.counts_):
        if count >= 20:
            alike = {
                name: max(np.corrcoef(mine.flatten(), other.flatten())[0, 1] for other in others)
                for name, mine, others in (
                    ("reconstructions_", low.reconstructions_[motif], full.reconstructions_),
                    ("templates_", low.templates_[motif], full.templates_),
                )
            }
            yield {"motif": motif, "columns": int(count), **{k: round(float(v), 4) for k, v in alike.items()}}


def calibration() -> Iterator[Row]:
    """Expected calibration error of the most probable motif, simulated MoSe2, 3 seeds."""
    for seed in range(3):
        found: Row = {"seed": seed}
        for dose, case in simulated(seed):
            if dose in {1 / 20, 1 / 50}:
                model = tm.MotifClassifier().fit(case.patches, case.offsets)
                probabilities = model.predict_proba(case.patches, case.offsets).numpy()
                best, sure = probabilities.argmax(1), probabilities.max(1)
                kind_of = [
                    max(set(case.kinds[best == m]), key=list(case.kinds[best == m]).count, default="")
                    for m in range(model.n_motifs_)
                ]
                of_kind = {k: probabilities[:, [name == k for name in kind_of]].sum(1) for k in set(kind_of)}
                names = list(of_kind)
                by_kind = np.stack([of_kind[k] for k in names], 1)
                sure, right = by_kind.max(1), np.array(names)[by_kind.argmax(1)] == case.kinds
                bins = np.minimum((sure * 15).astype(int), 14)
                error = sum(abs(sure[bins == b].sum() - right[bins == b].sum()) for b in np.unique(bins))
                found[f"1/{1 / dose:.0f}"] = round(float(error / len(sure)), 4)
        yield found


def defects() -> Iterator[Row]:
    """Divacancies, antisites both ways, W on Mo, 1 % each, beside 1 % vacancies: site F1 of every kind, 2 seeds."""
    rates = {
        "vacancy_rate": 0.01,
        "divacancy_rate": 0.01,
        "antisite_rate": 0.01,
        "substitutions": {"W": 0.01},
    }
    for seed in range(2):
        specimen = tm.datasets.mose2((1024, 1024), random_state=seed, **rates)
        whole = inside(specimen.truth.positions, specimen.shape, 37)
        positions, kinds = specimen.truth.positions[whole], specimen.truth.kinds[whole.numpy()]
        for dose in (1.0, 1 / 10):
            counts = torch.as_tensor(specimen.draw(dose, torch.Generator().manual_seed(seed)).data)
            model = tm.MotifClassifier().fit(*windows(counts, positions, 37))
            scores = {k: round(v, 3) for k, v in site_f1(kinds, model.labels_.numpy()).items()}
            yield {"seed": seed, "dose": f"1/{1 / dose:.0f}", **scores, "motifs": model.n_motifs_}


def polycrystal() -> Iterator[Row]:
    """Three grains of MoSe2 at random angles, equivalence="rotation": motifs, site F1, angles; "inner": away from boundaries."""
    for seed in range(3):
        specimen = tm.datasets.mose2((700, 700), grains=3, random_state=seed)
        truth = specimen.truth
        whole = inside(truth.positions, specimen.shape, 37).numpy()
        positions, kinds, grains = truth.positions[whole], truth.kinds[whole], truth.grains[whole]
        _, near = cKDTree(positions).query(positions, 13)
        inner = (grains[near] == grains[:, None]).all(1)
        for dose in (1.0, 1 / 10):
            counts = torch.as_tensor(specimen.draw(dose, torch.Generator().manual_seed(seed)).data)
            model = tm.MotifClassifier(equivalence="rotation").fit(*windows(counts, positions, 37))
            labels = model.labels_.numpy()
            errors = []
            for motif in (0, 1):
                for grain in np.unique(grains):
                    wave = np.exp(3j * model.angles_.numpy()[inner & (labels == motif) & (grains == grain)])
                    errors.append(np.degrees(np.angle(wave / wave.mean())) / 3)
            spread = np.abs(np.concatenate(errors))
            yield {
                "seed": seed,
                "dose": f"1/{1 / dose:.0f}",
                "motifs": model.n_motifs_,
                **{k: round(v, 3) for k, v in site_f1(kinds[inner], labels[inner]).items()},
                "median angle error, deg": round(float(np.median(spread)), 2),
                "95 % below, deg": round(float(np.quantile(spread, 0.95)), 2),
            }


def resolve() -> Iterator[Row]:
    """Simulated MoSe2 near the limit, about 4,700 columns: what is said of vacancies, and whether they are found; 3 seeds."""
    doses = (1 / 100, 1 / 80, 1 / 70, 1 / 60, 1 / 50)
    rows: dict[float, list[tuple[float, float, str]]] = {dose: [] for dose in doses}
    for seed in range(3):
        specimen = tm.datasets.mose2((1024, 1024), vacancy_rate=0.06, random_state=seed)
        whole = inside(specimen.truth.positions, specimen.shape, 37)
        positions, kinds = specimen.truth.positions[whole], specimen.truth.kinds[whole.numpy()]
        for dose in doses:
            counts = torch.as_tensor(specimen.draw(dose, torch.Generator().manual_seed(seed)).data)
            model = tm.MotifClassifier().fit(*windows(counts, positions, 37))
            labels = model.labels_.numpy()
            se2 = np.bincount(labels[(kinds == "Se2") & (labels >= 0)]).argmax()
            limit = model.detection_limits(-0.5, 0.06)[se2]  # a vacancy is half of the column
            rows[dose].append((site_f1(kinds, labels)["V_Se"], dose * limit.least_relative_dose, str(limit)))
    for dose, found in rows.items():
        yield {
            "dose": f"1/{1 / dose:.0f}",
            "site F1 of V_Se": [round(f1, 2) for f1, _, _ in found],
            "detection_limits: found from dose": [f"1/{1 / least:.0f}" for _, least, _ in found],
            "seed 0": found[0][2],
        }


def fresh() -> Iterator[Row]:
    """Specimens that no threshold was chosen on: motifs found and AMI with the true classes."""
    made = {
        "WS2, 6 % vacancies": tm.datasets.mx2("W", "S", (700, 700), vacancy_rate=0.06, random_state=11),
        "MoSe2, seed 11": tm.datasets.mose2((700, 700), random_state=11),
        "perovskite": tm.datasets.perovskite((700, 700), random_state=11),
        "pentagonal oxide": tm.datasets.pentagonal_oxide((700, 700), random_state=11),
        "twisted bilayer MoS2": tm.datasets.twisted_bilayer_mos2(shape=(500, 500)),
    }
    for name, specimen in made.items():
        truth = specimen.truth
        distance, _ = cKDTree(truth.positions).query(truth.positions, 2)
        size = first_shell(float(np.median(distance[:, 1])))
        whole = inside(truth.positions, specimen.shape, size)
        for dose in (1.0, 1 / 20):
            counts = torch.as_tensor(specimen.draw(dose, torch.Generator().manual_seed(11)).data)
            model = tm.MotifClassifier().fit(*windows(counts, truth.positions[whole], size))
            labels, classes = model.labels_.numpy(), truth.classes[whole.numpy()]
            yield {
                "specimen": name,
                "dose": f"1/{1 / dose:.0f}",
                "columns": len(labels),
                "patch_px": size,
                "true classes": len(np.unique(classes)),
                "motifs": model.n_motifs_,
                "in none": f"{(labels < 0).mean():.1%}",
                "AMI": round(float(ami(classes, labels)), 3),
            }


def speed() -> Iterator[Row]:
    """Moments to labels of TiWSe2 #11 ADF2, beside motif-learn with its defaults, median of 3 in turn."""
    from mtflearn.clustering import seg_lbs
    from mtflearn.manifold import ForceGraph8

    pixels, positions, _, spacing = labelled_image(11, "ADF2")
    size = first_shell(spacing)
    patches, offsets = windows(pixels, positions, size)
    level = float(patches.mean())
    moments = tm.ZernikeBasis(min(size // 2 + 4, size - 1), size)(patches - level, offsets)
    lower = moments[:, :36].numpy()

    def theirs() -> object:
        with contextlib.redirect_stdout(io.StringIO()):
            return seg_lbs(np.asarray(ForceGraph8().fit_transform(lower)))

    methods = {
        "MotifClassifier": lambda: tm.MotifClassifier().fit_moments(moments, size, offsets, level=level),
        "ForceGraph8 + seg_lbs": theirs,
    }
    for name, seconds in medians(methods, 3).items():  # the warm-up compiles
        yield {"method": name, "columns": len(lower), "seconds": round(seconds, 2)}


def growth() -> Iterator[Row]:
    """Fields of simulated MoSe2 at 1/50: seconds of fit from patches, and site F1."""
    for side in (1024, 2048, 3330, 4640):
        specimen = tm.datasets.mose2((side, side), random_state=0)
        positions = specimen.truth.positions[inside(specimen.truth.positions, specimen.shape, 37)]
        kinds = specimen.truth.kinds[inside(specimen.truth.positions, specimen.shape, 37).numpy()]
        counts = torch.as_tensor(specimen.draw(1 / 50, torch.Generator().manual_seed(0)).data)
        patches, offsets = windows(counts, positions, 37)
        start = time.perf_counter()
        model = tm.MotifClassifier().fit(patches, offsets)
        seconds = round(time.perf_counter() - start, 1)
        scores = {k: round(v, 3) for k, v in site_f1(kinds, model.labels_.numpy()).items()}
        yield {"columns": len(kinds), "seconds": seconds, **scores, "motifs": model.n_motifs_}


SECTIONS: dict[str, Callable[[], Iterator[Row]]] = {
    "tiwse2": tiwse2,
    "bound": bound,
    "detectors": detectors,
    "perfect": perfect,
    "defects": defects,
    "calibration": calibration,
    "figure-1d": figure_1d,
    "polycrystal": polycrystal,
    "resolve": resolve,
    "fresh": fresh,
    "speed": speed,
    "growth": growth,
}


if __name__ == "__main__":
    run(SECTIONS, RESULTS, __doc__)
