"""Motifs against dose: every method on thinned images of simulated MoSe2, of a real MoSe2, and on a two-class ring.

Run ``python benchmarks/motifs/dose_sweep.py [--seeds 5] [--only simulated]``; writes results/dose_sweep.json and
docs/dose_sweep.png. The real image is looked for in $TORCHMOTIF_DATA or ../shared/data.

Columns are taken at their true (simulated) or labelled (real) positions, so that only the sorting is compared. k-means
is told the number of classes; all other methods find it. The oracle knows the true expected patch of every class at
each column's own offset, and how common the class is. motif-learn is run where it is installed, with its own defaults. ``--methods`` measures some methods anew and
keeps the stored results of the others.
"""

import argparse
import contextlib
import io
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from torch import Tensor

import torchmotif as tm
from torchmotif.cluster import HDBSCAN, KMeans, LayoutBlobs
from torchmotif.metrics import ami, fmi, site_f1
from torchmotif.noise import oracle, thin
from torchmotif.patches import inside

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("TORCHMOTIF_DATA", ROOT.parent / "shared" / "data"))
RESULTS = ROOT / "benchmarks" / "results"
DOSES = (1.0, 1 / 2, 1 / 5, 1 / 10, 1 / 20, 1 / 50, 1 / 100, 1 / 200)
REAL_FULL_DOSE = 40.0  # electrons per pixel that the real image is stated to have been taken with
RING_SIZE, RING_EACH = 128, 1000


@dataclass
class Case:
    """Patches at one dose, and what is true of them."""

    patches: Tensor
    offsets: Tensor | None
    classes: np.ndarray
    kinds: np.ndarray
    expected: Callable[[slice], Tensor]  # templates (b, k, s, s) of a range of patches
    names: np.ndarray
    priors: Tensor


def windows(image: Tensor, positions: Tensor, size: int) -> tuple[Tensor, Tensor]:
    return tm.extract_patches(image, positions, size), tm.patches.offsets(positions, size)


def simulated(seed: int) -> Iterator[tuple[float, Case]]:
    specimen = tm.datasets.mose2((1024, 1024), random_state=seed)
    size, truth = 37, specimen.truth
    whole = inside(truth.positions, specimen.shape, size)
    positions = truth.positions[whole]
    classes, kinds = truth.classes[whole.numpy()], truth.kinds[whole.numpy()]
    ideal, offsets = windows(torch.as_tensor(specimen.image.data), positions, size)
    names, index = np.unique(classes, return_inverse=True)
    priors = torch.bincount(torch.from_numpy(index)).double() / len(index)
    powers = torch.stack([offsets[:, 0] ** i * offsets[:, 1] ** j for i in range(4) for j in range(4 - i)], 1)
    fits = []
    for k in range(len(names)):
        mine = torch.from_numpy(index == k)
        # Patches of a class as a cubic in the offset; a class of few columns, as their mean.
        if int(mine.sum()) >= 60:
            fits.append(torch.linalg.lstsq(powers[mine], ideal[mine].flatten(1).double()).solution)
        else:
            fits.append(torch.zeros(powers.shape[1], size**2, dtype=torch.float64))
            fits[-1][0] = ideal[mine].flatten(1).double().mean(0)
    model = torch.stack(fits)
    generator = torch.Generator().manual_seed(seed)
    for dose in DOSES:
        counts = torch.as_tensor(specimen.draw(dose, generator).data)

        def expected(rows: slice, dose: float = dose) -> Tensor:
            flat = torch.einsum("np,kpq->nkq", powers[rows], model) * dose
            return flat.clamp(min=1e-9).reshape(*flat.shape[:2], size, size).float()

        patches, _ = windows(counts, positions, size)
        yield dose, Case(patches, offsets, classes, kinds, expected, names, priors)


def real(seed: int) -> Iterator[tuple[float, Case]]:
    pixels = torch.as_tensor(tm.read(DATA / "MoSe2_80kV.tif").numpy().copy())
    table = np.loadtxt(DATA / "MoSe2_80kV_columns.csv", delimiter=",", skiprows=1)
    size = 71
    counts = torch.round(pixels * (REAL_FULL_DOSE / float(pixels.mean()))).clamp(min=0)
    positions = torch.from_numpy(table[:, :2])
    whole = inside(positions, tuple(counts.shape), size)
    labels = table[whole.numpy(), 2].astype(int)
    generator = torch.Generator().manual_seed(seed)
    full, offsets = windows(counts, positions[whole], size)
    templates, names, priors = tm.noise.class_templates(full, labels)
    for dose in DOSES:
        patches, _ = windows(thin(counts, dose, generator=generator), positions[whole], size)

        def expected(_: slice, dose: float = dose) -> Tensor:
            return (templates * dose).clamp(min=1e-9)

        yield dose, Case(patches, offsets, labels, labels, expected, names, priors.double())


def ring(seed: int) -> Iterator[tuple[float, Case]]:
    """The two-class benchmark of Dan et al. (2022): a ring of three Gaussians around a centre of height 1.0 or 0.8."""
    axis = torch.arange(RING_SIZE) - (RING_SIZE - 1) / 2
    angle = 2 * np.pi * torch.arange(3) / 3
    radius, sigma = RING_SIZE / 4, RING_SIZE / 20

    def spot(row: float, col: float) -> Tensor:
        return torch.exp(-((axis[:, None] - row) ** 2 + (axis[None] - col) ** 2) / (2 * sigma**2))

    around = sum(spot(float(radius * torch.sin(a)), float(radius * torch.cos(a))) for a in angle)
    grey = torch.stack([torch.round(255 * (around + height * spot(0.0, 0.0))) for height in (1.0, 0.8)]) + 10
    labels = np.repeat([0, 1], RING_EACH)
    generator = torch.Generator().manual_seed(seed)
    for dose in (1e-1, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4):
        patches = torch.poisson((grey * dose)[torch.from_numpy(labels)], generator=generator)

        def expected(_: slice, dose: float = dose) -> Tensor:
            return grey * dose

        yield dose, Case(patches, None, labels, labels, expected, np.array([0, 1]), torch.tensor([0.5, 0.5]))


def motif_learn(case: Case) -> np.ndarray:
    """The way of the article's authors, by their own package with its defaults: moments, layout, blobs."""
    from mtflearn.clustering import seg_lbs
    from mtflearn.features import ZPs
    from mtflearn.manifold import ForceGraph8

    with contextlib.redirect_stdout(io.StringIO()):
        moments = ZPs(10, case.patches.shape[1]).transform(case.patches.numpy().astype(np.float64))
        layout = ForceGraph8().fit_transform(np.asarray(getattr(moments, "data", moments)))
        labels: np.ndarray = np.asarray(seg_lbs(layout))
    return labels


class Features:
    """What several methods start from, computed once."""

    def __init__(self, case: Case) -> None:
        self.case, self.k = case, len(case.names)
        self.least = max(5, round(0.003 * len(case.patches)))

    @cached_property
    def zernike(self) -> np.ndarray:
        basis = tm.ZernikeBasis(10, self.case.patches.shape[1], subpixel=4)
        return basis(self.case.patches, self.case.offsets).numpy()

    @cached_property
    def pca(self) -> np.ndarray:
        flat = self.case.patches.flatten(1).numpy()
        return tm.PCA(min(66, len(flat) - 1)).fit_transform(flat)

    @cached_property
    def layout(self) -> np.ndarray:
        published = tm.ForceLayout(negative_samples=5, second_stage=(2, 5, 5, 1))
        return published.fit_transform(self.zernike)


def by_oracle(f: Features) -> np.ndarray:
    case, n = f.case, len(f.case.patches)
    rows = [slice(i, i + 250) for i in range(0, n, 250)]
    return np.concatenate(
        [np.asarray(oracle(case.patches[r], case.expected(r), case.priors).labels) for r in rows]
    )


METHODS: dict[str, Callable[[Features], np.ndarray]] = {
    "oracle": by_oracle,
    "MotifClassifier": lambda f: tm.MotifClassifier().fit_predict(f.case.patches, f.case.offsets).numpy(),
    "Zernike + k-means": lambda f: KMeans(f.k).fit_predict(f.zernike),
    "PCA 66 + k-means": lambda f: KMeans(f.k).fit_predict(f.pca),
    "PCA 10 + k-means": lambda f: KMeans(f.k).fit_predict(f.pca[:, :10]),
    "Zernike + HDBSCAN": lambda f: HDBSCAN(f.least).fit_predict(f.zernike),
    "Zernike + layout + blobs": lambda f: LayoutBlobs(min_cluster_size=f.least).fit_predict(f.layout),
    "Zernike + layout + HDBSCAN": lambda f: HDBSCAN(f.least).fit_predict(f.layout),
    "motif-learn": lambda f: motif_learn(f.case),
}


def labelled(case: Case, methods: Sequence[str]) -> Iterator[tuple[str, np.ndarray, float]]:
    """Labels of every method asked for, and the seconds it took (features that others computed before not counted)."""
    features = Features(case)
    for name in methods:
        start = time.perf_counter()
        labels = np.asarray(METHODS[name](features))
        yield name, labels, time.perf_counter() - start


def measure(
    specimen: str, make: Callable[[int], Iterator[tuple[float, Case]]], seeds: int, methods: Sequence[str]
) -> list[dict]:
    found = []
    for seed in range(seeds):
        for dose, case in make(seed):
            for method, labels, seconds in labelled(case, methods):
                found.append(
                    {
                        "specimen": specimen,
                        "seed": seed,
                        "dose": dose,
                        "method": method,
                        "columns": len(labels),
                        "ami": ami(case.classes, labels),
                        "fmi": fmi(case.classes, labels),
                        "site_f1": {str(k): v for k, v in site_f1(case.kinds, labels).items()},
                        "motifs": int(np.unique(labels[labels >= 0]).size),
                        "seconds": seconds,
                    }
                )
            print(
                specimen,
                seed,
                f"1/{1 / dose:.0f}",
                *(f"{f['ami']:.2f}" for f in found[-len(methods) :]),
                flush=True,
            )
    return found


def mean_and_spread(found: list[dict], value: Callable[[dict], float]) -> dict[str, dict[float, tuple]]:
    grouped: dict = defaultdict(lambda: defaultdict(list))
    for row in found:
        grouped[row["method"]][row["dose"]].append(value(row))
    present = [m for m in METHODS if m in grouped]
    return {m: {d: (np.mean(v), np.std(v)) for d, v in grouped[m].items()} for m in present}


def table(title: str, found: list[dict], value: Callable[[dict], float]) -> str:
    by = mean_and_spread(found, value)
    doses = sorted({row["dose"] for row in found}, reverse=True)
    lines = [f"**{title}**", "", "| method | " + " | ".join(f"1/{1 / d:.0f}" for d in doses) + " |"]
    lines.append("|---" * (len(doses) + 1) + "|")
    for method, values in by.items():
        cells = (f"{values[d][0]:.2f} ± {values[d][1]:.2f}" for d in doses)
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw(found: list[dict], path: Path) -> None:
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    specimens = [
        s for s in ("simulated MoSe2", "real MoSe2", "two-class ring") if s in {f["specimen"] for f in found}
    ]
    colours = [
        "black",
        "#D55E00",
        "#0072B2",
        "#56B4E9",
        "#009E73",
        "#CC79A7",
        "#E69F00",
        "#999999",
        "#882255",
    ]
    markers = "*o^vs>DxP"
    figure, axes = plt.subplots(
        2, len(specimens), figsize=(4.2 * len(specimens), 7.2), squeeze=False, sharey=True
    )
    for column, specimen in enumerate(specimens):
        rows = [f for f in found if f["specimen"] == specimen]
        for axis, index in zip(axes[:, column], ("fmi", "ami"), strict=True):
            lines = mean_and_spread(rows, lambda row, i=index: row[i]).items()
            for method, values in lines:
                colour, marker = colours[list(METHODS).index(method)], markers[list(METHODS).index(method)]
                doses = sorted(values)
                mean, spread = np.array([values[d] for d in doses]).T
                axis.errorbar(doses, mean, spread, label=method, color=colour, marker=marker, ms=5, lw=1.3)
            axis.set_xscale("log")
            axis.set_ylim(-0.03, 1.03)
            axis.grid(alpha=0.3)
            axis.set_ylabel({"fmi": "Fowlkes-Mallows index", "ami": "adjusted mutual information"}[index])
        axes[0, column].set_title(f"{specimen}, {rows[0]['columns']:,} columns")
        ring_case = specimen == "two-class ring"
        axes[1, column].set_xlabel("electrons per grey value" if ring_case else "relative dose")
    shown = {
        name: handle
        for axis in axes[0]
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(shown.values(), shown.keys(), loc="lower center", ncols=5, frameon=False, fontsize=8)
    figure.tight_layout(rect=(0, 0.07, 1, 1))
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", choices=["simulated", "real", "ring"])
    parser.add_argument("--methods", nargs="*", choices=list(METHODS), default=list(METHODS))
    parser.add_argument(
        "--draw", action="store_true", help="only tables and figure, of the results that are there"
    )
    options = parser.parse_args()
    path = RESULTS / "dose_sweep.json"
    makers = {
        "simulated": ("simulated MoSe2", simulated),
        "real": ("real MoSe2", real),
        "ring": ("two-class ring", ring),
    }
    chosen = [] if options.draw else [options.only] if options.only else list(makers)
    found = json.loads(path.read_text()) if path.exists() else []
    for name in chosen:
        specimen, make = makers[name]
        fresh = measure(specimen, make, options.seeds, options.methods)
        again = {(f["specimen"], f["method"]) for f in fresh}
        found = [f for f in found if (f["specimen"], f["method"]) not in again] + fresh
        RESULTS.mkdir(exist_ok=True)
        path.write_text(json.dumps(found, indent=1) + "\n")
    for specimen in dict.fromkeys(f["specimen"] for f in found):
        rows = [f for f in found if f["specimen"] == specimen]
        seeds = len({f["seed"] for f in rows})
        for index in ("ami", "fmi"):
            print(table(f"{specimen}, {index.upper()}, {seeds} seeds", rows, lambda row, i=index: row[i]))
        for kind in rows[0]["site_f1"]:
            print(table(f"{specimen}, site F1 of {kind}", rows, lambda row, k=kind: row["site_f1"][k]))
    draw(found, ROOT / "docs" / "dose_sweep.png")


if __name__ == "__main__":
    main()
