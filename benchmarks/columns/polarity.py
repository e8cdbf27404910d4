"""Which images are taken for those of dark columns: simulated ones and the same inverted, blurred, at four doses.

python benchmarks/columns/polarity.py
"""

import warnings
from collections.abc import Iterator

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

import torchmotif as tm
from torchmotif.columns.polarity import polarity_of

SIDE = (256, 256)
MAKE = {
    "mose2": lambda: tm.datasets.mose2(SIDE, 0.02),
    "oxide": lambda: tm.datasets.pentagonal_oxide(SIDE),
    "perovskite": lambda: tm.datasets.perovskite(SIDE),
    "bilayer": lambda: tm.datasets.twisted_bilayer_mos2(0.1, SIDE),
    "square": lambda: tm.datasets.square(SIDE),
    "rectangular": lambda: tm.datasets.rectangular(SIDE),
    "rock salt": lambda: tm.datasets.rocksalt(shape=SIDE),
    "dumbbells": lambda: tm.datasets.dumbbells(SIDE),
    "particle": lambda: tm.datasets.nanoparticle(SIDE),
    "colloid": lambda: tm.datasets.colloid(SIDE),
}
ALONE = {"particle", "colloid"}  # have no inverse that a bright field would show
BLURS, DOSES = (0.0, 1.5, 3.0), (0.5, 2.0, 50.0, 1000.0)  # pixels; electrons per pixel


def images() -> Iterator[tuple[str, float, float, bool, np.ndarray]]:
    """Name, blur, dose, whether columns are dark, and pixels."""
    for name, make in MAKE.items():
        clean = np.asarray(make().image)
        for blur in BLURS:
            pixels = gaussian_filter(clean, blur) if blur else clean
            for dose in DOSES:
                for dark in (False,) if name in ALONE else (False, True):
                    # Of bright field most electrons arrive.
                    given, electrons = (2 * pixels.max() - pixels, 20 * dose) if dark else (pixels, dose)
                    generator = torch.Generator().manual_seed(int(dose))
                    yield (
                        name,
                        blur,
                        dose,
                        dark,
                        np.asarray(tm.apply_dose(given, electrons, generator=generator)),
                    )


def main() -> None:
    """Print those that are wrong, and how many."""
    warnings.simplefilter("ignore")
    count = {True: [0, 0], False: [0, 0]}
    for name, blur, dose, dark, pixels in images():
        told = polarity_of(lambda box, p=pixels: p[box[0] : box[2], box[1] : box[3]], SIDE).dark
        count[dark][0] += told != dark
        count[dark][1] += 1
        if told != dark:
            print(
                f"{name}, {'dark' if dark else 'bright'} columns, blur {blur:g} px, {dose:g} e/px: taken for the other",
                flush=True,
            )
    for dark, (wrong, every) in count.items():
        print(f"{'dark' if dark else 'bright'} columns: {wrong} of {every} wrong")


if __name__ == "__main__":
    main()
