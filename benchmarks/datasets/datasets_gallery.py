"""A page of pictures: one specimen each, at the dose of the real image nearest to it, beside that image.

Run: python benchmarks/datasets/datasets_gallery.py. Real images are read from $TORCHMOTIF_DATA, or ../shared/data.
"""

import math
import os
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import matplotlib as mpl
import numpy as np
import tifffile
import torch
from scipy.ndimage import gaussian_filter

import torchmotif as tm

mpl.use("Agg")
import matplotlib.pyplot as plt

RESULTS = Path(__file__).parents[1] / "results"
DATA = Path(os.environ.get("TORCHMOTIF_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
SIDE = 300  # pixels shown


def around_the_hole(image: np.ndarray, side: int = SIDE) -> np.ndarray:
    """The part of the image about its darkest place."""
    dark = np.unravel_index(gaussian_filter(image, 15).argmin(), image.shape)
    row, col = (int(np.clip(at - side // 2, 0, n - side)) for at, n in zip(dark, image.shape, strict=True))
    return image[row : row + side, col : col + side]


def middle(image: np.ndarray, side: int = SIDE) -> np.ndarray:
    row, col = ((n - side) // 2 for n in image.shape)
    return image[max(row, 0) : max(row, 0) + side, max(col, 0) : max(col, 0) + side]


def simulated() -> dict[str, tuple[tm.datasets.Specimen, float]]:
    """Name: specimen, dose relative to its expected image."""
    d, shape = tm.datasets, (SIDE, SIDE)
    wide = d.GaussianProbe(0.06, tail=0.2)
    sharp = d.AberratedProbe(80.0, 30.0, source_sigma_nm=0.035, a2_nm=15.0)
    return {
        "MoSe$_2$, vacancies": (
            d.mose2(shape, 0.0079, probe=sharp, electrons_per_pixel=60.0, background=0.1, vacancy_rate=0.05),
            1.0,
        ),
        "MoSe$_2$, grains": (
            d.mose2(
                shape, 0.012, grains=3, random_state=2, electrons_per_pixel=100.0, probe=wide, background=0.2
            ),
            1.0,
        ),
        "MoSe$_2$, mirror twin": (d.mose2(shape, 0.012, grains=2, boundary="mirror", rotation_rad=0.9), 1.0),
        "WSe$_2$ with Ti, coarse pixels": (
            d.mx2(
                "W",
                "Se",
                shape,
                0.0399,
                substitutions={"Ti": 0.1},
                vacancy_rate=0.05,
                electrons_per_pixel=20.0,
                background=0.2,
            ),
            1.0,
        ),
        "MoS$_2$ with V, low dose": (
            d.mx2(
                "Mo",
                "S",
                shape,
                0.0176,
                substitutions={"V": 0.02},
                vacancy_rate=0.02,
                electrons_per_pixel=5.7,
                probe=wide,
                background=0.3,
            ),
            1.0,
        ),
        "MoS$_2$ with Se, a hole": (
            d.mx2(
                "Mo",
                "S",
                shape,
                0.0127,
                substitutions={"Se": 0.2},
                adatom_rate=0.01,
                holes=[(90.0, 220.0, 60.0)],
                electrons_per_pixel=9.0,
                probe=wide,
                background=0.2,
            ),
            1.0,
        ),
        "perovskite, two B, antiphase boundary": (
            d.perovskite(
                shape,
                0.0078,
                a_site="Dy",
                b_sites=("Sc", "Ti"),
                antiphase_boundaries=1,
                electrons_per_pixel=50.0,
                probe=wide,
                background=0.3,
            ),
            1.0,
        ),
        "pentagonal oxide, J/kT = 0.2": (
            d.pentagonal_oxide(shape, 0.025, coupling=0.2, filling=0.4, background=0.2),
            1.0,
        ),
        "twisted bilayer MoS$_2$, 4°": (
            d.twisted_bilayer_mos2(math.radians(4), shape, 0.025, relaxation=0.4),
            1.0,
        ),
        "colloid": (d.colloid(shape, background=0.2), 1.0),
    }


def real() -> dict[str, tuple[np.ndarray, float | None]]:
    """Name of the specimen: the real image nearest to it, its pixel size in nm where known."""
    from rsciio import digitalmicrograph

    def dm(name: str) -> np.ndarray:
        return np.asarray(digitalmicrograph.file_reader(str(DATA / name))[0]["data"], dtype=float)

    with np.load(DATA / "SciLink_MoS2_Exp-000-2.npz") as file:
        scilink = file["image"]
    boundary = tifffile.imread(DATA / "MoSe2_grain_boundary.tif")
    oxide = iio.imread(DATA / "AtomSegNet_DSO_8nm.png")
    return {
        "MoSe$_2$, vacancies": (tifffile.imread(DATA / "MoSe2_80kV.tif"), 0.0079),
        "MoSe$_2$, grains": (boundary, None),
        "MoSe$_2$, mirror twin": (boundary[:SIDE, :SIDE], None),
        "WSe$_2$ with Ti, coarse pixels": (dm("TiWSe2_1028_11_ADF1.dm4"), 0.03988),
        "MoS$_2$ with V, low dose": (scilink, 0.0176),
        "MoS$_2$ with Se, a hole": (around_the_hole(dm("TEMUL_Se_implanted_MoS2.dm3")), 0.012695),
        "perovskite, two B, antiphase boundary": (oxide if oxide.ndim == 2 else oxide[..., 0], 0.0078),
    }


def bar(axis: Any, pixel_nm: float | None) -> None:
    """A scale bar, or the word that there is none."""
    if pixel_nm is None:
        axis.text(
            0.03,
            0.04,
            "pixel size not stored",
            transform=axis.transAxes,
            color="white",
            fontsize=8,
            bbox={"facecolor": "black", "pad": 2, "linewidth": 0},
        )
        return
    length = max(v for v in (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500) if v / pixel_nm < 0.4 * SIDE)
    axis.plot([12, 12 + length / pixel_nm], [SIDE - 16] * 2, color="white", lw=4, solid_capstyle="butt")
    axis.text(
        0.04,
        0.08,
        f"{length:g} nm",
        transform=axis.transAxes,
        color="white",
        fontsize=8,
        bbox={"facecolor": "black", "pad": 1.5, "linewidth": 0},
    )


def main() -> None:
    nearest = real() if DATA.exists() else {}
    specimens = simulated()
    columns = 4
    rows = math.ceil(len(specimens) / 2)
    figure, axes = plt.subplots(rows, columns, figsize=(11, 2.85 * rows), layout="constrained")
    for slot, (name, (specimen, dose)) in enumerate(specimens.items()):
        left, right = axes.flat[2 * slot], axes.flat[2 * slot + 1]
        scan = tm.datasets.Scan(jitter_px=0.3)
        drawn = specimen.draw(dose, torch.Generator().manual_seed(slot), scan=scan).numpy()
        pictures = [(left, drawn, f"{name}\n{drawn.mean():.3g} e/px", specimen.image.pixel_size_nm[0])]
        if name in nearest:
            image, pixel = nearest[name]
            pictures.append((right, middle(image), "nearest real image", pixel))
        else:
            truth = specimen.truth
            _, codes = np.unique(truth.classes, return_inverse=True)
            right.imshow(specimen.image.numpy(), cmap="gray")
            right.scatter(truth.positions[:, 1], truth.positions[:, 0], c=codes, s=5, cmap="viridis")
            right.set_title("no real image of it here:\nthe truth, coloured by class", fontsize=9)
        for axis, picture, title, pixel_nm in pictures:
            low, high = np.percentile(picture, (0.5, 99.7))
            axis.imshow(
                picture, cmap="gray", vmin=low, vmax=high, extent=(-0.5, SIDE - 0.5, SIDE - 0.5, -0.5)
            )
            axis.set_title(title, fontsize=9)
            bar(axis, pixel_nm)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    RESULTS.mkdir(exist_ok=True)
    figure.savefig(RESULTS / "datasets_gallery.png", dpi=75)
    plt.close(figure)


if __name__ == "__main__":
    main()
