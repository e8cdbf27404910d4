"""A dose is promised of counted electrons only."""

import re
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage as ndi
import torch
from skimage.restoration import denoise_nl_means

import torchmotif as tm
from torchmotif.dose import dose_report
from torchmotif.errors import InputError
from torchmotif.noise import dose_doubts


def counts(electrons: float = 20.0) -> np.ndarray:
    image = tm.datasets.mose2((256, 256), 0.02).image
    return np.asarray(tm.apply_dose(image, electrons, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("electrons", [1.0, 20.0, 500.0])
def test_counts_are_not_doubted(electrons: float) -> None:
    assert not dose_doubts(counts(electrons))
    assert not dose_doubts(3.7 * counts(electrons) + 50)


CHANGES = {
    "smoothed": lambda x: ndi.gaussian_filter(x, 0.5),
    "median": lambda x: ndi.median_filter(x, 3),
    "resampled": lambda x: ndi.zoom(x, 0.8, order=1),
    "non-local means": lambda x: denoise_nl_means(x, h=0.5 * x.std(), fast_mode=True),
    "bytes": lambda x: np.round(255 * x / x.max()).astype(np.uint8),
    "whole numbers": lambda x: np.round(10 * ndi.gaussian_filter(x, 0.8)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_is_no_longer_counts_is_doubted(change) -> None:  # type: ignore[no-untyped-def]
    changed = change(counts().astype(float))
    assert dose_doubts(changed)
    with pytest.raises(InputError, match="electrons_per_pixel must be given"):
        dose_report(changed, (0.5,), progress=False)


@pytest.mark.real_data
def test_noise_that_is_not_white_is_said_by_how_much(real_data: Path) -> None:
    said = " ".join(dose_doubts(tm.read(real_data / "TiWSe2_1028_11_ADF1.dm4")))
    found = re.search(r"not white \(([\d.]+) instead of 1\)", said)
    assert found
    assert abs(float(found[1]) - 1) > 0.02
