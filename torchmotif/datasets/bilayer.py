"""Twisted bilayers MX2: two honeycombs, and how they lie on each other at every place."""

import math

import numpy as np
import torch
from torch import Tensor

from torchmotif._arrays import DeviceLike
from torchmotif._elements import GAMMA
from torchmotif.datasets.crystal import Sites, as_specimen
from torchmotif.datasets.honeycomb import rotation, single
from torchmotif.datasets.mx2 import LATTICE_NM
from torchmotif.datasets.probe import Probe
from torchmotif.datasets.scene import check_shape
from torchmotif.datasets.specimen import Specimen
from torchmotif.errors import InputError

__all__ = ["twisted_bilayer_mos2"]

# What a third of the cell's long diagonal more of displacement makes of the stacking.
_PARALLEL = ("AA", "AB", "BA")  # metal on metal; metal on chalcogen; chalcogen on metal
_ANTIPARALLEL = (
    "AB'",
    "AA'",
    "A'B",
)  # metal on metal; metal on chalcogen and back (2H); chalcogen on chalcogen
_SADDLE = "SP"


def twisted_bilayer_mos2(
    angle_rad: float = math.radians(3.0),
    shape: tuple[int, int] = (512, 512),
    pixel_size_nm: float = 0.02,
    *,
    antiparallel: bool = False,
    relaxation: float = 0.0,
    rotation_rad: float = 0.0,
    electrons_per_pixel: float = 10.0,
    background: float = 0.0,
    probe: Probe | None = None,
    gamma: float = GAMMA,
    device: DeviceLike = None,
) -> Specimen:
    """Two layers of 2H MoS2 turned against each other about the middle of the image, metal on metal there.

    Parameters
    ----------
    angle_rad : float
        Twist of the top layer against the bottom one, between -pi/6 and pi/6; half of it is given to each.
    shape : (int, int)
        Of the image, in pixels.
    pixel_size_nm : float
        Length of a pixel.
    antiparallel : bool
        Whether the top layer is turned by another 180 degrees (stackings around 2H instead of 3R).
    relaxation : float
        0 is rigid. Up to 1, the layers move so that the stackings of low energy grow (AB and BA, or AA') at the cost of
        the others: the first harmonic of the relaxation (Nam & Koshino, 2017), as a share of the largest that does not
        fold the layers.
    rotation_rad : float
        Counter-clockwise rotation of the whole.
    electrons_per_pixel, background, probe, gamma, device
        As for `mx2`.

    Returns
    -------
    Specimen
        Every site of both layers is a column of its own, also where two coincide in projection. Classes name the local
        stacking, "Mo AB"; `truth.more` holds "layer" (0 bottom, 1 top), "stacking", and "registry_nm" (n, 2), the
        displacement (row, col) of top against bottom, reduced to the cell.

    Raises
    ------
    InputError
        If the angle or the relaxation is out of range, or a length or dose is not positive.

    Examples
    --------
    >>> specimen = twisted_bilayer_mos2(0.05, (128, 128))
    >>> sorted(set(specimen.truth.more["stacking"].tolist()))
    ['AA', 'SP']
    """
    check_shape(shape, pixel_size_nm)
    if not abs(angle_rad) <= math.pi / 6:
        raise InputError(
            f"angle_rad must lie between -pi/6 and pi/6, got {angle_rad}; use antiparallel=True beyond"
        )
    if not 0 <= relaxation < 1:
        raise InputError(f"relaxation must lie in [0, 1), got {relaxation}")
    constant = LATTICE_NM["MoS2"] / pixel_size_nm
    layers = [
        single(shape, constant, rotation_rad - angle_rad / 2),
        single(shape, constant, rotation_rad + angle_rad / 2 + (math.pi if antiparallel else 0.0)),
    ]
    chalcogen = np.concatenate([part.chalcogen for part in layers])
    top = np.repeat([0, 1], [len(part.positions) for part in layers])
    moire = _Moire(shape, constant * math.cos(angle_rad / 2), angle_rad, rotation_rad, antiparallel)
    positions = torch.as_tensor(np.concatenate([part.positions for part in layers]))
    sign = torch.as_tensor(2 * top - 1)[:, None]

    def displacement(places: Tensor) -> Tensor:
        return sign.to(places.device) * moire.relaxed(places, relaxation) / 2

    registry = moire.registry(positions, relaxation).numpy()
    stacking = moire.stacking(registry)
    kinds = np.where(chalcogen, "S2", "Mo")
    classes = np.char.add(np.char.add(kinds, " "), stacking)
    atoms = np.stack([~chalcogen, 2 * chalcogen], axis=1).astype(int)
    more = {"layer": top, "stacking": stacking, "registry_nm": registry * pixel_size_nm}
    return as_specimen(
        shape,
        pixel_size_nm,
        Sites(positions.numpy(), kinds, classes, atoms, ("Mo", "S"), more=more),
        electrons_per_pixel=electrons_per_pixel,
        background=background,
        probe=probe,
        gamma=gamma,
        device=device,
        metadata={"specimen": "twisted bilayer MoS2", "angle_rad": angle_rad, "relaxation": relaxation},
        displacement=displacement if relaxation > 0 else None,
    )


class _Moire:
    """The displacement of the top layer against the bottom one as a function of place; lengths in pixels."""

    def __init__(
        self,
        shape: tuple[int, int],
        constant: float,
        angle_rad: float,
        rotation_rad: float,
        antiparallel: bool,
    ) -> None:
        turn = rotation(rotation_rad)
        self.middle = (np.array(shape) - 1) / 2
        self.shear = 2 * math.tan(angle_rad / 2) * rotation(math.pi / 2)
        basis = constant * np.array([[0.0, 1.0], [-math.sqrt(3) / 2, 0.5]]) @ turn.T
        self.basis = basis
        reciprocal = 2 * math.pi * np.linalg.inv(basis).T
        self.waves = np.stack([reciprocal[0], reciprocal[1], -reciprocal[0] - reciprocal[1]])
        self.third = basis.sum(0) / 3  # the chalcogen's place in the bottom cell
        self.well = self.third if antiparallel else np.zeros(2)
        self.names = _ANTIPARALLEL if antiparallel else _PARALLEL
        self.sign = -1.0 if antiparallel else 1.0
        # A larger step would map two stackings to one, where the layers are drawn together most.
        self.most = (0.5 if antiparallel else 1.0) * constant / (math.sqrt(3) * math.pi)

    def relaxed(self, places: Tensor, relaxation: float) -> Tensor:
        """How far the top layer moves against the bottom one: uphill stackings shrink."""
        waves = places.new_tensor(self.waves)
        phase = (self._rigid(places) - places.new_tensor(self.well)) @ waves.T
        step = relaxation * self.most * self.sign
        moved: Tensor = step * torch.sin(phase) @ (waves / waves.norm(dim=1, keepdim=True))
        return moved

    def registry(self, places: Tensor, relaxation: float) -> Tensor:
        """Displacement of top against bottom, reduced to the cell nearest to zero."""
        total = self._rigid(places) + self.relaxed(places, relaxation)
        basis = total.new_tensor(self.basis)
        return _shortest(total, basis)

    def stacking(self, registry: np.ndarray) -> np.ndarray:
        """The high-symmetry stacking nearest to each registry."""
        places = [k * self.third for k in range(3)]
        names = list(self.names)
        if self.sign > 0:  # half way between AB and BA, in the three directions of the bonds
            places += [1.5 * self.third @ rotation(k * 2 * math.pi / 3).T for k in range(3)]
            names += [_SADDLE] * 3
        targets = torch.as_tensor(np.stack(places))
        away = _shortest(torch.as_tensor(registry)[:, None] - targets, torch.as_tensor(self.basis))
        nearest: np.ndarray = np.array(names)[away.norm(dim=2).argmin(1).numpy()]
        return nearest

    def _rigid(self, places: Tensor) -> Tensor:
        away: Tensor = places - places.new_tensor(self.middle)
        return away @ places.new_tensor(self.shear).T


def _shortest(vectors: Tensor, basis: Tensor) -> Tensor:
    """Each vector less the lattice vector nearest to it."""
    reduced = vectors - torch.round(vectors @ torch.linalg.inv(basis)) @ basis
    steps = torch.tensor(
        [[i, j] for i in (-1, 0, 1) for j in (-1, 0, 1)], dtype=basis.dtype, device=basis.device
    )
    candidates = reduced[..., None, :] - steps @ basis
    best = candidates.norm(dim=-1).argmin(-1, keepdim=True)
    return candidates.gather(-2, best[..., None].expand(*best.shape, 2)).squeeze(-2)
