"""The two passes over the pixels: columns and moments of a block; motifs of its columns."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from torchmotif._memory import memory_for
from torchmotif.columns.parts import columns_of_part
from torchmotif.errors import InputError
from torchmotif.field.engine import device_of_worker, single_threaded
from torchmotif.field.grid import Block
from torchmotif.field.motifs import labelled
from torchmotif.field.plan import Job, basis_of
from torchmotif.motifs import MotifClassifier
from torchmotif.patches import extract_patches, inside, offsets

__all__ = ["find_columns_of", "label_columns_of", "patches_of"]

_GUARD = 0.3  # spacings beyond its core in which a block keeps columns, for the seams
_REMEDY = "run fewer workers= at a time, set memory_budget=, or device='cpu'"


def find_columns_of(job: Job, blocks: list[int]) -> int:
    """First pass over some blocks: positions, intensities, errors, moments. Returns the number of columns."""
    count = 0
    with single_threaded(), memory_for(_REMEDY):
        for number in blocks:
            arrays, moments = _found(job, number)
            job.work.commit(job.name("moments", number), {"moments": moments})
            job.work.commit(job.name("columns", number), arrays)  # last: it says that the block is done
            count += int(arrays["owned"].sum())
    return count


def label_columns_of(
    job: Job, blocks: list[int], classifier: MotifClassifier, level: float, rows: list[np.ndarray]
) -> int:
    """Second pass over some blocks: the motif of every column, and the sums of the patches of every motif."""
    with single_threaded(), memory_for(_REMEDY):
        for number, kept in zip(blocks, rows, strict=True):
            positions = job.work.load(job.name("columns", number))["positions"][kept]
            moments = job.work.load(job.name("moments", number))["moments"][kept]
            labels, probabilities = labelled(classifier, moments, level)
            sums = np.zeros((classifier.n_motifs_, job.survey.patch_size, job.survey.patch_size))
            in_motif = np.flatnonzero(labels >= 0)
            if len(in_motif):
                patches = torch.from_numpy(patches_of(job, number, positions[in_motif])[0]).double()
                total = torch.from_numpy(sums).flatten(1)
                total.index_add_(0, torch.from_numpy(labels[in_motif]), patches.flatten(1))
            job.work.commit(
                job.name("labels", number),
                {
                    "rows": kept.astype(np.int32),
                    "positions": positions,
                    "labels": labels,
                    "probabilities": probabilities,
                    "sums": sums,
                },
            )
    return sum(len(kept) for kept in rows)


def patches_of(job: Job, number: int, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Patches, float32 in units of the image, and offsets of columns that have whole ones."""
    block = job.survey.grid[number]
    pixels = _finite(job, job.pixels(number))
    if job.survey.zoom == 1.0:
        at = positions - block.origin
        size = job.survey.patch_size
        return extract_patches(pixels, at, size).astype(np.float32), offsets(at, size)
    patches = _scaled_patches(job, pixels, positions - block.origin)
    return patches.numpy(), np.zeros((len(positions), 2))


def _found(job: Job, number: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The columns of a block and a little beyond it, and their moments."""
    block, shape = job.survey.grid[number], job.survey.shape
    device = device_of_worker(job.device)
    pixels = job.pixels(number)
    try:
        arrays = columns_of_part(pixels, job.survey.common, device)
    except torch.linalg.LinAlgError as error:  # type: ignore[attr-defined]  # public, but not exported to checkers
        share = 1 - np.isfinite(pixels).mean()
        if not share:
            raise
        top, left, bottom, right = block.window
        raise InputError(
            f"{job.source.name}: {share:.0%} of the pixels in rows {top} to {bottom} and columns {left} to {right} are "
            "not finite, too many to fit columns there; cut that part off, or set it to the image's background"
        ) from error
    local, positions = arrays["positions"], arrays["positions"] + block.origin
    near = block.holds(positions, shape, _GUARD * job.survey.common.spacing)
    order = np.flatnonzero(near)[np.lexsort(positions[near].T[::-1])]
    arrays = {name: values[order] for name, values in arrays.items()}
    arrays["positions"] = positions[order]
    arrays["owned"] = block.holds(positions[order], shape)
    moments = _moments(job, block, pixels, local[order], device)
    arrays["whole"] = np.isfinite(moments[:, 0])
    return arrays, moments


def _moments(job: Job, block: Block, pixels: np.ndarray, local: np.ndarray, device: str | None) -> np.ndarray:
    """Moments of the image less its level; NaN where there is no whole patch."""
    survey = job.survey
    basis = basis_of(job.n_max, survey.patch_size, device)
    values = _finite(job, pixels)
    if survey.zoom == 1.0:
        normal = (torch.as_tensor(values, device=device) - survey.level) * survey.gain
        found: np.ndarray = basis.project(normal, local, outside="mask").float().cpu().numpy()
        return found
    reach = int(np.ceil(survey.patch_size * survey.zoom))
    whole = inside(local + block.origin, survey.shape, reach)
    moments = np.full((len(local), len(basis.basis)), np.nan, np.float32)
    patches = _scaled_patches(job, values, local[whole])
    moments[whole] = basis((patches - survey.level) * survey.gain).cpu().numpy()
    return moments


def _finite(job: Job, pixels: np.ndarray) -> np.ndarray:
    values = pixels.astype(np.float32)
    return np.where(np.isfinite(values), values, np.float32(job.survey.level))


def _scaled_patches(job: Job, pixels: np.ndarray, positions: np.ndarray) -> Tensor:
    """Patches about the true centres on a grid `zoom` pixels wide: averaged over that width, then interpolated."""
    size, zoom = job.survey.patch_size, job.survey.zoom
    image = _averaged(torch.from_numpy(pixels), zoom)
    step = (torch.arange(size, dtype=torch.float64) - (size - 1) / 2) * zoom
    at = torch.from_numpy(positions)
    half = torch.tensor(image.shape, dtype=torch.float64) / 2
    rows = (at[:, :1] + step + 0.5) / half[0] - 1
    cols = (at[:, 1:] + step + 0.5) / half[1] - 1
    grid = torch.stack(torch.broadcast_tensors(cols[:, None, :], rows[:, :, None]), dim=-1).float()
    flat = grid.reshape(1, -1, size, 2)
    sampled = F.grid_sample(
        image[None, None], flat, mode="bicubic", padding_mode="border", align_corners=False
    )
    return sampled.reshape(-1, size, size)


def _averaged(image: Tensor, zoom: float) -> Tensor:
    """The image blurred so that a sample every `zoom` pixels stands for all of them."""
    sigma = np.sqrt(max(zoom**2 - 1, 0.0) / 12)  # as wide as a box of `zoom` pixels is beyond one pixel
    reach = int(np.ceil(3 * sigma))
    if reach == 0:
        return image
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = F.pad(image[None, None], (reach,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel[None, None, :, None]), kernel[None, None, None, :])[0, 0]
