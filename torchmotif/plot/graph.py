"""The cells of all columns, coloured by motif, by unit of a composition, or by inclusion."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from torchmotif._arrays import as_tensor, pixels_of
from torchmotif.errors import InputError
from torchmotif.hierarchy import Composition, Inclusions
from torchmotif.plane_graph import PlaneGraph
from torchmotif.plot.figure import axes_or_new, laid_out, new_figure, scale_bar, show_image, side_legend
from torchmotif.plot.style import OTHER, Style, label_styles, motif_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["cells", "inclusions", "levels", "short"]

_KINDS = 24  # that a legend names
_INCLUSIONS = 7


def cells(
    graph: PlaneGraph,
    kinds: Any = None,
    *,
    names: Any = None,
    looks: Mapping[str, int] | None = None,
    image: Any = None,
    pixel_size_nm: float | None = None,
    alpha: float = 0.75,
    ax: "Axes | None" = None,
) -> "Axes":
    """The cells of all columns off the rim, coloured by kind, over the image.

    Parameters
    ----------
    graph : PlaneGraph
    kinds : array of shape (n,) of int, optional
        Kind of each column, -1 for a grey one; by default its label, in the colour of that motif.
    names : sequence of str, optional
        Names of the kinds for the legend.
    looks : mapping of str to int, optional
        As for `atlas`, where kinds are labels.
    image : Micrograph or array of shape (h, w), optional
    pixel_size_nm : float, optional
        For the scale bar; by default that of the micrograph, pixels where neither is known.
    alpha : float
        Opacity of the cells.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    InputError
        If `kinds` does not fit the graph.
    """
    from matplotlib.collections import PolyCollection
    from matplotlib.patches import Patch

    axes = axes_or_new(ax, 8.5, 5.5)
    styles = None
    if kinds is None:
        kinds, names = graph.label_index, [str(name) for name in graph.label_names]
        styles = label_styles(graph.label_names, looks)
    kinds = np.asarray(kinds)
    if kinds.shape != (len(graph),):
        raise InputError(
            f"kinds must hold one number for each of {len(graph)} columns, got shape {kinds.shape}"
        )
    nodes, corners = graph.cells()
    outlines = graph.faces.centroids[:, ::-1]
    if image is not None:
        show_image(axes, _pixels(image))
        sizes = getattr(image, "pixel_size_nm", None)
        pixel_size_nm = pixel_size_nm or (sizes[1] if sizes else None)
    if styles is None:
        styles = [motif_style(kind) for kind in range(int(kinds.max(initial=-1)) + 1)]
    for kind in np.unique(kinds[nodes]).tolist():
        polygons = [
            outlines[cell] for node, cell in zip(nodes.tolist(), corners, strict=True) if kinds[node] == kind
        ]
        axes.add_collection(
            PolyCollection(polygons, alpha=alpha, **_fill(styles[kind] if kind >= 0 else None))
        )
    _frame(axes, graph.positions, pixel_size_nm)
    if names is not None:
        shown = [
            Patch(label=name, **_fill(style))
            for style, name in zip(styles[:_KINDS], names[:_KINDS], strict=False)
        ]
        side_legend(axes, shown)
    return axes


def levels(
    graph: PlaneGraph,
    composition: Composition,
    *,
    image: Any = None,
    pixel_size_nm: float | None = None,
    axes: "Sequence[Axes] | None" = None,
) -> "list[Axes]":
    """One picture for each level of a composition, its cells coloured by the unit type that covers most columns.

    Parameters
    ----------
    graph : PlaneGraph
    composition : Composition
    image : Micrograph or array of shape (h, w), optional
    pixel_size_nm : float, optional
    axes : sequence of matplotlib Axes, optional
        One for each level; by default those of a new figure.

    Returns
    -------
    list of matplotlib Axes
    """
    count = len(composition.levels)
    if axes is None:
        axes = new_figure(5.4 * count, 4.6).subplots(1, count, squeeze=False)[0]
    for number, (ax, level) in enumerate(zip(axes, composition.levels, strict=True), start=1):
        kinds = np.where(level.unit >= 0, level.kind[level.unit], -1)
        names = [
            f"{short(labels)}: {count}" for (labels, _), count in zip(level.codes, level.counts, strict=True)
        ]
        cells(graph, kinds, names=names, image=image, pixel_size_nm=pixel_size_nm, ax=ax)
        ax.set_title(f"level {number}: {level.bits_per_column:.2f} bits per column", fontsize=10)
    return list(axes)


def inclusions(
    graph: PlaneGraph,
    found: Inclusions,
    *,
    image: Any = None,
    pixel_size_nm: float | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """All inclusions in place, coloured by kind; those that the rim cuts in grey.

    Parameters
    ----------
    graph : PlaneGraph
    found : Inclusions
        Of this graph.
    image : Micrograph or array of shape (h, w), optional
    pixel_size_nm : float, optional
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    from matplotlib.collections import LineCollection

    axes = axes_or_new(ax, 8.5, 5.5)
    if image is not None:
        show_image(axes, _pixels(image))
    points = graph.positions[:, ::-1]
    axes.add_collection(LineCollection(points[graph.edges], colors="#DDDDDD", linewidths=0.5, zorder=1))
    kind = np.full(len(graph), -2)
    for members, number in zip(found.members, found.kind.tolist(), strict=True):
        kind[members] = min(number, _INCLUSIONS)
    for members in found.cut:
        kind[members] = -1
    bonds = graph.edges[(kind[graph.edges] > -2).all(axis=1)]
    axes.add_collection(LineCollection(points[bonds], colors="#444444", linewidths=1.0, zorder=2))
    shown = [(i, f"{short(code[0])}: {found.counts[i]}") for i, code in enumerate(found.codes[:_INCLUSIONS])]
    if len(found.codes) > _INCLUSIONS:
        shown.append((_INCLUSIONS, f"other kinds: {found.counts[_INCLUSIONS:].sum()}"))
    shown.append((-1, f"cut by the rim: {len(found.cut)}"))
    for number, name in shown:
        some, style = kind == number, motif_style(max(number, 0))
        colour = style.colour if number >= 0 else OTHER
        axes.scatter(
            points[some, 0],
            points[some, 1],
            s=16,
            color=colour,
            marker=style.marker,
            label=name,
            zorder=3,
            linewidths=0,
        )
    side_legend(axes)
    _frame(axes, graph.positions, pixel_size_nm)
    return axes


def short(labels: tuple[Any, ...]) -> str:
    """Labels of an assembly with how often each occurs, for example 3×Mo + V_Se."""
    names, counts = np.unique(np.array([str(label) for label in labels]), return_counts=True)
    return " + ".join(f"{n}×{name}" if n > 1 else str(name) for name, n in zip(names, counts, strict=True))


def _fill(style: Style | None) -> dict[str, Any]:
    """How a cell is filled: with the colour of its kind, hatched where the colours begin anew."""
    colour, hatch = (style.colour, style.hatch) if style is not None else (OTHER, "")
    return {
        "facecolor": colour,
        "hatch": hatch or None,
        "edgecolor": "black" if hatch else "#888888",
        "linewidth": 0.3,
    }


def _pixels(image: Any) -> np.ndarray:
    return as_tensor(pixels_of(image), dtype=None).cpu().numpy()


def _frame(ax: "Axes", positions: np.ndarray, pixel_size_nm: float | None) -> None:
    """Limits, equal axes, and the scale bar below them."""
    low, high = positions.min(axis=0), positions.max(axis=0)
    margin = 0.02 * (high - low).max()
    ax.set_xlim(low[1] - margin, high[1] + margin)
    ax.set_ylim(high[0] + margin, low[0] - margin)
    ax.set_aspect("equal")
    ax.set_xticks([])
    ax.set_yticks([])
    laid_out(ax)  # the bar takes its thickness from the axes
    scale_bar(ax, float(high[1] - low[1] + 2 * margin), pixel_size_nm, colour="black", below=True)
