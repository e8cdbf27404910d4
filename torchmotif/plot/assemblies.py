"""Assemblies of motifs: the atlas of the frequent ones, and the graph of their growth."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from torchmotif.errors import InputError
from torchmotif.hierarchy import MotifHierarchy
from torchmotif.plane_graph import PlaneGraph
from torchmotif.plot._groups import draw_groups, draw_growth
from torchmotif.plot.figure import axes_or_new, new_figure
from torchmotif.plot.style import Style, label_styles
from torchmotif.statistics import AssemblyStatistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["atlas", "groups_drawn", "growth", "growth_drawn"]


def atlas(
    hierarchy: MotifHierarchy,
    statistics: AssemblyStatistics,
    *,
    n: int = 24,
    least_size: int = 2,
    numbered: bool = False,
    looks: Mapping[str, int] | None = None,
    figure: "Figure | SubFigure | None" = None,
) -> "list[Axes]":
    """The most frequent assemblies, each drawn where it first occurs, with its count, z-score and energy.

    Parameters
    ----------
    hierarchy : MotifHierarchy
        Fitted.
    statistics : AssemblyStatistics
        Of this hierarchy.
    n : int
        How many, shared equally among the sizes.
    least_size : int
        Smallest assemblies to show.
    numbered : bool
        Whether they are numbered from 1.
    looks : mapping of str to int, optional
        The motif whose colour each name has, `MotifResult.looks`; by default names have colours in the order of the alphabet.
    figure : matplotlib Figure or SubFigure, optional
        Where to draw; by default a new figure.

    Returns
    -------
    list of matplotlib Axes
        One for each assembly.

    Raises
    ------
    InputError
        If there is no assembly of that size.
    """
    drawn = groups_drawn(hierarchy, statistics, n=n, least_size=least_size, numbered=numbered, looks=looks)
    if figure is None:
        rows, columns = drawn["grid"]
        figure = new_figure(1.5 * columns, 2.2 * rows + 0.5)
    return draw_groups(figure, **drawn)


def groups_drawn(
    hierarchy: MotifHierarchy,
    statistics: AssemblyStatistics,
    *,
    n: int,
    least_size: int = 2,
    numbered: bool = False,
    looks: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """What the atlas draws, as arguments of `draw_groups`."""
    graph = hierarchy.graph_
    sizes = [level.size for level in hierarchy.levels_ if level.size >= least_size]
    if not sizes:
        raise InputError(f"hierarchy has no assemblies of {least_size} motifs or more; fit a larger max_size")
    table = statistics.table[statistics.table["count"] > 0]
    columns = max(n // len(sizes), 1)
    styles, outlines = label_styles(graph.label_names, looks), _outlines(graph)
    closed = np.array(list(outlines), np.int64)
    steps = graph.positions[graph.edges[:, 0]] - graph.positions[graph.edges[:, 1]]
    usual = float(np.median(np.linalg.norm(steps, axis=1)))
    groups: list[dict[str, Any]] = []
    seen: set[int] = set()
    for line, size in enumerate(sizes):
        rows = table[table["size"] == size].head(columns).to_dict("records")
        for place, row in enumerate(rows, start=1 + line * columns):
            found = hierarchy.levels_[size - 1].occurrences(row["index"])
            nodes = found[np.isin(found, closed).all(axis=1).argmax()]  # at the rim cells are open
            number = f"no. {len(groups) + 1}\n" if numbered else ""
            groups.append(
                {
                    "place": place,
                    "title": f"{number}{row['count']:,}\nz {_z(row['z'])}\n{row['energy_kt']:+.2f} kT",
                    "columns": graph.positions[nodes][:, ::-1],
                    "cells": [
                        {"corners": outlines[node], **_look(styles[int(graph.label_index[node])])}
                        for node in nodes.tolist()
                        if node in outlines
                    ],
                    "reach": 0.5 * (len(nodes) + 1) * usual,
                }
            )
            seen.update(graph.label_index[nodes].tolist())
    legend = [{"name": _name(graph, label), **_look(styles[label])} for label in sorted(seen)]
    return {"grid": (len(sizes), columns), "groups": groups, "legend": legend}


def growth(
    hierarchy: MotifHierarchy,
    statistics: AssemblyStatistics,
    *,
    per_level: int = 12,
    ax: "Axes | None" = None,
) -> "Axes":
    """The growth of the most frequent assemblies: energy against size, with a line for each attachment.

    Parameters
    ----------
    hierarchy, statistics
        See `atlas`.
    per_level : int
        Assemblies of each size, the most frequent ones.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    axes = axes_or_new(ax, 1.9 * len(hierarchy.levels_) + 2, 5)
    draw_growth(axes, **growth_drawn(hierarchy, statistics, per_level=per_level))
    return axes


def growth_drawn(
    hierarchy: MotifHierarchy, statistics: AssemblyStatistics, *, per_level: int = 12
) -> dict[str, Any]:
    """What the growth draws, as arguments of `draw_growth`."""
    table = statistics.table
    kept = np.minimum([len(level) for level in hierarchy.levels_], per_level)
    table = table[
        table["index"] < table["size"].map(dict(zip(_sizes(hierarchy), kept.tolist(), strict=True)))
    ]
    place = dict(zip(zip(table["size"], table["index"], strict=True), table["energy_kt"], strict=True))
    lines = [
        ((size - 1, place[size - 1, smaller]), (size, place[size, larger]))
        for number, size in enumerate(_sizes(hierarchy)[1:], start=1)
        for larger, smaller, _ in hierarchy.containment(number).tolist()
        if larger < per_level and smaller < per_level
    ]
    return {
        "sizes": _sizes(hierarchy),
        "lines": np.array(lines, np.float64).reshape(-1, 2, 2),
        "points": {
            str(name): part[["size", "energy_kt"]].to_numpy(np.float64)
            for name, part in table.groupby("character")
        },
        "null": statistics.null,
    }


def _look(style: Style) -> dict[str, str]:
    return {"colour": style.colour, "hatch": style.hatch}


def _sizes(hierarchy: MotifHierarchy) -> list[int]:
    """Motifs in the assemblies of each level."""
    return [level.size for level in hierarchy.levels_]


def _name(graph: PlaneGraph, label: int) -> str:
    name = str(graph.label_names[label])
    return "none" if name == "-1" else name


def _z(value: float) -> str:
    """A z-score; infinite where the null model never has the assembly."""
    return f"{value:+.1f}".replace("inf", "∞")


def _outlines(graph: PlaneGraph) -> dict[int, np.ndarray]:
    nodes, cells = graph.cells()
    corners = graph.faces.centroids[:, ::-1]
    return {node: corners[cell] for node, cell in zip(nodes.tolist(), cells, strict=True)}
