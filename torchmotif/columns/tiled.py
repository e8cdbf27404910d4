"""Columns of many tiles at once: the stage that every source of pixels goes through."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from torchmotif.columns.parts import Common as ImageModel
from torchmotif.columns.parts import columns_of_part
from torchmotif.columns.parts import measure_common as calibrate

__all__ = ["ImageModel", "calibrate", "columns_of_tiles"]


def columns_of_tiles(
    windows: Float[Tensor, "t h w"], model: ImageModel, *, threshold: float | None = None
) -> dict[str, Tensor]:
    """The columns of a batch of tiles.

    Parameters
    ----------
    windows : Tensor of shape (t, h, w), float32
        Pixels of the tiles with `model.margin` pixels around their cores, where the image has them; not finite where a
        pixel was not measured.
    model : ImageModel
        What the columns have in common.
    threshold : float, optional
        Least height of a column above its background, in the image's units.

    Returns
    -------
    dict of Tensors
        tile (n,), the number of its tile, ascending; positions (n, 2) float64 in pixels of its window; intensities,
        position_errors, intensity_errors, fit_quality, is_rim, is_overlapping, is_saturated, as in `Columns`.
    """
    least = 0.0 if threshold is None else threshold * 2 * np.pi * model.width[0] * model.width[1]
    parts: list[dict[str, Any]] = []
    for number, window in enumerate(windows):
        found = columns_of_part(window.cpu().numpy(), model, windows.device)
        keep = found["intensities"] >= least if threshold is not None else slice(None)
        found = {name: values[keep] for name, values in found.items()}
        parts.append({"tile": np.full(len(found["positions"]), number), **found})
    names = parts[0] if parts else {}
    return {name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in names}
