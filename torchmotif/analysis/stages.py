"""The two passes over the pixels of a batch of tiles: columns and moments; motifs of the columns and sums of patches."""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from torchmotif._memory import memory_for
from torchmotif._threads import single_threaded
from torchmotif.analysis.engine import device_of_worker
from torchmotif.analysis.plan import Batch
from torchmotif.columns._rows import offsets_of_rows
from torchmotif.columns.grid import GUARD, in_core
from torchmotif.columns.tiled import columns_of_tiles
from torchmotif.motifs import MotifClassifier
from torchmotif.motifs._moments import add_by_label, finer_order
from torchmotif.patches import MOST_HIDDEN, extract_patches, hidden_share, inside, offsets
from torchmotif.zernike import ZernikeBasis, n_modes

__all__ = ["find_columns_of", "label_columns_of", "moments_for_motifs"]

_PATCHES = 4096  # that are cut and summed at a time
_REMEDY = "run fewer workers= at a time, set memory_budget=, or device='cpu'"


def moments_for_motifs(n_max: int, size: int) -> int:
    """How many moments motifs are told from: to half the patches' side at most."""
    return n_modes(min(n_max, size // 2))


def find_columns_of(batch: Batch) -> int:
    """First pass over a batch: positions, intensities, errors, moments. Returns the number of columns."""
    with single_threaded(), memory_for(_REMEDY):
        device = torch.device(device_of_worker(batch.device) or "cpu")
        pixels = batch.pixels().to(device)
        found = _on_host(_found(batch, pixels))
        moments = found.pop("moments")
    batch.parts.commit(batch.name("moments"), {"moments": moments})
    batch.parts.commit(batch.name("columns"), found)  # last: it says that the batch is done
    return int(found["owned"].sum())


def label_columns_of(
    batch: Batch, rows: np.ndarray, classifier: MotifClassifier, level: float, device: str | None = None
) -> None:
    """Second pass over a batch: the motif of every column, and the sums of the patches of every motif.

    `rows` are the columns that count; `level` was taken off the pixels. The classifier must be on the device.
    """
    with single_threaded(), memory_for(_REMEDY):
        columns, moments = batch.load("columns"), batch.load("moments")["moments"][rows]
        whole = np.isfinite(moments[:, 0])
        part = {name: columns[name][rows] for name in ("image", "tile", "positions")}
        part |= {"rows": rows, "whole": whole, **_labels(classifier, moments, whole, level, device)}
        size, labels = batch.survey.patch_size, part["labels"]
        pixels = batch.pixels().to(device or "cpu")
        if not whole.all() and classifier.equivalence is None:
            _label_partial(batch, part, pixels, classifier, level)
        sums = torch.zeros(classifier.n_motifs_, size * size, dtype=torch.float64, device=pixels.device)
        has_motif = np.flatnonzero((labels >= 0) & whole)
        if len(has_motif) and classifier.equivalence is None:  # else the patches lie in all orientations
            image = _filled(batch, pixels)
            at, of = (
                torch.from_numpy(one[has_motif]).to(pixels.device) for one in (_tall(batch, part), labels)
            )
            for some, motif in zip(at.split(_PATCHES), of.split(_PATCHES), strict=True):
                add_by_label(sums, motif, _patches(batch, image, some))
        part["sums"] = sums.view(-1, size, size).cpu().numpy()
    batch.parts.commit(batch.name("labels"), part)


def _labels(
    classifier: MotifClassifier, moments: np.ndarray, whole: np.ndarray, level: float, device: str | None
) -> dict[str, np.ndarray]:
    """Motif and its probability, -1 and 0 without a whole patch; how it is turned, where that was asked for."""
    n = len(moments)
    part = {"labels": np.full(n, -1), "probabilities": np.zeros(n), "angles": np.full(n, np.nan)}
    part["mirrored"] = np.zeros(n, bool)
    if whole.any():
        values = torch.from_numpy(moments[whole]).to(device or "cpu")
        found = classifier.predict_moments(values, level=level)
        part["labels"][whole] = found.labels.cpu()
        part["probabilities"][whole] = found.probabilities.cpu()
        part["angles"][whole] = torch.where(found.labels < 0, torch.nan, found.angles).cpu()
        part["mirrored"][whole] = found.mirrored.cpu()
    unasked = {None: ("angles", "mirrored"), "rotation": ("mirrored",)}.get(classifier.equivalence, ())
    return {name: values for name, values in part.items() if name not in unasked}


def _label_partial(
    batch: Batch, part: dict[str, np.ndarray], pixels: Tensor, classifier: MotifClassifier, level: float
) -> None:
    """Label the columns without a whole patch by the part of it that was measured."""
    rows = np.flatnonzero(~part["whole"])
    size, survey = batch.survey.patch_size, batch.survey
    tile, local = (torch.from_numpy(one[rows]).to(pixels.device) for one in _tile_and_local(batch, part))
    step = (torch.arange(size, device=pixels.device) - (size - 1) / 2) * survey.zoom
    shift = torch.zeros_like(local) if survey.zoom != 1.0 else offsets(local, size)
    centre = local - shift
    h, w = pixels.shape[1:]
    row, col = (centre[:, axis, None] + step for axis in (0, 1))
    inside = ((row > -0.5) & (row < h - 0.5))[:, :, None] & ((col > -0.5) & (col < w - 0.5))[:, None, :]
    at = (
        tile[:, None, None],
        row.round().long().clamp(0, h - 1)[:, :, None],
        col.round().long().clamp(0, w - 1)[:, None],
    )
    present = inside & torch.isfinite(pixels)[at]
    image = _filled(batch, pixels).view(pixels.shape)
    patches = (image[at] - survey.level) * survey.gain + level
    labels, probabilities = classifier.predict_partial(patches, present, shift)
    part["labels"][rows], part["probabilities"][rows] = labels.cpu(), probabilities.cpu()


def _found(batch: Batch, pixels: Tensor) -> dict[str, Tensor]:
    """The columns of a batch and a little beyond its tiles, by tile, row and column, and their moments."""
    places = torch.from_numpy(batch.places).to(pixels.device)
    if batch.given is None:
        found = columns_of_tiles(pixels, batch.survey.model, threshold=batch.threshold)
        guard = GUARD * batch.survey.model.spacing
    else:
        found, guard = _given(batch, pixels.device), 0.0
    tile, local = found.pop("tile").to(pixels.device), found.pop("positions").to(pixels.device)
    at = local + places[tile, 6:]
    index = torch.nonzero(in_core(places[tile, 2:6], at, batch.survey.shape, guard))[:, 0]
    for key in (at[:, 1], at[:, 0], tile):
        index = index[torch.argsort(key[index], stable=True)]
    tile, at, local = tile[index], at[index], local[index]
    kept = {name: values.to(pixels.device)[index] for name, values in found.items()}
    return kept | {
        "image": places[tile, 0],
        "tile": places[tile, 1],
        "positions": at,
        "owned": in_core(places[tile, 2:6], at, batch.survey.shape),
        "moments": _moments(batch, pixels, tile, local, at),
    }


def _given(batch: Batch, device: torch.device) -> dict[str, Tensor]:
    """The given columns, in every tile that holds them; what is known of them is known elsewhere."""
    at = torch.from_numpy(np.asarray(batch.given)).double().to(device)
    places = torch.from_numpy(batch.places).to(device)
    tile = torch.arange(len(places), device=device).repeat_interleave(len(at))
    every = at.repeat(len(places), 1)
    mine = in_core(places[tile, 2:6], every, batch.survey.shape)
    return {"tile": tile[mine], "positions": every[mine] - places[tile[mine], 6:]}


def _moments(batch: Batch, pixels: Tensor, tile: Tensor, local: Tensor, at: Tensor) -> Tensor:
    """Moments of the image less its level, float32; NaN where it has no whole patch."""
    survey = batch.survey
    basis = _basis(batch.n_max, survey.patch_size, str(pixels.device))
    whole = inside(at, survey.shape, survey.reach)
    tall = local.clone()
    tall[:, 0] += tile * pixels.shape[1]
    if batch.has_hidden:
        hidden = ~torch.isfinite(pixels).flatten(0, 1)
        whole = whole & (hidden_share(tall, hidden, survey.reach) <= MOST_HIDDEN)
    image = _filled(batch, pixels)
    if survey.zoom == 1.0:
        moments = basis.project((image - survey.level) * survey.gain, tall, outside="mask")
    else:
        parts = (_patches(batch, image, some) for some in tall.split(_PATCHES))
        moments = torch.cat([basis((patches - survey.level) * survey.gain) for patches in parts])
    return torch.where(whole[:, None], moments, torch.nan)


def _filled(batch: Batch, pixels: Tensor) -> Tensor:
    """The windows below each other as one image; the mean of those beside in place of pixels that are hot or not finite.

    Where there is none beside either it is the level. No patch of a column that is kept leaves its window, but at the image's border, where it is not whole.
    """
    usual = batch.survey.model.is_usual(pixels)
    level = batch.survey.level
    beyond = torch.where(usual, pixels - level, 0.0)
    sums, count = (F.avg_pool2d(one[:, None], 3, 1, 1)[:, 0] for one in (beyond, usual.to(pixels.dtype)))
    filled = torch.where(usual, pixels, level + sums / count.clamp(min=1e-3))
    if batch.survey.model.hum:
        filled = filled - offsets_of_rows(filled, usual)
    return _averaged(filled, batch.survey.zoom).flatten(0, 1)


def _tall(batch: Batch, part: dict[str, np.ndarray]) -> np.ndarray:
    """Where columns lie in the windows below each other."""
    tile, local = _tile_and_local(batch, part)
    local[:, 0] += tile * batch.survey.grid.window[0]
    return local


def _tile_and_local(batch: Batch, part: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Which window of the batch each column lies in, and where in it."""
    places = batch.places
    # The images and tiles of a batch ascend.
    key = places[:, 0] * len(batch.survey.grid) + places[:, 1]
    tile = np.searchsorted(key, part["image"] * len(batch.survey.grid) + part["tile"])
    return tile, np.asarray(part["positions"] - places[tile, 6:])


def _patches(batch: Batch, image: Tensor, at: Tensor) -> Tensor:
    """Patches of the scale that motifs are learnt on, in units of the image."""
    size, zoom = batch.survey.patch_size, batch.survey.zoom
    if zoom == 1.0:
        cut: Tensor = extract_patches(image, at, size)
        return cut
    # About the true centres, on a grid `zoom` pixels wide.
    step = (torch.arange(size, dtype=torch.float64, device=at.device) - (size - 1) / 2) * zoom
    half = torch.tensor(image.shape, dtype=torch.float64, device=at.device) / 2
    rows, cols = ((at[:, axis, None] + step + 0.5) / half[axis] - 1 for axis in (0, 1))
    grid = torch.stack(torch.broadcast_tensors(cols[:, None, :], rows[:, :, None]), dim=-1)
    sampled = F.grid_sample(
        image[None, None].double(),
        grid.reshape(1, -1, size, 2),
        mode="bicubic",
        padding_mode="border",
        align_corners=False,
    )
    return sampled.reshape(-1, size, size).float()


def _averaged(pixels: Tensor, zoom: float) -> Tensor:
    """The windows blurred so that a sample every `zoom` pixels stands for all of them."""
    sigma = np.sqrt(max(zoom**2 - 1, 0.0) / 12)  # as wide as a box of `zoom` pixels is beyond one pixel
    reach = int(np.ceil(3 * sigma))
    if reach == 0:
        return pixels
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, device=pixels.device) / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = F.pad(pixels[:, None], (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel[None, None, :, None]), kernel[None, None, None, :])[:, 0]


@lru_cache(maxsize=4)
def _basis(n_max: int, size: int, device: str) -> ZernikeBasis:
    """The basis, with the kernels it has made so far."""
    return ZernikeBasis(finer_order(min(n_max, size // 2), size), size, device=device)


def _on_host(values: dict[str, Tensor]) -> dict[str, Any]:
    """Arrays of the tensors, which leave the device together."""
    if not values or values["tile"].device.type == "cpu":
        return {name: value.numpy() for name, value in values.items()}
    packed = torch.cat([value.double().reshape(len(value), -1) for value in values.values()], dim=1).cpu()
    parts = packed.split([value.shape[1:].numel() for value in values.values()], dim=1)
    return {
        name: part.to(value.dtype).reshape(value.shape).numpy()
        for (name, value), part in zip(values.items(), parts, strict=True)
    }
