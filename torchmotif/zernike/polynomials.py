"""Zernike polynomials as functions of the polar coordinates."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from torchmotif.zernike.indices import n_modes

__all__ = ["radial_polynomials", "zernike_polynomials"]


def radial_polynomials(n_max: int, r: Float[Tensor, " p"]) -> list[Float[Tensor, "_ p"]]:
    """Radial polynomials R_n^m at the radii `r`.

    Parameters
    ----------
    n_max : int
        Highest radial order.
    r : Tensor of shape (p,)
        Radii in units of the disk's radius.

    Returns
    -------
    list of Tensor
        Entry n has the shape (n // 2 + 1, p); its row i is m = n - 2 i.

    Raises
    ------
    InputError
        If `n_max` is negative or no whole number.

    Notes
    -----
    The recurrence of Shakibaei & Paramesran (2013), R_n^m = r (R_{n-1}^{|m-1|} + R_{n-1}^{m+1}) - R_{n-2}^m, stays
    at rounding error for all orders, where the factorial formula loses every digit by n = 40.

    Examples
    --------
    >>> radial_polynomials(2, torch.tensor([0.5]))[2]  # r^2 and 2 r^2 - 1
    tensor([[ 0.2500],
            [-0.5000]])
    """
    n_modes(n_max)
    table = [torch.ones_like(r)[None]]
    for n in range(1, n_max + 1):
        lower = table[n - 1]
        current = r.new_empty(n // 2 + 1, r.numel())
        torch.mul(lower, r, out=current[: len(lower)])  # R_{n-1}^{m-1}
        if n % 2 == 0:
            torch.mul(lower[-1], r, out=current[-1])  # m = 0, where |m - 1| = 1
        if n > 1:
            rows = n // 2
            current[1:].addcmul_(lower[:rows], r[None]).sub_(table[n - 2][:rows])
        table.append(current)
    return table


def zernike_polynomials(
    n_max: int,
    r: Float[Tensor, " p"],
    theta: Float[Tensor, " p"],
    factor: Float[Tensor, " p"] | None = None,
) -> Float[Tensor, "k p"]:
    """Normalised Zernike polynomials at the points (r, theta), in OSA/ANSI order.

    Parameters
    ----------
    n_max : int
        Highest radial order; k = (n_max + 1)(n_max + 2) / 2.
    r : Tensor of shape (p,)
        Radii in units of the disk's radius.
    theta : Tensor of shape (p,)
        Angles in radians.
    factor : Tensor of shape (p,), optional
        Multiplies every polynomial.

    Returns
    -------
    Tensor of shape (k, p)
        sqrt(2 (n + 1) / (1 + [m = 0])) R_n^|m|(r) times cos(m theta) for m >= 0 and sin(|m| theta) for m < 0
        (Noll, 1976): the mean of each square over the unit disk is 1.

    Raises
    ------
    InputError
        If `n_max` is negative or no whole number.

    Examples
    --------
    >>> zernike_polynomials(1, torch.tensor([1.0]), torch.tensor([0.0])).shape
    torch.Size([3, 1])
    """
    table = radial_polynomials(n_max, r)
    angles = torch.arange(n_max + 1, device=r.device, dtype=r.dtype)[:, None] * theta
    cosine, sine = torch.cos(angles), torch.sin(angles)
    if factor is not None:
        cosine, sine = cosine * factor, sine * factor
    values = r.new_empty(n_modes(n_max), r.numel())
    first = 0
    for n, radial in enumerate(table):
        scaled = radial * math.sqrt(2 * (n + 1))
        sines = (n + 1) // 2
        torch.mul(scaled[:sines], sine[1:].flip(0)[n_max - n :: 2][:sines], out=values[first : first + sines])
        torch.mul(scaled.flip(0), cosine[n % 2 : n + 1 : 2], out=values[first + sines : first + n + 1])
        if n % 2 == 0:
            values[first + sines] *= math.sqrt(0.5)
        first += n + 1
    return values
