"""Scene: point scatterers under a probe, from which any part of an expected image is made."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from torchmotif.datasets.probe import Probe
from torchmotif.datasets.render import Window
from torchmotif.errors import InputError

__all__ = ["Backdrop", "Scene", "check_shape"]

Backdrop = Callable[[Window], Tensor]  # electrons per pixel (h, w) in a window of the scene
Layer = tuple[Probe, Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Scene:
    """Point scatterers under a probe: any part of the expected image can be made from it.

    Attributes
    ----------
    shape : (int, int)
        Of the whole image, in pixels.
    pixel_size_nm : float
    layers : tuple of (Probe, positions (n, 2) in pixels, electrons (n,))
        Scatterers, how many electrons each sends to the detector in all, and the probe they are seen through; those
        beyond the rim still shine into the image.
    background : float
        Electrons per pixel that carry no structure.
    electrons_per_pixel : float
        Mean of the whole image.
    metadata : mapping
    backdrops : tuple of functions from a Window to a Tensor (h, w)
        Electrons per pixel that come from no point scatterer, such as a step of thickness.
    """

    shape: tuple[int, int]
    pixel_size_nm: float
    layers: tuple[Layer, ...]
    background: float
    electrons_per_pixel: float
    metadata: Mapping[str, Any]
    backdrops: tuple[Backdrop, ...] = ()

    @classmethod
    def exposed(
        cls,
        shape: tuple[int, int],
        pixel_size_nm: float,
        layers: Sequence[Layer],
        *,
        electrons_per_pixel: float,
        background: float,
        metadata: Mapping[str, Any],
    ) -> "Scene":
        """The scene whose image has a given mean.

        Parameters
        ----------
        shape, pixel_size_nm, metadata
            As the attributes.
        layers : sequence of (Probe, positions (n, 2) in pixels, weights (n,))
            With relative weights.
        electrons_per_pixel : float
            Mean of the whole image.
        background : float
            Share of the electrons that carries no structure.

        Raises
        ------
        InputError
            If the shape, the pixel size or the dose is not positive, the background is no share, or nothing shines into
            the image.
        """
        check_shape(shape, pixel_size_nm)
        if not (electrons_per_pixel > 0 and math.isfinite(electrons_per_pixel)):
            raise InputError(f"electrons_per_pixel must be positive and finite, got {electrons_per_pixel}")
        if not 0 <= background < 1:
            raise InputError(f"background must lie in [0, 1), got {background}")
        whole = Window(0, 0, *shape)
        total = _inside(whole, pixel_size_nm, layers)
        if not total > 0:
            raise InputError(
                f"no column shines into an image of {shape[0]} x {shape[1]} pixels; "
                "enlarge the image, or remove less of the specimen"
            )
        scale = (1 - background) * electrons_per_pixel * shape[0] * shape[1] / total
        scaled = tuple((probe, positions, weights * scale) for probe, positions, weights in layers)
        return cls(
            shape, pixel_size_nm, scaled, background * electrons_per_pixel, electrons_per_pixel, metadata
        )

    def changed(self, layers: Sequence[Layer], *backdrops: Backdrop) -> "Scene":
        """The scene with other scatterers and further backdrops; its mean is counted anew."""
        whole = Window(0, 0, *self.shape)
        area = self.shape[0] * self.shape[1]
        every = (*self.backdrops, *backdrops)
        mean = self.background + _inside(whole, self.pixel_size_nm, layers) / area
        mean += sum(float(backdrop(whole).mean()) for backdrop in every)
        return dataclasses.replace(self, layers=tuple(layers), backdrops=every, electrons_per_pixel=mean)

    def near(self, window: Window) -> "Scene":
        """The scene with only the scatterers that shine into a window."""
        layers = []
        for probe, positions, electrons in self.layers:
            outer = window.grown(math.ceil(probe.reach_nm / self.pixel_size_nm) + 1)
            keep = outer.holds(positions)
            layers.append((probe, positions[keep], electrons[keep]))
        return dataclasses.replace(self, layers=tuple(layers))

    def render(self, window: Window) -> Float[Tensor, "h w"]:
        """Expected electrons per pixel in a window, float32."""
        parts = [
            probe.render(window, self.pixel_size_nm, positions, electrons)
            for probe, positions, electrons in self.layers
        ]
        image = torch.stack(parts).sum(0) + self.background
        for backdrop in self.backdrops:
            image = image + backdrop(window).to(image)
        return image


def _inside(window: Window, pixel_size_nm: float, layers: Sequence[Layer]) -> float:
    """What the scatterers of some layers send into a window, in the unit of their weights."""
    return sum(
        float((weights * probe.share_inside(window, pixel_size_nm, positions)).sum())
        for probe, positions, weights in layers
    )


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
