"""Pictures of the hierarchy: cells coloured by motif, the atlas of assemblies, the graph of their growth."""

from typing import TYPE_CHECKING, Any

import numpy as np

from torchmotif._arrays import as_tensor, pixels_of
from torchmotif.errors import InputError
from torchmotif.hierarchy import Composition, Inclusions, MotifHierarchy
from torchmotif.plane_graph import PlaneGraph
from torchmotif.statistics import AssemblyStatistics, growth_graph

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["PALETTE", "plot_atlas", "plot_cells", "plot_growth", "plot_inclusions", "plot_levels"]

# Okabe & Ito (2008): told apart with every kind of colour vision.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
_OTHER = "#BBBBBB"


def plot_cells(
    graph: PlaneGraph,
    kinds: Any = None,
    *,
    names: Any = None,
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
        Kind of each column, by default its label; the eighth and later ones share a grey, as does -1.
    names : sequence of str, optional
        Names of the kinds for the legend.
    image : Micrograph or array of shape (h, w), optional
    pixel_size_nm : float, optional
        For the scale bar; by default that of the micrograph, pixels where neither is known.
    alpha : float
        Opacity of the cells.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    from matplotlib.collections import PolyCollection
    from matplotlib.patches import Patch

    axes = _axes(ax)
    if kinds is None:
        kinds, names = graph.label_index, [str(name) for name in graph.label_names]
    kinds = np.asarray(kinds)
    if kinds.shape != (len(graph),):
        raise InputError(
            f"kinds must hold one number for each of {len(graph)} columns, got shape {kinds.shape}"
        )
    nodes, cells = graph.cells()
    outlines = graph.faces.centroids[:, ::-1]
    if image is not None:
        axes.imshow(_pixels(image), cmap="gray", interpolation="nearest")
        sizes = getattr(image, "pixel_size_nm", None)
        pixel_size_nm = pixel_size_nm or (sizes[1] if sizes else None)
    polygons = [outlines[cell] for cell in cells]
    colours = [_colour(kind) for kind in kinds[nodes].tolist()]
    axes.add_collection(
        PolyCollection(polygons, facecolors=colours, edgecolors="white", linewidths=0.3, alpha=alpha)
    )
    _frame(axes, graph.positions, pixel_size_nm)
    if names is not None:
        shown = [Patch(color=_colour(i), label=name) for i, name in enumerate(names[: len(PALETTE)])]
        axes.legend(handles=shown, loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=8)
    return axes


def plot_levels(
    graph: PlaneGraph,
    composition: Composition,
    *,
    image: Any = None,
    pixel_size_nm: float | None = None,
) -> "Figure":
    """One picture for each level of a composition, its cells coloured by the unit type that covers most columns.

    Parameters
    ----------
    graph : PlaneGraph
    composition : Composition
    image : Micrograph or array of shape (h, w), optional
    pixel_size_nm : float, optional

    Returns
    -------
    matplotlib Figure
    """
    import matplotlib.pyplot as plt

    levels = composition.levels
    figure, axes = plt.subplots(
        1, len(levels), figsize=(5.4 * len(levels), 4.6), squeeze=False, layout="constrained"
    )
    for number, (ax, level) in enumerate(zip(axes[0], levels, strict=True), start=1):
        kinds = np.where(level.unit >= 0, level.kind[level.unit], -1)
        names = [
            f"{_short(labels)}: {count}" for (labels, _), count in zip(level.codes, level.counts, strict=True)
        ]
        plot_cells(graph, kinds, names=names, image=image, pixel_size_nm=pixel_size_nm, ax=ax)
        ax.set_title(f"level {number}: {level.bits_per_column:.2f} bits per column", fontsize=10)
    return figure


def plot_inclusions(
    graph: PlaneGraph,
    inclusions: Inclusions,
    *,
    image: Any = None,
    pixel_size_nm: float | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """All inclusions in place, coloured by kind; those that the rim cuts in grey.

    Parameters
    ----------
    graph : PlaneGraph
    inclusions : Inclusions
        Of this graph.
    image : Micrograph or array of shape (h, w), optional
    pixel_size_nm : float, optional
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    from matplotlib.collections import LineCollection

    axes = _axes(ax)
    if image is not None:
        axes.imshow(_pixels(image), cmap="gray", interpolation="nearest")
    points = graph.positions[:, ::-1]
    axes.add_collection(LineCollection(points[graph.edges], colors="#DDDDDD", linewidths=0.5, zorder=1))
    kind = np.full(len(graph), -2)
    for members, number in zip(inclusions.members, inclusions.kind.tolist(), strict=True):
        kind[members] = min(number, len(PALETTE) - 1)
    for members in inclusions.cut:
        kind[members] = -1
    bonds = graph.edges[(kind[graph.edges] > -2).all(axis=1)]
    axes.add_collection(LineCollection(points[bonds], colors="#444444", linewidths=1.0, zorder=2))
    shown = [(i, f"{_short(code[0])}: {inclusions.counts[i]}") for i, code in enumerate(inclusions.codes[:7])]
    if len(inclusions.codes) > 7:
        shown.append((7, f"other kinds: {inclusions.counts[7:].sum()}"))
    shown.append((-1, f"cut by the rim: {len(inclusions.cut)}"))
    for number, name in shown:
        some = kind == number
        axes.scatter(
            points[some, 0], points[some, 1], s=9, color=_colour(number), label=name, zorder=3, linewidths=0
        )
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=8, markerscale=2)
    _frame(axes, graph.positions, pixel_size_nm)
    return axes


def plot_atlas(
    hierarchy: MotifHierarchy, statistics: AssemblyStatistics, *, n: int = 24, least_size: int = 2
) -> "Figure":
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

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    InputError
        If there is no assembly of that size.
    """
    import matplotlib.pyplot as plt
    from matplotlib.patches import Patch

    graph = hierarchy.graph_
    sizes = [level.size for level in hierarchy.levels_ if level.size >= least_size]
    if not sizes:
        raise InputError(f"hierarchy has no assemblies of {least_size} motifs or more; fit a larger max_size")
    table = statistics.table[statistics.table["count"] > 0]
    columns = max(n // len(sizes), 1)
    figure, axes = plt.subplots(
        len(sizes),
        columns,
        figsize=(1.5 * columns, 2.2 * len(sizes) + 0.5),
        squeeze=False,
        layout="constrained",
    )
    outlines = _outlines(graph)
    for line, size in zip(axes, sizes, strict=True):
        rows = table[table["size"] == size].head(columns).to_dict("records")
        for ax in line:
            ax.axis("off")
        for ax, row in zip(line, rows, strict=False):
            _draw_group(ax, graph, outlines, hierarchy.levels_[size - 1].occurrences(row["index"])[0])
            ax.set_title(
                f"{row['count']}\nz {row['z']:+.1f}\n{row['energy_kt']:+.2f} kT", fontsize=8, linespacing=1.1
            )
    handles = [Patch(color=_colour(i), label=str(name)) for i, name in enumerate(graph.label_names)]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    return figure


def plot_growth(
    hierarchy: MotifHierarchy, statistics: AssemblyStatistics, *, per_level: int = 12
) -> "Figure":
    """The growth of the most frequent assemblies: energy against size, with an arrow for each attachment.

    Parameters
    ----------
    hierarchy : MotifHierarchy
        Fitted.
    statistics : AssemblyStatistics
        Of this hierarchy.
    per_level : int
        Assemblies of each size, the most frequent ones.

    Returns
    -------
    matplotlib Figure
    """
    import matplotlib.pyplot as plt

    growth = growth_graph(hierarchy, statistics)
    shown = [node for node in growth if node[1] < per_level]
    part = growth.subgraph(shown)
    place = {node: (node[0], part.nodes[node]["energy_kt"]) for node in shown}
    figure, ax = plt.subplots(figsize=(1.9 * len(hierarchy.levels_) + 2, 5), layout="constrained")
    for first, second in part.edges:
        (x0, y0), (x1, y1) = place[first], place[second]
        ax.annotate(
            "", (x1, y1), (x0, y0), arrowprops={"arrowstyle": "-", "color": _OTHER, "lw": 0.6}, zorder=1
        )
    styles = {"favoured": ("#0072B2", "o"), "frustrated": ("#D55E00", "v"), "neutral": ("#666666", "s")}
    for name, (colour, marker) in styles.items():
        nodes = [node for node in shown if part.nodes[node]["character"] == name]
        if nodes:
            points = np.array([place[node] for node in nodes])
            ax.scatter(points[:, 0], points[:, 1], s=36, color=colour, marker=marker, label=name, zorder=2)
    ax.axhline(0, color="black", lw=0.6)
    ax.set_xticks([level.size for level in hierarchy.levels_])
    ax.set_xlabel("motifs in the assembly")
    ax.set_ylabel(f"-ln(observed / expected), kT, against {statistics.null} labels")
    ax.legend(frameon=False)
    return figure


def _axes(ax: "Axes | None") -> "Axes":
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(8.5, 5.5), layout="constrained")[1]


def _pixels(image: Any) -> np.ndarray:
    return as_tensor(pixels_of(image), dtype=None).cpu().numpy()


def _colour(kind: int) -> str:
    return PALETTE[kind] if 0 <= kind < len(PALETTE) else _OTHER


def _short(labels: tuple[Any, ...]) -> str:
    """Labels of an assembly with how often each occurs, for example 3×Mo + V_Se."""
    names, counts = np.unique(np.array([str(label) for label in labels]), return_counts=True)
    return " + ".join(f"{n}×{name}" if n > 1 else str(name) for name, n in zip(names, counts, strict=True))


def _outlines(graph: PlaneGraph) -> dict[int, np.ndarray]:
    nodes, cells = graph.cells()
    corners = graph.faces.centroids[:, ::-1]
    return {node: corners[cell] for node, cell in zip(nodes.tolist(), cells, strict=True)}


def _draw_group(ax: "Axes", graph: PlaneGraph, outlines: dict[int, np.ndarray], nodes: np.ndarray) -> None:
    for node in nodes.tolist():
        if node in outlines:
            ax.fill(*outlines[node].T, color=_colour(int(graph.label_index[node])), ec="white", lw=0.8)
    ax.scatter(graph.positions[nodes, 1], graph.positions[nodes, 0], s=4, color="white", zorder=3)
    middle = (graph.positions[nodes].max(axis=0) + graph.positions[nodes].min(axis=0)) / 2
    steps = graph.positions[graph.edges[:, 0]] - graph.positions[graph.edges[:, 1]]
    reach = 0.6 * (len(nodes) + 1) * np.median(np.linalg.norm(steps, axis=1))
    ax.set_xlim(middle[1] - reach, middle[1] + reach)
    ax.set_ylim(middle[0] + reach, middle[0] - reach)
    ax.set_aspect("equal")


def _frame(ax: "Axes", positions: np.ndarray, pixel_size_nm: float | None) -> None:
    """Limits, equal axes, and a scale bar of a round length of about a fifth of the width."""
    low, high = positions.min(axis=0), positions.max(axis=0)
    margin = 0.02 * (high - low).max()
    ax.set_xlim(low[1] - margin, high[1] + margin)
    ax.set_ylim(high[0] + margin, low[0] - margin)
    ax.set_aspect("equal")
    ax.set_xticks([])
    ax.set_yticks([])
    unit = pixel_size_nm or 1.0
    length = (high - low)[1] * unit / 5
    power = 10.0 ** np.floor(np.log10(length))
    length = power * max(step for step in (1, 2, 5) if step * power <= length)
    end = 0.02 + length / unit / (high[1] - low[1] + 2 * margin)
    name = f"{length:g} {'nm' if pixel_size_nm else 'px'}"
    ax.text(end + 0.02, -0.03, name, transform=ax.transAxes, va="center", fontsize=9)
    ax.plot(
        [0.02, end],
        [-0.03, -0.03],
        transform=ax.transAxes,
        color="black",
        lw=4,
        solid_capstyle="butt",
        clip_on=False,
    )
