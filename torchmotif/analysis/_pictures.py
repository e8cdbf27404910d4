"""What a result draws: in a notebook, on axes of others, and for its folder."""

from typing import TYPE_CHECKING

import numpy as np

from torchmotif import plot
from torchmotif.analysis._cell import cell_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from torchmotif.columns import Columns
    from torchmotif.image import Micrograph
    from torchmotif.lattice import SiteTable
    from torchmotif.names import Names

__all__ = ["Pictures"]


class Pictures:
    """The part of a result that draws."""

    image: "Micrograph"
    columns: "Columns"
    templates: np.ndarray
    names: "Names | None"

    if TYPE_CHECKING:

        @property
        def counts(self) -> np.ndarray: ...

        @property
        def groups(self) -> np.ndarray: ...

        @property
        def motif_names(self) -> list[str | None] | None: ...

        @property
        def n_motifs(self) -> int: ...

        @property
        def sites(self) -> "SiteTable": ...

        @property
        def _zoom(self) -> float: ...

    def plot_map(self, ax: "Axes | None" = None) -> "Axes":
        """The image with every column in the colour of its motif, or of its name; see `torchmotif.plot.motif_map`."""
        return plot.motif_map(
            self.image.measured(),
            *self._marked(),
            spacing=self.columns.spacing,
            names=None if self.names is None else list(self.names.counts),
            pixel_size_nm=self.image.pixel_size_nm,
            ax=ax,
        )

    def plot_sites(self, ax: "Axes | None" = None) -> "Axes":
        """The image with every site in the colour of its occupancy, see `torchmotif.plot.occupancy_map`."""
        return plot.occupancy_map(
            self.image.measured(),
            self.sites.positions,
            self.sites.occupancy,
            self.sites.states,
            spacing=self.columns.spacing,
            pixel_size_nm=self.image.pixel_size_nm,
            ax=ax,
        )

    def _marked(self) -> tuple[np.ndarray, np.ndarray]:
        """Places and groups of what a map shows: columns by motif; or columns and empty sites by name, the most frequent 0."""
        if self.names is None:
            return self.columns.positions, self.groups
        rank = {name: k for k, name in enumerate(self.names.counts)}
        order = np.array([*(rank.get(name, -1) for name in self.names.kinds), -1])
        places = np.concatenate([self.columns.positions, self.names.empty_positions])
        return places, order[np.concatenate([self.names.columns, self.names.empty])]

    def plot_motifs(self, figure: "Figure | SubFigure | None" = None) -> "list[Axes]":
        """The mean patch of every motif with its count, see `torchmotif.plot.motif_gallery`."""
        nm = self.image.pixel_size_nm
        return plot.motif_gallery(
            self.templates,
            self.counts,
            n_columns=len(self.columns),
            names=self.motif_names,
            pixel_size_nm=None if nm is None else (nm[0] * self._zoom, nm[1] * self._zoom),
            figure=figure,
        )

    def _repr_html_(self) -> str:
        """Draw the motifs and the map in a notebook cell."""
        figures = self._figures()
        return cell_of(self, figures["motifs"], figures["map"])

    def _figures(self) -> "dict[str, Figure]":
        """The pictures, without pyplot: no window, nothing to close."""
        from matplotlib.figure import Figure

        rows, columns = plot.gallery_grid(self.n_motifs)
        motifs = Figure(figsize=(1.9 * columns, 2.25 * rows), dpi=150)
        # Each a square of 1.8 inches with room for its title: to have it laid out takes as long as to draw it.
        motifs.subplots_adjust(0.0, 0.0, 1.0, 1 - 0.45 / (2.25 * rows), wspace=0.1 / 1.8, hspace=0.45 / 1.8)
        self.plot_motifs(motifs)
        chart = Figure(dpi=150)
        n_motifs = len(np.unique(self._marked()[1]))
        self.plot_map(
            plot.map_axes(self.image.shape, self.image.pixel_size_nm, n_motifs=n_motifs, figure=chart)
        )
        return {"motifs": motifs, "map": chart}

    def _site_figure(self) -> "Figure":
        """The map of the occupancy."""
        from matplotlib.figure import Figure

        chart = Figure(dpi=150)
        self.plot_sites(plot.map_axes(self.image.shape, self.image.pixel_size_nm, n_motifs=4, figure=chart))
        return chart
