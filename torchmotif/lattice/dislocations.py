"""Dislocations: where circuits on a lattice do not close."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from torchmotif.lattice._local import Points
from torchmotif.lattice.grains import Grains
from torchmotif.lattice.linked import joined_triangles

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Dislocations", "find_dislocations"]

Floats = NDArray[np.float64]

_EDGE = 2.3  # longest translations: longer sides make no triangle, so that holes and what lies outside make no circuit
_CORE = 2.5  # longest translations within which triangles that do not close are one core
_USUAL = 3  # columns with triangles on all sides that a core must have around it


@dataclass(frozen=True, eq=False)
class Dislocations:
    """Dislocations inside grains.

    Attributes
    ----------
    positions : array of shape (k, 2)
        (row, col) of the cores in pixels.
    burgers_px : array of shape (k, 2)
        Burgers vectors (row, col) in pixels, of the mean lattice of the grain: what counter-clockwise circuits lack to close, by
        the convention of start and finish in the crystal (Hirth & Lothe, 1982).
    burgers : array of shape (k, 2), int64
        The same in translations a and b of the grain.
    grain : array of shape (k,), int64
    pixel_size_nm : (float, float) or None
    """

    positions: Floats
    burgers_px: Floats
    burgers: NDArray[np.int64]
    grain: NDArray[np.int64]
    pixel_size_nm: tuple[float, float] | None = None

    def __len__(self) -> int:
        """Count them."""
        return len(self.positions)

    def __repr__(self) -> str:
        """Say how many there are."""
        return f"Dislocations({len(self)})"

    def to_dataframe(self) -> "pd.DataFrame":
        """One row for each: row_px, col_px, grain, a, b in translations, and the Burgers vector in pixels and nanometres."""
        import pandas as pd

        table: dict[str, Any] = {
            "row_px": self.positions[:, 0],
            "col_px": self.positions[:, 1],
            "grain": self.grain,
        }
        table |= {"a": self.burgers[:, 0], "b": self.burgers[:, 1]}
        table |= {"burgers_row_px": self.burgers_px[:, 0], "burgers_col_px": self.burgers_px[:, 1]}
        if self.pixel_size_nm is not None:
            table["burgers_nm"] = np.linalg.norm(self.burgers_px * np.array(self.pixel_size_nm), axis=1)
        return pd.DataFrame(table)


def find_dislocations(
    points: Points,
    grains: Grains,
    *,
    scale: Any = (1.0, 1.0),
    pixel_size_nm: tuple[float, float] | None = None,
) -> Dislocations:
    """Dislocations of each grain, from circuits around the triangles between columns of one sublattice.

    Each side of a triangle is a whole number of translations, told by the lattices around its ends; around a triangle they add
    up to nothing, but at a core. Triangles near one another are one core, and those that make nothing together, such as two
    around a side that was counted wrong, are none. Cores of several sublattices at one place with one Burgers vector are one.

    Parameters
    ----------
    points : Points
        Positions in pixels that are square.
    grains : Grains
    scale : (float, float)
        By how much `points` are stretched along (row, col).
    pixel_size_nm : (float, float), optional

    Returns
    -------
    Dislocations
    """
    stretch = np.asarray(scale, np.float64)
    found: list[tuple[Floats, NDArray[np.int64], int, int]] = []
    for number, grain in enumerate(grains.grains):
        cell = grain.basis * stretch
        here = (grains.labels == number) & (points.group >= 0)
        for group in np.unique(points.group[here]).tolist():
            rows = np.flatnonzero(here & (points.group == group))
            cores = _cores(
                points.positions[rows], grains.bases[rows] * stretch, cell, doubtful=~grains.inside[rows]
            )
            found += [(place, vector, number, len(rows)) for place, vector in zip(*cores, strict=True)]
    if not found:
        none = np.zeros((0, 2))
        return Dislocations(none, none, none.astype(np.int64), np.zeros(0, np.int64), pixel_size_nm)
    place = np.stack([one[0] for one in found])
    vector = np.stack([one[1] for one in found])
    grain_of, weight = np.array([one[2] for one in found]), np.array([one[3] for one in found])
    longest = float(np.max([np.linalg.norm(g.basis * stretch, axis=1).max() for g in grains.grains]))
    pairs = cKDTree(place).query_pairs(_CORE * longest, output_type="ndarray").reshape(-1, 2)
    alike = (vector[pairs[:, 0]] == vector[pairs[:, 1]]).all(axis=1) & (
        grain_of[pairs[:, 0]] == grain_of[pairs[:, 1]]
    )
    pairs = pairs[alike]
    links = coo_array((np.ones(len(pairs)), pairs.T), shape=(len(place),) * 2)
    which = connected_components(links, directed=False)[1]
    total = np.bincount(which, weight)
    middle = np.stack([np.bincount(which, weight * place[:, i]) for i in (0, 1)], axis=1) / total[:, None]
    first = np.array([np.flatnonzero(which == one)[0] for one in range(len(total))])
    bases = np.stack([grains.grains[grain_of[one]].basis for one in first])
    in_px = np.einsum("kp,kpi->ki", vector[first].astype(np.float64), bases)
    return Dislocations(middle / stretch, in_px, vector[first], grain_of[first], pixel_size_nm)


def _cores(
    positions: Floats, bases: Floats, cell: Floats, *, doubtful: NDArray[np.bool_]
) -> tuple[Floats, NDArray[np.int64]]:
    """Places of cores in one sublattice of a grain, and what circuits around them lack, in translations.

    Around a core no column is inside the grain, by its own lattice: where none is doubtful (n,), circuits close.
    """
    longest = float(np.linalg.norm(cell, axis=1).max())
    away = cKDTree(positions[doubtful]).query(positions, distance_upper_bound=(2 * _CORE + _EDGE) * longest)[
        0
    ]
    positions, bases = (one[np.isfinite(away)] for one in (positions, bases))
    corners = joined_triangles(positions, _EDGE * longest)
    nothing = np.zeros((0, 2)), np.zeros((0, 2), np.int64)
    if not len(corners):
        return nothing
    # Counter-clockwise, with rows pointing down.
    a, b, c = (positions[corners[:, i]] for i in range(3))
    area = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    turned = np.flatnonzero(area < 0)
    corners[turned] = corners[turned][:, [0, 2, 1]]
    known = np.asarray(np.isfinite(bases).all(axis=(1, 2)), bool)
    around = np.where(known[:, None, None], bases, cell)
    ends = np.roll(corners, -1, axis=1)
    step = positions[ends] - positions[corners]
    local = (around[corners] + around[ends]) / 2
    cells = np.einsum("tsi,tsij->tsj", step, np.linalg.inv(local))
    whole = np.rint(cells)
    missing = -np.asarray(whole.sum(axis=1), np.float64).astype(np.int64)
    open_ = np.flatnonzero(missing.any(axis=1))
    if not len(open_):
        return nothing
    middle = positions[corners[open_]].mean(axis=1)
    pairs = cKDTree(middle).query_pairs(_CORE * longest, output_type="ndarray").reshape(-1, 2)
    links = coo_array((np.ones(len(pairs)), pairs.T), shape=(len(middle),) * 2)
    which = connected_components(links, directed=False)[1]
    count = np.bincount(which)
    total = np.stack([np.bincount(which, missing[open_, i]) for i in (0, 1)], axis=1)
    place = np.stack([np.bincount(which, middle[:, i]) for i in (0, 1)], axis=1) / count[:, None]
    real: NDArray[np.bool_] = np.asarray(np.rint(total).any(axis=1), bool) & _surrounded(
        place, positions[corners].mean(axis=1), longest
    )
    return place[real], np.rint(total[real]).astype(np.int64)


def _surrounded(places: Floats, triangles: Floats, longest: float) -> NDArray[np.bool_]:
    """Whether there are triangles on all four sides of a place: at the rim of a grain no circuit is whole."""
    near = cKDTree(triangles).query_ball_point(places, 2 * _CORE * longest)
    found = np.zeros(len(places), bool)
    for number, rows in enumerate(near):  # one for each core, not for each column
        away = triangles[rows] - places[number]
        far = away[np.linalg.norm(away, axis=1) > _CORE * longest]
        side = ((np.arctan2(far[:, 0], far[:, 1]) + np.pi) / (np.pi / 4)).astype(np.int64) % 8
        found[number] = (np.bincount(side, minlength=8) >= _USUAL).all()
    return found
