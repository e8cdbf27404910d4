"""The columns of an image for other programs: a table as CSV or parquet, a signal of HyperSpy, an AnnData."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from torchmotif.errors import InputError, MissingDependencyError, OutputError
from torchmotif.plot.style import motif_style
from torchmotif.zernike.indices import orders

__all__ = ["to_anndata", "write_h5ad", "write_hspy", "write_table"]

_LONGER = 10.0  # times a displacement is its arrow in HyperSpy
_NODE = "torchmotif"  # of the metadata of a signal of HyperSpy


def write_table(path: str | os.PathLike[str], result: Any) -> None:
    """Write a row for each column of an image, or of several, or of what is known inside motifs: as .csv, or as .parquet.

    Parameters
    ----------
    path : path
        Its ending says which; .parquet keeps types and is smaller. A file that is there already is replaced, in one piece.
    result : MotifResult, FieldResult, ColumnField, Grains or Dislocations
        Whatever has a method `to_dataframe`.

    Raises
    ------
    InputError
        If the ending is another.
    MissingDependencyError
        If pyarrow is not installed, for .parquet.
    OutputError
        If the file cannot be written.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending not in {".csv", ".parquet"}:
        raise InputError(f"path must end in .csv or .parquet, got {path.name!r}")
    if ending == ".parquet":
        try:
            import pyarrow as pa  # noqa: F401
        except ImportError as error:
            raise MissingDependencyError(
                "parquet is written by pyarrow: pip install 'torchmotif[export]'"
            ) from error
    table = result.to_dataframe()
    with _replaced(path) as new:
        if ending == ".csv":
            table.to_csv(new, index=False)
        else:
            table.to_parquet(new, index=False)


def write_hspy(path: str | os.PathLike[str], result: Any, field: Any = None) -> None:
    """Write the image as HyperSpy does, with its calibration, its columns as markers, and their table.

    ``hyperspy.api.load(path)`` gives a ``Signal2D``. Its plot shows the columns, a set of markers for each motif; the table is in
    ``signal.metadata.torchmotif.columns``, an array for each of its columns, `motif` among them.

    Parameters
    ----------
    path : path
        Ending in .hspy. A file that is there already is replaced, in one piece.
    result : MotifResult
    field : ColumnField, optional
        Displacements, shown as arrows ten times as long, or strain; its table is in ``signal.metadata.torchmotif.inside``.

    Raises
    ------
    InputError
        If the ending is another.
    MissingDependencyError
        If rosettasciio is not installed.
    OutputError
        If the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".hspy":
        raise InputError(f"path must end in .hspy, got {path.name!r}")
    try:
        from rsciio.hspy import file_writer
    except ImportError as error:
        raise MissingDependencyError(
            "hspy files are written by rosettasciio: pip install 'torchmotif[io]'"
        ) from error
    image, size = result.image, result.image.pixel_size_nm
    title = str(image.metadata.get("title") or image.metadata.get("name") or "")
    table = {name: _plain(values) for name, values in result.to_dataframe().items()}
    signal = {
        "data": image.numpy(),
        "axes": [
            {
                "_type": "UniformDataAxis", "name": name, "units": None if size is None else "nm", "navigate": False,
                "is_binned": False, "size": length, "scale": 1.0 if size is None else size[i], "offset": 0.0,
            }
            for i, (name, length) in enumerate(zip("yx", image.shape, strict=True))
        ],
        "metadata": {
            "General": {"title": title},
            "Signal": {"signal_type": ""},
            "Markers": _markers(result) | ({} if field is None else _arrows(result, field)),
            _NODE: {"version": version("torchmotif"), "columns": table}
            | ({} if field is None else {"inside": {k: _plain(v) for k, v in field.to_dataframe().items()}}),
        },
        "original_metadata": {},
        "attributes": {"_lazy": False, "ragged": False},
        "learning_results": {},
        "models": {},
        "tmp_parameters": {},
        "package_info": {"package": "torchmotif", "package_version": version("torchmotif")},
    }  # fmt: skip
    with _replaced(path) as new:
        file_writer(str(new), signal, show_progressbar=False)


def to_anndata(result: Any) -> Any:
    """An AnnData of the columns of an image, for scanpy and what else reads it.

    Parameters
    ----------
    result : MotifResult

    Returns
    -------
    anndata.AnnData
        `X` holds the Zernike moments (n, k), NaN without a whole patch; `obs` the table of columns, `motif` as a category;
        `var` the double index (n, m) of every moment; ``obsm["spatial"]`` the place as (x, y), in nm where the image is
        calibrated and in pixels else; ``uns["torchmotif"]`` the unit, the spacing and the mean patches.

    Raises
    ------
    MissingDependencyError
        If anndata is not installed.

    Examples
    --------
    >>> cells = to_anndata(result)  # doctest: +SKIP
    >>> cells.obs["motif"].value_counts()  # doctest: +SKIP
    """
    try:
        from anndata import AnnData
    except ImportError as error:
        raise MissingDependencyError("anndata is not installed: pip install 'torchmotif[anndata]'") from error
    import pandas as pd

    table, moments = result.to_dataframe(), np.asarray(result.moments, np.float32)
    table.index = pd.Index(
        [str(i) for i in range(len(table))], dtype=object
    )  # text that older formats of it can keep
    table["motif"] = pd.Categorical(table["motif"])
    n_max = int((np.sqrt(8 * moments.shape[1] + 1) - 3) / 2 + 0.5)
    modes = orders(n_max).numpy()
    names = pd.Index([f"Z({n},{m})" for n, m in modes.tolist()], dtype=object)
    size = result.image.pixel_size_nm
    place = result.columns.positions[:, ::-1] * (1.0 if size is None else np.array(size)[::-1])
    about = {
        "unit": "px" if size is None else "nm",
        "spacing_px": float(result.columns.spacing),
        "templates": np.asarray(result.templates),
    }
    return AnnData(
        moments,
        obs=table,
        var=pd.DataFrame({"n": modes[:, 0], "m": modes[:, 1]}, index=names),
        obsm={"spatial": np.ascontiguousarray(place)},
        uns={_NODE: about},
    )


def write_h5ad(path: str | os.PathLike[str], result: Any) -> None:
    """Write what `to_anndata` gives as .h5ad, in one piece.

    Parameters
    ----------
    path : path
    result : MotifResult

    Raises
    ------
    MissingDependencyError
        If anndata is not installed.
    OutputError
        If the file cannot be written.
    """
    cells = to_anndata(result)
    with _replaced(Path(path)) as new:
        cells.write_h5ad(new)


def _markers(result: Any) -> dict[str, Any]:
    """A set of points for each motif, and for the columns in none, at (x, y) in the units of the axes."""
    size = np.array(result.image.pixel_size_nm or (1.0, 1.0))
    place = (result.columns.positions * size)[:, ::-1]
    found = {}
    for motif in np.unique(result.labels).tolist():
        name = f"motif {motif}" if motif >= 0 else "no motif"
        found[name] = {
            "class": "Points",
            "name": name,
            "plot_on_signal": True,
            "offset_transform": "data",
            "transform": "display",
            "ScalarMappable_array": None,
            "kwargs": {
                "offsets": np.ascontiguousarray(place[result.labels == motif]),
                "sizes": (4.0,),
                "units": "points",
                "facecolors": (motif_style(motif).colour,),
            },
        }
    return found


def _arrows(result: Any, field: Any) -> dict[str, Any]:
    """The displacements of a field as arrows, in the units of the axes; nothing for other fields."""
    if "row_shift_px" not in field.names:
        return {}
    size, known = np.array(result.image.pixel_size_nm or (1.0, 1.0)), field.known
    place, shift = (field.positions[known] * size)[:, ::-1], (field.values[known] * size)[:, ::-1]
    return {
        "displacement": {
            "class": "Arrows",
            "name": "displacement",
            "plot_on_signal": True,
            "offset_transform": "data",
            "transform": "display",
            "ScalarMappable_array": None,
            "kwargs": {
                "offsets": np.ascontiguousarray(place),
                "U": _LONGER * shift[:, 0],
                "V": _LONGER * shift[:, 1],
                "C": None,
            },
        }
    }


def _plain(values: Any) -> np.ndarray:
    """A column of a table as numbers or text that HDF5 can keep."""
    array = np.asarray(values)
    return (
        array
        if array.dtype.kind in "iufb"
        else np.asarray(["" if one is None else str(one) for one in array], "S")
    )


@contextmanager
def _replaced(path: Path) -> Iterator[Path]:
    """A name beside the file to write to, which takes its place at the end, or is gone after an error."""
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.absolute().parent) as folder:
            new = Path(folder) / path.name
            yield new
            new.replace(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error
