"""Names and mean cells of tilings."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from torchmotif.plane_graph.cyclic import least_cyclic
from torchmotif.plane_graph.faces import Faces

__all__ = ["Tiling", "describe_tiling", "vertex_figures"]

# The eleven uniform tilings by vertex figure, and their duals (Grünbaum & Shephard 1987).
_UNIFORM = {
    (3, 3, 3, 3, 3, 3): ("triangular", "hexagonal"),
    (4, 4, 4, 4): ("square", "square"),
    (6, 6, 6): ("hexagonal", "triangular"),
    (3, 3, 4, 3, 4): ("snub square", "pentagonal (type 4, Cairo)"),
    (3, 3, 3, 4, 4): ("elongated triangular", "pentagonal (type 1, prismatic)"),
    (3, 3, 3, 3, 6): ("snub hexagonal", "pentagonal (type 5, floret)"),
    (3, 6, 3, 6): ("trihexagonal (kagome)", "rhombille"),
    (4, 8, 8): ("truncated square", "tetrakis square"),
    (3, 12, 12): ("truncated hexagonal", "triakis triangular"),
    (3, 4, 6, 4): ("rhombitrihexagonal", "deltoidal trihexagonal"),
    (4, 6, 12): ("truncated trihexagonal", "kisrhombille"),
}


@dataclass(frozen=True)
class Tiling:
    """The tiling that most nodes off the rim belong to, and its dual.

    Attributes
    ----------
    vertex_figure : tuple of int
        Sides of the faces around a node.
    share : float
        Part of the nodes off the rim that have it.
    counts : mapping of vertex figure to int
        All that occur.
    name, dual_name : str
        Of the uniform tiling with this vertex figure, "unnamed" where there is none.
    cell_sides : tuple of float
        Mean side lengths of the dual's cell in pixels: side i joins the centroids of the faces i and i + 1 of the
        vertex figure. Averaged over the symmetry of the figure.
    cell_angles_rad : tuple of float
        Mean inner angles of the cell, at the centroids of the faces in the order of the vertex figure.
    """

    vertex_figure: tuple[int, ...]
    share: float
    counts: Mapping[tuple[int, ...], int]
    name: str
    dual_name: str
    cell_sides: tuple[float, ...]
    cell_angles_rad: tuple[float, ...]

    def __str__(self) -> str:
        """Say what it is in a few lines."""
        figure = ".".join(map(str, self.vertex_figure))
        sides = ", ".join(f"{side:.2f}" for side in self.cell_sides)
        angles = ", ".join(f"{math.degrees(angle):.1f}" for angle in self.cell_angles_rad)
        return (
            f"{self.name} tiling {figure} at {self.share:.1%} of the inner nodes; its dual is {self.dual_name}, "
            f"mean cell with sides {sides} px and angles {angles} degrees"
        )


def describe_tiling(figures: Sequence[tuple[int, ...] | None], faces: Faces, cells: Faces) -> Tiling:
    """The most frequent vertex figure and its mean cell.

    Parameters
    ----------
    figures : sequence of tuple or None
        Vertex figures of the nodes; not all None.
    faces : Faces
        Of the graph.
    cells : Faces
        Polygons of the centroids of `faces`, one for each inner node.

    Returns
    -------
    Tiling
    """
    known = dict(Counter(figure for figure in figures if figure is not None).most_common())
    figure = next(iter(known))
    sides, angles = _mean_cell(np.array(figure), faces, cells)
    name, dual_name = _UNIFORM.get(figure, ("unnamed", "unnamed"))
    share = known[figure] / sum(known.values())
    return Tiling(figure, share, known, name, dual_name, tuple(sides), tuple(angles))


def _mean_cell(figure: np.ndarray, faces: Faces, cells: Faces) -> tuple[list[float], list[float]]:
    """Mean sides and angles over every way to lay the figure onto a cell."""
    degree = len(figure)
    which = np.flatnonzero(cells.sizes == degree)
    rings = cells.nodes[cells.offsets[which][:, None] + np.arange(degree)]
    sides, angles = [], []
    for way in (rings, rings[:, ::-1]):
        for shift in range(degree):
            laid = np.roll(way, -shift, axis=1)
            laid = laid[(faces.sizes[laid] == figure).all(axis=1)]
            corner = faces.centroids[laid]
            ahead = np.roll(corner, -1, axis=1) - corner
            back = np.roll(corner, 1, axis=1) - corner
            turn = np.abs(ahead[..., 0] * back[..., 1] - ahead[..., 1] * back[..., 0])
            sides.append(np.linalg.norm(ahead, axis=2))
            angles.append(np.arctan2(turn, (ahead * back).sum(axis=2)))
    return np.concatenate(sides).mean(axis=0).tolist(), np.concatenate(angles).mean(axis=0).tolist()


def vertex_figures(sides: np.ndarray, degrees: np.ndarray, rim: np.ndarray) -> list[tuple[int, ...] | None]:
    """As `PlaneGraph.vertex_figures`, from the sides of the faces around each node, (n, most neighbours)."""
    figures: list[tuple[int, ...] | None] = [None] * len(degrees)
    for degree in np.unique(degrees[~rim]):
        nodes = np.flatnonzero(~rim & (degrees == degree))
        found, which = np.unique(least_cyclic(sides[nodes, :degree]), axis=0, return_inverse=True)
        named = [tuple(row) for row in found.tolist()]
        for node, i in zip(nodes.tolist(), which.tolist(), strict=True):
            figures[node] = named[i]
    return figures
