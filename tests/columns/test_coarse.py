"""Mean cells from pixels as coarse as their columns allow."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.columns._beside_steps import rise_within
from torchmotif.columns._coarse import Coarse
from torchmotif.columns.model import Cell, Tiles


def tiles(image: torch.Tensor) -> Tiles:
    usable = torch.isfinite(image)
    return Tiles(torch.where(usable, image, 0.0)[None], usable[None], ~usable[None] & usable[None])


def cell(width: float, constant: float) -> Cell:
    return Cell(
        ((1 / constant, 0.0), (0.0, 1 / constant)), 2 * constant, ((0.2, 0.7), (0.5, 0.1)), (3.0, 1.0), width
    )


@given(width=st.floats(1.0, 30.0), ratio=st.floats(3.0, 12.0))
def test_cells_come_back_as_they_were(width: float, ratio: float) -> None:
    one = cell(width, ratio * width)
    coarse = Coarse.of(tiles(torch.zeros(64, 64)), [one])
    (again,) = coarse.fine(coarse.cells([one]))
    assert coarse.side <= max(1.0, width / 1.5)
    assert np.allclose(again.orders, one.orders)
    assert again.sites == one.sites
    assert again.intensities == pytest.approx(one.intensities)
    assert (again.width, again.window) == pytest.approx((one.width, one.window))


def test_a_hole_in_coarse_pixels_is_no_step() -> None:
    none = torch.zeros(1, 64, 64, dtype=torch.bool)
    hole = none.clone()
    hole[:, 20:40, 20:40] = True
    under = torch.full((1, 64, 64), 3.0)
    fine = Tiles(torch.zeros(1, 64, 64), ~hole, none, torch.ones_like(under), under)
    coarse = Coarse.of(fine, [cell(4.0, 30.0)])
    assert coarse.side > 1
    assert float(rise_within(coarse.tiles, 3).max()) == 0


@pytest.mark.parametrize("shape", [(60, 48), (61, 50)])
def test_a_column_is_where_it_was_and_a_little_wider(shape: tuple[int, int]) -> None:
    at, width = (29.3, 21.8), 6.0
    row, col = (torch.arange(n, dtype=torch.float32) for n in shape)
    image = torch.exp(-((row[:, None] - at[0]) ** 2 + (col - at[1]) ** 2) / (2 * width**2))
    coarse = Coarse.of(tiles(image), [cell(width, 40.0)])
    assert coarse.side == 4
    level = coarse.tiles.level[0].double()
    i, j = (torch.arange(n, dtype=torch.float64) for n in level.shape)
    middle = torch.stack([(level.sum(1) * i).sum(), (level.sum(0) * j).sum()]) / level.sum()
    assert coarse.positions(middle[None])[0].tolist() == pytest.approx(at, abs=0.02)
    spread = (level.sum(1) * (i - middle[0]) ** 2).sum() / level.sum()
    (one,) = coarse.cells([cell(width, 40.0)])
    assert math.sqrt(spread) == pytest.approx(one.width, rel=0.01)


def test_pixels_that_were_not_measured_are_left_out() -> None:
    image = torch.ones(32, 32)
    image[8:12] = torch.nan
    coarse = Coarse.of(tiles(image), [cell(6.0, 40.0)])
    assert not coarse.tiles.usable[0, 2].any()
    assert coarse.tiles.level[coarse.tiles.usable].tolist() == pytest.approx([1.0] * 56)
    fine = coarse.pixels(coarse.tiles.usable)
    assert torch.equal(fine[0], torch.isfinite(image))


@pytest.mark.parametrize("pixel_nm", [0.0075, 0.005])
def test_sulphur_is_found_in_fine_pixels(pixel_nm: float) -> None:
    side = round(5.0 / pixel_nm)
    specimen = tm.datasets.mx2("W", "S", (side, side), pixel_nm, vacancy_rate=0.0, random_state=2)
    columns = tm.find_columns(specimen.draw(1 / 20, torch.Generator().manual_seed(3)))
    at, margin = specimen.truth.positions.numpy(), 0.3 / pixel_nm
    inner = ((at > margin) & (at < side - margin)).all(axis=1)
    away = cKDTree(columns.positions).query(at[inner])[0] * pixel_nm
    assert (away < 0.05).mean() >= 0.98
    assert columns.is_predicted.any()
