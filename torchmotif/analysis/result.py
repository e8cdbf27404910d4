"""MotifResult: what an analysis gives, shown in notebooks, saved to a folder and loaded again."""

import base64
import io
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from torchmotif import plot
from torchmotif._files import new_folder
from torchmotif.analysis._saved import read_saved, write_saved
from torchmotif.analysis.assemblies import HOLE
from torchmotif.analysis.inside import Inside, write_inside
from torchmotif.columns import Columns
from torchmotif.errors import ReadError
from torchmotif.hierarchy import MotifHierarchy
from torchmotif.image import Micrograph
from torchmotif.lattice import Sites, brightness_at, find_sites
from torchmotif.patches import MOST_HIDDEN, hidden_share, inside
from torchmotif.plane_graph import PlaneGraph
from torchmotif.plot.style import AT_RIM
from torchmotif.report import write_report
from torchmotif.report.pixels import finite
from torchmotif.zernike import ZernikeBasis

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

__all__ = ["RECORD", "MotifResult", "png"]

RECORD = "run.json"


@dataclass(frozen=True, eq=False)
class MotifResult(Inside):
    """The motifs of one image.

    Attributes
    ----------
    image : Micrograph
        The image that was analysed.
    columns : Columns
        Its n atomic columns.
    labels : array of shape (n,), int64
        Motif of every column, 0 the most frequent; -1 for a column that fits none, or whose patch reaches over
        the image's rim.
    probabilities : array of shape (n,), float64
        Probability of that motif; 0 where the label is -1.
    templates : array of shape (n_motifs, s, s), float32
        Mean patch of every motif, in the image's units.
    record : dict
        Parameters, seed, versions, input and timings: how it was made.
    angles : array of shape (n,), float64, optional
        By how many radians the motif is turned counter-clockwise to lie on each column, where motifs were sorted up to
        rotation (`equivalence`); NaN for columns without a motif.
    mirrored : array of shape (n,), bool, optional
        Whether it is mirrored before, where they were sorted up to mirror images too.
    """

    image: Micrograph
    columns: Columns
    labels: np.ndarray
    probabilities: np.ndarray
    templates: np.ndarray
    record: dict[str, Any] = field(default_factory=dict)
    angles: np.ndarray | None = None
    mirrored: np.ndarray | None = None

    @property
    def warnings(self) -> list[str]:
        """What the self-check found doubtful, each with what to do."""
        return list(self.record.get("warnings", []))

    @property
    def whole(self) -> np.ndarray:
        """Which columns have a whole patch in what was measured, and so a motif or none for good reason; shape (n,), bool."""
        size = math.ceil(self.templates.shape[-1] * self._zoom)
        whole = np.asarray(inside(self.columns.positions, self.image.shape, size), bool)
        return whole & (self._hidden_around(self.columns.positions, size) <= MOST_HIDDEN)

    def _hidden_around(self, positions: np.ndarray, size: int) -> np.ndarray:
        """Share of the pixels in windows around positions that were not measured."""
        hidden = ~np.isfinite(self.image.measured())
        if not hidden.any():
            return np.zeros(len(positions))
        return np.asarray(hidden_share(positions, torch.from_numpy(hidden), size))

    @cached_property
    def moments(self) -> np.ndarray:
        """Zernike moments of every column, shape (n, k), of pixels less a constant; NaN without a whole patch."""
        size = self.templates.shape[-1]
        n_max = self.record.get("found", {}).get("n_max", 10)
        pixels = finite(self.image)
        basis = ZernikeBasis(min(int(n_max), size // 2), size)
        found = basis.project(pixels - pixels.mean(), self.columns.positions, outside="mask")
        return np.where(self.whole[:, None], found, np.float32(np.nan))

    @cached_property
    def graph(self) -> PlaneGraph:
        """Which columns with a whole patch are neighbours, labelled with their motifs."""
        whole, hidden = self.whole, not np.isfinite(self.image.measured()).all()
        return PlaneGraph.from_positions(
            self.columns.positions[whole], self.labels[whole], max_face=HOLE if hidden else None
        )

    @property
    def _zoom(self) -> float:
        """Pixels of the image per pixel of a template: 1 unless images of other pixel sizes were learnt with it."""
        return float(self.record.get("found", {}).get("zoom", 1.0))

    @property
    def groups(self) -> np.ndarray:
        """Motif of every column, -1 for one that is unlike all, -2 for one at the rim; shape (n,), int64."""
        return np.where((self.labels < 0) & ~self.whole, AT_RIM, self.labels)

    @cached_property
    def sites(self) -> Sites:
        """The sublattices that frequent motifs make, and which of them each column and motif sits on or between."""
        return find_sites(self.columns.positions, self.labels, self.columns.spacing, self.n_motifs)

    def empty_sites(self) -> "pd.DataFrame":
        """Sites of the sublattices within the image where no column was found: whole columns that are missing.

        Returns
        -------
        pandas.DataFrame
            row_px, col_px; row_nm, col_nm where the image is calibrated; site, the motif whose sublattice it is of;
            brightness, 0 as in the gaps around and 1 as on that sublattice around: the nearer to 0, the surer. The darkest of
            the most frequent sublattice come first.
        """
        return self._empty.copy()

    @cached_property
    def _empty(self) -> "pd.DataFrame":
        import pandas as pd

        margin = self.columns.spacing / 2  # nearer to the rim a column may be there and not be found
        place = self.sites.empty
        within = ((place > margin) & (place < np.array(self.image.shape) - 1 - margin)).all(axis=1)
        within &= self._hidden_around(place, 2 * math.ceil(margin) + 1) == 0
        place, site = place[within], self.sites.empty_of[within]
        bright = np.full(len(place), np.nan)
        for motif in np.unique(site):
            hosts = self.columns.positions[self.labels == motif]
            here = site == motif
            bright[here] = brightness_at(self.image.measured(), place[here], hosts, self.columns.spacing)
        table = pd.DataFrame(self._places(place) | {"site": site, "brightness": bright})
        return table.sort_values(["site", "brightness"], ignore_index=True)

    @cached_property
    def hierarchy(self) -> MotifHierarchy:
        """Groups of up to three neighbouring motifs, counted when they are first asked for.

        Columns whose patch reaches over the image's rim are left out, since their motif is not known: node i of
        ``hierarchy.graph_`` is column ``np.flatnonzero(result.whole)[i]``.
        """
        return MotifHierarchy(3).fit(self.graph)

    @property
    def n_motifs(self) -> int:
        """Number of motifs."""
        return len(self.templates)

    @property
    def counts(self) -> np.ndarray:
        """Columns in every motif, shape (n_motifs,)."""
        return np.bincount(self.labels + 1, minlength=self.n_motifs + 1)[1:]

    def to_dataframe(self) -> "pd.DataFrame":
        """One row for each column: where it is, how bright, which motif.

        Returns
        -------
        pandas.DataFrame
            row_px, col_px; row_nm, col_nm where the image is calibrated; intensity, motif, probability; site, the motif
            on whose sublattice the column sits, -1 between the sites (see `sites`); at_rim, whether it has no motif because its
            patch is cut off there; angle_deg where motifs were sorted up to rotation, and mirrored where up to mirror images too.
        """
        import pandas as pd

        table = self._places(self.columns.positions) | {
            "intensity": self.columns.intensities,
            "motif": self.labels,
            "probability": self.probabilities,
            "site": self.sites.columns,
            "at_rim": self.groups == AT_RIM,
        }
        if self.angles is not None:
            table["angle_deg"] = np.degrees(self.angles)
        if self.mirrored is not None:
            table["mirrored"] = self.mirrored
        return pd.DataFrame(table)

    def _places(self, positions: np.ndarray) -> dict[str, np.ndarray]:
        """Columns of a table that say where something is."""
        table = {"row_px": positions[:, 0], "col_px": positions[:, 1]}
        if self.image.pixel_size_nm is not None:
            row_nm, col_nm = self.image.pixel_size_nm
            table |= {"row_nm": positions[:, 0] * row_nm, "col_nm": positions[:, 1] * col_nm}
        return table

    def plot_map(self, ax: "Axes | None" = None) -> "Axes":
        """The image with every column in the colour of its motif, see `torchmotif.plot.motif_map`."""
        return plot.motif_map(
            self.image.measured(),
            self.columns.positions,
            self.groups,
            spacing=self.columns.spacing,
            pixel_size_nm=self.image.pixel_size_nm,
            ax=ax,
        )

    def plot_motifs(self, figure: "Figure | SubFigure | None" = None) -> "list[Axes]":
        """The mean patch of every motif with its count, see `torchmotif.plot.motif_gallery`."""
        nm = self.image.pixel_size_nm
        return plot.motif_gallery(
            self.templates,
            self.counts,
            n_columns=len(self.columns),
            pixel_size_nm=None if nm is None else (nm[0] * self._zoom, nm[1] * self._zoom),
            figure=figure,
        )

    def report(self, path: str | Path) -> None:
        """Write everything on one page, a single HTML file that needs no network; see `torchmotif.report`.

        Parameters
        ----------
        path : str or Path
            File to write; one that is there already is replaced.

        Raises
        ------
        OutputError
            If it cannot be written.
        """
        write_report(self, Path(path))

    def save(
        self, folder: str | Path, *, overwrite: bool = False, report: bool = True, inside: bool = False
    ) -> None:
        """Write everything to a folder, which is either whole or not there.

        Parameters
        ----------
        folder : str or Path
        overwrite : bool
            Replace a folder of results that is there already.
        report : bool
            Write report.html as well, which takes a few seconds.
        inside : bool
            Write what the columns do inside their motifs as well: displacement.csv, strain.csv, grains.csv, boundaries.csv,
            dislocations.csv, and pictures of them.

        Raises
        ------
        OutputError
            If the folder exists and is not to be replaced, or cannot be written.
        InputError
            If `inside` is asked for where the columns form no lattice.

        Notes
        -----
        For people: report.html, columns.csv, empty_sites.csv, motifs.png, map.png. For `load`, to the last bit: templates.safetensors,
        arrays.safetensors, run.json. Nothing is pickled.
        """
        with new_folder(Path(folder), RECORD, overwrite=overwrite) as new:
            self.to_dataframe().to_csv(new / "columns.csv", index=False)
            self.empty_sites().to_csv(new / "empty_sites.csv", index=False)
            write_saved(new, RECORD, self)
            for name, figure in self._figures().items():
                figure.savefig(new / f"{name}.png", dpi=200, bbox_inches="tight")
            if inside:
                write_inside(self, new)
            if report:
                self.report(new / "report.html")

    @classmethod
    def load(cls, folder: str | Path) -> "MotifResult":
        """Read what `save` wrote.

        Parameters
        ----------
        folder : str or Path

        Returns
        -------
        MotifResult

        Raises
        ------
        ReadError
            If the folder holds no result, or a damaged one, or one of a later version, or links to other files.
        """
        folder = Path(folder)
        if not (folder / RECORD).is_file():
            raise ReadError(f"{folder} holds no torchmotif result: there is no {RECORD} in it")
        return cls(**read_saved(folder, RECORD))

    def __repr__(self) -> str:
        """Say what was found."""
        none = int((self.labels < 0).sum())
        return f"MotifResult({self.n_motifs} motif{'s' * (self.n_motifs != 1)}, {len(self.columns)} columns, {none} of them in no motif)"

    def _repr_html_(self) -> str:
        """Draw the motifs and the map in a notebook cell."""
        names = {"motifs": "mean patch of every motif", "map": "motifs on the image"}
        figures = self._figures()
        pictures = "".join(
            f'<img alt="{alt}" style="max-width:100%" src="data:image/png;base64,{png(figures[name])}">'
            for name, alt in names.items()
        )
        return f"<div><p>{self!r}</p>{pictures}</div>"

    def _figures(self) -> "dict[str, Figure]":
        """The pictures, without pyplot: no window, nothing to close."""
        from matplotlib.figure import Figure

        rows, columns = plot.gallery_grid(self.n_motifs)
        motifs = Figure(figsize=(1.9 * columns, 2.35 * rows), dpi=150, layout="constrained")
        self.plot_motifs(motifs)
        chart = Figure(dpi=150)
        n_motifs = len(np.unique(self.groups))
        self.plot_map(
            plot.map_axes(self.image.shape, self.image.pixel_size_nm, n_motifs=n_motifs, figure=chart)
        )
        return {"motifs": motifs, "map": chart}


def png(figure: "Figure") -> str:
    """A figure as text for a page."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, bbox_inches="tight")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
