"""MotifResult: what an analysis gives, shown in notebooks, saved to a folder and loaded again."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from torchmotif._files import new_folder
from torchmotif.analysis._pictures import Pictures
from torchmotif.analysis._png import pictures_in
from torchmotif.analysis._saved import read_saved, write_saved
from torchmotif.analysis._tables import Tables
from torchmotif.analysis.assemblies import HOLE
from torchmotif.analysis.inside import Inside, write_inside
from torchmotif.analysis.naming import Naming
from torchmotif.columns import Columns
from torchmotif.columns.given import model_of
from torchmotif.columns.model import ImageModel
from torchmotif.errors import InputError, ReadError, TorchMotifWarning
from torchmotif.hierarchy import MotifHierarchy
from torchmotif.image import Micrograph
from torchmotif.lattice import Sites, SiteTable, find_sites, occupancy_of
from torchmotif.motifs import Family, find_families
from torchmotif.names import NONE, Names
from torchmotif.names.files import read_names, write_names
from torchmotif.patches import MOST_HIDDEN, hidden_share, inside
from torchmotif.plane_graph import PlaneGraph
from torchmotif.plot.style import AT_RIM
from torchmotif.report import write_report
from torchmotif.report.page import EarlySections
from torchmotif.report.pixels import finite
from torchmotif.zernike import ZernikeBasis

__all__ = ["RECORD", "MotifResult"]

RECORD = "run.json"
_NAMES = "names.safetensors"


@dataclass(frozen=True, eq=False)
class MotifResult(Naming, Inside, Tables, Pictures):
    """The motifs of one image.

    Attributes
    ----------
    image : Micrograph
        The image that was analysed.
    columns : Columns
        Its n atomic columns.
    labels : array of shape (n,), int64
        Motif of every column, 0 the most frequent; -1 for a column that fits none, or of whose patch too little lies within
        the image.
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
    names : Names, optional
        What the columns are called, once `identify` or `like` said so.
    """

    image: Micrograph
    columns: Columns
    labels: np.ndarray
    probabilities: np.ndarray
    templates: np.ndarray
    record: dict[str, Any] = field(default_factory=dict)
    angles: np.ndarray | None = None
    mirrored: np.ndarray | None = None
    names: Names | None = None

    @property
    def warnings(self) -> list[str]:
        """What the self-check found doubtful, each with what to do."""
        return [*self.record.get("warnings", []), *(self.names.warnings if self.names else [])]

    def _image_result(self, image: str | None) -> "tuple[int, MotifResult]":
        """Itself, where it is of the image of that name."""
        name = Path(str(self.image.metadata.get("path", ""))).name
        if image not in {None, "0", name}:
            raise InputError(f"the result is of {name or 'an image without a name'}, not of {image!r}")
        return 0, self

    def _with_names(self, name: "Callable[[int, MotifResult], Names]") -> "MotifResult":
        """The same result with names; what was computed of it is kept."""
        named = replace(self, names=name(0, self))
        by_motif = {"graph", "hierarchy", "_empty", *(item.name for item in fields(self))}
        computed = vars(self).keys() - by_motif
        vars(named).update({key: vars(self)[key] for key in computed})
        return named

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
        """Which columns with a whole patch are neighbours, labelled with their motifs, or with their names where they have some."""
        whole, hidden = self.whole, not np.isfinite(self.image.measured()).all()
        labels = (
            self.labels if self.names is None else np.where(self.names.words == "", NONE, self.names.words)
        )
        return PlaneGraph.from_positions(
            self.columns.positions[whole], labels[whole], max_face=HOLE if hidden else None
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
    def sites(self) -> SiteTable:
        """The sites of the crystal, one row each: place, sublattice, intensity, and how probably full, partly occupied or empty.

        It also says on which sublattice each column and motif sits.
        """
        saved = self.__dict__.get("_saved_sites")
        if saved is not None:
            return SiteTable(**saved, lattice=self._sublattices)
        return occupancy_of(self.image.measured(), self._image_model, self.columns, self._sublattices)

    @cached_property
    def _sublattices(self) -> Sites:
        """The sublattices that frequent motifs make, and which of them each column and motif sits on or between."""
        return find_sites(
            self.columns.positions, self.labels, self.columns.spacing, self.n_motifs, shape=self.image.shape
        )

    @property
    def _image_model(self) -> ImageModel:
        """What the columns have in common, as it was found, or from the image where the record does not say."""
        found = self.record.get("found", {})
        if found.get("model") is not None:
            return ImageModel.from_dict(found["model"])
        row_nm, col_nm = self.image.pixel_size_nm or (1.0, 1.0)
        side = math.sqrt(row_nm * col_nm)
        return model_of(
            torch.from_numpy(np.asarray(self.image.measured(), np.float32)),
            self.columns.spacing,
            (side / row_nm, side / col_nm),
            dark=found.get("polarity") == "dark",
        )

    @cached_property
    def families(self) -> list[Family]:
        """Motifs that are one another turned or mirrored, see `torchmotif.motifs.find_families`."""
        found = self.record.get("found", {})
        # How many there are in all images that were learnt together, so that each of them has the same families.
        known = np.array([number for number, _ in found.get("expected_counts") or ()])
        counts = known if len(known) == len(self.templates) else self.counts
        gain = found.get("electrons_per_count_of_patches", found.get("electrons_per_count"))
        return find_families(self.templates, counts, gain)

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

    @property
    def motif_names(self) -> list[str | None] | None:
        """The name of most columns of each motif, None for none; None where columns have no names."""
        if self.names is None:
            return None
        return [name for name, _ in self.names.of_motifs(self.labels, self.n_motifs)]

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
            Write what the columns do inside their motifs as well: displacement.csv, polarisation.csv where there is a cage,
            strain.csv, grains.csv, boundaries.csv, dislocations.csv, of two layers over one another layers.csv, and pictures of them; columns.csv says the grain, and the
            layer, of each column. Where the columns form no lattice a warning says so, and the rest is written.

        Raises
        ------
        OutputError
            If the folder exists and is not to be replaced, or cannot be written.

        Notes
        -----
        For people: report.html, columns.csv, sites.csv, empty_sites.csv, motifs.png, map.png, sites.png; with names, names.csv and
        composition.csv. For `load`, to the last bit: templates.safetensors, arrays.safetensors, names.safetensors, run.json. Nothing
        is pickled.
        """
        with new_folder(Path(folder), RECORD, overwrite=overwrite) as new, pictures_in(new) as write:
            write("map", self._map_drawn())
            write("motifs", self._motifs_drawn())
            early = EarlySections(self) if report else None
            write("sites", self._sites_drawn())
            table = self.to_dataframe()
            if inside:
                table = table.assign(**self.inside_table())
            table.to_csv(new / "columns.csv", index=False)
            self.sites.to_dataframe(self.image.pixel_size_nm).to_csv(new / "sites.csv", index=False)
            self.empty_sites().to_csv(new / "empty_sites.csv", index=False)
            write_saved(new, RECORD, self)
            if self.names is not None:
                write_names(new / _NAMES, self.names)
                self.names.table().to_csv(new / "names.csv", index=False)
                self.names.composition.to_csv(new / "composition.csv", index=False)
            if inside:
                try:
                    write_inside(self, new)
                except InputError as error:
                    warnings.warn(
                        f"inside: {error}; nothing is written of grains, strain and displacement",
                        TorchMotifWarning,
                        stacklevel=2,
                    )
            if report:
                write_report(self, new / "report.html", early)

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
        saved = read_saved(folder, RECORD)
        sites, names = saved.pop("sites"), folder / _NAMES
        result = cls(**saved)
        if names.exists():
            result = replace(result, names=read_names(names, len(result.columns)))
        result.__dict__["_saved_sites"] = sites  # else the result would make them anew
        return result

    def __repr__(self) -> str:
        """Say what was found."""
        none = int((self.labels < 0).sum())
        return f"MotifResult({self.n_motifs} motif{'s' * (self.n_motifs != 1)}, {len(self.columns)} columns, {none} of them in no motif)"
