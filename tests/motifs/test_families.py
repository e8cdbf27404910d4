import numpy as np
import pytest
import torch
from drawn import spots

from torchmotif.motifs import find_families


def patch(angle: float, heights: tuple[float, ...] = (3.0, 1.0, 0.2)) -> np.ndarray:
    """A column, and others around it, the first at an angle; where heights differ it has no symmetry."""
    axis = np.arange(41) - 20.0
    around = np.deg2rad(angle) + 2 * np.pi * np.arange(len(heights)) / 5
    places = [(0.0, 0.0), *((-11 * np.sin(a), 11 * np.cos(a)) for a in around)]
    image = np.zeros((41, 41))
    for (row, col), height in zip(places, (4.0, *heights), strict=True):
        image += height * np.exp(-((axis[:, None] - row) ** 2 + (axis[None] - col) ** 2) / 18)
    return image


def test_turned_and_mirrored_motifs_are_one_family() -> None:
    other = spots([1.0] * 7)
    other = np.pad(np.asarray(other), 10)
    templates = np.stack([patch(10), other, patch(130), patch(10)[::-1]])
    families = find_families(templates, np.array([50, 40, 30, 20]))
    assert [family.motifs for family in families] == [(0, 2, 3), (1,)]
    assert np.rad2deg(families[0].angles_rad[1]) == pytest.approx(120, abs=1)
    assert families[0].mirrored == (False, False, True)
    assert str(families[0]) == "motifs 0, 2, 3: one motif in 3 orientations, some of them mirrored"
    assert str(families[1]) == "motif 1: by itself"


def test_a_darker_middle_is_another_motif() -> None:
    dark = patch(10)
    dark[18:23, 18:23] *= 0.7
    assert len(find_families(np.stack([patch(10), dark]), np.array([5, 4]))) == 2


def test_sublattices_that_a_rotation_nearly_joins_are_two_motifs() -> None:
    ring = [patch(angle, (3.0,) * 5) for angle in (10, 46)]
    bright = ring[1].copy()
    bright[16:25, 16:25] *= 1.3  # the neighbours make up most of the difference
    assert len(find_families(np.stack([ring[0], bright]), np.array([50, 40]))) == 2


def test_the_noise_of_few_patches_is_allowed_for() -> None:
    generator = torch.Generator().manual_seed(0)
    counts = np.array([4000, 40])
    means = [torch.as_tensor(patch(angle) * 0.05 + 0.01) for angle in (10, 130)]
    drawn = [
        torch.poisson(mean * n, generator=generator) / n
        for mean, n in zip(means, counts.tolist(), strict=True)
    ]
    templates = torch.stack(drawn).numpy()
    assert [one.motifs for one in find_families(templates, counts, 1.0)] == [(0, 1)]
