"""Lattices with known neighbours, faces and symmetry."""

from collections.abc import Callable

import numpy as np
import pytest

Lattice = Callable[[str, int], np.ndarray]

_OBLIQUE = np.array([[3**0.5 / 2, 0.5], [0, 1]])


def _lattice(name: str, n: int) -> np.ndarray:
    """(row, col) of n x n cells of a lattice with neighbours 10 px apart."""
    grid = np.stack(np.meshgrid(range(n), range(n), indexing="ij"), axis=-1).reshape(-1, 2).astype(float)
    if name == "square":
        return 10 * grid
    if name == "triangular":
        return 10 * grid @ _OBLIQUE
    if name == "honeycomb":
        cells = 10 * 3**0.5 * grid @ _OBLIQUE
        return np.concatenate([cells, cells + 10 * 3**0.5 * _OBLIQUE.sum(axis=0) / 3])
    if name == "kagome":
        return np.concatenate([20 * grid @ _OBLIQUE + shift for shift in (0, *(10 * _OBLIQUE))])
    if name == "snub square":
        x = (3**0.5 - 1) / 4  # the Wyckoff position 4c of p4gm at which all neighbours are equally far
        sites = np.array([[x, x + 0.5], [-x, 0.5 - x], [0.5 - x, x], [x + 0.5, -x]])
        return np.concatenate([grid + site for site in sites]) * 10 * (2 + 3**0.5) ** 0.5
    raise KeyError(name)


@pytest.fixture(scope="session")
def lattice() -> Lattice:
    return _lattice
