"""Sublattices that have each other at the edge of their patches are motifs of their own."""

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

import torchmotif as tm


@pytest.mark.parametrize("dose", [1.0, 0.1])
def test_lead_titanium_and_oxygen_are_no_one_motif(dose: float) -> None:
    specimen = tm.datasets.polar_perovskite((384, 384), displacement_pm=0.0)
    truth = np.asarray(specimen.truth.positions)
    inner = ((truth > 24) & (truth < 359)).all(axis=1)
    at, kinds = truth[inner], np.asarray(specimen.truth.kinds).astype(str)[inner]
    pixels = np.asarray(specimen.draw(dose, torch.Generator().manual_seed(2)).data, np.float32)
    nearest = float(np.median(cKDTree(at).query(at, k=2)[0][:, 1]))
    size = tm.patches.first_shell(nearest)
    labels = tm.MotifClassifier().fit_predict(
        tm.extract_patches(pixels, at, size), tm.patches.offsets(at, size)
    )
    motifs = {kind: set(labels[(kinds == kind) & (labels >= 0)].tolist()) for kind in ("Pb", "Ti", "O")}
    assert all(motifs.values())
    assert motifs["Pb"].isdisjoint(motifs["Ti"] | motifs["O"])
    assert motifs["Ti"].isdisjoint(motifs["O"])


def test_displacements_of_titanium_are_measured_at_one_electron_per_pixel() -> None:
    specimen = tm.datasets.polar_perovskite((512, 512), displacement_pm=10.0)
    result = tm.analyze(specimen.draw(0.1, torch.Generator().manual_seed(2)), progress=False)
    field = result.polarisation()
    _, which = cKDTree(np.asarray(specimen.truth.positions)).query(field.positions)
    off = field.values[field.known] - specimen.truth.more["shift_px"][which[field.known]]
    z = off / field.errors[field.known]
    assert field.known.sum() > 250
    assert np.abs(np.median(off, axis=0)).max() < 0.1
    assert 0.8 < z.std() < 1.25
