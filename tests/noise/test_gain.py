from pathlib import Path

import numpy as np
import pytest
import torch

import torchmotif as tm


@pytest.mark.parametrize("electrons", [1.0, 5.0, 50.0], ids=lambda e: f"{e:.0f}e")
def test_the_gain_and_its_error_are_right(electrons: float) -> None:
    specimen = tm.datasets.mose2((512, 512), electrons_per_pixel=electrons)
    gains = []
    for seed in range(12):
        counts = specimen.draw(generator=torch.Generator().manual_seed(seed)).data
        gains.append(tm.noise.estimate_gain(counts * 3.7 + 50))
    found = np.array([g.electrons_per_unit * 3.7 for g in gains])
    pull = np.array([(g.electrons_per_unit * 3.7 - 1) / (g.error * 3.7) for g in gains])
    assert np.abs(found - 1).max() < 0.1
    assert 0.45 < np.sqrt((pull**2).mean()) < 1.7
    assert np.mean([g.electrons_per_pixel for g in gains]) == pytest.approx(electrons, rel=0.1)
    assert np.mean([g.whiteness for g in gains]) == pytest.approx(1, abs=0.02)


def test_a_known_offset_sharpens_the_estimate(generator: torch.Generator) -> None:
    counts = tm.datasets.mose2((256, 256)).draw(generator=generator).data
    free = tm.noise.estimate_gain(counts + 50)
    known = tm.noise.estimate_gain(counts + 50, offset=50.0)
    assert known.error < free.error
    assert known.offset_error == 0
    assert known.electrons_per_unit == pytest.approx(1, abs=5 * known.error)


def test_counts_come_back_from_units(generator: torch.Generator) -> None:
    counts = tm.datasets.mose2((256, 256)).draw(generator=generator).numpy()
    image = tm.Micrograph(counts * 8.0 + 3.0)
    gain = tm.noise.Gain(1 / 8, 0.0, 3.0, 0.0, float(counts.mean()), 1.0)
    assert np.array_equal(gain.counts(image), counts)


def test_a_filtered_image_is_seen_to_be_filtered(generator: torch.Generator) -> None:
    counts = tm.datasets.mose2((256, 256)).draw(generator=generator).data
    smooth = (counts + counts.roll(1, 1) + counts.roll(1, 0) + counts.roll((1, 1), (0, 1))) / 4
    assert tm.noise.estimate_gain(smooth).whiteness > 1.5


@pytest.mark.real_data
def test_a_raw_real_image_has_few_electrons_and_white_noise(real_data: Path) -> None:
    with np.load(real_data / "SciLink_MoS2_Exp-000-2.npz") as file:
        gain = tm.noise.estimate_gain(file["image"])
    assert 1 < gain.electrons_per_pixel < 50
    assert gain.whiteness == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.ones((32, 32)), "at least 96 pixels"),
        (np.full((128, 128), np.nan), "not finite"),
        (np.random.default_rng(0).normal(size=(128, 128)), "no noise that grows"),
    ],
    ids=["small", "nan", "gaussian"],
)
def test_images_without_a_gain_are_refused(image: np.ndarray, message: str) -> None:
    with pytest.raises(tm.errors.InputError, match=message):
        tm.noise.estimate_gain(image)


def test_a_constant_image_has_no_gain() -> None:
    for value, offset in ((7.0, 0.0), (0.1, 0.0), (7.0, None), (0.0, None)):
        with pytest.raises(tm.errors.InputError, match="no noise that grows"):
            tm.noise.estimate_gain(np.full((128, 128), value), offset=offset)


def test_an_impossible_order_is_refused() -> None:
    with pytest.raises(tm.errors.InputError, match="order"):
        tm.noise.estimate_gain(np.ones((128, 128)), order=1)
