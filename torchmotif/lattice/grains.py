"""Grains: columns of one lattice and orientation, their lattice constants, boundaries and misorientations."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from torchmotif.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Grain", "Grains"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_NONE = 0.1  # of the columns in no grain, from which a warning says so
# Of the columns around which there is not one lattice, from which a warning says so: of 1,200 of MoSe2 in four grains 0.25, in a
# twisted bilayer of MoS2 0.38.
_LOST = 0.33


@dataclass(frozen=True, eq=False)
class Grain:
    """One grain. Lengths are in pixels along the rows of the image, and in nanometres where it is calibrated.

    Attributes
    ----------
    number : int
        0 is the one with the most columns.
    columns : int
        How many it has.
    a_px, b_px, gamma_deg : (float, float)
        Lattice constants of the reduced cell, and their standard errors: of the mean lattice of the columns inside the grain, those
        farther from its edge counting more, as in a least-squares fit of one lattice to all of them. Of cells that are square or
        hexagonal to 3 %, a is the translation of least direction; a, b are right-handed, and the angle between them is 90 to 120 degrees.
    a_nm, b_nm : (float, float) or None
    orientation_deg : (float, float)
        Direction of a, counter-clockwise from that in which columns count up, and its standard error; of equivalent
        directions the least.
    fold : int
        Equivalent directions of a: 6 or 4 or 2 as the lattice has; 3 where the brightness of columns tells a hexagonal
        cell from itself turned by 180 degrees.
    area_px : float
        Area between its columns in square pixels; `area_nm2` where the image is calibrated.
    basis : array of shape (2, 2)
        Mean translations a, b as (row, col) in pixels of the image.
    """

    number: int
    columns: int
    a_px: tuple[float, float]
    b_px: tuple[float, float]
    gamma_deg: tuple[float, float]
    a_nm: tuple[float, float] | None
    b_nm: tuple[float, float] | None
    orientation_deg: tuple[float, float]
    fold: int
    area_px: float
    area_nm2: float | None
    basis: Floats


@dataclass(frozen=True, eq=False)
class Grains:
    """The grains of an image, iterable and indexed by number; the largest first.

    Attributes
    ----------
    labels : array of shape (n,), int64
        Grain of each column; -1 where it lies on the lattice of none.
    inside : boolean array of shape (n,)
        Columns whose own surroundings show the lattice of their grain.
    positions : array of shape (n, 2)
        Of all columns, (row, col) in pixels.
    grains : tuple of Grain
    segments : array of shape (s, 2, 2)
        Pieces of the boundaries, from (row, col) to (row, col) in pixels, midway between columns of different grains.
    between : array of shape (s, 2), int64
        The two grains on their sides, the lower number first.
    bases : array of shape (n, 2, 2)
        Translations around each column in the cell of its grain, in pixels of the image; NaN where they are not known.
    scale : array of shape (2,)
        By how much (row, col) are stretched to square pixels.
    used : boolean array of shape (n,)
        Columns that fits of lattices use: those measured well, on a sublattice.
    """

    labels: Ints
    inside: NDArray[np.bool_]
    positions: Floats
    grains: tuple[Grain, ...]
    segments: Floats
    between: Ints
    bases: Floats
    scale: Floats
    used: NDArray[np.bool_]

    def __len__(self) -> int:
        """Count the grains."""
        return len(self.grains)

    def __getitem__(self, number: int) -> Grain:
        """One grain."""
        return self.grains[number]

    @property
    def warnings(self) -> list[str]:
        """What is doubtful, with what to do."""
        found, used = [], self.labels >= 0
        none, lost = 1 - float(used.mean()), 1 - float(self.inside[self.used].mean())
        if none > _NONE:
            found.append(
                f"grains: {none:.0%} of the columns lie in no grain; look at the map of grains and at the sublattices of the motifs"
            )
        if lost > _LOST and len(self) > 1:  # of a small crystal, many columns are at its edge
            found.append(
                f"grains: around {lost:.0%} of the columns there is not one lattice: many boundaries, or layers over one another, "
                "see layers; what is said of grains, strain and displacement there means little"
            )
        return found

    def __repr__(self) -> str:
        """Say how many there are."""
        none = int((self.labels < 0).sum())
        return f"Grains({len(self)} grain{'s' * (len(self) != 1)}, {len(self.labels)} columns, {none} of them in none)"

    def misorientation_deg(self, one: int, other: int) -> tuple[float, float]:
        """Least angle that turns the lattice of one grain into that of another, and its standard error, in degrees.

        Raises
        ------
        InputError
            If there is no such grain.
        """
        for number in (one, other):
            if not 0 <= number < len(self):
                raise InputError(f"there are {len(self)} grains, numbered from 0, got {number}")
        first, second = self.grains[one], self.grains[other]
        turn = 360 / max(np.gcd(first.fold, second.fold), 1)
        apart = (second.orientation_deg[0] - first.orientation_deg[0]) % turn
        error = float(np.hypot(first.orientation_deg[1], second.orientation_deg[1]))
        return float(min(apart, turn - apart)), error

    @cached_property
    def boundaries(self) -> "pd.DataFrame":
        """One row for each pair of grains that touch.

        grain, other; misorientation_deg and its error; length_px, length of the boundary between the columns of both, in
        pixels along the rows.
        """
        import pandas as pd

        pairs, which = np.unique(self.between.reshape(-1, 2), axis=0, return_inverse=True)
        step = (self.segments[:, 1] - self.segments[:, 0]) * self.scale / self.scale[1]
        length = np.bincount(which.ravel(), np.linalg.norm(step, axis=1), minlength=len(pairs))
        rows = []
        for (one, other), long in zip(pairs.tolist(), length.tolist(), strict=True):
            apart, error = self.misorientation_deg(one, other)
            rows.append((one, other, apart, error, long))
        names = ("grain", "other", "misorientation_deg", "misorientation_deg_error", "length_px")
        return pd.DataFrame(rows, columns=list(names))

    def distance(self, positions: Any = None, *, of: int | None = None) -> Floats:
        """Distance of places from the nearest boundary, in pixels along the rows; negative in one grain.

        Parameters
        ----------
        positions : array of shape (m, 2), optional
            (row, col) in pixels; by default those of all columns.
        of : int, optional
            Only boundaries of this grain count, and inside it the distance is negative.

        Returns
        -------
        array of shape (m,)

        Raises
        ------
        InputError
            If there is no boundary.
        """
        taken = np.ones(len(self.segments), bool) if of is None else (self.between == of).any(axis=1)
        if not taken.any():
            raise InputError("there is no boundary" + ("" if of is None else f" of grain {of}"))
        places = self.positions if positions is None else np.asarray(positions, np.float64)
        share = np.linspace(0, 1, 5)[:, None]
        ends = self.segments[taken]
        stops = (ends[:, 0, None] + share * (ends[:, 1] - ends[:, 0])[:, None]).reshape(-1, 2)
        stretch = self.scale / self.scale[1]
        away = cKDTree(stops * stretch).query(places * stretch)[0]
        if of is not None:
            own = self.labels[cKDTree(self.positions * stretch).query(places * stretch)[1]] == of
            away = np.where(own, -away, away)
        return np.asarray(away, np.float64)

    def to_dataframe(self) -> "pd.DataFrame":
        """One row for each grain: its number, columns, lattice constants and orientation with errors, and area."""
        import pandas as pd

        rows = []
        for grain in self.grains:
            row: dict[str, Any] = {"grain": grain.number, "columns": grain.columns}
            for name in ("a_px", "b_px", "a_nm", "b_nm", "gamma_deg", "orientation_deg"):
                value = getattr(grain, name)
                if value is not None:
                    row |= {name: value[0], f"{name}_error": value[1]}
            row |= {"fold": grain.fold, "area_px": grain.area_px}
            rows.append(row if grain.area_nm2 is None else row | {"area_nm2": grain.area_nm2})
        return pd.DataFrame(rows)
