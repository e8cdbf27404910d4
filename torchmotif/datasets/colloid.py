"""Dense disordered disks: colloids and granular matter, since motifs are not only for atoms."""

import math

import numpy as np
import torch
from scipy.spatial import cKDTree

from torchmotif._arrays import DeviceLike
from torchmotif.datasets.probe import DiskProbe
from torchmotif.datasets.render import Window
from torchmotif.datasets.scene import Scene, check_shape
from torchmotif.datasets.specimen import Specimen, Truth
from torchmotif.errors import InputError

__all__ = ["colloid"]

_STEPS = 400
_TOUCHING = 1.05  # of the sum of two radii


def colloid(
    shape: tuple[int, int] = (512, 512),
    pixel_size_nm: float = 5.0,
    *,
    radius_nm: float = 50.0,
    size_ratio: float = 1.4,
    large_share: float = 0.5,
    packing: float = 0.8,
    edge_nm: float = 7.5,
    electrons_per_pixel: float = 10.0,
    background: float = 0.0,
    device: DeviceLike = None,
    random_state: int = 0,
) -> Specimen:
    """Disks of two sizes, packed at random and pushed apart until they hardly overlap.

    Parameters
    ----------
    shape : (int, int)
        Of the image, in pixels.
    pixel_size_nm : float
        Length of a pixel.
    radius_nm : float
        Of the small disks.
    size_ratio : float
        Radius of the large disks over that of the small; 1.4 keeps them from crystallising (O'Hern et al., 2003), 1 does
        not.
    large_share : float
        Share of the disks that are large.
    packing : float
        Share of the area that the disks cover, less than 0.88.
    edge_nm : float
        Standard deviation of the blur of the disks' edges.
    electrons_per_pixel, background, device
        As for `mx2`.
    random_state : int
        Seed of the packing.

    Returns
    -------
    Specimen
        Kinds: "small", "large"; classes hold the number of disks that touch, "large 6"; `truth.more["radius_nm"]`.

    Raises
    ------
    InputError
        If a share is none, the packing is too dense, the ratio is below 1, the image is too small for a few disks, or a
        length or dose is not positive.

    Examples
    --------
    >>> colloid((128, 128)).image
    Micrograph(128 x 128 torch.float32, 5 nm/px, 10 electrons/px)
    """
    check_shape(shape, pixel_size_nm)
    if not 0 <= large_share <= 1:
        raise InputError(f"large_share must lie between 0 and 1, got {large_share}")
    if not 0 < packing < 0.88:
        raise InputError(f"packing must lie in (0, 0.88), got {packing}; denser disks must overlap")
    if not (size_ratio >= 1 and math.isfinite(size_ratio)):
        raise InputError(f"size_ratio must be at least 1, got {size_ratio}")
    small, large = (DiskProbe(r, edge_nm) for r in (radius_nm, size_ratio * radius_nm))
    margin = 4 * large.radius_nm / pixel_size_nm
    box = np.array(shape) + 2 * margin
    mean_area = math.pi * ((1 - large_share) * small.radius_nm**2 + large_share * large.radius_nm**2)
    count = round(packing * box.prod() * pixel_size_nm**2 / mean_area)
    rng = np.random.default_rng(random_state)
    is_large = rng.random(count) < large_share
    radii = np.where(is_large, large.radius_nm, small.radius_nm) / pixel_size_nm
    places = _pushed_apart(rng.random((count, 2)) * box, radii, box) - margin
    reach = 2 * _TOUCHING * radii.max()
    pairs = cKDTree(places).query_pairs(reach, output_type="ndarray")
    distance = np.linalg.norm(places[pairs[:, 0]] - places[pairs[:, 1]], axis=1)
    touching = pairs[distance < _TOUCHING * radii[pairs].sum(1)]
    contacts = np.bincount(touching.ravel(), minlength=count)
    kinds = np.where(is_large, "large", "small")
    classes = np.char.add(np.char.add(kinds, " "), contacts.astype(str))
    positions = torch.as_tensor(places, device=device)
    area = torch.as_tensor(radii**2, device=device)
    groups = [
        (probe, torch.as_tensor(mine, device=device))
        for probe, mine in ((small, ~is_large), (large, is_large))
    ]
    layers = [(probe, positions[mine], area[mine]) for probe, mine in groups]
    metadata = {"specimen": "colloid", "packing": packing, "random_state": random_state}
    scene = Scene.exposed(
        shape,
        pixel_size_nm,
        layers,
        electrons_per_pixel=electrons_per_pixel,
        background=background,
        metadata=metadata,
    )
    truth = Truth(positions, kinds, classes, more={"radius_nm": radii * pixel_size_nm})
    return Specimen(scene, truth.within(Window(0, 0, *shape)))


def _pushed_apart(places: np.ndarray, radii: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Centres in a periodic box after overlapping pairs have pushed each other apart many times."""
    for _ in range(_STEPS):
        pairs = cKDTree(places % box, boxsize=box).query_pairs(2 * radii.max(), output_type="ndarray")
        apart = places[pairs[:, 0]] - places[pairs[:, 1]]
        apart -= np.round(apart / box) * box
        distance = np.linalg.norm(apart, axis=1)
        overlap = radii[pairs].sum(1) - distance
        deep = overlap > 1e-3 * radii.min()
        if not deep.any():
            break
        push = apart[deep] * (0.4 * overlap[deep] / np.maximum(distance[deep], 1e-9))[:, None]
        for side, sign in ((0, 1.0), (1, -1.0)):
            for axis in (0, 1):
                places[:, axis] += sign * np.bincount(pairs[deep, side], push[:, axis], len(places))
    inside: np.ndarray = places % box
    return inside
