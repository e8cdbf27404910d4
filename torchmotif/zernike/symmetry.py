"""How symmetric patches are under rotation and reflection, patch by patch and as maps over an image."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torchmotif._arrays import keeps_digits, like, pixels_of
from torchmotif.errors import InputError
from torchmotif.zernike._angles import highest_angle
from torchmotif.zernike.moments import checked, split
from torchmotif.zernike.transform import ZernikeBasis

__all__ = [
    "MirrorSymmetry",
    "mirror_symmetry",
    "mirror_symmetry_map",
    "rotational_symmetry",
    "rotational_symmetry_map",
]


class MirrorSymmetry(NamedTuple):
    """The mirror axis that maps a patch best onto itself; of several that do so equally well, one.

    Attributes
    ----------
    score : array
        Correlation of the patch with its mirror image, at most 1.
    axis : array
        Angle of the axis, counter-clockwise from the direction of the columns in radians, in [0, pi).
    """

    score: Any
    axis: Any


@keeps_digits
def rotational_symmetry(moments: Any, folds: Sequence[int], orders: Any = None) -> Any:
    """Mean correlation of patches with themselves turned by the multiples of 2 pi / fold.

    Moments with |m| < 2 are left out: the mean and round part is the same at every angle, and a slope comes from a
    centre that is off.

    Parameters
    ----------
    moments : array of shape (..., k)
    folds : sequence of f int
        Such as (2, 3, 4, 6); at least 2 each.
    orders : array of shape (k, 2), optional
        (n, m) of every moment; by default all up to some n_max, in OSA/ANSI order.

    Returns
    -------
    array of shape (..., f)
        1 where the symmetry is perfect, 0 on average without any, at least -1 / (fold - 1); 0 for patches that
        have no such moments.

    Raises
    ------
    InputError
        If a fold is below 2 or above the highest m, or the orders do not fit the moments.

    Notes
    -----
    The correlation with the patch turned by alpha is sum |A_nm|^2 cos(m alpha) over sum |A_nm|^2; its mean over the
    fold - 1 rotations weights |A_nm|^2 with 1 where fold divides m and with -1 / (fold - 1) elsewhere (Dan et al., 2022).

    Examples
    --------
    >>> only_third = torch.zeros(10)
    >>> only_third[9] = 1.0  # (n, m) = (3, 3)
    >>> rotational_symmetry(only_third, (2, 3))
    tensor([-1.,  1.])
    """
    values, index = checked(moments, orders)
    kept = torch.nonzero(index[:, 1].abs() > 1).squeeze(1)
    weights = _fold_weights(index[kept], folds).to(values)
    power = values[..., kept.to(values.device)].square()
    return like(_ratio(power @ weights.T, power.sum(-1, keepdim=True)), moments)


@keeps_digits
def mirror_symmetry(moments: Any, orders: Any = None) -> MirrorSymmetry:
    """Highest correlation of patches with their mirror images over all axes through the centre, and that axis.

    Moments with |m| < 2 are left out, as in `rotational_symmetry`.

    Parameters
    ----------
    moments : array of shape (..., k)
    orders : array of shape (k, 2), optional
        (n, m) of every moment; by default all up to some n_max, in OSA/ANSI order.

    Returns
    -------
    MirrorSymmetry
        score and axis, each of shape (...); score 0 for patches that have no such moments.

    Raises
    ------
    InputError
        If the orders do not fit the moments.

    Notes
    -----
    The mirror image at an axis phi has the moments conj(A_nm) exp(2 i m phi), so the correlation is the sum of
    (A'^2 - A''^2) cos 2 m phi + 2 A' A'' sin 2 m phi over all A = A' + i A'' (Dan et al., 2022), a trigonometric
    polynomial in phi whose maximum is found exactly.

    Examples
    --------
    >>> crossed = torch.zeros(6)
    >>> crossed[3] = 1.0  # sin 2 theta: mirror axes along both diagonals
    >>> score, axis = mirror_symmetry(crossed)
    >>> round(float(score), 6), round(float(axis % (torch.pi / 2)), 6)
    (1.0, 0.785398)
    """
    values, index = checked(moments, orders)
    values = values if values.dtype == torch.float64 else values.float()  # torch has no complex halves
    cosine, sine, m = split(values, index)
    coefficients = values.new_zeros((*values.shape[:-1], int(index[:, 1].max()) + 1), dtype=torch.complex64)
    coefficients = coefficients.to(torch.complex128 if values.dtype == torch.float64 else torch.complex64)
    kept = torch.nonzero(index[index[:, 1] >= 0][:, 1] > 1).squeeze(1).to(values.device)
    squares = torch.complex(cosine, -sine)[..., kept].square()
    coefficients = coefficients.index_add(-1, m[kept], squares)
    total = squares.abs().sum(-1)
    score, angle = highest_angle(coefficients)
    axis = torch.where(total > 0, _half_turn(angle), 0.0)
    return MirrorSymmetry(like(_ratio(score, total), moments), like(axis, moments))


@keeps_digits
def rotational_symmetry_map(image: Any, basis: ZernikeBasis, folds: Sequence[int]) -> Any:
    """`rotational_symmetry` around every pixel, without holding all moments.

    Parameters
    ----------
    image : Micrograph or array of shape (h, w)
    basis : ZernikeBasis
        Its size sets the neighbourhood.
    folds : sequence of f int

    Returns
    -------
    array of shape (f, h, w)
        NaN where the window reaches over the rim.

    Raises
    ------
    InputError
        If a fold is below 2 or above the highest m, or the image is smaller than the window.

    Examples
    --------
    >>> rotational_symmetry_map(torch.rand(40, 50), ZernikeBasis(6, 15), (2, 3)).shape
    torch.Size([2, 40, 50])
    """
    index = basis.orders
    kept = torch.nonzero(index[:, 1].abs() > 1).squeeze(1).tolist()
    weights = _fold_weights(index, folds).to(basis.basis)
    score, total = torch.zeros((), device=weights.device), torch.zeros((), device=weights.device)
    for rows, maps in basis.iter_maps(_on(image, basis), kept):
        power = maps.square()
        score = score + torch.einsum("fc,chw->fhw", weights[:, rows], power)
        total = total + power.sum(0)
    return like(_ratio(score, total), pixels_of(image))


@keeps_digits
def mirror_symmetry_map(image: Any, basis: ZernikeBasis) -> MirrorSymmetry:
    """`mirror_symmetry` around every pixel, without holding all moments.

    Parameters
    ----------
    image : Micrograph or array of shape (h, w)
    basis : ZernikeBasis
        Its size sets the neighbourhood.

    Returns
    -------
    MirrorSymmetry
        score and axis, each of shape (h, w); NaN where the window reaches over the rim.

    Raises
    ------
    InputError
        If the image is smaller than the window.

    Examples
    --------
    >>> mirror_symmetry_map(torch.rand(40, 50), ZernikeBasis(6, 15)).score.shape
    torch.Size([40, 50])
    """
    index = basis.orders
    data = _on(image, basis)
    kept = torch.nonzero(index[:, 1].abs() > 1).squeeze(1).tolist()
    kind = torch.complex128 if basis.basis.dtype == torch.float64 else torch.complex64
    sums = torch.zeros(basis.n_max + 1, *data.shape, dtype=kind, device=basis.basis.device)
    total = torch.zeros(data.shape, dtype=basis.basis.dtype, device=basis.basis.device)
    for rows, maps in basis.iter_maps(data, kept):
        squares = torch.complex(maps[::2], -maps[1::2]).square()
        total += squares.abs().sum(0)
        sums.index_add_(0, index[rows[::2], 1].to(sums.device), squares)
    score, angle = highest_angle(torch.nan_to_num(sums).permute(1, 2, 0))
    axis = torch.where(total > 0, _half_turn(angle), torch.where(total.isnan(), total, 0.0))
    pixels = pixels_of(image)
    return MirrorSymmetry(like(_ratio(score, total), pixels), like(axis, pixels))


def _fold_weights(index: Tensor, folds: Sequence[int]) -> Tensor:
    m = index[:, 1].abs()
    highest = int(m.max()) if len(m) else 0
    bad = [fold for fold in folds if not 2 <= fold <= highest]
    if bad:
        raise InputError(f"folds must lie between 2 and the highest m, {highest}, got {bad}")
    fold = torch.tensor(list(folds), dtype=torch.long)[:, None]
    return torch.where(m % fold == 0, 1.0, -1.0 / (fold - 1)).double()


def _ratio(part: Tensor, total: Tensor) -> Tensor:
    """The quotient, 0 where there is nothing to divide by."""
    return torch.where(total == 0, 0.0, part / torch.where(total == 0, 1.0, total))


def _half_turn(angle: Tensor) -> Tensor:
    """The axis phi in [0, pi) from 2 phi."""
    return torch.remainder(angle / 2, torch.pi)


def _on(image: Any, basis: ZernikeBasis) -> Tensor:
    pixels = pixels_of(image)
    values = pixels if isinstance(pixels, Tensor) else torch.from_numpy(pixels.astype("float64"))
    return values.to(basis.basis)
