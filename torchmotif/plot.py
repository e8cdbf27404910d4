"""Pictures: motifs on the image, and the mean patch of every motif."""

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["figure_of", "motif_gallery", "motif_map", "motif_style", "scale_bar"]

# Okabe & Ito (2008) without black and grey, which the image itself has.
_COLOURS = ("#E69F00", "#56B4E9", "#D55E00", "#009E73", "#F0E442", "#CC79A7", "#0072B2")
_MARKERS = "osD^vP"
_NO_MOTIF = "#FFFFFF"
_SHOWN = 2048  # pixels of an image's longer side that a figure shows


def motif_style(motif: int) -> tuple[str, str]:
    """Colour and marker of a motif, the same in all pictures; the colours are safe for colour-blind readers.

    Examples
    --------
    >>> motif_style(0), motif_style(-1)
    (('#E69F00', 'o'), ('#FFFFFF', 'X'))
    """
    if motif < 0:
        return _NO_MOTIF, "X"
    return _COLOURS[motif % len(_COLOURS)], _MARKERS[motif // len(_COLOURS) % len(_MARKERS)]


def scale_bar(ax: "Axes", width_px: float, pixel_size_nm: float | None) -> None:
    """Draw a bar of a round length, a fifth of the picture or less; in pixels where there is no calibration.

    Parameters
    ----------
    ax : matplotlib Axes
        Its data are in pixels.
    width_px : float
        Width of the picture.
    pixel_size_nm : float or None
        Length of a pixel along the columns.
    """
    from matplotlib.font_manager import FontProperties
    from matplotlib.patheffects import withStroke
    from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

    longest = 0.25 * width_px * (pixel_size_nm or 1.0)
    power = 10.0 ** math.floor(math.log10(longest))
    length = max(step * power for step in (1, 2, 5) if step * power <= longest)
    if pixel_size_nm is None:
        label, length_px = f"{length:g} px", length
    else:
        label = f"{length:g} nm" if length >= 1 else f"{10 * length:g} Å"
        length_px = length / pixel_size_nm
    points = ax.get_window_extent().width / figure_of(ax).dpi * 72
    bar = AnchoredSizeBar(
        ax.transData,
        length_px,
        label,
        "lower left",
        pad=0.4,
        sep=3,
        frameon=False,
        color="white",
        size_vertical=2.5 * width_px / points,
        fontproperties=FontProperties(size=9, weight="bold"),
        path_effects=[withStroke(linewidth=2, foreground="black")],
    )
    bar.size_bar.get_children()[0].set(edgecolor="black", linewidth=0.5)
    ax.add_artist(bar)


def motif_map(
    image: Any,
    positions: np.ndarray,
    labels: np.ndarray,
    *,
    spacing: float,
    pixel_size_nm: tuple[float, float] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """The image, with every column in the colour of its motif.

    Parameters
    ----------
    image : array of shape (h, w)
    positions : array of shape (n, 2)
        (row, col) in pixels.
    labels : array of shape (n,)
        Motifs; -1 is none.
    spacing : float
        Distance between neighbouring columns in pixels; sets the size of the marks.
    pixel_size_nm : (float, float), optional
        Length of a pixel along (rows, columns).
    ax : matplotlib Axes, optional
        Where to draw; by default in a new figure.

    Returns
    -------
    matplotlib Axes
    """
    height, width = image.shape
    row_nm, col_nm = pixel_size_nm or (1.0, 1.0)
    tallness = height * row_nm / (width * col_nm)
    if ax is None:
        across = min(7.0, 9.0 / tallness)
        figure = _figure(across + 1.6, across * tallness)
        ax = figure.add_axes((0.0, 0.0, across / (across + 1.6), 1.0))
    step = max(1, math.ceil(max(height, width) / _SHOWN))
    shown = np.asarray(image)[::step, ::step].astype(np.float32)
    low, high = np.nanpercentile(np.where(np.isfinite(shown), shown, np.nan), (0.5, 99.5))
    ax.imshow(
        shown,
        cmap="gray",
        vmin=low,
        vmax=high,
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        aspect=row_nm / col_nm,
    )
    points_per_px = ax.get_window_extent().width / figure_of(ax).dpi * 72 / width
    size = max(0.45 * spacing * points_per_px, 1.2) ** 2
    for motif in np.unique(labels):
        here = labels == motif
        colour, marker = motif_style(int(motif))
        name = "none" if motif < 0 else f"{motif}"
        ax.scatter(
            positions[here, 1],
            positions[here, 0],
            s=size,
            c=colour,
            marker=marker,
            edgecolors="black" if motif < 0 else "none",
            linewidths=0.6 if motif < 0 else 0,
            label=f"{name}: {here.sum():,} ({here.mean():.1%})",
            rasterized=True,
        )
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    ax.set_axis_off()
    scale_bar(ax, width, None if pixel_size_nm is None else col_nm)
    legend = ax.legend(
        title="motif",
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        frameon=False,
        borderaxespad=0.0,
        fontsize=9,
    )
    for handle in legend.legend_handles:
        if handle is not None:
            handle.set_sizes([45.0])  # type: ignore[attr-defined]
    return ax


def motif_gallery(
    templates: np.ndarray,
    counts: np.ndarray,
    *,
    pixel_size_nm: tuple[float, float] | None = None,
    figure: "Figure | SubFigure | None" = None,
) -> "list[Axes]":
    """The mean patch of every motif with its number, its colour and its count, all in one grey scale.

    Parameters
    ----------
    templates : array of shape (n_motifs, s, s)
    counts : array of shape (n_motifs,)
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
    columns = n if n <= 4 else math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    if figure is None:
        figure = _figure(1.9 * columns, 2.35 * rows, layout="constrained")
    drawn = []
    low, high = float(templates.min()), float(templates.max())
    row_nm, col_nm = pixel_size_nm or (1.0, 1.0)
    for motif in range(n):
        ax = figure.add_subplot(rows, columns, motif + 1)
        ax.imshow(templates[motif], cmap="gray", vmin=low, vmax=high, aspect=row_nm / col_nm)
        ax.set(xticks=[], yticks=[])
        share = counts[motif] / max(int(counts.sum()), 1)
        ax.set_title(f"motif {motif}\n{counts[motif]:,} ({share:.1%})", fontsize=9)
        for spine in ax.spines.values():
            spine.set(edgecolor=motif_style(motif)[0], linewidth=3)
        if motif == 0:
            scale_bar(ax, size, None if pixel_size_nm is None else col_nm)
        drawn.append(ax)
    return drawn


def figure_of(ax: "Axes") -> "Figure":
    """The figure that an axes is in."""
    figure = ax.get_figure(root=True)
    assert figure is not None  # noqa: S101  # only axes that were removed have none
    return figure


def _figure(width_in: float, height_in: float, layout: "Literal['constrained'] | None" = None) -> "Figure":
    # Without pyplot: no window, no global state, nothing to close.
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), dpi=150, layout=layout)
