"""Layers over the map of the report: layers of the specimen, grains, strain and displacement of every column, with their errors."""

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from torchmotif.errors import TorchMotifError

if TYPE_CHECKING:
    from torchmotif.lattice import ColumnField
    from torchmotif.report.shown import Shown

__all__ = ["inside_layers"]


def inside_layers(result: "Shown", n_more: int) -> list[dict[str, Any]]:
    """What a reader can lay over the marks, each with its values for every column; none where there is no lattice.

    Parameters
    ----------
    result : MotifResult
    n_more : int
        Entries that follow the columns and have no values.

    Returns
    -------
    list of dict
        name, kind ("class", "value" or "arrow"), unit, limit, words (of each class), and arrays values (n, 1 or 2), errors and clear, as plain numpy.
    """
    layers: list[dict[str, Any]] = []
    n = len(result.labels)
    both = None
    with suppress(TorchMotifError):  # columns without errors
        both = result.layers_if_any
    if both is not None:
        words = [
            f"layer {one}, {angle:.2f}°" for one, angle in enumerate(both.orientation_deg[:, 0].tolist())
        ]
        layers.append(
            _layer("layers", "class", "", values=_classes(both.parts), n_more=n_more, limit=1.0)
            | {"words": [*words, "both layers"]}
        )
    try:
        grains = result.grains
        strain = result.strain()
    except TorchMotifError:  # no lattice: nothing is laid over
        return layers
    layers.append(
        _layer("grains", "class", "", values=_classes(grains.labels), n_more=n_more, limit=1.0)
        | {"words": [f"grain {one.number}, {one.orientation_deg[0]:.2f}°" for one in grains.grains]}
    )
    names = {"strain_row": "strain along rows", "strain_col": "strain along columns", "shear": "shear"}
    values = strain.values[:, :3]
    limit = 100 * float(np.quantile(np.abs(values[strain.known]), 0.98)) if strain.known.any() else 0.0
    for i, name in enumerate(names.values()):
        one, error, clear = _spread(strain, n, [i], 100.0)
        layers.append(
            _layer(name, "value", "%", values=one, errors=error, clear=clear, n_more=n_more, limit=limit)
        )
    one, error, clear = _spread(strain, n, [3], 180 / np.pi)
    turned = np.abs(one[np.isfinite(one)])
    layers.append(
        _layer(
            "rotation",
            "value",
            "°",
            values=one,
            errors=error,
            clear=clear,
            n_more=n_more,
            limit=float(np.quantile(turned, 0.98)) if turned.size else 0.0,
        )
    )
    for name, method in (("displacement", result.displacements), ("polarisation", result.polarisation)):
        try:
            field = method()
        except TorchMotifError:  # of crystals with one sublattice
            continue
        per = 1000 * result.image.pixel_size_nm[1] if result.image.pixel_size_nm is not None else 1.0
        one, error, clear = _spread(field, n, [0, 1], per)
        size = np.hypot(one[:, 0], one[:, 1])
        size = size[np.isfinite(size)]
        unit = "px" if result.image.pixel_size_nm is None else "pm"
        layers.append(
            _layer(
                name,
                "arrow",
                unit,
                values=one,
                errors=error,
                clear=clear,
                n_more=n_more,
                limit=float(np.quantile(size, 0.95)) if size.size else 0.0,
            )
        )
    return layers


def _classes(labels: np.ndarray) -> np.ndarray:
    return labels[:, None].astype(float)


def _spread(
    field: "ColumnField", n: int, components: list[int], unit: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, errors and significance of a field for all columns."""
    values, errors = np.full((n, len(components)), np.nan), np.full(n, np.nan)
    values[field.columns] = field.values[:, components] * unit
    errors[field.columns] = np.sqrt((field.errors[:, components] ** 2).mean(axis=1)) * unit
    size = np.linalg.norm(values, axis=1)
    return values, errors, size > 2.0 * np.sqrt(len(components)) * errors


def _layer(
    name: str,
    kind: str,
    unit: str,
    *,
    values: np.ndarray,
    errors: np.ndarray | None = None,
    clear: np.ndarray | None = None,
    n_more: int,
    limit: float,
) -> dict[str, Any]:
    none = np.full(len(values), np.nan)
    flags = np.ones(len(values), bool) if clear is None else clear
    return {
        "name": name,
        "kind": kind,
        "unit": unit,
        "limit": limit or 1.0,
        "values": np.concatenate([values, np.full((n_more, values.shape[1]), np.nan)]),
        "errors": np.append(none if errors is None else errors, np.full(n_more, np.nan)),
        "clear": np.append(flags, np.zeros(n_more, bool)),
    }
