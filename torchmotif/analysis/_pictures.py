"""What a result draws: in a notebook, on axes of others, and for its folder."""

from typing import TYPE_CHECKING, Any

import numpy as np

from torchmotif import plot
from torchmotif.analysis._cell import cell_of
from torchmotif.plot._sheets import sheet

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
    labels: np.ndarray

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
        return plot.motif_map(**self._map_drawn(), ax=ax)

    def plot_sites(self, ax: "Axes | None" = None) -> "Axes":
        """The image with every site in the colour of its occupancy, see `torchmotif.plot.occupancy_map`."""
        return plot.occupancy_map(**self._sites_drawn(), ax=ax)

    def plot_motifs(self, figure: "Figure | SubFigure | None" = None) -> "list[Axes]":
        """The mean patch of every motif with its count, see `torchmotif.plot.motif_gallery`."""
        return plot.motif_gallery(**self._motifs_drawn(), figure=figure)

    def _map_drawn(self) -> dict[str, Any]:
        """What the map draws, as arguments of its function and of its sheet."""
        positions, labels = self._marked()
        return {
            "image": self.image.measured(),
            "positions": positions,
            "labels": labels,
            "spacing": self.columns.spacing,
            "names": self._called(),
            "pixel_size_nm": self.image.pixel_size_nm,
        }

    def _sites_drawn(self) -> dict[str, Any]:
        return {
            "image": self.image.measured(),
            "positions": self.sites.positions,
            "occupancy": self.sites.occupancy,
            "states": self.sites.states,
            "spacing": self.columns.spacing,
            "pixel_size_nm": self.image.pixel_size_nm,
        }

    @property
    def looks(self) -> dict[str, int] | None:
        """The motif whose colour, marker and hatching each name has in all pictures, None without names; `torchmotif.plot` takes it."""
        return None if self.names is None else self.names.looks(self.labels, self.n_motifs)

    def _called(self) -> list[str] | None:
        """What a legend calls each look of names; "" where no name has it."""
        looks = self.looks
        if looks is None:
            return None
        names = {look: name for name, look in looks.items()}
        return [names.get(look, "") for look in range(max(names, default=-1) + 1)]

    def _motifs_drawn(self) -> dict[str, Any]:
        nm = self.image.pixel_size_nm
        return {
            "templates": self.templates,
            "counts": self.counts,
            "n_columns": len(self.columns),
            "names": self.motif_names,
            "pixel_size_nm": None if nm is None else (nm[0] * self._zoom, nm[1] * self._zoom),
        }

    def _marked(self) -> tuple[np.ndarray, np.ndarray]:
        """Places and groups of what a map shows: columns by motif; or columns and empty sites by the looks of their names."""
        looks = self.looks
        if self.names is None or looks is None:
            return self.columns.positions, self.groups
        order = np.array([*(looks.get(name, -1) for name in self.names.kinds), -1])
        places = np.concatenate([self.columns.positions, self.names.empty_positions])
        return places, order[np.concatenate([self.names.columns, self.names.empty])]

    def _repr_html_(self) -> str:
        """Draw the motifs and the map in a notebook cell."""
        return cell_of(self, sheet("motifs", self._motifs_drawn()), sheet("map", self._map_drawn()))
