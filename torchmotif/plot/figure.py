"""What all pictures share: figures and axes, the image under them, the scale bar."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

__all__ = [
    "axes_or_new",
    "bare_figure",
    "figure_of",
    "laid_out",
    "new_figure",
    "power_of_ten",
    "scale_bar",
    "show_image",
    "side_legend",
]

_SHOWN = 2048  # pixels of an image's longer side that a figure shows
_LEGEND_ROWS = 24
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def figure_of(ax: "Axes") -> "Figure":
    """The figure that an axes is in."""
    figure = ax.get_figure(root=True)
    assert figure is not None  # noqa: S101  # only axes that were removed have none
    return figure


def new_figure(width_in: float, height_in: float) -> "Figure":
    """A figure that notebooks show, laid out so that nothing overlaps."""
    import matplotlib.pyplot as plt

    return plt.figure(figsize=(width_in, height_in), dpi=150, layout="constrained")


def bare_figure(
    width_in: float,
    height_in: float,
    margins_in: tuple[float, float, float, float],
    *,
    grid: tuple[int, int] = (1, 1),
    gaps_in: tuple[float, float] = (0.0, 0.0),
) -> "Figure":
    """A figure without pyplot: no window, nothing to close. What is drawn does not lay it out, which takes as long as to draw it.

    Parameters
    ----------
    width_in, height_in : float
        Inches.
    margins_in : (float, float, float, float)
        Left, bottom, right and top of all axes, in inches.
    grid : (int, int)
        Rows and columns of axes.
    gaps_in : (float, float)
        Between rows, where titles stand, and between columns, in inches.

    Examples
    --------
    >>> figure = bare_figure(4.0, 3.0, (0.5, 0.5, 0.0, 0.0), grid=(2, 1), gaps_in=(0.5, 0.0))
    >>> (figure.add_subplot(2, 1, 1).get_position().size * (4.0, 3.0)).tolist()
    [3.5, 1.0]
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), dpi=150)
    left, bottom, right, top = margins_in
    high = (height_in - bottom - top - gaps_in[0] * (grid[0] - 1)) / grid[0]
    wide = (width_in - left - right - gaps_in[1] * (grid[1] - 1)) / grid[1]
    figure.subplots_adjust(
        left / width_in,
        bottom / height_in,
        1 - right / width_in,
        1 - top / height_in,
        hspace=gaps_in[0] / high,
        wspace=gaps_in[1] / wide,
    )
    return figure


def axes_or_new(ax: "Axes | None", width_in: float = 7.0, height_in: float = 4.5) -> "Axes":
    """The axes as given, or those of a new figure."""
    return new_figure(width_in, height_in).add_subplot() if ax is None else ax


def laid_out(ax: "Axes") -> None:
    """Bring axes to the size that they will be drawn with: what is drawn in units of theirs asks for it."""
    figure = figure_of(ax)
    if figure.get_layout_engine() is None:
        ax.apply_aspect()
    else:
        figure.draw_without_rendering()


def power_of_ten(value: float, _: object = None) -> str:
    """A number of a logarithmic axis, in signs of the font: formulas of matplotlib take a tenth of a second to be parsed.

    Examples
    --------
    >>> power_of_ten(1e-3), power_of_ten(10.0), power_of_ten(20.0)
    ('10⁻³', '10¹', '')
    """
    power = round(math.log10(value)) if value > 0 else 0
    return "10" + str(power).translate(_RAISED) if math.isclose(value, 10.0**power) else ""


def show_image(ax: "Axes", image: Any, pixel_size_nm: tuple[float, float] | None = None) -> None:
    """The image in grey, thinned to what a figure can show; its data are in pixels.

    Parameters
    ----------
    ax : matplotlib Axes
    image : array of shape (h, w)
        Pixels that are not finite stay empty.
    pixel_size_nm : (float, float), optional
        Length of a pixel along (rows, columns); pixels that are not square keep their shape.
    """
    height, width = image.shape
    row_nm, col_nm = pixel_size_nm or (1.0, 1.0)
    step = max(1, math.ceil(max(height, width) / _SHOWN))
    shown = np.asarray(image)[::step, ::step].astype(np.float32)
    finite = shown[np.isfinite(shown)]
    low, high = np.percentile(finite, (0.5, 99.5)) if finite.size else (0.0, 1.0)
    ax.imshow(
        shown,
        cmap="gray",
        vmin=low,
        vmax=high,
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        aspect=row_nm / col_nm,
    )


def scale_bar(
    ax: "Axes", width_px: float, pixel_size_nm: float | None, *, colour: str = "white", below: bool = False
) -> None:
    """Draw a bar of a round length, a quarter of the picture or less; in pixels where there is no calibration.

    Parameters
    ----------
    ax : matplotlib Axes
        Its data are in pixels.
    width_px : float
        Width of the picture.
    pixel_size_nm : float or None
        Length of a pixel along the columns.
    colour : str
        Of the bar; white has a dark rim, to be seen on any image.
    below : bool
        Whether it stands below the picture, rather than in its corner.
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
    light = colour == "white"
    place = {"bbox_to_anchor": (0, 0), "bbox_transform": ax.transAxes} if below else {}
    bar = AnchoredSizeBar(
        ax.transData,
        length_px,
        label,
        "upper left" if below else "lower left",
        pad=0.4,
        sep=3,
        frameon=False,
        color=colour,
        size_vertical=2.5 * width_px / points,
        fontproperties=FontProperties(size=9, weight="bold"),
        **place,
    )
    bar.set_zorder(10)  # above the marks
    if light:
        bar.size_bar.get_children()[0].set(edgecolor="black", linewidth=0.5)
        bar.txt_label.get_children()[0].set_path_effects([withStroke(linewidth=2, foreground="black")])
    ax.add_artist(bar)


def side_legend(ax: "Axes", handles: Any = None, title: str | None = None) -> "Legend":
    """A legend to the right of the picture, in as many columns as it needs."""
    if handles is None:
        handles = ax.get_legend_handles_labels()[0]
    return ax.legend(
        handles=handles,
        title=title,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        frameon=False,
        borderaxespad=0.0,
        fontsize=8,
        ncols=max(1, math.ceil(len(handles) / _LEGEND_ROWS)),
    )
