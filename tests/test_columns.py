import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

import torchmotif as tm


def test_every_column_of_a_clean_specimen_is_found() -> None:
    specimen = tm.datasets.mose2((256, 256))
    truth = specimen.truth.positions.numpy()
    inner = ((truth > 8) & (truth < 247)).all(axis=1)
    columns = tm.find_columns(specimen.draw(generator=torch.Generator().manual_seed(0)).numpy())
    distance, _ = cKDTree(columns.positions).query(truth[inner])
    assert (distance < 1.0).mean() > 0.99
    assert columns.spacing == pytest.approx(0.3289 / 3**0.5 / 0.015, rel=0.05)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.ones((64, 64)), "constant"),
        (np.full((64, 64), np.nan), "no finite pixel"),
        (np.zeros((8, 8)), "at least 16 pixels"),
        (np.zeros((3, 64, 64)), "two-dimensional"),
    ],
    ids=["constant", "nan", "small", "stack"],
)
def test_bad_images_are_refused(image: np.ndarray, message: str) -> None:
    with pytest.raises(tm.errors.InputError, match=message):
        tm.find_columns(image)
