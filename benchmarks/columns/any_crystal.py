"""Columns of crystals drawn at random: cells, elements, turns and pixel sizes of nine kinds and, if named, two with superlattices, some along the pixels' rows, at several doses.

    python benchmarks/columns/any_crystal.py [--kinds square mx2 ...] [--draws 5] [--seed 7] [--doses 1 1/10 1/33]

Prints every image in which recall of a kind of column or precision is below 0.97, away from the border, and how many there are.
Sites that hold nothing (hollows of the oxide) do not count.
"""

import argparse
import zlib
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree

import torchmotif as tm

SHAPE = (448, 448)
LEAST, FEW = 0.97, 9
EMPTY = "hollow"


def rutile(
    metal: str, side_nm: float, scale: float, turn: float, shape: tuple[int, int] = SHAPE, **more: Any
) -> tm.datasets.Specimen:
    """MO2 along [001]: pairs of oxygen that turn by a right angle from one metal to the next. For more see `projection`."""
    u = 0.306
    pairs = [(u, u), (-u, -u), (0.5 + u, 0.5 - u), (0.5 - u, 0.5 + u)]
    columns = [(metal, 0.0, 0.0), (metal, 0.5, 0.5), *(("O", row % 1, col % 1) for row, col in pairs)]
    cell = ((side_nm, 0.0), (0.0, side_nm))
    return tm.datasets.projection(cell, columns, shape, 0.015 * scale, rotation_rad=turn, **more)


def tilted(scale: float, off_nm: float, turn: float) -> tm.datasets.Specimen:
    """SrTiO3 whose octahedra are rotated about the beam, alternately to either side, which moves oxygen by so much."""
    side, off = 0.3905 * 2**0.5, off_nm / 0.3905 / 2
    oxygen = [(0.25, 0.25, 1, -1), (0.75, 0.75, -1, 1), (0.25, 0.75, 1, 1), (0.75, 0.25, -1, -1)]
    columns = [("Ti", 0.0, 0.0), ("Ti", 0.5, 0.5), ("Sr", 0.5, 0.0), ("Sr", 0.0, 0.5)]
    columns += [("O", row + off * up, col + off * across) for row, col, up, across in oxygen]
    cell = ((side, 0.0), (0.0, side))
    return tm.datasets.projection(cell, columns, SHAPE, 0.015 * scale, rotation_rad=turn)


def drawn(kind: str, rng: np.random.Generator) -> tuple[tm.datasets.Specimen, str]:
    """A specimen of a kind, and how it lies."""
    turn = float(rng.choice([0.0, rng.uniform(0, 1), rng.uniform(0, 1)]))
    scale = float(rng.choice([rng.uniform(0.7, 1.7), rng.uniform(0.7, 1.7), 1.0]))
    seed, data = int(rng.integers(99)), tm.datasets

    def one(*pairs: Any) -> Any:
        return pairs[int(rng.integers(len(pairs)))]

    kinds: dict[str, Callable[[], tm.datasets.Specimen]] = {
        "square": lambda: data.square(
            SHAPE, 0.015 * scale, middle=one(0.0, 0.3, 0.5, 0.8), rotation_rad=turn
        ),
        "rectangular": lambda: data.rectangular(
            SHAPE, 0.015 * scale, ratio=float(rng.uniform(1.2, 3)), rotation_rad=turn
        ),
        "rocksalt": lambda: data.rocksalt(
            *one(("Mg", "O"), ("Ni", "O"), ("Pb", "Te"), ("Na", "Cl")),
            SHAPE,
            0.015 * scale,
            axis=one("001", "110"),
            rotation_rad=turn,
        ),
        "perovskite": lambda: data.perovskite(
            SHAPE, 0.015 * scale, a_site=one("Sr", "Ba", "La"), rotation_rad=turn, random_state=seed
        ),
        "polar": lambda: data.polar_perovskite(
            SHAPE, 0.015 * scale, tetragonality=one(1.0, 1.06), rotation_rad=turn
        ),
        "dumbbells": lambda: data.dumbbells(
            SHAPE,
            0.01 * scale,
            elements=one(("Ga", "As"), ("Si", "Si"), ("In", "P"), ("Al", "N")),
            rotation_rad=turn,
        ),
        "oxide": lambda: data.pentagonal_oxide(SHAPE, 0.022 * scale, rotation_rad=turn, random_state=seed),
        "mx2": lambda: data.mx2(
            *one(("Mo", "S"), ("W", "S"), ("Mo", "Se"), ("W", "Se"), ("Mo", "Te")),
            SHAPE,
            0.014 * scale,
            vacancy_rate=0.04,
            rotation_rad=turn,
            random_state=seed,
        ),
        "rutile": lambda: rutile(*one(("Ti", 0.4594), ("Sn", 0.4737), ("Ru", 0.4492)), scale, turn),
        "tilted": lambda: tilted(scale, float(rng.uniform(0.012, 0.03)), turn),
        "particle": lambda: data.nanoparticle(
            SHAPE,
            0.015 * scale,
            element=one("Au", "Pt", "Pd"),
            axis=one("001", "110"),
            rotation_rad=turn,
            random_state=seed,
        ),
    }
    return kinds[kind](), f"turned by {turn:.2f} rad, pixels of {scale:.3f}"


KINDS = ("square", "rectangular", "rocksalt", "perovskite", "polar", "dumbbells", "oxide", "mx2", "particle")
SUPERLATTICES = ("rutile", "tilted")


def scored(specimen: tm.datasets.Specimen, dose: float, seed: int) -> tuple[dict[str, float], float, float]:
    """Recall of every kind of column, precision, and the spacing over that of the truth."""
    truth, kinds = np.asarray(specimen.truth.positions), np.asarray(specimen.truth.kinds).astype(str)
    apart = float(np.median(cKDTree(truth).query(truth, 2)[0][:, 1]))
    columns = tm.find_columns(specimen.draw(dose, torch.Generator().manual_seed(seed)))
    found = np.asarray(columns.positions)

    def inner(at: np.ndarray) -> np.ndarray:
        kept: np.ndarray = ((at > 1.2 * apart) & (at < np.array(SHAPE) - 1 - 1.2 * apart)).all(axis=1)
        return kept

    hit, mine = cKDTree(found).query(truth)[0] < 0.3 * apart, inner(truth)
    recall = {
        kind: float(hit[mine & (kinds == kind)].mean())
        for kind in np.unique(kinds).tolist()
        if kind != EMPTY and (mine & (kinds == kind)).sum() >= FEW
    }
    right = cKDTree(truth).query(found[inner(found)])[0] < 0.3 * apart
    return recall, float(right.mean()), columns.spacing / apart


def main() -> None:
    """Draw, find, score."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS + SUPERLATTICES)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--doses", nargs="+", default=["1", "1/10", "1/33"])
    options = parser.parse_args()
    images = short = 0
    for kind in options.kinds:
        for number in range(options.draws):
            specimen, how = drawn(
                kind, np.random.default_rng([options.seed, number, zlib.crc32(kind.encode())])
            )
            for dose in options.doses:
                recall, precision, spacing = scored(
                    specimen, float(Fraction(dose)), 1000 * options.seed + number
                )
                images += 1
                if min(recall.values()) < LEAST or precision < LEAST:
                    short += 1
                    kept = ", ".join(f"{name} {value:.3f}" for name, value in recall.items())
                    print(
                        f"{kind} {number} {how}, dose {dose}: {kept}; precision {precision:.3f}, spacing {spacing:.2f}",
                        flush=True,
                    )
    print(f"{images - short} of {images} images have {LEAST} of every kind and precision")


if __name__ == "__main__":
    main()
