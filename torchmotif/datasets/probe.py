"""Electron probes: what a point scatterer looks like in the image."""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import scipy.fft
import torch
from torch import Tensor

from torchmotif.datasets.render import Window, gaussians
from torchmotif.errors import InputError

__all__ = ["AberratedProbe", "DiskProbe", "GaussianProbe", "Probe", "wavelength_nm"]

_ALIAS = 0.3  # cycles per pixel up to which spreading by a Gaussian and dividing by it is exact to 1e-4
_SPREAD = 1.2  # sigma of that Gaussian in pixels


@runtime_checkable
class Probe(Protocol):
    """Anything that can render point scatterers."""

    def render(self, window: Window, pixel_nm: float, positions: Tensor, weights: Tensor) -> Tensor:
        """The expected image in a window, shape (h, w); the intensity of a scatterer is its weight."""
        ...

    def share_inside(self, window: Window, pixel_nm: float, positions: Tensor) -> Tensor:
        """The share of each scatterer's intensity that falls into the window, shape (n,)."""
        ...


@dataclass(frozen=True)
class GaussianProbe:
    """A round probe: a Gaussian core and a wider Gaussian tail.

    Parameters
    ----------
    sigma_nm : float
        Standard deviation of the core.
    tail : float
        Share of the intensity that lies in the tail.
    tail_ratio : float
        Width of the tail over that of the core.

    Raises
    ------
    InputError
        If a width is not positive or the tail is no share.
    """

    sigma_nm: float = 0.045
    tail: float = 0.1
    tail_ratio: float = 3.0

    def __post_init__(self) -> None:
        """Check the widths."""
        _check_positive("sigma_nm", self.sigma_nm)
        _check_positive("tail_ratio", self.tail_ratio)
        if not 0 <= self.tail < 1:
            raise InputError(f"tail must lie in [0, 1), got {self.tail}")

    def render(self, window: Window, pixel_nm: float, positions: Tensor, weights: Tensor) -> Tensor:
        """The expected image in a window, shape (h, w)."""
        parts = [
            gaussians(window, positions, weights * share, sigma) for share, sigma in self._parts(pixel_nm)
        ]
        return torch.stack(parts).sum(0)

    def share_inside(self, window: Window, pixel_nm: float, positions: Tensor) -> Tensor:
        """The share of each scatterer's intensity that falls into the window, shape (n,)."""
        start = positions.new_tensor([window.row, window.col]) - 0.5
        stop = start + positions.new_tensor([window.height, window.width])
        total = positions.new_zeros(len(positions))
        for share, sigma in self._parts(pixel_nm):
            within = torch.special.ndtr((stop - positions) / sigma) - torch.special.ndtr(
                (start - positions) / sigma
            )
            total += share * within.prod(dim=1)
        return total

    def _parts(self, pixel_nm: float) -> list[tuple[float, float]]:
        core = self.sigma_nm / pixel_nm
        return [(s, w) for s, w in ((1 - self.tail, core), (self.tail, self.tail_ratio * core)) if s > 0]


class _FourierProbe:
    """A probe known by its transfer function; scatterers are spread by a narrow Gaussian that is divided out."""

    def transfer(self, row_frequency: Tensor, col_frequency: Tensor) -> Tensor:
        """Transfer function at frequencies in cycles per nm, broadcast; complex, 1 at zero."""
        raise NotImplementedError

    @property
    def cutoff_per_nm(self) -> float:
        """Frequency beyond which nothing is transferred."""
        raise NotImplementedError

    @property
    def reach_nm(self) -> float:
        """Distance beyond which the probe is not followed."""
        raise NotImplementedError

    def render(self, window: Window, pixel_nm: float, positions: Tensor, weights: Tensor) -> Tensor:
        """The expected image in a window, shape (h, w)."""
        fine = max(1, math.ceil(self.cutoff_per_nm * pixel_nm / _ALIAS))
        margin = math.ceil(self.reach_nm / pixel_nm)
        outer = window.grown(margin)
        size = [scipy.fft.next_fast_len(fine * n, real=True) for n in (outer.height, outer.width)]
        dense = Window(outer.row * fine, outer.col * fine, size[0], size[1])
        spread = gaussians(dense, positions * fine, weights, _SPREAD)
        fy = torch.fft.fftfreq(size[0], device=spread.device, dtype=torch.float64)[:, None]
        fx = torch.fft.rfftfreq(size[1], device=spread.device, dtype=torch.float64)[None, :]
        scale = fine / pixel_nm
        ratio = self.transfer(fy * scale, fx * scale) * torch.exp(
            2 * (math.pi * _SPREAD) ** 2 * (fy**2 + fx**2)
        )
        ratio[torch.hypot(fy, fx) * scale > self.cutoff_per_nm] = 0
        sharp = torch.fft.irfft2(torch.fft.rfft2(spread) * ratio.to(torch.complex64), s=size) * fine**2
        inner: Tensor = sharp[::fine, ::fine][margin : margin + window.height, margin : margin + window.width]
        return inner.clamp(min=0.0).contiguous()

    def share_inside(self, window: Window, pixel_nm: float, positions: Tensor) -> Tensor:
        """The share of each scatterer's intensity that falls into the window, to the nearest pixel, shape (n,)."""
        reach = math.ceil(self.reach_nm / pixel_nm)
        one = Window(-reach, -reach, 2 * reach + 1, 2 * reach + 1)
        kernel = self.render(one, pixel_nm, positions.new_zeros(1, 2), positions.new_ones(1)).double()
        table = torch.nn.functional.pad((kernel / kernel.sum()).cumsum(0).cumsum(1), (1, 0, 1, 0))
        start = positions.new_tensor([window.row, window.col]) - torch.round(positions) + reach
        stop = start + positions.new_tensor([window.height, window.width])
        r0, c0 = start.long().clamp(0, 2 * reach + 1).unbind(1)
        r1, c1 = stop.long().clamp(0, 2 * reach + 1).unbind(1)
        return table[r1, c1] - table[r0, c1] - table[r1, c0] + table[r0, c0]


@dataclass(frozen=True)
class AberratedProbe(_FourierProbe):
    """The probe of a microscope, from its aberration function.

    Parameters
    ----------
    voltage_kv : float
        Acceleration voltage.
    semi_angle_mrad : float
        Convergence semi-angle.
    defocus_nm : float
        Positive is underfocus: chi = pi / lambda (C3 alpha^4 / 2 - defocus alpha^2 + ...).
    c3_um : float
        Third-order spherical aberration, in micrometres.
    a2_nm : float
        Threefold astigmatism: chi = 2 pi / lambda (a2 alpha^3 / 3) cos 3 (phi - a2_angle).
    a2_angle_rad : float
        Its azimuth, counter-clockwise.
    source_sigma_nm : float
        Standard deviation of the effective source, and of whatever else blurs: a Gaussian.

    Raises
    ------
    InputError
        If the voltage or the angle is not positive, or the source is negative.

    Notes
    -----
    The intensity is the squared modulus of the inverse Fourier transform of the aperture with the phase -chi
    (Kirkland, *Advanced Computing in Electron Microscopy*, 2010); its transfer function is the autocorrelation of
    that aperture, which is computed here on a grid and interpolated.

    Examples
    --------
    >>> probe = AberratedProbe(80.0, 30.0)
    >>> round(probe.cutoff_per_nm, 2)
    14.37
    """

    voltage_kv: float = 80.0
    semi_angle_mrad: float = 30.0
    defocus_nm: float = 0.0
    c3_um: float = 0.0
    a2_nm: float = 0.0
    a2_angle_rad: float = 0.0
    source_sigma_nm: float = 0.03

    def __post_init__(self) -> None:
        """Check the settings."""
        _check_positive("voltage_kv", self.voltage_kv)
        _check_positive("semi_angle_mrad", self.semi_angle_mrad)
        if not (self.source_sigma_nm >= 0 and math.isfinite(self.source_sigma_nm)):
            raise InputError(f"source_sigma_nm must be zero or positive, got {self.source_sigma_nm}")

    @property
    def cutoff_per_nm(self) -> float:
        """Twice the aperture: the highest frequency in an incoherent image."""
        return 2 * self.semi_angle_mrad * 1e-3 / wavelength_nm(self.voltage_kv)

    @property
    def reach_nm(self) -> float:
        """Ten Airy radii, and how far the aberrations and the source throw."""
        alpha = self.semi_angle_mrad * 1e-3
        thrown = abs(self.defocus_nm) * alpha + abs(self.c3_um) * 1e3 * alpha**3 + abs(self.a2_nm) * alpha**2
        return 6.1 * wavelength_nm(self.voltage_kv) / alpha + 2 * thrown + 4 * self.source_sigma_nm

    def transfer(self, row_frequency: Tensor, col_frequency: Tensor) -> Tensor:
        """Transfer function at frequencies in cycles per nm, broadcast; complex, 1 at zero."""
        table, step = self._autocorrelation(row_frequency.device)
        half = table.shape[-1] // 2
        limit = self.cutoff_per_nm
        grid = torch.stack(
            torch.broadcast_tensors(col_frequency / (half * step), row_frequency / (half * step)), dim=-1
        )
        sampled = torch.nn.functional.grid_sample(
            table[None], grid[None], mode="bicubic", align_corners=True
        )[0]
        radius = torch.hypot(row_frequency, col_frequency)
        source = torch.exp(-2 * (math.pi * self.source_sigma_nm * radius) ** 2)
        return torch.complex(sampled[0], sampled[1]) * torch.where(radius < limit, source, 0.0)

    def _autocorrelation(self, device: torch.device) -> tuple[Tensor, float]:
        """Normalised autocorrelation (2, m, m) of the aperture, real and imaginary, and its step in cycles per nm."""
        wavelength = wavelength_nm(self.voltage_kv)
        step = min(1 / (8 * self.reach_nm), self.cutoff_per_nm / 128)
        half = math.ceil(self.cutoff_per_nm / step) + 1
        axis = torch.arange(-half, half + 1, device=device, dtype=torch.float64) * step * wavelength
        y, x = -axis[:, None], axis[None, :]  # rows point down, angles turn up
        alpha, phi = torch.hypot(x, y), torch.atan2(y, x)
        path = self.c3_um * 1e3 * alpha**4 / 4 - self.defocus_nm * alpha**2 / 2
        path = path + self.a2_nm * alpha**3 / 3 * torch.cos(3 * (phi - self.a2_angle_rad))
        chi = 2 * math.pi / wavelength * path
        edge = ((self.semi_angle_mrad * 1e-3 - alpha) / (step * wavelength) + 0.5).clamp(0.0, 1.0)
        wave = torch.fft.ifft2(torch.fft.ifftshift(torch.polar(edge, -chi)))
        transfer = torch.fft.fftshift(torch.fft.fft2(wave.abs().square()))
        transfer = transfer / transfer[half, half]
        return torch.view_as_real(transfer).permute(2, 0, 1).contiguous(), step


@dataclass(frozen=True)
class DiskProbe(_FourierProbe):
    """A uniform disk with a soft edge: particles in projection rather than atoms.

    Parameters
    ----------
    radius_nm : float
        Of the disk.
    edge_sigma_nm : float
        Standard deviation of the Gaussian that softens it; below a pixel the edge is not resolved.

    Raises
    ------
    InputError
        If a length is not positive.
    """

    radius_nm: float
    edge_sigma_nm: float

    def __post_init__(self) -> None:
        """Check the lengths."""
        _check_positive("radius_nm", self.radius_nm)
        _check_positive("edge_sigma_nm", self.edge_sigma_nm)

    @property
    def cutoff_per_nm(self) -> float:
        """Where the edge has damped the transfer to 1e-4."""
        return 0.683 / self.edge_sigma_nm

    @property
    def reach_nm(self) -> float:
        """The radius and the edge."""
        return self.radius_nm + 5 * self.edge_sigma_nm

    def transfer(self, row_frequency: Tensor, col_frequency: Tensor) -> Tensor:
        """Transfer function at frequencies in cycles per nm, broadcast; complex, 1 at zero."""
        radius = torch.hypot(row_frequency, col_frequency)
        argument = 2 * math.pi * self.radius_nm * radius
        airy = torch.where(
            argument > 0, 2 * torch.special.bessel_j1(argument) / argument.clamp(min=1e-12), 1.0
        )
        return (airy * torch.exp(-2 * (math.pi * self.edge_sigma_nm * radius) ** 2)).to(torch.complex128)


def wavelength_nm(voltage_kv: float) -> float:
    """De Broglie wavelength of electrons, relativistic.

    Examples
    --------
    >>> round(wavelength_nm(80.0) * 1e3, 4)
    4.1757
    """
    energy = voltage_kv * 1e3
    return 1.22642595588 / math.sqrt(energy * (1 + 0.97847538e-6 * energy))


def _check_positive(name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise InputError(f"{name} must be positive and finite, got {value}")
