"""Displacement fields, and the strain that is their symmetric gradient."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from torchmotif.errors import InputError

__all__ = ["Displacement", "displaced", "strain_bump"]

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


def displaced(positions: Tensor, displacement: Displacement | None) -> tuple[Tensor, Tensor]:
    """Positions after the displacement, and the strain (n, 2, 2): the symmetric part of its gradient."""
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
    return (start + shift).detach(), (gradient + gradient.transpose(1, 2)) / 2
