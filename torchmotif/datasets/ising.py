"""Equilibrium draws of an Ising model on any graph, at fixed filling."""

import numpy as np
from scipy.sparse import coo_array

from torchmotif.errors import InputError

__all__ = ["ising_draw", "ising_energy"]


def ising_energy(spins: np.ndarray, pairs: np.ndarray) -> float:
    """Energy in units of the coupling: minus the sum over pairs of the product of their spins, +1 or -1.

    Parameters
    ----------
    spins : array of shape (n,)
    pairs : array of shape (m, 2) of int
        Neighbours, each pair once.

    Examples
    --------
    >>> ising_energy(np.array([1, 1, -1]), np.array([[0, 1], [1, 2]]))
    0.0
    """
    return float(-(spins[pairs[:, 0]] * spins[pairs[:, 1]]).sum())


def ising_draw(
    pairs: np.ndarray,
    sites: int,
    *,
    filling: float,
    coupling: float,
    sweeps: int = 200,
    rng: np.random.Generator,
) -> np.ndarray:
    """Which sites are filled, drawn from exp(coupling * sum of s_i s_j over pairs) at a fixed number of filled sites.

    Kawasaki exchange over any distance with the acceptance of Metropolis et al. (1953). Each step takes a random set of
    sites that are not neighbours, and pairs them at random: the exchanges within it do not feel each other, so all are
    made at once.

    Parameters
    ----------
    pairs : array of shape (m, 2) of int
        Neighbours, each pair once.
    sites : int
        Number of sites.
    filling : float
        Share of the filled sites.
    coupling : float
        J / kT: positive gathers like sites, negative mixes them. Where it separates two phases (above about 0.3 on five
        neighbours) a draw needs many more sweeps to forget its random start.
    sweeps : int
        Exchanges offered to each site, on average.
    rng : numpy.random.Generator

    Returns
    -------
    array of shape (sites,) of bool

    Raises
    ------
    InputError
        If the filling is no share, the coupling not finite, or there is no site or sweep.
    """
    if sites < 1 or sweeps < 0:
        raise InputError(
            f"there must be at least one site and no negative number of sweeps, got {sites}, {sweeps}"
        )
    if not 0 <= filling <= 1:
        raise InputError(f"filling must lie between 0 and 1, got {filling}")
    if not np.isfinite(coupling):
        raise InputError(f"coupling must be finite, got {coupling}")
    spins = np.full(sites, -1, dtype=np.int8)
    spins[rng.permutation(sites)[: round(filling * sites)]] = 1
    neighbours = _neighbour_table(pairs, sites)
    spins = np.append(spins, np.int8(0))  # the neighbour of those that lack one
    offered = 0 if coupling != 0 and len(pairs) else sweeps * sites  # without coupling the start is the draw
    while offered < sweeps * sites:
        chosen = _apart(neighbours, rng)
        half = len(chosen) // 2
        one, other = chosen[:half], chosen[half : 2 * half]
        gain = (spins[one] - spins[other]) * (spins[neighbours[one]].sum(1) - spins[neighbours[other]].sum(1))
        swap = rng.random(half) < np.exp(np.minimum(-coupling * gain, 0.0))
        spins[one[swap]], spins[other[swap]] = spins[other[swap]], spins[one[swap]]
        offered += max(1, 2 * half)
    return spins[:-1] > 0


def _neighbour_table(pairs: np.ndarray, sites: int) -> np.ndarray:
    """Neighbours (n, most) of every site, filled up with n."""
    both = np.concatenate([pairs, pairs[:, ::-1]])
    links = coo_array(
        (np.ones(len(both), dtype=np.int8), (both[:, 0], both[:, 1])), shape=(sites, sites)
    ).tocsr()
    count = np.diff(links.indptr)
    table = np.full((sites, max(1, int(count.max()))), sites)
    row = np.repeat(np.arange(sites), count)
    table[row, np.arange(len(row)) - links.indptr[row]] = links.indices
    return table


def _apart(neighbours: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random set of sites of which no two are neighbours, in random order: those that rank first among theirs."""
    rank = np.append(rng.random(len(neighbours)), np.inf)
    first = np.nonzero(rank[:-1] < rank[neighbours].min(1))[0]
    return rng.permutation(first)
