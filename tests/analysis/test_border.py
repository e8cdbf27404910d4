"""Columns at the image's border have a motif, by the part of their patch that is there."""

import numpy as np
import torch
from scipy.spatial import cKDTree

import torchmotif as tm


def test_columns_at_the_border_are_labelled() -> None:
    specimen = tm.datasets.mose2((420, 420), vacancy_rate=0.06)
    scan = specimen.draw(0.1, torch.Generator().manual_seed(0))
    part = tm.Micrograph(scan.numpy()[90:330, 90:330], 0.015, electrons_per_pixel=1.0)
    result = tm.analyze(part, progress=False)
    distance, nearest = cKDTree(np.asarray(specimen.truth.positions) - 90).query(result.columns.positions)
    kinds = np.asarray(specimen.truth.kinds).astype(str)[nearest]
    cut = ~result.whole & (distance < 4)
    assert (result.labels[cut] >= 0).mean() > 0.9
    names = {}
    for motif in range(result.n_motifs):
        found, count = np.unique(kinds[result.whole & (result.labels == motif)], return_counts=True)
        names[motif] = found[count.argmax()] if len(found) else ""
    labelled = cut & (result.labels >= 0)
    right = [
        names[motif] == kind for motif, kind in zip(result.labels[labelled], kinds[labelled], strict=True)
    ]
    assert np.mean(right) > 0.95
    assert np.mean(right) > result.probabilities[labelled].mean() - 0.05
    assert ((result.groups == -2) == (~result.whole & (result.labels < 0))).all()
    assert any("at the rim" in note for note in result.record["notes"])
