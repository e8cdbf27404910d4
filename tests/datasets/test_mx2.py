import itertools
import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

import torchmotif as tm

Z = {"Mo": 42, "Se": 34, "S": 16, "W": 74}


def brute_force_classes(truth: tm.datasets.Truth, metal: str, chalcogen: str, bond: float) -> list[str]:
    """Classes from nothing but the positions and the species, all pairs of columns."""
    near = cdist(truth.positions, truth.positions) < 1.2 * bond
    np.fill_diagonal(near, val=False)
    atoms = [species.split("+") if species else [] for species in truth.species]
    order = sorted({e for a in atoms for e in a}, key=[metal, chalcogen, "S", "W"].index)
    classes = []
    for i, kind in enumerate(truth.kinds):
        on_metal = (
            not (kind.endswith("2") and not kind.startswith(f"{chalcogen}2_")) and f"_{chalcogen}" not in kind
        )
        perfect = {chalcogen: 6} if on_metal and not kind.startswith("V_") else {metal: 3}
        around = list(itertools.chain.from_iterable(atoms[j] for j in np.nonzero(near[i])[0]))
        difference = {e: around.count(e) - perfect.get(e, 0) for e in order}
        classes.append(kind + "".join(f" {d:+d} {e}" for e, d in difference.items() if d))
    return classes


def tokens(name: str) -> tuple[str, ...]:
    """A class without the order of its parts."""
    kind, *rest = name.split(" ")
    return kind, *sorted(f"{a} {b}" for a, b in zip(rest[::2], rest[1::2], strict=True))


@pytest.mark.parametrize(
    "options",
    [
        {"vacancy_rate": 0.06},
        {"vacancy_rate": 0.1, "divacancy_rate": 0.05, "antisite_rate": 0.05, "adatom_rate": 0.05},
        {"substitutions": {"S": 0.2, "W": 0.2}, "holes": [(100.0, 90.0, 30.0)]},
        {"grains": 2, "boundary": "mirror", "vacancy_rate": 0.1},
        {"grains": 4, "vacancy_rate": 0.1, "random_state": 3},
    ],
    ids=["vacancies", "defects", "foreign", "mirror", "grains"],
)
def test_classes_are_those_counted_by_brute_force(options: dict) -> None:
    specimen = tm.datasets.mx2("Mo", "Se", (220, 200), **options)
    truth, bond = specimen.truth, 0.3289 / math.sqrt(3) / 0.015
    inner = ((truth.positions > 15) & (truth.positions < torch.tensor([204.0, 184.0]))).all(1).numpy()
    counted = brute_force_classes(truth, "Mo", "Se", bond)
    assert inner.sum() > 100
    assert [tokens(c) for c in truth.classes[inner]] == [
        tokens(c) for c, k in zip(counted, inner, strict=True) if k
    ]


def test_the_default_has_the_six_classes_of_the_field() -> None:
    truth = tm.datasets.mose2((1024, 1024)).truth
    assert set(truth.kinds) == {"Mo", "Se2", "V_Se"}
    assert set(truth.classes) >= {"Mo", "Mo -1 Se", "Mo -2 Se", "Se2", "V_Se"}
    selenium = truth.kinds != "Mo"
    share = (truth.kinds == "V_Se").sum() / selenium.sum()
    assert share == pytest.approx(0.06, abs=4 * (0.06 / selenium.sum()) ** 0.5)


def test_rates_are_shares_of_their_columns() -> None:
    rates = {"vacancy_rate": 0.1, "divacancy_rate": 0.05, "antisite_rate": 0.2, "adatom_rate": 0.1}
    truth = tm.datasets.mx2("W", "S", (1024, 1024), **rates, substitutions={"Se": 0.15, "Mo": 0.3}).truth
    found = dict(zip(*np.unique(truth.kinds, return_counts=True), strict=True))
    metal = sum(found[k] for k in ("W", "S2_W", "W+W", "Mo_W"))
    chalcogen = len(truth) - metal
    expected = {"V_S": 0.1, "V_S2": 0.05, "W_S2": 0.2, "Se_S": 0.15}
    for kind, rate in expected.items():
        assert found[kind] / chalcogen == pytest.approx(rate, abs=0.03)
    for kind, rate in {"S2_W": 0.2, "W+W": 0.1, "Mo_W": 0.3}.items():
        assert found[kind] / metal == pytest.approx(rate, abs=0.04)
    names = dict(zip(truth.kinds, truth.species, strict=True))
    assert (names["V_S"], names["V_S2"], names["Se_S"], names["W+W"]) == ("S", "", "S+Se", "W+W")


def test_columns_shine_as_their_atoms_scatter() -> None:
    probe = tm.datasets.GaussianProbe(0.02, tail=0.0)
    specimen = tm.datasets.mose2((256, 256), probe=probe, vacancy_rate=0.2)
    place = specimen.truth.positions
    inner = ((place > 10) & (place < 245)).all(1)
    peaks = tm.extract_patches(specimen.image.data, place[inner], 11).sum((1, 2)).numpy()
    kinds = specimen.truth.kinds[inner.numpy()]
    se2, vacancy, mo = (np.median(peaks[kinds == k]) for k in ("Se2", "V_Se", "Mo"))
    assert se2 / vacancy == pytest.approx(2, rel=0.02)
    assert mo / vacancy == pytest.approx((42 / 34) ** 1.7, rel=0.02)


def test_a_rotation_turns_the_lattice_counter_clockwise() -> None:
    for angle in (0.0, 0.3):
        place = tm.datasets.mose2((200, 200), rotation_rad=angle).truth
        metal = place.positions[torch.as_tensor(place.kinds == "Mo")] - 99.5
        assert float(metal.norm(dim=1).min()) < 1e-9
        a = 0.3289 / 0.015
        neighbour = torch.tensor([-math.sin(angle), math.cos(angle)], dtype=torch.float64) * a
        assert float((metal - neighbour).norm(dim=1).min()) < 1e-9


def test_a_mirror_twin_is_its_own_mirror_image() -> None:
    specimen = tm.datasets.mx2("Mo", "S", (256, 256), grains=2, boundary="mirror", rotation_rad=0.0)
    truth = specimen.truth
    line = truth.positions[torch.as_tensor(truth.classes == "S2 +1 Mo")][:, 0].mean()
    mirrored = truth.positions * torch.tensor([-1.0, 1.0]) + torch.stack([2 * line, line * 0])
    inside = ((mirrored > 0) & (mirrored < 255)).all(1)
    nearest = torch.cdist(mirrored[inside], truth.positions).min(1)
    assert float(nearest.values.max()) < 1e-4
    assert (truth.kinds[inside.numpy()] == truth.kinds[nearest.indices.numpy()]).all()
    assert set(truth.grains) == {0, 1}


def test_no_two_columns_of_a_polycrystal_touch() -> None:
    truth = tm.datasets.mx2("Mo", "S", (400, 400), grains=6, random_state=1).truth
    distance = torch.cdist(truth.positions, truth.positions).fill_diagonal_(torch.inf)
    assert float(distance.min()) > 0.74 * 0.316 / math.sqrt(3) / 0.015
    assert len(set(truth.grains)) > 2


def test_holes_are_empty_and_dark() -> None:
    specimen = tm.datasets.mose2((256, 256), holes=[(128.0, 128.0, 60.0)])
    away = (specimen.truth.positions - 128).norm(dim=1)
    assert float(away.min()) > 60
    assert float(specimen.image.data[118:138, 118:138].max()) < 0.1


def test_true_strain_is_the_symmetric_gradient() -> None:
    gradient = torch.tensor([[0.01, 0.03], [-0.01, -0.02]], dtype=torch.float64)
    truth = tm.datasets.mose2((200, 200), displacement=lambda p: (p - 99.5) @ gradient.T).truth
    assert torch.allclose(truth.strain, ((gradient + gradient.T) / 2).expand(len(truth), 2, 2))
    bump = tm.datasets.strain_bump((100.0, 100.0), 30.0, 0.04)
    truth = tm.datasets.mose2((200, 200), displacement=bump, vacancy_rate=0.0).truth
    middle = (truth.positions - 100).norm(dim=1).argmin()
    assert truth.strain[middle].numpy() == pytest.approx(0.04 * np.eye(2), abs=0.004)
    step = 1e-4
    place = torch.tensor([[90.0, 120.0]], dtype=torch.float64)
    forward = (bump(place + torch.tensor([[step, 0.0]])) - bump(place - torch.tensor([[step, 0.0]]))) / (
        2 * step
    )
    nearest = (truth.positions - bump(truth.positions) - place).norm(dim=1).argmin()
    assert float((truth.strain[nearest, 0, 0] - forward[0, 0]).abs()) < 0.02


def test_the_same_seed_gives_the_same_specimen() -> None:
    first, again, other = (tm.datasets.mose2((128, 128), random_state=s) for s in (5, 5, 6))
    assert torch.equal(first.image.data, again.image.data)
    assert (first.truth.classes == again.truth.classes).all()
    assert not torch.equal(first.image.data, other.image.data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vacancy_rate": -0.1}, "vacancy_rate"),
        ({"vacancy_rate": 0.7, "divacancy_rate": 0.7}, "sum to at most 1"),
        ({"substitutions": {"S": 1.5}}, "substitutions"),
        ({"substitutions": {"Xx": 0.1}}, "no element"),
        ({"substitutions": {"Mo": 0.1}}, "other elements"),
        ({"metal": "Qq"}, "no element"),
        ({"chalcogen": "Br"}, "chalcogen"),
        ({"metal": "Nb"}, "lattice_nm"),
        ({"lattice_nm": -1.0}, "lattice_nm"),
        ({"pixel_size_nm": 0.0}, "pixel_size_nm"),
        ({"shape": (0, 10)}, "shape"),
        ({"electrons_per_pixel": 0.0}, "electrons_per_pixel"),
        ({"electrons_per_pixel": math.nan}, "electrons_per_pixel"),
        ({"grains": 0}, "grains"),
        ({"grains": 3, "boundary": "mirror"}, "two grains"),
        ({"holes": [(5.0, 5.0, -1.0)]}, "holes"),
        ({"holes": [(50.0, 50.0, 1e4)]}, "no column"),
        ({"background": 1.0}, "background"),
        ({"gamma": 3.0}, "gamma"),
        ({"displacement": lambda p: p[:, :1]}, "displacement"),
        ({"displacement": lambda p: p * 5.0}, "displacement"),
    ],
    ids=lambda v: v.replace(" ", "-") if isinstance(v, str) else next(iter(v)),
)
def test_bad_input_is_refused(options: dict, message: str) -> None:
    with pytest.raises(tm.errors.InputError, match=message):
        tm.datasets.mx2(**{"shape": (100, 100), **options})
