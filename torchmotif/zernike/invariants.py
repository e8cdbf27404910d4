"""What rotations leave as it is, and how far two patches are apart when they may be turned."""

from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from torchmotif._arrays import keeps_digits, like
from torchmotif.errors import InputError
from torchmotif.zernike._angles import highest_angle
from torchmotif.zernike.moments import checked, split

__all__ = ["RotationMatch", "invariants", "rotation_distance"]


@keeps_digits
def invariants(moments: Any, kind: Literal["power", "complete"] = "power", orders: Any = None) -> Any:
    """Numbers that do not change when a patch is turned.

    Parameters
    ----------
    moments : array of shape (..., k)
    kind : {"power", "complete"}
        "power": signed moments with m = 0 and |A_nm| for m > 0; q = 36 numbers at n_max 10. They say nothing about
        how the moments are turned against each other, so different patches can share them.
        "complete": patches share them only if one is the other turned. Besides the power, for every two of the p
        complex moments with m > 0, |A| |B| exp(i (m_B arg A - m_A arg B) / gcd(m_A, m_B)), over the norm of all;
        q + p (p - 1) numbers, so they grow with the fourth power of n_max: 906 at n_max 10, 12 111 at 20. Where
        only distances matter, `rotation_distance` is cheaper.
    orders : array of shape (k, 2), optional
        (n, m) of every moment; by default all up to some n_max, in OSA/ANSI order.

    Returns
    -------
    array of shape (..., q) or (..., q + p (p - 1))
        In the units of the moments.

    Raises
    ------
    InputError
        If `kind` is another, or the orders do not fit the moments.

    Notes
    -----
    The relative phases of pairs are complete because every integer relation between the m is a sum of relations
    between two of them. They extend the bispectrum (Kakarala, 2012), which does not see, say, m = 2 against m = 3
    where nothing else is present. The factor |A| |B| makes them continuous where a moment vanishes; the multiple
    m / gcd of a phase is also the factor by which its noise grows.

    Examples
    --------
    >>> from torchmotif import rotate
    >>> a = torch.randn(4, 66)
    >>> torch.allclose(invariants(a), invariants(rotate(a, 0.7)), atol=1e-5)
    True
    """
    if kind not in {"power", "complete"}:
        raise InputError(f"kind must be 'power' or 'complete', got {kind!r}")
    values, index = checked(moments, orders)
    cosine, sine, m = split(values, index)
    power = torch.where(m > 0, torch.hypot(cosine, sine), cosine)
    if kind == "power":
        return like(power, moments)
    turning = torch.nonzero(index[index[:, 1] >= 0][:, 1] > 0).squeeze(1)
    fold = index[index[:, 1] >= 0][turning, 1]
    first, second = torch.triu_indices(len(turning), len(turning), 1)
    common = torch.gcd(fold[first], fold[second])
    up, down = (fold[second] // common).to(values.device), (fold[first] // common).to(values.device)
    turning, first, second = (rows.to(values.device) for rows in (turning, first, second))
    size, phase = power[..., turning], torch.atan2(sine[..., turning], cosine[..., turning])
    norm = torch.linalg.vector_norm(values, dim=-1, keepdim=True)
    link = size[..., first] * size[..., second] / torch.where(norm > 0, norm, 1.0)
    between = up * phase[..., first] - down * phase[..., second]
    return like(torch.cat([power, link * torch.cos(between), link * torch.sin(between)], dim=-1), moments)


class RotationMatch(NamedTuple):
    """The rotation that brings patches nearest to each other.

    Attributes
    ----------
    distance : array
        Norm of the difference of the moments after it.
    angle : array
        Counter-clockwise rotation of the first in radians, in [0, 2 pi).
    mirrored : array of bool
        Whether the first is mirrored at the direction of the columns before it is turned.
    """

    distance: Any
    angle: Any
    mirrored: Any


@keeps_digits
def rotation_distance(a: Any, b: Any, mirror: bool = False, orders: Any = None) -> RotationMatch:
    """Least distance between the moments of patches over all rotations, and over all reflections too.

    Parameters
    ----------
    a, b : arrays of shape (..., k)
        Their leading shapes broadcast: ``rotation_distance(a[:, None], b[None])`` compares all with all.
    mirror : bool
        Whether `a` may also be mirrored.
    orders : array of shape (k, 2), optional
        (n, m) of every moment; by default all up to some n_max, in OSA/ANSI order.

    Returns
    -------
    RotationMatch
        distance, angle, mirrored; each of the broadcast leading shape, numpy or torch as `a` came. Of several
        equally good rotations of a symmetric patch, one.

    Raises
    ------
    InputError
        If `a` and `b` do not fit together, or the orders do not fit the moments.

    Notes
    -----
    The scalar product of a turned by alpha with b is a trigonometric polynomial in alpha, of degree n_max; it is
    evaluated on a grid by a Fourier transform and its maximum refined by Newton's method, in float64.

    Examples
    --------
    >>> from torchmotif import rotate
    >>> a = torch.randn(66, generator=torch.Generator().manual_seed(0))
    >>> match = rotation_distance(a, rotate(a, 0.7))
    >>> round(float(match.distance), 3), round(float(match.angle), 3)
    (0.0, 0.7)
    """
    first, index = checked(a, orders)
    second = checked(b, index if orders is not None else None)[0].to(first.device)
    if first.shape[-1] != second.shape[-1]:
        raise InputError(
            f"a and b must have equally many moments, got {first.shape[-1]} and {second.shape[-1]}"
        )
    try:
        # That of torch imports sympy, which takes half a second.
        np.broadcast_shapes(first.shape[:-1], second.shape[:-1])
    except ValueError:
        raise InputError(
            f"a and b must have leading shapes that broadcast, got {tuple(first.shape)} and {tuple(second.shape)}; "
            "a[:, None] and b[None] compare all with all"
        ) from None
    plain = _correlation(first, second, index)
    value, angle = highest_angle(plain)
    mirrored = torch.zeros_like(value, dtype=torch.bool)
    if mirror:
        flipped = torch.where(index[:, 1].to(first.device) < 0, -first, first)
        other_value, other_angle = highest_angle(_correlation(flipped, second, index))
        mirrored = other_value > value
        value, angle = torch.maximum(value, other_value), torch.where(mirrored, other_angle, angle)
    norms = first.double().square().sum(-1) + second.double().square().sum(-1)
    distance = (norms - 2 * value).clamp(min=0).sqrt()
    return RotationMatch(like(distance.to(first.dtype), a), like(angle.to(first.dtype), a), like(mirrored, a))


def _correlation(a: Tensor, b: Tensor, index: Tensor) -> Tensor:
    """Coefficients c_m of the scalar product of `a`, turned by alpha, with `b`: Re sum_m c_m exp(i m alpha)."""
    (a_cos, a_sin, m), (b_cos, b_sin, _) = split(a.double(), index), split(b.double(), index)
    host_m = index[index[:, 1] >= 0][:, 1]
    coefficients = []
    for fold in range(int(host_m.max()) + 1):
        rows = torch.nonzero(host_m == fold).squeeze(1).to(m.device)
        c, s, d, t = (part[..., rows] for part in (a_cos, a_sin, b_cos, b_sin))
        along = _dot(c, d)
        if fold == 0:
            coefficients.append(torch.complex(along, torch.zeros_like(along)))
        else:
            coefficients.append(torch.complex(along + _dot(s, t), _dot(s, d) - _dot(c, t)))
    return torch.stack(coefficients, dim=-1)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return torch.einsum("...k,...k->...", a, b)
