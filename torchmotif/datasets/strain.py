"""Displacement fields, and the strain that is their symmetric gradient."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from torchmotif.errors import InputError

__all__ = ["Displacement", "displaced", "edge_dislocation", "homogeneous", "strain_bump", "strain_gradient"]

Displacement = Callable[[Tensor], Tensor]


def strain_bump(centre: tuple[float, float], radius_px: float, strain: float) -> Displacement:
    """A local dilation: the lattice is stretched in a Gaussian spot and at rest far from it.

    Parameters
    ----------
    centre : (float, float)
        (row, col) in pixels.
    radius_px : float
        Standard deviation of the spot.
    strain : float
        Strain along both axes at the centre, less than 1 in magnitude.

    Returns
    -------
    callable
        For the argument `displacement` of the specimens.

    Raises
    ------
    InputError
        If the radius is not positive or the strain not less than 1.

    Examples
    --------
    >>> strain_bump((10.0, 10.0), 5.0, 0.02)(torch.tensor([[10.0, 10.0]]))
    tensor([[0., 0.]])
    """
    if not (radius_px > 0 and math.isfinite(radius_px)):
        raise InputError(f"radius_px must be positive and finite, got {radius_px}")
    if not abs(strain) < 1:
        raise InputError(f"strain must be less than 1 in magnitude, got {strain}")

    def displacement(positions: Tensor) -> Tensor:
        away = positions - positions.new_tensor(centre)
        return strain * away * torch.exp(-away.square().sum(1, keepdim=True) / (2 * radius_px**2))

    return displacement


def homogeneous(
    tensor: Sequence[Sequence[float]], *, rotation_rad: float = 0.0, centre: tuple[float, float] = (0.0, 0.0)
) -> Displacement:
    """The whole lattice strained and turned: positions about a centre are multiplied by (1 + strain) times a rotation.

    Parameters
    ----------
    tensor : 2 x 2 numbers
        Strain along (rows, cols), symmetric.
    rotation_rad : float
        Counter-clockwise, before the strain.
    centre : (float, float)
        (row, col) in pixels that stays where it is.

    Returns
    -------
    callable
        For the argument `displacement` of the specimens.

    Raises
    ------
    InputError
        If the tensor is not symmetric and finite.

    Examples
    --------
    >>> homogeneous([[0.01, 0.0], [0.0, 0.0]])(torch.tensor([[100.0, 50.0]]))
    tensor([[1., 0.]])
    """
    strain = torch.as_tensor(tensor, dtype=torch.float64)
    if strain.shape != (2, 2) or not bool(torch.isfinite(strain).all()) or not torch.equal(strain, strain.T):
        raise InputError(f"tensor must be a symmetric matrix of 2 x 2 finite numbers, got {tensor}")
    cos, sin = math.cos(rotation_rad), math.sin(rotation_rad)
    turn = torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)
    change = (torch.eye(2, dtype=torch.float64) + strain) @ turn - torch.eye(2, dtype=torch.float64)

    def displacement(positions: Tensor) -> Tensor:
        away = positions - positions.new_tensor(centre)
        moved: Tensor = away @ change.to(positions).T
        return moved

    return displacement


def strain_gradient(rate_per_px: float, centre: float, *, axis: int = 0) -> Displacement:
    """Strain along an axis that grows evenly along it, zero at the centre.

    Parameters
    ----------
    rate_per_px : float
        By which the strain grows from one pixel to the next.
    centre : float
        Row, or column, of no strain.
    axis : int
        0 for rows, 1 for columns.

    Returns
    -------
    callable
        For the argument `displacement` of the specimens.

    Raises
    ------
    InputError
        If the axis is neither.

    Examples
    --------
    >>> strain_gradient(0.001, 0.0)(torch.tensor([[10.0, 3.0]]))
    tensor([[0.0500, 0.0000]])
    """
    if axis not in {0, 1}:
        raise InputError(f"axis must be 0 for rows or 1 for columns, got {axis}")

    def displacement(positions: Tensor) -> Tensor:
        moved = rate_per_px * (positions[:, axis] - centre) ** 2 / 2
        still = torch.zeros_like(moved)
        return torch.stack([moved, still] if axis == 0 else [still, moved], dim=1)

    return displacement


def edge_dislocation(
    centre: tuple[float, float], burgers_px: tuple[float, float], *, poisson: float = 0.25
) -> Displacement:
    """An edge dislocation in an isotropic elastic medium (Hirth & Lothe, 1982, chapter 3).

    Both halves of the crystal slip against each other by the Burgers vector, on the line through the centre along it.

    Parameters
    ----------
    centre : (float, float)
        (row, col) of the core in pixels, between columns.
    burgers_px : (float, float)
        Burgers vector (row, col) in pixels, a translation of the lattice.
    poisson : float
        Ratio of Poisson.

    Returns
    -------
    callable
        For the argument `displacement` of the specimens.

    Raises
    ------
    InputError
        If the Burgers vector is zero, or the ratio is not between 0 and 0.5.

    Examples
    --------
    >>> slip = edge_dislocation((0.0, 0.0), (0.0, 20.0))
    >>> (slip(torch.tensor([[-1e-6, -50.0]])) - slip(torch.tensor([[1e-6, -50.0]]))).round().tolist()
    [[0.0, 20.0]]
    """
    size = math.hypot(*burgers_px)
    if not (size > 0 and math.isfinite(size)):
        raise InputError(f"burgers_px must be a vector that is not zero, got {burgers_px}")
    if not 0 < poisson < 0.5:
        raise InputError(f"poisson must lie between 0 and 0.5, got {poisson}")
    # x along the Burgers vector, y to its left as seen with rows pointing down.
    along = burgers_px[0] / size, burgers_px[1] / size
    left = -along[1], along[0]
    stiff = 1 - poisson

    def displacement(positions: Tensor) -> Tensor:
        away = positions - positions.new_tensor(centre)
        x, y = away @ away.new_tensor(along), away @ away.new_tensor(left)
        square = (x**2 + y**2).clamp(min=1e-9)
        u = torch.atan2(y, x) + x * y / (2 * stiff * square)
        v = -((1 - 2 * poisson) / (4 * stiff) * square.log() + (x**2 - y**2) / (4 * stiff * square))
        both = u[:, None] * away.new_tensor(along) + v[:, None] * away.new_tensor(left)
        return size / (2 * math.pi) * both

    return displacement


def displaced(positions: Tensor, displacement: Displacement | None) -> tuple[Tensor, Tensor]:
    """Positions after the displacement, and the strain (n, 2, 2): the symmetric part of its gradient.

    Raises
    ------
    InputError
        If the displacement has another shape, is not finite, or turns the plane over.
    """
    if displacement is None:
        return positions, positions.new_zeros(len(positions), 2, 2)
    start = positions.detach().requires_grad_()
    shift = displacement(start)
    if shift.shape != start.shape or not bool(torch.isfinite(shift).all()):
        raise InputError(
            f"displacement must give finite values of shape {tuple(start.shape)}, got {tuple(shift.shape)}"
        )
    rows = [torch.autograd.grad(shift[:, i].sum(), start, retain_graph=True)[0] for i in range(2)]
    gradient = torch.stack(rows, dim=1)
    local = torch.linalg.det(gradient + torch.eye(2, dtype=gradient.dtype, device=gradient.device))
    if not float(local.min()) > 0 or not float(local.max()) < 4:
        raise InputError(
            "displacement must change areas by less than a factor of 4 and fold nothing, got factors from "
            f"{float(local.min()):.3g} to {float(local.max()):.3g}"
        )
    return (start + shift).detach(), (gradient + gradient.transpose(1, 2)) / 2
