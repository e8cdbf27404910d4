"""Strain and rotation of the lattice around each column, by local fits, with standard errors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torchmotif.errors import InputError
from torchmotif.lattice._errors import SEEN
from torchmotif.lattice._local import RADIUS, LocalFits, Points, fit_around, reduced, sparse_rows, times
from torchmotif.lattice.field import ColumnField
from torchmotif.lattice.grains import Grains

__all__ = ["LatticeStrain", "lattice_strain"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_MOST = 0.2  # strain beyond which the lattice of a column is taken for another one
_STRUCTURE = ("a_nm", "b_nm", "gamma_deg")


@dataclass(frozen=True, eq=False, repr=False)
class LatticeStrain(ColumnField):
    """Strain and rotation of the lattice around columns: components row, col, their shear, and the rotation, with errors.

    Attributes
    ----------
    radius : float
        Within which columns make a fit, in pixels along the rows.
    reference : str
        What counts as unstrained.
    """

    radius: float = 0.0
    reference: str = ""

    @property
    def tensor(self) -> Floats:
        """Strain along (row, col), shape (m, 2, 2): V - 1 of the polar decomposition F = V R."""
        row, col, shear = self.values[:, 0], self.values[:, 1], self.values[:, 2]
        return np.stack([np.stack([row, shear], axis=-1), np.stack([shear, col], axis=-1)], axis=1)

    @property
    def rotation_rad(self) -> Floats:
        """Rotation against the reference, counter-clockwise, shape (m,)."""
        return self.values[:, 3]

    @property
    def resolution(self) -> float:
        """Root mean square distance in pixels of the columns of a fit from its middle: what is finer is averaged."""
        return float(self.radius / np.sqrt(2))


def lattice_strain(
    points: Points,
    grains: Grains,
    *,
    reference: Any = "mean",
    radius: float | None = None,
    scale: Any = (1.0, 1.0),
    pixel_size_nm: tuple[float, float] | None = None,
) -> LatticeStrain:
    """Strain of the lattices that are fitted around all columns of grains.

    Parameters
    ----------
    points : Points
        Positions in pixels that are square.
    grains : Grains
        Whose cells tell which translation is which.
    reference : "mean", int, mapping, or boolean array of shape (n,)
        What is unstrained: the mean lattice of each grain; that of one grain; a structure by its lattice constants
        ``{"a_nm": ..., "b_nm": ..., "gamma_deg": ...}``, in the mean orientation of each grain; the mean lattice of some columns.
    radius : float, optional
        Of the fits in pixels along the rows; by default 1.65 translations. Errors fall with its square, and so does the
        resolution with it.
    scale : (float, float)
        By how much `points` are stretched along (row, col).
    pixel_size_nm : (float, float), optional

    Returns
    -------
    LatticeStrain

    Raises
    ------
    InputError
        If the reference is none of these, names nothing, or needs a pixel size that is not known.
    """
    points, stretch = points.steady, np.asarray(scale, np.float64)
    cells = np.stack([grain.basis for grain in grains.grains]) * stretch
    longest = float(np.median(np.linalg.norm(cells, axis=2).max(axis=1)))
    reach = RADIUS * longest if radius is None else radius * stretch[1]
    if not longest <= reach < np.inf:
        raise InputError(
            f"radius must be at least {longest / stretch[1]:.1f} pixels, one translation, got {radius}"
        )
    rows = np.flatnonzero((grains.labels >= 0) & (points.group >= 0))
    grain = grains.labels[rows]
    fits = fit_around(points, points.positions[rows], cells[grain], reach, grains=(grains.labels, grain))
    fits = _by_the_brightest(points, fits, rows, cells[grain], reach=reach, labels=grains.labels)
    unstrained, words = _reference(reference, grains, cells, stretch, pixel_size_nm)
    whole = np.rint(fits.basis @ np.linalg.inv(cells[grain]))
    known = np.abs(np.abs(np.linalg.det(np.nan_to_num(whole))) - 1) < 0.5
    move = np.zeros((len(rows), 2, 2))
    move[known] = np.linalg.inv(whole[known])
    weights = times(fits.weights, move.swapaxes(1, 2))
    basis = np.where(known[:, None, None], move @ np.nan_to_num(fits.basis), np.nan)
    values, jacobian = _strained(basis, np.asarray(np.linalg.inv(unstrained), np.float64)[grain])
    near = (np.abs(values[:, :3]) < _MOST).all(axis=1)
    if known.any() and not near.any() and isinstance(reference, Mapping):
        a, b = np.linalg.norm(cells[0] / stretch[1], axis=1) * (pixel_size_nm or (1.0, 1.0))[1]
        raise InputError(
            f"reference ({words}) is more than {_MOST:.0%} off the lattice of every grain; the largest grain has "
            f"a = {a:.4g} nm, b = {b:.4g} nm, gamma = {grains[0].gamma_deg[0]:.1f} degrees: "
            "give lengths in nm and gamma_deg (by default 90), or check the pixel size"
        )
    values[~near] = np.nan
    n = len(points.positions)
    # Fits of a first shell see a part of what neighbours have in common, large ones nearly all.
    together = 1 + (points.together - 1) * (1 - (1 - SEEN) * min(RADIUS * longest / reach, 1.0) ** 2)
    return LatticeStrain(
        rows,
        points.positions[rows] / stretch,
        values,
        ("strain_row", "strain_col", "shear", "rotation_rad"),
        points.jitter / stretch,
        tuple(sparse_rows(fits.neighbours, weights[..., p], n) for p in (0, 1)),
        jacobian,
        points.variance * together,
        reach / stretch[1],
        words,
    )


def _by_the_brightest(
    points: Points, fits: LocalFits, rows: Ints, cells: Floats, *, reach: float, labels: Ints
) -> LocalFits:
    """Fits, of which those whose columns lie on no one lattice are those of the brightest sublattices, where these do.

    At a wall between two domains the cages go on as they were, and what is in them jumps: that is no strain.
    """
    if points.bright is None or not fits.known.any():
        return fits
    usual = float(np.median(fits.offset[fits.known]))
    left = np.flatnonzero(fits.known & ~fits.even(usual))
    brightest = points.only(points.bright & (points.group >= 0))
    own = (labels, labels[rows[left]])
    again = fit_around(brightest, points.positions[rows[left]], cells[left], reach, grains=own)
    better = again.known & again.even(usual)
    return fits.replaced(left[better], again.of(better))


def _reference(
    reference: Any,
    grains: Grains,
    cells: Floats,
    stretch: Floats,
    pixel_size_nm: tuple[float, float] | None,
) -> tuple[Floats, str]:
    """The unstrained cell (g, 2, 2) of each grain, and what it is in words."""
    if isinstance(reference, str):
        if reference != "mean":
            raise InputError(
                f"reference must be 'mean', a grain, lattice constants or a boolean array, got {reference!r}"
            )
        return cells, "the mean lattice of each grain"
    if isinstance(reference, Mapping):
        return _structure(reference, cells, stretch, pixel_size_nm)
    if isinstance(reference, int | np.integer) and not isinstance(reference, bool | np.bool_):
        if not 0 <= reference < len(grains):
            raise InputError(f"reference must be one of {len(grains)} grains, got {reference}")
        return _alike(cells[int(reference)], cells), f"the mean lattice of grain {reference}"
    region = np.asarray(reference)
    if region.dtype != bool or region.shape != grains.labels.shape:
        raise InputError(
            f"reference must hold True or False for each of {len(grains.labels)} columns, got {region.dtype} of shape "
            f"{region.shape}"
        )
    number = np.bincount(grains.labels[region & grains.inside] + 1, minlength=2)[1:]
    taken = region & grains.inside & (grains.labels == number.argmax())
    if not taken.any():
        raise InputError("reference has no column that lies inside a grain: take a larger region")
    mean = np.nanmean(grains.bases[taken], axis=0) * stretch
    return _alike(mean, cells), f"the mean lattice of {int(taken.sum())} columns"


def _alike(cell: Floats, cells: Floats) -> Floats:
    """One cell in the choice of translations, and the orientation, that fits those of other grains best."""
    best = np.broadcast_to(cell, cells.shape).copy()
    least = np.full(len(cells), np.inf)
    for choice in _CHOICES:
        turned = _turned(choice @ cell, cells)
        away = ((turned - cells) ** 2).sum(axis=(1, 2))
        best[away < least], least = turned[away < least], np.minimum(away, least)
    # In its own orientation where a grain has it but for a small angle.
    for choice in _CHOICES:
        own = np.broadcast_to(choice @ cell, cells.shape)
        near = ((own - cells) ** 2).sum(axis=(1, 2)) < (0.15 * np.linalg.norm(cell)) ** 2
        best[near] = own[near]
    return best


def _structure(
    constants: Mapping[str, float],
    cells: Floats,
    stretch: Floats,
    pixel_size_nm: tuple[float, float] | None,
) -> tuple[Floats, str]:
    """The cell of a structure, as it is turned in each grain."""
    unknown = set(constants) - set(_STRUCTURE)
    if unknown or "a_nm" not in constants:
        raise InputError(
            f"reference must name a_nm, and may name b_nm and gamma_deg, got {sorted(constants)}"
        )
    if pixel_size_nm is None:
        raise InputError(
            "reference in nanometres needs the pixel size, which the image does not have; give tm.Micrograph a pixel_size"
        )
    a, gamma = float(constants["a_nm"]), float(constants.get("gamma_deg", 90.0))
    b = float(constants.get("b_nm", a))
    if not (a > 0 and b > 0 and 0 < gamma < 180):
        raise InputError(
            f"reference must have positive lengths and an angle of 0 to 180 degrees, got {dict(constants)}"
        )
    per_nm = stretch[1] / pixel_size_nm[1]
    angle = np.radians(gamma)
    cell = np.array([[0.0, a], [-b * np.sin(angle), b * np.cos(angle)]]) * per_nm
    cell = reduced(cell[None])[0]
    best, least = np.empty_like(cells), np.full(len(cells), np.inf)
    for choice in _CHOICES:
        turned = _turned(choice @ cell, cells)
        away = ((turned - cells) ** 2).sum(axis=(1, 2))
        best[away < least], least = turned[away < least], np.minimum(away, least)
    return best, f"a = {a:g} nm, b = {b:g} nm, gamma = {gamma:g} degrees"


# Changes of a reduced cell that leave its translations short.
_CHOICES = np.array(
    [
        [[i, j], [k, m]]
        for i in (-1, 0, 1)
        for j in (-1, 0, 1)
        for k in (-1, 0, 1)
        for m in (-1, 0, 1)
        if i * m - j * k == 1
    ],
    dtype=np.float64,
)


def _turned(cell: Floats, cells: Floats) -> Floats:
    """A cell (2, 2) turned onto each of others (g, 2, 2) as well as a rotation does."""
    moved = cells.swapaxes(1, 2) @ cell
    angle = np.arctan2(moved[:, 1, 0] - moved[:, 0, 1], moved[:, 0, 0] + moved[:, 1, 1])
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], axis=1)
    return np.asarray(cell @ turn.swapaxes(1, 2))


def _strained(basis: Floats, inverse: Floats) -> tuple[Floats, Floats]:
    """Strain components and rotation (m, 4) of cells against the reference's inverse, and their Jacobian (m, 4, 2, 2)."""
    deformation = (inverse @ basis).swapaxes(1, 2)  # positions are rows: basis = reference @ F^T
    s = deformation[:, 0, 0] + deformation[:, 1, 1]
    d = deformation[:, 1, 0] - deformation[:, 0, 1]
    size, angle = s**2 + d**2, np.arctan2(d, s)
    cos, sin = np.cos(angle), np.sin(angle)
    back = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], axis=1)
    swing = np.stack([np.stack([-sin, cos], -1), np.stack([-cos, -sin], -1)], axis=1)
    stretch = deformation @ back
    values = np.stack([stretch[:, 0, 0] - 1, stretch[:, 1, 1] - 1, stretch[:, 0, 1], angle], axis=1)
    jacobian = np.zeros((len(basis), 4, 2, 2))
    for p in (0, 1):
        change = inverse[:, :, p]
        for axis in (0, 1):
            step = np.zeros_like(deformation)
            step[:, axis] = change
            ds, dd = step[:, 0, 0] + step[:, 1, 1], step[:, 1, 0] - step[:, 0, 1]
            turned = (s * dd - d * ds) / size
            moved = step @ back + turned[:, None, None] * (deformation @ swing)
            parts = moved[:, 0, 0], moved[:, 1, 1], moved[:, 0, 1], turned
            jacobian[:, :, p, axis] = np.stack(parts, axis=1)
    return values, jacobian
