"""Crystals that are not hexagonal, what lies around them, and what was not measured."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

import torchmotif as tm

d = tm.datasets
SHAPE = (160, 160)


def nearest_px(specimen: tm.datasets.Specimen) -> float:
    places = specimen.truth.positions.numpy()
    return float(np.median(cKDTree(places).query(places, k=2)[0][:, 1]))


@pytest.mark.parametrize(
    ("specimen", "nearest_nm"),
    [
        (lambda: d.square(SHAPE, lattice_nm=0.31), 0.31),
        (lambda: d.square(SHAPE, lattice_nm=0.39, middle=0.5), 0.39 / math.sqrt(2)),
        (lambda: d.rectangular(SHAPE, lattice_nm=0.25, ratio=2.2, rotation_rad=0.7), 0.25),
        (lambda: d.rocksalt(shape=SHAPE, axis="001"), 0.4212 / 2),
        (lambda: d.rocksalt(shape=SHAPE, pixel_size_nm=0.008), 0.4212 / math.sqrt(8)),
        (lambda: d.dumbbells(SHAPE), 0.5653 / 4),
        (lambda: d.dumbbells(SHAPE, gap_nm=0.1), 0.1),
        (lambda: d.nanoparticle(SHAPE, radius_nm=1.0), 0.4078 * math.sqrt(3 / 8)),
        (lambda: d.nanoparticle(SHAPE, radius_nm=1.0, axis="001", lattice_nm=0.4), 0.4 / math.sqrt(2)),
        (lambda: d.projection(((0.3, 0.1), (0.0, 0.5)), [("A", 0.2, 0.2)], SHAPE, brightness={"A": 1.0}), 0.1**0.5),
    ],
    ids=["square", "middle", "rectangular", "MgO 001", "MgO 110", "GaAs", "gap", "gold", "gold 001", "oblique"],
)  # fmt: skip
def test_nearest_columns_are_as_far_apart_as_the_cell_says(specimen, nearest_nm: float) -> None:
    made = specimen()
    assert nearest_px(made) == pytest.approx(nearest_nm / made.image.pixel_size[0], rel=1e-6)


@pytest.mark.parametrize(
    "changed",
    [
        lambda s: s,
        d.with_edge,
        lambda s: d.with_edge(s, crystal="everywhere", at=0.4, angle_rad=2.0),
        d.with_patch,
        d.with_wedge,
        d.with_carbon,
        lambda s: d.with_carbon(d.with_wedge(s), at=0.5),
    ],
    ids=["plain", "edge", "step", "patch", "wedge", "carbon", "wedge on carbon"],
)
def test_the_mean_is_that_of_the_image_and_tiles_are_parts_of_it(changed) -> None:
    made = changed(d.square(SHAPE, background=0.1))
    image = made.image.data
    assert made.image.electrons_per_pixel == pytest.approx(float(image.mean()), rel=1e-3)
    for (row, col), tile in made.tiles(90):
        h, w = tile.shape
        torch.testing.assert_close(tile.image.data, image[row : row + h, col : col + w], rtol=1e-4, atol=1e-4)


def test_brightness_is_relative_to_the_kinds_and_formulas_scatter_as_their_atoms() -> None:
    sharp = d.GaussianProbe(0.02, tail=0.0)
    cell = ((0.4, 0.0), (0.0, 0.4))
    made = d.projection(cell, [("Sr", 0, 0), ("TiO", 0.5, 0.5)], SHAPE, probe=sharp)
    given = d.square(SHAPE, lattice_nm=0.4, middle=(22**1.7 + 8**1.7) / 38**1.7, probe=sharp)
    torch.testing.assert_close(made.image.data, given.image.data, rtol=1e-4, atol=1e-4)
    assert set(made.truth.species) == {"Sr", "Ti+O"}


def test_scatter_moves_columns_by_as_much_as_was_asked() -> None:
    still, moved = (d.square((600, 600), scatter_nm=s).truth.positions.numpy() for s in (0.0, 0.003))
    away = cKDTree(still).query(moved)[0]
    assert np.sqrt((away**2).mean() / 2) == pytest.approx(0.2, rel=0.05)


def test_an_edge_ends_the_columns_and_a_step_does_not() -> None:
    whole = d.square(SHAPE)
    ended = d.with_edge(whole, 50.0, at=0.5, angle_rad=0.0, edge_px=8.0)
    assert ended.truth.positions[:, 1].max() < 80
    image = ended.image.data
    assert float(image[:, 110:].max()) < 0.5
    background = image - d.with_edge(whole, 0.0, at=0.5, angle_rad=0.0).image.data
    tenth, nine = (float(background[0, col]) for col in (84, 75))
    assert tenth == pytest.approx(5.0, abs=1.5)
    assert nine == pytest.approx(45.0, abs=1.5)
    step = d.with_edge(whole, 50.0, at=0.5, angle_rad=0.0, crystal="everywhere")
    assert len(step.truth) == len(whole.truth)
    torch.testing.assert_close(step.image.data[:, 120:], whole.image.data[:, 120:], atol=1e-3, rtol=0)


def test_columns_of_a_wedge_grow_with_its_thickness() -> None:
    whole = d.square(SHAPE)
    wedge = d.with_wedge(whole, 10.0, least=0.3, angle_rad=0.0)
    thickness = wedge.truth.more["thickness"]
    np.testing.assert_allclose(
        thickness, 0.3 + 0.7 * (wedge.truth.positions[:, 1].numpy() + 0.5) / 160, atol=2e-3
    )
    bare = d.with_wedge(whole, 0.0, least=0.3, angle_rad=0.0).image.data
    for row, col in wedge.truth.positions.round().long()[::7].clamp(0, 159).tolist():
        share = 0.3 + 0.7 * (col + 0.5) / 160
        assert float(bare[row, col]) == pytest.approx(share * float(whole.image.data[row, col]), rel=0.1)


def test_columns_under_a_patch_are_named() -> None:
    made = d.with_patch(d.square(SHAPE), radius=0.25)
    away = np.hypot(*(made.truth.positions.numpy() - 79.5).T)
    assert made.truth.more["under_patch"][away < 40].all()
    assert not made.truth.more["under_patch"][away > 44].any()


def test_a_particle_is_a_sphere_on_carbon() -> None:
    made = d.nanoparticle((300, 300), radius_nm=1.5, carbon_nm=40.0, carbon_ends=0.8)
    places, atoms = made.truth.positions.numpy(), made.truth.more["atoms"]
    away = np.hypot(*(places - 149.5).T) * 0.015
    assert away.max() <= 1.5
    np.testing.assert_allclose(atoms, 2 * np.sqrt(1.5**2 - away**2) / (0.4078 / math.sqrt(2)), atol=0.51)
    image = made.image.data
    assert float(image[:40, :40].mean()) > 0.5
    assert float(image[:40, 280:].mean()) < 0.01


@pytest.mark.parametrize(
    ("filled", "expected"),
    [
        (lambda s: d.with_fill(s, border=(5, 6, 7, 8), value=3.0), 149 * 145),
        (lambda s: d.with_fill(s, rows=(100, 160)), 100 * 160),
        (lambda s: d.with_fill(s, rotation_rad=math.pi / 4), None),
        (lambda s: d.with_bar(s, 30, value=3.0), 130 * 160),
        (lambda s: d.with_mosaic(s, (2, 3), shift_px=0), 160 * 160),
        (lambda s: d.with_mosaic(s, (2, 2), shift_px=9, random_state=2), None),
        (lambda s: d.with_frames(s, 5, drift_px=(-12.0, 8.0)), None),
        (lambda s: d.with_fill(d.with_bar(s, 30), border=10), 120 * 140),
    ],
    ids=["border", "rows", "turned", "bar", "mosaic", "ragged", "frames", "bar and border"],
)
@pytest.mark.parametrize(
    "detector", [None, tm.datasets.Detector(2.0, 100.0, bits=16)], ids=["counts", "16 bit"]
)
def test_what_was_not_measured_holds_the_fill(filled, expected: int | None, detector) -> None:
    made = filled(d.square(SHAPE, background=0.3))
    seen = made.measured
    if expected is not None:
        assert int(seen.sum()) == expected
    drawn = made.draw(generator=torch.Generator().manual_seed(0), detector=detector).data
    torch.testing.assert_close(drawn[~seen].double(), made.coverage.value[~seen].double())
    offset = 0.0 if detector is None else 100.0
    assert bool((drawn[made.coverage.share >= 0.999] >= offset).all())
    row, col = made.truth.positions.round().long().clamp(0, 159).unbind(1)
    np.testing.assert_array_equal(made.truth.measured, seen[row, col].numpy())
    for (row, col), tile in made.tiles(100):
        h, w = tile.shape
        assert torch.equal(tile.measured, seen[row : row + h, col : col + w])


def test_margins_have_the_share_of_the_frames_that_cover_them() -> None:
    made = d.with_frames(d.square((400, 400), background=0.9), 4, drift_px=(90.0, 0.0))
    drawn = made.draw(generator=torch.Generator().manual_seed(0), detector=d.Detector(1.0, 50.0)).data
    for rows, share in ((slice(0, 30), 0.25), (slice(30, 60), 0.5), (slice(100, 300), 1.0)):
        assert float(drawn[rows].mean()) == pytest.approx(share * 60, rel=0.02)


def test_row_noise_adds_to_whole_rows() -> None:
    flat = torch.zeros(400, 50)
    pixels = d.Detector(2.0, row_noise=3.0).pixels(flat, torch.Generator().manual_seed(0))
    assert float(pixels.std(dim=1).max()) == 0
    assert float(pixels[:, 0].std()) == pytest.approx(6.0, rel=0.15)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda _: d.projection(((0.3, 0.0), (0.6, 0.0)), [("Sr", 0, 0)]), "cell_nm"),
        (lambda _: d.projection(((0.3, 0.0), (0.0, 0.3)), []), "columns"),
        (lambda _: d.projection(((0.3, 0.0), (0.0, 0.3)), [("heavy", 0, 0)]), "formula"),
        (
            lambda _: d.projection(((0.3, 0), (0, 0.3)), [("A", 0, 0), ("B", 0.5, 0.5)], brightness={"A": 1}),
            "brightness",
        ),
        (lambda _: d.square(scatter_nm=-1.0), "scatter_nm"),
        (lambda _: d.rectangular(ratio=0.5), "ratio"),
        (lambda _: d.dumbbells(gap_nm=0.5), "gap_nm"),
        (lambda _: d.nanoparticle(radius_nm=0.0), "radius_nm"),
        (lambda _: d.nanoparticle(centre=(9.0, 9.0)), "no column of the particle"),
        (lambda s: d.with_edge(s, -1.0), "electrons"),
        (lambda s: d.with_edge(s, edge_px=0.0), "edge_px"),
        (lambda s: d.with_edge(s, at=-1.0), "no column is left"),
        (lambda s: d.with_patch(s, radius=0.0), "radius"),
        (lambda s: d.with_wedge(s, least=2.0), "least"),
        (lambda s: d.with_carbon(s, atoms_per_nm2=0.0), "atoms_per_nm2"),
        (lambda s: d.with_fill(s, border=-1), "border"),
        (lambda s: d.with_fill(s, border=200), "no pixel"),
        (lambda s: d.with_mosaic(s, (0, 2)), "fields"),
        (lambda s: d.with_frames(s, 1), "frames"),
        (lambda s: d.with_bar(s, 3), "rows"),
        (lambda s: d.with_edge(d.Specimen(s.image, s.truth)), "made from an image"),
        (lambda s: d.with_fill(next(s.tiles(80))[1], border=2), "tile"),
        (lambda _: d.Detector(row_noise=-1.0), "row_noise"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message: str) -> None:
    with pytest.raises(tm.errors.InputError, match=message):
        call(d.square((90, 90)))
