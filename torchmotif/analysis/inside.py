"""What the columns do inside a motif: displacement, polarisation, strain, grains and finer classes of a result."""

import warnings
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from torchmotif import plot
from torchmotif.errors import InputError, TorchMotifWarning
from torchmotif.lattice import Displacements, Grains, LatticeStrain, Layers
from torchmotif.lattice._errors import levels_of, measured
from torchmotif.lattice._local import Points
from torchmotif.lattice.alternation import chessboard
from torchmotif.lattice.deformation import lattice_strain
from torchmotif.lattice.dislocations import Dislocations, find_dislocations
from torchmotif.lattice.displacement import Reference, displacements_within, joined
from torchmotif.lattice.field import ColumnField, of_columns
from torchmotif.lattice.layers import find_layers
from torchmotif.lattice.linked import find_grains
from torchmotif.motifs import FinerClasses, finer_classes

if TYPE_CHECKING:
    from torchmotif.columns import Columns
    from torchmotif.image import Micrograph
    from torchmotif.lattice import Sites

__all__ = ["Inside", "write_inside"]

Flags = NDArray[np.bool_]
Selection = Any  # a motif or sublattice, several of them, or a boolean array


# Widths within which columns share information, as in `columns._fit`, and spacings within which neighbours are. Nearer to the border,
# a column beyond it moves those of simulated MoSe2 by up to 0.2 px.
_SHARED, _NEIGHBOUR = 5.0, 1.25
# The same for strain and lattice constants: columns next to those move with them, and the next ones a little. Mean strain of 400 x 400 px of
# MoSe2 at 1 electron per pixel, 40 draws, along rows and columns, each +- 0.005 %: -0.006 and -0.012 % with 7.5 widths and 1.9 spacings,
# -0.004 and -0.001 % with these, -0.003 and +0.005 % with 12.5 and 3.2.
_SHARED_FAR, _NEIGHBOUR_FAR = 9.5, 2.4


class Inside:
    """The part of a result that says what columns do inside their motifs. It needs no pixels."""

    image: "Micrograph"
    columns: "Columns"
    labels: np.ndarray

    if TYPE_CHECKING:

        @property
        def _sublattices(self) -> "Sites":
            """The sublattices of the motifs."""

    def displacements(
        self,
        of: Selection = None,
        within: Selection = None,
        *,
        radius: float | None = None,
        reference: Reference = "centre",
    ) -> Displacements:
        """How far columns are from where the lattice around them puts them, with errors.

        Parameters
        ----------
        of : int, sequence of int, or boolean array of shape (n,), optional
            The columns to look at: a sublattice by its motif, another motif, several of them, or a choice of columns. By default all on
            sublattices, each in its own.
        within : int, sequence of int, or boolean array of shape (n,), optional
            The columns that make the lattice; by default the sublattice that the columns sit on.
        radius : float, optional
            Of the local fits in pixels; by default 1.65 translations.
        reference : {"centre", "mean"}
            Zero is the middle of the cage in the lattice of `within`, or the mean place of all columns in such a middle.

        Returns
        -------
        Displacements
            Of columns at the image's border, with saturated pixels, or whose neighbours do not suffice there is none.

        Raises
        ------
        InputError
            If a choice names no columns, they form no lattice, or the columns were not fitted and have no errors.
        """
        points, scale = self._points
        options: dict[str, Any] = {
            "scale": scale,
            "radius": None if radius is None else radius * scale[1],
            "reference": reference,
            "pixel_size_nm": self.image.pixel_size_nm,
            "grains": self._grain_of_each,
        }
        if of is not None:
            chosen = self._chosen(of, "of")
            host = self._chosen(within, "within") if within is not None else self._host_of(chosen)
            return displacements_within(points, chosen, host, **options)
        if within is not None:
            raise InputError("within needs of: name the columns whose displacement is wanted")
        sublattice, well = self._sublattice, points.group >= 0
        # Of sublattices with too few columns that were measured well, such as oxygen beside heavy columns, nothing can be said.
        numbers = [
            one
            for one in np.unique(sublattice[sublattice >= 0]).tolist()
            if (well & (sublattice == one)).sum() > 8
        ]
        if not numbers:
            raise InputError(
                "no motif makes a sublattice of more than 8 columns that were measured well, so there is no lattice to be displaced in"
            )
        parts, refused = [], []
        # One sublattice without a lattice of its own is no reason to have none of the others.
        for one in numbers:
            try:
                parts.append(displacements_within(points, *[sublattice == one] * 2, **options))
            except InputError as error:
                refused.append(error)
        if not parts:
            raise refused[0]
        return joined(parts)

    def polarisation(
        self, of: Selection = None, within: Selection = None, *, radius: float | None = None
    ) -> Displacements:
        """Displacement of a cation from the middle of its cage, with significance for each cell: what polarisation is told from.

        Parameters
        ----------
        of, within
            As for `displacements`; by default the second brightest sublattices within the brightest, in perovskites B within A; of one
            square lattice the darker of the columns that alternate within the brighter.
        radius : float, optional

        Returns
        -------
        Displacements
            Times a Born effective charge over `cell_area` and the height of a cell, they are the polarisation.

        Raises
        ------
        InputError
            As `displacements`; or if a default is wanted and there are fewer than two sublattices.
        """
        if of is None or within is None:
            levels: list[Any] = self._levels()
            if len(levels) < 2 and any(grain.fold == 4 for grain in self.grains.grains):
                halves = chessboard(self.grains, np.asarray(self.columns.intensities, np.float64))
                levels = [halves == side for side in (0, 1) if (halves == side).any()]
            if len(levels) < 2:
                raise InputError(
                    "polarisation needs columns within cages of others, as Ti within Sr, and this crystal shows one sublattice whose places were measured: "
                    "displacements() has what columns do within their own; or say which columns are meant with of and within, or look for weaker "
                    "columns with a lower threshold, or with guided=False"
                )
            within = levels[0] if within is None else within
            of = levels[1] if of is None else of
        return self.displacements(of, within, radius=radius)

    def strain(self, reference: Any = "mean", *, radius: float | None = None) -> LatticeStrain:
        """Strain and rotation of the lattice around each column, with errors.

        Parameters
        ----------
        reference : "mean", int, mapping, or boolean array of shape (n,)
            What is unstrained: the mean lattice of each grain, that of one grain, lattice constants such as
            ``{"a_nm": 0.3289, "gamma_deg": 120}``, or the mean lattice of some columns.
        radius : float, optional
            Within which columns make a fit, in pixels; by default 1.65 translations, the first shell of each sublattice. Errors
            fall with its square, and what is finer than it is averaged.

        Returns
        -------
        LatticeStrain

        Raises
        ------
        InputError
            If there is no lattice, or the reference is none of these or needs a pixel size that is not known.
        """
        points, scale = self._points
        return lattice_strain(
            points,
            self.grains,
            reference=reference,
            radius=radius,
            scale=scale,
            pixel_size_nm=self.image.pixel_size_nm,
        )

    def intensities(self, of: Selection = None) -> ColumnField:
        """How bright columns are, with errors, for means and profiles along a direction or with the distance from a boundary.

        Parameters
        ----------
        of : int, sequence of int, or boolean array of shape (n,), optional
            The columns to look at, as of `displacements`; by default all. Take one sublattice at a time: means over unlike columns
            follow how many of each there are.

        Returns
        -------
        ColumnField
            One component, in the units of `Columns.intensities`. Columns cut off by the border or saturated have none.

        Raises
        ------
        InputError
            If a choice names no columns, or the columns were not fitted and have no errors.
        """
        columns = self.columns
        if columns.intensity_errors is None:
            raise InputError("the columns were not fitted and have no errors: find them with refine=True")
        rows = np.flatnonzero(np.ones(len(self.labels), bool) if of is None else self._chosen(of, "of"))
        bright, errors = (
            np.asarray(one, np.float64) for one in (columns.intensities, columns.intensity_errors)
        )
        good = np.isfinite(bright) & np.isfinite(errors) & (errors > 0)
        for flags in (columns.is_rim, columns.is_saturated):
            if flags is not None:
                good &= ~np.asarray(flags, bool)
        return of_columns(
            rows,
            np.asarray(columns.positions, np.float64)[rows],
            np.where(good, bright, np.nan)[rows],
            np.where(good, errors, 0.0),
            "intensity",
        )

    @cached_property
    def grains(self) -> Grains:
        """Columns grouped by lattice and orientation, with lattice constants, boundaries and misorientations."""
        points, scale = self._points
        found = find_grains(
            points,
            np.asarray(self.columns.intensities, np.float64),
            self.columns.spacing * scale[1],
            scale=scale,
            pixel_size_nm=self.image.pixel_size_nm,
            on_sites=self._sublattice >= 0,
        )
        for said in found.warnings:
            warnings.warn(said, TorchMotifWarning, stacklevel=2)
        return found

    @cached_property
    def layers(self) -> Layers:
        """Two lattices over one another, such as the layers of a twisted bilayer: which columns each has, and the twist.

        Raises
        ------
        InputError
            If there is one lattice only, or two lie side by side, which are `grains`.
        """
        points, scale = self._points
        return find_layers(
            points, self.columns.spacing * scale[1], scale=scale, pixel_size_nm=self.image.pixel_size_nm
        )

    @cached_property
    def dislocations(self) -> Dislocations:
        """Where circuits on the lattice of a grain do not close, with their Burgers vectors."""
        points, scale = self._points
        return find_dislocations(
            points,
            self.grains,
            scale=scale,
            pixel_size_nm=self.image.pixel_size_nm,
        )

    def split(
        self,
        motif: Selection,
        by: Literal["strain", "rotation", "displacement", "polarisation"] | ColumnField = "strain",
        *,
        min_evidence: float = 10.0,
        min_detectability: float = 2.0,
        max_valley: float = 0.2,
    ) -> FinerClasses:
        """Classes within a motif that strain or displacement makes, as far as its errors support them; a continuum is not cut.

        Parameters
        ----------
        motif : int, sequence of int, or boolean array of shape (n,)
        by : {"strain", "rotation", "displacement", "polarisation"} or ColumnField
            What tells them apart: `strain` or the rotation of the lattice, `displacements` of the motif in its own lattice (where domains
            that are displaced as a whole show at their walls only), its `polarisation` in the cages of the brightest columns, or a field
            that was made before.
        min_evidence, min_detectability, max_valley
            As of `MotifClassifier`: evidence for two, distance in standard deviations of one column, and density between two
            relative to the lower peak.

        Returns
        -------
        FinerClasses

        Raises
        ------
        InputError
            If the motif has too few columns with a value, or `by` is none of these.
        """
        chosen = self._chosen(motif, "motif")
        field, components = self._field_of(chosen, by)
        taken = chosen[field.columns] & field.known
        return finer_classes(
            field,
            taken,
            len(self.labels),
            components=components,
            min_evidence=min_evidence,
            min_detectability=min_detectability,
            max_valley=max_valley,
        )

    def _field_of(self, chosen: Flags, by: Any) -> tuple[ColumnField, tuple[int, ...]]:
        """The field that is to be split, and which of its components."""
        if isinstance(by, ColumnField):
            return by, tuple(range(by.values.shape[1]))
        if by == "displacement":
            return self.displacements(chosen, reference="mean"), (0, 1)
        if by == "polarisation":
            return self.polarisation(chosen), (0, 1)
        if by in {"strain", "rotation"}:
            return self.strain(), (0, 1, 2) if by == "strain" else (3,)
        raise InputError(
            f"by must be 'strain', 'rotation', 'displacement', 'polarisation' or a field of columns, got {by!r}"
        )

    def inside_table(self) -> dict[str, NDArray[Any]]:
        """What grain each column is in and, where there are two layers, on which it is and whether both have it; empty without a lattice.

        Returns
        -------
        dict of arrays of shape (n,)
            grain, layer: -1 for none; both_layers.
        """
        found: dict[str, NDArray[Any]] = {}
        if self._grain_of_each is not None:
            found["grain"] = self._grain_of_each
        layers = self.layers_if_any
        if layers is not None:
            found |= {"layer": layers.labels, "both_layers": layers.shared}
        return found

    @cached_property
    def layers_if_any(self) -> Layers | None:
        """What tables and the report say of `layers`: None where there are none, or where `grains` explain the columns without a warning."""
        try:  # 100,000 columns of one lattice would take 20 s to say that they have no second
            return self.layers if self._grain_of_each is None or self.grains.warnings else None
        except InputError:
            return None

    @property
    def _sublattice(self) -> NDArray[np.int64]:
        """Sublattice of each column, -1 for none."""
        return np.asarray(self._sublattices.columns, np.int64)

    @cached_property
    def _points(self) -> tuple[Points, NDArray[np.float64]]:
        """The columns in pixels that are square, and by how much they were stretched along (row, col)."""
        columns = self.columns
        if columns.position_errors is None:
            raise InputError("the columns were not fitted and have no errors: find them with refine=True")
        size = np.array(self.image.pixel_size_nm or (1.0, 1.0))
        scale = size / np.sqrt(size.prod())
        variance = np.asarray(columns.position_errors, np.float64) ** 2 * scale**2
        good = np.isfinite(variance).all(axis=1) & (variance > 0).all(axis=1)
        fixed = columns.is_predicted if columns.is_fixed is None else columns.is_fixed
        beside = self._beside_unseen(_SHARED, _NEIGHBOUR)
        for flags in (columns.is_rim, columns.is_saturated, fixed, beside):
            if flags is not None:
                good &= ~np.asarray(flags, bool)
        group = np.where(good, self._sublattice, -1)
        variance = np.where(good[:, None], variance, 1.0)
        place, bright = (np.asarray(one, np.float64) for one in (columns.positions, columns.intensities))
        sites = self._sublattices
        known = None if sites.bases is None else (sites.bases * scale, np.asarray(sites.lattice, np.int64))
        found = measured(place * scale, variance, group, bright, known)
        return replace(found, moved=self._beside_unseen(_SHARED_FAR, _NEIGHBOUR_FAR)), scale

    @property
    def _grain_of_each(self) -> NDArray[np.int64] | None:
        """Grain of each column, None where no lattice is found."""
        try:
            return self.grains.labels
        except InputError:
            return None

    def _beside_unseen(self, widths: float, spacings: float) -> Flags | None:
        """Columns so near to the border, or to pixels that were not measured, that columns beyond draw them aside unseen.

        Nearer than so many widths, and than so many spacings.
        """
        columns, mask = self.columns, self.image.mask
        if columns.width is None:
            return None
        far = np.minimum(widths * np.array(columns.width), spacings * columns.spacing)
        angle = np.arange(8) * np.pi / 4
        around = np.stack([np.sin(angle), np.cos(angle)], axis=1) * far
        place = np.rint(np.asarray(columns.positions, np.float64)[:, None] + around).astype(np.int64)
        last = np.array(self.image.shape) - 1
        unseen = ((place < 0) | (place > last)).any(axis=2)
        if mask is not None:
            row, col = np.moveaxis(place.clip(0, last), 2, 0)
            unseen |= np.asarray(mask, bool)[row, col]
        return np.asarray(unseen.any(axis=1), bool)

    def _chosen(self, selection: Selection, name: str) -> Flags:
        """Which columns a selection names."""
        array = np.asarray(selection)
        if array.dtype == bool:
            if array.shape != (len(self.labels),):
                raise InputError(
                    f"{name} must hold True or False for each of {len(self.labels)} columns, got shape {array.shape}"
                )
            found = array
        elif array.dtype.kind in "iu" and array.ndim <= 1:
            sublattice, found = self._sublattice, np.zeros(len(self.labels), bool)
            for number in np.atleast_1d(array).tolist():
                made = sublattice == number
                found |= made if made.any() else self.labels == number
        else:
            raise InputError(
                f"{name} must be the number of a motif, several of them, or a boolean array over columns, got {selection!r}"
            )
        if not found.any():
            made = np.unique(self._sublattice[self._sublattice >= 0]).tolist()
            raise InputError(f"{name} names no column, got {selection!r}; the sublattices are {made}")
        return found

    def _host_of(self, chosen: Flags) -> Flags:
        """The sublattice that most of the chosen columns sit on."""
        on = self._sublattice[chosen]
        if not (on >= 0).any():
            raise InputError("the columns of `of` sit on no sublattice: name that of their cages with within")
        return np.asarray(self._sublattice == np.bincount(on[on >= 0]).argmax(), bool)

    def _levels(self) -> list[list[int]]:
        """Sublattices of like brightness, the brightest first: domains may have made several of one place in the cell.

        Those of which no column was measured well enough, such as ones too faint for a fit of their place, are left out.
        """
        measured_well = np.unique(self._points[0].group)
        sublattice = self._sublattice
        group = np.where(np.isin(sublattice, measured_well), sublattice, -1)
        return levels_of(group, np.asarray(self.columns.intensities, np.float64))


def write_inside(result: Any, folder: Path) -> None:
    """Write tables and pictures of layers, grains, strain and displacement into a folder.

    Parameters
    ----------
    result : MotifResult
    folder : Path
        Which is there.

    Raises
    ------
    InputError
        If the columns form no lattice; layers are written before.
    """
    from matplotlib.figure import Figure

    image, size = result.image.measured(), result.image.pixel_size_nm
    layers = result.layers_if_any
    if layers is not None:
        layers.to_dataframe().to_csv(folder / "layers.csv", index=False)
        figure = Figure(dpi=150)
        axes = plot.map_axes(image.shape, size, n_motifs=4, figure=figure)
        plot.layer_map(layers, image=image, pixel_size_nm=size, ax=axes)
        figure.savefig(folder / "layers.png", dpi=150, bbox_inches="tight")
    grains, strain, shift = result.grains, result.strain(), result.displacements()
    shifts = {"displacement": shift}
    with suppress(InputError):  # of crystals with one sublattice
        shifts["polarisation"] = result.polarisation()
    tables = {
        "grains": grains.to_dataframe(),
        "boundaries": grains.boundaries,
        "dislocations": result.dislocations.to_dataframe(),
        "strain": strain.to_dataframe(),
    } | {name: one.to_dataframe() for name, one in shifts.items()}
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    figures = {name: Figure(dpi=150) for name in ("grains", *shifts)}
    maps = {
        name: plot.map_axes(image.shape, size, n_motifs=len(grains), figure=figure)
        for name, figure in figures.items()
    }
    plot.grain_map(
        grains, image=image, dislocations=result.dislocations, pixel_size_nm=size, ax=maps["grains"]
    )
    for name, one in shifts.items():
        if one.known.any():
            plot.displacement_map(one, image=image, ax=maps[name])
    figures["strain"] = Figure(figsize=(10, 8), dpi=150, layout="constrained")
    plot.strain_map(strain, image=image, figure=figures["strain"], pixel_size_nm=size)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=150, bbox_inches="tight")
