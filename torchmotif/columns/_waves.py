"""The orders of a cell that repeats, and the structure factors of Gaussians in it."""

import math
from typing import NamedTuple

import numpy as np

__all__ = ["Ellipse", "Waves"]

# Of a Gaussian: its covariance over the square of its width is ((1 + a, b), (b, 1 - a)), (0, 0) for a circle.
Ellipse = tuple[float, float]


class Waves(NamedTuple):
    """Orders of a cell but the zeroth, one of each pair of opposite ones."""

    order: np.ndarray  # (n, 2) whole numbers
    wave: np.ndarray  # (n, 2) their periods per pixel along (row, column)
    area: float  # of the cell in square pixels

    @property
    def square(self) -> np.ndarray:
        """Squares (n,) of their lengths in periods per pixel."""
        found: np.ndarray = (self.wave**2).sum(1)
        return found

    @property
    def aside(self) -> np.ndarray:
        """By which (n, 2) an ellipse changes these squares, see `Ellipse`."""
        row, col = self.wave.T
        return np.stack([row**2 - col**2, 2 * row * col], 1)

    @staticmethod
    def of(bins: tuple[int, ...], real: np.ndarray, finest: float = math.inf) -> "Waves":
        """Those that some bins tell, up to so many periods per pixel."""
        most = [(n - 1) // 2 for n in bins]
        order = np.stack(np.meshgrid(*(np.arange(-m, m + 1) for m in most), indexing="ij"), -1).reshape(-1, 2)
        order = order[len(order) // 2 + 1 :]
        wave = order @ np.linalg.inv(real).T
        kept = (wave**2).sum(1) < finest**2
        return Waves(order[kept], wave[kept], abs(float(np.linalg.det(real))))

    def across(self, along: float) -> "Waves":
        """Those that have more than so many periods per pixel along the rows; all for 0."""
        return self.some(np.abs(self.wave[:, 1]) > along) if along else self

    def some(self, which: np.ndarray) -> "Waves":
        """Some of them."""
        return Waves(self.order[which], self.wave[which], self.area)

    def of_image(self, image: np.ndarray) -> np.ndarray:
        """Structure factors of a cell: (n,), complex, of which the sum over all orders is the image."""
        # Middles of bins are half a bin from where they begin.
        half = np.exp(-1j * math.pi * (self.order / np.array(image.shape)).sum(1))
        found: np.ndarray = np.fft.fft2(image)[tuple(self.order.T)] * half / image.size
        return found

    def image(self, factors: np.ndarray, bins: tuple[int, ...]) -> np.ndarray:
        """The cell that has these."""
        full = np.zeros(bins, complex)
        full[tuple(self.order.T)] = factors * np.exp(1j * math.pi * (self.order / np.array(bins)).sum(1))
        image: np.ndarray = 2 * np.fft.ifft2(full).real * math.prod(bins)
        return image

    def gaussian(self, width: float, ellipse: Ellipse = (0.0, 0.0)) -> np.ndarray:
        """Factors (n,) of one of intensity 1 in the corner of the cell."""
        found: np.ndarray = np.exp(-2 * math.pi**2 * width**2 * self.squeezed(ellipse)) / self.area
        return found

    def squeezed(self, ellipse: Ellipse) -> np.ndarray:
        """Squares (n,) of the periods per pixel, as an ellipse sees them."""
        found: np.ndarray = self.square + self.aside @ ellipse
        return found

    def phases(self, sites: np.ndarray) -> np.ndarray:
        """By which factors of the corner become those (n, k) of sites."""
        found: np.ndarray = np.exp(-2j * math.pi * (self.order @ sites.T))
        return found

    def factors(
        self, sites: np.ndarray, strength: np.ndarray, width: float, ellipse: Ellipse = (0.0, 0.0)
    ) -> np.ndarray:
        """Those of all of them together."""
        found: np.ndarray = self.gaussian(width, ellipse) * (self.phases(sites) @ strength)
        return found
