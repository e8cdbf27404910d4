"""Moments: their layout in two dimensions, their power order by order, and symmetry around every pixel."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from torchmotif.plot.figure import axes_or_new, laid_out, new_figure, power_of_ten, scale_bar, side_legend
from torchmotif.plot.style import motif_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["moment_layout", "moment_spectrum", "symmetry_maps"]


def moment_layout(points: np.ndarray, labels: np.ndarray, *, ax: "Axes | None" = None) -> "Axes":
    """A layout of moments in two dimensions, every column in the colour of its motif.

    Parameters
    ----------
    points : array of shape (n, 2)
        For example what `ForceLayout` gives; only distances mean something, not directions.
    labels : array of shape (n,)
        Motifs; -1 is none.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    axes = axes_or_new(ax, 5.4, 4.2)
    for motif in np.unique(labels).tolist():
        here, style = labels == motif, motif_style(motif)
        axes.scatter(
            points[here, 0],
            points[here, 1],
            s=12,
            c=style.colour,
            marker=style.marker,
            edgecolors="black",
            linewidths=0.25,
            label="none" if motif < 0 else f"motif {motif}",
        )
    axes.set(xticks=[], yticks=[], aspect="equal")
    side_legend(axes)
    return axes


def moment_spectrum(
    orders: np.ndarray,
    mean_power: np.ndarray,
    variance: np.ndarray,
    noise: np.ndarray | None = None,
    *,
    ax: "Axes | None" = None,
) -> "Axes":
    """Power of Zernike moments, summed over each radial order.

    Parameters
    ----------
    orders : array of shape (k, 2)
        (n, m) of every moment.
    mean_power : array of shape (k,)
        Square of the mean moment of all columns: what they have in common.
    variance : array of shape (k,)
        Variance among the columns: what tells motifs apart, and noise.
    noise : array of shape (k,), optional
        Variance that counting electrons makes.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    axes = axes_or_new(ax, 5.4, 3.4)
    radial = np.asarray(orders)[:, 0]
    curves = [
        ("mean of all columns", mean_power, "#0072B2", "s--"),
        ("differences between columns", variance, "#D55E00", "o-"),
    ]
    if noise is not None:
        curves.append(("noise of counting", noise, "#777777", "^:"))
    for name, values, colour, line in curves:
        summed = np.bincount(radial, weights=np.asarray(values, np.float64))
        axes.plot(np.arange(len(summed)), summed, line, color=colour, label=name, ms=5, lw=1.5)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(power_of_ten)
    axes.yaxis.set_minor_formatter("")
    axes.set_xticks(np.arange(0, int(radial.max()) + 1, 1 if radial.max() < 16 else 4))
    axes.set_xlabel("radial order n")
    axes.set_ylabel("power of the moments")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    return axes


def symmetry_maps(
    maps: np.ndarray,
    folds: Sequence[int],
    *,
    pixel_size_nm: tuple[float, float] | None = None,
    figure: "Figure | SubFigure | None" = None,
) -> "list[Axes]":
    """How symmetric the image is under rotation around every pixel, fold by fold.

    Parameters
    ----------
    maps : array of shape (f, h, w)
        As `rotational_symmetry_map` gives them; NaN, as at the rim, is left out.
    folds : sequence of f int
    pixel_size_nm : (float, float), optional
        Length of a pixel of the maps along (rows, columns).
    figure : matplotlib Figure or SubFigure, optional
        Where to draw; by default a new figure.

    Returns
    -------
    list of matplotlib Axes
        One for each fold.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    row_nm, col_nm = pixel_size_nm or (1.0, 1.0)
    if figure is None:
        figure = new_figure(2.6 * len(folds) + 0.8, 3.0)
    scale = Normalize(0.0, 1.0)
    drawn = []
    for place, (fold, values) in enumerate(zip(folds, maps, strict=True), start=1):
        ax = figure.add_subplot(1, len(folds), place)
        valid = np.isfinite(values)
        rows, cols = np.flatnonzero(valid.any(axis=1)), np.flatnonzero(valid.any(axis=0))
        shown = values[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1] if len(rows) else values
        ax.imshow(shown, cmap="cividis", norm=scale, aspect=row_nm / col_nm, interpolation="nearest")
        ax.set(xticks=[], yticks=[])
        ax.set_title(f"{fold}-fold", fontsize=10)
        drawn.append(ax)
    bar = figure.colorbar(ScalarMappable(scale, "cividis"), ax=drawn, shrink=0.8, pad=0.02, ticks=[0, 0.5, 1])
    bar.set_label("mean correlation with\nthe turned image", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    laid_out(drawn[0])
    scale_bar(drawn[0], drawn[0].get_images()[0].get_size()[1], None if pixel_size_nm is None else col_nm)
    return drawn
