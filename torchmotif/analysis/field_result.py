"""FieldResult: what many images, or one of any size, give; of a store, read when something of it is asked for."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from torchmotif.analysis._one_image import record_of, reread
from torchmotif.analysis.assemblies import FieldHierarchy
from torchmotif.analysis.inside import Inside
from torchmotif.analysis.naming import Naming
from torchmotif.analysis.result import MotifResult
from torchmotif.analysis.sources import Source
from torchmotif.analysis.store import keep_names, kept_names, read_record
from torchmotif.columns import Columns
from torchmotif.columns.unmeasured import Unmeasured
from torchmotif.errors import CompositionError, InputError, MissingDependencyError, ReadError
from torchmotif.image import Micrograph, as_micrograph
from torchmotif.motifs import Family, find_families
from torchmotif.names import Names

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FieldResult", "load"]

_PUBLIC = (name for name in (*dir(MotifResult), *MotifResult.__dataclass_fields__) if name[0] != "_")
_OF_ONE = {*_PUBLIC, "_repr_html_"} - {
    "load",
    "record",
}  # what a result of one image has, asked of one of several
_INSIDE = {name for name in Inside.__dict__ if name[0] != "_"}  # what is said without pixels


class _SeveralImagesError(InputError, AttributeError):
    """Asked of a result of several images what only one has."""


def load(store: str | Path) -> "FieldResult":
    """Open a finished store.

    Parameters
    ----------
    store : str or Path

    Returns
    -------
    FieldResult

    Raises
    ------
    ReadError
        If there is no store, it is not finished, of another version, or damaged.
    """
    root = Path(store)
    record = read_record(root)
    if record is None:
        begun = (root / ".work").is_dir()
        state = "is not finished; run the same command again" if begun else "is no field's store"
        raise ReadError(f"{root} {state}")
    return FieldResult(root, record)


class FieldResult(Naming):
    """The motifs of one or several images, in memory or in a zarr group that any zarr library reads.

    ``result[i]`` is the `MotifResult` of one image. Where there is one image, its sites, maps, report and save are those of
    the result itself.

    Attributes
    ----------
    path : Path or None
        The store; None where everything is in memory.
    record : dict
        Parameters, inputs, versions, what was found.
    """

    def __init__(
        self,
        path: Path | None,
        record: dict[str, Any],
        arrays: Mapping[str, np.ndarray] | None = None,
        sources: Sequence[Source] | None = None,
    ) -> None:
        self.path, self.record = path, record
        self._arrays, self._sources = arrays, sources
        self._results: dict[int, MotifResult] = {}
        self._names: dict[int, Names] = {}

    @property
    def group(self) -> Any:
        """The arrays by name: columns/..., moments, labels, probabilities, templates/...; of a store, its zarr group."""
        return self._stored if self._arrays is None else self._arrays

    @cached_property
    def _stored(self) -> Any:
        try:
            import zarr
        except ImportError as error:
            raise MissingDependencyError(
                "stores are read by zarr: pip install 'torchmotif[field]'"
            ) from error
        return zarr.open_group(self.path, mode="r")

    @property
    def images(self) -> list[dict[str, Any]]:
        """What is known of every image: name, shape, pixel_size_nm, spacing, n_columns, group of motifs."""
        found: list[dict[str, Any]] = self.record["images"]
        return found

    def __len__(self) -> int:
        """Count the columns of all images."""
        count: int = self.record["n_columns"]
        return count

    def __repr__(self) -> str:
        """Say what was found."""
        images = f"{len(self.images)} images, " if len(self.images) > 1 else ""
        where = "in memory" if self.path is None else self.path
        return f"FieldResult({images}{len(self):,} columns, {self.n_motifs} motifs, {where})"

    def __getitem__(self, image: int) -> MotifResult:
        """The result of one image, see `result_of`."""
        return self.result_of(image)

    def __iter__(self) -> Iterator[MotifResult]:
        """The results of all images."""
        return (self.result_of(image) for image in range(len(self.images)))

    def __getattr__(self, name: str) -> Any:
        """What a result of one image has, where there is one."""
        if name not in _OF_ONE:
            raise AttributeError(f"FieldResult has no {name!r}")
        if len(self.images) > 1:
            raise _SeveralImagesError(
                f"the result holds {len(self.images)} images: say which with result[i].{name}"
            )
        return getattr(self._without_pixels if name in _INSIDE else self.result_of(0), name)

    @cached_property
    def _without_pixels(self) -> MotifResult:
        """The result of the only image for what needs none of its pixels; columns are in the order of `positions`."""
        known = self.images[0]
        unread, hidden = np.broadcast_to(np.uint8(0), known["shape"]), known.get("unmeasured")
        mask = None if hidden is None else Unmeasured.from_dict(hidden).mask
        return self._one(0, Micrograph(unread, known["pixel_size_nm"], mask=mask))

    @cached_property
    def positions(self) -> np.ndarray:
        """(row, col) of every column in pixels of its image, shape (n, 2), float64."""
        return self._array("columns/positions")

    @cached_property
    def labels(self) -> np.ndarray:
        """Motif of every column, shape (n,), int64; -1 fits none, or has no whole patch."""
        return self._array("labels")

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Probability of that motif, shape (n,); 0 where the label is -1."""
        return self._array("probabilities")

    @property
    def moments(self) -> Any:
        """Zernike moments of the images less their level, an array of shape (n, k), zarr in a store; NaN without whole patch."""
        return self.group["moments"]

    @cached_property
    def templates(self) -> np.ndarray:
        """Mean patch of every motif, shape (n_motifs, s, s), float32; see `templates_of` for motifs of each file."""
        return self.templates_of(0)

    def templates_of(self, motif_group: int) -> np.ndarray:
        """Mean patches of the motifs that were learnt together as one of `record["motif_groups"]`."""
        count = len(self.record["motif_groups"])
        if not 0 <= motif_group < count:
            raise InputError(f"motif_group must be 0 to {count - 1}, got {motif_group}")
        return self._array(f"templates/{motif_group}")

    @property
    def families(self) -> list[Family]:
        """Which of the motifs of `templates` are one another turned or mirrored, see `torchmotif.motifs.find_families`."""
        group = self.record["motif_groups"][0]
        counts = [number for number, _ in group.get("expected_counts") or ()]
        return find_families(
            self.templates, np.array(counts or self.counts), group.get("electrons_per_count")
        )

    @property
    def n_motifs(self) -> int:
        """Number of motifs, the greatest of all groups."""
        return max(int(group["n_motifs"]) for group in self.record["motif_groups"])

    @property
    def counts(self) -> np.ndarray:
        """Columns in every motif, shape (n_motifs,)."""
        return np.bincount(self.labels + 1, minlength=self.n_motifs + 1)[1:]

    @cached_property
    def image_of(self) -> np.ndarray:
        """Which of `images` every column lies in, shape (n,)."""
        return np.repeat(np.arange(len(self.images)), [image["n_columns"] for image in self.images])

    def result_of(self, image: int = 0, pixels: Any = None) -> MotifResult:
        """The result of one image, as `torchmotif.analyze` gives it; its columns are ordered by row, then column.

        Parameters
        ----------
        image : int
        pixels : Micrograph or array of shape (h, w), optional
            The image; by default it is read again from where it was read.

        Returns
        -------
        MotifResult

        Raises
        ------
        ReadError
            If the image is no longer there.
        """
        number, rows = self._number(image), self.rows(image)
        if pixels is None and number in self._results:
            return self._results[number]
        known = self.images[number]
        source = None if self._sources is None else self._sources[number]
        scan = reread(known, source, number) if pixels is None else as_micrograph(pixels)
        hidden = known.get("unmeasured")
        if hidden is not None and pixels is not None and list(scan.shape) == known["shape"]:
            scan = replace(scan, mask=Unmeasured.from_dict(hidden).mask)
        if list(scan.shape) != known["shape"]:
            raise InputError(
                f"pixels must be those of {known['name']}, {known['shape']}, got {list(scan.shape)}"
            )
        order = self._by_row(number)
        found = self._one(number, scan, order)
        found.record.update(record_of(self.record, known, scan))
        # Else the result would make them anew.
        found.__dict__["moments"] = self._array("moments", rows)[order]
        names = self.names_of(number)
        found = found if names is None else found._with_names(lambda *_: names)  # noqa: SLF001  # of the same room
        if pixels is None:
            self._results = {number: found}
        return found

    def _image_result(self, image: str | None) -> tuple[int, MotifResult]:
        """Number and result of the image of a name or number, the first for None."""
        names = [Path(str(one["name"])).name for one in self.images]
        if image is None or image.isdecimal():
            number = int(image or 0)
        elif names.count(Path(image).name) == 1:
            number = names.index(Path(image).name)
        else:
            raise InputError(
                f"the result has {names.count(Path(image).name)} images named {image!r}; give its number"
            )
        return number, self.result_of(number)

    def _with_names(self, name: "Callable[[int, MotifResult], Names]") -> "FieldResult":
        """The same result with names of every image; a store keeps them."""
        named = FieldResult(self.path, self.record, self._arrays, self._sources)
        for number in range(len(self.images)):
            try:
                named._names[number] = name(number, self.result_of(number))
            except CompositionError as error:
                if len(self.images) == 1:
                    raise
                named._names[number] = Names.none(
                    self.images[number]["n_columns"], {"by": "composition", "warnings": [f"names: {error}"]}
                )
        if self.path is not None:
            keep_names(self.path, named._names)
            if (self.path / "summary.csv").exists():  # of batch(), which has a page and tables for people
                from torchmotif.analysis.batches import write_tables

                write_tables(named, self.path)
        return named

    def names_of(self, image: int) -> Names | None:
        """The names of the columns of one image, ordered by row, then column; None where they have none."""
        image = self._number(image)
        if image in self._names or self.path is None:
            return self._names.get(image)
        return kept_names(self.path, image, self.images[image]["n_columns"])

    def _one(self, image: int, scan: Micrograph, order: Any = slice(None)) -> MotifResult:
        """The result of one image, whose record says only what was found."""
        rows, known = self.rows(image), self.images[image]
        group = next(one for one in self.record["motif_groups"] if image in one["images"])
        learnt = (
            "n_motifs",
            "n_max",
            "expected_counts",
            "resolutions",
            "unresolved",
        )
        arrays = {
            name: self._array(name, rows)[order]
            for name in ("labels", "probabilities", "angles", "mirrored")
            if name in self.group
        }
        found = {
            "spacing_px": known["spacing"],
            "patch_size_px": group["patch_size_px"],
            "dose_doubts": known.get("dose_doubts", []),
            "polarity": known.get("polarity", "bright"),
            "zoom": known["zoom"],
            "model": known.get("model"),
            "n_columns": known["n_columns"],
            **{name: group.get(name) for name in learnt},
            # Of the image where its noise tells it: that of the patches holds what columns of one motif differ by as well.
            "electrons_per_count": known.get("electrons_per_count") or group.get("electrons_per_count"),
            "electrons_per_count_of_patches": group.get("electrons_per_count"),
        }
        return MotifResult(
            scan,
            self._columns(image, order),
            templates=self.templates_of(group["number"]),
            record={"found": found},
            **arrays,
        )

    def _by_row(self, image: int) -> np.ndarray:
        """The order by row, then column, of one image's columns, which the arrays have tile after tile; names are in it."""
        return np.lexsort(self._array("columns/positions", self.rows(image)).T[::-1])

    def rows(self, image: int) -> slice:
        """The rows of one image's columns in all arrays."""
        number = self._number(image)
        first = sum(one["n_columns"] for one in self.images[:number])
        return slice(first, first + self.images[number]["n_columns"])

    def _number(self, image: int) -> int:
        """The number of an image, counted from the first."""
        if not -len(self.images) <= image < len(self.images):
            raise InputError(f"image must be one of {len(self.images)}, got {image}")
        return image % len(self.images)

    def columns_of(self, image: int = 0) -> Columns:
        """The columns of one image."""
        return self._columns(image, slice(None))

    def _columns(self, image: int, order: Any) -> Columns:
        rows, known = self.rows(image), self.images[image]
        arrays = {name: self._array(f"columns/{name}", rows)[order] for name in self.record["column_arrays"]}
        return Columns(
            **arrays, spacing=known["spacing"], spacing_nm=known["spacing_nm"], width=tuple(known["width"])
        )

    @cached_property
    def columns(self) -> Columns:
        """The columns of the image, where there is one; `columns_of` gives those of one of several."""
        if len(self.images) > 1:
            raise InputError(f"the result holds {len(self.images)} images: say which with columns_of(image)")
        return self.columns_of(0)

    @cached_property
    def hierarchy(self) -> FieldHierarchy:
        """Assemblies of neighbouring motifs, of the image or of all; `hierarchy_of` gives those of one of several.

        Columns at the image's border, whose motif is not known for want of a whole patch, are left out.
        """
        return self.hierarchy_of(None)

    def hierarchy_of(self, image: int | None = 0) -> FieldHierarchy:
        """Assemblies of neighbouring motifs in one image, or in all for None."""
        if not self.record.get("hierarchy"):
            raise InputError("assemblies were not counted; analyse the field with hierarchy=3")
        name = "all" if image is None else self._number(image)
        return FieldHierarchy.from_json(bytes(self._array(f"hierarchy/{name}")).decode())

    def to_dataframe(self, image: int | None = None) -> "pd.DataFrame":
        """One row for each column: where it is, how bright, which motif.

        Parameters
        ----------
        image : int, optional
            One image; by default all, with a column that names the image where there are several.

        Returns
        -------
        pandas.DataFrame
            As `MotifResult.to_dataframe`; nanometres where all images are calibrated.
        """
        import pandas as pd

        numbers = range(len(self.images)) if image is None else [self._number(image)]
        tables = []
        for number in numbers:
            known = self.images[number]
            unread = np.broadcast_to(np.uint8(0), known["shape"])  # a table needs no pixels
            found, names = (
                self._one(number, Micrograph(unread, known["pixel_size_nm"])),
                self.names_of(number),
            )
            if names is not None:
                by_row = np.lexsort(found.columns.positions.T[::-1])
                found = replace(found, names=names.reordered(np.argsort(by_row)))
            tables.append(found.to_dataframe())
            if len(numbers) > 1:
                tables[-1].insert(0, "image", known["name"])
        return pd.concat(tables, join="inner", ignore_index=True)

    def _array(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        try:
            found: np.ndarray = self.group[name][rows]
        except (KeyError, OSError, ValueError) as error:
            raise ReadError(
                f"{self.path} is damaged: {name}: {error}; analyse the field again with restart=True"
            ) from error
        return found
