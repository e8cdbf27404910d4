"""Columns of many kinds of crystal: hexagons are a quarter of them."""

import numpy as np
import pytest
import tifffile
import torch
from scipy.spatial import cKDTree

import torchmotif as tm

d = tm.datasets
SHAPE = (220, 220)

KINDS = {
    "MoSe2": lambda: d.mose2(SHAPE),
    "MoS2, turned": lambda: d.mx2("Mo", "S", SHAPE, rotation_rad=0.9),
    "coarse": lambda: d.mose2((128, 128), 0.03),
    "square": lambda: d.square(SHAPE),
    "square along the rows": lambda: d.square(SHAPE, rotation_rad=0.0),
    "wide square": lambda: d.square((360, 360), 0.005),
    "two sublattices": lambda: d.square(SHAPE, lattice_nm=0.39, middle=0.45),
    "rectangular": lambda: d.rectangular(SHAPE, lattice_nm=0.25, ratio=1.7),
    "SrTiO3": lambda: d.projection(((0.39, 0.0), (0.0, 0.39)), [("Sr", 0, 0), ("TiO", 0.5, 0.5)], SHAPE),
    "MgO": lambda: d.rocksalt(shape=SHAPE, axis="001", pixel_size_nm=0.01),
    "GaAs": lambda: d.dumbbells(SHAPE, probe=d.GaussianProbe(0.045, tail=0.0)),
    "pairs 2.9 widths apart": lambda: d.dumbbells(SHAPE, probe=d.GaussianProbe(0.0487, tail=0.0)),
}  # fmt: skip


def judged(image: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """Spacing over the nearest distance, recall, precision; columns at the border are not judged."""
    nearest = float(np.median(cKDTree(truth).query(truth, k=2)[0][:, 1]))
    columns = tm.find_columns(image)
    found = np.asarray(columns.positions)
    inner_truth, inner_found = (
        at[((at > nearest / 2) & (at < np.array(image.shape) - 1 - nearest / 2)).all(1)]
        for at in (truth, found)
    )
    recall = (cKDTree(found).query(inner_truth)[0] < 0.3 * nearest).mean()
    precision = (cKDTree(truth).query(inner_found)[0] < 0.3 * nearest).mean()
    return columns.spacing / nearest, float(recall), float(precision)


@pytest.mark.parametrize("dose", [1.0, 0.1])
@pytest.mark.parametrize("kind", KINDS)
def test_every_column_is_found_with_the_right_spacing(kind: str, dose: float) -> None:
    specimen = KINDS[kind]()
    image = specimen.draw(dose, torch.Generator().manual_seed(0))
    ratio, recall, precision = judged(image.data.numpy(), specimen.truth.positions.numpy())
    assert ratio == pytest.approx(1.0, abs=0.05)
    assert recall >= 0.95
    assert precision >= 0.95


@pytest.mark.parametrize("kind", ["square", "SrTiO3", "MoSe2"])
@pytest.mark.parametrize(
    "filled",
    [
        lambda s: d.with_fill(s, border=(0, 30, 12, 5), rotation_rad=0.15),
        lambda s: d.with_mosaic(s, shift_px=14),
    ],
    ids=["turned", "mosaic"],
)
def test_columns_on_measured_pixels_are_found_where_the_others_are_masked(kind: str, filled) -> None:
    specimen = filled(KINDS[kind]())
    image = specimen.draw(1.0, torch.Generator().manual_seed(0), detector=d.Detector(1.0, 300.0))
    seen = specimen.measured.numpy()
    columns = tm.find_columns(image.data.numpy(), mask=~seen)
    truth = specimen.truth.positions.numpy()
    row, col = truth.round().astype(int).clip(0, np.array(SHAPE) - 1).T
    np.testing.assert_array_equal(specimen.truth.measured, seen[row, col])
    inner = specimen.truth.measured & ~np.asarray(
        [not seen[max(r - 8, 0) : r + 9, max(c - 8, 0) : c + 9].all() for r, c in zip(row, col, strict=True)]
    )
    assert (cKDTree(columns.positions).query(truth[inner])[0] < 4).mean() >= 0.97
    assert (cKDTree(truth).query(columns.positions)[0] < 4).mean() >= 0.95


@pytest.mark.real_data
@pytest.mark.parametrize(
    "name",
    [
        "square_lattice_20px_spacing",
        "dumbbells_2p9_widths_merged",
        "light_columns_0p10_far_apart",
        "two_square_sublattices_one_motif",
    ],
)
def test_inputs_of_known_columns_have_their_spacing(real_data, name: str) -> None:
    image = np.load(real_data / "cases" / f"{name}.npy").astype(np.float32)
    truth = np.loadtxt(real_data / "cases" / f"{name}_truth.csv", delimiter=",", skiprows=1)[:, :2]
    ratio, recall, precision = judged(image, truth)
    assert ratio == pytest.approx(1.0, abs=0.05)
    assert recall >= 0.95
    assert precision >= 0.95


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "margins"),
    [
        ("drift_corrected_sum_zero_margin", (26, 284, 30, 288)),
        ("thin_zero_border_on_offset", (4, 283, 20, 299)),
        ("thick_crystal_edge_to_vacuum", (0, 279, 0, 279)),
        ("contamination_patch_5x_contrast", (0, 279, 0, 279)),
    ],
)
def test_inputs_of_known_columns_that_were_measured(real_data, name: str, margins: tuple[int, ...]) -> None:
    image = np.load(real_data / "cases" / f"{name}.npy")
    truth = np.loadtxt(real_data / "cases" / f"{name}_truth.csv", delimiter=",", skiprows=1)[:, :2]
    top, bottom, left, right = margins
    seen = ((truth > (top, left)) & (truth < (bottom, right))).all(1)
    found = tm.find_columns(image).positions
    nearest = float(np.median(cKDTree(truth).query(truth, k=2)[0][:, 1]))
    assert (cKDTree(found).query(truth[seen])[0] < 0.3 * nearest).mean() >= 0.95
    # Columns on the border itself are in the image, but the truth begins a pixel inside.
    found = found[((found > 0.5) & (found < np.array(image.shape) - 1.5)).all(1)]
    assert (cKDTree(truth).query(found)[0] < 0.3 * nearest).mean() >= 0.95


@pytest.mark.real_data
def test_two_grains_a_few_degrees_apart_add_nothing_at_their_boundary(real_data) -> None:
    """Where phases of one grain's lattice follow the other, columns of both would be held side by side, and in hollows."""
    image = tifffile.imread(real_data / "MoSe2_grain_boundary.tif")
    guided, blind = tm.find_columns(image), tm.find_columns(image, guided=False)
    assert len(guided) <= 1.02 * len(blind)
    assert guided.spacing == pytest.approx(blind.spacing, rel=0.02)
    nearest = cKDTree(guided.positions).query(guided.positions, k=2)[0][:, 1]
    assert nearest.min() > 0.5 * guided.spacing
