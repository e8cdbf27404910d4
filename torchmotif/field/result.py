"""FieldResult: a finished store, read when something of it is asked for."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from torchmotif.columns import Columns
from torchmotif.errors import InputError, MissingDependencyError, ReadError
from torchmotif.field.assemblies import FieldHierarchy
from torchmotif.field.store import RECORD, read_record

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FieldResult", "load"]


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
    """The motifs of one or several images, in a zarr group that any zarr library reads.

    Attributes
    ----------
    path : Path
        The store.
    record : dict
        Parameters, inputs, versions, what was found.
    """

    def __init__(self, path: Path, record: dict[str, Any]) -> None:
        self.path, self.record = path, record

    @cached_property
    def group(self) -> Any:
        """The zarr group: columns/..., moments, labels, probabilities, templates/..., image."""
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
        return f"FieldResult({images}{len(self):,} columns, {self.n_motifs} motifs, {self.path})"

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
        """Zernike moments of the images less `record["level"]`, a zarr array of shape (n, k), NaN without whole patch."""
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

    def rows(self, image: int) -> slice:
        """The rows of one image's columns in all arrays."""
        if not -len(self.images) <= image < len(self.images):
            raise InputError(f"image must be one of {len(self.images)}, got {image}")
        counts: list[int] = [one["n_columns"] for one in self.images]
        first = sum(counts[: image % len(counts)])
        return slice(first, first + counts[image])

    def columns_of(self, image: int = 0) -> Columns:
        """The columns of one image."""
        rows, known = self.rows(image), self.images[image]
        arrays = {name: self._array(f"columns/{name}", rows) for name in self.record["column_arrays"]}
        return Columns(
            **arrays,
            spacing=known["spacing"],
            spacing_nm=known["spacing_nm"],
            width=tuple(known["width"]),
        )

    @cached_property
    def columns(self) -> Columns:
        """The columns of the image, where there is one; `columns_of` gives those of one of several."""
        if len(self.images) > 1:
            raise InputError(f"the store holds {len(self.images)} images: say which with columns_of(image)")
        return self.columns_of(0)

    @cached_property
    def hierarchy(self) -> FieldHierarchy:
        """Assemblies of neighbouring motifs, of the image or of all; `hierarchy_of` gives those of one of several.

        Columns at the rim, whose motif is not known, are counted as neighbours in no motif (-1).
        """
        return self.hierarchy_of(None)

    def hierarchy_of(self, image: int | None = 0) -> FieldHierarchy:
        """Assemblies of neighbouring motifs in one image, or in all for None."""
        kept = self.group.attrs[RECORD].get("hierarchy")
        if not kept:
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
            row_px, col_px; row_nm, col_nm where all are calibrated; intensity, motif, probability.
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
        return pd.DataFrame(table)

    def _array(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        try:
            found: np.ndarray = self.group[name][rows]
        except (KeyError, OSError, ValueError) as error:
            raise ReadError(
                f"{self.path} is damaged: {name}: {error}; analyse the field again with restart=True"
            ) from error
        return found
