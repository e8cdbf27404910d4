"""The linear image model against multislice with frozen phonons (abTEM): MoSe2 with one selenium vacancy.

Needs the extra `sim`: pip install torchmotif[sim,export]. Run: python benchmarks/datasets/abtem_reference.py [phonon configurations]
"""

import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from ase import Atoms
from ase.build import make_supercell, mx2
from scipy.ndimage import gaussian_filter, map_coordinates

import torchmotif as tm

mpl.use("Agg")
import matplotlib.pyplot as plt

RESULTS = Path(__file__).parents[1] / "results"
PIXEL_NM, STEP_A = 0.015, 0.3  # the probe's own sampling limit is 0.35
VOLTAGE_KV, ANGLE_MRAD = 80.0, 30.0
DETECTORS_MRAD = {"80-200 mrad": (80.0, 200.0), "60-200 mrad": (60.0, 200.0)}
SOURCE_NM, PHONON_NM = 0.035, 0.007


def vacancy_cell() -> Atoms:
    """Six rectangular cells of MoSe2, 12 Mo and 24 Se, with one Se missing in the middle."""
    sheet = mx2("MoSe2", kind="2H", a=3.289, thickness=3.34, size=(1, 1, 1), vacuum=3.0)
    atoms = make_supercell(sheet, [[1, 0, 0], [1, 2, 0], [0, 0, 1]]).repeat((3, 2, 1))
    atoms.wrap()
    atoms.pbc = True
    middle = np.asarray(atoms.cell).diagonal() / 2
    selenium = np.nonzero(atoms.symbols == "Se")[0]
    gone = selenium[np.linalg.norm(atoms.positions[selenium] - middle, axis=1).argmin()]
    del atoms[int(gone)]
    return atoms


def multislice(atoms: Atoms, configurations: int) -> dict[str, np.ndarray]:
    """ADF intensity (x, y) on the scan grid of the whole cell, before the source size, of each detector."""
    import abtem

    abtem.config.set({"local_diagnostics.progress_bar": False, "device": "cpu", "precision": "float32"})
    phonons = abtem.FrozenPhonons(atoms, configurations, sigmas=PHONON_NM * 10, seed=1)
    potential = abtem.Potential(phonons, sampling=0.065, slice_thickness=1.5)
    probe = abtem.Probe(energy=VOLTAGE_KV * 1e3, semiangle_cutoff=ANGLE_MRAD)
    scan = abtem.GridScan((0, 0), potential.extent, sampling=STEP_A)
    detectors = [abtem.AnnularDetector(*angles) for angles in DETECTORS_MRAD.values()]
    scanned = probe.scan(potential, scan=scan, detectors=detectors).compute(progress_bar=False)
    return {name: np.asarray(each.array) for name, each in zip(DETECTORS_MRAD, scanned, strict=True)}


def on_pixels(scanned: np.ndarray, atoms: Atoms, shape: tuple[int, int]) -> np.ndarray:
    """The scan with its source size, periodic, at the pixels (row, col) of the linear model."""
    extent = np.asarray(atoms.cell).diagonal()[:2]
    step = extent / scanned.shape
    blurred = gaussian_filter(scanned, SOURCE_NM * 10 / step, mode="wrap")
    row, col = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    x, y = col * PIXEL_NM * 10 / step[0], (shape[0] - 1 - row) * PIXEL_NM * 10 / step[1]
    return map_coordinates(blurred, [x, y], order=3, mode="grid-wrap")


def linear(atoms: Atoms, gamma: float) -> tm.datasets.Specimen:
    blur = math.hypot(SOURCE_NM, PHONON_NM)
    probe = tm.datasets.AberratedProbe(VOLTAGE_KV, ANGLE_MRAD, source_sigma_nm=blur)
    return tm.datasets.from_atoms(atoms, PIXEL_NM, probe=probe, gamma=gamma)


def peaks(image: np.ndarray, truth: tm.datasets.Truth) -> dict[str, float]:
    """Mean brightness at the columns of each kind, over that of Mo."""
    place = np.round(truth.positions.numpy()).astype(int)
    inside = ((place >= 0) & (place < image.shape)).all(1)
    value = image[tuple(place[inside].T)]
    kinds = truth.kinds[inside]
    mean = {kind: float(value[kinds == kind].mean()) for kind in np.unique(kinds)}
    return {kind: round(v / mean["Mo"], 3) for kind, v in mean.items()}


def compared(
    scanned: np.ndarray, atoms: Atoms, gamma: float
) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """The figures of merit, and the two images on one scale."""
    specimen = linear(atoms, gamma)
    image = specimen.image.numpy().astype(float)
    reference = on_pixels(scanned, atoms, specimen.shape)
    slope, offset = np.polyfit(image.ravel(), reference.ravel(), 1)
    fitted = slope * image + offset
    figures = {
        "correlation": round(float(np.corrcoef(image.ravel(), reference.ravel())[0, 1]), 4),
        "rms difference / range": round(float((reference - fitted).std() / np.ptp(reference)), 4),
        "multislice, over Mo": peaks(reference, specimen.truth),
        "linear, over Mo": peaks(fitted, specimen.truth),
        "detected share of the beam": round(float(reference.mean()), 5),
    }
    return figures, reference, fitted


def main() -> None:
    configurations = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    atoms = vacancy_cell()
    start = time.perf_counter()
    scans = multislice(atoms, configurations)
    result: dict[str, Any] = {
        "atoms": len(atoms),
        "phonon configurations": configurations,
        "multislice s": round(time.perf_counter() - start, 1),
        "voltage kV": VOLTAGE_KV,
        "semi-angle mrad": ANGLE_MRAD,
        "source sigma nm": SOURCE_NM,
        "phonon sigma nm": PHONON_NM,
    }
    for name, scanned in scans.items():
        result[name] = {}
        for gamma in (1.5, 1.6, 1.7, 1.8, 1.9):
            result[name][f"gamma {gamma}"], *_ = compared(scanned, atoms, gamma)
            figures = result[name][f"gamma {gamma}"]
            print(f"{name:12} gamma {gamma}  correlation {figures['correlation']:.4f}", end="")
            print(
                f"  Se2/Mo {figures['multislice, over Mo']['Se2']:.2f} (linear {figures['linear, over Mo']['Se2']:.2f})",
                end="",
            )
            print(
                f"  Se/Mo {figures['multislice, over Mo']['Se']:.2f} (linear {figures['linear, over Mo']['Se']:.2f})"
            )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "abtem_reference.json").write_text(json.dumps(result, indent=1) + "\n")
    _, reference, fitted = compared(scans["80-200 mrad"], atoms, 1.7)
    draw(reference * 100, fitted * 100)


def draw(reference: np.ndarray, fitted: np.ndarray) -> None:
    top = reference.max()
    panels = (
        ("multislice, frozen phonons", reference, {"cmap": "gray", "vmin": 0.0, "vmax": top}, "white"),
        ("linear model, Z$^{1.7}$", fitted, {"cmap": "gray", "vmin": 0.0, "vmax": top}, "white"),
        ("difference", reference - fitted, {"cmap": "PuOr", "vmin": -top / 5, "vmax": top / 5}, "black"),
    )
    box = {"facecolor": "gray", "alpha": 0.6, "pad": 1.5, "linewidth": 0}
    figure, axes = plt.subplots(1, 3, figsize=(11, 4), layout="constrained")
    for axis, (title, picture, scale, ink) in zip(axes, panels, strict=True):
        shown = axis.imshow(picture, **scale)
        axis.set(title=title, xticks=[], yticks=[])
        low = picture.shape[0] - 5
        axis.plot([4, 4 + 0.3 / PIXEL_NM], [low, low], color=ink, lw=3)
        axis.text(4, low - 4, "0.3 nm", color=ink, bbox=box)
        figure.colorbar(shown, ax=axis, label="detected share of the beam (%)", shrink=0.8)
    figure.savefig(RESULTS / "abtem_reference.png", dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    main()
