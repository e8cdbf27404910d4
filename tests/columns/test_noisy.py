"""What noise hides of columns where there is more of it."""

import pytest
import torch

from torchmotif.columns._guided import Sites
from torchmotif.columns._noisy import Noisy, is_uneven, where_noisy
from torchmotif.columns.model import Cell, ImageModel, Tiles

SIDE, APART, WIDTH, BRIGHT = 200, 10.0, 2.0, 100.0
CELL = Cell(((1 / APART, 0.0), (0.0, 1 / APART)), 20.0, ((0.0, 0.0),), (BRIGHT,), WIDTH)
MODEL = ImageModel(APART, 0.0, 1.0, (0.0, 1.0), None, False, (1.0, 1.0), cells=(CELL,), width=(WIDTH, WIDTH))


def sites_of(tiles: Tiles) -> Sites:
    at = torch.arange(APART / 2, SIDE, APART, dtype=torch.float64)
    positions = torch.cartesian_prod(at, at)
    none = torch.zeros(len(positions), dtype=torch.bool)
    number, full = torch.zeros(len(positions), dtype=torch.long), torch.ones(len(positions))
    return Sites(
        tiles,
        positions,
        number,
        number,
        BRIGHT * full,
        full,
        full,
        none,
        none,
        APART,
        1,
        APART,
        torch.zeros(1) > 0,
    )


def uneven(more: float) -> tuple[Tiles, torch.Tensor]:
    """A tile, and the variance of its pixels: that much on the right, 1 on the left."""
    every = torch.ones(1, SIDE, SIDE, dtype=torch.bool)
    variance = torch.ones(1, SIDE, SIDE)
    variance[:, :, SIDE // 2 :] = more
    return Tiles(torch.zeros(1, SIDE, SIDE), every, ~every), variance


def test_noise_is_uneven_where_a_part_has_more() -> None:
    tiles, variance = uneven(9.0)
    assert is_uneven(variance, tiles.usable)
    assert not is_uneven(uneven(2.0)[1], tiles.usable)
    assert not is_uneven(variance, ~tiles.usable)  # nothing was measured


@pytest.mark.parametrize(("more", "assumed"), [(9.0, 0.0), (400.0, 0.5)])
def test_columns_that_noise_hides_at_their_places_are_assumed(more: float, assumed: float) -> None:
    """Of a variance of 400 the error of an intensity is 142."""
    tiles, variance = uneven(more)
    sites = sites_of(tiles)
    found = where_noisy(tiles, MODEL, variance, (sites.positions, sites.intensity), sites)
    assert found.assumed == pytest.approx(assumed)
    assert found.lost == 0


def test_places_without_a_column_where_noise_is_more_are_lost() -> None:
    tiles, variance = uneven(400.0)
    sites = sites_of(tiles)
    kept = (sites.positions[:, 1] < SIDE / 2) | (sites.positions[:, 0] < SIDE / 2)
    found = where_noisy(tiles, MODEL, variance, (sites.positions[kept], sites.intensity[kept]), sites)
    assert found.lost == pytest.approx(0.5)


def test_without_mean_cells_columns_that_would_not_stand_out_are_drowned() -> None:
    tiles, variance = uneven(400.0)
    sites = sites_of(tiles)
    columns = sites.positions, sites.intensity
    assert where_noisy(tiles, MODEL, variance, columns, None).drowned == pytest.approx(0.5, abs=0.02)
    assert where_noisy(tiles, MODEL, torch.ones_like(variance), columns, None) == Noisy()
