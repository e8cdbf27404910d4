"""The napari plugin: opens images and folders of results, and puts motifs on an image. napari is not needed to import it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from torchmotif import plot
from torchmotif.analysis import RECORD, MotifResult, analyze
from torchmotif.image import Micrograph
from torchmotif.io import read
from torchmotif.lattice import ColumnField, Displacements

__all__ = ["LayerData", "image_layer", "inside_layers", "motif_layers", "motif_widget", "reader", "sample"]

_LONGER = 10.0  # times a displacement is its arrow
LayerData = tuple[Any, dict[str, Any], str]

_SYMBOLS = {
    "o": "disc",
    "s": "square",
    "D": "diamond",
    "^": "triangle_up",
    "v": "triangle_down",
    "P": "cross",
    "X": "x",
}


def image_layer(image: Micrograph, name: str = "image") -> LayerData:
    """The layer of an image, in nanometres where it is calibrated.

    Parameters
    ----------
    image : Micrograph
    name : str

    Returns
    -------
    (array, dict, "image")
        What napari calls layer data.
    """
    return image.numpy(), {"name": name, **_in_space(image)}, "image"


def motif_layers(result: MotifResult) -> list[LayerData]:
    """The layers of a result: its mean patches beside the image, and points for every motif and for the columns in none.

    Parameters
    ----------
    result : MotifResult

    Returns
    -------
    list of (array, dict, str)
        Layer data, the least frequent motif last and on top. Points carry the motif, its probability, the column's intensity
        and its number in the tables of the result.

    Examples
    --------
    >>> import torchmotif as tm
    >>> result = tm.analyze(tm.datasets.mose2((256, 256), vacancy_rate=0.0).draw(), progress=False)
    >>> [(kind, values["name"].split(":")[0]) for _, values, kind in motif_layers(result)]
    [('image', 'mean patches'), ('points', 'no motif'), ('points', 'motif 0'), ('points', 'motif 1')]
    """
    place = _in_space(result.image)
    table = result.to_dataframe()
    layers: list[LayerData] = [_mean_patches(result)]
    for motif in range(-1, result.n_motifs):
        here = result.labels == motif
        if not here.any():
            continue
        style = plot.motif_style(motif)
        name = "no motif" if motif < 0 else f"motif {motif}"
        values = {
            "name": f"{name}: {here.sum():,} columns",
            "face_color": style.colour,
            "border_width": 0,
            "symbol": _SYMBOLS[style.marker],
            "size": 0.45 * result.columns.spacing,
            "features": table.loc[here, ["motif", "probability", "intensity"]]
            .rename_axis("column")
            .reset_index(),
            **place,
        }
        layers.append((result.columns.positions[here], values, "points"))
    return layers


def inside_layers(result: MotifResult, field: ColumnField | None = None) -> list[LayerData]:
    """The layers of what columns do inside their motifs: boundaries of grains, and a field as arrows or coloured points.

    Parameters
    ----------
    result : MotifResult
    field : ColumnField, optional
        Displacements give arrows ten times as long; strain points, coloured by its first component, with the others as features.
        By default `MotifResult.displacements`.

    Returns
    -------
    list of (array, dict, str)
        Layer data.

    Raises
    ------
    InputError
        If the columns form no lattice.

    Examples
    --------
    >>> import torchmotif as tm
    >>> result = tm.analyze(tm.datasets.mose2((256, 256), vacancy_rate=0.0).draw(), progress=False)
    >>> [(kind, values["name"]) for _, values, kind in inside_layers(result)]
    [('shapes', 'grain boundaries'), ('vectors', 'displacement, 10 times')]
    """
    field = result.displacements() if field is None else field
    place, known = _in_space(result.image), field.known
    lines = {
        "name": "grain boundaries",
        "shape_type": "line",
        "edge_width": 0.1 * result.columns.spacing,
        **place,
    }
    layers: list[LayerData] = [(list(result.grains.segments), lines, "shapes")]
    if isinstance(field, Displacements):
        arrows = np.stack([field.positions[known], _LONGER * field.values[known]], axis=1)
        return [
            *layers,
            (arrows, {"name": "displacement, 10 times", "features": _table(field), **place}, "vectors"),
        ]
    points = {
        "name": field.names[0],
        "features": _table(field),
        "face_color": field.names[0],
        "face_colormap": "coolwarm",
        "size": 0.6 * result.columns.spacing,
        "border_width": 0,
        **place,
    }
    return [*layers, (field.positions[known], points, "points")]


def _table(field: ColumnField) -> Any:
    return field.to_dataframe()[field.known].reset_index(drop=True)


def reader(path: str | Sequence[str]) -> Callable[[Any], list[LayerData]] | None:
    """What opens a file or folder in napari; None where torchmotif cannot.

    Parameters
    ----------
    path : str or sequence of str
        An image, a folder written by `MotifResult.save`, or several of them.

    Returns
    -------
    callable or None
        From the path or paths to layer data.
    """
    paths = [path] if isinstance(path, str) else list(path)
    if not all(Path(one).is_file() or (Path(one) / RECORD).is_file() for one in paths):
        return None
    return _open


def sample() -> list[LayerData]:
    """Simulated MoSe2 with selenium vacancies, for napari's File > Open Sample."""
    import torch

    from torchmotif.datasets import mose2

    return [image_layer(mose2().draw(generator=torch.Generator().manual_seed(0)), "simulated MoSe2")]


def motif_widget() -> Any:
    """The dock widget "Add motif layers": analyses the chosen image in the background and adds its motifs.

    Returns
    -------
    magicgui.widgets.FunctionGui
    """
    from magicgui import magicgui
    from napari.layers import Image
    from napari.qt.threading import FunctionWorker, thread_worker
    from napari.types import LayerDataTuple

    def find_motifs(
        image: Image, spacing: float = 0.0, n_motifs: int = 0, dark_columns: bool = False, device: str = "cpu"
    ) -> FunctionWorker[list[LayerDataTuple]]:
        scan = _micrograph_of(image)

        def work() -> list[LayerData]:
            result = analyze(
                scan,
                spacing=spacing or None,
                n_motifs=n_motifs or None,
                polarity="dark" if dark_columns else "bright",
                device=device,
                progress=False,
            )
            return motif_layers(result)

        return thread_worker(work, start_thread=True, progress={"desc": "finding motifs", "total": 0})()

    return magicgui(
        find_motifs,
        call_button="Find motifs",
        spacing={"label": "spacing (px, 0: measured)", "max": 1000.0},
        n_motifs={"label": "motifs (0: found)"},
        device={"choices": _devices()},
    )


def _open(path: str | Sequence[str]) -> list[LayerData]:
    layers = []
    for one in [path] if isinstance(path, str) else path:
        if Path(one).is_dir():
            result = MotifResult.load(one)
            layers += [image_layer(result.image, Path(one).name), *motif_layers(result)]
        else:
            layers.append(image_layer(read(one), Path(one).stem))
    return layers


def _mean_patches(result: MotifResult) -> LayerData:
    """The patches from top to bottom, in as many columns as the height of the image asks for, to the right of it."""
    n, size, _ = result.templates.shape
    height, width = result.image.shape
    pitch = size + 2
    per_column = max(height // pitch, 1)
    sheet = np.full(
        (min(n, per_column) * pitch, -(-n // per_column) * pitch), result.templates.min(), np.float32
    )
    for motif, patch in enumerate(result.templates):
        row, col = motif % per_column * pitch, motif // per_column * pitch
        sheet[row : row + size, col : col + size] = patch
    place = _in_space(result.image)
    left = (width + pitch) * place.get("scale", (1.0, 1.0))[1]
    return sheet, {"name": "mean patches", "translate": (0.0, left), **place}, "image"


def _in_space(image: Micrograph) -> dict[str, Any]:
    """Scale and unit of a layer that lies on an image; none where the image is not calibrated."""
    size = image.pixel_size_nm
    return {} if size is None else {"scale": size, "units": ("nm", "nm")}


def _micrograph_of(layer: Any) -> Micrograph:
    """The pixels of an image layer, with their size where its unit is a length."""
    units = [str(unit) for unit in layer.units]
    size = None if "pixel" in units else tuple(float(step) for step in layer.scale)
    unit = {"nanometer": "nm", "angstrom": "A", "micrometer": "um", "picometer": "pm", "meter": "m"}
    return Micrograph(layer.data, size, unit.get(units[0], units[0]) if size else "nm")


def _devices() -> list[str]:
    import torch

    return ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
