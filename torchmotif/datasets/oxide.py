"""Oxides of pentagons: the type-4 monohedral tiling, with filled and hollow pentagons."""

import math
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import Delaunay, QhullError, cKDTree

from torchmotif._arrays import DeviceLike, as_positions
from torchmotif._elements import GAMMA, atomic_number
from torchmotif.datasets.crystal import Sites, as_specimen
from torchmotif.datasets.honeycomb import rotation
from torchmotif.datasets.ising import ising_draw
from torchmotif.datasets.probe import Probe
from torchmotif.datasets.scene import check_shape
from torchmotif.datasets.sites import shell_classes
from torchmotif.datasets.specimen import Specimen
from torchmotif.errors import InputError

__all__ = ["CAIRO", "pentagonal_oxide"]

CAIRO = (math.sqrt(7) / 2 / (1 + math.sqrt(7)), 1 / 2 / (1 + math.sqrt(7)))  # all five sides of one length


class _Tiling(NamedTuple):
    """Pentagons: where their vertices and centres are, and what touches what."""

    vertices: np.ndarray  # (v, 2) in pixels
    fourfold: np.ndarray  # (v,) bool: four pentagons meet
    centres: np.ndarray  # (c, 2) in pixels
    corners: np.ndarray  # (m, 2): centre, vertex
    neighbours: np.ndarray  # (p, 2): centre, centre, each pair once


def pentagonal_oxide(
    shape: tuple[int, int] = (512, 512),
    pixel_size_nm: float = 0.025,
    *,
    filling: float = 0.5,
    coupling: float = 0.0,
    vertex: tuple[float, float] = CAIRO,
    lattice_nm: float = 1.02,
    centres: Any = None,
    metal: str = "Mo",
    filler: str = "Nb",
    rotation_rad: float = 0.2,
    sweeps: int = 200,
    electrons_per_pixel: float = 10.0,
    background: float = 0.0,
    probe: Probe | None = None,
    gamma: float = GAMMA,
    device: DeviceLike = None,
    random_state: int = 0,
) -> Specimen:
    """A tiling by one pentagon of type 4 (Reinhardt, 1918), metal columns on its vertices, some pentagons filled.

    Pentagons of type 4 have two right angles that are not adjacent, each between two equal sides. Four of them meet at
    every right angle, so the tiling is a square lattice (p4) fixed by the place of one other vertex. Which pentagons are
    filled is a draw of an Ising model on pentagons that share a side, so that preferential attachment is known.

    Parameters
    ----------
    shape : (int, int)
        Of the image, in pixels.
    pixel_size_nm : float
        Length of a pixel.
    filling : float
        Share of the pentagons whose centre holds a column.
    coupling : float
        J / kT of the Ising model: 0 fills at random, positive gathers filled pentagons, negative keeps them apart.
    vertex : (float, float)
        (x, y) of a vertex where three pentagons meet, in units of the lattice constant, counted from a fourfold vertex.
        Every choice with a convex pentagon is one of type 4; x + y = 1/2 are the mirror-symmetric (Cairo) ones, and by
        default all sides are equal.
    lattice_nm : float
        Lattice constant: the distance between fourfold vertices along the axes.
    centres : array of shape (c, 2), optional
        (row, col) in pixels of pentagon centres to use instead of a perfect tiling; the vertices are the centroids of the
        triangles and squares between them. `vertex`, `lattice_nm` and `rotation_rad` are not used then.
    metal, filler : str
        Elements on the vertices and in the filled pentagons.
    rotation_rad : float
        Counter-clockwise rotation of the lattice.
    sweeps : int
        Of the Monte Carlo run.
    electrons_per_pixel, background, probe, gamma, device
        As for `mx2`.
    random_state : int
        Seed of the filling.

    Returns
    -------
    Specimen
        Kinds: "M3" and "M4" (vertices where three and four pentagons meet), "filled" and "hollow" (centres; a hollow one
        has no atoms). Classes of vertices hold how many of their pentagons are hollow, "M3 -1 Nb".

    Raises
    ------
    InputError
        If the filling is no share, the vertex gives no convex pentagon, the centres form no triangles and squares, an
        element is not known, or a length or dose is not positive.

    Examples
    --------
    >>> specimen = pentagonal_oxide((128, 128), filling=0.25)
    >>> sorted(set(specimen.truth.kinds.tolist()))
    ['M3', 'M4', 'filled', 'hollow']
    """
    check_shape(shape, pixel_size_nm)
    for element in (metal, filler):
        atomic_number(element)
    if centres is None:
        if not (lattice_nm > 0 and math.isfinite(lattice_nm)):
            raise InputError(f"lattice_nm must be positive and finite, got {lattice_nm}")
        tiling = _perfect(shape, lattice_nm / pixel_size_nm, vertex, rotation_rad)
    else:
        tiling = _between(as_positions(centres, name="centres").detach().cpu().numpy())
    rng = np.random.default_rng(random_state)
    filled = ising_draw(
        tiling.neighbours, len(tiling.centres), filling=filling, coupling=coupling, sweeps=sweeps, rng=rng
    )
    return as_specimen(
        shape,
        pixel_size_nm,
        _sites(tiling, filled, metal, filler),
        electrons_per_pixel=electrons_per_pixel,
        background=background,
        probe=probe,
        gamma=gamma,
        device=device,
        metadata={"specimen": "pentagonal oxide", "coupling": coupling, "random_state": random_state},
    )


def _sites(tiling: _Tiling, filled: np.ndarray, metal: str, filler: str) -> Sites:
    """Vertices first, then centres."""
    v, c = len(tiling.vertices), len(tiling.centres)
    kinds = np.concatenate([np.where(tiling.fourfold, "M4", "M3"), np.where(filled, "filled", "hollow")])
    elements = list(dict.fromkeys((metal, filler)))
    atoms = np.zeros((v + c, len(elements)), dtype=int)
    atoms[:v, 0] = 1
    atoms[v:, elements.index(filler)] = filled
    pairs = tiling.corners[:, ::-1] + [0, v]
    perfect = np.zeros_like(atoms)
    perfect[:v, elements.index(filler)] = np.where(tiling.fourfold, 4, 3)
    perfect[v:, 0] = np.bincount(tiling.corners[:, 0], minlength=c)
    classes = shell_classes(pairs, kinds, atoms, perfect=perfect, elements=elements)
    return Sites(np.concatenate([tiling.vertices, tiling.centres]), kinds, classes, atoms, elements)


def _pentagon(vertex: tuple[float, float]) -> np.ndarray:
    """Corners (5, 2) as (x, y) of the pentagon with right angles at (0, 0) and (1/2, 1/2), checked to be convex."""
    x, y = vertex
    corners = np.array([[0.0, 0.0], [x, y], [0.5, 0.5], [y, 1 - x], [-y, x]])
    ahead = np.roll(corners, -1, axis=0) - corners
    behind = np.roll(ahead, 1, axis=0)
    turn = behind[:, 0] * ahead[:, 1] - behind[:, 1] * ahead[:, 0]
    if not (np.isfinite(turn).all() and (turn > 1e-9).all()):
        raise InputError(
            f"vertex {vertex} gives no convex pentagon; the equilateral one has ({CAIRO[0]:.4f}, {CAIRO[1]:.4f})"
        )
    return corners


def _perfect(
    shape: tuple[int, int], constant: float, vertex: tuple[float, float], rotation_rad: float
) -> _Tiling:
    pentagon = _pentagon(vertex)
    reach = math.ceil(math.hypot(*shape) / 2 / constant) + 4
    i, j = (a.ravel() for a in np.meshgrid(*(np.arange(-reach, reach + 1),) * 2, indexing="ij"))
    cells = np.stack([i, j], axis=1)
    faces = np.stack([pentagon @ rotation(k * math.pi / 2).T for k in range(4)])  # (4, 5, 2)
    corners = (cells[:, None, None] + faces).reshape(-1, 5, 2)
    half = (np.array(shape) / 2 / constant).max() * 1.5 + 3
    corners = corners[(np.abs(corners.mean(1)) < half).all(1)]
    keys = np.round(corners.reshape(-1, 2) * 2**20).astype(np.int64)
    _, first, index = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    index = index.reshape(-1)
    points = corners.reshape(-1, 2)[first]
    on_lattice = np.abs(2 * points - np.round(2 * points)).max(1) < 1e-6
    incidence = np.stack([np.repeat(np.arange(len(corners)), 5), index], axis=1)
    to_pixels = constant * rotation(rotation_rad) @ np.array([[0.0, -1.0], [1.0, 0.0]])  # y points up
    middle = (np.array(shape) - 1) / 2

    def pixels(xy: np.ndarray) -> np.ndarray:
        turned: np.ndarray = xy @ to_pixels.T + middle
        return turned

    return _Tiling(pixels(points), on_lattice, pixels(corners.mean(1)), incidence, _sharing_a_side(incidence))


def _sharing_a_side(corners: np.ndarray) -> np.ndarray:
    """Pairs of pentagons with two vertices in common."""
    table = coo_array((np.ones(len(corners), dtype=int), tuple(corners.T))).tocsr()
    shared = (table @ table.T).tocoo()
    keep = (shared.data == 2) & (shared.row < shared.col)
    return np.stack([shared.row[keep], shared.col[keep]], axis=1)


def _between(centres: np.ndarray) -> _Tiling:
    """The tiling whose pentagons have the given centres: the dual of the triangles and squares between them."""
    try:
        triangles = Delaunay(centres).simplices
    except (QhullError, ValueError) as error:
        raise InputError(
            f"centres must be at least three that do not lie on a line, got {len(centres)}"
        ) from error
    distance, _ = cKDTree(centres).query(centres, k=[2])
    nearest = np.median(distance)
    sides = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]], axis=2)  # (t, 3, 2)
    length = np.linalg.norm(centres[sides[..., 0]] - centres[sides[..., 1]], axis=2)
    short = length < 1.22 * nearest
    edges, index = np.unique(sides.reshape(-1, 2), axis=0, return_inverse=True)
    index = index.reshape(-1, 3)
    # Triangles on the two sides of a long edge, the diagonal of a square, belong together.
    joined = coo_array(
        (np.ones((~short).sum(), dtype=int), (np.nonzero(~short)[0], index[~short])),
        shape=(len(triangles), len(edges)),
    ).tocsr()
    count, which = connected_components(joined @ joined.T, directed=False)
    parts, longs = np.bincount(which, minlength=count), np.bincount(which, (~short).sum(1), count)
    square = (parts == 2) & (longs == 2)
    whole = ((parts == 1) & (longs == 0)) | square
    if not whole.any():
        raise InputError(
            "centres form no triangles and squares of one side; are they the centres of pentagons?"
        )
    incidence = np.unique(np.stack([triangles.ravel(), np.repeat(which, 3)], axis=1), axis=0)
    incidence = incidence[whole[incidence[:, 1]]]
    name = np.cumsum(whole) - 1
    incidence = np.stack([incidence[:, 0], name[incidence[:, 1]]], axis=1)
    size = np.bincount(incidence[:, 1])
    vertices = np.stack(
        [np.bincount(incidence[:, 1], centres[incidence[:, 0], axis]) / size for axis in (0, 1)], axis=1
    )
    return _Tiling(vertices, square[whole], centres, incidence, edges[np.unique(index[short])])
