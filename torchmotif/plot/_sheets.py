"""Whole pictures of a result, each from arrays, numbers and texts alone, so that another process can draw them.

Figures are bare: no window, nothing to close.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from torchmotif.plot._groups import draw_groups, draw_growth
from torchmotif.plot.figure import bare_figure
from torchmotif.plot.moments import moment_spectrum, symmetry_maps
from torchmotif.plot.motifs import gallery_grid, map_axes, motif_gallery, motif_map
from torchmotif.plot.occupancy import occupancy_map

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SHEETS", "sheet"]

_TITLE_IN = 0.65  # of four lines


def sheet(name: str, arguments: dict[str, Any]) -> "Figure":
    """Draw a sheet.

    Parameters
    ----------
    name : str
        One of `SHEETS`.
    arguments : dict
        Those of its function.

    Returns
    -------
    matplotlib Figure
    """
    return SHEETS[name](**arguments)


def _motifs(templates: np.ndarray, counts: np.ndarray, **others: Any) -> "Figure":
    """The mean patches, see `motif_gallery`."""
    from matplotlib.figure import Figure

    rows, columns = gallery_grid(len(templates))
    figure = Figure(figsize=(1.9 * columns, 2.25 * rows), dpi=150)
    # Each a square of 1.8 inches with room for its title: to have it laid out takes as long as to draw it.
    figure.subplots_adjust(0.0, 0.0, 1.0, 1 - 0.45 / (2.25 * rows), wspace=0.1 / 1.8, hspace=0.45 / 1.8)
    motif_gallery(templates, counts, figure=figure, **others)
    return figure


def _map(
    image: np.ndarray,
    positions: np.ndarray,
    labels: np.ndarray,
    pixel_size_nm: tuple[float, float] | None = None,
    **others: Any,
) -> "Figure":
    """The motifs on the image, see `motif_map`."""
    from matplotlib.figure import Figure

    figure = Figure(dpi=150)
    axes = map_axes(image.shape, pixel_size_nm, n_motifs=len(np.unique(labels)), figure=figure)
    motif_map(image, positions, labels, pixel_size_nm=pixel_size_nm, ax=axes, **others)
    return figure


def _sites(image: np.ndarray, pixel_size_nm: tuple[float, float] | None = None, **others: Any) -> "Figure":
    """The occupancy on the image, see `occupancy_map`."""
    from matplotlib.figure import Figure

    figure = Figure(dpi=150)
    axes = map_axes(image.shape, pixel_size_nm, n_motifs=4, figure=figure)
    occupancy_map(image, pixel_size_nm=pixel_size_nm, ax=axes, **others)
    return figure


def _spectrum(orders: np.ndarray, mean: np.ndarray, variance: np.ndarray, noise: Any = None) -> "Figure":
    """Power of the moments, see `moment_spectrum`."""
    figure = bare_figure(5.6, 3.4, (0.75, 0.5, 0.1, 0.1))
    moment_spectrum(orders, mean, variance, noise, ax=figure.add_subplot())
    return figure


def _symmetry(maps: np.ndarray, folds: Sequence[int], **others: Any) -> "Figure":
    """Symmetry around every pixel, see `symmetry_maps`."""
    figure = bare_figure(10.5, 2.5, (0.05, 0.05, 0.0, 0.3), grid=(1, len(folds)), gaps_in=(0.0, 0.1))
    symmetry_maps(maps, folds, figure=figure, **others)
    return figure


def _atlas(legend_in: float, **drawn: Any) -> "Figure":
    """Groups of neighbouring motifs, above a legend of so many inches; see `draw_groups`."""
    grid = drawn["grid"]
    margins = (0.05, legend_in, 0.05, _TITLE_IN)
    figure = bare_figure(
        10.5, 1.9 * grid[0] + legend_in, margins, grid=(grid[0], grid[1]), gaps_in=(_TITLE_IN, 0.15)
    )
    draw_groups(figure, **drawn)
    return figure


def _growth(**drawn: Any) -> "Figure":
    """The growth of assemblies, see `draw_growth`."""
    figure = bare_figure(6.0, 4.2, (0.85, 0.5, 0.1, 0.1))
    draw_growth(figure.add_subplot(), **drawn)
    return figure


SHEETS: "dict[str, Callable[..., Figure]]" = {
    "motifs": _motifs,
    "map": _map,
    "sites": _sites,
    "spectrum": _spectrum,
    "symmetry": _symmetry,
    "atlas": _atlas,
    "growth": _growth,
}
