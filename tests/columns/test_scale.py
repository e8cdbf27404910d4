import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

import torchmotif as tm
from torchmotif.columns import characteristic_spacing


@pytest.mark.parametrize("pixel_size_nm", [0.01, 0.02, 0.035])
def test_the_spacing_of_a_honeycomb_is_that_of_nearest_columns(pixel_size_nm: float) -> None:
    specimen = tm.datasets.mose2((200, 200), pixel_size_nm)
    spacing = characteristic_spacing(specimen.draw(generator=torch.Generator().manual_seed(0)))
    assert spacing.nm == pytest.approx(0.3289 / 3**0.5, rel=0.05)
    assert spacing.pixels == pytest.approx(spacing.nm / pixel_size_nm)


def test_without_calibration_there_are_no_nanometres() -> None:
    spacing = characteristic_spacing(tm.datasets.mose2((200, 200)).image.numpy())
    assert spacing.nm is None
    assert spacing.ring == pytest.approx(0.3289 / 0.015, rel=0.05)


def test_the_evidence_can_be_drawn() -> None:
    spacing = characteristic_spacing(tm.datasets.mose2((128, 128)).image)
    ax = spacing.plot()
    assert ax.get_xlabel() == "distance / px"
    assert {line.get_label() for line in ax.lines} >= {f"first ring {spacing.ring:.2f} px"}
    plt.close(ax.figure)


def test_noise_has_no_spacing() -> None:
    with pytest.raises(tm.errors.InputError, match="no regular spacing"):
        characteristic_spacing(np.random.default_rng(0).normal(size=(128, 128)))
