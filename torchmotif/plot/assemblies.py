"""Assemblies of motifs: the atlas of the frequent ones, and the graph of their growth."""

from typing import TYPE_CHECKING

import numpy as np

from torchmotif.errors import InputError
from torchmotif.hierarchy import MotifHierarchy
from torchmotif.plane_graph import PlaneGraph
from torchmotif.plot.figure import axes_or_new, new_figure
from torchmotif.plot.style import OTHER, Style, label_styles
from torchmotif.statistics import AssemblyStatistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["atlas", "growth"]

_CHARACTERS = {"favoured": ("#0072B2", "o"), "frustrated": ("#D55E00", "v"), "neutral": ("#666666", "s")}


def atlas(
    hierarchy: MotifHierarchy,
    statistics: AssemblyStatistics,
    *,
    n: int = 24,
    least_size: int = 2,
    numbered: bool = False,
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
    from matplotlib.patches import Patch

    graph = hierarchy.graph_
    sizes = [level.size for level in hierarchy.levels_ if level.size >= least_size]
    if not sizes:
        raise InputError(f"hierarchy has no assemblies of {least_size} motifs or more; fit a larger max_size")
    table = statistics.table[statistics.table["count"] > 0]
    columns = max(n // len(sizes), 1)
    if figure is None:
        figure = new_figure(1.5 * columns, 2.2 * len(sizes) + 0.5)
    styles, outlines = label_styles(graph.label_names), _outlines(graph)
    closed = np.array(list(outlines), np.int64)
    drawn: list[Axes] = []
    seen: set[int] = set()
    for line, size in enumerate(sizes):
        rows = table[table["size"] == size].head(columns).to_dict("records")
        for place, row in enumerate(rows, start=1 + line * columns):
            ax = figure.add_subplot(len(sizes), columns, place)
            ax.set_axis_off()
            found = hierarchy.levels_[size - 1].occurrences(row["index"])
            nodes = found[np.isin(found, closed).all(axis=1).argmax()]  # at the rim cells are open
            _draw_group(ax, graph, outlines, nodes, styles)
            number = f"no. {len(drawn) + 1}\n" if numbered else ""
            ax.set_title(
                f"{number}{row['count']:,}\nz {_z(row['z'])}\n{row['energy_kt']:+.2f} kT",
                fontsize=8,
                linespacing=1.1,
            )
            seen.update(graph.label_index[nodes].tolist())
            drawn.append(ax)
    handles = [
        Patch(fc=styles[i].colour, hatch=styles[i].hatch or None, ec="black", lw=0.4, label=_name(graph, i))
        for i in sorted(seen)
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), columns),
        frameon=False,
        fontsize=8,
    )
    return drawn


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
    from matplotlib.collections import LineCollection

    axes = axes_or_new(ax, 1.9 * len(hierarchy.levels_) + 2, 5)
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
    axes.add_collection(LineCollection(lines, colors=OTHER, linewidths=0.6, zorder=1))
    for name, (colour, marker) in _CHARACTERS.items():
        here = table[table["character"] == name]
        if len(here):
            axes.scatter(
                here["size"], here["energy_kt"], s=36, color=colour, marker=marker, label=name, zorder=2
            )
    axes.axhline(0, color="black", lw=0.6)
    axes.set_xticks(_sizes(hierarchy))
    axes.set_xlabel("motifs in the assembly")
    axes.set_ylabel(f"−ln(observed / expected), kT,\nagainst {statistics.null} labels")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return axes


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


def _draw_group(
    ax: "Axes", graph: PlaneGraph, outlines: dict[int, np.ndarray], nodes: np.ndarray, styles: list[Style]
) -> None:
    corners = [graph.positions[nodes][:, ::-1]]
    for node in nodes.tolist():
        if node in outlines:
            corners.append(outlines[node])
            style = styles[int(graph.label_index[node])]
            ax.fill(*outlines[node].T, fc=style.colour, hatch=style.hatch or None, ec="black", lw=0.4)
    ax.scatter(
        graph.positions[nodes, 1], graph.positions[nodes, 0], s=6, color="white", ec="black", lw=0.3, zorder=3
    )
    drawn = np.concatenate(corners)
    middle = (drawn.max(axis=0) + drawn.min(axis=0)) / 2
    steps = graph.positions[graph.edges[:, 0]] - graph.positions[graph.edges[:, 1]]
    usual = 0.5 * (len(nodes) + 1) * np.median(np.linalg.norm(steps, axis=1))
    reach = max(
        usual, 0.52 * np.ptp(drawn, axis=0).max()
    )  # one scale, except for cells that are far too large
    ax.set(xlim=(middle[0] - reach, middle[0] + reach), ylim=(middle[1] + reach, middle[1] - reach))
    ax.set(xticks=[], yticks=[])
    ax.set_aspect("equal")
