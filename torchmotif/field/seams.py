"""Seams between blocks: a column that two blocks claim is counted once, one that both leave to the other is kept."""

import numpy as np
import torch

from torchmotif.columns.detect import CLOSEST
from torchmotif.columns.neighbours import pairs_within, strongest_first
from torchmotif.field.grid import Grid
from torchmotif.field.plan import Job

__all__ = ["rows_to_keep"]


def rows_to_keep(job: Job) -> list[np.ndarray]:
    """For every block of an image the rows of its part that are columns of the image, ascending.

    Neighbouring blocks fit a column near their seam each for itself, and may differ in the last digits of its
    position; so both may own it, or neither. Of two that are one column the stronger stays, and of two that nobody
    owns the stronger is kept where it was found.
    """
    grid, common = job.survey.grid, job.survey.common
    parts = [_needed(job, number) for number in range(len(grid))]
    counts = [len(owned) for _, _, owned in parts]
    positions, intensities, keep = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    block = np.repeat(np.arange(len(grid)), counts)
    radius = CLOSEST * common.spacing
    near = np.flatnonzero(~keep | _near_seam(grid, block, positions, radius * max(common.axes)))
    if len(grid) > 1 and len(near):
        keep[near] = _settled(
            torch.from_numpy(positions[near] / np.array(common.axes)),
            torch.from_numpy(intensities[near]),
            torch.from_numpy(keep[near]),
            torch.from_numpy(block[near]),
            radius,
        )
    return [np.flatnonzero(part) for part in np.split(keep, np.cumsum(counts)[:-1])]


def _needed(job: Job, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions, intensities and who owns them, of what a block has found."""
    part = job.work.load(job.name("columns", number))
    return (
        part["positions"].copy(),
        part["intensities"].copy(),
        part["owned"].copy(),
    )  # not views of the whole file


def _settled(
    positions: torch.Tensor, strength: torch.Tensor, owned: torch.Tensor, block: torch.Tensor, radius: float
) -> np.ndarray:
    """Which of the columns near seams stay."""
    i, j = pairs_within(positions, radius)
    across = block[i] != block[j]
    i, j = i[across], j[across]
    claimed = torch.zeros_like(owned)
    claimed[i[owned[j]]] = True
    seen_twice = torch.zeros_like(owned)
    seen_twice[i[~owned[j]]] = True
    candidates = torch.nonzero(owned | (~owned & ~claimed & seen_twice))[:, 0]
    stays = torch.zeros_like(owned)
    stays[candidates] = strongest_first(positions[candidates], strength[candidates], radius)
    kept: np.ndarray = stays.numpy()
    return kept


def _near_seam(grid: Grid, block: np.ndarray, positions: np.ndarray, reach: float) -> np.ndarray:
    """Which positions lie within `reach` pixels of the edges of their block's core, or beyond them."""
    cores = np.array([grid[number].core for number in range(len(grid))], np.float64).reshape(-1, 4)
    low, high = cores[:, :2] - 0.5 + reach, cores[:, 2:] - 0.5 - reach
    low[cores[:, :2] == 0] = -np.inf
    high[cores[:, 2:] == np.array(grid.shape)] = np.inf
    inner: np.ndarray = ((positions >= low[block]) & (positions < high[block])).all(axis=1)
    return ~inner
