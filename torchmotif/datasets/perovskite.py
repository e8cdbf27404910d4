"""Perovskites ABO3 along a cubic axis: two species on B, tilted octahedra, antiphase boundaries."""

import dataclasses
import math
from typing import Literal

import numpy as np

from torchmotif._arrays import DeviceLike
from torchmotif._elements import GAMMA, atomic_number
from torchmotif.datasets.crystal import Sites, as_specimen
from torchmotif.datasets.honeycomb import rotation
from torchmotif.datasets.probe import Probe
from torchmotif.datasets.scene import check_shape
from torchmotif.datasets.sites import check_rates, shell_classes
from torchmotif.datasets.specimen import Specimen
from torchmotif.datasets.strain import Displacement
from torchmotif.errors import InputError

__all__ = ["perovskite"]

_MARGIN = 4  # cells around the image that are filled as well


def perovskite(
    shape: tuple[int, int] = (512, 512),
    pixel_size_nm: float = 0.015,
    *,
    a_site: str = "Sr",
    b_sites: tuple[str, str] = ("Ti", "Nb"),
    b_share: float = 0.3,
    ordering: Literal["random", "rock salt"] = "random",
    tilt_rad: float = 0.1,
    antiphase_boundaries: int = 0,
    lattice_nm: float = 0.3905,
    rotation_rad: float = 0.1,
    displacement: Displacement | None = None,
    electrons_per_pixel: float = 10.0,
    background: float = 0.0,
    probe: Probe | None = None,
    gamma: float = GAMMA,
    device: DeviceLike = None,
    random_state: int = 0,
) -> Specimen:
    """A perovskite ABO3 along [001]: columns of A, of B with O, and of O, octahedra turned in phase (a0 a0 c+).

    Parameters
    ----------
    shape : (int, int)
        Of the image, in pixels.
    pixel_size_nm : float
        Length of a pixel.
    a_site : str
        Element on A.
    b_sites : (str, str)
        Elements on B; the second on `b_share` of the columns.
    b_share : float
        Share of the B columns that hold the second element.
    ordering : {"random", "rock salt"}
        "rock salt": the second element fills the black fields of a chessboard first, at random up to a share of one half.
    tilt_rad : float
        Angle by which neighbouring octahedra are turned about the beam, one left, one right.
    antiphase_boundaries : int
        Number of straight boundaries, evenly spaced, across which left and right (and the chessboard) change places.
    lattice_nm : float
        Pseudo-cubic lattice constant.
    rotation_rad : float
        Counter-clockwise rotation of the lattice.
    displacement : callable, optional
        As for `mx2`.
    electrons_per_pixel, background, probe, gamma, device
        As for `mx2`.
    random_state : int
        Seed of the occupation of B.

    Returns
    -------
    Specimen
        Kinds are the elements ("Sr", "Ti", "Nb", "O"); classes hold which B lie around A and O, "Sr -1 Ti +1 Nb".
        `truth.grains` numbers the antiphase domains.

    Raises
    ------
    InputError
        If an element is not known, the share is none, the tilt reaches 45 degrees, or a length or dose is not positive.

    Examples
    --------
    >>> specimen = perovskite((128, 128))
    >>> sorted(set(specimen.truth.kinds.tolist()))
    ['Nb', 'O', 'Sr', 'Ti']
    """
    check_shape(shape, pixel_size_nm)
    check_rates({"b_share": b_share}, "B columns")
    if len({a_site, *b_sites, "O"}) != 4:
        raise InputError(f"a_site, the two b_sites and O must be four elements, got {a_site}, {b_sites}")
    for element in (a_site, *b_sites):
        atomic_number(element)
    if ordering not in {"random", "rock salt"}:
        raise InputError(f"ordering must be 'random' or 'rock salt', got {ordering!r}")
    if not abs(tilt_rad) < math.pi / 4:
        raise InputError(f"tilt_rad must be less than pi/4 in magnitude, got {tilt_rad}")
    if antiphase_boundaries < 0:
        raise InputError(f"antiphase_boundaries must not be negative, got {antiphase_boundaries}")
    if not (lattice_nm > 0 and math.isfinite(lattice_nm)):
        raise InputError(f"lattice_nm must be positive and finite, got {lattice_nm}")
    constant = lattice_nm / pixel_size_nm
    rng = np.random.default_rng(random_state)
    n = math.ceil(math.hypot(*shape) / 2 / constant) + _MARGIN
    i, j = np.meshgrid(np.arange(-n, n + 1), np.arange(-n, n + 1), indexing="ij")
    domain = np.clip(
        (j * constant / shape[1] + 0.5) * (antiphase_boundaries + 1), 0, antiphase_boundaries
    ).astype(int)
    black = (i + j + domain) % 2 == 0
    first = rng.random(black.shape) + (~black if ordering == "rock salt" else 0)
    second = first <= np.quantile(first, b_share) if b_share > 0 else np.zeros_like(black)
    sites = _cells(
        i,
        j,
        black=black,
        second=second,
        domain=domain,
        slope=math.tan(tilt_rad),
        elements=(a_site, *b_sites),
    )
    turned = (sites.positions * constant) @ rotation(rotation_rad).T + (np.array(shape) - 1) / 2
    return as_specimen(
        shape,
        pixel_size_nm,
        dataclasses.replace(sites, positions=turned),
        electrons_per_pixel=electrons_per_pixel,
        background=background,
        probe=probe,
        gamma=gamma,
        device=device,
        metadata={"specimen": f"{a_site}({b_sites[0]},{b_sites[1]})O3", "random_state": random_state},
        displacement=displacement,
    )


def _cells(
    i: np.ndarray,
    j: np.ndarray,
    *,
    black: np.ndarray,
    second: np.ndarray,
    domain: np.ndarray,
    slope: float,
    elements: tuple[str, str, str],
) -> Sites:
    """Sites in units of the lattice constant: B, then A, then O below B, then O right of B."""
    sense = np.where(black, 1.0, -1.0)
    down = slope / 4 * (sense[:-1] - sense[1:])  # each O is moved by the octahedra on its two sides
    right = -slope / 4 * (sense[:, :-1] - sense[:, 1:])
    place = np.stack([i, j], axis=-1).astype(float)
    groups = [
        place,
        place[:-1, :-1] + 0.5,
        place[:-1] + 0.5 * np.array([1.0, 0.0]) + down[..., None] * np.array([0.0, 1.0]),
        place[:, :-1] + 0.5 * np.array([0.0, 1.0]) + right[..., None] * np.array([1.0, 0.0]),
    ]
    counts = [group[..., 0].size for group in groups]
    start = np.cumsum([0, *counts])
    b, a, lower, beside = (
        np.arange(start[k], start[k + 1]).reshape(group.shape[:2]) for k, group in enumerate(groups)
    )
    corners = [b[:-1, :-1], b[1:, :-1], b[:-1, 1:], b[1:, 1:]]
    links = [(a, corner) for corner in corners]
    links += [(lower, b[:-1]), (lower, b[1:]), (beside, b[:, :-1]), (beside, b[:, 1:])]
    pairs = np.concatenate([np.stack([x.ravel(), y.ravel()], axis=1) for x, y in links])
    names = np.array([*elements, "O"])
    which = np.concatenate([1 + second.ravel(), np.repeat([0, 3, 3], counts[1:])])
    kinds = names[which]
    atoms = (which[:, None] == np.arange(4)).astype(int)
    atoms[: counts[0], 3] += 1  # a column of B holds the apical O
    perfect = np.zeros_like(atoms)
    perfect[: counts[0], [0, 3]] = 4
    perfect[counts[0] :, [1, 3]] = np.where(which[counts[0] :, None] == 0, 4, 2)
    return Sites(
        np.concatenate([group.reshape(-1, 2) for group in groups]),
        kinds,
        shell_classes(pairs, kinds, atoms, perfect=perfect, elements=names.tolist()),
        atoms,
        names.tolist(),
        np.concatenate(
            [domain.ravel(), domain[:-1, :-1].ravel(), domain[:-1].ravel(), domain[:, :-1].ravel()]
        ),
    )
