"""Single and double indices of Zernike polynomials (OSA/ANSI)."""

import torch
from jaxtyping import Int
from torch import Tensor

from torchmotif.errors import InputError

__all__ = ["n_modes", "orders", "osa_index"]


def n_modes(n_max: int) -> int:
    """Number of real Zernike polynomials up to radial order `n_max`.

    Examples
    --------
    >>> n_modes(10)
    66
    """
    if not isinstance(n_max, int) or n_max < 0:
        raise InputError(f"n_max must be a whole number of at least 0, got {n_max!r}")
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
    """The OSA/ANSI single index j of the polynomial (n, m).

    Examples
    --------
    >>> osa_index(4, -2)
    11
    """
    if n < 0 or abs(m) > n or (n - m) % 2:
        raise InputError(f"(n, m) must satisfy n >= |m| and n - m even, got ({n}, {m})")
    return (n * (n + 2) + m) // 2
