"""Sites of a crystal: what may sit on them, and what their neighbours are."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from torchmotif.errors import InputError

__all__ = ["State", "check_rates", "occupied", "shell_classes", "species_names"]


class State(NamedTuple):
    """One way to occupy a site: its name, its atoms, and the share of the sites that have it."""

    kind: str
    atoms: Mapping[str, int]
    rate: float


def check_rates(rates: Mapping[str, float], of: str) -> None:
    """Refuse shares that are none, or that sum to more than 1.

    Raises
    ------
    InputError
        Naming the rates.
    """
    for name, rate in rates.items():
        if not 0 <= rate <= 1:
            raise InputError(f"{name} must lie between 0 and 1, got {rate}")
    if sum(rates.values()) > 1 + 1e-12:
        listed = ", ".join(f"{name} {rate}" for name, rate in rates.items() if rate > 0)
        raise InputError(f"the shares of {of} must sum to at most 1, got {listed}")


def occupied(choice: np.ndarray, others: Sequence[State]) -> np.ndarray:
    """Index of the state of each site, 0 for none of the others, from uniform numbers (n,) in [0, 1)."""
    edges = np.cumsum([state.rate for state in others])
    index = np.searchsorted(edges, choice, side="right")
    return np.where(index < len(others), index + 1, 0)


def shell_classes(
    pairs: np.ndarray,
    kinds: np.ndarray,
    atoms: np.ndarray,
    *,
    perfect: np.ndarray,
    elements: Sequence[str],
) -> np.ndarray:
    """The kind of each site, and by what its first shell differs from the perfect one.

    Parameters
    ----------
    pairs : array of shape (m, 2) of int
        Neighbouring sites, each pair once.
    kinds : array of shape (n,) of str
    atoms : array of shape (n, e) of int
        Atoms of each element on each site.
    perfect : array of shape (n, e) of int
        Atoms of each element in the shell of the site in a perfect crystal.
    elements : sequence of e str

    Returns
    -------
    array of shape (n,) of str, for example "Mo -1 Se"
    """
    ends, starts = np.concatenate([pairs, pairs[:, ::-1]]).T
    shell = np.stack([np.bincount(ends, atoms[starts, e], len(kinds)) for e in range(len(elements))], axis=1)
    difference = np.rint(shell).astype(int) - perfect
    rows, index = np.unique(difference, axis=0, return_inverse=True)
    endings = np.array(
        ["".join(f" {d:+d} {e}" for d, e in zip(row, elements, strict=True) if d) for row in rows.tolist()]
    )
    return np.char.add(kinds.astype(str), endings[index.reshape(-1)])


def species_names(atoms: np.ndarray, elements: Sequence[str]) -> np.ndarray:
    """The atoms of each site, for example "Se+Se"; empty where there is none."""
    rows, index = np.unique(atoms, axis=0, return_inverse=True)
    names = np.array(
        ["+".join(e for e, n in zip(elements, row, strict=True) for _ in range(n)) for row in rows.tolist()]
    )
    return names[index.reshape(-1)]
