"""A polar perovskite ABO3, such as lead titanate: B and oxygen displaced against A, in two domains with a wall."""

import math
from typing import Literal

import numpy as np

from torchmotif._arrays import DeviceLike
from torchmotif._elements import atomic_number
from torchmotif.datasets.crystal import Sites, as_specimen
from torchmotif.datasets.honeycomb import rotation
from torchmotif.datasets.probe import Probe
from torchmotif.datasets.scene import check_shape
from torchmotif.datasets.specimen import Specimen
from torchmotif.datasets.strain import Displacement
from torchmotif.errors import InputError

__all__ = ["polar_perovskite"]

_MARGIN = 4  # cells around the image that are filled as well
# Z^1.3: what B has of the intensity of A in foils that are thick enough to channel, about a quarter of it in PbTiO3.
_GAMMA = 1.3


def polar_perovskite(
    shape: tuple[int, int] = (512, 512),
    pixel_size_nm: float = 0.015,
    *,
    a_site: str = "Pb",
    b_site: str = "Ti",
    displacement_pm: float = 15.0,
    oxygen_ratio: float = 2.5,
    domains: int = 2,
    wall: Literal["180", "90"] = "180",
    wall_at: float = 0.5,
    wall_width_nm: float = 0.0,
    lattice_nm: float = 0.3905,
    tetragonality: float = 1.0,
    rotation_rad: float = 0.1,
    displacement: Displacement | None = None,
    electrons_per_pixel: float = 10.0,
    background: float = 0.0,
    probe: Probe | None = None,
    gamma: float = _GAMMA,
    device: DeviceLike = None,
) -> Specimen:
    """A polar perovskite along a cubic axis: B displaced from the middle of its cage of A, oxygen farther along the same way.

    Parameters
    ----------
    shape : (int, int)
        Of the image, in pixels.
    pixel_size_nm : float
        Length of a pixel.
    a_site, b_site : str
        Elements on A and B.
    displacement_pm : float
        Of B from the middle of its four A.
    oxygen_ratio : float
        Displacement of oxygen over that of B (about 2.5 in PbTiO3; Nelmes & Kuhs, 1985).
    domains : int
        1 or 2.
    wall : {"180", "90"}
        Between the polarisation of the second domain and that of the first.
    wall_at : float
        Share of the image's width, along the turned rows of the lattice, where the wall runs.
    wall_width_nm : float
        Over which the displacement changes as tanh; 0 is sharp.
    lattice_nm : float
        Lattice constant a.
    tetragonality : float
        Constant along the polarisation of the first domain over a, in the whole image.
    rotation_rad : float
        Counter-clockwise rotation of the lattice.
    displacement : callable, optional
        As for `mx2`.
    electrons_per_pixel, background, probe, gamma, device
        As for `mx2`.

    Returns
    -------
    Specimen
        Kinds are the elements. `truth.grains` numbers the domains; `truth.more` holds "shift_px" (n, 2), the displacement of each column
        from its place of high symmetry among A, and "wall_px", its distance from the wall, negative in the first domain.

    Raises
    ------
    InputError
        If an element is not known, there are other than 1 or 2 domains, or a length or dose is not positive.

    Examples
    --------
    >>> specimen = polar_perovskite((128, 128), displacement_pm=15.0)
    >>> shift = specimen.truth.more["shift_px"][specimen.truth.kinds == "Ti"]
    >>> float(abs(shift[:, 0]).max().round(3))
    0.995
    """
    check_shape(shape, pixel_size_nm)
    for element in (a_site, b_site):
        atomic_number(element)
    if len({a_site, b_site, "O"}) != 3:
        raise InputError(f"a_site, b_site and O must be three elements, got {a_site} and {b_site}")
    if domains not in {1, 2}:
        raise InputError(f"domains must be 1 or 2, got {domains}")
    if wall not in {"180", "90"}:
        raise InputError(f"wall must be '180' or '90', got {wall!r}")
    if not (lattice_nm > 0 and tetragonality > 0 and wall_width_nm >= 0 and 0 <= displacement_pm < 100):
        raise InputError(
            "lattice_nm and tetragonality must be positive, wall_width_nm zero or positive and displacement_pm from 0 to 100, "
            f"got {lattice_nm}, {tetragonality}, {wall_width_nm} and {displacement_pm}"
        )
    constant = np.array([lattice_nm * tetragonality, lattice_nm]) / pixel_size_nm
    n = math.ceil(math.hypot(*shape) / 2 / constant.min()) + _MARGIN
    cell = np.stack(np.meshgrid(np.arange(-n, n + 1), np.arange(-n, n + 1), indexing="ij"), -1).reshape(-1, 2)
    basis = np.array([[0.0, 0.0], [0.5, 0.5], [0.5, 0.0], [0.0, 0.5]])  # A, B, and O beside B in its plane
    place = ((cell[:, None] + basis) * constant).reshape(-1, 2)
    which = np.tile([0, 1, 2, 2], len(cell))
    depth = place[:, 1] - (wall_at - 0.5) * shape[1]
    width = wall_width_nm / pixel_size_nm
    side = (
        np.zeros(len(place)) - 1 if domains == 1 else np.tanh(depth / width) if width > 0 else np.sign(depth)
    )
    side[side == 0] = 1.0
    turn = (side + 1) / 2 * (math.pi / 2 if wall == "90" else 0.0)
    size = np.array([0.0, 1.0, oxygen_ratio])[which] * displacement_pm / 1000 / pixel_size_nm
    sign = np.where(wall == "180", side, -1.0)
    shift = (size * sign)[:, None] * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    about = rotation(rotation_rad)
    atoms = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 1]])[which]
    kinds = np.array([a_site, b_site, "O"])[which]
    domain = (side > 0).astype(int)
    return as_specimen(
        shape,
        pixel_size_nm,
        Sites(
            (place + shift) @ about.T + (np.array(shape) - 1) / 2,
            kinds,
            kinds,
            atoms,
            (a_site, b_site, "O"),
            domain,
            {"shift_px": shift @ about.T, "wall_px": depth},
        ),
        electrons_per_pixel=electrons_per_pixel,
        background=background,
        probe=probe,
        gamma=gamma,
        device=device,
        metadata={"specimen": f"{a_site}{b_site}O3", "displacement_pm": displacement_pm},
        displacement=displacement,
    )
