"""Particles of a metal, on amorphous carbon and over vacuum."""

import math
from typing import Any, Literal

import torch
from torch import Tensor

from torchmotif._elements import scattering
from torchmotif.datasets.probe import GaussianProbe, Probe
from torchmotif.datasets.projection import projection
from torchmotif.datasets.specimen import Specimen
from torchmotif.datasets.surroundings import with_carbon
from torchmotif.errors import InputError

__all__ = ["nanoparticle"]


def nanoparticle(
    shape: tuple[int, int] = (512, 512),
    pixel_size_nm: float = 0.015,
    *,
    element: str = "Au",
    lattice_nm: float = 0.4078,
    axis: Literal["001", "110"] = "110",
    radius_nm: float = 2.5,
    centre: tuple[float, float] = (0.5, 0.5),
    rotation_rad: float = 0.1,
    carbon_nm: float = 10.0,
    carbon_ends: float | None = 0.75,
    electrons_per_pixel: float = 10.0,
    probe: Probe | None = None,
    random_state: int = 0,
    **more: Any,
) -> Specimen:
    """A round particle of a face-centred cubic metal, partly on amorphous carbon, partly over vacuum.

    Parameters
    ----------
    shape : (int, int)
        Of the image, in pixels.
    pixel_size_nm : float
        Length of a pixel.
    element, lattice_nm
        Of the particle; by default gold.
    axis : {"001", "110"}
        Along which the particle is seen.
    radius_nm : float
        Of the particle; columns are as long as the sphere is thick.
    centre : (float, float)
        (row, col) as shares of the image.
    rotation_rad : float
        Counter-clockwise rotation of the lattice.
    carbon_nm : float
        Thickness of the carbon, at 100 atoms per nm^3.
    carbon_ends : float, optional
        Share of the image's extent where the carbon ends, as `at` of `with_edge`; None for carbon everywhere.
    electrons_per_pixel : float
        Mean detected electrons per pixel of the particle without the carbon, over the whole image.
    probe : Probe, optional
        As for `mx2`.
    random_state : int
        Seed of the carbon.
    **more
        Whatever else `projection` takes.

    Returns
    -------
    Specimen
        The truth holds the columns of the particle alone; `truth.more["atoms"]` is their number of atoms.

    Raises
    ------
    InputError
        If the axis is another one, a length is not positive, or no column of the particle lies in the image.

    Examples
    --------
    >>> specimen = nanoparticle((200, 200), radius_nm=1.2)
    >>> set(specimen.truth.kinds.tolist())
    {'Au'}
    """
    if axis not in {"001", "110"}:
        raise InputError(f"axis must be '001' or '110', got {axis!r}")
    if not (radius_nm > 0 and carbon_nm >= 0):
        raise InputError(
            f"radius_nm must be positive and carbon_nm not negative, got {radius_nm}, {carbon_nm}"
        )
    across = lattice_nm / (1.0 if axis == "001" else math.sqrt(2))
    period = across  # along the beam: a along [001], a / sqrt 2 along [110]
    # Bulk first, then the sphere is cut out of it.
    bulk = projection(
        ((lattice_nm, 0.0), (0.0, across)),
        [(element, 0.0, 0.0), (element, 0.5, 0.5)],
        shape,
        pixel_size_nm,
        rotation_rad=rotation_rad,
        probe=GaussianProbe() if probe is None else probe,
        random_state=random_state,
        **more,
    )
    middle = torch.tensor([share * length - 0.5 for share, length in zip(centre, shape, strict=True)])
    ((seen_through, places, _),) = bulk.scene.layers

    def atoms(at: Tensor) -> Tensor:
        square = (radius_nm / pixel_size_nm) ** 2 - (at - middle.to(at)).square().sum(dim=1)
        return (square.clamp(min=0).sqrt() * (2 * pixel_size_nm / period)).round()

    truth = bulk.truth.some(atoms(bulk.truth.positions) > 0)
    if len(truth) == 0:
        raise InputError(
            f"no column of the particle lies in the image, got radius_nm={radius_nm}, centre={centre}"
        )
    truth.more["atoms"] = atoms(truth.positions).cpu().numpy()
    count = atoms(places)
    heavy, carbon = scattering([element, "C"])
    # Electrons that an atom of unit scattering power sends to the detector.
    unit = electrons_per_pixel * shape[0] * shape[1] / float(heavy * atoms(truth.positions).sum())
    scene = bulk.scene.changed([(seen_through, places[count > 0], count[count > 0] * heavy * unit)])
    particle = Specimen(scene, truth)
    if carbon_nm == 0:
        return particle
    density = 100.0 * carbon_nm
    return with_carbon(
        particle,
        density * pixel_size_nm**2 * carbon * unit,
        at=carbon_ends,
        atoms_per_nm2=density,
        random_state=random_state,
    )
