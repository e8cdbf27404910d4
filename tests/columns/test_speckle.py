"""Crystals on amorphous carbon: the mean of its speckle over all cells is no column."""

import math

import numpy as np
import pytest
import torch
from probes import recall_and_precision

import torchmotif as tm
from torchmotif.columns._filters import blur
from torchmotif.columns._folding import scattered
from torchmotif.columns.model import Cell
from torchmotif.datasets import Specimen, mose2, projection, with_carbon, with_edge

SHAPE = (288, 288)


def strontium_titanate() -> Specimen:
    turn = np.array([[np.cos(0.1), np.sin(0.1)], [-np.sin(0.1), np.cos(0.1)]])
    (a, b), (c, d) = (0.3905 * turn).tolist()
    return projection(((a, b), (c, d)), [("Sr", 0, 0), ("TiO", 0.5, 0.5)], SHAPE, 0.0158)


def found_in(specimen: Specimen, dose: float, seed: int) -> tuple[float, float]:
    columns = tm.find_columns(specimen.draw(dose, torch.Generator().manual_seed(seed)))
    truth = np.asarray(specimen.truth.positions)
    return recall_and_precision(np.asarray(columns.positions), truth, SHAPE[0], border=0.5)


@pytest.mark.parametrize("seed", [3, 4, 6, 8, 11])
@pytest.mark.parametrize("dose", [1.0, 10.0])
def test_the_hollows_of_a_crystal_that_ends_on_carbon_hold_no_column(seed: int, dose: float) -> None:
    specimen = with_carbon(with_edge(mose2(SHAPE), 0.0, at=0.5), 20.0, random_state=seed)
    recall, precision = found_in(specimen, dose, seed)
    assert recall >= 0.95
    assert precision >= 0.9  # beyond the edge there is speckle


def test_a_crystal_half_of_which_lies_on_carbon_has_no_column_between_its_own() -> None:
    specimen = with_carbon(strontium_titanate(), 40.0, at=0.5, random_state=8)
    assert min(found_in(specimen, 3.0, 8)) >= 0.98


@pytest.mark.parametrize("wide", [0.0, 3.0])
def test_sites_scatter_by_what_columns_there_would_have_cell_by_cell(wide: float) -> None:
    """Whether noise is white or as wide as columns."""
    side, constant, width = 256, 16.0, 3.0
    cell = Cell(((1 / constant, 0.0), (0.0, 1 / constant)), 32.0, ((0.5, 0.5), (0.0, 0.0)), (1.0, 1.0), width)
    row = torch.arange(side) / constant % 1
    place = torch.stack(torch.meshgrid(row, row, indexing="ij"))[None]
    rest = torch.randn(60, side, side, generator=torch.Generator().manual_seed(1))
    rest = blur(rest, wide) if wide else rest
    inside = torch.ones(1, side, side, dtype=torch.bool)
    claimed = np.stack([scattered(one[None], place, inside, cell) for one in rest])
    mean = rest.view(60, 16, 16, 16, 16).mean((1, 3))  # over the cells
    away = (torch.arange(16) - 8.0) ** 2
    column = torch.exp(-(away[:, None] + away) / (2 * width**2))
    intensity = (mean * column).sum((1, 2)) / column.square().sum() * 2 * math.pi * width**2
    assert claimed.mean() == pytest.approx(float(intensity.std()), rel=0.2)
