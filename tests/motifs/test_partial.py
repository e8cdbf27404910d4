"""Motifs of columns of whose patch only a part is there."""

from typing import Any

import numpy as np
import pytest
import torch

import torchmotif as tm
from torchmotif.errors import InputError
from torchmotif.patches import extract_patches, inside, offsets

SIZE = 37


@pytest.fixture(scope="module")
def learnt() -> tuple[tm.MotifClassifier, torch.Tensor, torch.Tensor, np.ndarray]:
    specimen = tm.datasets.mose2((420, 420), vacancy_rate=0.08)
    scan = torch.as_tensor(specimen.draw(0.1, torch.Generator().manual_seed(0)).data)
    whole = np.asarray(inside(specimen.truth.positions, (420, 420), SIZE))
    positions = specimen.truth.positions[whole]
    patches, shifts = extract_patches(scan, positions, SIZE), offsets(positions, SIZE)
    kinds = np.asarray(specimen.truth.kinds).astype(str)[whole]
    return tm.MotifClassifier().fit(patches, shifts), patches, shifts, kinds


def test_a_whole_patch_has_the_motif_it_has(learnt: Any) -> None:
    model, patches, shifts, _ = learnt
    labels, probabilities = model.predict_partial(patches, torch.ones_like(patches, dtype=torch.bool), shifts)
    sure = (model.probabilities_ > 0.99) & (labels >= 0)
    assert sure.float().mean() > 0.8
    assert (labels == model.labels_)[sure].float().mean() > 0.99
    assert ((probabilities >= 0) & (probabilities <= 1)).all()


@pytest.mark.parametrize("cut", [6, 12, 17])
def test_a_part_tells_the_motif_as_surely_as_it_says(learnt: Any, cut: int) -> None:
    model, patches, shifts, kinds = learnt
    present = torch.ones_like(patches, dtype=torch.bool)
    present[:, :cut] = False
    spoilt = torch.where(present, patches, 1e6)  # what is not there has no part in it
    labels, probabilities = (one.numpy() for one in model.predict_partial(spoilt, present, shifts))
    true = model.labels_.numpy()
    has = (labels >= 0) & (true >= 0)
    assert has.mean() > 0.95
    names = {
        motif: max(set(kinds[true == motif]), key=list(kinds[true == motif]).count)
        for motif in set(true[has])
    }
    right = np.array([names.get(motif) == kind for motif, kind in zip(labels[has], kinds[has], strict=True)])
    assert right.mean() > 0.95
    same = labels[has] == true[has]
    for low, high in ((0.5, 0.8), (0.8, 0.95), (0.95, 1.01)):
        here = (probabilities[has] >= low) & (probabilities[has] < high)
        if here.sum() >= 30:
            assert same[here].mean() > probabilities[has][here].mean() - 0.15


def test_too_few_pixels_tell_nothing(learnt: Any) -> None:
    model, patches, shifts, _ = learnt
    present = torch.zeros_like(patches[:5], dtype=torch.bool)
    present[:, 18, 18] = True
    labels, probabilities = model.predict_partial(patches[:5], present, shifts[:5])
    assert labels.tolist() == [-1] * 5
    assert probabilities.tolist() == [0.0] * 5


def test_bad_input_is_named(learnt: Any) -> None:
    model, patches, shifts, _ = learnt
    with pytest.raises(InputError, match="present must have the shape"):
        model.predict_partial(patches[:5], torch.ones(5, 3, 3), shifts[:5])
    with pytest.raises(InputError, match="offsets"):
        model.predict_partial(patches[:5], torch.ones_like(patches[:5]), shifts[:4])
