"""Reciprocal bases: whether two are of one lattice, by the orders of the one that are orders of the other."""

import math

import numpy as np

__all__ = ["ALIKE", "SAME", "alike", "holds", "orders_in", "reduced", "separation", "shortest"]

ALIKE = 0.06  # of a reciprocal vector, by which those of one crystal may differ between blocks
SAME = 1.5  # cells of one lattice in one of the other: that is the same
_TURNED_AT_MOST = 0.3  # of a reciprocal vector: farther apart, the orders of one lattice may be nearer to others of the other


def shortest(basis: np.ndarray) -> float:
    """Pixels of the shortest translation of the lattice that a reciprocal basis spans."""
    a, b = (float(np.linalg.norm(one)) for one in reduced(basis))
    return min(a, b) / abs(float(np.linalg.det(basis)))


def alike(basis: np.ndarray, other: np.ndarray, within: float = ALIKE) -> bool:
    """Whether two bases are of the same lattice, `within` a share of their vectors."""
    whole = orders_in(basis, other, within)
    return whole is not None and bool(abs(np.linalg.det(whole)) < SAME)


def holds(basis: np.ndarray, other: np.ndarray, within: float = ALIKE) -> bool:
    """Whether the vectors of another basis are some, but not all, of the orders of this one's lattice, `within` a share of their vectors."""
    whole = orders_in(other, basis, within)
    return whole is not None and bool(abs(np.linalg.det(whole)) >= SAME)


def separation(basis: np.ndarray, other: np.ndarray) -> float:
    """Distance in periods per pixel between the nearest low orders of two lattices; infinite where they are nowhere about alike."""
    whole = orders_in(basis, other, _TURNED_AT_MOST)
    if whole is None:
        return math.inf
    return float(np.linalg.norm(basis - whole @ other, axis=1).min())


def orders_in(basis: np.ndarray, other: np.ndarray, within: float = ALIKE) -> np.ndarray | None:
    """The whole numbers by which another basis gives this one, if they are such and independent."""
    order = basis @ np.linalg.inv(other)
    whole: np.ndarray = np.round(order)
    off = np.linalg.norm((order - whole) @ other, axis=1) / np.linalg.norm(basis, axis=1)
    return whole if abs(np.linalg.det(whole)) > 0.5 and (off < within).all() else None


def reduced(basis: np.ndarray) -> np.ndarray:
    """The shortest vectors of the same lattice (Gauss)."""
    a, b = basis
    for _ in range(20):
        if a @ a > b @ b:
            a, b = b, a
        n = round(float(a @ b / (a @ a)))
        if n == 0:
            break
        b = b - n * a
    return np.stack([a, b])
