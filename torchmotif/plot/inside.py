"""What the columns do inside a motif: displacement arrows, strain maps, grains, phases and profiles."""

from typing import TYPE_CHECKING, Any

import numpy as np

from torchmotif.errors import InputError
from torchmotif.plot.figure import axes_or_new, figure_of, new_figure, scale_bar, show_image, side_legend
from torchmotif.plot.motifs import map_axes
from torchmotif.plot.style import OTHER, motif_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from torchmotif.lattice import Dislocations, Displacements, Grains, LatticeStrain, Layers, Profile

__all__ = [
    "colour_of_angle",
    "displacement_map",
    "grain_map",
    "layer_map",
    "phase_map",
    "profile",
    "strain_map",
]

_ARROW = 0.8  # spacings that the longest arrows have, so that they do not reach the next column
_VECTORS = 5_000  # marks that are drawn one by one in a PDF; more become one picture
_NAMES = {
    "strain_row": "strain along rows, %",
    "strain_col": "strain along columns, %",
    "shear": "shear, %",
    "rotation_rad": "rotation, degrees",
}


def colour_of_angle(angle_rad: Any) -> np.ndarray:
    """Colours (m, 4) of directions: red to the right, then counter-clockwise through yellow, green, and blue; grey where there is none."""
    import matplotlib as mpl

    angle = np.asarray(angle_rad, np.float64)
    colours = np.empty((*angle.shape, 4))
    known = np.isfinite(angle)
    hue = (angle[known] / (2 * np.pi)) % 1.0
    colours[known] = mpl.colormaps["hsv"](hue)
    colours[known, :3] = 0.85 * colours[known, :3]
    colours[~known] = (0.6, 0.6, 0.6, 1.0)
    return np.asarray(colours)


def displacement_map(
    field: "Displacements",
    *,
    image: Any = None,
    level: float | None = 0.05,
    smooth: float | None = None,
    length: float | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """An arrow at each column, in the colour of its direction; those that are not significant are pale.

    Parameters
    ----------
    field : Displacements
    image : array of shape (h, w), optional
        Drawn under the arrows.
    level : float, optional
        False discovery rate of significance; None draws all alike.
    smooth : float, optional
        Standard deviation in pixels by which the field is smoothed before; significance is that of the smoothed one.
    length : float, optional
        Displacement in pixels whose arrow is 0.8 distances of columns long; by default the 95th percentile.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    InputError
        If no column has a displacement, or the field is of something else.
    """
    from scipy.spatial import cKDTree
    from scipy.stats import chi2, false_discovery_control

    if "row_shift_px" not in getattr(field, "names", ()):
        raise InputError(
            f"field must hold displacements, such as result.displacements() gives, got {field!r}; strain_map draws others"
        )
    known = field.known
    if not known.any():
        raise InputError("field has no displacement to draw: its columns have too few neighbours")
    shift, clear = field.values, field.significant(level) if level is not None else known
    if smooth is not None:
        shift, errors = field.smoothed(smooth)
        known = np.asarray(np.isfinite(shift).all(axis=1), bool)
        if level is not None:
            chance = chi2.sf(((shift[known] / errors[known]) ** 2).sum(axis=1), 2)
            clear = np.zeros(len(known), bool)
            clear[known] = false_discovery_control(chance) <= level
    axes = _axes(field.positions, image, field.pixel_size_nm, ax)
    place, shift, clear = field.positions[known], shift[known], clear[known]
    apart = (
        float(np.median(cKDTree(place).query(place, k=[min(2, len(place))])[0])) if len(place) > 1 else 1.0
    )
    size = np.linalg.norm(shift, axis=1)
    longest = length or float(np.quantile(size, 0.95)) or 1.0
    arrows = shift * (_ARROW * apart / longest)
    row, col = field.pixel_size_nm or (1.0, 1.0)
    colours = colour_of_angle(np.arctan2(-shift[:, 0] * row, shift[:, 1] * col))
    colours[~clear, 3] = 0.3
    axes.quiver(
        place[:, 1] - arrows[:, 1] / 2,
        place[:, 0] - arrows[:, 0] / 2,
        arrows[:, 1],
        arrows[:, 0],
        color=colours,
        angles="xy",
        scale_units="xy",
        scale=1.0,
        width=0.16 * apart,
        units="xy",
        headwidth=3.2,
        rasterized=len(place) > _VECTORS,
    )
    unit = f"{longest * col * 1000:.3g} pm" if field.pixel_size_nm is not None else f"{longest:.3g} px"
    _wheel(
        axes, f"longest arrows {unit}\n{clear.mean():.0%} of {len(place):,} significant" if level else unit
    )
    return axes


def strain_map(
    field: "LatticeStrain",
    *,
    image: Any = None,
    components: tuple[str, ...] | str = ("strain_row", "strain_col", "shear", "rotation_rad"),
    level: float | None = 0.05,
    limit: float | None = None,
    figure: "Figure | SubFigure | None" = None,
    pixel_size_nm: tuple[float, float] | None = None,
) -> "list[Axes]":
    """Components of the strain at each column, blue below zero and red above; what is not significant is pale.

    Parameters
    ----------
    field : LatticeStrain
        Or another field of columns, with the names of its components, which are drawn in its own units.
    image : array of shape (h, w), optional
        Its extent is shown.
    components : tuple of str, or str
    level : float, optional
        A component is pale where it is within what chance alone has at this level for single columns; None draws all alike.
    limit : float, optional
        End of the scale, as a share; by default the 98th percentile of all strains. That of the rotation is its own.
    figure : matplotlib Figure or SubFigure, optional
    pixel_size_nm : (float, float), optional
        For the scale bar.

    Returns
    -------
    list of matplotlib Axes

    Raises
    ------
    InputError
        If a component has another name.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from scipy.stats import norm

    components = _names_of(components, field.names)
    across = min(len(components), 2)
    rows = -(-len(components) // across)
    low, high = _extent(field.positions, image)
    tall = (high[0] - low[0]) / (high[1] - low[1])
    if figure is None:
        figure = new_figure(4.6 * across, 4.0 * tall * rows + 0.4)
    errors = field.errors
    index = [field.names.index(name) for name in components]
    strains = [i for i, name in zip(index, components, strict=True) if name != "rotation_rad"]
    common = (
        limit or (float(np.nanquantile(np.abs(field.values[:, strains]), 0.98)) if strains else 1.0) or 1e-6
    )
    drawn = []
    for number, (i, name) in enumerate(zip(index, components, strict=True)):
        axes = figure.add_subplot(rows, across, number + 1)
        turning = name == "rotation_rad"
        unit = 180 / np.pi if turning else 100.0 if name in _NAMES else 1.0
        values = field.values[:, i]
        known = np.isfinite(values)
        most = (float(np.nanquantile(np.abs(values), 0.98)) if turning else common) or 1e-6
        clear = known if level is None else np.abs(values) > norm.isf(level / 2) * errors[:, i]
        _frame(axes, low, high)
        size = _mark_size(axes, field.positions, high[1] - low[1])
        for part, alpha in ((known & ~clear, 0.25), (known & clear, 1.0)):
            axes.scatter(
                field.positions[part, 1],
                field.positions[part, 0],
                c=values[part] * unit,
                s=size**2,
                cmap="RdBu_r",
                vmin=-most * unit,
                vmax=most * unit,
                alpha=alpha,
                linewidths=0,
                rasterized=len(values) > _VECTORS,
            )
        ends = Normalize(-most * unit, most * unit)
        figure.colorbar(ScalarMappable(ends, "RdBu_r"), ax=axes, shrink=0.9)
        usual = float(np.nanmedian(errors[:, i])) * unit
        axes.set_title(f"{_NAMES.get(name, name)} ± {usual:.2g}", fontsize=9)
        axes.set_facecolor("#DDDDDD")
        axes.set(xticks=[], yticks=[])
        if number == 0:
            scale_bar(
                axes, high[1] - low[1], None if pixel_size_nm is None else pixel_size_nm[1], colour="black"
            )
        drawn.append(axes)
    return drawn


def grain_map(
    grains: "Grains",
    *,
    image: Any = None,
    dislocations: "Dislocations | None" = None,
    pixel_size_nm: tuple[float, float] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Columns in the colour of their grain, boundaries as lines, and dislocations with their Burgers vectors.

    Parameters
    ----------
    grains : Grains
    image : array of shape (h, w), optional
    dislocations : Dislocations, optional
    pixel_size_nm : (float, float), optional
        For the scale bar.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    from matplotlib.collections import LineCollection

    names = {
        grain.number: f"{grain.number}: {grain.columns:,}, {grain.orientation_deg[0]:.2f}°"
        for grain in grains.grains
    }
    axes = _marked(
        grains.positions,
        grains.labels,
        names,
        title="grain",
        image=image,
        pixel_size_nm=pixel_size_nm,
        ax=ax,
    )
    lines = LineCollection(
        [end[:, ::-1] for end in grains.segments], colors="white", linewidths=2.4, capstyle="round", zorder=4
    )
    axes.add_collection(lines)
    axes.add_collection(
        LineCollection([end[:, ::-1] for end in grains.segments], colors="black", linewidths=1.0, zorder=5)
    )
    if dislocations is not None and len(dislocations):
        place, vector = dislocations.positions, dislocations.burgers_px
        axes.scatter(
            place[:, 1], place[:, 0], marker="o", s=60, facecolors="none", edgecolors="red", lw=1.5, zorder=6
        )
        axes.quiver(
            place[:, 1],
            place[:, 0],
            vector[:, 1],
            vector[:, 0],
            angles="xy",
            scale_units="xy",
            scale=0.5,
            color="red",
            width=0.004,
            zorder=6,
        )
    return axes


def layer_map(
    layers: "Layers",
    *,
    image: Any = None,
    pixel_size_nm: tuple[float, float] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Columns in the colour of the layer that they are on, and those of both in another.

    Parameters
    ----------
    layers : Layers
    image : array of shape (h, w), optional
    pixel_size_nm : (float, float), optional
        For the scale bar.
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes
    """
    parts = layers.parts
    count = np.bincount(parts + 1, minlength=4)[1:].tolist()
    names = {
        one: f"{one}: {count[one]:,}, {angle:.2f}°"
        for one, angle in enumerate(layers.orientation_deg[:, 0].tolist())
    }
    return _marked(
        layers.positions,
        parts,
        names | {2: f"both: {count[2]:,}"},
        title="layer",
        image=image,
        pixel_size_nm=pixel_size_nm,
        ax=ax,
    )


def phase_map(
    positions: np.ndarray,
    classes: np.ndarray,
    *,
    names: dict[int, str] | None = None,
    title: str = "class",
    image: Any = None,
    pixel_size_nm: tuple[float, float] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Columns in the colour of their class, such as those of `MotifResult.split`.

    Parameters
    ----------
    positions : array of shape (n, 2)
        (row, col) in pixels.
    classes : array of shape (n,), int
        -1 for none, in grey.
    names : mapping of class to str, optional
        For the legend.
    title : str
        Of the legend.
    image : array of shape (h, w), optional
    pixel_size_nm : (float, float), optional
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    InputError
        If there is not one class for each position.
    """
    classes = np.asarray(classes)
    if classes.shape != (len(positions),):
        raise InputError(f"classes must have the shape ({len(positions)},), got {classes.shape}")
    counts = np.bincount(classes[classes >= 0])
    words = {i: f"{i}: {count:,}" for i, count in enumerate(counts.tolist())} | (names or {})
    return _marked(
        np.asarray(positions),
        classes,
        words,
        title=title,
        image=image,
        pixel_size_nm=pixel_size_nm,
        ax=ax,
    )


def profile(
    found: "Profile",
    components: tuple[str, ...] | str | None = None,
    *,
    pixel_size_nm: float | None = None,
    xlabel: str = "place",
    ax: "Axes | None" = None,
) -> "Axes":
    """Means along a direction or with a distance, with a band of their standard errors.

    Parameters
    ----------
    found : Profile
    components : tuple of str, or str, optional
        By default all.
    pixel_size_nm : float, optional
        Draws places in nanometres.
    xlabel : str
    ax : matplotlib Axes, optional

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    InputError
        If a component has another name.
    """
    components = _names_of(found.names if components is None else components, found.names)
    axes = axes_or_new(ax, 6.5, 4.0)
    at = found.at * (pixel_size_nm or 1.0)
    for number, name in enumerate(components):
        i = found.names.index(name)
        style = motif_style(number)
        values, errors = found.values[:, i], found.errors[:, i]
        axes.errorbar(
            at, values, errors, color=style.colour, marker=style.marker, ms=4, lw=1.2, capsize=2, mec="black", mew=0.3,
            label=name,
        )  # fmt: skip
    shown = [found.names.index(name) for name in components]
    low, high = found.values[:, shown].min(), found.values[:, shown].max()
    if low - (high - low) <= 0 <= high + (high - low):  # else a line at zero would flatten what is shown
        axes.axhline(0, color="black", lw=0.6)
    axes.set_xlabel(f"{xlabel}, {'nm' if pixel_size_nm else 'px'}")
    axes.spines[["top", "right"]].set_visible(False)
    if len(components) > 1:
        side_legend(axes)
    else:
        axes.set_ylabel(components[0])
    return axes


def _names_of(components: tuple[str, ...] | str, names: tuple[str, ...]) -> tuple[str, ...]:
    """The components that are to be drawn, which are among some names."""
    chosen = (components,) if isinstance(components, str) else tuple(components)
    if not chosen or not set(chosen) <= set(names):
        raise InputError(f"components must be some of {', '.join(names)}, got {list(chosen)}")
    return chosen


def _extent(positions: np.ndarray, image: Any) -> tuple[np.ndarray, np.ndarray]:
    """First and last (row, col) of a picture: of the image, else of the columns."""
    if image is not None:
        return np.array([-0.5, -0.5]), np.array(image.shape) - 0.5
    margin = 0.02 * np.ptp(positions, axis=0).max() + 1
    return positions.min(axis=0) - margin, positions.max(axis=0) + margin


def _frame(axes: "Axes", low: np.ndarray, high: np.ndarray) -> None:
    axes.set(xlim=(low[1], high[1]), ylim=(high[0], low[0]))
    axes.set_aspect("equal")


def _axes(
    positions: np.ndarray,
    image: Any,
    pixel_size_nm: tuple[float, float] | None,
    ax: "Axes | None",
    n: int = 4,
) -> "Axes":
    """Axes of the extent of an image, with the image in them where it is given, and a scale bar."""
    low, high = _extent(positions, image)
    shape = int(high[0] - low[0]), int(high[1] - low[1])
    axes = map_axes(shape, pixel_size_nm, n_motifs=n) if ax is None else ax
    if image is not None:
        show_image(axes, image, pixel_size_nm)
    _frame(axes, low, high)
    if pixel_size_nm is not None:
        axes.set_aspect(pixel_size_nm[0] / pixel_size_nm[1])
    axes.set_axis_off()
    colour = "black" if image is None else "white"
    scale_bar(axes, shape[1], None if pixel_size_nm is None else pixel_size_nm[1], colour=colour)
    return axes


def _mark_size(axes: "Axes", positions: np.ndarray, width: float) -> float:
    """Size of marks in points with which they nearly touch."""
    from scipy.spatial import cKDTree

    if len(positions) < 2:
        return 6.0
    apart = float(np.median(cKDTree(positions).query(positions, k=[2])[0]))
    points = axes.get_window_extent().width / figure_of(axes).dpi * 72
    return max(0.9 * apart * points / max(width, 1.0), 1.2)


def _marked(
    positions: np.ndarray,
    classes: np.ndarray,
    names: dict[int, str],
    *,
    title: str,
    image: Any,
    pixel_size_nm: tuple[float, float] | None,
    ax: "Axes | None",
) -> "Axes":
    """Columns marked in the colour of their class, with a legend."""
    kinds = sorted(np.unique(classes).tolist(), key=lambda one: (one < 0, one))
    axes = _axes(positions, image, pixel_size_nm, ax, len(kinds))
    low, high = axes.get_xlim()
    size = 0.6 * _mark_size(axes, positions, abs(high - low))
    for kind in kinds:
        here = classes == kind
        style = motif_style(kind)
        axes.scatter(
            positions[here, 1],
            positions[here, 0],
            s=size**2,
            c=OTHER if kind < 0 else style.colour,
            marker="." if kind < 0 else style.marker,
            linewidths=0,
            label="none" if kind < 0 else names.get(kind, f"{kind}"),
            rasterized=len(positions) > _VECTORS,
        )
    for handle in side_legend(axes, title=title).legend_handles:
        if handle is not None:
            handle.set_sizes([45.0])  # type: ignore[attr-defined]
    return axes


def _wheel(axes: "Axes", words: str) -> None:
    """A colour wheel beside a map: which colour is which direction."""
    wheel = axes.inset_axes((1.02, 0.72, 0.2, 0.2))
    y, x = np.mgrid[1:-1:101j, -1:1:101j]
    colours = colour_of_angle(np.arctan2(y, x).ravel()).reshape(101, 101, 4)
    radius = np.hypot(x, y)
    colours[..., 3] = (radius < 1) & (radius > 0.35)
    wheel.imshow(colours, extent=(-1, 1, -1, 1))
    wheel.set_axis_off()
    axes.text(1.02, 0.68, words, transform=axes.transAxes, fontsize=8, va="top")
