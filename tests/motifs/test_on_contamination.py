"""Motifs of crystals on which contamination lies: the few columns that it makes unlike all others hide no kinds among these."""

import numpy as np
import pytest
import torch

import torchmotif as tm
from torchmotif.datasets import Specimen
from torchmotif.metrics import ami
from torchmotif.patches import inside, offsets


def learnt(specimen: Specimen, size: int, dose: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and species of the columns, at their true places."""
    scan = torch.as_tensor(specimen.draw(dose, torch.Generator().manual_seed(0)).data)
    whole = inside(specimen.truth.positions, scan.shape, size)
    positions = specimen.truth.positions[whole]
    moments = tm.ZernikeBasis(14, size).project(scan - scan.mean(), positions)
    shifts = offsets(positions, size)
    classifier = tm.MotifClassifier().fit_moments(moments, size, shifts, level=float(scan.mean()))
    return np.asarray(classifier.labels_), np.asarray(specimen.truth.species)[np.asarray(whole)]


@pytest.mark.parametrize("electrons", [20.0, 200.0])  # half and five times the height of the columns
@pytest.mark.parametrize("radius", [0.06, 0.15])
def test_two_sublattices_stay_two_motifs(electrons: float, radius: float) -> None:
    square = tm.datasets.square((300, 300), middle=0.45)
    labels, species = learnt(tm.datasets.with_patch(square, electrons, radius=radius), 43)
    fit = labels >= 0
    assert fit.mean() > 0.75
    assert ami(species[fit], labels[fit]) > 0.97


@pytest.mark.parametrize("dose", [1.0, 0.03])
def test_vacancies_are_found_beside_a_patch(dose: float) -> None:
    labels, species = learnt(tm.datasets.with_patch(tm.datasets.mose2((400, 400)), 100.0), 37, dose)
    plain, of = learnt(tm.datasets.mose2((400, 400)), 37, dose)
    fit = labels >= 0
    assert ami(species[fit], labels[fit]) > ami(of, plain) - 0.02


def test_a_step_under_half_of_the_columns_makes_no_motif() -> None:
    square = tm.datasets.square((300, 300), middle=0.45)
    y, x = np.mgrid[:300, :300]
    scan = np.asarray(square.draw(1.0, torch.Generator().manual_seed(0)).data, np.float32)
    scan = scan + np.random.default_rng(0).poisson(np.where(x + y / 3 > 190, 200.0, 0.0))
    result = tm.analyze(scan.astype(np.float32), progress=False)
    assert result.n_motifs == 2


def test_a_whole_image_with_a_patch_has_both_sublattices() -> None:
    specimen = tm.datasets.with_patch(tm.datasets.square((300, 300), middle=0.45), 200.0, radius=0.12)
    scan = np.asarray(specimen.draw(1.0, torch.Generator().manual_seed(0)).data, np.float32)
    result = tm.analyze(scan, progress=False)
    labels = np.asarray(result.labels)
    bright = np.asarray(result.columns.intensities) > np.median(np.asarray(result.columns.intensities))
    fit = labels >= 0
    assert result.n_motifs == 2
    assert fit.mean() > 0.75
    assert (bright[fit] == (labels[fit] == labels[fit & bright][0])).mean() > 0.97
