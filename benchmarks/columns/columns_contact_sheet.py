"""Contact sheet: the columns found, with default arguments, in every real image.

    python benchmarks/columns/columns_contact_sheet.py [FOLDER] [OUT.png]

Each panel shows a part of an image, where it is hardest; the columns were sought in the whole image.
"""

import os
import sys
from pathlib import Path

import imageio.v3 as iio
import matplotlib as mpl
import numpy as np
import tifffile
from rsciio.digitalmicrograph import file_reader as read_dm
from rsciio.hspy import file_reader as read_hspy

import torchmotif as tm

mpl.use("Agg")
import matplotlib.pyplot as plt

# File, middle of the part that is shown, its side in pixels, pixel size in nm where it is known.
PARTS = [
    ("MoSe2_80kV.tif", (256, 256), 300, 0.00790),
    ("MoSe2_grain_boundary.tif", (250, 250), 220, None),
    ("WS2Te2_cut.tif", (190, 190), 150, None),
    ("TiWSe2_1028_11_ADF1.dm4", (100, 270), 90, 0.03988),
    ("TiWSe2_1028_11_ADF2.dm4", (100, 270), 90, 0.03988),
    ("TiWSe2_1028_25_ADF1.dm4", (250, 250), 90, 0.03988),
    ("TiWSe2_1028_25_ADF2.dm4", (250, 250), 90, 0.03988),
    ("TEMUL_Se_implanted_MoS2.dm3", (680, 500), 260, 0.012695),
    ("TEMUL_Se_implanted_MoS2.dm3", (440, 770), 260, 0.012695),
    ("TEMUL_PTO-SRO_supercrystal.hspy", (112, 600), 224, 0.014997),
    ("SingleOrigin_BSSN_DPC_scan85.tif", (704, 700), 420, None),
    ("pychip_LSFO_squares_diamonds.png", (200, 300), 220, None),
    ("AtomSegNet_DSO_8nm.png", (512, 512), 420, 0.0078),
    ("SciLink_MoS2_Exp-000-2.npz", (256, 256), 240, 0.0176),
]


def read(path: Path) -> np.ndarray:
    """The pixels of one file, colours averaged."""
    match path.suffix:
        case ".dm3" | ".dm4":
            return read_dm(path)[0]["data"]
        case ".hspy":
            return read_hspy(path)[0]["data"]
        case ".npz":
            return np.load(path)["image"]
        case ".tif":
            return tifffile.imread(path)
        case _:
            pixels = iio.imread(path)
            return pixels if pixels.ndim == 2 else pixels[..., :3].mean(axis=2)


def draw(ax: plt.Axes, path: Path, middle: tuple[int, int], side: int, pixel_nm: float | None) -> None:
    """One panel."""
    image = read(path)
    columns = tm.find_columns(image)
    low, high = np.percentile(image, [1, 99.7])
    ax.imshow(image, cmap="gray", vmin=low, vmax=high)
    marks = {"orange": ~columns.is_rim & ~columns.is_overlapping, "deepskyblue": columns.is_overlapping}
    for colour, which in marks.items():
        rows, cols = columns.positions[which].T
        ax.plot(cols, rows, "o", mfc="none", mec=colour, ms=5, mew=0.8)
    top = max(0, min(middle[0] - side // 2, image.shape[0] - side))
    left = max(0, min(middle[1] - side // 2, image.shape[1] - side))
    ax.set(xlim=(left, left + side), ylim=(top + side, top), xticks=[], yticks=[])
    length, label = (
        (1 / pixel_nm, "1 nm") if pixel_nm else (5 * columns.spacing, f"{5 * columns.spacing:.0f} px")
    )
    ax.plot([left + 0.05 * side, left + 0.05 * side + length], [top + 0.95 * side] * 2, color="white", lw=3)
    ax.text(left + 0.05 * side, top + 0.92 * side, label, color="white", weight="bold")
    ax.set_title(f"{path.name}\n{len(columns)} columns, {columns.spacing:.2f} px apart", fontsize=9)


def main() -> None:
    """Draw the sheet."""
    default = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("TORCHMOTIF_DATA", default))
    out = Path(sys.argv[2] if len(sys.argv) > 2 else "benchmarks/results/columns_contact_sheet.png")
    fig, axes = plt.subplots(4, 4, figsize=(18, 19), layout="constrained")
    for ax, (name, middle, side, pixel_nm) in zip(axes.flat, PARTS, strict=False):
        draw(ax, folder / name, middle, side, pixel_nm)
    for ax in axes.flat[len(PARTS) :]:
        ax.set_axis_off()
    out.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(out, dpi=110)
    print(out)


if __name__ == "__main__":
    main()
