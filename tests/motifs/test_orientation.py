"""Patches rotated onto a reference: their moments are known exactly, so is what should come out."""

import math

import numpy as np
import pytest
import torch

from torchmotif.motifs._orientation import (
    MOTIF_TOLERANCE,
    SEED_TOLERANCE,
    Symmetries,
    averaged,
    learn_reference,
    reference_of,
    rotated_copies,
)
from torchmotif.zernike import ZernikeBasis, reflect, rotate, rotation_distance

SIZE = 21
BASIS = ZernikeBasis(8, SIZE)
FINER = ZernikeBasis(12, SIZE)
AXIS = torch.arange(SIZE) - (SIZE - 1) / 2


def moments_of(*around: float, middle: float = 1.0, basis: ZernikeBasis = BASIS) -> torch.Tensor:
    """Of Gaussian columns: one in the middle, others evenly around it, the first in the direction of the columns."""
    angle = 2 * math.pi * torch.arange(len(around)) / len(around)
    row, col = (torch.cat([torch.zeros(1), 6 * part])[:, None] for part in (-angle.sin(), angle.cos()))
    down, across = torch.exp(-((AXIS - row) ** 2) / 6), torch.exp(-((AXIS - col) ** 2) / 6)
    patch = torch.einsum("s,sr,sc->rc", torch.tensor([middle, *around]), down, across)
    moments = basis(patch[None])[0].double()
    return moments / moments.norm()


THREE, SIX, TWO = moments_of(1.0, 1.0, 1.0), moments_of(*[1.0] * 6, middle=0.5), moments_of(1.0, 1.0)
ONE, CHIRAL = moments_of(1.0, 0.4, 0.4), moments_of(1.2, 0.6, 0.1, middle=0.7)
FOUR, FIVE = moments_of(*[1.0] * 4), moments_of(*[1.0] * 5, middle=0.5)
SHARP = 1e4 * torch.eye(len(ONE), dtype=torch.float64)  # single columns tell everything
ALL = torch.stack([SIX, THREE, TWO, ONE, CHIRAL])


def close(a: torch.Tensor, b: torch.Tensor, atol: float = 1e-3) -> bool:
    return bool(torch.allclose(a, b, atol=atol, rtol=0))


@pytest.mark.parametrize("mirror", [False, True])
def test_symmetries_are_seen(mirror: bool) -> None:
    shapes = torch.cat([ALL, torch.stack([FOUR, FIVE])])
    rotated = rotate(shapes, torch.tensor([0.3, 1.0, 2.0, 4.0, 0.5, 0.1, 3.0], dtype=torch.float64))
    found = Symmetries.of(rotated, SHARP, 0.0, MOTIF_TOLERANCE, mirror=mirror)
    assert found.folds.tolist() == [6, 3, 2, 1, 1, 4, 5]
    assert found.chiral.tolist() == [False] * 4 + [mirror] + [False] * 2
    assert close(found.centres, rotated, atol=0.05)
    for centre, fold in zip(found.centres, found.folds.tolist(), strict=True):
        assert close(rotate(centre, 2 * math.pi / fold), centre, atol=1e-9)
    if mirror:
        for centre in found.centres[:4]:
            image = reflect(centre)
            assert float(rotation_distance(image, centre).distance) < 1e-5


def test_a_symmetry_that_noise_breaks_is_there() -> None:
    blurred = THREE + 0.02 * CHIRAL
    for white, fold in ((0.1 * SHARP, 1), (1e-3 * SHARP, 3)):
        found = Symmetries.of(blurred[None], white, 2.0, 0.0, mirror=False)
        assert found.folds.tolist() == [fold]
    assert close(rotate(found.centres[0], 2 * math.pi / 3), found.centres[0], atol=1e-9)
    image = Symmetries.of(blurred[None], 1e-3 * SHARP, 2.0, 0.0, mirror=True)
    assert image.chiral.tolist() == [False]


def test_a_symmetry_that_is_nearly_there_serves_a_seed() -> None:
    broken = THREE + 0.3 * (ONE - THREE)
    for tolerance, fold in ((SEED_TOLERANCE, 3), (MOTIF_TOLERANCE / 10, 1)):
        assert Symmetries.of(broken[None], SHARP, 0.0, tolerance, mirror=False).folds.tolist() == [fold]


@pytest.mark.parametrize("mirror", [False, True])
def test_angles_are_those_that_the_patches_were_rotated_by(mirror: bool) -> None:
    rng = np.random.default_rng(0)
    labels = torch.arange(5).repeat(8)
    angle = torch.from_numpy(rng.uniform(0, 2 * math.pi, 40))
    flipped = torch.from_numpy(rng.random(40) < 0.5) & (labels == 4) & mirror
    patches = torch.where(flipped[:, None], reflect(ALL)[labels], ALL[labels])
    shapes = Symmetries.of(ALL, SHARP, 0.0, MOTIF_TOLERANCE, mirror=mirror)
    found, mirrored = shapes.angles(rotate(patches, angle), labels)
    assert torch.equal(mirrored, flipped)
    period = 2 * math.pi / torch.tensor([6, 3, 2, 1, 1])[labels]
    assert bool(((found >= 0) & (found < period)).all())
    wrong = torch.remainder(found - angle + period / 2, period) - period / 2
    assert float(wrong.abs().max()) < 0.02


def test_weighted_means_of_groups() -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, 6.0], [10.0, 0.0], [5.0, 5.0]], dtype=torch.float64)
    group, weights = torch.tensor([1, 1, 0, 3]), torch.tensor([1, 3, 2, 0])
    means = averaged(values, weights, group)
    expected = torch.tensor([[10.0, 0.0], [2.5, 5.0], [0.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(means, expected)


@pytest.mark.parametrize("mirror", [False, True])
def test_what_is_one_motif_rotated_is_found(mirror: bool) -> None:
    centres = torch.stack(
        [THREE, rotate(ONE, 1.0), rotate(THREE, 0.5), ONE, CHIRAL, rotate(reflect(CHIRAL), 2.0), TWO]
    )
    counts = torch.tensor([200, 50, 100, 80, 30, 20, 10])
    group, rotated = rotated_copies(centres, counts, SHARP, 2.0, mirror=mirror)
    assert group.tolist() == ([0, 1, 0, 1, 2, 2, 3] if mirror else [0, 1, 0, 1, 2, 3, 4])
    leaders = torch.stack([THREE, ONE, THREE, ONE, CHIRAL, CHIRAL if mirror else centres[5], TWO])
    assert close(rotated, leaders)


@pytest.mark.parametrize(("beyond", "joined"), [(0.97, True), (1.03, False)])
@pytest.mark.parametrize("least", [0.0, 2.0])
def test_means_that_differ_by_their_noise_are_one(beyond: float, joined: bool, least: float) -> None:
    radial = torch.zeros_like(ONE)
    radial[4] = 1.0  # rotating does not change it
    counts = torch.tensor([12, 4])
    distance = math.sqrt(len(ONE) * (1 / 12 + 1 / 4) + least**2) * beyond
    white = torch.eye(len(ONE), dtype=torch.float64)
    centres = 1e4 * ONE + torch.stack([0 * radial, distance * radial])
    group, _ = rotated_copies(centres, counts, white, least, mirror=False)
    assert group.tolist() == ([0, 0] if joined else [0, 1])


def test_a_difference_that_rotating_explains_is_none() -> None:
    other = rotate(ONE, 1.0) + 0.1 * float((ONE - rotate(ONE, 1.0)).norm()) * THREE
    counts = torch.tensor([10_000, 10_000])
    assert rotated_copies(torch.stack([ONE, other]), counts, SHARP, 2.0, mirror=False)[0].tolist() == [0, 0]
    unlike = torch.stack([ONE, ONE + 0.1 * THREE])
    assert rotated_copies(unlike, counts, SHARP, 2.0, mirror=False)[0].tolist() == [0, 1]


@pytest.mark.parametrize("angle", [0.0, 0.4, 2.0, 5.0])
def test_a_reference_stands_upright_however_it_was_found(angle: float) -> None:
    centres = torch.stack([rotate(ONE, 2 * angle), rotate(THREE, angle), rotate(TWO, 1.0), rotate(SIX, 2.0)])
    seeds = Symmetries.of(centres, SHARP, 0.0, MOTIF_TOLERANCE, mirror=False)
    reference = reference_of(seeds, torch.tensor([40, 200, 3, 30]))
    assert reference.folds.tolist() == [1, 3, 6]  # of 273 columns 3 are rare
    one, three, six = reference.centres
    assert close(three, THREE, atol=0.02)  # its first lobe in the direction of the columns
    for other in (one, six):
        wrong = float(rotation_distance(other, three).angle)
        assert min(wrong, 2 * math.pi - wrong) < 0.02 or close(rotate(other, wrong), other, atol=0.02)
    assert float(rotation_distance(one, ONE).distance) < 0.02


def test_what_is_round_is_upright() -> None:
    flat = Symmetries.of(torch.ones(1, 1, dtype=torch.float64), SHARP[:1, :1], 0.0, 0.0, mirror=False)
    assert reference_of(flat, torch.tensor([5])).centres.tolist() == [[1.0]]


@pytest.mark.parametrize("mirror", [False, True])
def test_patches_are_rotated_onto_the_seed_they_are_like(mirror: bool) -> None:
    seeds = Symmetries.of(torch.stack([ONE, CHIRAL]), SHARP, 0.0, MOTIF_TOLERANCE, mirror=mirror)
    reference = reference_of(seeds, torch.tensor([10, 5]))
    finer = torch.stack(
        [moments_of(1.0, 0.4, 0.4, basis=FINER), moments_of(1.2, 0.6, 0.1, middle=0.7, basis=FINER)]
    )
    angles = torch.linspace(0.1, 6.1, 7, dtype=torch.float64)
    for i, kind in enumerate(finer):
        rotated = rotate(kind.expand(7, -1), angles)
        found = reference.align(rotated)
        assert found.shape == rotated.shape
        assert close(found, found[:1].expand(7, -1), atol=0.02)
        lower = found[0, : len(ONE)] / found[0, : len(ONE)].norm()
        assert close(lower, reference.centres[i], atol=0.03)
        if mirror and i == 1:
            assert close(reference.align(reflect(rotated)), found, atol=0.02)


def test_a_reference_is_learnt_in_which_columns_lie_alike() -> None:
    generator = torch.Generator().manual_seed(0)
    kind = torch.repeat_interleave(torch.arange(2), torch.tensor([100, 60]))
    angle = 2 * math.pi * torch.rand(160, generator=generator, dtype=torch.float64)
    noise = 0.01 * torch.randn(160, len(ONE), generator=generator, dtype=torch.float64)
    columns = rotate(torch.stack([THREE, CHIRAL])[kind], angle) + noise
    white = 100 * torch.eye(len(ONE), dtype=torch.float64)
    reference = learn_reference(columns, white, 2.0, mirror=False, random_state=0)
    assert set(reference.folds.tolist()) == {1, 3}
    rotated = reference.align(columns)
    for i in range(2):
        assert float(rotated[kind == i].std(0).max()) < 0.02
