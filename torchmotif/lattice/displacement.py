"""Displacements: how far columns are from where the lattice around them puts them."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.stats import chi2

from torchmotif.errors import InputError
from torchmotif.lattice._local import RADIUS, LocalFits, Points, fit_around, sparse_rows, start_bases
from torchmotif.lattice.field import ColumnField

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Displacements", "displacements_within"]

Floats = NDArray[np.float64]
Reference = Literal["centre", "mean"]

# Places of high symmetry in a cell: corners, middles of edges and of the cell, and the two middles of the triangles of a
# hexagonal cell whose angle is 120 degrees.
_CENTRES = np.array([[0, 0], [1 / 2, 0], [0, 1 / 2], [1 / 2, 1 / 2], [1 / 3, 2 / 3], [2 / 3, 1 / 3]])
_ANGLE = 0.2  # radians from 120 degrees within which a cell counts as hexagonal
_NEAR = 0.2  # of the shortest translation, within which a column belongs to the middle of a cage


@dataclass(frozen=True, eq=False, repr=False)
class Displacements(ColumnField):
    """Displacements of columns from where the lattice around them puts them, (row, col) in pixels, with their errors.

    Attributes
    ----------
    pixel_size_nm : (float, float) or None
    radius : float
        Of the local fits, in pixels.
    cell_area : array of shape (m,)
        Of the cell of the lattice around each column, in square pixels.
    """

    pixel_size_nm: tuple[float, float] | None = None
    radius: float = 0.0
    cell_area: Any = None

    @property
    def _pm(self) -> Floats:
        """Picometres per pixel along (row, col)."""
        if self.pixel_size_nm is None:
            raise InputError(
                "the image has no pixel size, so displacements have none in picometres; give tm.Micrograph a pixel_size, "
                "or take `values`, in pixels"
            )
        return np.asarray(1000 * np.array(self.pixel_size_nm), np.float64)

    @property
    def values_pm(self) -> Floats:
        """The displacements (row, col) in picometres, shape (m, 2).

        Raises
        ------
        InputError
            If the pixel size is not known.
        """
        return self.values * self._pm

    @property
    def errors_pm(self) -> Floats:
        """Their standard errors in picometres, shape (m, 2)."""
        return self.errors * self._pm

    @property
    def length(self) -> Floats:
        """Length of each displacement in pixels along the rows of the image, shape (m,)."""
        row, col = self.pixel_size_nm or (1.0, 1.0)
        return np.asarray(np.linalg.norm(self.values * np.array([row / col, 1.0]), axis=1), np.float64)

    @property
    def angle_rad(self) -> Floats:
        """Direction of each, counter-clockwise from that in which columns count up, shape (m,)."""
        row, col = self.pixel_size_nm or (1.0, 1.0)
        return np.arctan2(-self.values[:, 0] * row / col, self.values[:, 1])

    def detection_limit(self, level: float = 0.05) -> Floats:
        """Length in pixels from which the displacement of a single column is significant, shape (m,)."""
        mean = np.einsum("mii->m", self.covariance) / 2
        return np.asarray(np.sqrt(mean * chi2.isf(level, 2)), np.float64)

    def to_dataframe(self) -> "pd.DataFrame":
        """As `ColumnField.to_dataframe`, and in picometres where the image is calibrated."""
        table = super().to_dataframe()
        if self.pixel_size_nm is not None:
            values = self.values_pm
            for i, name in enumerate(("row", "col")):
                table[f"{name}_shift_pm"] = values[:, i]
                table[f"{name}_shift_pm_error"] = self._pm[i] * table[f"{name}_shift_px_error"]
        return table


def displacements_within(
    points: Points,
    of: NDArray[np.bool_],
    within: NDArray[np.bool_],
    *,
    scale: Any = (1.0, 1.0),
    radius: float | None = None,
    reference: Reference = "centre",
    pixel_size_nm: tuple[float, float] | None = None,
    grains: NDArray[np.int64] | None = None,
) -> Displacements:
    """Displacements of some columns from places in the lattice that others make around them.

    Around each column an affine lattice is fitted to the others, without itself. The column's place in the cell is the
    nearest middle of a cage: a site, the middle of an edge, of the cell, or of a triangle of a hexagonal lattice.

    Parameters
    ----------
    points : Points
        All columns.
    of, within : boolean arrays of shape (n,)
        Columns to look at, and columns that make the lattice; they may be the same.
    scale : (float, float)
        By how much `points` are stretched along (row, col).
    radius : float, optional
        Of the fits, in pixels; by default 1.65 times the longer translation. A larger one is surer, and follows bends of the
        lattice less closely.
    reference : {"centre", "mean"}
        Zero is the middle of the cage, or the mean place of all columns in the same middle.
    pixel_size_nm : (float, float), optional
    grains : array of shape (n,), int64, optional
        Grain of each column: only columns of its own make the lattice around it.

    Returns
    -------
    Displacements

    Raises
    ------
    InputError
        If no lattice is found, or no column sits near a middle of its cells.
    """
    if reference not in {"centre", "mean"}:
        raise InputError(f"reference must be 'centre' or 'mean', got {reference!r}")
    lattice, target = points.only(within & (points.group >= 0)), np.flatnonzero(of & (points.group >= 0))
    if not len(target):
        raise InputError("of names no column that was measured well enough")
    bases, number = start_bases(lattice)
    if not (number >= 0).any():
        raise InputError(
            f"within names {int((lattice.group >= 0).sum())} columns that form no lattice; name the columns of one sublattice"
        )
    longest = float(np.nanmedian(np.linalg.norm(bases[lattice.group >= 0], axis=2).max(axis=1)))
    radius = RADIUS * longest if radius is None else radius
    if not longest <= radius < np.inf:
        raise InputError(f"radius must be at least {longest:.1f} pixels, one translation, got {radius}")
    own = None if grains is None else (grains, grains[target])
    fits = fit_around(lattice, points.positions[target], bases[target], radius, own=target, grains=own)
    place, which = _places(fits, points.positions[target])
    shift, operator = _shifts(fits, points, target, place)
    near = np.linalg.norm(shift, axis=1) < _NEAR * np.linalg.norm(fits.basis, axis=2).min(axis=1)
    shift[~near] = np.nan
    if not near.any():
        raise InputError(
            "no column of `of` sits near a site of the lattice of `within`, or near the middle of its cells, edges or "
            "triangles; name another sublattice"
        )
    if reference == "mean":
        kind = number[target] * len(_CENTRES) + which
        for one in np.unique(kind[near]).tolist():
            shift[kind == one] -= shift[(kind == one) & near].mean(axis=0)
    stretch = np.asarray(scale, np.float64)
    jacobian = np.broadcast_to(np.eye(2)[:, None, :], (len(target), 2, 1, 2))
    return Displacements(
        target,
        points.positions[target] / stretch,
        shift / stretch,
        ("row_shift_px", "col_shift_px"),
        points.jitter / stretch,
        (operator,),
        np.asarray(jacobian, np.float64),
        points.variance / stretch**2,
        pixel_size_nm,
        radius,
        np.abs(fits.basis[:, 0, 0] * fits.basis[:, 1, 1] - fits.basis[:, 0, 1] * fits.basis[:, 1, 0]),
    )


def _places(fits: LocalFits, positions: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Place of each column in the lattice around it, in cells, moved to the nearest middle of a cage; and which that is."""
    basis = np.where(fits.known[:, None, None], fits.basis, np.eye(2))
    cells = np.einsum("mi,mij->mj", positions - fits.middle, np.linalg.inv(basis)) + fits.middle_index
    cells = np.where(fits.known[:, None], cells, 0.0)
    corner = np.floor(cells)
    choice = corner[:, None, None] + _CENTRES[:, None] + np.array([[0, 0], [1, 0], [0, 1], [1, 1]])
    away = np.linalg.norm((choice - cells[:, None, None]) @ basis[:, None], axis=3)
    a, b = basis[:, 0], basis[:, 1]
    cosine = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    hexagonal = np.abs(np.arccos(cosine.clip(-1, 1)) - 2 * np.pi / 3) < _ANGLE
    away[~hexagonal, 4:] = np.inf
    best = away.reshape(len(away), -1).argmin(axis=1)
    place = np.take_along_axis(choice.reshape(len(away), -1, 2), best[:, None, None], axis=1)[:, 0]
    return place, best // 4


def _shifts(
    fits: LocalFits, points: Points, target: NDArray[np.int64], place: Floats
) -> tuple[Floats, csr_array]:
    """Displacements from places in the lattice, and the matrix that leads to them from all positions."""
    step = place - np.nan_to_num(fits.middle_index)
    weights = fits.middle_weights + np.einsum("mkp,mp->mk", fits.weights, step)
    weights[~fits.known] = 0.0
    n, m = len(points.positions), len(target)
    own = csr_array((np.ones(m), (np.arange(m), target)), shape=(m, n))
    operator = csr_array(own - sparse_rows(fits.neighbours, weights, n))
    shift = operator @ points.positions
    shift[~fits.known] = np.nan
    return shift, operator


def joined(parts: list[Displacements]) -> Displacements:
    """Displacements of several sublattices as one, by the number of the column."""
    from scipy.sparse import vstack

    columns = np.concatenate([part.columns for part in parts])
    order = np.argsort(columns, kind="stable")
    return replace(
        parts[0],
        columns=columns[order],
        positions=np.concatenate([part.positions for part in parts])[order],
        values=np.concatenate([part.values for part in parts])[order],
        operators=(csr_array(vstack([part.operators[0] for part in parts]))[order],),
        jacobian=np.concatenate([part.jacobian for part in parts])[order],
        radius=max(part.radius for part in parts),
        cell_area=np.concatenate([part.cell_area for part in parts])[order],
    )
