"""What the microscope adds: distortion of the scan, and the detector's way from electrons to pixel values."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from torchmotif.errors import InputError

__all__ = ["Detector", "Scan"]

_TAPS = 6  # of the Lagrange interpolation: exact for polynomials of degree 5


@dataclass(frozen=True)
class Scan:
    """Distortion of a scan: pixel (r, c) shows what lies displaced by jitter, drift and flyback.

    Parameters
    ----------
    jitter_px : float
        Standard deviation of the displacement of each line, along and across it.
    drift_px : (float, float)
        (row, col) by which the specimen has moved when the frame ends, in pixels.
    flyback_px : float
        Displacement along the line at its first pixel.
    flyback_decay_px : float
        Distance along the line in which that falls to 1 / e.

    Raises
    ------
    InputError
        If the jitter is negative or the decay not positive, or the flyback would fold the line over.

    Examples
    --------
    >>> Scan(flyback_px=2.0).observed(torch.tensor([[5.0, 3.0]]), (64, 64)).shape
    torch.Size([1, 2])
    """

    jitter_px: float = 0.0
    drift_px: tuple[float, float] = (0.0, 0.0)
    flyback_px: float = 0.0
    flyback_decay_px: float = 20.0

    def __post_init__(self) -> None:
        """Check the settings."""
        if not (self.jitter_px >= 0 and math.isfinite(self.jitter_px)):
            raise InputError(f"jitter_px must be zero or positive, got {self.jitter_px}")
        if not self.flyback_decay_px > abs(self.flyback_px):
            raise InputError(
                f"flyback_decay_px must be more than the flyback, got {self.flyback_decay_px} for "
                f"{self.flyback_px} px; the line would fold over itself"
            )

    def distorted(self, image: Float[Tensor, "h w"], generator: torch.Generator | None = None) -> Tensor:
        """The expected image as this scan samples it; beyond the rims the last pixel goes on.

        Parameters
        ----------
        image : Tensor of shape (h, w)
        generator : torch.Generator, optional
            Source of the jitter.

        Returns
        -------
        Tensor of shape (h, w)
        """
        h, w = image.shape
        jitter = torch.randn(2, h, generator=generator, device=image.device, dtype=torch.float64)
        jitter *= self.jitter_px
        time = torch.arange(h, device=image.device, dtype=torch.float64) / h
        down = jitter[0] - self.drift_px[0] * time
        column = torch.arange(w, device=image.device, dtype=torch.float64)
        along = jitter[1][:, None] - self.drift_px[1] * time[:, None] + self._flyback(column)
        shifted = _resampled(image.T, down.expand(w, h)).T
        return _resampled(shifted, along).clamp(min=0.0)

    def observed(self, positions: Float[Tensor, "n 2"], shape: tuple[int, int]) -> Float[Tensor, "n 2"]:
        """Where columns appear in an image of `shape` scanned so, jitter apart, in pixels."""
        row = positions[:, 0] / (1 - self.drift_px[0] / shape[0])
        target = positions[:, 1] + self.drift_px[1] * row / shape[0]
        col = target.clone()
        for _ in range(60):  # the displacement is a contraction
            col = target - self._flyback(col)
        return torch.stack([row, col], dim=1)

    def _flyback(self, column: Tensor) -> Tensor:
        return self.flyback_px * torch.exp(-column.clamp(min=0.0) / self.flyback_decay_px)


@dataclass(frozen=True)
class Detector:
    """What turns electrons into pixel values: offset + gain (electrons + readout noise), clipped and rounded.

    Parameters
    ----------
    gain : float
        Units per electron.
    offset : float
        Value without electrons.
    readout_noise : float
        Standard deviation of the Gaussian noise of the amplifier, in electrons.
    bits : {None, 8, 16}
        Whole numbers of so many bits, clipped to their range; None gives float32, not rounded.
    saturation : float, optional
        Largest value; with `bits` at most that of the type.
    row_noise : float
        Standard deviation of what is added to each row alike, in electrons: hum of the mains and flicker of the gun.

    Raises
    ------
    InputError
        If the gain is not positive, a noise is negative, or the bits are others.

    Examples
    --------
    >>> Detector(gain=40.0, offset=10.0, bits=8).pixels(torch.tensor([[0.0, 2.0, 30.0]]))
    tensor([[ 10,  90, 255]], dtype=torch.uint8)
    """

    gain: float = 1.0
    offset: float = 0.0
    readout_noise: float = 0.0
    bits: int | None = None
    saturation: float | None = None
    row_noise: float = 0.0

    def __post_init__(self) -> None:
        """Check the settings."""
        if not (self.gain > 0 and math.isfinite(self.gain)):
            raise InputError(f"gain must be positive and finite, got {self.gain}")
        for name, noise in (("readout_noise", self.readout_noise), ("row_noise", self.row_noise)):
            if not (noise >= 0 and math.isfinite(noise)):
                raise InputError(f"{name} must be zero or positive, got {noise}")
        if self.bits not in {None, 8, 16}:
            raise InputError(f"bits must be 8, 16 or None, got {self.bits}")

    def pixels(self, electrons: Float[Tensor, "h w"], generator: torch.Generator | None = None) -> Tensor:
        """Pixel values of counts of electrons, shape (h, w): uint8, uint16 or float32."""
        signal = electrons
        if self.readout_noise > 0:
            noise = torch.randn(signal.shape, generator=generator, device=signal.device, dtype=signal.dtype)
            signal = signal + self.readout_noise * noise
        if self.row_noise > 0:
            rows = torch.randn(len(signal), 1, generator=generator, device=signal.device, dtype=signal.dtype)
            signal = signal + self.row_noise * rows
        value = self.offset + self.gain * signal
        if self.saturation is not None:
            value = value.clamp(max=self.saturation)
        if self.bits is None:
            return value
        dtype = torch.uint8 if self.bits == 8 else torch.uint16
        return torch.round(value).clamp(0, 2**self.bits - 1).to(dtype)


def _resampled(image: Float[Tensor, "h w"], shift: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """The image at column c + shift(r, c) of each row, by Lagrange interpolation."""
    width = image.shape[1]
    place = torch.arange(width, device=image.device) + shift
    first = torch.floor(place)
    fraction = place - first
    nodes = range(1 - _TAPS // 2, _TAPS // 2 + 1)
    total = torch.zeros_like(image)
    for node in nodes:
        weight = torch.ones_like(fraction)
        for other in nodes:
            if other != node:
                weight = weight * (fraction - other) / (node - other)
        index = (first.long() + node).clamp(0, width - 1)
        total += image.gather(1, index) * weight.to(image.dtype)
    return total
