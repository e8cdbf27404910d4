"""Specimen: the expected image, what is really there, and noisy draws of it."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from torchmotif.datasets.instrument import Detector, Scan
from torchmotif.datasets.render import Window
from torchmotif.datasets.scene import Scene
from torchmotif.errors import InputError
from torchmotif.image import Micrograph

__all__ = ["Coverage", "Specimen", "Truth"]


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
    measured : boolean array of shape (n,), optional
        Which columns lie on pixels that were measured; by default all.
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
        measured: np.ndarray | None = None,
    ) -> None:
        self.positions, self.kinds, self.classes = positions, kinds, classes
        self.species = kinds if species is None else species
        self.grains = np.zeros(len(kinds), dtype=int) if grains is None else grains
        self.strain = positions.new_zeros(len(kinds), 2, 2) if strain is None else strain
        self.more = {} if more is None else dict(more)
        self.measured = np.ones(len(kinds), dtype=bool) if measured is None else measured

    def __len__(self) -> int:
        """Number of columns."""
        return len(self.positions)

    def some(self, which: Bool[Tensor, " n"]) -> "Truth":
        """Some of the columns."""
        keep = which.cpu().numpy()
        return Truth(
            self.positions[which],
            self.kinds[keep],
            self.classes[keep],
            species=self.species[keep],
            grains=self.grains[keep],
            strain=self.strain[which],
            more={k: v[which] if isinstance(v, Tensor) else v[keep] for k, v in self.more.items()},
            measured=self.measured[keep],
        )

    def within(self, window: Window) -> "Truth":
        """The columns inside a window, their positions counted from its first pixel."""
        part = self.some(window.holds(self.positions))
        part.positions = part.positions - part.positions.new_tensor([window.row, window.col])
        return part


@dataclasses.dataclass(frozen=True, eq=False)
class Coverage:
    """Which pixels of an image were measured.

    Attributes
    ----------
    share : Tensor of shape (h, w), float32
        Share of the frames that cover a pixel; 0 where it was not measured.
    value : Tensor of shape (h, w)
        What the file has there.
    """

    share: Float[Tensor, "h w"]
    value: Tensor

    def part(self, row: int, col: int, height: int, width: int) -> "Coverage":
        """Of some rows and columns."""
        rows, cols = slice(row, row + height), slice(col, col + width)
        return Coverage(self.share[rows, cols], self.value[rows, cols])

    def applied(self, pixels: Tensor, offset: float) -> Tensor:
        """Pixels as the file has them: the sum of frames over their number, and the fill where there was none."""
        summed = pixels - offset * (1 - self.share)
        whole = torch.where(self.share > 0, summed, self.value.to(summed))
        return whole if pixels.dtype.is_floating_point else whole.round().clamp(min=0).to(pixels.dtype)


class Specimen:
    """A simulated specimen.

    Parameters
    ----------
    image : Micrograph or Scene
        The expected image, or that from which it is made when it is first asked for.
    truth : Truth
    window : Window, optional
        Part of the scene that the image shows; all of it by default.
    coverage : Coverage, optional
        Which pixels of the image were measured; by default all.

    Attributes
    ----------
    image : Micrograph
        The expected image: mean detected electrons per pixel, without noise.
    truth : Truth
        Every column, with its kind and class.
    coverage : Coverage or None
        Which pixels were measured; None for all.
    """

    def __init__(
        self,
        image: Micrograph | Scene,
        truth: Truth,
        window: Window | None = None,
        coverage: Coverage | None = None,
    ) -> None:
        self.truth, self.coverage = truth, coverage
        self._source = image
        self._window = Window(0, 0, *image.shape) if window is None else window

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the image in pixels."""
        return self._window.height, self._window.width

    @property
    def scene(self) -> Scene:
        """What the whole image is made from.

        Raises
        ------
        InputError
            If the specimen was made from an image, or is a tile of another.
        """
        whole = Window(0, 0, *self._source.shape)
        if isinstance(self._source, Micrograph) or self._window != whole:
            raise InputError(
                "this specimen was made from an image or is a tile; change that from which it was made"
            )
        return self._source

    @property
    def measured(self) -> Bool[Tensor, "h w"]:
        """Which pixels of the image were measured."""
        if self.coverage is None:
            return torch.ones(self.shape, dtype=torch.bool, device=self.truth.positions.device)
        return self.coverage.share > 0

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
        height, width = self.shape
        for row in range(0, height, side):
            high = min(side, height - row)  # a band first: no tile then looks through all columns
            scene = self._source.near(Window(self._window.row + row, self._window.col, high, width))
            truth = self.truth.within(Window(row, 0, high, width))
            for col in range(0, width, side):
                wide = min(side, width - col)
                window = Window(self._window.row + row, self._window.col + col, high, wide)
                part = truth.within(Window(0, col, high, wide))
                covered = None if self.coverage is None else self.coverage.part(row, col, high, wide)
                yield (row, col), Specimen(scene.near(window), part, window, covered)

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
        rate = expected if self.coverage is None else expected * self.coverage.share
        counts = torch.poisson(rate * dose, generator=generator)
        pixels = counts if detector is None else detector.pixels(counts, generator)
        if self.coverage is not None:
            pixels = self.coverage.applied(pixels, 0.0 if detector is None else detector.offset)
        electrons = None if self.image.electrons_per_pixel is None else self.image.electrons_per_pixel * dose
        return dataclasses.replace(
            self.image,
            data=pixels,
            metadata={**self.image.metadata, "relative_dose": dose},
            electrons_per_pixel=electrons,
        )

    def __repr__(self) -> str:
        """Say what there is."""
        return f"Specimen({self.shape[0]} x {self.shape[1]} px, {len(self.truth)} columns)"
