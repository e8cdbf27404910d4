"""Occupancy of the sites, on the image."""

from typing import TYPE_CHECKING, Any

import numpy as np

from torchmotif.plot.figure import figure_of, scale_bar, show_image, side_legend
from torchmotif.plot.motifs import map_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["occupancy_map"]

# Of what is rare the marks are larger: it is what one looks for. Colours of Okabe & Ito (2008).
_STATES = (
    ("full", "full", "o", 0.22),
    ("", "not known", ".", 0.22),
    ("partial", "partly occupied", "s", 0.5),
    ("empty", "empty", "D", 0.6),
)
_EDGES = {"full": "none", "": "#BBBBBB", "partial": "black", "empty": "black"}
_MOST = 1.5  # of a full site's occupancy, at the end of the colours
_VECTORS = 5_000  # marks that are drawn one by one in a PDF; more become one picture


def occupancy_map(
    image: Any,
    positions: np.ndarray,
    occupancy: np.ndarray,
    states: np.ndarray,
    *,
    spacing: float,
    pixel_size_nm: tuple[float, float] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """The image, with every site in the colour of its occupancy and the mark of its state.

    Parameters
    ----------
    image : array of shape (h, w)
    positions : array of shape (s, 2)
        (row, col) in pixels of the sites.
    occupancy : array of shape (s,)
        0 of nothing, 1 of a full site; NaN where it is not known.
    states : array of shape (s,), str
        "full", "partial", "empty", or "" where it is not known; see `SiteTable.states`.
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
    if ax is None:
        ax = map_axes(image.shape, pixel_size_nm, n_motifs=len(_STATES))
    height, width = image.shape
    show_image(ax, image, pixel_size_nm)
    points_per_px = ax.get_window_extent().width / figure_of(ax).dpi * 72 / width
    colour = np.nan_to_num(occupancy, nan=1.0)
    for state, name, marker, size in _STATES:
        here = states == state
        if not here.any():
            continue
        ax.scatter(
            positions[here, 1],
            positions[here, 0],
            s=max(size * spacing * points_per_px, 1.2) ** 2,
            c="#BBBBBB" if state == "" else colour[here],
            cmap=None if state == "" else "viridis",
            vmin=None if state == "" else 0.0,
            vmax=None if state == "" else _MOST,
            marker=marker,
            edgecolors=_EDGES[state],
            linewidths=0.0 if state == "full" else 0.4,
            label=f"{name}: {here.sum():,} ({here.mean():.1%})",
            rasterized=len(positions) > _VECTORS,
        )
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    ax.set_axis_off()
    scale_bar(ax, width, None if pixel_size_nm is None else pixel_size_nm[1])
    for handle in side_legend(ax, title="sites").legend_handles:
        if handle is not None and hasattr(handle, "set_sizes"):
            handle.set_sizes([45.0])
    return ax
