import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import torchmotif as tm
from torchmotif.zernike import complex_orders, orders, osa_index, to_complex, to_real
from torchmotif.zernike._angles import highest_angle


def simulated_patch(size: int, angle: float = 0.0, mirrored: bool = False) -> Tensor:
    """Molybdenum with its neighbours, one selenium vacancy, a probe with a tail; of any orientation, float64."""
    site = [(0.0, 0.0, 1.0)]
    for shell, (distance, intensity) in enumerate([(0.74, 1.36), (1.28, 1.0), (1.48, 1.36)]):
        count = (3, 6, 3)[shell]
        for i in range(count):
            direction = 2 * math.pi * i / count + (0.3, 0.3 + math.pi / 6, 0.3 + math.pi / 3)[shell]
            strength = 0.5 * intensity if (shell, i) == (0, 1) else intensity
            site.append((distance * math.cos(direction), distance * math.sin(direction), strength))
    axis = (torch.arange(size, dtype=torch.float64) - (size - 1) / 2) / (size / 2)
    y, x = -axis[:, None], axis[None]
    patch = torch.zeros(size, size, dtype=torch.float64)
    for u, v, intensity in site:
        v = -v if mirrored else v  # noqa: PLW2901
        a, b = u * math.cos(angle) - v * math.sin(angle), u * math.sin(angle) + v * math.cos(angle)
        for share, width in ((0.9, 0.175), (0.1, 0.525)):
            patch += intensity * share / width**2 * torch.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * width**2))
    return patch


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("angle", [0.1, 0.5, 1.2, 2.9])
@pytest.mark.parametrize(("size", "n_max"), [(65, 20), (64, 20), (33, 10)])
def test_moments_of_a_turned_patch_are_turned_moments(size: int, n_max: int, angle: float) -> None:
    basis = tm.ZernikeBasis(n_max, size)
    still, turned = basis(torch.stack([simulated_patch(size), simulated_patch(size, angle)]))
    assert relative(turned, tm.rotate(still, angle)) < 1e-3
    for kind in ("power", "complete"):
        assert relative(tm.invariants(turned, kind), tm.invariants(still, kind)) < 1e-3  # type: ignore[arg-type]
    # What complete invariants add, by itself; coarser pixels turn less exactly.
    q = tm.invariants(still).shape[-1]
    assert (1e-3 if size > 60 else 5e-3) > relative(
        tm.invariants(turned, "complete")[q:], tm.invariants(still, "complete")[q:]
    )


def test_moments_of_a_mirrored_patch_are_reflected_moments() -> None:
    basis = tm.ZernikeBasis(20, 65)
    still, mirrored = basis(torch.stack([simulated_patch(65), simulated_patch(65, 0.0, mirrored=True)]))
    assert relative(mirrored, tm.reflect(still)) < 1e-6
    turned = basis(simulated_patch(65, 1.4, mirrored=True)[None])[0]
    assert relative(turned, tm.reflect(still, 0.7)) < 1e-3  # mirrored at 0.7 is mirrored at 0, turned by 1.4


def test_complete_invariants_tell_what_power_confuses() -> None:
    """Turn the three-fold part of a patch against the rest: the powers stay, the patch is another."""
    basis = tm.ZernikeBasis(10, 33)
    one = basis(simulated_patch(33)[None])[0]
    threefold = basis.orders[:, 1].abs() == 3
    other = torch.where(threefold, tm.rotate(one, math.pi / 5), one)
    patches = basis.reconstruct(torch.stack([one, other]))
    one, other = basis(patches)
    assert relative(patches[1], patches[0]) > 0.1
    assert relative(tm.invariants(other), tm.invariants(one)) < 1e-4
    assert relative(tm.invariants(other, "complete"), tm.invariants(one, "complete")) > 0.05
    assert float(tm.rotation_distance(one, other).distance / one.norm()) > 0.05


@pytest.mark.parametrize("kind", ["power", "complete"])
def test_moments_without_angle_keep_their_sign(kind: str) -> None:
    moments = torch.zeros(6)
    moments[osa_index(2, 0)] = -1.0
    assert float(tm.invariants(moments, kind).min()) == -1.0


def test_complete_invariants_see_two_waves_that_no_triple_joins() -> None:
    """With m = 2 and m = 3 alone the bispectrum is empty."""
    a, b = torch.zeros(66), torch.zeros(66)
    for moments, phase in ((a, 0.0), (b, 0.4)):
        moments[osa_index(2, 2)] = 1.0
        moments[osa_index(3, 3)], moments[osa_index(3, -3)] = math.cos(phase), math.sin(phase)
    difference = tm.invariants(a, "complete") - tm.invariants(b, "complete")
    assert float(difference.norm()) > 0.1
    assert float(tm.rotation_distance(a, b).distance) > 0.1


@settings(deadline=None)
@given(angle=st.floats(0, 2 * math.pi), seed=st.integers(0, 1000), n_max=st.integers(1, 12))
def test_invariants_do_not_change_under_rotation(angle: float, seed: int, n_max: int) -> None:
    moments = torch.randn(
        (n_max + 1) * (n_max + 2) // 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    turned = tm.rotate(moments, angle)
    for kind in ("power", "complete"):
        torch.testing.assert_close(
            tm.invariants(turned, kind),
            tm.invariants(moments, kind),
            atol=1e-10,
            rtol=0,  # type: ignore[arg-type]
        )
    assert float(turned.norm()) == pytest.approx(float(moments.norm()))


@settings(deadline=None)
@given(angle=st.floats(0, 6.28), axis=st.floats(0, 3.1), seed=st.integers(0, 1000))
def test_rotations_and_reflections_form_their_group(angle: float, axis: float, seed: int) -> None:
    a = torch.randn(45, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    close = {"atol": 1e-12, "rtol": 0}
    torch.testing.assert_close(tm.rotate(tm.rotate(a, angle), -angle), a, **close)
    torch.testing.assert_close(tm.reflect(tm.reflect(a, axis), axis), a, **close)
    torch.testing.assert_close(
        tm.reflect(tm.reflect(a, 0.0), axis), tm.rotate(a, 2 * axis), **close
    )  # two mirrors make a rotation by twice their angle


@settings(deadline=None)
@given(angle=st.floats(0.01, 6.27), mirrored=st.booleans(), seed=st.integers(0, 1000))
def test_rotation_distance_finds_the_rotation(angle: float, mirrored: bool, seed: int) -> None:
    a = torch.randn(66, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    b = tm.rotate(tm.reflect(a) if mirrored else a, angle)
    match = tm.rotation_distance(a, b, mirror=True)
    assert float(match.distance) < 1e-6
    assert float(match.angle) == pytest.approx(angle, abs=1e-6)
    assert bool(match.mirrored) == mirrored
    assert mirrored == (float(tm.rotation_distance(a, b).distance) > 0.1)


def test_rotation_distance_is_the_least_over_all_angles() -> None:
    generator = torch.Generator().manual_seed(11)
    a, b = torch.randn(2, 30, 66, generator=generator, dtype=torch.float64)
    angles = torch.linspace(0, 2 * math.pi, 20_001, dtype=torch.float64)
    match = tm.rotation_distance(a, b)
    for i in range(30):
        brute = (tm.rotate(a[i].expand(len(angles), -1), angles) - b[i]).norm(dim=1).min()
        assert float(match.distance[i]) == pytest.approx(float(brute), rel=1e-6)
        assert float((tm.rotate(a[i], match.angle[i]) - b[i]).norm()) == pytest.approx(
            float(match.distance[i])
        )


def test_rotation_distance_compares_all_with_all() -> None:
    generator = torch.Generator().manual_seed(12)
    a, b = torch.randn(5, 28, generator=generator), torch.randn(7, 28, generator=generator)
    table = tm.rotation_distance(a[:, None], b[None], mirror=True)
    assert table.distance.shape == (5, 7)
    row = tm.rotation_distance(a[3].expand(7, -1), b, mirror=True)
    torch.testing.assert_close(table.distance[3], row.distance)
    assert tm.rotation_distance(a[:0], b[:0]).distance.shape == (0,)


def test_complex_moments_go_there_and_back() -> None:
    a = torch.randn(4, 5, 36, generator=torch.Generator().manual_seed(13))
    assert torch.equal(to_real(to_complex(a)), a)
    assert to_complex(a).shape[-1] == len(complex_orders(orders(7)))
    turned = to_complex(a) * torch.exp(1j * 0.6 * complex_orders(orders(7))[:, 1])
    torch.testing.assert_close(to_real(turned), tm.rotate(a, 0.6))
    some = orders(7)[orders(7)[:, 1].abs() == 2]
    part = a[..., orders(7)[:, 1].abs() == 2]
    assert torch.equal(to_real(to_complex(part, some), some), part)
    torch.testing.assert_close(tm.rotate(part, 0.6, some), tm.rotate(a, 0.6)[..., orders(7)[:, 1].abs() == 2])


@pytest.mark.parametrize("fold", [2, 3, 4, 5, 6])
def test_rotational_symmetry_of_rings(fold: int) -> None:
    """A ring of blobs has the folds that divide its number, and no others."""
    size = 49
    axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    patch = torch.zeros(size, size, dtype=torch.float64)
    for i in range(fold):
        angle = 2 * math.pi * i / fold + 0.4
        patch += torch.exp(
            -((axis[:, None] + 12 * math.sin(angle)) ** 2 + (axis - 12 * math.cos(angle)) ** 2) / 18
        )
    moments = tm.ZernikeBasis(12, size, dtype=torch.float64)(patch[None])[0]
    folds = (2, 3, 4, 5, 6)
    for other, score in zip(folds, tm.rotational_symmetry(moments, folds).tolist(), strict=True):
        assert (score > 0.999) == (fold % other == 0)
    score, mirror = tm.mirror_symmetry(moments)
    assert float(score) > 0.999
    assert (float(mirror) - 0.4) % (math.pi / fold) == pytest.approx(0, abs=1e-3) or (float(mirror) - 0.4) % (
        math.pi / fold
    ) == pytest.approx(math.pi / fold, abs=1e-3)


def test_symmetry_scores_are_the_correlations_they_say() -> None:
    a = torch.randn(45, generator=torch.Generator().manual_seed(14), dtype=torch.float64)
    a[orders(8)[:, 1].abs() < 2] = 0
    unit = a / a.norm()
    turns = torch.stack([tm.rotate(unit, 2 * math.pi * i / 5) @ unit for i in range(1, 5)])
    assert float(tm.rotational_symmetry(a, (5,))) == pytest.approx(float(turns.mean()))
    score, axis = tm.mirror_symmetry(a)
    assert float(tm.reflect(unit, axis) @ unit) == pytest.approx(float(score))
    axes = torch.linspace(0, math.pi, 5001, dtype=torch.float64)
    assert float((tm.reflect(unit.expand(5001, -1), axes) @ unit).max()) == pytest.approx(
        float(score), abs=1e-6
    )


def test_nothing_but_round_is_not_symmetric() -> None:
    assert tm.rotational_symmetry(torch.zeros(3, 28), (2, 3)).tolist() == [[0, 0]] * 3
    score, axis = tm.mirror_symmetry(torch.zeros(3, 28))
    assert score.tolist() == axis.tolist() == [0, 0, 0]


def test_maps_of_symmetry_are_symmetry_of_maps() -> None:
    image = tm.datasets.mose2((90, 100)).image
    basis = tm.ZernikeBasis(8, 25)
    moments = basis.maps(image).permute(1, 2, 0)
    close = {"equal_nan": True, "atol": 2e-4, "rtol": 0}
    folds = (2, 3, 6)
    torch.testing.assert_close(
        tm.rotational_symmetry_map(image, basis, folds).permute(1, 2, 0),
        tm.rotational_symmetry(moments, folds),
        **close,
    )
    torch.testing.assert_close(
        tm.mirror_symmetry_map(image, basis).score, tm.mirror_symmetry(moments).score, **close
    )
    assert isinstance(tm.rotational_symmetry_map(image.numpy(), basis, folds), np.ndarray)


def test_the_sites_of_mose2_have_their_symmetries() -> None:
    specimen = tm.datasets.mose2((256, 256), vacancy_rate=0.0)
    basis = tm.ZernikeBasis(12, 35)
    truth = specimen.truth.positions
    columns = truth[basis.inside(truth, (256, 256))]
    scores = tm.rotational_symmetry(basis.project(specimen.image, columns), (2, 3, 6))
    assert float(scores[:, 1].min()) > 0.99  # three-fold at metal and chalcogen
    assert float(scores[:, 0].max()) < 0.5
    lattice = 0.3289 / 0.015
    molybdenum = columns[(specimen.truth.kinds == "Mo")[basis.inside(truth, (256, 256)).numpy()]]
    gap = torch.tensor([math.cos(0.2 + math.pi / 6), -math.sin(0.2 + math.pi / 6)]).flip(0) * lattice / 3**0.5
    hollow = torch.cat([molybdenum + gap, molybdenum - gap])
    hollow = hollow[torch.cdist(hollow, truth).min(1).values > 0.9 * lattice / 3**0.5]
    hollow = hollow[basis.inside(hollow, (256, 256))]
    assert len(hollow) > 20
    assert float(tm.rotational_symmetry(basis.project(specimen.image, hollow), (6,)).min()) > 0.8


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tm.rotate(torch.zeros(3, 7), 0.1), "full sets"),
        (lambda: tm.rotate(torch.zeros(3, 2), 0.1, [(1, 1), (2, 2)]), "alone"),
        (lambda: tm.rotate(torch.zeros(3, 2), 0.1, [(1, 1)]), r"shape \(2, 2\)"),
        (lambda: tm.rotation_distance(torch.zeros(3, 6), torch.zeros(3, 10)), "equally many"),
        (lambda: tm.rotational_symmetry(torch.zeros(3, 6), (1,)), "folds must lie"),
        (lambda: tm.rotational_symmetry(torch.zeros(3, 6), (3,)), "folds must lie"),
        (lambda: to_real(torch.zeros(6)), "complex"),
        (lambda: to_real(torch.zeros(5, dtype=torch.complex64)), "fit the 5"),
        (lambda: tm.rotate(torch.tensor(1.0), 0.1), "single number"),
    ],
    ids=["set", "alone", "orders", "unequal", "onefold", "high fold", "real", "count", "scalar"],
)
def test_bad_input_is_refused(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises((tm.errors.InputError, tm.errors.InputTypeError), match=message):
        call()


def test_the_highest_value_of_a_wave_is_that_of_a_fine_grid(generator: torch.Generator) -> None:
    parts = torch.randn(2, 600, 16, generator=generator, dtype=torch.float64)
    coefficients = torch.complex(*parts)
    coefficients[:200, 1] *= 8  # one slow wave that is strong
    coefficients[200:400, 1:] *= torch.arange(1, 16) ** 2
    value, angle = highest_angle(coefficients)
    grid = torch.arange(1024, dtype=torch.float64) * (2 * math.pi / 1024)
    waves = torch.exp(1j * torch.arange(16)[:, None] * grid)
    known = (coefficients @ waves).real.amax(1)
    scale = coefficients.abs().sum(1)
    assert float(((known - value) / scale).max()) < 1e-9
    assert float(((value - known) / scale).max()) < 1e-3
    there = (coefficients * torch.exp(1j * torch.arange(16) * angle[:, None])).real.sum(1)
    torch.testing.assert_close(there, value)
    assert bool(((angle >= 0) & (angle < 2 * math.pi)).all())
