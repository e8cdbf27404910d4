"""How often the self-check warns of results that are right, and of such as are wrong.

    python benchmarks/columns/false_alarms.py [draws] [--right]

Right are draws of the simulated specimens at several doses and sizes of which 0.9 of the columns are found and 0.9 of those found are
true (`--right`: these alone, of 256 px); wrong are those of which fewer are, with a spacing or a polarity that is not theirs, speckle with a spacing given, and very low
doses. Every result that is right and carries a warning, and every one that is wrong and carries none, is printed.
"""

import argparse
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.datasets import Specimen

d = tm.datasets
SIDES, DOSES = (256, 320, 384), (1.0, 0.3, 0.1, 10.0, 0.05)
ENOUGH, NEAR = 0.9, 0.3
MAKE: dict[str, Callable[[tuple[int, int], int], Specimen]] = {
    "mose2": lambda shape, seed: d.mose2(shape, random_state=seed),
    "mose2, grains": lambda shape, seed: d.mose2(shape, grains=3, random_state=seed),
    "ws2, vacancies": lambda shape, seed: d.mx2("W", "Se", shape, vacancy_rate=0.1, random_state=seed),
    "oxide": lambda shape, seed: d.pentagonal_oxide(shape, random_state=seed),
    "perovskite": lambda shape, seed: d.perovskite(shape, random_state=seed),
    "bilayer": lambda shape, seed: d.twisted_bilayer_mos2(0.1 + 0.01 * seed, shape),
    "square": lambda shape, seed: d.square(shape, rotation_rad=0.1 * seed),
    "square, two": lambda shape, seed: d.square(shape, lattice_nm=0.39, middle=0.45, rotation_rad=0.1 * seed),
    "rectangular": lambda shape, seed: d.rectangular(shape, ratio=1.3 + 0.2 * seed, rotation_rad=0.1 * seed),
    "rock salt": lambda shape, seed: d.rocksalt("Sr", "O", shape, lattice_nm=0.516, rotation_rad=0.1 * seed),
    "dumbbells": lambda shape, seed: d.dumbbells(shape, rotation_rad=0.1 * seed),
    "particle": lambda shape, seed: d.nanoparticle(shape, radius_nm=1.5, random_state=seed),
    "colloid": lambda shape, seed: d.colloid(shape, random_state=seed),
}
WEAK = {"oxide": 0.75}  # share of the truth that is bright enough to be seen

Result = tuple[str, str, float, float, list[str]]  # kind, draw, recall, precision, warnings


def judged(
    kind: str, name: str, pixels: Any, truth: np.ndarray, *, seen: float = 1.0, **options: Any
) -> Result:
    """One result, its recall over the share of the truth that can be `seen`; an error is a warning."""
    try:
        result = tm.analyze(pixels, progress=False, **options)
    except tm.errors.InputError as error:
        return kind, name, 0.0, 0.0, [str(error)]
    at = np.asarray(result.columns.positions)
    if not len(truth):
        return kind, name, 0.0, 0.0, result.warnings
    near = NEAR * np.median(cKDTree(truth).query(truth, k=2)[0][:, 1])
    recall = min(float((cKDTree(at).query(truth)[0] < near).mean()) / seen, 1.0)
    precision = float((cKDTree(truth).query(at)[0] < near).mean())
    return kind, name, recall, precision, result.warnings


def drawn(specimen: Specimen, dose: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels, and the columns in the image."""
    image = specimen.draw(dose, torch.Generator().manual_seed(seed))
    truth = np.asarray(specimen.truth.positions)
    inside = ((truth >= 0) & (truth <= np.array(image.shape) - 1)).all(1)
    return np.asarray(image.data, np.float32), truth[inside]


def results(draws: int, *, right: bool) -> Iterator[Result]:
    """All of them, or those that should be right alone."""
    for seed in range(draws):
        for name, make in MAKE.items():
            side = SIDES[0] if right else SIDES[seed % len(SIDES)]
            dose = DOSES[(seed // len(SIDES) + seed) % len(DOSES)]
            specimen = make((side, side), seed)
            pixels, truth = drawn(specimen, dose, seed)
            said = f"{name}, {side} px, dose {dose:g}, seed {seed}"
            seen = WEAK.get(name, 1.0)
            one = judged("right", said, pixels, truth, seen=seen)
            enough = one[2] >= ENOUGH and one[3] >= ENOUGH
            yield ("right" if enough else "found in part", *one[1:])
            if not right and seed < max(1, draws // 8) and name not in {"colloid", "particle"}:
                spacing = 0.0 if not enough else float(tm.find_columns(pixels).spacing)
                for share in (0.55, 1.8):
                    if spacing * share >= 2:
                        wrong = {"seen": seen, "spacing": share * spacing}
                        yield judged("spacing wrong", f"{said}, {share} x", pixels, truth, **wrong)
                inverted = pixels.max() - pixels
                yield judged(
                    "inverted, said to be bright", said, inverted, truth, seen=seen, polarity="bright"
                )
                yield judged("inverted", said, inverted, truth, seen=seen)
                pixels, truth = drawn(specimen, 0.004, seed)
                yield judged("very low dose", said, pixels, truth, seen=seen)
    if right:
        return
    rng = np.random.default_rng(0)
    for number in range(max(2, draws)):
        width = (1.5, 2.5, 4.0)[number % 3]
        field = gaussian_filter(rng.standard_normal((300, 300)), width)
        pixels = (field / field.std() + 0.3 * rng.standard_normal(field.shape)).astype(np.float32)
        yield judged("speckle", f"{width} px", pixels, np.zeros((0, 2)))
        yield judged("speckle, spacing given", f"{width} px", pixels, np.zeros((0, 2)), spacing=5 * width)
    for number in range(max(2, draws // 3)):
        lumps = gaussian_filter(rng.poisson((0.01, 0.02, 0.05)[number % 3], (300, 300)).astype(float), 3.0)
        pixels = rng.poisson(30 * lumps / lumps.mean()).astype(np.float32)
        yield judged("few atoms under the probe", f"draw {number}", pixels, np.zeros((0, 2)))


def main() -> None:
    """Count, and print what is not as it should be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("draws", nargs="?", type=int, default=9)
    parser.add_argument("--right", action="store_true", help="those that should be right alone, of 256 px")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    count: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for kind, name, recall, precision, said in results(given.draws, right=given.right):
        good = recall >= ENOUGH and precision >= ENOUGH and kind != "right"
        group = f"{kind}, and right all the same" if good else kind
        count[group][0] += bool(said)
        count[group][1] += 1
        right = kind == "right" or good
        sys.stderr.write(f"{sum(every for _, every in count.values())}\r")
        if right == bool(said):
            sys.stdout.write(
                f"{group}: {name}: recall {recall:.2f}, precision {precision:.2f}: {'; '.join(said)[:150] or 'silent'}\n"
            )
            sys.stdout.flush()
    for group, (warned, every) in count.items():
        sys.stdout.write(f"{group}: {warned} of {every} carry a warning\n")


if __name__ == "__main__":
    main()
