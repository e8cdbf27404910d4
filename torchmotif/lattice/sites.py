"""Sites: on which sublattice of the crystal a column, and so a motif, sits, or between which."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from torchmotif._arrays import as_positions
from torchmotif._threads import in_threads
from torchmotif.columns.lattice import Lattice, dark_sites, find_lattice
from torchmotif.errors import InputError

__all__ = ["Sites", "find_sites"]

_NEIGHBOURS = 8  # columns of a sublattice that say where its sites are
_FEWEST = 3  # of them that are needed
_REACH = 3.0  # of its own spacings within which they lie; farther away strain adds up
_FINER = 0.7  # of its own spacing is what its lattice is looked for with: more, and grains 12 degrees apart pass for one
_NEAR = 0.35  # spacings from a site within which a column sits on it; sublattices are one spacing apart
_CLEAR = 0.5  # spacings from a site within which a column that does not sit on it has moved there
# Of the most frequent motif: one on no known site that has as many columns may be a sublattice. One that has fewer, but so many as told, is
# one of a small grain if nearly all of them form one lattice: in four grains of MoSe2 the smallest has 42 columns of a motif of its own, all
# in one lattice, and what is rare in a crystal has none.
_FREQUENT = 0.1
_REGULAR, _SEVERAL = 0.8, 36


@dataclass(frozen=True, eq=False)
class Sites:
    """Where columns and motifs sit. A sublattice has the number of its most frequent motif.

    Attributes
    ----------
    columns : array of shape (n,), int64
        Sublattice of each column, of those in no motif too; -1 between the sites, or where no lattice is known.
    motifs : array of shape (n_motifs,), int64
        Sublattice on which most columns of each motif sit: the motif's own number where it makes one; -1 where most
        sit on none.
    shares : array of shape (n_motifs,), float64
        Share of the motif's columns that do so, of those in a known lattice; NaN where none is.
    empty : array of shape (k, 2), float64
        (row, col) in pixels of sites to which half of the shortest translations of a sublattice lead, or more, and where
        no column is near: vacancies of whole columns, and the edge of holes. Some lie outside the image, at its rim.
    empty_of : array of shape (k,), int64
        Their sublattice.
    known : array of shape (n,), bool
        Whether a sublattice is known around each column.
    bases, lattice : arrays of shape (n, 2, 2) and (n,) int64, optional
        Translations (row, col) in pixels that columns were found to sit on a sublattice by, and a number of the lattice: those of the columns
        of the motif that makes it. NaN and -1 for others.
    """

    columns: np.ndarray
    motifs: np.ndarray
    shares: np.ndarray
    empty: np.ndarray
    empty_of: np.ndarray
    known: np.ndarray
    bases: np.ndarray | None = None
    lattice: np.ndarray | None = None

    @property
    def sublattices(self) -> list[int]:
        """The motifs that make a sublattice: the crystal, not what is rare in it."""
        return [number for number in np.unique(self.columns).tolist() if number >= 0]

    def where(self, motif: int) -> str:
        """Where a motif sits, in words.

        Parameters
        ----------
        motif : int

        Returns
        -------
        str
            Such as "on the sites of motif 1 (97% of them)".
        """
        site, share = int(self.motifs[motif]), float(self.shares[motif])
        if np.isnan(share):
            return "where no lattice is seen"
        most = "" if share >= 0.995 else f" ({share:.0%} of them)"
        if site == motif:
            return f"on sites of its own{most}"
        return (f"on the sites of motif {site}" if site >= 0 else "between the sites") + most


def find_sites(
    positions: Any,
    labels: Any,
    spacing: float,
    n_motifs: int | None = None,
    *,
    shape: tuple[int, int] | None = None,
) -> Sites:
    """Sublattices that the frequent motifs make, and which of them each column sits on.

    Motifs are taken in order. One whose columns form a lattice of their own, and do not sit on sites that are known
    already, makes a sublattice; a column sits on it if its translations lead there from the columns around.

    Parameters
    ----------
    positions : array of shape (n, 2)
        (row, col) in pixels.
    labels : array of shape (n,), int
        Motif of each column, the most frequent 0; below 0 for none.
    spacing : float
        Distance between neighbouring columns in pixels.
    n_motifs : int, optional
        By default as many as there are labels.
    shape : (int, int), optional
        Of the image in pixels: at its border, translations from beyond it are not asked for.

    Returns
    -------
    Sites

    Raises
    ------
    InputError
        If the shapes differ, or the spacing is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> square = 10.0 * np.argwhere(np.ones((12, 12)))
    >>> find_sites(np.vstack([square, [[55.0, 55.0]]]), [*[0] * 100, *[1] * 44, 2], 10.0).motifs.tolist()
    [0, 0, -1]
    """
    points = as_positions(positions).cpu().numpy().astype(np.float64)
    motif = np.asarray(labels, np.int64)
    if motif.shape != (len(points),):
        raise InputError(
            f"labels must have the shape ({len(points)},), one for each position, got {motif.shape}"
        )
    n_motifs = max(n_motifs or 0, int(motif.max(initial=-1)) + 1)
    site, known = np.full(len(points), -1), np.zeros(len(points), bool)
    least = np.full(len(points), _NEAR * spacing)
    most = np.bincount(motif[motif >= 0], minlength=1).max()
    bases, which, count = np.full((len(points), 2, 2), np.nan), np.full(len(points), -1), 0
    size = np.bincount(motif[motif >= 0], minlength=n_motifs)
    least_size = np.minimum(_FREQUENT * most, _SEVERAL)
    numbers = np.flatnonzero((size > _NEIGHBOURS) & (size >= least_size)).tolist()
    hosts = [points[motif == number] for number in numbers]
    for number, host, found in zip(
        numbers, hosts, in_threads(_lattice_of, hosts, torch.device("cpu")), strict=True
    ):
        here = motif == number
        if (site[here] >= 0).mean() >= 0.5:
            continue
        own_spacing, lattice = found
        if len(host) < _FREQUENT * most and (lattice.grain.numpy() >= 0).mean() < _REGULAR:
            continue
        away = _distances(points, host, lattice, _REACH * own_spacing)
        known |= np.isfinite(away)
        nearer = away < least
        site[nearer], least[nearer] = number, away[nearer]
        grain, vectors = lattice.grain.numpy(), lattice.vectors.numpy()
        inside = np.flatnonzero(here)[grain >= 0]
        bases[inside], which[inside] = vectors[grain[grain >= 0]], count + grain[grain >= 0]
        count += len(vectors)
    motifs, shares = _by_motif(site, motif, known, n_motifs)
    places, of = _empty_places(points, site, spacing, shape)
    return Sites(site, motifs, shares, places, of, known, bases, which)


def _empty_places(
    points: NDArray[np.float64], site: NDArray[np.int64], spacing: float, shape: tuple[int, int] | None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Places where a sublattice has a site and no column is, and which sublattice that is.

    All columns that sit on it lead there, not those of its motif alone: beside three vacancies too few of these are left, and of
    23 empty sites in three images of MoSe2 at 0.5 electrons per pixel five were not seen.
    """
    numbers = np.unique(site[site >= 0]).tolist()

    def places_of(number: int) -> NDArray[np.float64]:
        mine = points[site == number]
        if len(mine) < 2:
            return np.zeros((0, 2))
        apart = float(np.median(cKDTree(mine).query(mine, k=[2])[0]))
        places = dark_sites(torch.from_numpy(mine), _FINER * apart, None, shape).numpy()
        return places[cKDTree(points).query(places)[0] > _CLEAR * spacing] if len(places) else places

    empty = list(in_threads(places_of, numbers, torch.device("cpu")))
    of = np.repeat(np.array(numbers, np.int64), [len(one) for one in empty])
    return np.concatenate([np.zeros((0, 2)), *empty]), of


def _lattice_of(host: NDArray[np.float64]) -> tuple[float, Lattice]:
    """Distance between the nearest columns of a motif, and their lattice."""
    own_spacing = float(np.median(cKDTree(host).query(host, k=[2])[0]))
    return own_spacing, find_lattice(torch.from_numpy(host), _FINER * own_spacing)


def _distances(
    points: NDArray[np.float64], host: NDArray[np.float64], lattice: Lattice, reach: float
) -> NDArray[np.float64]:
    """How far each point is from the nearest site of a sublattice, in pixels; inf where none of its columns are near."""
    away = np.full(len(points), np.inf)
    grain, vectors = lattice.grain.numpy(), lattice.vectors.numpy()
    host, grain = host[grain >= 0], grain[grain >= 0]
    if not len(host):
        return away
    distance, nearest = cKDTree(host).query(points, k=_NEIGHBOURS + 1, distance_upper_bound=reach)
    found = (nearest < len(host)) & (distance > 0)  # a column does not speak for itself
    nearest = np.where(found, nearest, 0)
    number = grain[nearest]
    cells = _changed(points[:, None] - host[nearest], np.linalg.inv(vectors)[number])
    off = _changed(cells - np.rint(cells), vectors[number])
    rest = np.hypot(off[..., 0], off[..., 1])
    # A quarter of the columns around decide: of a motif on equivalent sublattices, only some are a translation away.
    rest = np.sort(np.where(found, rest, np.inf), axis=1)
    number = found.sum(axis=1)
    seen = number >= _FEWEST
    away[seen] = rest[seen, (number[seen] - 1) // 4]
    return away


def _changed(steps: NDArray[np.float64], bases: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vectors (..., 2) times matrices (..., 2, 2): faster than products of so small matrices."""
    return steps[..., :1] * bases[..., 0, :] + steps[..., 1:] * bases[..., 1, :]


def _by_motif(
    site: np.ndarray, motif: np.ndarray, known: np.ndarray, n_motifs: int
) -> tuple[np.ndarray, np.ndarray]:
    """The site of most columns of each motif, and what share of them sit there."""
    counted = (motif >= 0) & known
    counts = np.zeros((n_motifs, n_motifs + 1))
    np.add.at(counts, (motif[counted], site[counted] + 1), 1)
    total = counts.sum(axis=1)
    shares = np.divide(counts.max(axis=1, initial=0), total, where=total > 0, out=np.full(n_motifs, np.nan))
    return np.where(total > 0, counts.argmax(axis=1) - 1, -1), shares
