"""FieldResult: what many images, or one of any size, give; of a store, read when something of it is asked for."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from torchmotif.analysis.assemblies import FieldHierarchy
from torchmotif.analysis.result import MotifResult
from torchmotif.analysis.sources import Source, as_sources
from torchmotif.analysis.store import read_record
from torchmotif.columns import Columns
from torchmotif.columns.unmeasured import Unmeasured
from torchmotif.errors import InputError, MissingDependencyError, ReadError
from torchmotif.image import Micrograph, as_micrograph
from torchmotif.io import read

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FieldResult", "load"]

# Of a MotifResult, for a result of one image.
_OF_ONE = {
    *("image", "angles", "mirrored", "sites", "empty_sites", "whole", "groups"),
    *("plot_map", "plot_motifs", "report", "save", "_repr_html_"),
}
# Of the options of a run, those that an image's result has for parameters.
_PARAMETERS = (
    *("spacing", "threshold", "polarity", "patch_size", "n_max", "n_motifs"),
    *("equivalence", "random_state", "device"),
)


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
        state = (
            "is not finished; run the same command again"
            if (root / ".work").is_dir()
            else "is no field's store"
            if root.exists()
            else "does not exist: it is no field's store"
        )
        raise ReadError(f"{root} {state}")
    return FieldResult(root, record)


class FieldResult:
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
        return getattr(self.result_of(0), name)

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
        rows, number = self.rows(image), image % len(self.images)
        if pixels is None and number in self._results:
            return self._results[number]
        scan = self._micrograph(number) if pixels is None else as_micrograph(pixels)
        known = self.images[number]
        hidden = known.get("unmeasured")
        if hidden is not None and pixels is not None and list(scan.shape) == known["shape"]:
            scan = replace(scan, mask=Unmeasured.from_dict(hidden).mask)
        if list(scan.shape) != known["shape"]:
            raise InputError(
                f"pixels must be those of {known['name']}, {known['shape']}, got {list(scan.shape)}"
            )
        positions = self._array("columns/positions", rows)
        order = np.lexsort(positions.T[::-1])
        columns = self._columns(number, order)
        names = [name for name in ("angles", "mirrored") if name in self.group]
        turned = {name: self._array(name, rows)[order] for name in names}
        group = next(one for one in self.record["motif_groups"] if number in one["images"])
        found = MotifResult(
            scan,
            columns,
            self.labels[rows][order],
            self.probabilities[rows][order],
            self.templates_of(group["number"]),
            self._record_of(number, scan, group),
            **turned,
        )
        # Else the result would make them anew.
        found.__dict__["moments"] = self._array("moments", rows)[order]
        if pixels is None:
            self._results = {number: found}
        return found

    def _micrograph(self, image: int) -> Micrograph:
        """The image itself, with the pixels that were not measured."""
        known = self.images[image]
        size, hidden = known["pixel_size_nm"], known.get("unmeasured")
        calibrated: dict[str, Any] = {
            "pixel_size": None if size is None else tuple(size),
            "electrons_per_pixel": known.get("electrons_per_pixel"),
            "mask": None if hidden is None else Unmeasured.from_dict(hidden).mask,
        }
        if self._sources is not None and self._sources[image].array is not None:
            source = replace(self._sources[image], mask=None)
            return Micrograph(source.part(), metadata=source.metadata, **calibrated)
        if known["path"] is None:
            raise ReadError(
                f"the pixels of {known['name']} were in memory; give them: result_of({image}, pixels)"
            )
        path, frame = Path(known["path"]), known.get("frame")
        if path.is_dir():
            source = next(one for one in as_sources(path) if one.frame == frame)
            return Micrograph(source.read(), metadata={"path": str(path)}, **calibrated)
        scan = read(path, frame=frame)
        return Micrograph(scan.data, metadata=scan.metadata, **calibrated)

    def _record_of(self, image: int, scan: Micrograph, group: dict[str, Any]) -> dict[str, Any]:
        """How the result of one image was made: enough to make it again."""
        pixels, known = np.ascontiguousarray(scan.numpy()), self.images[image]
        parameters = self.record.get("parameters", self.record["plan"]["options"])
        return {
            "created": self.record["created"],
            "parameters": {name: parameters.get(name) for name in _PARAMETERS},
            "input": {
                "path": scan.metadata.get("path"),
                "file_sha256": scan.metadata.get("sha256"),
                "pixels_sha256": hashlib.sha256(pixels.tobytes()).hexdigest(),
                "shape": list(pixels.shape),
                "dtype": str(pixels.dtype),
            },
            **{name: self.record.get(name) for name in ("versions", "platform", "threads", "timings_s")},
            "notes": known["notes"],
            "warnings": known.get("warnings", []),
            "found": {
                "spacing_px": known["spacing"],
                "patch_size_px": group["patch_size_px"],
                "dose_doubts": known.get("dose_doubts", []),
                "polarity": known.get("polarity", "bright"),
                "zoom": known["zoom"],
                "n_columns": known["n_columns"],
                **{
                    name: group.get(name)
                    for name in ("n_motifs", "n_max", "electrons_per_count", "resolutions", "unresolved")
                },
            },
        }

    def rows(self, image: int) -> slice:
        """The rows of one image's columns in all arrays."""
        if not -len(self.images) <= image < len(self.images):
            raise InputError(f"image must be one of {len(self.images)}, got {image}")
        counts: list[int] = [one["n_columns"] for one in self.images]
        first = sum(counts[: image % len(counts)])
        return slice(first, first + counts[image])

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
        if image is not None:
            self.rows(image)  # raises where there is no such image
        name = "all" if image is None else str(image % len(self.images))
        text = bytes(self._array(f"hierarchy/{name}")).decode()
        return FieldHierarchy.from_json(text)

    def to_dataframe(self, image: int | None = None) -> "pd.DataFrame":
        """One row for each column: where it is, how bright, which motif.

        Parameters
        ----------
        image : int, optional
            One image; by default all, with a column that names the image where there are several.

        Returns
        -------
        pandas.DataFrame
            row_px, col_px; row_nm, col_nm where all are calibrated; intensity, motif, probability; angle_deg and mirrored
            where motifs were sorted up to rotation and mirror images.
        """
        import pandas as pd

        rows = slice(None) if image is None else self.rows(image)
        chosen = self.images if image is None else [self.images[image]]
        positions = self._array("columns/positions", rows)
        table: dict[str, Any] = {}
        which = self.image_of[rows] - (0 if image is None else image % len(self.images))
        if len(chosen) > 1:
            table["image"] = np.array([one["name"] for one in chosen], object)[which]
        table |= {"row_px": positions[:, 0], "col_px": positions[:, 1]}
        if all(one["pixel_size_nm"] is not None for one in chosen):
            nm = positions * np.array([one["pixel_size_nm"] for one in chosen])[which]
            table |= {"row_nm": nm[:, 0], "col_nm": nm[:, 1]}
        table |= {
            "intensity": self._array("columns/intensities", rows),
            "motif": self.labels[rows],
            "probability": self.probabilities[rows],
        }
        if "angles" in self.group:
            table["angle_deg"] = np.degrees(self._array("angles", rows))
        if "mirrored" in self.group:
            table["mirrored"] = self._array("mirrored", rows)
        return pd.DataFrame(table)

    def _array(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        try:
            found: np.ndarray = self.group[name][rows]
        except (KeyError, OSError, ValueError) as error:
            raise ReadError(
                f"{self.path} is damaged: {name}: {error}; analyse the field again with restart=True"
            ) from error
        return found
