"""Arithmetic on Zernike moments: real and complex, rotated, mirrored."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from torchmotif._arrays import as_tensor, like
from torchmotif.errors import InputError, InputTypeError
from torchmotif.zernike.indices import orders as all_orders

__all__ = ["checked", "complex_orders", "reflect", "rotate", "split", "to_complex", "to_real"]

_HIGHEST = 4096  # radial order, far beyond what any patch carries


def complex_orders(orders: Int[Tensor, "k 2"]) -> Int[Tensor, "q 2"]:
    """The double index (n, m), m >= 0, of every complex moment that real moments with these `orders` have."""
    return orders[orders[:, 1] >= 0]


def to_complex(moments: Any, orders: Any = None) -> Any:
    """Complex moments A_nm = cosine moment + i sine moment, m >= 0.

    A rotation by alpha counter-clockwise multiplies A_nm by exp(i m alpha).

    Parameters
    ----------
    moments : array of shape (..., k), real
    orders : array of shape (k, 2), optional
        (n, m) of every moment; by default all up to some n_max, in OSA/ANSI order.

    Returns
    -------
    array of shape (..., q), complex
        In the order of `complex_orders`.

    Raises
    ------
    InputError
        If the orders do not fit the moments, or hold a sine without its cosine or the reverse.

    Examples
    --------
    >>> to_complex(torch.tensor([1.0, 2.0, 3.0]))
    tensor([1.+0.j, 3.+2.j])
    """
    values, index = checked(moments, orders)
    values = values if values.dtype == torch.float64 else values.float()  # torch has no complex halves
    cosine, sine, m = split(values, index)
    return like(torch.complex(cosine, torch.where(m > 0, sine, 0.0)), moments)


def to_real(moments: Any, orders: Any = None) -> Any:
    """Real moments from complex ones, the inverse of `to_complex`.

    Parameters
    ----------
    moments : array of shape (..., q), complex
    orders : array of shape (k, 2), optional
        (n, m) of the real moments; by default all up to some n_max, in OSA/ANSI order.

    Returns
    -------
    array of shape (..., k)

    Raises
    ------
    InputError
        If the orders do not fit the moments.

    Examples
    --------
    >>> to_real(torch.tensor([1.0 + 0.0j, 3.0 + 2.0j]))
    tensor([1., 2., 3.])
    """
    values = moments if isinstance(moments, Tensor) else np.asarray(moments)
    if isinstance(values, np.ndarray) and values.dtype.kind == "c":
        values = torch.from_numpy(
            values.astype(np.complex64 if values.dtype.itemsize == 8 else np.complex128)
        )
    if not isinstance(values, Tensor) or not values.is_complex():
        raise InputTypeError(f"moments must be complex, got {values.dtype}; real ones need no change")
    if values.ndim == 0:
        raise InputError("moments must have the shape (..., q), got a single number")
    q = values.shape[-1]
    if orders is None:
        n_max = 0
        while (n_max // 2 + 1) * ((n_max + 1) // 2 + 1) < q:
            n_max += 1
        index = all_orders(n_max)
    else:
        index = _double_indices(orders)
    if len(complex_orders(index)) != q:
        raise InputError(f"orders must fit the {q} complex moments; these give {len(complex_orders(index))}")
    cosine, sine = _partners(index)
    real = values.real.new_empty(*values.shape[:-1], len(index))
    real[..., cosine.to(values.device)] = values.real
    signed = index[cosine, 1] > 0
    real[..., sine[signed].to(values.device)] = values.imag[..., signed.to(values.device)]
    return like(real, moments)


def rotate(moments: Any, angle: Any, orders: Any = None) -> Any:
    """Moments of the patches turned counter-clockwise about their centres.

    Parameters
    ----------
    moments : array of shape (..., k)
    angle : float or array that broadcasts with the leading shape of `moments`
        In radians.
    orders : array of shape (k, 2), optional
        (n, m) of every moment; by default all up to some n_max, in OSA/ANSI order.

    Returns
    -------
    array of shape (..., k)

    Raises
    ------
    InputError
        If the orders do not fit the moments, or hold a sine without its cosine or the reverse, or the angles do not
        fit the moments.

    Examples
    --------
    >>> right = torch.tensor([1.0, 0.0, 2.0])  # brighter to the right
    >>> torch.allclose(rotate(right, torch.pi / 2), torch.tensor([1.0, 2.0, 0.0]), atol=1e-6)  # now above
    True
    """
    values, index = checked(moments, orders)
    m = index[:, 1].to(values.device)
    turn = as_tensor(angle, device=values.device, dtype=values.dtype, name="angle")
    try:
        # That of torch imports sympy, which takes half a second.
        np.broadcast_shapes(turn.shape, values.shape[:-1])
    except ValueError as error:
        raise InputError(
            f"angle must broadcast with the leading shape {tuple(values.shape[:-1])} of moments, got {tuple(turn.shape)}"
        ) from error
    phase = m.abs() * turn[..., None]
    # cosine' = c cos - s sin, sine' = s cos + c sin
    turned = values * torch.cos(phase) - torch.sign(m) * _swapped(values, index) * torch.sin(phase)
    return like(turned, moments)


def reflect(moments: Any, axis: Any = 0.0, orders: Any = None) -> Any:
    """Moments of the patches mirrored at an axis through their centres.

    Parameters
    ----------
    moments : array of shape (..., k)
    axis : float or array that broadcasts with the leading shape of `moments`
        Angle of the axis, counter-clockwise from the direction of the columns, in radians.
    orders : array of shape (k, 2), optional
        (n, m) of every moment; by default all up to some n_max, in OSA/ANSI order.

    Returns
    -------
    array of shape (..., k)

    Raises
    ------
    InputError
        If the orders do not fit the moments, or hold a sine without its cosine or the reverse.

    Examples
    --------
    >>> reflect(torch.tensor([1.0, 3.0, 2.0]))  # the sine changes sign
    tensor([ 1., -3.,  2.])
    """
    values, index = checked(moments, orders)
    m = index[:, 1].to(values.device)
    flipped = torch.where(m < 0, -values, values)
    return like(
        rotate(flipped, 2 * as_tensor(axis, device=values.device, dtype=values.dtype, name="axis"), index),
        moments,
    )


def split(values: Tensor, index: Int[Tensor, "k 2"]) -> tuple[Tensor, Tensor, Tensor]:
    """Cosine moments, sine moments (the cosine's own where m = 0), and m, for every (n, m >= 0)."""
    cosine, sine = _partners(index)
    m = index[cosine, 1].to(values.device)
    return values[..., cosine.to(values.device)], values[..., sine.to(values.device)], m


def _swapped(values: Tensor, index: Tensor) -> Tensor:
    """Every moment replaced by its partner with -m."""
    cosine, sine = _partners(index)
    partner = torch.empty(len(index), dtype=torch.long)
    partner[cosine], partner[sine] = sine, cosine
    return values[..., partner.to(values.device)]


def _partners(index: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of the moments with m >= 0, and for each the row of -m."""
    row = {(n, m): j for j, (n, m) in enumerate(index.tolist())}
    missing = [order for order in row if (order[0], -order[1]) not in row]
    if missing:
        raise InputError(f"orders must hold (n, -m) with every (n, m), got {missing[0]} alone")
    pairs = [(j, row[n, -m]) for (n, m), j in row.items() if m >= 0]
    rows = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2)
    return rows[:, 0], rows[:, 1]


def checked(moments: Any, orders: Any) -> tuple[Tensor, Tensor]:
    """The moments as floats, and their double indices on the host."""
    values = as_tensor(moments, dtype=None, name="moments")
    if values.is_complex():
        raise InputTypeError("moments must be real; to_real turns complex ones into them")
    if not values.is_floating_point():
        values = values.float()
    if values.ndim == 0:
        raise InputError("moments must have the shape (..., k), got a single number")
    k = values.shape[-1]
    if orders is None:
        n_max = max((int((8 * k + 1) ** 0.5) - 3) // 2, 0)
        index = all_orders(n_max)
        if len(index) != k:
            raise InputError(
                f"moments must come in full sets of (n_max + 1)(n_max + 2) / 2, got {k}; "
                "give the orders of a selection"
            )
        return values, index
    index = _double_indices(orders)
    if tuple(index.shape) != (k, 2):
        raise InputError(f"orders must have the shape ({k}, 2), got {tuple(index.shape)}")
    return values, index


def _double_indices(orders: Any) -> Int[Tensor, "k 2"]:
    """The double indices (n, m) that a caller gave, checked, on the host."""
    index = as_tensor(orders, dtype=None, name="orders").cpu()
    if index.ndim != 2 or index.shape[1] != 2 or index.is_floating_point() or index.dtype == torch.bool:
        raise InputError(
            f"orders must be whole numbers of shape (k, 2), got {index.dtype} {tuple(index.shape)}"
        )
    index = index.long()
    n, m = index[:, 0], index[:, 1]
    if not bool(((m.abs() <= n) & ((n - m) % 2 == 0) & (n <= _HIGHEST)).all()):
        raise InputError(f"orders must be (n, m) with |m| <= n <= {_HIGHEST} and n - m even")
    return index
