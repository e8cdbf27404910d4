"""Projections of any crystal along an axis: a plane cell and the columns in it."""

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.spatial import cKDTree

from torchmotif._arrays import DeviceLike
from torchmotif._elements import GAMMA, atomic_number
from torchmotif.datasets.crystal import Sites, as_specimen
from torchmotif.datasets.honeycomb import rotation
from torchmotif.datasets.probe import Probe
from torchmotif.datasets.scene import check_shape
from torchmotif.datasets.specimen import Specimen
from torchmotif.datasets.strain import Displacement
from torchmotif.errors import InputError

__all__ = ["projection"]

_MARGIN_NM = 1.0  # around the image that is filled as well
_FORMULA = re.compile(r"([A-Z][a-z]?)(\d*)")

Vector = tuple[float, float]


def projection(
    cell_nm: tuple[Vector, Vector],
    columns: Sequence[tuple[str, float, float]],
    shape: tuple[int, int] = (512, 512),
    pixel_size_nm: float = 0.015,
    *,
    brightness: Mapping[str, float] | None = None,
    scatter_nm: float = 0.0,
    rotation_rad: float = 0.1,
    displacement: Displacement | None = None,
    electrons_per_pixel: float = 10.0,
    background: float = 0.0,
    probe: Probe | None = None,
    gamma: float = GAMMA,
    device: DeviceLike = None,
    random_state: int = 0,
) -> Specimen:
    """A crystal seen along an axis: the columns of one plane cell, repeated.

    Parameters
    ----------
    cell_nm : ((float, float), (float, float))
        The two vectors of the cell, each (row, col).
    columns : sequence of (str, float, float)
        Kind of each column in the cell, and its place as shares of the two vectors.
    shape : (int, int)
        Of the image, in pixels.
    pixel_size_nm : float
        Length of a pixel.
    brightness : mapping of str to float, optional
        Relative intensity of each kind. Without it kinds are formulas, such as "Sr" or "TiO", whose atoms scatter as
        Z^gamma.
    scatter_nm : float
        Standard deviation of the columns' places about those of the lattice, along each axis.
    rotation_rad : float
        Counter-clockwise rotation of the lattice.
    displacement : callable, optional
        As for `mx2`.
    electrons_per_pixel, background, probe, gamma, device
        As for `mx2`.
    random_state : int
        Seed of the scatter.

    Returns
    -------
    Specimen
        Kinds and classes are those of `columns`; `truth.more["nearest_px"]` is the distance to the nearest other column.

    Raises
    ------
    InputError
        If the cell has no area or no column, a kind is no formula and has no brightness, nothing is bright, or a length
        or dose is not positive.

    Examples
    --------
    >>> specimen = projection(((0.4, 0.0), (0.0, 0.4)), [("Sr", 0.0, 0.0), ("TiO", 0.5, 0.5)], (128, 128))
    >>> sorted(set(specimen.truth.kinds.tolist()))
    ['Sr', 'TiO']
    """
    check_shape(shape, pixel_size_nm)
    cell = np.array(cell_nm, dtype=float) / pixel_size_nm
    if cell.shape != (2, 2) or not (np.isfinite(cell).all() and abs(np.linalg.det(cell)) > 0):
        raise InputError(f"cell_nm must be two finite vectors (row, col) that span an area, got {cell_nm}")
    if len(columns) == 0:
        raise InputError("columns is empty: give at least one (kind, share, share)")
    if not (scatter_nm >= 0 and math.isfinite(scatter_nm)):
        raise InputError(f"scatter_nm must be zero or positive, got {scatter_nm}")
    kinds = [kind for kind, _, _ in columns]
    atoms, elements, weights = _scatterers(kinds, brightness)
    turned = cell @ rotation(rotation_rad).T
    places, which = _repeated(shape, turned, np.array([place for _, *place in columns]), pixel_size_nm)
    nearest = np.asarray(cKDTree(places).query(places, k=2)[0])[:, 1]
    rng = np.random.default_rng(random_state)
    places = places + rng.normal(size=places.shape) * scatter_nm / pixel_size_nm
    names = np.array(kinds)[which]
    return as_specimen(
        shape,
        pixel_size_nm,
        Sites(
            places,
            names,
            names,
            atoms[which],
            elements,
            more={"nearest_px": nearest},
            weights=None if weights is None else weights[which],
        ),
        electrons_per_pixel=electrons_per_pixel,
        background=background,
        probe=probe,
        gamma=gamma,
        device=device,
        metadata={"specimen": "".join(dict.fromkeys(kinds)), "random_state": random_state},
        displacement=displacement,
    )


def _scatterers(
    kinds: Sequence[str], brightness: Mapping[str, float] | None
) -> tuple[np.ndarray, list[str], np.ndarray | None]:
    """Atoms (k, e) of each kind, the elements, and the intensities (k,) where these are given."""
    if brightness is not None:
        missing = set(kinds) - set(brightness)
        if missing or not all(value >= 0 and math.isfinite(value) for value in brightness.values()):
            raise InputError(
                f"brightness must be zero or positive for each of {sorted(set(kinds))}, got {dict(brightness)}"
            )
        elements = list(dict.fromkeys(kinds))
        atoms = np.array([[int(kind == e) for e in elements] for kind in kinds])
        return atoms, elements, np.array([float(brightness[kind]) for kind in kinds])
    formulas = [_FORMULA.findall(kind) for kind in kinds]
    for kind, formula in zip(kinds, formulas, strict=True):
        if "".join(e + n for e, n in formula) != kind or not formula:
            raise InputError(
                f"{kind!r} is no formula such as 'Sr' or 'TiO'; give brightness={{{kind!r}: ...}}"
            )
        for element, _ in formula:
            atomic_number(element)
    elements = list(dict.fromkeys(e for formula in formulas for e, _ in formula))
    atoms = np.zeros((len(kinds), len(elements)), dtype=int)
    for row, formula in zip(atoms, formulas, strict=True):
        for element, number in formula:
            row[elements.index(element)] += int(number or 1)
    return atoms, elements, None


def _repeated(
    shape: tuple[int, int], cell: np.ndarray, shares: np.ndarray, pixel_size_nm: float
) -> tuple[np.ndarray, np.ndarray]:
    """Places (n, 2) in pixels in and around the image, about its middle, and which column of the cell each is."""
    half = np.array(shape) / 2 + _MARGIN_NM / pixel_size_nm
    corners = np.array([(-1, -1), (-1, 1), (1, -1), (1, 1)]) * half
    most = np.abs(corners @ np.linalg.inv(cell)).max(axis=0)
    spans = [np.arange(-n, n + 1) for n in np.ceil(most).astype(int) + 1]
    cells = np.stack(np.meshgrid(*spans, indexing="ij"), axis=-1).reshape(-1, 1, 2)
    places = ((cells + shares) @ cell).reshape(-1, 2)
    which = np.tile(np.arange(len(shares)), len(cells))
    near = (np.abs(places) < half).all(axis=1)
    return places[near] + (np.array(shape) - 1) / 2, which[near]
