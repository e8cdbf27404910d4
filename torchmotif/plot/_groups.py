"""How assemblies are drawn, from arrays, numbers and texts alone."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from torchmotif.plot.style import OTHER

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["draw_groups", "draw_growth"]

_CHARACTERS = {"favoured": ("#0072B2", "o"), "frustrated": ("#D55E00", "v"), "neutral": ("#666666", "s")}


def draw_groups(
    figure: "Figure | SubFigure",
    *,
    grid: Sequence[int],
    groups: Sequence[Mapping[str, Any]],
    legend: Sequence[Mapping[str, Any]],
) -> "list[Axes]":
    """Groups of columns, each as the cells of its columns.

    Parameters
    ----------
    figure : matplotlib Figure or SubFigure
    grid : (int, int)
        Rows and columns of axes.
    groups : sequence of mapping
        Of each group `place` in the grid, from 1; `title`; `columns`, array of shape (k, 2); `cells`, which are mappings
        with `corners`, array of shape (c, 2), `colour` and `hatch`; and `reach`, half the side that is shown at least. All are (x, y).
    legend : sequence of mapping
        `name`, `colour` and `hatch` of each motif.
    """
    from matplotlib.patches import Patch

    drawn: list[Axes] = []
    for group in groups:
        ax = figure.add_subplot(grid[0], grid[1], group["place"])
        ax.set_axis_off()
        _draw_group(ax, group)
        ax.set_title(group["title"], fontsize=8, linespacing=1.1)
        drawn.append(ax)
    handles = [
        Patch(fc=one["colour"], hatch=one["hatch"] or None, ec="black", lw=0.4, label=one["name"])
        for one in legend
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), grid[1]),
        frameon=False,
        fontsize=8,
    )
    return drawn


def _draw_group(ax: "Axes", group: Mapping[str, Any]) -> None:
    columns, corners = group["columns"], [group["columns"]]
    for cell in group["cells"]:
        corners.append(cell["corners"])
        ax.fill(*cell["corners"].T, fc=cell["colour"], hatch=cell["hatch"] or None, ec="black", lw=0.4)
    ax.scatter(columns[:, 0], columns[:, 1], s=6, color="white", ec="black", lw=0.3, zorder=3)
    drawn = np.concatenate(corners)
    middle = (drawn.max(axis=0) + drawn.min(axis=0)) / 2
    # one scale, except for cells that are far too large
    reach = max(group["reach"], 0.52 * np.ptp(drawn, axis=0).max())
    ax.set(xlim=(middle[0] - reach, middle[0] + reach), ylim=(middle[1] + reach, middle[1] - reach))
    ax.set(xticks=[], yticks=[])
    ax.set_aspect("equal")


def draw_growth(
    axes: "Axes", *, sizes: Sequence[int], lines: np.ndarray, points: Mapping[str, np.ndarray], null: str
) -> None:
    """Energies of assemblies against their size.

    Parameters
    ----------
    axes : matplotlib Axes
    sizes : sequence of int
        Motifs in the assemblies of each level.
    lines : array of shape (l, 2, 2)
        Ends, (size, energy), of the line of each attachment.
    points : mapping of str to array of shape (k, 2)
        (size, energy) of the assemblies of each character.
    null : str
        What labels energies are against.
    """
    from matplotlib.collections import LineCollection

    axes.add_collection(LineCollection(list(lines), colors=OTHER, linewidths=0.6, zorder=1))
    for name, (colour, marker) in _CHARACTERS.items():
        if name in points:
            size, energy = points[name].T
            axes.scatter(size, energy, s=36, color=colour, marker=marker, label=name, zorder=2)
    axes.axhline(0, color="black", lw=0.6)
    axes.set_xticks(sizes)
    axes.set_xlabel("motifs in the assembly")
    axes.set_ylabel(f"−ln(observed / expected), kT,\nagainst {null} labels")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
