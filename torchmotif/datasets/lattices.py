"""Crystals that are not hexagonal: square and rectangular lattices, rock salt, dumbbells."""

import math
from typing import Any, Literal

from torchmotif.datasets.projection import projection
from torchmotif.datasets.specimen import Specimen
from torchmotif.errors import InputError

__all__ = ["dumbbells", "rectangular", "rocksalt", "square"]


def square(
    shape: tuple[int, int] = (512, 512),
    pixel_size_nm: float = 0.015,
    *,
    lattice_nm: float = 0.3,
    middle: float = 0.0,
    **more: Any,
) -> Specimen:
    """A square lattice of columns "A", and columns "B" in the middle of the squares where these have any intensity.

    Parameters
    ----------
    shape, pixel_size_nm
        As for `projection`.
    lattice_nm : float
        Side of the square cell.
    middle : float
        Intensity of B over that of A.
    **more
        Whatever else `projection` takes.

    Returns
    -------
    Specimen

    Raises
    ------
    InputError
        As `projection`.

    Examples
    --------
    >>> square((64, 64)).image
    Micrograph(64 x 64 torch.float32, 0.015 nm/px, 10 electrons/px)
    """
    return rectangular(shape, pixel_size_nm, lattice_nm=lattice_nm, ratio=1.0, middle=middle, **more)


def rectangular(
    shape: tuple[int, int] = (512, 512),
    pixel_size_nm: float = 0.015,
    *,
    lattice_nm: float = 0.3,
    ratio: float = 1.5,
    middle: float = 0.0,
    **more: Any,
) -> Specimen:
    """A rectangular lattice of columns "A", and columns "B" in the middle of the cells where these have any intensity.

    Parameters
    ----------
    shape, pixel_size_nm
        As for `projection`.
    lattice_nm : float
        Shorter side of the cell, along the columns of the image before rotation.
    ratio : float
        Longer side over the shorter.
    middle : float
        Intensity of B over that of A.
    **more
        Whatever else `projection` takes.

    Returns
    -------
    Specimen

    Raises
    ------
    InputError
        If the ratio is less than 1, and as `projection`.

    Examples
    --------
    >>> rectangular((64, 64), ratio=2.0).shape
    (64, 64)
    """
    if not (ratio >= 1 and math.isfinite(ratio)):
        raise InputError(f"ratio must be at least 1, got {ratio}")
    columns = [("A", 0.0, 0.0), ("B", 0.5, 0.5)][: 1 if middle == 0 else 2]
    return projection(
        ((ratio * lattice_nm, 0.0), (0.0, lattice_nm)),
        columns,
        shape,
        pixel_size_nm,
        brightness={"A": 1.0, "B": middle},
        **more,
    )


def rocksalt(
    cation: str = "Mg",
    anion: str = "O",
    shape: tuple[int, int] = (512, 512),
    pixel_size_nm: float = 0.015,
    *,
    axis: Literal["001", "110"] = "110",
    lattice_nm: float = 0.4212,
    **more: Any,
) -> Specimen:
    """Rock salt along [001], where cations and anions share columns on a square lattice, or along [110], where they do not.

    Parameters
    ----------
    cation, anion : str
        Chemical symbols.
    shape, pixel_size_nm
        As for `projection`.
    axis : {"001", "110"}
        Along which the crystal is seen.
    lattice_nm : float
        Lattice constant; by default that of MgO.
    **more
        Whatever else `projection` takes.

    Returns
    -------
    Specimen
        Kinds: "MgO" along [001]; "Mg" and "O" along [110], on a lattice of a / (2 sqrt 2) by a / 2 rectangles.

    Raises
    ------
    InputError
        If the axis is another one, and as `projection`.

    Examples
    --------
    >>> sorted(set(rocksalt(shape=(64, 64)).truth.kinds.tolist()))
    ['Mg', 'O']
    """
    if axis not in {"001", "110"}:
        raise InputError(f"axis must be '001' or '110', got {axis!r}")
    half, across = lattice_nm / 2, lattice_nm / math.sqrt(2)
    if axis == "001":
        cell, columns = ((half, 0.0), (0.0, half)), [(f"{cation}{anion}", 0.0, 0.0)]
    else:
        cell = ((2 * half, 0.0), (0.0, across))
        columns = [(cation, 0.0, 0.0), (cation, 0.5, 0.5), (anion, 0.5, 0.0), (anion, 0.0, 0.5)]
    return projection(cell, columns, shape, pixel_size_nm, **more)


def dumbbells(
    shape: tuple[int, int] = (512, 512),
    pixel_size_nm: float = 0.01,
    *,
    elements: tuple[str, str] = ("Ga", "As"),
    lattice_nm: float = 0.5653,
    gap_nm: float | None = None,
    **more: Any,
) -> Specimen:
    """Zinc blende or diamond along [110]: pairs of columns a quarter of the lattice constant apart.

    Parameters
    ----------
    shape, pixel_size_nm
        As for `projection`.
    elements : (str, str)
        Of the two columns of a pair; twice the same for diamond.
    lattice_nm : float
        Lattice constant; by default that of GaAs.
    gap_nm : float, optional
        Distance within a pair; by default a quarter of the lattice constant.
    **more
        Whatever else `projection` takes.

    Returns
    -------
    Specimen

    Raises
    ------
    InputError
        If the gap does not lie between 0 and half the lattice constant, and as `projection`.

    Examples
    --------
    >>> dumbbells((64, 64), elements=("Si", "Si"), lattice_nm=0.5431).shape
    (64, 64)
    """
    gap = lattice_nm / 4 if gap_nm is None else gap_nm
    if not 0 < gap < lattice_nm / 2:
        raise InputError(f"gap_nm must lie between 0 and half the lattice constant, got {gap_nm}")
    share, (first, second) = gap / lattice_nm / 2, elements
    columns = [
        (kind, middle + side, middle)
        for middle in (0.0, 0.5)
        for kind, side in ((first, -share), (second, share))
    ]
    cell = ((lattice_nm, 0.0), (0.0, lattice_nm / math.sqrt(2)))
    return projection(cell, columns, shape, pixel_size_nm, **more)
