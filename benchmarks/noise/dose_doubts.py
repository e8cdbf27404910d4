"""Whether a dose is promised of images whose noise is no longer that of counts, and refused of plain counts.

    python benchmarks/noise/dose_doubts.py [draws]

Every draw is one of five crystals at 1 to 500 electrons per pixel, as it was counted and changed in one of eight ways, by random amounts: what is
promised without a doubt, and counts that are doubted, are printed.
"""

import sys
from collections.abc import Callable

import numpy as np
import scipy.ndimage as ndi
import torch
from scipy.signal import wiener
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

import torchmotif as tm
from torchmotif.noise import dose_doubts

SHAPE = (256, 256)
KINDS: tuple[Callable[[], tm.datasets.Specimen], ...] = (
    lambda: tm.datasets.mose2(SHAPE, 0.02),
    lambda: tm.datasets.square(SHAPE),
    lambda: tm.datasets.perovskite(SHAPE),
    lambda: tm.datasets.rocksalt(shape=SHAPE),
    lambda: tm.datasets.dumbbells(SHAPE),
)
CHANGES: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "Gaussian": lambda x, u: ndi.gaussian_filter(x, 0.4 + 1.6 * u),
    "median": lambda x, u: ndi.median_filter(x, 3 if u < 0.5 else 5),
    "total variation": lambda x, u: denoise_tv_chambolle(x, (0.3 + u) * x.std()),
    "non-local means": lambda x, u: denoise_nl_means(x, h=(0.3 + u) * x.std(), fast_mode=True),
    "Wiener": lambda x, u: wiener(x, 3 if u < 0.5 else 5),
    "enlarged": lambda x, u: ndi.zoom(x, 1.1 + u, order=3),
    "reduced": lambda x, u: ndi.zoom(x, 0.9 - 0.3 * u, order=1),
    "turned": lambda x, u: ndi.rotate(x, 2 + 40 * u, reshape=False, order=3, mode="reflect"),
}


def main() -> None:
    """Print what is wrong, and how many are."""
    draws = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    rng = np.random.default_rng(0)
    promised = doubted = 0
    for number in range(draws):
        name, change = list(CHANGES.items())[number % len(CHANGES)]
        electrons, amount = float(10 ** rng.uniform(0, 2.7)), float(rng.random())
        image = KINDS[int(rng.integers(len(KINDS)))]().image
        generator = torch.Generator().manual_seed(number)
        counts = np.asarray(tm.apply_dose(image, electrons, generator=generator), float)
        said = f"{name}, {amount:.2f}, {electrons:.1f} e/px"
        if dose_doubts(counts):
            doubted += 1
            sys.stdout.write(f"counts are doubted: {said}\n")
        if not dose_doubts(change(counts, amount)):
            promised += 1
            sys.stdout.write(f"promised without a doubt: {said}\n")
    sys.stdout.write(f"{promised} of {draws} changed images promised, {doubted} of {draws} counts doubted\n")


if __name__ == "__main__":
    main()
