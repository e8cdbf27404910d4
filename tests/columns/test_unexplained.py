"""The share of what repeats that columns leave over."""

import numpy as np
import torch

import torchmotif as tm
from torchmotif.columns._unexplained import left_over
from torchmotif.columns.pixels import levels

SIDE, EVEN = 256, (1.0, 1.0)


def share(pixels: np.ndarray, columns: np.ndarray, spacing: float) -> float:
    image = torch.as_tensor(pixels, dtype=torch.float32)[None]
    model = levels(image, axes=EVEN, limit=None, dark=False)
    drawn = torch.as_tensor(columns / model.scale, dtype=torch.float32)[None]
    return float(left_over(model.normalised(image), drawn, spacing, EVEN, (2.9, 2.9)))


def test_columns_that_are_all_leave_nothing() -> None:
    specimen = tm.datasets.mose2((SIDE, SIDE))
    clean = np.asarray(specimen.image)
    for dose in (1.0, 0.05):
        noisy = specimen.draw(dose, torch.Generator().manual_seed(0)).numpy()
        assert share(noisy, dose * clean, 12.6) < 0.005


def test_no_columns_leave_all_and_fainter_ones_a_part() -> None:
    clean = np.asarray(tm.datasets.square((SIDE, SIDE)).image)
    assert abs(share(clean, 0 * clean, 20.0) - 1) < 1e-3
    np.testing.assert_allclose(share(clean, 0.7 * clean, 20.0), 0.09, atol=0.01)


def test_what_does_not_repeat_is_no_columns() -> None:
    noise = np.random.default_rng(0).poisson(5.0, (SIDE, SIDE))
    assert share(noise, np.zeros((SIDE, SIDE)), 12.0) == 0
