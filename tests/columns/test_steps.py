from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.columns._steps import stepped
from torchmotif.columns.pixels import levels
from torchmotif.datasets import Specimen, mose2, square, with_edge, with_patch, with_wedge

SIDE, SPACING = 240, 20.0
_EVEN = (1.0, 1.0)
STEPPED: dict[str, Callable[[Specimen, float, float], Specimen]] = {
    "edge": lambda specimen, high, wide: with_edge(specimen, high, edge_px=wide),
    "substrate": lambda specimen, high, wide: with_edge(specimen, high, edge_px=wide, crystal="everywhere"),
    "patch": lambda specimen, high, wide: with_patch(specimen, high, edge_px=wide),
}


def drawn(specimen: Specimen, seed: int = 0) -> torch.Tensor:
    return torch.as_tensor(specimen.draw(1.0, torch.Generator().manual_seed(seed)).data)


def tiles_of(image: torch.Tensor) -> tm.columns.model.Tiles:
    return levels(image[None], axes=_EVEN, limit=None, dark=False).normalised(image[None])


@pytest.mark.parametrize("lattice", [square, mose2])
@pytest.mark.parametrize("kind", STEPPED)
@pytest.mark.parametrize(("high", "wide"), [(500.0, 1.0), (500.0, 6.0), (2000.0, 3.0)])
def test_columns_on_both_sides_of_a_step(
    lattice: Callable[..., Specimen], kind: str, high: float, wide: float
) -> None:
    specimen = STEPPED[kind](lattice((SIDE, SIDE), electrons_per_pixel=50.0), high, wide)
    truth = np.asarray(specimen.truth.positions)
    near = 0.25 * np.median(cKDTree(truth).query(truth, k=2)[0][:, 1])
    found = tm.find_columns(drawn(specimen).numpy()).positions
    inside = ((truth >= 0) & (truth <= SIDE - 1)).all(axis=1)
    assert (cKDTree(found).query(truth[inside])[0] < near).mean() >= 0.95
    assert (cKDTree(truth).query(found)[0] < near).mean() >= 0.95


@pytest.mark.parametrize(
    "specimen",
    [
        square((SIDE, SIDE)),
        mose2((SIDE, SIDE)),
        with_wedge(square((SIDE, SIDE))),
        with_edge(square((SIDE, SIDE)), 0.0),
    ],
    ids=["square", "honeycomb", "wedge", "vacuum"],
)
def test_no_step_where_there_is_none(specimen: Specimen) -> None:
    tiles = tiles_of(drawn(specimen))
    assert stepped(tiles, SPACING, _EVEN).step is None


def test_no_step_in_noise() -> None:
    noise = torch.poisson(torch.full((SIDE, SIDE), 10.0), generator=torch.Generator().manual_seed(0))
    assert stepped(tiles_of(noise), SPACING, _EVEN).step is None


def test_a_tile_does_not_depend_on_the_others() -> None:
    plain, high = (with_edge(square((SIDE, SIDE)), electrons, edge_px=3.0) for electrons in (0.0, 500.0))
    images = torch.stack([drawn(plain), drawn(high)])
    both = levels(images, axes=_EVEN, limit=None, dark=False).normalised(images)
    step, alone = stepped(both, SPACING, _EVEN).step, stepped(both.some(slice(1, 2)), SPACING, _EVEN).step
    assert step is not None
    assert alone is not None
    assert bool((step[0] == 0).all())
    torch.testing.assert_close(step[1], alone[0])


def test_what_was_not_measured_is_no_step() -> None:
    image = drawn(square((SIDE, SIDE)))
    image[:, :60] = torch.nan
    image[100:160, 150:200] = torch.nan
    assert stepped(tiles_of(image), SPACING, _EVEN).step is None


def test_a_step_is_found_where_it_is() -> None:
    tiles = tiles_of(drawn(with_edge(square((SIDE, SIDE)), 500.0, at=0.5, angle_rad=0.0, edge_px=1.0)))
    step = stepped(tiles, SPACING, _EVEN).step
    assert step is not None
    fall = step[0, :, 117] - step[0, :, 122]
    height = tiles.data[0, :, :100].mean() - tiles.data[0, :, 140:].mean()
    torch.testing.assert_close(fall.median(), height, rtol=0.1, atol=0.0)


def test_columns_across_a_high_step_are_rim() -> None:
    specimen = with_edge(
        square((SIDE, SIDE), electrons_per_pixel=50.0),
        1000.0,
        at=0.5,
        angle_rad=0.0,
        edge_px=3.0,
        crystal="everywhere",
    )
    columns = tm.find_columns(drawn(specimen).numpy())
    away = np.abs(columns.positions[:, 1] - (SIDE - 1) / 2)
    assert columns.is_rim[away < 4].all()
    inner = ((columns.positions > 12) & (columns.positions < SIDE - 13)).all(axis=1)
    assert not columns.is_rim[inner & (away > 15)].any()
