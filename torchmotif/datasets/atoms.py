"""Specimens from any structure that ASE can hold."""

from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from torchmotif._arrays import DeviceLike
from torchmotif._elements import GAMMA
from torchmotif.datasets.crystal import Sites, as_specimen
from torchmotif.datasets.probe import Probe
from torchmotif.datasets.scene import check_shape
from torchmotif.datasets.specimen import Specimen
from torchmotif.errors import InputError, InputTypeError

__all__ = ["from_atoms"]

_MARGIN_NM = 1.5  # periodic images around the image that shine into it


def from_atoms(
    atoms: Any,
    pixel_size_nm: float = 0.015,
    shape: tuple[int, int] | None = None,
    *,
    merge_nm: float = 0.03,
    electrons_per_pixel: float = 10.0,
    background: float = 0.0,
    probe: Probe | None = None,
    gamma: float = GAMMA,
    device: DeviceLike = None,
) -> Specimen:
    """The structure seen along z: x runs along the columns of the image, y up its rows.

    Parameters
    ----------
    atoms : ase.Atoms
        Lengths in angstrom, as ASE has them.
    pixel_size_nm : float
        Length of a pixel.
    shape : (int, int), optional
        Of the image, in pixels. By default a rectangle that holds one cell; atoms without a cell get a margin. Along
        periodic directions the structure goes on, along others it must fill the image.
    merge_nm : float
        Atoms nearer than this in projection belong to one column.
    electrons_per_pixel, background, probe, gamma, device
        As for `mx2`.

    Returns
    -------
    Specimen
        Kinds and classes are the atoms of the columns, "Se2" or "MoSe"; a column's place is the mean of its atoms.

    Raises
    ------
    InputTypeError
        If `atoms` is not a structure of ASE.
    InputError
        If it is empty, its cell does not fit the shape, or a length or dose is not positive.

    Examples
    --------
    >>> from ase.build import mx2
    >>> specimen = from_atoms(mx2("MoS2", size=(4, 4, 1), vacuum=3.0))
    >>> sorted(set(specimen.truth.kinds.tolist()))
    ['Mo', 'S2']
    """
    if not all(hasattr(atoms, name) for name in ("get_positions", "get_chemical_symbols", "cell", "pbc")):
        raise InputTypeError(
            f"atoms must be an ase.Atoms, got {type(atoms).__name__}; install ASE with torchmotif[export]"
        )
    if len(atoms) == 0:
        raise InputError("atoms is empty: there is nothing to image")
    check_shape((1, 1) if shape is None else shape, pixel_size_nm)
    if not merge_nm >= 0:
        raise InputError(f"merge_nm must be zero or positive, got {merge_nm}")
    corner, extent = _rectangle(atoms)
    if shape is None:
        shape = tuple(max(1, round(side / pixel_size_nm)) for side in extent[::-1])
    wanted = np.array(shape)[::-1] * pixel_size_nm
    for axis, name in enumerate("xy"):
        if not atoms.pbc[axis] and wanted[axis] > extent[axis] * 1.001 + pixel_size_nm:
            raise InputError(
                f"the structure is {extent[axis]:.3g} nm long along {name} and not periodic, which does not fill "
                f"{wanted[axis]:.3g} nm; take a smaller shape, or repeat the atoms"
            )
    xy, symbols = _repeated(atoms, corner, wanted)
    column = _columns(xy, merge_nm)
    elements, index = np.unique(symbols, return_inverse=True)
    count = np.zeros((column.max() + 1, len(elements)), dtype=int)
    np.add.at(count, (column, index), 1)
    size = count.sum(1)
    place = np.stack([np.bincount(column, xy[:, axis]) / size for axis in (1, 0)], axis=1) / pixel_size_nm
    positions = np.stack([shape[0] - 1 - place[:, 0], place[:, 1]], axis=1)  # y points up, rows down
    kinds = _formulas(count, elements.tolist())
    return as_specimen(
        shape,
        pixel_size_nm,
        Sites(positions, kinds, kinds, count, elements.tolist()),
        electrons_per_pixel=electrons_per_pixel,
        background=background,
        probe=probe,
        gamma=gamma,
        device=device,
        metadata={"specimen": atoms.get_chemical_formula()},
    )


def _rectangle(atoms: Any) -> tuple[np.ndarray, np.ndarray]:
    """Lower left corner (2,) and extent (2,) as (x, y) in nm of what one cell holds."""
    cell = np.asarray(atoms.cell)[:2, :2] / 10
    if abs(np.linalg.det(cell)) < 1e-9:
        if any(atoms.pbc[:2]):
            raise InputError(
                f"the cell has no area seen along z, yet is periodic there; turn it, got {cell.tolist()} nm"
            )
        xy = atoms.get_positions()[:, :2] / 10
        return xy.min(0) - _MARGIN_NM / 3, np.ptp(xy, axis=0) + 2 * _MARGIN_NM / 3
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) @ cell
    return corners.min(0), np.ptp(corners, axis=0)


def _repeated(atoms: Any, corner: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places (n, 2) as (x, y) in nm from the corner, and symbols, of all atoms in and around the image."""
    xy = atoms.get_positions()[:, :2] / 10
    cell = np.asarray(atoms.cell)[:2, :2] / 10
    shifts = np.zeros((1, 2))
    if any(atoms.pbc[:2]):
        rim = np.array(
            [
                [x, y]
                for x in (-_MARGIN_NM, wanted[0] + _MARGIN_NM)
                for y in (-_MARGIN_NM, wanted[1] + _MARGIN_NM)
            ]
        )
        cells = (rim + corner) @ np.linalg.inv(cell)
        low, high = np.floor(cells.min(0)).astype(int) - 1, np.ceil(cells.max(0)).astype(int) + 1
        spans = [
            np.arange(a, b + 1) if p else np.zeros(1)
            for a, b, p in zip(low, high, atoms.pbc[:2], strict=True)
        ]
        shifts = np.stack([s.ravel() for s in np.meshgrid(*spans, indexing="ij")], axis=1) @ cell
    places = (xy + shifts[:, None]).reshape(-1, 2) - corner
    symbols = np.tile(np.array(atoms.get_chemical_symbols()), len(shifts))
    near = ((places > -_MARGIN_NM) & (places < wanted + _MARGIN_NM)).all(1)
    return places[near], symbols[near]


def _columns(xy: np.ndarray, merge_nm: float) -> np.ndarray:
    """Which column each atom belongs to: atoms linked by distances of at most `merge_nm`."""
    pairs = cKDTree(xy).query_pairs(merge_nm, output_type="ndarray")
    links = coo_array((np.ones(len(pairs), dtype=bool), (pairs[:, 0], pairs[:, 1])), shape=(len(xy), len(xy)))
    return np.asarray(connected_components(links, directed=False)[1])


def _formulas(count: np.ndarray, elements: list[str]) -> np.ndarray:
    """What each column is called, for example "Se2" or "MoSe"."""
    rows, index = np.unique(count, axis=0, return_inverse=True)
    names = [
        "".join(e if n == 1 else f"{e}{n}" for e, n in zip(elements, row, strict=True) if n)
        for row in rows.tolist()
    ]
    return np.array(names)[index.reshape(-1)]
