"""Places of a lattice that hold no column, beyond those that its crystal leaves free."""

import math

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from torchmotif.analysis.looked import Looked
from torchmotif.columns._cell_bins import cells_around
from torchmotif.columns._guided import SAME
from torchmotif.columns.lattice import Lattice, dark_sites, find_lattice
from torchmotif.columns.model import Cell, Pair

__all__ = ["share_of_gaps"]

# Columns around a place, the length of their mean direction, spacings to the farthest.
_AROUND, _ONE_SIDE, _REACH = 6, 0.4, 2.5
# Of the columns, those from which a vector leads to another: of its own crystal 0.63 (fluorite, rutile) to 0.98, of another grain 0.00.
_HALF = 0.5
_ENOUGH = 2000  # columns of a crystal without faults: 2 to 6 % of them are outermost, and lead nowhere


def share_of_gaps(looked: Looked) -> float:
    """Share of the places that short vectors lead to from columns with a lattice, that hold none; less that of the crystal whose mean cell is known.

    Of fluorite along [110] every fifth of these is between anions, of a superlattice every other one.
    """
    model, columns = looked.image.survey.model, torch.from_numpy(looked.positions[looked.supported])
    lattice = find_lattice(columns, model.spacing)
    share = _share(columns, model.spacing, lattice, len(looked.positions))
    if not len(lattice.vectors):
        return share
    usual = 0.0
    for cell in model.cells:
        crystal = torch.from_numpy(_crystal(cell, model.axes))
        none = torch.zeros(len(crystal), dtype=torch.long)
        same = Lattice(lattice.vectors[:1], none, none)  # of the largest grain
        if _repeats(crystal, same, model.spacing):
            usual = max(usual, _share(crystal, model.spacing, same, len(crystal)))
    return share - usual


def _repeats(crystal: Tensor, lattice: Lattice, spacing: float) -> bool:
    """Whether vectors are those of a crystal: of another grain's, hardly any lead from column to column."""
    columns = cKDTree(crystal)
    led = [np.mean(columns.query(crystal + move)[0] < SAME * spacing) for move in lattice.vectors[0]]
    return bool(min(led) > _HALF)


def _crystal(cell: Cell, axes: Pair) -> np.ndarray:
    """Columns of a crystal without faults, in square pixels."""
    reach = math.ceil(math.sqrt(_ENOUGH / len(cell.sites)) / 2)
    real = np.linalg.inv(np.array(cell.orders)).T / np.array(axes)
    columns: np.ndarray = (cells_around(reach)[:, None] + np.array(cell.sites)).reshape(-1, 2) @ real
    return columns


def _share(columns: Tensor, spacing: float, lattice: Lattice, count: int) -> float:
    """Of places among some columns that hold none, of these and so many columns."""
    sites = dark_sites(columns, spacing, lattice).numpy()
    within = _surrounded(sites, columns.numpy(), spacing).sum()
    return float(within / (within + count))


def _surrounded(sites: np.ndarray, columns: np.ndarray, spacing: float) -> np.ndarray:
    """Which places have columns on opposite sides."""
    if not len(sites):
        return np.zeros(0, bool)
    found = cKDTree(columns).query(sites, min(_AROUND, len(columns)))
    away = columns[np.asarray(found[1])] - sites[:, None]
    mean = (away / np.linalg.norm(away, axis=2, keepdims=True).clip(1e-9)).mean(1)
    inside: np.ndarray = (np.hypot(*mean.T) < _ONE_SIDE) & (np.asarray(found[0])[:, -1] < _REACH * spacing)
    return inside
