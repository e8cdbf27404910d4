import math

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

import torchmotif as tm


def found(specimen: tm.datasets.Specimen, seed: int) -> tuple[tm.Columns, np.ndarray, np.ndarray]:
    """The columns of a drawing, the kind of the true one nearest to each, and how far they are from it."""
    columns = tm.find_columns(specimen.draw(generator=torch.Generator().manual_seed(seed)).numpy())
    away, which = cKDTree(specimen.truth.positions.numpy()).query(columns.positions)
    off = columns.positions - specimen.truth.positions.numpy()[which]
    off[away > 3] = np.nan
    return columns, which, off


@pytest.mark.parametrize(("dose", "pixels"), [(10.0, 0.3), pytest.param(1.0, 0.6, marks=pytest.mark.slow)])
def test_columns_that_keep_their_place_follow_those_of_their_kind_in_both_domains(
    dose: float, pixels: float
) -> None:
    specimen = tm.datasets.polar_perovskite((320, 320), displacement_pm=10.0, electrons_per_pixel=dose)
    columns, which, off = found(specimen, 0)
    oxygen = (specimen.truth.kinds[which] == "O") & columns.is_fixed & ~columns.is_rim
    assert oxygen.sum() > 250
    along = off @ [math.cos(0.1), math.sin(0.1)]
    for domain in (0, 1):
        # The two differ by 3.3 px.
        here = along[oxygen & (specimen.truth.grains[which] == domain)]
        assert abs(np.nanmean(here)) < pixels


def test_columns_that_keep_their_place_do_so_where_nothing_is_displaced() -> None:
    specimen = tm.datasets.polar_perovskite((320, 320), displacement_pm=0.0)
    columns, which, off = found(specimen, 1)
    oxygen = (specimen.truth.kinds[which] == "O") & columns.is_fixed & ~columns.is_rim
    assert oxygen.sum() > 250
    # A column fitted by itself would scatter by 0.45 px.
    assert np.nanstd(off[oxygen]) < 0.15
