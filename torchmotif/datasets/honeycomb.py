"""The honeycomb of a monolayer: one crystal, grains, a mirror twin, holes."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from torchmotif.errors import InputError

__all__ = ["Lattice", "grown", "rotation", "single", "without_holes"]

_MARGIN = 4  # lattice constants around the image that are filled as well
_OPENING = 0.12  # of a, by which each side of a mirror twin moves away, so that its metals do not touch


class Lattice(NamedTuple):
    """Sites before anything sits on them."""

    positions: np.ndarray  # (n, 2) in pixels
    chalcogen: np.ndarray  # (n,) bool
    grains: np.ndarray  # (n,) int


def _honeycomb(shape: tuple[int, int], constant: float, rotation_rad: float) -> tuple[np.ndarray, np.ndarray]:
    """Sites (n, 2) of a honeycomb about the image's middle, in crystal axes, as far as its corners, and which are X."""
    across = math.hypot(*shape) / 2 + _MARGIN * constant
    n = math.ceil(across / (constant * math.sqrt(3) / 2)) + 2
    row, k = np.meshgrid(np.arange(-n, n + 1), np.arange(-n - 1, n + 2), indexing="ij")
    metal = np.stack([-row * (math.sqrt(3) / 2), k + 0.5 * (row % 2)], axis=-1).reshape(-1, 2) * constant
    both = np.concatenate([metal, metal + constant * np.array([-math.sqrt(3) / 6, 0.5])])
    chalcogen = np.arange(len(both)) >= len(metal)
    turn = rotation(rotation_rad)
    half = np.array(shape) / 2 + _MARGIN * constant
    near = (np.abs(both @ turn.T) < half).all(axis=1)
    return both[near], chalcogen[near]


def rotation(angle_rad: float) -> np.ndarray:
    """Matrix (2, 2) that turns (row, col) counter-clockwise, as seen with rows pointing down."""
    cos, sin = math.cos(angle_rad), math.sin(angle_rad)
    return np.array([[cos, -sin], [sin, cos]])


def grown(
    shape: tuple[int, int],
    constant: float,
    rotation_rad: float,
    *,
    grains: int,
    boundary: str,
    rng: np.random.Generator,
) -> Lattice:
    """Sites of all grains in and around the image, none nearer than three quarters of a bond to another."""
    if grains < 1:
        raise InputError(f"grains must be at least 1, got {grains}")
    if boundary not in {"tilt", "mirror"}:
        raise InputError(f"boundary must be 'tilt' or 'mirror', got {boundary!r}")
    if boundary == "mirror":
        if grains not in {1, 2}:
            raise InputError(f"a mirror twin has two grains, got grains={grains}")
        return (
            _mirror_twin(shape, constant, rotation_rad)
            if grains == 2
            else single(shape, constant, rotation_rad)
        )
    if grains == 1:
        return single(shape, constant, rotation_rad)
    centres = rng.random((grains, 2)) * shape
    angles = [rotation_rad, *(rng.random(grains - 1) * (2 * math.pi / 3))]
    parts = [single(shape, constant, angle) for angle in angles]
    cells = cKDTree(centres)
    kept = [
        Lattice(part.positions[mine], part.chalcogen[mine], np.full(mine.sum(), g))
        for g, part in enumerate(parts)
        for mine in [cells.query(part.positions)[1] == g]
    ]
    lattice = Lattice(*(np.concatenate(arrays) for arrays in zip(*kept, strict=True)))
    close = cKDTree(lattice.positions).query_pairs(0.75 * constant / math.sqrt(3), output_type="ndarray")
    keep = np.ones(len(lattice.positions), dtype=bool)
    keep[close.max(axis=1)] = False  # of two that touch across a boundary, the one of the later grain goes
    return Lattice(*(array[keep] for array in lattice))


def single(shape: tuple[int, int], constant: float, rotation_rad: float) -> Lattice:
    """Sites of one crystal in and around the image; `constant` in pixels."""
    sites, chalcogen = _honeycomb(shape, constant, rotation_rad)
    positions = sites @ rotation(rotation_rad).T + (np.array(shape) - 1) / 2
    return Lattice(positions, chalcogen, np.zeros(len(positions), dtype=int))


def _mirror_twin(shape: tuple[int, int], constant: float, rotation_rad: float) -> Lattice:
    sites, chalcogen = _honeycomb(shape, constant, rotation_rad)
    height = sites[:, 0] + constant * math.sqrt(3) / 6  # above the row of X through which the mirror goes
    on = np.abs(height) < 1e-6 * constant
    below = height > 1e-6 * constant
    opening = np.array([_OPENING * constant, 0.0])
    lower = sites[below] + opening
    upper = (sites[below] + np.array([math.sqrt(3) / 6 * constant, 0.0])) * np.array([-1.0, 1.0])
    upper -= np.array([math.sqrt(3) / 6 * constant, 0.0]) + opening
    turned = np.concatenate([sites[on], lower, upper]) @ rotation(rotation_rad).T
    count = on.sum(), below.sum(), below.sum()
    return Lattice(
        turned + (np.array(shape) - 1) / 2,
        np.concatenate([chalcogen[on], chalcogen[below], chalcogen[below]]),
        np.repeat([0, 0, 1], count),
    )


def without_holes(lattice: Lattice, holes: Sequence[tuple[float, float, float]]) -> Lattice:
    """The sites outside all holes, each (row, col, radius) in pixels."""
    keep = np.ones(len(lattice.positions), dtype=bool)
    for row, col, radius in holes:
        if not radius > 0:
            raise InputError(
                f"holes must be (row, col, radius) with a positive radius, got {(row, col, radius)}"
            )
        keep &= np.hypot(*(lattice.positions - (row, col)).T) > radius
    return Lattice(*(array[keep] for array in lattice))
