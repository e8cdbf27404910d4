"""Monolayers MX2 (2H) with point defects, grain boundaries, holes and strain."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from torchmotif._arrays import DeviceLike
from torchmotif.datasets.elements import GAMMA, atomic_number, scattering
from torchmotif.datasets.probe import GaussianProbe, Probe
from torchmotif.datasets.render import Window
from torchmotif.datasets.sites import State, check_rates, occupied, shell_classes, species_names
from torchmotif.datasets.specimen import Scene, Specimen, Truth
from torchmotif.errors import InputError

__all__ = ["LATTICE_NM", "Displacement", "mose2", "mx2"]

# a of the 2H phases (Wilson & Yoffe, 1969; MoSe2: Bronsema et al., 1986)
LATTICE_NM = {"MoS2": 0.3160, "MoSe2": 0.3289, "MoTe2": 0.3519, "WS2": 0.3154, "WSe2": 0.3286}
_CHALCOGENS = ("O", "S", "Se", "Te")
_MARGIN = 4  # lattice constants around the image that are filled as well
_OPENING = 0.12  # of a, by which each side of a mirror twin moves away, so that its metals do not touch

Displacement = Callable[[Tensor], Tensor]


class _Lattice(NamedTuple):
    """Sites before anything sits on them."""

    positions: np.ndarray  # (n, 2) in pixels
    chalcogen: np.ndarray  # (n,) bool
    grains: np.ndarray  # (n,) int


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
        by torch; its symmetric gradient is the true strain.
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
    constant = _lattice_constant(metal, chalcogen, lattice_nm) / pixel_size_nm if pixel_size_nm > 0 else 0.0
    if not (constant > 0 and math.isfinite(constant)):
        raise InputError(
            f"pixel_size_nm and lattice_nm must be positive and finite, got {pixel_size_nm}, {lattice_nm}"
        )
    if min(shape) < 1:
        raise InputError(f"shape must have at least one pixel a side, got {shape}")
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
    lattice = _grains(shape, constant, rotation_rad, grains=grains, boundary=boundary, rng=rng)
    lattice = _without_holes(lattice, holes)
    choice = rng.random(len(lattice.positions))
    kinds, atoms, elements = _occupation(lattice.chalcogen, choice, on_metal, on_chalcogen)
    perfect = np.zeros_like(atoms)
    perfect[:, elements.index(metal)] = 3 * lattice.chalcogen
    perfect[:, elements.index(chalcogen)] = 6 * ~lattice.chalcogen
    bond = constant / math.sqrt(3)
    classes = shell_classes(
        lattice.positions, kinds, atoms, perfect=perfect, elements=elements, radius=1.2 * bond
    )
    positions, strain = _displaced(torch.as_tensor(lattice.positions, device=device), displacement)
    weights = torch.as_tensor(atoms @ np.array(scattering(elements, gamma)), device=device)
    metadata = {
        "specimen": f"{metal}{chalcogen}2",
        "vacancy_rate": vacancy_rate,
        "random_state": random_state,
    }
    probe = GaussianProbe() if probe is None else probe
    scene = Scene(
        shape, pixel_size_nm, ((probe, positions, weights),), electrons_per_pixel, background, metadata
    )
    truth = Truth(
        positions,
        kinds,
        classes,
        species=species_names(atoms, elements),
        grains=lattice.grains,
        strain=strain,
    )
    return Specimen(scene, truth.within(Window(0, 0, *shape)))


def _lattice_constant(metal: str, chalcogen: str, given: float | None) -> float:
    atomic_number(metal)
    if chalcogen not in _CHALCOGENS:
        raise InputError(f"chalcogen must be one of {', '.join(_CHALCOGENS)}, got {chalcogen!r}")
    if given is not None:
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
    foreign = {element: rate for element, rate in substitutions.items() if atomic_number(element)}
    if metal in foreign or chalcogen in foreign:
        raise InputError(
            f"substitutions must be other elements than {metal} and {chalcogen}, got {list(foreign)}"
        )
    on_metal = [
        State(f"{chalcogen}2_{metal}", {chalcogen: 2}, antisite_rate),
        State(f"{metal}+{metal}", {metal: 2}, adatom_rate),
        *(State(f"{e}_{metal}", {e: 1}, rate) for e, rate in foreign.items() if e not in _CHALCOGENS),
    ]
    on_chalcogen = [
        State(f"V_{chalcogen}", {chalcogen: 1}, vacancy_rate),
        State(f"V_{chalcogen}2", {}, divacancy_rate),
        State(f"{metal}_{chalcogen}2", {metal: 1}, antisite_rate),
        *(
            State(f"{e}_{chalcogen}", {chalcogen: 1, e: 1}, rate)
            for e, rate in foreign.items()
            if e in _CHALCOGENS
        ),
    ]
    named = {"antisite_rate": antisite_rate}
    on = {f"substitutions[{e!r}]": rate for e, rate in foreign.items() if e not in _CHALCOGENS}
    check_rates({**named, "adatom_rate": adatom_rate, **on}, f"{metal} columns")
    on = {f"substitutions[{e!r}]": rate for e, rate in foreign.items() if e in _CHALCOGENS}
    rates = {"vacancy_rate": vacancy_rate, "divacancy_rate": divacancy_rate, **named, **on}
    check_rates(rates, f"{chalcogen}2 columns")
    return [State(metal, {metal: 1}, 0.0), *on_metal], [
        State(f"{chalcogen}2", {chalcogen: 2}, 0.0),
        *on_chalcogen,
    ]


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


def _honeycomb(shape: tuple[int, int], constant: float, rotation_rad: float) -> tuple[np.ndarray, np.ndarray]:
    """Sites (n, 2) of a honeycomb about the image's middle, in crystal axes, as far as its corners, and which are X."""
    across = math.hypot(*shape) / 2 + _MARGIN * constant
    n = math.ceil(across / (constant * math.sqrt(3) / 2)) + 2
    row, k = np.meshgrid(np.arange(-n, n + 1), np.arange(-n - 1, n + 2), indexing="ij")
    metal = np.stack([-row * (math.sqrt(3) / 2), k + 0.5 * (row % 2)], axis=-1).reshape(-1, 2) * constant
    both = np.concatenate([metal, metal + constant * np.array([-math.sqrt(3) / 6, 0.5])])
    chalcogen = np.arange(len(both)) >= len(metal)
    turn = _rotation(rotation_rad)
    half = np.array(shape) / 2 + _MARGIN * constant
    near = (np.abs(both @ turn.T) < half).all(axis=1)
    return both[near], chalcogen[near]


def _rotation(angle_rad: float) -> np.ndarray:
    cos, sin = math.cos(angle_rad), math.sin(angle_rad)
    return np.array([[cos, -sin], [sin, cos]])  # counter-clockwise where rows point down


def _grains(
    shape: tuple[int, int],
    constant: float,
    rotation_rad: float,
    *,
    grains: int,
    boundary: str,
    rng: np.random.Generator,
) -> _Lattice:
    """Sites of all grains in and around the image, none nearer than three quarters of a bond to another."""
    if grains < 1:
        raise InputError(f"grains must be at least 1, got {grains}")
    if boundary not in {"tilt", "mirror"}:
        raise InputError(f"boundary must be 'tilt' or 'mirror', got {boundary!r}")
    if boundary == "mirror":
        if grains not in {1, 2}:
            raise InputError(f"a mirror twin has two grains, got grains={grains}")
        return (
            _mirror_twin(shape, constant, rotation_rad)
            if grains == 2
            else _single(shape, constant, rotation_rad)
        )
    if grains == 1:
        return _single(shape, constant, rotation_rad)
    centres = rng.random((grains, 2)) * shape
    angles = [rotation_rad, *(rng.random(grains - 1) * (2 * math.pi / 3))]
    parts = [_single(shape, constant, angle) for angle in angles]
    cells = cKDTree(centres)
    kept = [
        _Lattice(part.positions[mine], part.chalcogen[mine], np.full(mine.sum(), g))
        for g, part in enumerate(parts)
        for mine in [cells.query(part.positions)[1] == g]
    ]
    lattice = _Lattice(*(np.concatenate(arrays) for arrays in zip(*kept, strict=True)))
    close = cKDTree(lattice.positions).query_pairs(0.75 * constant / math.sqrt(3), output_type="ndarray")
    keep = np.ones(len(lattice.positions), dtype=bool)
    keep[close.max(axis=1)] = False  # of two that touch across a boundary, the one of the later grain goes
    return _Lattice(*(array[keep] for array in lattice))


def _single(shape: tuple[int, int], constant: float, rotation_rad: float) -> _Lattice:
    sites, chalcogen = _honeycomb(shape, constant, rotation_rad)
    positions = sites @ _rotation(rotation_rad).T + (np.array(shape) - 1) / 2
    return _Lattice(positions, chalcogen, np.zeros(len(positions), dtype=int))


def _mirror_twin(shape: tuple[int, int], constant: float, rotation_rad: float) -> _Lattice:
    sites, chalcogen = _honeycomb(shape, constant, rotation_rad)
    height = sites[:, 0] + constant * math.sqrt(3) / 6  # above the row of X through which the mirror goes
    on = np.abs(height) < 1e-6 * constant
    below = height > 1e-6 * constant
    opening = np.array([_OPENING * constant, 0.0])
    lower = sites[below] + opening
    upper = (sites[below] + np.array([math.sqrt(3) / 6 * constant, 0.0])) * np.array([-1.0, 1.0])
    upper -= np.array([math.sqrt(3) / 6 * constant, 0.0]) + opening
    turned = np.concatenate([sites[on], lower, upper]) @ _rotation(rotation_rad).T
    count = on.sum(), below.sum(), below.sum()
    return _Lattice(
        turned + (np.array(shape) - 1) / 2,
        np.concatenate([chalcogen[on], chalcogen[below], chalcogen[below]]),
        np.repeat([0, 0, 1], count),
    )


def _without_holes(lattice: _Lattice, holes: Sequence[tuple[float, float, float]]) -> _Lattice:
    keep = np.ones(len(lattice.positions), dtype=bool)
    for row, col, radius in holes:
        if not radius > 0:
            raise InputError(
                f"holes must be (row, col, radius) with a positive radius, got {(row, col, radius)}"
            )
        keep &= np.hypot(*(lattice.positions - (row, col)).T) > radius
    return _Lattice(*(array[keep] for array in lattice))


def _displaced(positions: Tensor, displacement: Displacement | None) -> tuple[Tensor, Tensor]:
    """Positions after the displacement, and the strain (n, 2, 2): the symmetric part of its gradient."""
    if displacement is None:
        return positions, positions.new_zeros(len(positions), 2, 2)
    start = positions.detach().requires_grad_()
    shift = displacement(start)
    if shift.shape != start.shape or not bool(torch.isfinite(shift).all()):
        raise InputError(
            f"displacement must give finite values of shape {tuple(start.shape)}, got {tuple(shift.shape)}"
        )
    rows = [torch.autograd.grad(shift[:, i].sum(), start, retain_graph=True)[0] for i in range(2)]
    gradient = torch.stack(rows, dim=1)
    return (start + shift).detach(), (gradient + gradient.transpose(1, 2)) / 2
