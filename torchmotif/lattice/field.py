"""Quantities of columns with their errors: significance, means, smoothed fields and profiles."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array
from scipy.spatial import cKDTree
from scipy.stats import chi2, false_discovery_control

from torchmotif.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ColumnField", "Profile", "of_columns"]

Floats = NDArray[np.float64]

_REACH = 3.0  # standard deviations of the Gaussian that smooths, beyond which nothing counts
_FEWEST = 3  # columns of a mean


@dataclass(frozen=True, eq=False, repr=False)
class Profile:
    """Means of a quantity in bins along a direction, or of the distance from a boundary.

    Attributes
    ----------
    at : array of shape (b,)
        Mean place of the columns of each bin, in pixels.
    values : array of shape (b, c)
    errors : array of shape (b, c)
        Standard errors, propagated from the positions: columns that share neighbours are not independent.
    spread : array of shape (b, c)
        Standard deviation of the columns' values, noise included.
    counts : array of shape (b,), int64
        Columns in each bin.
    names : tuple of c str
    """

    at: Floats
    values: Floats
    errors: Floats
    spread: Floats
    counts: NDArray[np.int64]
    names: tuple[str, ...]

    def __repr__(self) -> str:
        """What it is of, and how many bins."""
        return f"Profile({', '.join(self.names)}; {len(self.at)} bins)"

    def to_dataframe(self) -> "pd.DataFrame":
        """One row for each bin: at_px, columns, and of each quantity the mean, its error and the spread."""
        import pandas as pd

        table: dict[str, Any] = {"at_px": self.at, "columns": self.counts}
        for i, name in enumerate(self.names):
            table |= {name: self.values[:, i], f"{name}_error": self.errors[:, i]}
            table[f"{name}_spread"] = self.spread[:, i]
        return pd.DataFrame(table)


@dataclass(frozen=True, eq=False, repr=False)
class ColumnField:
    """A quantity of m columns with c components, linear in the positions of all n columns near its value.

    Attributes
    ----------
    columns : array of shape (m,), int64
        Their numbers in the result.
    positions : array of shape (m, 2)
        (row, col) in pixels of the image.
    values : array of shape (m, c)
        NaN where nothing is known.
    names : tuple of c str
        Of the components, with their unit.
    jitter : array of shape (2,)
        Standard deviation in pixels along (row, col) by which the columns of all sublattices scatter about local lattices beyond
        counting noise: the scan's, most often. Errors hold it; it is 0 where counting noise is all.
    operators : tuple of p sparse arrays of shape (m, n)
        From the positions of all columns along one axis to p quantities for each place.
    jacobian : array of shape (m, c, p, 2)
        Derivative of each component to each of them, along (row, col).
    variance : array of shape (n, 2)
        Of the positions of all columns along (row, col), jitter included.
    """

    columns: NDArray[np.int64]
    positions: Floats
    values: Floats
    names: tuple[str, ...]
    jitter: Floats
    operators: tuple[csr_array, ...]
    jacobian: Floats
    variance: Floats

    def __len__(self) -> int:
        """Count the columns."""
        return len(self.columns)

    def __repr__(self) -> str:
        """What it is of, and how much of it is known."""
        return f"{type(self).__name__}({', '.join(self.names)}; {len(self)} columns, {int(self.known.sum())} known)"

    @property
    def known(self) -> NDArray[np.bool_]:
        """Where there is a value, shape (m,)."""
        return np.asarray(np.isfinite(self.values).all(axis=1), bool)

    @property
    def covariance(self) -> Floats:
        """Covariance of the components of each column, shape (m, c, c)."""
        m, c = self.values.shape
        parts = len(self.operators)
        found = np.zeros((m, c, c))
        for p in range(parts):
            for q in range(p, parts):
                both = self.operators[p].multiply(self.operators[q]).tocsr() @ self.variance
                left, right = self.jacobian[:, :, p], self.jacobian[:, :, q]
                term = np.einsum("mia,ma,mja->mij", left, both, right)
                found += term if p == q else term + term.swapaxes(1, 2)
        found[~self.known] = np.nan
        return found

    @property
    def errors(self) -> Floats:
        """Standard errors of the values, shape (m, c)."""
        return np.asarray(np.sqrt(np.einsum("mii->mi", self.covariance)), np.float64)

    @property
    def p_values(self) -> Floats:
        """Probability of values as far from zero, or farther, by chance alone, shape (m,); NaN where nothing is known."""
        return _chance(self.values, self.covariance)

    def significant(self, level: float = 0.05) -> NDArray[np.bool_]:
        """Where values differ from zero, so that of those named at most the share `level` is wrong (Benjamini & Hochberg, 1995).

        Parameters
        ----------
        level : float
            Expected share of false ones among them.

        Returns
        -------
        boolean array of shape (m,)

        Raises
        ------
        InputError
            If the level is not between 0 and 1.
        """
        if not 0 < level < 1:
            raise InputError(f"level must lie between 0 and 1, got {level}")
        return _discovered(self.p_values, level)

    def average(self, weights: Any) -> tuple[Floats, Floats]:
        """Weighted means over columns, and their covariances.

        Parameters
        ----------
        weights : array or sparse array of shape (k, m)
            Of each mean; they are normalised, and columns without a value left out.

        Returns
        -------
        means of shape (k, c), covariances of shape (k, c, c)
            Columns that share neighbours are not independent; the covariances count that. NaN where nothing is known.

        Raises
        ------
        InputError
            If the shape is another.
        """
        kernel = csr_array(weights) if np.ndim(weights) != 1 else csr_array(np.asarray(weights)[None])
        if kernel.shape[1] != len(self):
            raise InputError(
                f"weights must have the shape (k, {len(self)}), one for each column, got {kernel.shape}"
            )
        known = self.known
        kernel = csr_array(kernel @ diags_array(known.astype(float)))
        total = np.asarray(kernel.sum(axis=1)).ravel()
        kernel = csr_array(diags_array(1 / np.where(total > 0, total, 1.0)) @ kernel)
        means = kernel @ np.where(known[:, None], self.values, 0.0)
        covariance = self._propagated(kernel)
        means[total <= 0], covariance[total <= 0] = np.nan, np.nan
        return means, covariance

    def _propagated(self, kernel: csr_array) -> Floats:
        """Covariance of linear combinations of the values, shape (k, c, c)."""
        c = self.values.shape[1]
        found = np.zeros((kernel.shape[0], c, c))
        for axis in (0, 1):
            paths = [self._path(kernel, i, axis) for i in range(c)]
            for i, left in enumerate(paths):
                for j, right in enumerate(paths[: i + 1]):
                    if left is None or right is None:
                        continue
                    term = left.multiply(right).tocsr() @ self.variance[:, axis]
                    found[:, i, j] += term
                    found[:, j, i] += term if i != j else 0.0
        return found

    def _path(self, kernel: csr_array, component: int, axis: int) -> csr_array | None:
        """From the positions along one axis to combinations of one component."""
        found = None
        for p, operator in enumerate(self.operators):
            slope = np.nan_to_num(self.jacobian[:, component, p, axis])
            if slope.any():
                term = diags_array(slope) @ operator
                found = term if found is None else found + term
        return None if found is None else csr_array(kernel @ found)

    def smoothed(self, radius: float) -> tuple[Floats, Floats]:
        """The field smoothed by a Gaussian, at each column, and its standard errors.

        Parameters
        ----------
        radius : float
            Standard deviation of the Gaussian in pixels: what is finer is lost, what is left is surer.

        Returns
        -------
        values, errors : arrays of shape (m, c)

        Raises
        ------
        InputError
            If the radius is not positive.
        """
        if not 0 < radius < np.inf:
            raise InputError(f"radius must be a positive number of pixels, got {radius}")
        tree = cKDTree(self.positions)
        pairs = tree.sparse_distance_matrix(tree, _REACH * radius, output_type="coo_matrix").tocsr()
        pairs.data = np.exp(-0.5 * (pairs.data / radius) ** 2)
        values, covariance = self.average(csr_array(pairs) + diags_array(np.ones(len(self))))
        return values, np.sqrt(np.einsum("mii->mi", covariance))

    def profile(
        self,
        angle_rad: float | None = None,
        *,
        distance: Any = None,
        width: float | None = None,
        bins: int = 20,
        of: Any = None,
    ) -> Profile:
        """Means along a direction, or with the distance from something.

        Parameters
        ----------
        angle_rad : float, optional
            Direction, counter-clockwise from that in which columns count up; places count from the first pixel.
        distance : array of shape (m,), optional
            In its stead: of each column, in pixels, with a sign or without. `Grains.distance` gives those from a boundary.
        width : float, optional
            Of a bin in pixels; by default there are `bins`.
        bins : int
        of : boolean array of shape (m,), optional
            Columns to take.

        Returns
        -------
        Profile

        Raises
        ------
        InputError
            If both or none of direction and distance are given, shapes differ, or no column has a value there.
        """
        if (angle_rad is None) == (distance is None):
            raise InputError("give either angle_rad or distance")
        if angle_rad is not None:
            at = self.positions @ np.array([-np.sin(angle_rad), np.cos(angle_rad)])
        else:
            at = np.asarray(distance, np.float64)
        taken = np.ones(len(self), bool) if of is None else np.asarray(of, bool)
        if at.shape != (len(self),) or taken.shape != (len(self),):
            raise InputError(
                f"distance and of must have the shape ({len(self)},), got {at.shape} and {taken.shape}"
            )
        taken = taken & self.known & np.isfinite(at)
        if not taken.any():
            raise InputError(
                "no column has a value there: take other columns, or a larger radius of the fits"
            )
        low, high = at[taken].min(), at[taken].max()
        if width is not None and not 0 < width < np.inf:
            raise InputError(f"width must be a positive number of pixels, got {width}")
        if width is None and bins < 1:
            raise InputError(f"bins must be at least 1, got {bins}")
        step = width or max(float(high - low) / bins, 1e-9)
        number = ((at - low) / step).clip(0, None)
        which = np.minimum(np.where(taken, number, 0).astype(np.int64), int((high - low) / step))
        which = np.minimum(which, bins - 1) if width is None else which
        rows, column = which[taken], np.flatnonzero(taken)
        members = csr_array((np.ones(len(rows)), (rows, column)), shape=(int(rows.max()) + 1, len(self)))
        counts = np.bincount(rows, minlength=members.shape[0])
        members, counts = members[counts >= _FEWEST], counts[counts >= _FEWEST]
        if not len(counts):
            raise InputError(f"every bin has fewer than {_FEWEST} columns: take a larger width or fewer bins")
        values, covariance = self.average(members)
        each = np.where(self.known[:, None], self.values, 0.0)
        second = (members @ each**2) / counts[:, None]
        spread = np.sqrt(np.maximum(second - values**2, 0))
        where = (members @ np.where(taken, at, 0.0)) / counts
        errors = np.sqrt(np.einsum("mii->mi", covariance))
        return Profile(where, values, errors, spread, counts, self.names)

    def to_dataframe(self) -> "pd.DataFrame":
        """One row for each column: its number, where it is, the values with their standard errors, and p.

        Returns
        -------
        pandas.DataFrame
            column, row_px, col_px; of each component its value and error; p_value; significant, at a false discovery rate
            of 5 %.
        """
        import pandas as pd

        covariance = self.covariance
        errors, p = np.sqrt(np.einsum("mii->mi", covariance)), _chance(self.values, covariance)
        table: dict[str, Any] = {
            "column": self.columns,
            "row_px": self.positions[:, 0],
            "col_px": self.positions[:, 1],
        }
        for i, name in enumerate(self.names):
            table |= {name: self.values[:, i], f"{name}_error": errors[:, i]}
        return pd.DataFrame(table | {"p_value": p, "significant": _discovered(p, 0.05)})


def of_columns(
    columns: NDArray[np.int64], positions: Floats, values: Floats, errors: Floats, name: str
) -> ColumnField:
    """The field of a quantity that each column has by itself, with independent errors.

    Parameters
    ----------
    columns : array of shape (m,), int64
    positions : array of shape (m, 2)
    values : array of shape (m,)
        NaN where nothing is known.
    errors : array of shape (n,)
        Standard errors, of all columns of the result.
    name : str
        Of the quantity, with its unit.

    Returns
    -------
    ColumnField
    """
    m, n = len(columns), len(errors)
    itself = csr_array((np.ones(m), (np.arange(m), columns)), shape=(m, n))
    # What stands along rows is the quantity, and nothing stands along columns.
    jacobian = np.broadcast_to(np.array([1.0, 0.0]), (m, 1, 1, 2))
    variance = np.column_stack([errors**2, np.zeros(n)])
    return ColumnField(
        columns, positions, values[:, None], (name,), np.zeros(2), (itself,), jacobian, variance
    )


def _chance(values: Floats, covariance: Floats) -> Floats:
    """Probability of the squared Mahalanobis distance from zero, or a larger one."""
    p = np.full(len(values), np.nan)
    known = np.isfinite(values).all(axis=1) & np.isfinite(covariance).all(axis=(1, 2))
    if known.any():
        distance = np.einsum(
            "mi,mi->m",
            values[known],
            np.linalg.solve(covariance[known], values[known][..., None])[..., 0],
        )
        p[known] = chi2.sf(distance, values.shape[1])
    return p


def _discovered(p: Floats, level: float) -> NDArray[np.bool_]:
    known = np.isfinite(p)
    found = np.zeros(len(p), bool)
    if known.any():
        found[known] = false_discovery_control(p[known]) <= level
    return found
