"""Motifs on the image, and the mean patch of every motif."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from torchmotif.plot.figure import figure_of, new_figure, scale_bar, show_image, side_legend
from torchmotif.plot.style import AT_RIM, motif_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["gallery_grid", "map_axes", "motif_gallery", "motif_map"]

_NAMES = {-1: "none", AT_RIM: "rim"}
_VECTORS = 5_000  # marks that are drawn one by one in a PDF; more become one picture


def map_axes(
    shape: tuple[int, int],
    pixel_size_nm: tuple[float, float] | None = None,
    *,
    n_motifs: int = 1,
    figure: "Figure | None" = None,
) -> "Axes":
    """Axes in the shape of an image, with room for a legend beside them.

    Parameters
    ----------
    shape : (int, int)
        Of the image, (rows, columns) in pixels.
    pixel_size_nm : (float, float), optional
        Length of a pixel along (rows, columns).
    n_motifs : int
        Entries of the legend.
    figure : matplotlib Figure, optional
        Which is brought to size; by default a new one.

    Returns
    -------
    matplotlib Axes
    """
    row_nm, col_nm = pixel_size_nm or (1.0, 1.0)
    tallness = shape[0] * row_nm / (shape[1] * col_nm)
    across = min(7.0, 9.0 / tallness)
    whole = across + 1.6 * math.ceil((n_motifs + 1) / 24)
    figure = new_figure(whole, across * tallness) if figure is None else figure
    figure.set_layout_engine("none")
    figure.set_size_inches(whole, across * tallness)
    return figure.add_axes((0.0, 0.0, across / whole, 1.0))


def motif_map(
    image: Any,
    positions: np.ndarray,
    labels: np.ndarray,
    *,
    spacing: float,
    names: Sequence[str] | None = None,
    pixel_size_nm: tuple[float, float] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """The image, with every column marked in the colour of its motif.

    Parameters
    ----------
    image : array of shape (h, w)
    positions : array of shape (n, 2)
        (row, col) in pixels.
    labels : array of shape (n,)
        Motifs; -1 is none, -2 at the rim (see `MotifResult.groups`).
    spacing : float
        Distance between neighbouring columns in pixels; sets the size of the marks.
    names : sequence of str, optional
        What the legend calls the labels from 0 on, where they are not motifs.
    pixel_size_nm : (float, float), optional
        Length of a pixel along (rows, columns).
    ax : matplotlib Axes, optional
        Where to draw; by default in a new figure.

    Returns
    -------
    matplotlib Axes
    """
    motifs = sorted(np.unique(labels).tolist(), key=lambda motif: (motif < 0, abs(motif)))  # none comes last
    if ax is None:
        ax = map_axes(image.shape, pixel_size_nm, n_motifs=len(motifs))
    height, width = image.shape
    show_image(ax, image, pixel_size_nm)
    points_per_px = ax.get_window_extent().width / figure_of(ax).dpi * 72 / width
    size = max(0.45 * spacing * points_per_px, 1.2)
    for motif in motifs:
        here = labels == motif
        style = motif_style(motif)
        name = _NAMES.get(motif) or (f"{motif}" if names is None else names[motif])
        ax.scatter(
            positions[here, 1],
            positions[here, 0],
            s=size**2,
            c=style.colour,
            marker=style.marker,
            edgecolors="black",
            linewidths=0.6 if motif == -1 else min(0.3, 0.08 * size),
            label=f"{name}: {here.sum():,} ({here.mean():.1%})",
            rasterized=len(positions) > _VECTORS,
        )
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    ax.set_axis_off()
    scale_bar(ax, width, None if pixel_size_nm is None else pixel_size_nm[1])
    for handle in side_legend(ax, title="motif" if names is None else "name").legend_handles:
        if handle is not None:
            handle.set_sizes([45.0])  # type: ignore[attr-defined]
    return ax


def gallery_grid(n: int) -> tuple[int, int]:
    """Rows and columns of a gallery of `n` pictures."""
    columns = n if n <= 4 else math.ceil(math.sqrt(n))
    return math.ceil(n / max(columns, 1)), columns


def motif_gallery(
    templates: np.ndarray,
    counts: np.ndarray,
    *,
    n_columns: int | None = None,
    names: Sequence[str | None] | None = None,
    pixel_size_nm: tuple[float, float] | None = None,
    figure: "Figure | SubFigure | None" = None,
) -> "list[Axes]":
    """The mean patch of every motif with its number, its mark and its count, all in one grey scale.

    Parameters
    ----------
    templates : array of shape (n_motifs, s, s)
    counts : array of shape (n_motifs,)
        A motif without columns has no mean patch and leaves the grey scale to the others.
    n_columns : int, optional
        All columns, of which shares are given; by default those in a motif.
    names : sequence of n_motifs str or None, optional
        What the columns of each motif are called.
    pixel_size_nm : (float, float), optional
        Length of a pixel along (rows, columns).
    figure : matplotlib Figure or SubFigure, optional
        Where to draw; by default a new figure.

    Returns
    -------
    list of matplotlib Axes
        One for each motif.
    """
    n, size = len(templates), templates.shape[1]
    rows, columns = gallery_grid(n)
    if figure is None:
        figure = new_figure(1.9 * columns, 2.35 * rows)
    drawn = []
    seen = templates[np.asarray(counts) > 0]
    low, high = (float(seen.min()), float(seen.max())) if seen.size else (0.0, 1.0)
    row_nm, col_nm = pixel_size_nm or (1.0, 1.0)
    for motif in range(n):
        ax = figure.add_subplot(rows, columns, motif + 1)
        if counts[motif] > 0:
            ax.imshow(templates[motif], cmap="gray", vmin=low, vmax=high, aspect=row_nm / col_nm)
        else:
            ax.text(0.5, 0.5, "no columns", transform=ax.transAxes, ha="center", va="center", fontsize=8)
            ax.set_box_aspect(row_nm / col_nm)
        ax.set(xticks=[], yticks=[])
        share = counts[motif] / max(n_columns or int(counts.sum()), 1)
        called = f": {names[motif]}" if names is not None and names[motif] else ""
        ax.set_title(f"motif {motif}{called}\n{counts[motif]:,} ({share:.1%})", fontsize=9)
        style = motif_style(motif)
        for spine in ax.spines.values():
            spine.set(edgecolor=style.colour, linewidth=3)
        ax.plot(
            0.92, 0.92, style.marker, color=style.colour, mec="black", mew=0.5, ms=7, transform=ax.transAxes
        )
        if motif == 0 and counts[motif] > 0:
            scale_bar(ax, size, None if pixel_size_nm is None else col_nm)
        drawn.append(ax)
    return drawn
