"""Places of sites: where the sites around lead to one of them, which of them are alike, and which lie within the crystal."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from torchmotif._threads import single_threaded
from torchmotif.columns.lattice import find_lattice, translations

__all__ = ["expected_places", "is_surrounded", "kinds_of"]

Values = NDArray[np.float64]
Numbers = NDArray[np.int64]

_FINER = 0.7  # see `find_sites`
_NEAR = 0.35  # spacings from a site within which a translation leads to it
_FEWEST = 12  # sites of a sublattice that a lattice is looked for in
# Sites that translations join, from which they are a kind of their own: fewer belong to the kind nearest in intensity.
_OF_THEIR_OWN = 200
_AROUND = 1.2  # shortest translations within which the columns around a place are
_MOST = 24  # of them
_WIDEST_GAP = np.radians(
    150.0
)  # between the directions to two neighbouring columns: at a straight edge it is 180 degrees
_OUTWARDS = np.radians([-60.0, 0.0, 60.0])  # beyond the image's border there may be columns


@single_threaded()
def expected_places(
    positions: Values, sublattice: Numbers, has_column: NDArray[np.bool_], spacing: float
) -> tuple[Values, Numbers, dict[int, float]]:
    """Where the six shortest translations lead to each site from the sites around, and which sites they join.

    Parameters
    ----------
    positions : array of shape (s, 2)
        Of the sites in pixels.
    sublattice : array of shape (s,), int64
        -1 where none is known.
    has_column : boolean array of shape (s,)
        Sites without a column lead nowhere.
    spacing : float
        Distance between neighbouring columns in pixels.

    Returns
    -------
    places : array of shape (s, 2)
        Mean of where the translations lead; NaN where none does.
    joined : array of shape (s,), int64
        Sites of one sublattice and number are joined by translations; -1 where none is known.
    apart : dict
        Of each sublattice, the distance between its nearest sites in pixels.
    """
    places, joined, apart = np.full_like(positions, np.nan), np.full(len(positions), -1), {}
    for number in np.unique(sublattice[sublattice >= 0]).tolist():
        rows = np.flatnonzero(sublattice == number)
        hosts = rows[has_column[rows]]
        if len(hosts) < _FEWEST:
            continue
        host = positions[hosts]
        apart[number] = float(np.median(cKDTree(host).query(host, k=[2])[0]))
        lattice = find_lattice(torch.from_numpy(host), _FINER * apart[number])
        grain, net = lattice.grain.numpy(), lattice.sublattice.numpy()
        joined[hosts] = net
        known = grain >= 0
        target = host[known, None] + translations(lattice.vectors).numpy()[grain[known]]
        of = np.repeat(net[known], target.shape[1])
        target = target.reshape(-1, 2)
        away, nearest = map(
            np.asarray, cKDTree(positions[rows]).query(target, distance_upper_bound=_NEAR * spacing)
        )
        led = np.isfinite(away)
        at = rows[nearest[led]]
        sums, count = np.zeros_like(positions), np.zeros(len(positions))
        np.add.at(sums, at, target[led])
        np.add.at(count, at, 1)
        here = count > 0
        places[here] = sums[here] / count[here, None]
        other = joined[at] < 0
        joined[at[other]] = of[led][other]
    return places, joined, apart


def is_surrounded(places: Values, columns: Values, reach: float, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Which places have columns on all sides: a missing column within the crystal, not its edge or a hole's.

    Parameters
    ----------
    places : array of shape (k, 2)
    columns : array of shape (n, 2)
    reach : float
        Shortest translation of the places' sublattice, in pixels.
    shape : (int, int)
        Of the image; what lies beyond its border may be crystal.

    Returns
    -------
    boolean array of shape (k,)
    """
    if not len(places) or not len(columns):
        return np.zeros(len(places), bool)
    far = _AROUND * reach
    most = min(_MOST, len(columns))
    away, nearest = cKDTree(columns).query(places, k=range(1, most + 1), distance_upper_bound=far)
    found = np.isfinite(away)
    step = columns[np.where(found, nearest, 0)] - places[:, None]
    angle = np.where(found, np.arctan2(step[..., 0], step[..., 1]), np.nan)
    last = np.array(shape) - 1
    for axis, normal in ((0, np.pi / 2), (1, 0.0)):
        for near, outwards in (
            (places[:, axis] < far, normal + np.pi),
            (last[axis] - places[:, axis] < far, normal),
        ):
            beyond = np.mod(outwards + _OUTWARDS + np.pi, 2 * np.pi) - np.pi
            angle = np.concatenate([angle, np.where(near[:, None], beyond, np.nan)], axis=1)
    angle = np.sort(angle, axis=1)  # none comes last
    count = np.isfinite(angle).sum(axis=1)
    last_one = np.take_along_axis(angle, np.maximum(count - 1, 0)[:, None], axis=1)[:, 0]
    around = angle[:, 0] + 2 * np.pi - last_one
    gaps = np.nan_to_num(np.diff(angle, axis=1), nan=0.0)
    widest = np.maximum(gaps.max(axis=1, initial=0.0), around)
    surrounded: NDArray[np.bool_] = (count >= 3) & (widest <= _WIDEST_GAP)
    return surrounded


def kinds_of(sublattice: Numbers, joined: Numbers, intensities: Values) -> Numbers:
    """Number of the kind of each site, of like ones: those that translations join, and few that are as bright; -1 for none.

    A sublattice of one motif may hold unlike sites where the dose does not tell their motifs apart; translations do.
    """
    kind = np.full(len(sublattice), -1)
    total = 0
    for number in np.unique(sublattice[sublattice >= 0]).tolist():
        rows = np.flatnonzero(sublattice == number)
        usable = rows[np.isfinite(intensities[rows])]
        if not len(usable):
            continue
        net, count = np.unique(joined[usable][joined[usable] >= 0], return_counts=True)
        large = net[count >= _OF_THEIR_OWN]
        if len(large) < 2:
            kind[rows], total = total, total + 1
            continue
        level = np.array([np.median(intensities[usable[joined[usable] == one]]) for one in large])
        for one in np.unique(joined[rows]).tolist():
            mine = rows[joined[rows] == one]
            usual = intensities[mine][np.isfinite(intensities[mine])]
            middle = np.median(usual) if len(usual) else level[0]
            place = np.flatnonzero(large == one)
            kind[mine] = total + (place[0] if len(place) else int(np.abs(level - middle).argmin()))
        total += len(large)
    return kind
