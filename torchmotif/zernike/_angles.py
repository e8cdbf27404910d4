"""The highest value of trigonometric polynomials over the circle."""

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from torchmotif._memory import in_batches

__all__ = ["highest_angle"]

_PER_PERIOD = 16  # grid points per period of the fastest wave
_CANDIDATES = 3  # local maxima of the grid that are refined
_CHUNK_BYTES = 64 << 20


def highest_angle(
    coefficients: Complex[Tensor, "*batch d"],
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """Value and place of the maximum of Re sum_m c_m exp(i m alpha) over alpha.

    The polynomial is evaluated on a grid by a Fourier transform; from the highest points of the grid, Newton's method
    finds the maxima themselves.

    Parameters
    ----------
    coefficients : Tensor of shape (..., d)
        c_m for m = 0 to d - 1.

    Returns
    -------
    value, angle : Tensor of shape (...)
        The angle lies in [0, 2 pi).
    """
    shape, d = coefficients.shape[:-1], coefficients.shape[-1]
    length = 1 << math.ceil(math.log2(_PER_PERIOD * max(d - 1, 1)))
    flat = coefficients.reshape(-1, d)
    rows = _CHUNK_BYTES // (length * coefficients.element_size())
    if len(flat) == 0:
        return coefficients.real.new_zeros(shape), coefficients.real.new_zeros(shape)

    def some(start: int, stop: int) -> tuple[Tensor, Tensor]:
        return _highest(flat[start:stop], length)

    results = in_batches(some, len(flat), rows, "compare fewer patches at a time")
    value, angle = (torch.cat(part).reshape(shape) for part in zip(*results, strict=True))
    return value, angle


def _highest(coefficients: Tensor, length: int) -> tuple[Tensor, Tensor]:
    half = torch.nn.functional.pad(coefficients, (0, length // 2 + 1 - coefficients.shape[-1]))
    double = torch.full((half.shape[-1],), 0.5, device=half.device, dtype=half.real.dtype)
    double[0] = 1.0  # irfft counts every wave but the mean twice
    grid = torch.fft.irfft(half * double, n=length, norm="forward")
    peak = (grid >= grid.roll(1, -1)) & (grid >= grid.roll(-1, -1))
    found = torch.topk(torch.where(peak, grid, -math.inf), _CANDIDATES, dim=-1).indices
    angle = found * (2 * math.pi / length)
    m = torch.arange(coefficients.shape[-1], device=half.device, dtype=double.dtype)
    step = 2 * math.pi / length
    for _ in range(4):
        wave = coefficients[:, None] * torch.exp(1j * m * angle[..., None])
        slope, curvature = -(wave.imag * m).sum(-1), -(wave.real * m**2).sum(-1)
        newton = torch.where(curvature < 0, -slope / torch.where(curvature < 0, curvature, -1.0), 0.0)
        angle = angle + newton.clamp(-step, step)
    value = (coefficients[:, None] * torch.exp(1j * m * angle[..., None])).real.sum(-1)
    best = value.argmax(-1, keepdim=True)
    return value.gather(-1, best)[..., 0], torch.remainder(angle.gather(-1, best)[..., 0], 2 * math.pi)
