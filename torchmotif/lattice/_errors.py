"""Errors of positions set right by how columns scatter about their lattices: too large ones, a scan that jitters, neighbours that err together."""

from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree

from torchmotif.lattice._local import (
    RADIUS,
    Floats,
    Ints,
    LocalFits,
    Points,
    everywhere,
    fit_around,
    reduced,
    start_bases,
)

__all__ = ["SEEN", "SIGMA", "levels_of", "measured"]

_BRIGHTER = 1.25  # times, from which sublattices are of different columns; motifs of one differ by less

_MANY = 50  # columns of a sublattice that tell how far they scatter, to a tenth
_LEAST = 0.7  # of an error, as which it may turn out
_CLEAR = 2.0  # standard errors of the scatter by which it must be less than stated
SIGMA = 1.4826  # standard deviations of a Gaussian in one median of its absolute values
_SELF = 0.6  # of a site that its own column decides, from which the others do not
# Columns among which the nearest of other sublattices are, and times the usual distance of these.
_AROUND, _BESIDE = 9, 1.2
# Of the correlation of neighbours, what is left of it about the lattice of a first shell, which follows the rest: 0.51 in a simulated
# honeycomb, 0.41 in two square lattices. Errors of lattice constants go with the root of what is added.
SEEN = 0.45
_FAR = 3.0  # usual distances from its site beyond which a column counts as no farther: displaced columns are no noise


def measured(
    positions: Floats,
    variance: Floats,
    group: Ints,
    intensities: Floats,
    lattice: tuple[Floats, Ints] | None = None,
) -> Points:
    """Points whose errors are what their scatter about local lattices of their own sublattice shows.

    Where a sublattice scatters less than its errors say, they were too large. Where it scatters more, columns may really be
    displaced; but as much as all sublattices scatter more, the scan has moved them, and that is an error too.

    Parameters
    ----------
    positions, variance : arrays of shape (n, 2)
        In square pixels.
    group : array of shape (n,), int64
    intensities : array of shape (n,)
    lattice : (array of shape (n, 2, 2), array of shape (n,) int64), optional
        Translations around each column and the number of its lattice, NaN and -1 where they are not known, where they have been found before.

    Returns
    -------
    Points
    """
    levels = levels_of(group, intensities)
    bright = np.isin(group, levels[0]) if levels else None
    points = Points(positions, variance.copy(), group, np.zeros(2), bright=bright)
    start = None
    if lattice is not None and (lattice[1][group >= 0] >= 0).any():
        number = np.where(group >= 0, lattice[1], -1)
        bases = np.where((number >= 0)[:, None, None], reduced(lattice[0]), np.nan)
        start = everywhere(positions, bases, number)
    points = replace(points, start=start or start_bases(points))
    numbers, counts = np.unique(group[group >= 0], return_counts=True)
    least, off = np.full(2, np.inf), np.full(positions.shape, np.nan)
    for number in numbers[counts >= _MANY].tolist():
        own = points.only(group == number)
        bases, _ = start_bases(own)
        rows = np.flatnonzero(group == number)
        size = np.linalg.norm(bases[rows], axis=2).max(axis=1)
        if not np.isfinite(size).any():
            continue
        fits = fit_around(own, positions[rows], bases[rows], RADIUS * float(np.nanmedian(size)))
        scatter, usual = fits.scatter, np.median(variance[rows], axis=0)
        # Of a variance from the median of squares, with an efficiency of about two thirds.
        less = scatter * (1 + _CLEAR * np.sqrt(3 / len(rows))) < 1
        points.variance[rows] *= np.where(less, scatter.clip(_LEAST**2, 1), 1.0)
        least = np.minimum(least, np.maximum(scatter - 1, 0) * usual)
        off[rows] = _without_itself(fits, positions[rows])
        off[rows] /= SIGMA * np.maximum(np.nanmedian(np.abs(off[rows]), axis=0), 1e-12)
    jitter = np.where(np.isfinite(least), least, 0.0)
    together = _together(positions, off, group)
    return replace(points, variance=points.variance + jitter, jitter=np.sqrt(jitter), together=together)


def levels_of(group: Ints, intensities: Floats) -> list[list[int]]:
    """Sublattices of like brightness, the brightest first: domains may have made several of one place in the cell.

    Parameters
    ----------
    group : array of shape (n,), int64
        Sublattice of each column, -1 for none.
    intensities : array of shape (n,)

    Returns
    -------
    list of lists of int
    """
    numbers = np.unique(group[group >= 0])
    bright = np.array([np.median(intensities[group == one]) for one in numbers.tolist()])
    order = np.argsort(-bright, kind="stable")
    fall = bright[order][:-1] > _BRIGHTER * np.maximum(bright[order][1:], 0)
    return [part.tolist() for part in np.split(numbers[order], np.flatnonzero(fall) + 1) if len(part)]


def _without_itself(fits: LocalFits, positions: Floats) -> Floats:
    """How far columns (m, 2) are from where the others of the fit around each put them."""
    basis = np.where(fits.known[:, None, None], fits.basis, np.eye(2))
    cells = np.einsum("mi,mij->mj", positions - fits.middle, np.linalg.inv(basis)) + fits.middle_index
    step = np.rint(np.where(fits.known[:, None], cells, 0.0)) - np.nan_to_num(fits.middle_index)
    off = positions - fits.middle - np.einsum("mi,mij->mj", step, basis)
    # A column is the nearest of its own fit, and draws it.
    own = fits.middle_weights[:, 0] + np.einsum("mp,mp->m", fits.weights[:, 0], step)
    off[~fits.known | (own > _SELF)] = np.nan
    return np.asarray(off / (1 - np.minimum(own, _SELF))[:, None], np.float64)


def _together(positions: Floats, off: Floats, group: Ints) -> float:
    """One plus the sum of the correlations of a column with its nearest neighbours of other sublattices, 1 where none is seen.

    Parameters
    ----------
    positions : array of shape (n, 2)
    off : array of shape (n, 2)
        How far columns are from where their sublattice puts them, over how far that usually is; NaN where it is not known.
    group : array of shape (n,), int64
    """
    rows = np.flatnonzero(np.isfinite(off).all(axis=1))
    if len(np.unique(group[rows])) < 2:
        return 1.0
    k = min(_AROUND, len(rows))
    away, near = map(np.asarray, cKDTree(positions[rows]).query(positions[rows], k=range(2, k + 1)))
    unlike = group[rows][near] != group[rows][:, None]
    first = np.where(unlike, away, np.inf).min(axis=1)
    pairs = unlike & (away < _BESIDE * np.median(first))
    i, nth = np.nonzero(pairs)
    if len(i) < _MANY:
        return 1.0
    one, other = rows[i], rows[near[i, nth]]
    # The mean over directions of what is correlated along and across the step.
    both = (np.clip(off[one], -_FAR, _FAR) * np.clip(off[other], -_FAR, _FAR)).sum(axis=1) / 2
    return float(max(1 + both.mean() * len(i) / len(rows) / SEEN, 1.0))
