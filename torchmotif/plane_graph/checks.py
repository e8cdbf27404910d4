"""Edges and labels as they were given, checked."""

from typing import Any

import numpy as np

from torchmotif.errors import InputError, InputTypeError

__all__ = ["as_labels", "checked_edges"]


def checked_edges(edges: Any, count: int) -> np.ndarray:
    """Pairs of different nodes of `count`, each pair once, the lower node first; shape (e, 2)."""
    pairs = np.asarray(edges)
    if pairs.size and (pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu"):
        raise InputError(
            f"edges must be pairs of node indices (e, 2), got {pairs.dtype} of shape {pairs.shape}"
        )
    pairs = np.sort(pairs.reshape(-1, 2).astype(np.int64), axis=1)
    if pairs.size and (pairs.min() < 0 or pairs.max() >= count):
        raise InputError(f"edges must name nodes 0 to {count - 1}, got {pairs.min()} to {pairs.max()}")
    key = np.unique(pairs[:, 0] * count + pairs[:, 1])
    pairs = np.stack([key // max(count, 1), key % max(count, 1)], axis=1)
    different: np.ndarray = pairs[pairs[:, 0] != pairs[:, 1]]
    return different


def as_labels(labels: Any, count: int) -> np.ndarray:
    """One integer or string for each of `count` nodes, in numpy."""
    host = labels.detach().cpu() if hasattr(labels, "cpu") else labels
    values = np.asarray(host.double() if hasattr(host, "double") and host.is_floating_point() else host)
    if values.shape != (count,):
        raise InputError(f"labels must hold one label for each of {count} nodes, got shape {values.shape}")
    if values.dtype.kind not in "biuUT":
        raise InputTypeError(
            f"labels must be integers or strings, got dtype {values.dtype}; convert them first"
        )
    return values
