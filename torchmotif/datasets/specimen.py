"""Specimen: the expected image, what is really there, and noisy draws of it."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from torchmotif.datasets.instrument import Detector, Scan
from torchmotif.datasets.probe import Probe
from torchmotif.datasets.render import Window
from torchmotif.errors import InputError
from torchmotif.image import Micrograph

__all__ = ["Scene", "Specimen", "Truth", "check_shape"]


class Truth:
    """What is really in a simulated specimen.

    Parameters
    ----------
    positions : Tensor of shape (n, 2), float64
        (row, col) of every column in pixels.
    kinds : array of shape (n,) of str
        The kind of site, for example "Mo", "Se2", "V_Se".
    classes : array of shape (n,) of str
        The kind, and by what its first shell differs from a perfect one, for example "Mo -1 Se".
    species : array of shape (n,) of str, optional
        The atoms of the column, for example "Se+Se", empty where there is none; by default the kind.
    grains : array of shape (n,) of int, optional
        Which grain the column belongs to; by default one for all.
    strain : Tensor of shape (n, 2, 2), float64, optional
        True strain at the column along (rows, cols); by default none.
    more : mapping of str to array of shape (n, ...), optional
        What only some specimens have, for example the local stacking of a bilayer.
    """

    def __init__(
        self,
        positions: Float[Tensor, "n 2"],
        kinds: np.ndarray,
        classes: np.ndarray,
        *,
        species: np.ndarray | None = None,
        grains: np.ndarray | None = None,
        strain: Float[Tensor, "n 2 2"] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        self.positions, self.kinds, self.classes = positions, kinds, classes
        self.species = kinds if species is None else species
        self.grains = np.zeros(len(kinds), dtype=int) if grains is None else grains
        self.strain = positions.new_zeros(len(kinds), 2, 2) if strain is None else strain
        self.more = {} if more is None else dict(more)

    def __len__(self) -> int:
        """Number of columns."""
        return len(self.positions)

    def within(self, window: Window) -> "Truth":
        """The columns inside a window, their positions counted from its first pixel."""
        local = self.positions - self.positions.new_tensor([window.row, window.col])
        inside = ((local > -0.5) & (local < local.new_tensor([window.height, window.width]) - 0.5)).all(dim=1)
        keep = inside.cpu().numpy()
        return Truth(
            local[inside],
            self.kinds[keep],
            self.classes[keep],
            species=self.species[keep],
            grains=self.grains[keep],
            strain=self.strain[inside],
            more={k: v[inside] if isinstance(v, Tensor) else v[keep] for k, v in self.more.items()},
        )


@dataclass(frozen=True, eq=False)
class Scene:
    """Point scatterers under a probe: any part of the expected image can be made from it.

    Parameters
    ----------
    shape : (int, int)
        Of the whole image, in pixels.
    pixel_size_nm : float
    layers : sequence of (Probe, positions (n, 2) in pixels, weights (n,))
        Scatterers and the probe they are seen through; those beyond the rim still shine into the image.
    electrons_per_pixel : float
        Mean of the whole image.
    background : float
        Share of the electrons that carries no structure.
    metadata : mapping

    Raises
    ------
    InputError
        If a length, the dose or the shape is not positive, the background is no share, or nothing scatters.
    """

    shape: tuple[int, int]
    pixel_size_nm: float
    layers: tuple[tuple[Probe, Tensor, Tensor], ...]
    electrons_per_pixel: float = 10.0
    background: float = 0.0
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the numbers."""
        check_shape(self.shape, self.pixel_size_nm)
        if not (self.electrons_per_pixel > 0 and math.isfinite(self.electrons_per_pixel)):
            raise InputError(
                f"electrons_per_pixel must be positive and finite, got {self.electrons_per_pixel}"
            )
        if not 0 <= self.background < 1:
            raise InputError(f"background must lie in [0, 1), got {self.background}")
        if not self._scale > 0:
            raise InputError(
                f"no column shines into an image of {self.shape[0]} x {self.shape[1]} pixels; "
                "enlarge the image, or remove less of the specimen"
            )

    @cached_property
    def _scale(self) -> float:
        """Electrons per unit of weight, so that the image has its mean; 0 where there is nothing."""
        whole = Window(0, 0, *self.shape)
        total = sum(
            float((weights * probe.share_inside(whole, self.pixel_size_nm, positions)).sum())
            for probe, positions, weights in self.layers
        )
        electrons = (1 - self.background) * self.electrons_per_pixel * self.shape[0] * self.shape[1]
        return electrons / total if total > 0 else 0.0

    def render(self, window: Window) -> Float[Tensor, "h w"]:
        """Expected electrons per pixel in a window, float32."""
        parts = [
            probe.render(window, self.pixel_size_nm, positions, weights)
            for probe, positions, weights in self.layers
        ]
        return torch.stack(parts).sum(0) * self._scale + self.background * self.electrons_per_pixel


class Specimen:
    """A simulated specimen.

    Parameters
    ----------
    source : Micrograph or Scene
        The expected image, or that from which it is made when it is first asked for.
    truth : Truth
    window : Window, optional
        Part of the scene that the image shows; all of it by default.

    Attributes
    ----------
    image : Micrograph
        The expected image: mean detected electrons per pixel, without noise.
    truth : Truth
        Every column, with its kind and class.
    """

    def __init__(self, source: Micrograph | Scene, truth: Truth, window: Window | None = None) -> None:
        self.truth = truth
        self._source = source
        self._window = Window(0, 0, *source.shape) if window is None else window

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the image in pixels."""
        return self._window.height, self._window.width

    @cached_property
    def image(self) -> Micrograph:
        """The expected image: mean detected electrons per pixel, without noise."""
        if isinstance(self._source, Micrograph):
            return self._source
        scene = self._source
        return Micrograph(
            scene.render(self._window),
            scene.pixel_size_nm,
            "nm",
            scene.metadata,
            electrons_per_pixel=scene.electrons_per_pixel,
        )

    def tiles(self, side: int) -> Iterator[tuple[tuple[int, int], "Specimen"]]:
        """The specimen in square tiles, each made when it is asked for, so that memory stays flat.

        Parameters
        ----------
        side : int
            Of the tiles in pixels; those at the far rims are smaller.

        Yields
        ------
        (row, col), Specimen
            First pixel of the tile, and the tile with its own image and truth.

        Raises
        ------
        InputError
            If `side` is not positive, or the specimen was made from an image.

        Examples
        --------
        >>> import torchmotif as tm
        >>> [tile.shape for _, tile in tm.datasets.mose2((300, 200)).tiles(200)]
        [(200, 200), (100, 200)]
        """
        if side < 1:
            raise InputError(f"side must be at least one pixel, got {side}")
        if isinstance(self._source, Micrograph):
            raise InputError("this specimen was made from an image and cannot be made again in tiles")
        for row in range(0, self.shape[0], side):
            for col in range(0, self.shape[1], side):
                size = min(side, self.shape[0] - row), min(side, self.shape[1] - col)
                window = Window(self._window.row + row, self._window.col + col, *size)
                yield (row, col), Specimen(self._source, self.truth.within(Window(row, col, *size)), window)

    def draw(
        self,
        dose: float = 1.0,
        generator: torch.Generator | None = None,
        *,
        scan: Scan | None = None,
        detector: Detector | None = None,
    ) -> Micrograph:
        """One noisy image of the specimen.

        Parameters
        ----------
        dose : float
            Relative dose: 1 draws from the expected image, 1 / 50 from a fiftieth of it.
        generator : torch.Generator, optional
            Source of the noise.
        scan : Scan, optional
            Distortion of the scan; `Scan.observed` says where the columns then appear.
        detector : Detector, optional
            What turns electrons into pixel values; counts of electrons by default.

        Returns
        -------
        Micrograph
            Counts of detected electrons, or what the detector makes of them.

        Raises
        ------
        InputError
            If the dose is not positive.
        """
        if not (dose > 0 and math.isfinite(dose)):
            raise InputError(
                f"dose must be positive and finite, got {dose}; 1 is the dose of the expected image"
            )
        expected = torch.as_tensor(self.image.data)
        if scan is not None:
            expected = scan.distorted(expected, generator)
        counts = torch.poisson(expected * dose, generator=generator)
        electrons = None if self.image.electrons_per_pixel is None else self.image.electrons_per_pixel * dose
        return dataclasses.replace(
            self.image,
            data=counts if detector is None else detector.pixels(counts, generator),
            metadata={**self.image.metadata, "relative_dose": dose},
            electrons_per_pixel=electrons,
        )

    def __repr__(self) -> str:
        """Say what there is."""
        return f"Specimen({self.shape[0]} x {self.shape[1]} px, {len(self.truth)} columns)"


def check_shape(shape: tuple[int, int], pixel_size_nm: float) -> None:
    """Refuse an image without pixels, and pixels without a size.

    Raises
    ------
    InputError
        Naming the argument.
    """
    if min(shape) < 1:
        raise InputError(f"shape must have at least one pixel a side, got {shape}")
    if not (pixel_size_nm > 0 and math.isfinite(pixel_size_nm)):
        raise InputError(f"pixel_size_nm must be positive and finite, got {pixel_size_nm}")
