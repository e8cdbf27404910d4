"""Monolayer MoSe2 with selenium vacancies."""

import math

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from torchmotif.datasets.specimen import Specimen, Truth, render
from torchmotif.errors import InputError
from torchmotif.image import Micrograph

__all__ = ["mose2"]

_LATTICE_NM = 0.3289  # a of MoSe2 (Bronsema et al., 1986)
_Z = {"Mo": 42, "Se": 34}
_GAMMA = 1.7  # ADF intensity goes as Z^gamma (Krivanek et al., 2010)


def mose2(
    shape: tuple[int, int] = (512, 512),
    pixel_size_nm: float = 0.015,
    *,
    vacancy_rate: float = 0.06,
    rotation_rad: float = 0.2,
    electrons_per_pixel: float = 10.0,
    probe_sigma_nm: float = 0.045,
    random_state: int = 0,
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
    if not 0 <= vacancy_rate <= 1:
        raise InputError(f"vacancy_rate must lie between 0 and 1, got {vacancy_rate}")
    for name, value in (
        ("pixel_size_nm", pixel_size_nm),
        ("electrons_per_pixel", electrons_per_pixel),
        ("probe_sigma_nm", probe_sigma_nm),
    ):
        if not (value > 0 and math.isfinite(value)):
            raise InputError(f"{name} must be positive and finite, got {value}")
    if min(shape) < 1:
        raise InputError(f"shape must have at least one pixel a side, got {shape}")
    positions, selenium = _lattice(shape, _LATTICE_NM / pixel_size_nm, rotation_rad)
    rng = np.random.default_rng(random_state)
    vacant = selenium & (rng.random(len(selenium)) < vacancy_rate)
    kinds = np.where(selenium, np.where(vacant, "V_Se", "Se2"), "Mo")
    atoms = np.where(selenium, np.where(vacant, 1, 2), 1)
    weights = torch.as_tensor(atoms * np.where(selenium, _Z["Se"], _Z["Mo"]) ** _GAMMA)
    sigma = probe_sigma_nm / pixel_size_nm
    image = render(shape, positions, weights, ((0.9, sigma), (0.1, 3 * sigma)))
    image *= electrons_per_pixel / image.mean()
    within = ((positions > -0.5) & (positions < torch.tensor(shape) - 0.5)).all(dim=1).numpy()
    classes = _classes(positions.numpy(), kinds, 1.2 * _LATTICE_NM / math.sqrt(3) / pixel_size_nm)
    metadata = {"specimen": "MoSe2", "vacancy_rate": vacancy_rate, "random_state": random_state}
    return Specimen(
        Micrograph(image, pixel_size_nm, "nm", metadata, electrons_per_pixel=electrons_per_pixel),
        Truth(positions[torch.as_tensor(within)], kinds[within], classes[within]),
    )


def _lattice(shape: tuple[int, int], constant: float, rotation_rad: float) -> tuple[Tensor, np.ndarray]:
    """Columns of a honeycomb that covers the image and a rim of four cells, and which of them are selenium."""
    a1 = torch.tensor([0.0, constant], dtype=torch.float64)
    a2 = torch.tensor([-math.sqrt(3) / 2 * constant, constant / 2], dtype=torch.float64)
    count = math.ceil(math.hypot(*shape) / constant) + 6
    i, j = torch.meshgrid(*(torch.arange(-count, count + 1, dtype=torch.float64),) * 2, indexing="ij")
    cells = i.reshape(-1, 1) * a1 + j.reshape(-1, 1) * a2
    both = torch.cat([cells, cells + (a1 + a2) / 3])
    cos, sin = math.cos(rotation_rad), math.sin(rotation_rad)
    turn = torch.tensor(
        [[cos, -sin], [sin, cos]], dtype=torch.float64
    )  # counter-clockwise where rows point down
    middle = torch.tensor([(shape[0] - 1) / 2, (shape[1] - 1) / 2], dtype=torch.float64)
    positions = both @ turn.T + middle
    margin = 4 * constant
    near = ((positions > -margin) & (positions < torch.tensor(shape) + margin)).all(dim=1)
    selenium = (torch.arange(len(both)) >= len(cells)).numpy()
    return positions[near], selenium[near.numpy()]


def _classes(positions: np.ndarray, kinds: np.ndarray, radius: float) -> np.ndarray:
    """The kind of each site, and the number of vacancies in its first shell."""
    tree = cKDTree(positions)
    pairs = tree.query_pairs(radius, output_type="ndarray")
    vacant = kinds == "V_Se"
    missing = np.bincount(pairs[:, 0], vacant[pairs[:, 1]], len(kinds))
    missing += np.bincount(pairs[:, 1], vacant[pairs[:, 0]], len(kinds))
    return np.array(
        [kind if n == 0 else f"{kind} -{n:.0f} Se" for kind, n in zip(kinds, missing, strict=True)]
    )
