"""Results of columns at given places."""

from typing import Any

import numpy as np

import torchmotif as tm


def columns_of(
    positions: np.ndarray,
    labels: np.ndarray,
    *,
    error: float = 0.05,
    noise: float | None = None,
    seed: int = 0,
    intensities: np.ndarray | None = None,
    pixel_size: Any = 0.02,
) -> tm.MotifResult:
    """A result of columns at given places, with errors as they are stated or otherwise."""
    rng = np.random.default_rng(seed)
    given = positions + rng.normal(scale=error if noise is None else noise, size=positions.shape)
    low = given.min(axis=0) - 10
    given = given - low
    shape = tuple(int(x) + 20 for x in given.max(axis=0))
    order = np.lexsort(given.T[::-1])
    given, labels = given[order], np.asarray(labels)[order]
    bright = 2.0 - labels if intensities is None else np.asarray(intensities)[order]
    n = len(given)
    steps = np.linalg.norm(given[:, None] - given[None, : min(n, 200)], axis=2)
    spacing = float(np.median(np.sort(steps, axis=0)[1]))
    columns = tm.Columns(
        given,
        bright.astype(np.float32),
        spacing,
        position_errors=np.full((n, 2), error, np.float32),
        is_rim=np.zeros(n, bool),
    )
    result = tm.MotifResult(
        tm.Micrograph(np.zeros(shape, np.float32), pixel_size),
        columns,
        labels.astype(np.int64),
        np.ones(n),
        np.zeros((int(labels.max()) + 1, 5, 5), np.float32),
    )
    result.__dict__["moved"] = (order, low)
    return result


def grid(n: int, basis: np.ndarray) -> np.ndarray:
    """Sites (n * n, 2) of a lattice."""
    i, j = np.meshgrid(np.arange(n), np.arange(n), indexing="ij")
    return np.stack([i.ravel(), j.ravel()], axis=1) @ basis
