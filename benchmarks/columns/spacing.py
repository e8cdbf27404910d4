"""The spacing of specimens of many kinds against the true distance of nearest columns.

    python benchmarks/columns/spacing.py [--find] [KIND ...]

prints one line for each kind: how many specimens, how many within 5 %, the worst ratios. `--find` takes the spacing of
`find_columns`, which a fit has confirmed, with recall and precision; without it that of `characteristic_spacing`.
"""

import argparse
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.columns import characteristic_spacing

CASES = Path(__file__).resolve().parents[3] / "shared" / "data" / "cases"
DOSE_NM2 = 4.0e4  # electrons per square nanometre, 10 per pixel of 0.0158 nm
d = tm.datasets

Drawn = tuple[str, np.ndarray, np.ndarray]  # name, image, positions of the columns


def drawn(name: str, specimen: d.Specimen, dose: float = 1.0, detector: d.Detector | None = None) -> Drawn:
    """A noisy image, and its columns that were measured."""
    image = specimen.draw(dose, torch.Generator().manual_seed(1), detector=detector)
    return name, np.asarray(image.data, np.float32), specimen.truth.positions.numpy()[specimen.truth.measured]


def side(nearest: float, ratio: float = 1.0) -> tuple[int, int]:
    """Of an image with at least some dozens of columns."""
    length = round(min(max(256.0, 9 * nearest * math.sqrt(ratio)), 1024))
    return length, length


def lattice(nearest: float, turn: float, **more: object) -> d.Specimen:
    """Rectangles whose shorter side is so many pixels; columns are as wide as a fifth of it, with a tail."""
    pixel, ratio = 0.3 / nearest, float(more.get("ratio", 1.0))  # type: ignore[arg-type]
    exposure = max(DOSE_NM2 * pixel**2, 1.0) / ratio
    return d.rectangular(side(nearest, ratio), pixel, **{"ratio": 1.0, "rotation_rad": turn,
                         "electrons_per_pixel": exposure, "probe": d.GaussianProbe(0.06), "scatter_nm": 0.003, **more})  # fmt: skip


def square() -> Iterator[Drawn]:
    for nearest, turn in itertools.product((12, 20, 27.6, 40, 60, 80), (0.0, 0.12, 0.4, math.pi / 4)):
        yield drawn(f"{nearest} px, {turn:.2f} rad", lattice(nearest, turn))


def rectangular() -> Iterator[Drawn]:
    for nearest, ratio, turn in itertools.product((10, 18, 30), (1.2, 1.5, 2.0, 3.0), (0.0, 0.5)):
        yield drawn(f"{nearest} px, 1:{ratio}, {turn} rad", lattice(nearest, turn, ratio=ratio))


def two_sublattices() -> Iterator[Drawn]:
    for nearest, middle in itertools.product((12, 20, 40), (0.2, 0.45, 0.8)):
        specimen = lattice(nearest * math.sqrt(2), 0.12, middle=middle, probe=d.GaussianProbe(0.042))
        yield drawn(f"{nearest} px, B {middle}", specimen)


def hexagonal() -> Iterator[Drawn]:
    for pixel, dose in itertools.product((0.008, 0.012, 0.02, 0.035), (1.0, 0.1)):
        yield drawn(f"MoSe2, {pixel} nm/px, dose {dose}", d.mose2((300, 300), pixel), dose)
    yield drawn("grains", d.mose2((512, 512), grains=4))
    yield drawn("WS2", d.mx2("W", "S", (300, 300)))


def low_dose() -> Iterator[Drawn]:
    for metal, x, sigma in itertools.product(("Mo",), ("Se", "S"), (0.042, 0.05)):
        specimen = d.mx2(metal, x, (1024, 1024), vacancy_rate=0.06, probe=d.GaussianProbe(sigma))
        for dose in (1 / 20, 1 / 50, 1 / 100):
            yield drawn(f"{metal}{x}2, {sigma} nm, dose {dose:g}", specimen, dose)


def dumbbells() -> Iterator[Drawn]:
    for widths, turn in itertools.product((2.9, 3.3, 4.0), (0.0, 0.3)):
        sigma = 0.1413 / widths
        specimen = d.dumbbells((300, 300), rotation_rad=turn, probe=d.GaussianProbe(sigma, tail=0.0))
        yield drawn(f"{widths} widths, {turn} rad", specimen)


def disturbed() -> Iterator[Drawn]:
    shape = (400, 400)
    for name, crystal in (
        ("MoSe2", d.mose2(shape)),
        ("square", d.square(shape)),
        ("aligned", d.square(shape, rotation_rad=0.0)),
    ):
        yield drawn(f"{name}, row noise", crystal, 1.0, d.Detector(row_noise=8.0))
        yield drawn(f"{name}, patch", d.with_patch(crystal, 100.0))
        yield drawn(f"{name}, edge", d.with_edge(crystal, 60.0))
        yield drawn(f"{name}, sharp step", d.with_edge(crystal, 200.0, crystal="everywhere", edge_px=1.0))
        yield drawn(f"{name}, wedge", d.with_wedge(crystal, 40.0))
        yield drawn(f"{name}, speckle", d.with_carbon(crystal, 10.0))
        yield drawn(f"{name}, half carbon", d.with_carbon(d.with_edge(crystal, 0.0, at=0.5), 20.0))
        hum = crystal.draw(generator=torch.Generator().manual_seed(1)).data
        hum = hum + 8 * torch.sin(torch.arange(shape[0]) * (2 * math.pi / 7.3))[:, None]
        yield f"{name}, hum", hum.numpy(), crystal.truth.positions.numpy()
    for radius in (1.2, 2.5):
        yield drawn(f"particle {radius} nm", d.nanoparticle(shape, radius_nm=radius, carbon_nm=60.0))


def compounds() -> Iterator[Drawn]:
    for axis in ("001", "110"):
        yield drawn(f"MgO {axis}", d.rocksalt(shape=(300, 300), axis=axis, pixel_size_nm=0.008))
    cell = ((0.3905, 0.0), (0.0, 0.3905))
    yield drawn("SrTiO3", d.projection(cell, [("Sr", 0, 0), ("TiO", 0.5, 0.5)], (400, 400), 0.01))
    yield drawn("moire", d.twisted_bilayer_mos2(0.05, (400, 400)))
    yield drawn("colloid", d.colloid((512, 512)))


def sizes() -> Iterator[Drawn]:
    for nearest in (2.5, 3.5, 5.0, 8.0, 100.0, 160.0, 250.0):
        yield drawn(f"{nearest} px", lattice(nearest, 0.2, electrons_per_pixel=20.0))


def cases() -> Iterator[Drawn]:
    for path in sorted(CASES.glob("*_truth.csv")):
        name = path.name[: -len("_truth.csv")]
        truth = np.loadtxt(path, delimiter=",", skiprows=1)[:, :2]
        yield name, np.load(CASES / f"{name}.npy").astype(np.float32), truth


KINDS: dict[str, Callable[[], Iterator[Drawn]]] = {
    kind.__name__: kind
    for kind in (square, rectangular, two_sublattices, hexagonal, low_dose, dumbbells, disturbed, compounds, sizes, cases)
}  # fmt: skip


def judged(image: np.ndarray, truth: np.ndarray, *, find: bool) -> tuple[float, str]:
    """Measured over true spacing, and more to be said."""
    nearest = float(np.median(cKDTree(truth).query(truth, k=2)[0][:, 1]))
    try:
        if not find:
            return characteristic_spacing(image).pixels / nearest, ""
        columns = tm.find_columns(image)
    except tm.errors.InputError as error:
        return math.nan, str(error)[:40]
    if len(columns) == 0:
        return columns.spacing / nearest, "none found"
    inner = [at[((at > nearest / 2) & (at < np.array(image.shape) - 1 - nearest / 2)).all(1)]
             for at in (truth, columns.positions)]  # fmt: skip
    recall = (cKDTree(columns.positions).query(inner[0])[0] < 0.3 * nearest).mean()
    precision = (cKDTree(truth).query(inner[1])[0] < 0.3 * nearest).mean() if len(inner[1]) else math.nan
    return columns.spacing / nearest, f"recall {recall:.3f} precision {precision:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description="spacing against the truth")
    parser.add_argument("kinds", nargs="*", help=f"of {', '.join(KINDS)}; by default all")
    parser.add_argument(
        "--find", action="store_true", help="as find_columns has it, with recall and precision"
    )
    parser.add_argument("--all", action="store_true", help="one line for each specimen")
    given = parser.parse_args()
    for kind in given.kinds or KINDS:
        right, count = 0, 0
        for name, image, truth in KINDS[kind]():
            start = time.process_time()
            ratio, more = judged(image, truth, find=given.find)
            spent = time.process_time() - start
            good = abs(ratio - 1) <= 0.05
            right, count = right + good, count + 1
            if given.all or not good or spent > 20:
                sys.stdout.write(
                    f"  {kind}: {name}: {ratio:.3f} {more} ({1e6 * spent / image.size:.1f} us/px)\n"
                )
        sys.stdout.write(f"{kind}: {right} of {count} within 5 %\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
