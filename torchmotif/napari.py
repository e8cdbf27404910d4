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

__all__ = [
    "LayerData",
    "examples_of",
    "image_layer",
    "inside_layers",
    "motif_layers",
    "motif_widget",
    "reader",
    "sample",
]

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
    """The layers of a result: its mean patches beside the image, and its columns in the colours of their motifs.

    Parameters
    ----------
    result : MotifResult

    Returns
    -------
    list of (array, dict, str)
        Layer data. Points are one layer, since napari slows down with many: each carries its motif, the motif's probability, the
        column's intensity and its number in the tables of the result; those of the least frequent motif are on top.
        ``layer.shown = layer.features["motif"] == 1`` shows one motif alone.

    Examples
    --------
    >>> import torchmotif as tm
    >>> result = tm.analyze(tm.datasets.mose2((256, 256), vacancy_rate=0.0).draw(), progress=False)
    >>> [(kind, values["name"].split(":")[0]) for _, values, kind in motif_layers(result)]
    [('image', 'mean patches'), ('points', 'columns')]
    """
    labels = result.labels
    order = np.argsort(
        np.where(labels < 0, -1, labels), kind="stable"
    )  # motifs are numbered by their frequency
    styles = [plot.motif_style(motif) for motif in range(-1, result.n_motifs)]
    mine = [styles[motif + 1] for motif in labels[order]]
    told = ["motif", "probability", "intensity"]
    if result.names is not None:
        told += ["name", "name_probability", "other_name"]
    features = result.to_dataframe()[told].iloc[order]
    values = {
        "name": f"columns: {len(labels):,} in {result.n_motifs} motifs",
        "face_color": [style.colour for style in mine],
        "symbol": [_SYMBOLS[style.marker] for style in mine],
        "border_width": 0,
        "size": 0.45 * result.columns.spacing,
        "features": features.rename_axis("column").reset_index(),
        **_in_space(result.image),
    }
    return [_mean_patches(result), (result.columns.positions[order], values, "points")]


def examples_of(layers: Any, image: Micrograph) -> dict[str, list[tuple[float, float]]]:
    """Examples for `MotifResult.like` from points layers: each layer is a kind, named as the layer.

    Parameters
    ----------
    layers : napari Points layer, or sequence of them
        Points that were put on columns. Where a layer's features have a column `name`, that is the kind of each point.
    image : Micrograph
        On which they were put.

    Returns
    -------
    dict of str to list of (row, col)
        In pixels of the image: ``result.like(examples_of(viewer.layers["V_S"], result.image))``.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    size = np.array(image.pixel_size_nm or (1.0, 1.0))
    for layer in layers if isinstance(layers, Sequence) else [layers]:
        place = np.asarray(layer.data, float)[:, -2:] * np.asarray(layer.scale, float)[-2:]
        pixels = (place + np.asarray(layer.translate, float)[-2:]) / size
        features = layer.features
        names = features["name"].tolist() if "name" in features else [layer.name] * len(pixels)
        for name, (row, col) in zip(names, pixels.tolist(), strict=True):
            found.setdefault(str(name), []).append((row, col))
    return found


def inside_layers(result: MotifResult, field: ColumnField | None = None) -> list[LayerData]:
    """The layers of what columns do inside their motifs: boundaries of grains, or the layers of a bilayer, and a field as arrows or coloured points.

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
    bilayer = result.layers_if_any
    if bilayer is not None:
        words = np.array(["layer 0", "layer 1", "both layers", "no layer"])  # the last is that of -1
        marks = {
            "name": "layers",
            "features": {"layer": words[bilayer.parts]},
            "face_color": "layer",
            "size": 0.6 * result.columns.spacing,
            "border_width": 0,
            **place,
        }
        layers.append((bilayer.positions, marks, "points"))
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
