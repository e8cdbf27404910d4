"""Single and double indices of Zernike polynomials (OSA/ANSI)."""

import math
import operator
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from torchmotif._checks import whole_number
from torchmotif.errors import InputError

__all__ = [
    "fringe_index",
    "from_fringe",
    "from_noll",
    "from_osa",
    "n_modes",
    "noll_index",
    "orders",
    "osa_index",
]


def n_modes(n_max: int) -> int:
    """Number of real Zernike polynomials up to radial order `n_max`.

    Examples
    --------
    >>> n_modes(10)
    66
    """
    n_max = whole_number("n_max", n_max, 0)
    return (n_max + 1) * (n_max + 2) // 2


def orders(n_max: int) -> Int[Tensor, "k 2"]:
    """The double index (n, m) of every polynomial up to radial order `n_max`, in OSA/ANSI order.

    Parameters
    ----------
    n_max : int
        Highest radial order.

    Returns
    -------
    Tensor of shape (k, 2), int64
        Row j holds (n, m) of the polynomial with the single index j.

    Raises
    ------
    InputError
        If `n_max` is negative or no whole number.

    Notes
    -----
    ANSI Z80.28 (Thibos et al., 2002): j = (n (n + 2) + m) / 2, where m < 0 are the sine terms.

    Examples
    --------
    >>> orders(2).tolist()
    [[0, 0], [1, -1], [1, 1], [2, -2], [2, 0], [2, 2]]
    """
    j = torch.arange(n_modes(n_max))
    n = torch.floor((torch.sqrt(8.0 * j + 1) - 1) / 2).long()
    m = 2 * j - n * (n + 2)
    return torch.stack([n, m], dim=1)


def osa_index(n: int, m: int) -> int:
    """The OSA/ANSI single index j of the polynomial (n, m), from 0.

    Examples
    --------
    >>> osa_index(4, -2)
    11
    """
    n, m = _double_index(n, m)
    return (n * (n + 2) + m) // 2


def from_osa(j: int) -> tuple[int, int]:
    """The double index (n, m) of the OSA/ANSI single index `j`, from 0.

    Examples
    --------
    >>> from_osa(11)
    (4, -2)
    """
    j = whole_number("j", j, 0)
    n = (math.isqrt(8 * j + 1) - 1) // 2
    return n, 2 * j - n * (n + 2)


def noll_index(n: int, m: int) -> int:
    """The single index of the polynomial (n, m) in the order of Noll (1976), from 1.

    Even indices are cosines; among equal n, |m| rises.

    Examples
    --------
    >>> noll_index(2, 0), noll_index(2, -2), noll_index(2, 2)
    (4, 5, 6)
    """
    n, m = _double_index(n, m)
    first = n * (n + 1) // 2 + abs(m)
    if m == 0:
        return first + 1
    return first + ((first % 2 == 1) == (m > 0))


def from_noll(j: int) -> tuple[int, int]:
    """The double index (n, m) of Noll's single index `j`, from 1.

    Examples
    --------
    >>> from_noll(4), from_noll(5)
    ((2, 0), (2, -2))
    """
    j = whole_number("j", j, 1)
    n = (math.isqrt(8 * j - 7) - 1) // 2
    place = j - n * (n + 1) // 2 - 1
    m = n % 2 + 2 * ((place + (n + 1) % 2) // 2)
    return n, m if j % 2 == 0 or m == 0 else -m


def fringe_index(n: int, m: int) -> int:
    """The single index of the polynomial (n, m) in the fringe (University of Arizona) order, from 1.

    Sorted by n + |m|, then by falling |m|, the cosine before the sine.

    Examples
    --------
    >>> fringe_index(2, 0), fringe_index(2, 2), fringe_index(2, -2)
    (4, 5, 6)
    """
    n, m = _double_index(n, m)
    return (1 + (n + abs(m)) // 2) ** 2 - 2 * abs(m) + (m < 0)


def from_fringe(j: int) -> tuple[int, int]:
    """The double index (n, m) of the fringe single index `j`, from 1.

    Examples
    --------
    >>> from_fringe(4), from_fringe(6)
    ((2, 0), (2, -2))
    """
    j = whole_number("j", j, 1)
    half = math.isqrt(j - 1)  # (n + |m|) / 2
    behind = (half + 1) ** 2 - j
    m = (behind + 1) // 2
    return 2 * half - m, -m if behind % 2 else m


def _double_index(n: Any, m: Any) -> tuple[int, int]:
    try:
        n, m = operator.index(n), operator.index(m)
    except (TypeError, RuntimeError):
        raise InputError(f"(n, m) must be whole numbers, got ({n!r}, {m!r})") from None
    if n < 0 or abs(m) > n or (n - m) % 2:
        raise InputError(f"(n, m) must satisfy n >= |m| and n - m even, got ({n}, {m})")
    return n, m
