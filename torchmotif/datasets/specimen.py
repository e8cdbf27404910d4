"""Specimen: the expected image, what is really there, and noisy draws of it."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from torchmotif.errors import InputError
from torchmotif.image import Micrograph

__all__ = ["Specimen", "Truth", "render"]


@dataclass(frozen=True, eq=False)
class Truth:
    """What is really in a simulated specimen.

    Attributes
    ----------
    positions : Tensor of shape (n, 2), float64
        (row, col) of every column in pixels.
    kinds : array of shape (n,) of str
        The kind of site, for example "Mo", "Se2", "V_Se".
    classes : array of shape (n,) of str
        The kind, and what its first shell lacks, for example "Mo -1 Se".
    """

    positions: Float[Tensor, "n 2"]
    kinds: np.ndarray
    classes: np.ndarray


@dataclass(frozen=True, eq=False)
class Specimen:
    """A simulated specimen.

    Attributes
    ----------
    image : Micrograph
        The expected image: mean detected electrons per pixel, without noise.
    truth : Truth
        Every column, with its kind and class.
    """

    image: Micrograph
    truth: Truth

    def draw(self, dose: float = 1.0, generator: torch.Generator | None = None) -> Micrograph:
        """One noisy image of the specimen.

        Parameters
        ----------
        dose : float
            Relative dose: 1 draws from the expected image, 1 / 50 from a fiftieth of it.
        generator : torch.Generator, optional
            Source of the Poisson noise.

        Returns
        -------
        Micrograph
            Counts of detected electrons.

        Raises
        ------
        InputError
            If the dose is not positive.
        """
        if not (dose > 0 and math.isfinite(dose)):
            raise InputError(
                f"dose must be positive and finite, got {dose}; 1 is the dose of the expected image"
            )
        expected = self.image.data
        counts = torch.poisson(expected * dose, generator=generator)
        electrons = None if self.image.electrons_per_pixel is None else self.image.electrons_per_pixel * dose
        return Micrograph(
            counts,
            self.image.pixel_size,
            self.image.unit,
            {**self.image.metadata, "relative_dose": dose},
            electrons_per_pixel=electrons,
        )


def render(
    shape: tuple[int, int],
    positions: Float[Tensor, "n 2"],
    weights: Float[Tensor, " n"],
    kernels: tuple[tuple[float, float], ...],
    *,
    chunk: int = 4096,
) -> Float[Tensor, "h w"]:
    """The sum of a round probe over point scatterers, at pixel centres.

    Parameters
    ----------
    shape : (int, int)
        Of the image, in pixels.
    positions : Tensor of shape (n, 2)
        (row, col) in pixels; scatterers beyond the rim still shine into the image.
    weights : Tensor of shape (n,)
        Integrated intensity of each.
    kernels : ((fraction, sigma), ...)
        The probe as a sum of normalised Gaussians: their share of the intensity, their width in pixels.
    chunk : int
        Scatterers per step; bounds the memory.

    Returns
    -------
    Tensor of shape (h, w), float32
    """
    image = torch.zeros(shape, dtype=torch.float64)
    for fraction, sigma in kernels:
        reach = math.ceil(4.5 * sigma)
        step = torch.arange(-reach, reach + 1)
        for part in torch.arange(len(positions)).split(chunk):
            rows, row_profile = _profiles(positions[part, 0], step, sigma, shape[0])
            cols, col_profile = _profiles(positions[part, 1], step, sigma, shape[1])
            value = (
                (weights[part] * fraction)[:, None, None] * row_profile[:, :, None] * col_profile[:, None, :]
            )
            index: Int[Tensor, "n s s"] = rows[:, :, None] * shape[1] + cols[:, None, :]
            image.view(-1).index_add_(0, index.flatten(), value.flatten())
    return image.float()


def _profiles(centre: Tensor, step: Tensor, sigma: float, length: int) -> tuple[Tensor, Tensor]:
    """Pixels along one axis, and a normalised Gaussian on them that is zero outside the image."""
    pixel = torch.round(centre).long()[:, None] + step
    profile = torch.exp(-((pixel - centre[:, None]) ** 2) / (2 * sigma**2)) / (math.sqrt(2 * math.pi) * sigma)
    outside = (pixel < 0) | (pixel >= length)
    return pixel.clamp(0, length - 1), profile.masked_fill(outside, 0.0)
