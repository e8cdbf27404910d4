"""Motifs of crystals on which contamination lies: the few columns that it makes unlike all others hide no kinds among these."""

import numpy as np
import pytest
import torch

import torchmotif as tm
from torchmotif.datasets import Specimen
from torchmotif.metrics import ami, site_f1
from torchmotif.patches import inside, offsets


def learnt(specimen: Specimen, size: int, dose: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and kinds of the columns, at their true places."""
    scan = torch.as_tensor(specimen.draw(dose, torch.Generator().manual_seed(0)).data)
    whole = inside(specimen.truth.positions, scan.shape, size)
    positions = specimen.truth.positions[whole]
    moments = tm.ZernikeBasis(14, size).project(scan - scan.mean(), positions)
    shifts = offsets(positions, size)
    classifier = tm.MotifClassifier().fit_moments(moments, size, shifts, level=float(scan.mean()))
    return np.asarray(classifier.labels_), np.asarray(specimen.truth.kinds)[np.asarray(whole)]


# Of 2.5 and 5 times the height of the columns.
@pytest.mark.parametrize(("electrons", "radius"), [(100.0, 0.15), (200.0, 0.1), (200.0, 0.2)])
def test_two_sublattices_stay_two_motifs(electrons: float, radius: float) -> None:
    square = tm.datasets.square((300, 300), middle=0.45)
    labels, kinds = learnt(tm.datasets.with_patch(square, electrons, radius=radius), 43)
    fit = labels >= 0
    assert fit.mean() > 0.7
    assert ami(kinds[fit], labels[fit]) > 0.97


@pytest.mark.parametrize("dose", [1.0, 0.03])
def test_vacancies_are_found_beside_a_patch(dose: float) -> None:
    labels, kinds = learnt(tm.datasets.with_patch(tm.datasets.mose2((400, 400)), 300.0), 39, dose)
    fit = labels >= 0
    found = site_f1(kinds[fit], labels[fit])
    assert fit.mean() > 0.75
    assert min(found.values()) > 0.85  # without a patch 0.91 and 1.00


def test_a_step_under_half_of_the_columns_makes_no_motif() -> None:
    square = tm.datasets.square((300, 300), middle=0.45)
    y, x = np.mgrid[:300, :300]
    scan = np.asarray(square.draw(1.0, torch.Generator().manual_seed(0)).data, np.float32)
    scan = scan + np.random.default_rng(0).poisson(np.where(x + y / 3 > 190, 200.0, 0.0))
    assert tm.analyze(scan.astype(np.float32), progress=False).n_motifs == 2


def test_a_whole_image_with_a_patch_has_both_sublattices() -> None:
    square = tm.datasets.square((400, 400), 0.0106, middle=0.45)  # columns 20 px apart
    specimen = tm.datasets.with_patch(square, 100.0, radius=0.1)
    scan = np.asarray(specimen.draw(1.0, torch.Generator().manual_seed(0)).data, np.float32)
    result = tm.analyze(scan, progress=False)
    labels, bright = np.asarray(result.labels), np.asarray(result.columns.intensities)
    bright = bright > np.median(bright)
    fit = labels >= 0
    assert result.n_motifs == 2
    assert fit.mean() > 0.85
    assert ami(bright[fit], labels[fit]) > 0.9
