import itertools
import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.columns import characteristic_spacing

d = tm.datasets
TOLERANCE = 0.05


def drawn(specimen: tm.datasets.Specimen, dose: float = 1.0, **options) -> np.ndarray:
    return np.asarray(specimen.draw(dose, torch.Generator().manual_seed(0), **options).data, np.float32)


def nearest_px(truth: np.ndarray) -> float:
    return float(np.median(cKDTree(truth).query(truth, k=2)[0][:, 1]))


def lattice(nearest: float, **options) -> tm.datasets.Specimen:
    """Rectangles with so many pixels along the shorter side, columns a fifth of it wide; a square by default."""
    pixel = 0.3 / nearest
    side = round(max(160, 8 * nearest * math.sqrt(options.get("ratio", 1.0))))
    options = {"probe": d.GaussianProbe(0.06), "ratio": 1.0, **options}
    return d.rectangular((side, side), pixel, **options)


@pytest.mark.parametrize("turn", [0.0, 0.12, 0.4, math.pi / 4])
@pytest.mark.parametrize("nearest", [12.0, 20.0, 27.6, 40.0, 60.0, 80.0])
def test_the_spacing_of_a_square_lattice_is_its_side(nearest: float, turn: float) -> None:
    image = drawn(lattice(nearest, rotation_rad=turn))
    assert characteristic_spacing(image).pixels == pytest.approx(nearest, rel=TOLERANCE)


@pytest.mark.parametrize("ratio", [1.2, 1.5, 2.0, 3.0])
@pytest.mark.parametrize(("nearest", "turn"), list(itertools.product([10.0, 18.0, 30.0], [0.0, 0.5])))
def test_the_spacing_of_a_rectangular_lattice_is_its_shorter_side(
    nearest: float, turn: float, ratio: float
) -> None:
    image = drawn(lattice(nearest, rotation_rad=turn, ratio=ratio))
    assert characteristic_spacing(image).pixels == pytest.approx(nearest, rel=TOLERANCE)


@pytest.mark.parametrize("nearest", [2.5, 3.5, 5.0, 100.0, 250.0])
def test_columns_may_be_two_pixels_apart_or_two_hundred(nearest: float) -> None:
    side = round(min(max(128, 6 * nearest), 1024))
    image = drawn(
        d.square((side, side), 0.3 / nearest, probe=d.GaussianProbe(0.06), electrons_per_pixel=20.0)
    )
    assert characteristic_spacing(image).pixels == pytest.approx(
        nearest, rel=0.1 if nearest < 3 else TOLERANCE
    )


@pytest.mark.parametrize("middle", [0.2, 0.45, 0.8])
def test_columns_in_the_middle_of_squares_are_the_nearest_ones(middle: float) -> None:
    image = drawn(lattice(28.0, middle=middle, probe=d.GaussianProbe(0.042)))
    assert characteristic_spacing(image).pixels == pytest.approx(28.0 / math.sqrt(2), rel=TOLERANCE)


@pytest.mark.parametrize(
    "specimen",
    [
        lambda: d.mose2((200, 200), 0.01),
        lambda: d.mose2((200, 200), 0.035),
        lambda: d.mx2("W", "S", (200, 200)),
        lambda: d.mose2((300, 300), grains=3),
        lambda: d.dumbbells((240, 240), probe=d.GaussianProbe(0.0487, tail=0.0)),
        lambda: d.dumbbells((240, 240), rotation_rad=0.4),
        lambda: d.rocksalt(shape=(200, 200), pixel_size_nm=0.008),
        lambda: d.rocksalt(shape=(200, 200), axis="001"),
        lambda: d.projection(
            ((0.3905, 0.0), (0.0, 0.3905)), [("Sr", 0, 0), ("TiO", 0.5, 0.5)], (240, 240), 0.01
        ),
        lambda: d.projection(
            ((0.3, 0.08), (0.0, 0.4)), [("A", 0, 0)], (200, 200), brightness={"A": 1.0}
        ),
        lambda: d.nanoparticle((300, 300), radius_nm=1.3, carbon_nm=60.0),
    ],
    ids=["MoSe2", "coarse", "WS2", "grains", "pairs", "GaAs", "MgO 110", "MgO 001", "SrTiO3", "oblique", "gold"],
)  # fmt: skip
def test_the_spacing_of_crystals_of_many_kinds(specimen) -> None:
    made = specimen()
    spacing = characteristic_spacing(drawn(made)).pixels
    assert spacing == pytest.approx(nearest_px(made.truth.positions.numpy()), rel=TOLERANCE)


def hum(crystal: tm.datasets.Specimen) -> np.ndarray:
    row = np.arange(crystal.shape[0])[:, None]
    return drawn(crystal) + 8 * np.sin(2 * math.pi * row / 7.3).astype(np.float32)


@pytest.mark.parametrize(
    "crystal",
    [d.mose2, d.square, lambda shape: d.square(shape, rotation_rad=0.0)],
    ids=["MoSe2", "square", "rows"],
)
@pytest.mark.parametrize(
    "disturbed",
    [
        lambda c: drawn(c, detector=d.Detector(row_noise=8.0)),
        hum,
        lambda c: drawn(d.with_patch(c, 100.0)),
        lambda c: drawn(d.with_edge(c, 60.0)),
        lambda c: drawn(d.with_edge(c, 200.0, crystal="everywhere", edge_px=1.0)),
        lambda c: drawn(d.with_wedge(c, 40.0)),
        lambda c: drawn(d.with_carbon(c, 10.0)),
        lambda c: drawn(d.with_carbon(d.with_edge(c, 0.0, at=0.5), 20.0)),
    ],
    ids=["row noise", "hum", "patch", "edge", "step", "wedge", "speckle", "half carbon"],
)
def test_stripes_steps_and_speckle_do_not_move_the_spacing(crystal, disturbed) -> None:
    made = crystal((360, 360))
    spacing = characteristic_spacing(disturbed(made)).pixels
    assert spacing == pytest.approx(nearest_px(made.truth.positions.numpy()), rel=TOLERANCE)


@pytest.mark.parametrize("dose", [1 / 50, 1 / 100])
@pytest.mark.parametrize(("chalcogen", "sigma"), [("Se", 0.042), ("Se", 0.05), ("S", 0.042), ("S", 0.05)])
def test_the_mean_of_cells_tells_the_spacing_at_low_dose(chalcogen: str, sigma: float, dose: float) -> None:
    made = d.mx2("Mo", chalcogen, (768, 768), vacancy_rate=0.06, probe=d.GaussianProbe(sigma))
    spacing = characteristic_spacing(drawn(made, dose)).pixels
    assert spacing == pytest.approx(nearest_px(made.truth.positions.numpy()), rel=TOLERANCE)


@pytest.mark.parametrize(
    "filled",
    [
        lambda c: d.with_fill(c, border=40, rotation_rad=0.2),
        lambda c: d.with_fill(c, rows=(150, 300)),
        lambda c: d.with_mosaic(c, shift_px=40),
        lambda c: d.with_bar(c, 40),
    ],
    ids=["turned", "aborted", "mosaic", "bar"],
)
def test_pixels_that_were_not_measured_do_not_matter(filled) -> None:
    made = filled(d.square((300, 300)))
    image = drawn(made, detector=d.Detector(2.0, 200.0))
    image[~made.measured.numpy()] = np.nan
    assert characteristic_spacing(image).pixels == pytest.approx(20.0, rel=TOLERANCE)


def test_thin_strips_have_a_spacing() -> None:
    assert characteristic_spacing(drawn(d.square((40, 400)))).pixels == pytest.approx(20.0, rel=TOLERANCE)


@pytest.mark.parametrize("pixel_size_nm", [0.01, 0.02, 0.035])
def test_the_spacing_in_nanometres(pixel_size_nm: float) -> None:
    specimen = d.mose2((200, 200), pixel_size_nm)
    spacing = characteristic_spacing(specimen.draw(generator=torch.Generator().manual_seed(0)))
    assert spacing.nm == pytest.approx(0.3289 / 3**0.5, rel=TOLERANCE)
    assert spacing.pixels == pytest.approx(spacing.nm / pixel_size_nm)


def test_pixels_need_not_be_square() -> None:
    pixels = torch.as_tensor(drawn(d.square((300, 300)))).view(150, 2, 300).sum(1)
    spacing = characteristic_spacing(tm.Micrograph(pixels, pixel_size=(0.03, 0.015)))
    assert spacing.nm == pytest.approx(0.3, rel=TOLERANCE)


def test_without_calibration_there_are_no_nanometres() -> None:
    spacing = characteristic_spacing(tm.datasets.mose2((200, 200)).image.numpy())
    assert spacing.nm is None
    assert spacing.ring == pytest.approx(0.3289 / 0.015, rel=TOLERANCE)


def test_the_evidence_can_be_drawn() -> None:
    spacing = characteristic_spacing(tm.datasets.mose2((128, 128)).image)
    ax = spacing.plot()
    assert ax.get_xlabel() == "distance / px"
    assert {line.get_label() for line in ax.lines} >= {f"shortest repeat {spacing.ring:.2f} px"}
    plt.close(ax.figure)


@pytest.mark.parametrize("side", [32, 64, 128, 200])
@pytest.mark.parametrize("kind", ["white", "counts", "stripes"])
def test_noise_has_no_spacing(kind: str, side: int) -> None:
    rng = np.random.default_rng(side)
    image = rng.normal(size=(side, side)) if kind != "counts" else rng.poisson(2.0, (side, side)) * 1.0
    if kind == "stripes":
        image += 5 * np.sin(2 * math.pi * np.arange(side) / 9)[:, None]
    with pytest.raises(tm.errors.InputError, match="no regular spacing"):
        characteristic_spacing(image)


def test_a_disordered_packing_has_the_spacing_of_its_particles() -> None:
    made = d.colloid((512, 512))
    columns = tm.find_columns(drawn(made))
    assert columns.spacing == pytest.approx(nearest_px(made.truth.positions.numpy()), rel=0.1)


def test_the_spacing_is_that_of_the_columns_that_were_fitted() -> None:
    """Light columns that only the mean of cells shows are told by no fit of single ones."""
    heavy = np.random.default_rng(0).poisson(
        0.3 + 40 * gaussian_filter((np.indices((256, 256)) % 16 == 8).all(0).astype(float), 2.5)
    )
    columns = tm.find_columns(heavy.astype(np.float32))
    assert columns.spacing == pytest.approx(nearest_px(columns.positions), rel=0.08)
