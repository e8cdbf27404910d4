"""From occupied sites to a specimen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from torchmotif._arrays import DeviceLike
from torchmotif._elements import scattering
from torchmotif.datasets.probe import GaussianProbe, Probe
from torchmotif.datasets.render import Window
from torchmotif.datasets.scene import Scene
from torchmotif.datasets.sites import species_names
from torchmotif.datasets.specimen import Specimen, Truth
from torchmotif.datasets.strain import Displacement, displaced

__all__ = ["Sites", "as_specimen"]


@dataclass(frozen=True, eq=False)
class Sites:
    """Columns of a crystal, in the image and around it.

    Attributes
    ----------
    positions : array of shape (n, 2)
        (row, col) in pixels.
    kinds, classes : arrays of shape (n,) of str
    atoms : array of shape (n, e) of int
        Atoms of each element on each site.
    elements : sequence of e str
    grains : array of shape (n,) of int, optional
    more : mapping of str to array of shape (n, ...)
    weights : array of shape (n,), optional
        Intensity of each column; by default Z^gamma summed over its atoms.
    """

    positions: np.ndarray
    kinds: np.ndarray
    classes: np.ndarray
    atoms: np.ndarray
    elements: Sequence[str]
    grains: np.ndarray | None = None
    more: Mapping[str, np.ndarray] = field(default_factory=dict)
    weights: np.ndarray | None = None


def as_specimen(
    shape: tuple[int, int],
    pixel_size_nm: float,
    sites: Sites,
    *,
    electrons_per_pixel: float,
    background: float,
    probe: Probe | None,
    gamma: float,
    device: DeviceLike,
    metadata: Mapping[str, Any],
    displacement: Displacement | None = None,
) -> Specimen:
    """The specimen with the given sites, imaged by point scatterers; sites without atoms stay in the truth."""
    positions, strain = displaced(torch.as_tensor(sites.positions, device=device), displacement)
    strength = sites.weights
    if strength is None:
        strength = sites.atoms @ np.array(scattering(sites.elements, gamma))
    weights = torch.as_tensor(strength, device=device)
    layer = (GaussianProbe() if probe is None else probe, positions, weights)
    truth = Truth(
        positions,
        sites.kinds,
        sites.classes,
        species=species_names(sites.atoms, sites.elements),
        grains=sites.grains,
        strain=strain,
        more=sites.more,
    )
    scene = Scene.exposed(
        shape,
        pixel_size_nm,
        [layer],
        electrons_per_pixel=electrons_per_pixel,
        background=background,
        metadata=metadata,
    )
    return Specimen(scene, truth.within(Window(0, 0, *shape)))
