"""Monolayers MX2 (2H) with point defects, grain boundaries, holes and strain."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from scipy.spatial import cKDTree

from torchmotif._arrays import DeviceLike
from torchmotif._elements import GAMMA, atomic_number
from torchmotif.datasets.crystal import Sites, as_specimen
from torchmotif.datasets.honeycomb import grown, without_holes
from torchmotif.datasets.probe import GaussianProbe, Probe
from torchmotif.datasets.scene import check_shape
from torchmotif.datasets.sites import State, check_rates, occupied, shell_classes
from torchmotif.datasets.specimen import Specimen
from torchmotif.datasets.strain import Displacement
from torchmotif.errors import InputError

__all__ = ["LATTICE_NM", "mose2", "mx2"]

# a of the 2H phases (Wilson & Yoffe, 1969; MoSe2: Bronsema et al., 1986)
LATTICE_NM = {"MoS2": 0.3160, "MoSe2": 0.3289, "MoTe2": 0.3519, "WS2": 0.3154, "WSe2": 0.3286}
_CHALCOGENS = ("O", "S", "Se", "Te")


def mose2(
    shape: tuple[int, int] = (512, 512),
    pixel_size_nm: float = 0.015,
    *,
    vacancy_rate: float = 0.06,
    rotation_rad: float = 0.2,
    electrons_per_pixel: float = 10.0,
    probe_sigma_nm: float = 0.045,
    random_state: int = 0,
    **more: Any,
) -> Specimen:
    """Monolayer MoSe2 seen along c, with single selenium vacancies.

    Parameters
    ----------
    shape : (int, int)
        Of the image, in pixels.
    pixel_size_nm : float
        Length of a pixel.
    vacancy_rate : float
        Share of the selenium columns that lack one of their two atoms.
    rotation_rad : float
        Counter-clockwise rotation of the lattice.
    electrons_per_pixel : float
        Mean detected electrons per pixel at relative dose 1.
    probe_sigma_nm : float
        Width of the probe's Gaussian core; a tenth of its intensity lies in a tail three times as wide.
    random_state : int
        Seed of the vacancies.
    **more
        Whatever else `mx2` takes.

    Returns
    -------
    Specimen
        Kinds of site: "Mo", "Se2", "V_Se".

    Raises
    ------
    InputError
        If the vacancy rate is no share, or a length or dose is not positive.

    Examples
    --------
    >>> specimen = mose2((128, 128))
    >>> specimen.image
    Micrograph(128 x 128 torch.float32, 0.015 nm/px, 10 electrons/px)
    """
    more.setdefault("probe", GaussianProbe(probe_sigma_nm))
    return mx2(
        "Mo",
        "Se",
        shape,
        pixel_size_nm,
        vacancy_rate=vacancy_rate,
        rotation_rad=rotation_rad,
        electrons_per_pixel=electrons_per_pixel,
        random_state=random_state,
        **more,
    )


def mx2(
    metal: str = "Mo",
    chalcogen: str = "Se",
    shape: tuple[int, int] = (512, 512),
    pixel_size_nm: float = 0.015,
    *,
    lattice_nm: float | None = None,
    vacancy_rate: float = 0.0,
    divacancy_rate: float = 0.0,
    antisite_rate: float = 0.0,
    adatom_rate: float = 0.0,
    substitutions: Mapping[str, float] | None = None,
    rotation_rad: float = 0.2,
    grains: int = 1,
    boundary: Literal["tilt", "mirror"] = "tilt",
    holes: Sequence[tuple[float, float, float]] = (),
    displacement: Displacement | None = None,
    electrons_per_pixel: float = 10.0,
    background: float = 0.0,
    probe: Probe | None = None,
    gamma: float = GAMMA,
    device: DeviceLike = None,
    random_state: int = 0,
) -> Specimen:
    """Monolayer MX2 in the 2H phase seen along c: X2 columns and M columns on a honeycomb.

    Parameters
    ----------
    metal, chalcogen : str
        M and X, chemical symbols.
    shape : (int, int)
        Of the image, in pixels.
    pixel_size_nm : float
        Length of a pixel.
    lattice_nm : float, optional
        Lattice constant a; known for MoS2, MoSe2, MoTe2, WS2 and WSe2.
    vacancy_rate, divacancy_rate : float
        Shares of the X2 columns that lack one atom (kind "V_Se") or both ("V_Se2").
    antisite_rate : float
        Share of the X2 columns replaced by one M ("Mo_Se2"), and of the M replaced by X2 ("Se2_Mo").
    adatom_rate : float
        Share of the M columns that carry a second M ("Mo+Mo").
    substitutions : mapping of str to float, optional
        Foreign elements and the share of the columns that hold one: chalcogens replace one X ("S_Se"), all other
        elements M ("W_Mo").
    rotation_rad : float
        Counter-clockwise rotation of the lattice, or of the first grain.
    grains : int
        Number of grains.
    boundary : {"tilt", "mirror"}
        "tilt": Voronoi cells of random centres, rotated at random. "mirror": two grains that are each other's mirror
        image across a straight 4|4P boundary along a zigzag row of X through the middle.
    holes : sequence of (row, col, radius)
        In pixels; no atom lies in them.
    displacement : callable, optional
        Takes positions (n, 2) in pixels as a float64 tensor, gives their displacement (n, 2) in pixels, differentiable
        by torch; its symmetric gradient is the true strain. Atoms are made as far as four lattice constants around the
        image, so no more than that should move in.
    electrons_per_pixel : float
        Mean detected electrons per pixel at relative dose 1.
    background : float
        Share of the electrons that carries no structure.
    probe : Probe, optional
        By default a Gaussian of 0.045 nm with a tail.
    gamma : float
        Exponent of Z in the scattered intensity.
    device : str or torch.device, optional
        Where the image is made.
    random_state : int
        Seed of the defects and the grains.

    Returns
    -------
    Specimen
        Classes hold by what the first shell differs from the perfect one, for example "Mo -1 Se" or "Se2 +1 Mo".

    Raises
    ------
    InputError
        If an element or a lattice constant is not known, rates are no shares or sum to more than 1, a length or dose is
        not positive, or nothing is left in the image.

    Examples
    --------
    >>> specimen = mx2("W", "S", (128, 128), substitutions={"Mo": 0.1}, vacancy_rate=0.05)
    >>> sorted(set(specimen.truth.kinds.tolist()))
    ['Mo_W', 'S2', 'V_S', 'W']
    """
    check_shape(shape, pixel_size_nm)
    constant = _lattice_constant(metal, chalcogen, lattice_nm) / pixel_size_nm
    on_metal, on_chalcogen = _states(
        metal,
        chalcogen,
        vacancy_rate=vacancy_rate,
        divacancy_rate=divacancy_rate,
        antisite_rate=antisite_rate,
        adatom_rate=adatom_rate,
        substitutions=substitutions or {},
    )
    rng = np.random.default_rng(random_state)
    lattice = grown(shape, constant, rotation_rad, grains=grains, boundary=boundary, rng=rng)
    lattice = without_holes(lattice, holes)
    choice = rng.random(len(lattice.positions))
    kinds, atoms, elements = _occupation(lattice.chalcogen, choice, on_metal, on_chalcogen)
    perfect = np.zeros_like(atoms)
    perfect[:, elements.index(metal)] = 3 * lattice.chalcogen
    perfect[:, elements.index(chalcogen)] = 6 * ~lattice.chalcogen
    bond = constant / math.sqrt(3)
    pairs = cKDTree(lattice.positions).query_pairs(1.2 * bond, output_type="ndarray")
    classes = shell_classes(pairs, kinds, atoms, perfect=perfect, elements=elements)
    return as_specimen(
        shape,
        pixel_size_nm,
        Sites(lattice.positions, kinds, classes, atoms, elements, lattice.grains),
        electrons_per_pixel=electrons_per_pixel,
        background=background,
        probe=probe,
        gamma=gamma,
        device=device,
        metadata={
            "specimen": f"{metal}{chalcogen}2",
            "vacancy_rate": vacancy_rate,
            "random_state": random_state,
        },
        displacement=displacement,
    )


def _lattice_constant(metal: str, chalcogen: str, given: float | None) -> float:
    atomic_number(metal)
    if chalcogen not in _CHALCOGENS:
        raise InputError(f"chalcogen must be one of {', '.join(_CHALCOGENS)}, got {chalcogen!r}")
    if given is not None:
        if not (given > 0 and math.isfinite(given)):
            raise InputError(f"lattice_nm must be positive and finite, got {given}")
        return given
    name = f"{metal}{chalcogen}2"
    if name not in LATTICE_NM:
        raise InputError(f"the lattice constant of {name} is not known; give lattice_nm=...")
    return LATTICE_NM[name]


def _states(
    metal: str,
    chalcogen: str,
    *,
    vacancy_rate: float,
    divacancy_rate: float,
    antisite_rate: float,
    adatom_rate: float,
    substitutions: Mapping[str, float],
) -> tuple[list[State], list[State]]:
    """What may sit on a metal site, and on a chalcogen site; the usual state first, its share what the others leave."""
    if {metal, chalcogen} & set(substitutions):
        raise InputError(
            f"substitutions must be other elements than {metal} and {chalcogen}, got {list(substitutions)}"
        )
    for_metal = {e: rate for e, rate in substitutions.items() if atomic_number(e) and e not in _CHALCOGENS}
    for_chalcogen = {e: rate for e, rate in substitutions.items() if e in _CHALCOGENS}
    rates = {"antisite_rate": antisite_rate, "adatom_rate": adatom_rate}
    check_rates({**rates, **_named(for_metal)}, f"{metal} columns")
    rates = {"vacancy_rate": vacancy_rate, "divacancy_rate": divacancy_rate, "antisite_rate": antisite_rate}
    check_rates({**rates, **_named(for_chalcogen)}, f"{chalcogen}2 columns")
    on_metal = [
        State(metal, {metal: 1}, 0.0),
        State(f"{chalcogen}2_{metal}", {chalcogen: 2}, antisite_rate),
        State(f"{metal}+{metal}", {metal: 2}, adatom_rate),
        *(State(f"{e}_{metal}", {e: 1}, rate) for e, rate in for_metal.items()),
    ]
    on_chalcogen = [
        State(f"{chalcogen}2", {chalcogen: 2}, 0.0),
        State(f"V_{chalcogen}", {chalcogen: 1}, vacancy_rate),
        State(f"V_{chalcogen}2", {}, divacancy_rate),
        State(f"{metal}_{chalcogen}2", {metal: 1}, antisite_rate),
        *(State(f"{e}_{chalcogen}", {chalcogen: 1, e: 1}, rate) for e, rate in for_chalcogen.items()),
    ]
    return on_metal, on_chalcogen


def _named(rates: Mapping[str, float]) -> dict[str, float]:
    return {f"substitutions[{element!r}]": rate for element, rate in rates.items()}


def _occupation(
    chalcogen: np.ndarray, choice: np.ndarray, on_metal: list[State], on_chalcogen: list[State]
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Kind (n,) of each site, atoms (n, e) on it, and the elements."""
    states = [*on_metal, *on_chalcogen]
    elements = list(dict.fromkeys(e for state in states for e in state.atoms))
    table = np.array([[state.atoms.get(e, 0) for e in elements] for state in states])
    index = np.where(
        chalcogen, len(on_metal) + occupied(choice, on_chalcogen[1:]), occupied(choice, on_metal[1:])
    )
    return np.array([state.kind for state in states])[index], table[index], elements
