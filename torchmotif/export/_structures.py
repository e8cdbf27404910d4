"""Structures and shapes: ASE atoms, extended XYZ, CIF, GraphML, JSON, polygons."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import Delaunay, cKDTree

from torchmotif._arrays import as_positions
from torchmotif.errors import InputError, MissingDependencyError, OutputError
from torchmotif.hierarchy import MotifHierarchy
from torchmotif.names import NONE, Names
from torchmotif.plane_graph import PlaneGraph

__all__ = [
    "Species",
    "assembly_atoms",
    "cells_geojson",
    "named_atoms",
    "species_of",
    "to_atoms",
    "write_graphml",
    "write_json",
    "write_structure",
]

Species = Mapping[Any, Sequence[tuple[str, float]]]

_SEPARATION = 3.2  # angstrom between atoms of a column: S2 in MoS2 has 3.1, Se2 in MoSe2 3.3
_VACUUM = 10.0  # angstrom on each side that is not periodic


def to_atoms(
    positions: Any,
    labels: Any,
    species: Species,
    *,
    pixel_size_nm: float | tuple[float, float],
    cell: Any = None,
) -> Any:
    """ASE atoms of labelled columns, seen along z.

    Columns go to x (along a row of pixels) and y (up, against the rows); z comes from the stack of each motif.

    Parameters
    ----------
    positions : array of shape (n, 2)
        (row, col) in pixels.
    labels : array of shape (n,)
    species : mapping of label to sequence of (symbol, z)
        The atoms of a column of each motif, z in angstrom: ``{"Se2": [("Se", 1.67), ("Se", -1.67)]}``. An empty sequence
        is a column without atoms.
    pixel_size_nm : float or (float, float)
        Length of a pixel, along (rows, columns) where they differ.
    cell : array of shape (2, 2), optional
        Two (row, col) vectors in pixels, for a model that is periodic along them. By default it is finite, with
        10 angstrom of vacuum around it.

    Returns
    -------
    ase.Atoms

    Raises
    ------
    MissingDependencyError
        If ASE is not installed.
    InputError
        If a label has no species, the pixel size is not positive, or the cell is flat.

    Examples
    --------
    >>> from torchmotif.export import to_atoms
    >>> stack = {"Mo": [("Mo", 0.0)], "Se2": [("Se", 1.67), ("Se", -1.67)]}
    >>> to_atoms([[0, 0], [0, 10]], ["Mo", "Se2"], stack, pixel_size_nm=0.019).get_chemical_formula()
    'MoSe2'
    """
    atoms_of = _ase().Atoms
    points = as_positions(positions, device="cpu").detach().numpy()
    names, which = np.unique(np.asarray(labels), return_inverse=True)
    if which.shape != (len(points),):
        raise InputError(
            f"labels must hold one label for each of {len(points)} positions, got shape {which.shape}"
        )
    unknown = [name for name in names.tolist() if name not in species]
    if unknown:
        raise InputError(f"species must name the atoms of every label, missing {unknown}")
    scale = np.broadcast_to(np.asarray(pixel_size_nm, float) * 10, 2)
    if not (scale > 0).all():
        raise InputError(f"pixel_size_nm must be positive, got {pixel_size_nm}")
    stacks = [species[name] for name in names.tolist()]
    columns = [np.flatnonzero(which == i) for i, stack in enumerate(stacks) for _ in stack]
    symbols = [symbol for stack in stacks for symbol, _ in stack]
    heights = [z for stack in stacks for _, z in stack]
    atom_column = np.concatenate([np.zeros(0, np.int64), *columns])
    counts = [len(column) for column in columns]
    plane = points[atom_column] * scale
    xyz = np.stack([plane[:, 1], -plane[:, 0], np.repeat(heights, counts)], axis=1)
    atoms = atoms_of(np.repeat(np.array(symbols, dtype=str), counts).tolist(), positions=xyz)
    atoms.set_array("column", atom_column)
    if cell is None:
        atoms.center(vacuum=_VACUUM)
        return atoms
    vectors = np.asarray(cell, float) * scale
    if vectors.shape != (2, 2) or abs(np.linalg.det(vectors)) < 1e-6:
        raise InputError(f"cell must be two (row, col) vectors that span an area, got {cell}")
    height = np.ptp(heights) + 2 * _VACUUM
    atoms.set_cell([*([v[1], -v[0], 0.0] for v in vectors), [0.0, 0.0, height]])
    atoms.set_pbc((True, True, False))
    atoms.center(axis=2)
    atoms.wrap()
    return atoms


def species_of(names: Names, separation: float = _SEPARATION) -> dict[str, list[tuple[str, float]]]:
    """The atoms of each name, for `to_atoms` and `assembly_atoms`.

    Parameters
    ----------
    names : Names
        From a composition.
    separation : float
        Distance in angstrom between atoms of a column: heights do not show in an image. Those of the host lie evenly about the
        middle, a vacancy lacks the lowest, adatoms lie on top.

    Returns
    -------
    dict of str to list of (symbol, z)

    Raises
    ------
    InputError
        If the names are of examples, which say nothing of atoms.

    Examples
    --------
    >>> import torchmotif as tm
    >>> result = tm.analyze(tm.datasets.mose2((256, 256)).draw(), progress=False).identify("MoSe2")
    >>> species_of(result.names)["V_Se"]
    [('Se', 1.6)]
    """
    if names.atoms is None:
        raise InputError(
            "names of examples say nothing of atoms; name the columns with identify(), or give species"
        )
    host = {row["name"]: row["site"] for row in names.record["table"]}
    found: dict[str, list[tuple[str, float]]] = {NONE: [], "": []}
    for name, atoms in names.atoms.items():
        symbols = [element for element, n in atoms.items() for _ in range(n)]
        whole = sum(names.atoms.get(host.get(name, name), atoms).values())
        highest = (max(whole, 1) - 1) / 2 + max(len(symbols) - whole, 0)
        found[name] = [(symbol, round((highest - i) * separation, 3)) for i, symbol in enumerate(symbols)]
    return found


def named_atoms(result: Any, separation: float = _SEPARATION) -> Any:
    """ASE atoms of a whole image by the names of its columns; those without a name are left out.

    Parameters
    ----------
    result : MotifResult
        Identified, and calibrated.
    separation : float
        As `species_of`.

    Returns
    -------
    ase.Atoms

    Raises
    ------
    MissingDependencyError
        If ASE is not installed.
    InputError
        If the columns have no names of a composition, or the image no pixel size.
    """
    if result.names is None:
        raise InputError("result has no names: identify it first, result.identify('MoS2')")
    if result.image.pixel_size_nm is None:
        raise InputError("result has no pixel size; give it to the image, Micrograph(data, pixel_size)")
    species = species_of(result.names, separation)
    return to_atoms(
        result.columns.positions, result.names.words, species, pixel_size_nm=result.image.pixel_size_nm
    )


def assembly_atoms(
    hierarchy: MotifHierarchy,
    size: int,
    index: int,
    species: Species,
    *,
    pixel_size_nm: float | tuple[float, float],
    shells: int = 1,
    cell: Any = None,
    occurrence: int | None = None,
) -> Any:
    """A starting model of one assembly, cut from where it occurs.

    Parameters
    ----------
    hierarchy : MotifHierarchy
        Fitted.
    size, index : int
        The assembly: number of motifs, and place in its level.
    species : mapping of label to sequence of (symbol, z)
        As in `to_atoms`; of a result that was identified, `species_of` of its names.
    pixel_size_nm : float or (float, float)
    shells : int
        Shells of neighbours around the assembly that a finite model includes.
    cell : array of shape (2, 2), optional
        Two (row, col) vectors in pixels, whole numbers of periods of the crystal: the model is then periodic, of the
        columns in a cell centred on the assembly.
    occurrence : int, optional
        Which occurrence; by default the one that lies farthest from the rim.

    Returns
    -------
    ase.Atoms

    Raises
    ------
    MissingDependencyError
        If ASE is not installed.
    InputError
        If there is no such assembly or occurrence, or the cell reaches beyond the columns.
    """
    graph = hierarchy.graph_
    if not 1 <= size <= len(hierarchy.levels_) or not 0 <= index < len(hierarchy.levels_[size - 1]):
        raise InputError(f"hierarchy has no assembly {index} of {size} motifs; see hierarchy.levels_")
    found = hierarchy.levels_[size - 1].occurrences(index)
    if occurrence is None:
        occurrence = int(_depth(graph)[found].min(axis=1).argmax())
    if not 0 <= occurrence < len(found):
        raise InputError(f"occurrence must be from 0 to {len(found) - 1}, got {occurrence}")
    nodes = found[occurrence]
    if cell is None:
        inside = np.isin(np.arange(len(graph)), nodes)
        for _ in range(shells):
            inside |= graph.adjacency() @ inside
        nodes = np.flatnonzero(inside)
    else:
        nodes = _in_cell(graph, graph.positions[nodes].mean(axis=0), np.asarray(cell, float))
    labels = np.asarray(graph.labels)[nodes]
    return to_atoms(graph.positions[nodes], labels, species, pixel_size_nm=pixel_size_nm, cell=cell)


def write_structure(path: str | os.PathLike[str], atoms: Any) -> None:
    """Write atoms in the format of the file's name: .extxyz, .xyz (both extended XYZ), .cif, and all others of ASE.

    Parameters
    ----------
    path : path
    atoms : ase.Atoms

    Raises
    ------
    MissingDependencyError
        If ASE is not installed.
    OutputError
        If the file cannot be written.
    """
    _ase()
    from ase.io import write

    style = "extxyz" if Path(path).suffix in {".xyz", ".extxyz"} else None
    try:
        write(path, atoms, format=style)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error}") from error


def write_graphml(path: str | os.PathLike[str], graph: Any) -> None:
    """Write a networkx graph of assemblies as GraphML; tuples become text.

    Parameters
    ----------
    path : path
    graph : networkx graph
        From `MotifHierarchy.to_networkx` or `statistics.growth_graph`.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    import networkx as nx

    plain = nx.relabel_nodes(graph, {node: ".".join(map(str, node)) for node in graph})
    for _, values in plain.nodes(data=True):
        values.update({key: ".".join(map(str, v)) for key, v in values.items() if isinstance(v, tuple)})
    try:
        nx.write_graphml(plain, path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error}") from error


def write_json(path: str | os.PathLike[str], hierarchy: MotifHierarchy) -> None:
    """Write the levels, inclusions and containment of a hierarchy as JSON.

    Parameters
    ----------
    path : path
    hierarchy : MotifHierarchy
        Fitted.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    text = hierarchy.to_json()
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error}") from error


def cells_geojson(graph: PlaneGraph) -> str:
    """The cell of each node off the rim as a GeoJSON collection of polygons; coordinates are (col, row) in pixels.

    Parameters
    ----------
    graph : PlaneGraph

    Returns
    -------
    str
        Each polygon has the properties `node` and, where there are labels, `label`.
    """
    nodes, cells = graph.cells()
    corners = graph.faces.centroids[:, ::-1]
    features = []
    for node, cell in zip(nodes.tolist(), cells, strict=True):
        ring = corners[np.append(cell, cell[0])].tolist()
        properties = {"node": node}
        if graph.labels is not None:
            properties["label"] = graph.labels[node].item()
        features.append(
            {
                "type": "Feature",
                "properties": properties,
                "geometry": {"type": "Polygon", "coordinates": [ring]},
            }
        )
    return json.dumps({"type": "FeatureCollection", "features": features})


def _ase() -> Any:
    try:
        import ase
    except ImportError as error:
        raise MissingDependencyError(
            "ASE is needed to export structures: pip install 'torchmotif[export]'"
        ) from error
    return ase


def _depth(graph: PlaneGraph) -> np.ndarray:
    """Distance of each node to the nearest one on the rim, in pixels."""
    return np.asarray(cKDTree(graph.positions[graph.rim]).query(graph.positions)[0])


def _in_cell(graph: PlaneGraph, centre: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Nodes in the parallelogram about a point, shifted so that its sides pass as far as possible from columns."""
    if cell.shape != (2, 2) or abs(np.linalg.det(cell)) < 1e-6:
        raise InputError(f"cell must be two (row, col) vectors that span an area, got {cell.tolist()}")
    share = (graph.positions - centre) @ np.linalg.inv(cell)
    near = (np.abs(share) < 0.75).all(axis=1)
    gap = np.array([_widest_gap(share[near, axis] % 1) for axis in (0, 1)])
    low_side = (gap - 0.25) % 1 - 0.75  # within a quarter of the cell's width from the middle position, -0.5
    corners = centre + (low_side + np.array([[0, 0], [0, 1], [1, 0], [1, 1]])) @ cell
    if (Delaunay(graph.positions).find_simplex(corners) < 0).any():
        raise InputError(
            "cell reaches beyond the columns around this assembly; choose a smaller cell or another one"
        )
    inside = ((share >= low_side) & (share < low_side + 1)).all(axis=1)
    return np.flatnonzero(inside)


def _widest_gap(values: np.ndarray) -> float:
    """Middle of the widest gap between values on a circle of circumference 1."""
    ranked = np.sort(values)
    gaps = np.diff(ranked, append=ranked[0] + 1)
    widest = int(gaps.argmax())
    return float((ranked[widest] + gaps[widest] / 2) % 1)
