"""What is known of the columns of an image."""

from dataclasses import dataclass
from typing import Any

__all__ = ["Columns"]


@dataclass(frozen=True, eq=False)
class Columns:
    """Atomic columns of one image.

    Attributes
    ----------
    positions : array of shape (n, 2), float64
        (row, col) in pixels, ordered by row, then column.
    intensities : array of shape (n,), float32
        Integrated intensity of each column above the background, in the image's units times square pixels.
    spacing : float
        Characteristic distance between neighbouring columns in pixels.
    position_errors : array of shape (n, 2), float32, or None
        Standard deviation of the positions along (row, col) in pixels, by counting and by noise as wide as columns, as resampled
        images and supports have it. None, as all below, where nothing was fitted.
    intensity_errors : array of shape (n,), float32, or None
        Standard deviation of the intensities, likewise.
    fit_quality : array of shape (n,), float32, or None
        Squared residual over its expected variance, averaged under the column: 1 where only noise is left.
    width : (float, float) or None
        Standard deviation in pixels along (rows, columns) of the Gaussian that all columns share.
    is_rim, is_overlapping, is_saturated, is_predicted, is_fixed : boolean arrays of shape (n,), or None
        Columns that reach over the image's rim, into pixels that were not used or over a step of the background; whose Gaussian overlaps a
        neighbour's by more than a tenth; that have saturated pixels; that no maximum shows, but the mean cell of the crystal around them (see `guided` of
        `find_columns`) or, with `include_dark_sites`, the lattice predicts; that are too faint for a fit of their place, and stay
        where the crystal predicts them.
    spacing_nm : float or None
        The spacing in nanometres, None where the pixel size is unknown.
    """

    positions: Any
    intensities: Any
    spacing: float
    position_errors: Any = None
    intensity_errors: Any = None
    fit_quality: Any = None
    width: tuple[float, float] | None = None
    is_rim: Any = None
    is_overlapping: Any = None
    is_saturated: Any = None
    is_predicted: Any = None
    is_fixed: Any = None
    spacing_nm: float | None = None

    def __len__(self) -> int:
        """Count the columns."""
        return len(self.positions)

    def __repr__(self) -> str:
        """Say how many there are and how far apart."""
        nm = "" if self.spacing_nm is None else f" ({self.spacing_nm:.3f} nm)"
        return f"Columns({len(self)} columns, {self.spacing:.2f} px{nm} apart)"
