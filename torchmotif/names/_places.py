"""How bright an image is at places where no column was found."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

__all__ = ["intensities_at"]

_NEIGHBOURS = 12  # columns whose light is taken off around a place: two shells
_REACH = (
    2.5  # widths of a column around it that say how bright it is; farther away the neighbours are brighter
)
_BATCH = 4_000  # places at a time


def intensities_at(image: Any, columns: Any, places: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Intensity above the background, and its standard error, at places where no column was found.

    A column of the width of all and a constant are fitted to the pixels around each place, less the columns beside it.

    Parameters
    ----------
    image : array of shape (h, w)
    columns : Columns
    places : array of shape (k, 2)
        (row, col) in pixels.

    Returns
    -------
    two arrays of shape (k,), float64
        In units of the columns' intensities; NaN where no pixel was measured, or the columns have no width.
    """
    at = np.asarray(places, np.float64).reshape(-1, 2)
    found = np.full((2, len(at)), np.nan)
    if columns.width is None or not len(at) or not len(columns):
        return found[0], found[1]
    width, pixels = np.asarray(columns.width, np.float64), np.asarray(image, np.float64)
    positions, bright = np.asarray(columns.positions), np.asarray(columns.intensities, np.float64)
    tree = cKDTree(positions)
    for first in range(0, len(at), _BATCH):
        some = slice(first, first + _BATCH)
        found[:, some] = _fitted(pixels, positions, bright, tree=tree, width=width, at=at[some])
    return found[0], found[1]


def _fitted(
    pixels: NDArray[np.float64],
    positions: NDArray[np.float64],
    bright: NDArray[np.float64],
    *,
    tree: Any,
    width: NDArray[np.float64],
    at: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Intensities and errors at a batch of places, shape (2, k)."""
    half = [max(math.ceil(_REACH * float(one)), 1) for one in width]
    middle = np.rint(at).astype(np.int64)
    rows = middle[:, 0, None, None] + np.arange(-half[0], half[0] + 1)[:, None]
    cols = middle[:, 1, None, None] + np.arange(-half[1], half[1] + 1)
    rows, cols = np.broadcast_arrays(rows, cols)
    within = (rows >= 0) & (rows < pixels.shape[0]) & (cols >= 0) & (cols < pixels.shape[1])
    values = pixels[rows.clip(0, pixels.shape[0] - 1), cols.clip(0, pixels.shape[1] - 1)]

    def column(centre: NDArray[np.float64]) -> NDArray[np.float64]:
        row, col = (centre[:, axis, None, None] for axis in (0, 1))
        shape = np.exp(-0.5 * (((rows - row) / width[0]) ** 2 + ((cols - col) / width[1]) ** 2))
        return np.asarray(shape / (2 * np.pi * width.prod()))

    near = tree.query(at, k=range(1, min(_NEIGHBOURS, len(positions)) + 1))[1]
    rest = values - sum(bright[one][:, None, None] * column(positions[one]) for one in near.T)
    use = (within & np.isfinite(values)).reshape(len(at), -1)
    rest = np.where(use, rest.reshape(len(at), -1), 0.0)
    design = np.stack([column(at).reshape(len(at), -1), np.ones(use.shape)], axis=-1) * use[..., None]
    normal = np.swapaxes(design, 1, 2) @ design
    good = use.sum(axis=1) > 8
    normal[~good] = np.eye(2)
    inverse = np.linalg.inv(normal)
    solved = (inverse @ np.swapaxes(design, 1, 2) @ rest[..., None])[..., 0]
    residual = rest - (design @ solved[..., None])[..., 0]
    variance = (residual**2 * use).sum(axis=1) / np.maximum(use.sum(axis=1) - 2, 1)
    error = np.sqrt(variance * inverse[:, 0, 0])
    return np.where(good, np.stack([solved[:, 0], error]), np.nan)
