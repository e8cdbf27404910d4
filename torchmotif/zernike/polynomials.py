"""Zernike polynomials as functions of the polar coordinates."""

import math
from functools import lru_cache
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torchmotif._arrays import as_tensor, like
from torchmotif._checks import whole_number
from torchmotif.errors import InputError
from torchmotif.zernike.indices import orders

__all__ = ["radial_polynomials", "zernike_polynomials"]


def radial_polynomials(n_max: int, r: Any) -> list[Any]:
    """Radial polynomials R_n^m at the radii `r`.

    Parameters
    ----------
    n_max : int
        Highest radial order.
    r : array of shape (p,)
        Radii in units of the disk's radius; integers are taken as floats.

    Returns
    -------
    list of array
        Entry n has the shape (n // 2 + 1, p); its row i is m = n - 2 i. numpy or torch as `r` came.

    Raises
    ------
    InputError
        If `n_max` is negative or no whole number, or `r` has another shape.

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
    values = _points("r", r)
    return [like(rows, r) for rows in _table(whole_number("n_max", n_max, 0), values)]


def _table(n_max: int, r: Float[Tensor, " p"]) -> list[Float[Tensor, "_ p"]]:
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
    r: Any,
    theta: Any,
    factor: Any = None,
) -> Any:
    """Normalised Zernike polynomials at the points (r, theta), in OSA/ANSI order.

    Parameters
    ----------
    n_max : int
        Highest radial order; k = (n_max + 1)(n_max + 2) / 2.
    r : array of shape (p,)
        Radii in units of the disk's radius; integers are taken as floats.
    theta : array of shape (p,)
        Angles in radians.
    factor : array of shape (p,), optional
        Multiplies every polynomial.

    Returns
    -------
    array of shape (k, p)
        numpy or torch as `r` came.
        sqrt(2 (n + 1) / (1 + [m = 0])) R_n^|m|(r) times cos(m theta) for m >= 0 and sin(|m| theta) for m < 0
        (Noll, 1976): the mean of each square over the unit disk is 1.

    Raises
    ------
    InputError
        If `n_max` is negative or no whole number, or `r`, `theta` and `factor` are not of one shape (p,).

    Examples
    --------
    >>> zernike_polynomials(1, torch.tensor([1.0]), torch.tensor([0.0])).shape
    torch.Size([3, 1])
    """
    n_max, points = whole_number("n_max", n_max, 0), _points("r", r)
    angles = _points("theta", theta, points)
    weights = None if factor is None else _points("factor", factor, points)
    return like(_polynomials(n_max, points, angles, weights), r)


def _polynomials(
    n_max: int, r: Float[Tensor, " p"], theta: Float[Tensor, " p"], factor: Float[Tensor, " p"] | None
) -> Float[Tensor, "k p"]:
    rows, radial_of, wave_of = _products(n_max, r.device)
    radial = torch.cat(_table(n_max, r))
    radial *= rows[:, None].to(r)
    angles = torch.arange(n_max + 1, device=r.device, dtype=r.dtype)[:, None] * theta
    waves = torch.cat([torch.cos(angles), torch.sin(angles)])
    if factor is not None:
        waves *= factor
    return radial.index_select(0, radial_of).mul_(waves.index_select(0, wave_of))


@lru_cache(maxsize=8)
def _products(
    n_max: int, device: torch.device
) -> tuple[Float[Tensor, " t"], Int[Tensor, " k"], Int[Tensor, " k"]]:
    """The norm of every radial polynomial of `_table`, which of them each polynomial has, and which of the cosines, then the sines."""
    first = [0, *accumulate(n // 2 + 1 for n in range(n_max + 1))]
    norms = [math.sqrt((n + 1) * (1 if m == 0 else 2)) for n in range(n_max + 1) for m in range(n, -1, -2)]
    pairs = orders(n_max).tolist()
    radial = [first[n] + (n - abs(m)) // 2 for n, m in pairs]
    wave = [m if m >= 0 else n_max + 1 - m for _, m in pairs]
    return (
        torch.tensor(norms, dtype=torch.float64, device=device),
        torch.tensor(radial, device=device),
        torch.tensor(wave, device=device),
    )


def _points(name: str, values: Any, beside: Tensor | None = None) -> Float[Tensor, " p"]:
    """One number for each point, as floats; of the type and on the device of those `beside` them."""
    given = beside if beside is not None else as_tensor(values, dtype=None, name=name)
    kind = given.dtype if given.is_floating_point() else torch.get_default_dtype()
    points = as_tensor(values, device=given.device, dtype=kind, name=name)
    wanted = "(p,)" if beside is None else f"{tuple(beside.shape)} of r"
    if points.ndim != 1 or (beside is not None and points.shape != beside.shape):
        raise InputError(f"{name} must have the shape {wanted}, got {tuple(points.shape)}")
    return points
