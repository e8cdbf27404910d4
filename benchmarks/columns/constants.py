"""What moves when a tuned constant does: each is multiplied by 0.7 and by 1.4, and spacings are measured again.

    python benchmarks/columns/constants.py [hidden]

For constants of the spacing: of 20 images of many kinds how many spacings are within 5 % of the true distance, and by how much the
others moved. `hidden`: the same of images with steps of 10 and 30 times the contrast, for `_windows_spacing._HIDDEN`.
"""

import argparse
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.columns import _periodic, _windows_spacing, calibrate, characteristic_spacing, spacing

d = tm.datasets
SHAPE = (256, 256)
Drawn = tuple[np.ndarray, float]  # pixels, distance of nearest columns
TUNED: list[tuple[ModuleType, tuple[str, ...]]] = [
    (
        _periodic,
        ("_CLEAR", "_NEAREST", "_SHARED", "_FULL", "_ROUND", "_ALONE", "_APART", "_ALIKE", "_WEAK", "_OWN"),
    ),
    (spacing, ("_CLEAR", "_PLAIN", "_CRYSTAL", "_SPLIT", "_WHOLE", "_FAINTEST", "UNEVEN")),
]
HIDDEN = (1 / 16, 1 / 6, 1 / 32)


def drawn(specimen: d.Specimen, dose: float = 1.0) -> Drawn:
    """A noisy image."""
    image = specimen.draw(dose, torch.Generator().manual_seed(1))
    truth = np.asarray(specimen.truth.positions)
    return np.asarray(image.data, np.float32), float(np.median(cKDTree(truth).query(truth, k=2)[0][:, 1]))


def lattice(nearest: float, **more: Any) -> d.Specimen:
    """Rectangles whose shorter side is so many pixels."""
    pixel = 0.3 / nearest
    given = {"ratio": 1.0, "rotation_rad": 0.2, "electrons_per_pixel": 20.0, "probe": d.GaussianProbe(0.06)}
    return d.rectangular(SHAPE, pixel, **given | more)


def specimens() -> list[Drawn]:
    """Of many kinds."""
    hum = drawn(d.square(SHAPE))
    rows = 8 * np.sin(np.arange(SHAPE[0]) * (2 * np.pi / 7.3))[:, None].astype(np.float32)
    return [
        *(drawn(lattice(nearest)) for nearest in (5.0, 12.0, 27.6)),
        *(drawn(lattice(14.0, ratio=ratio)) for ratio in (1.2, 2.0, 3.0)),
        *(drawn(lattice(20.0, middle=middle, probe=d.GaussianProbe(0.042))) for middle in (0.2, 0.8)),
        *(drawn(d.mose2(SHAPE), dose) for dose in (1.0, 0.1, 0.02)),
        drawn(d.mose2(SHAPE, grains=3)),
        drawn(d.dumbbells(SHAPE)),
        drawn(d.pentagonal_oxide(SHAPE)),
        drawn(d.rocksalt("Sr", "O", SHAPE, lattice_nm=0.516)),
        drawn(d.nanoparticle(SHAPE, radius_nm=1.2, carbon_nm=60.0)),
        drawn(d.colloid((384, 384))),
        drawn(d.with_edge(d.square(SHAPE), 60.0)),
        drawn(d.with_carbon(d.mose2(SHAPE), 10.0)),
        (hum[0] + rows, hum[1]),
    ]


def stepped() -> list[Drawn]:
    """With steps of the background."""
    found = []
    for nearest in (8.0, 12.0, 20.0, 32.0):
        specimen = lattice(nearest)
        quiet = specimen.draw(1e4, torch.Generator().manual_seed(0)).data / 1e4
        contrast = float(quiet.max() - quiet.min())
        for height in (10.0, 30.0):
            found.append(drawn(d.with_edge(specimen, height * contrast, crystal="everywhere", edge_px=3.0)))
            found.append(drawn(d.with_patch(specimen, height * contrast, edge_px=3.0)))
    return found


def measured(images: list[Drawn], measure: Callable[[np.ndarray], float]) -> np.ndarray:
    """Over the true distance; NaN where there is none."""
    ratios = []
    for pixels, nearest in images:
        try:
            ratios.append(measure(pixels) / nearest)
        except tm.errors.InputError:
            ratios.append(np.nan)
    return np.array(ratios)


def right(ratios: np.ndarray) -> int:
    """How many are within 5 %."""
    return int((np.abs(ratios - 1) <= 0.05).sum())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="?", choices=["hidden"])
    if parser.parse_args().part == "hidden":
        images = stepped()
        for share in HIDDEN:
            _windows_spacing._HIDDEN = share  # noqa: SLF001
            ratios = measured(images, lambda pixels: calibrate.calibrate([pixels]).spacing)
            sys.stdout.write(
                f"_HIDDEN = 1/{1 / share:.0f}: {right(ratios)} of {len(images)}: {ratios.round(2).tolist()}\n"
            )
            sys.stdout.flush()
        return
    images = specimens()

    def of_image(pixels: np.ndarray) -> float:
        return characteristic_spacing(pixels).pixels

    usual = measured(images, of_image)
    sys.stdout.write(f"as they are: {right(usual)} of {len(images)}: {usual.round(3).tolist()}\n")
    for module, names in TUNED:
        for name in names:
            value = getattr(module, name)
            for factor in (0.7, 1.4):
                setattr(module, name, value * factor)
                ratios = measured(images, of_image)
                moved = int(
                    (~(np.abs(ratios / usual - 1) <= 0.01) & ~(np.isnan(ratios) & np.isnan(usual))).sum()
                )
                said = f"{module.__name__.split('.')[-1]}.{name} x {factor}: {right(ratios)} right, {moved} moved by more than 1 %"
                sys.stdout.write(f"{said}\n")
                sys.stdout.flush()
            setattr(module, name, value)


if __name__ == "__main__":
    main()
