import math

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

import torchmotif as tm

CELL = 0.3905 / 0.015


def inner(truth: tm.datasets.Truth, shape: tuple[int, int], margin: float) -> np.ndarray:
    low, high = truth.positions > margin, truth.positions < torch.tensor(shape) - 1 - margin
    return (low & high).all(1).numpy()


@pytest.mark.parametrize("tilt", [0.0, 0.15], ids=["straight", "tilted"])
def test_perovskite_classes_are_those_counted_by_brute_force(tilt: float) -> None:
    specimen = tm.datasets.perovskite((400, 400), tilt_rad=tilt, antiphase_boundaries=1, rotation_rad=0.0)
    truth, places = specimen.truth, specimen.truth.positions.numpy()
    b_column = np.isin(truth.kinds, ["Ti", "Nb"])
    tree = cKDTree(places[b_column])
    for kind, reach, first in (("Sr", 0.75, 4), ("O", 0.55, 2)):
        chosen = (truth.kinds == kind) & inner(truth, (400, 400), 40)
        near = tree.query_ball_point(places[chosen], reach * CELL)
        assert {len(n) for n in near} == {first}
        niobium = [(truth.kinds[b_column][n] == "Nb").sum() for n in near]
        expected = [kind + (f" -{n} Ti +{n} Nb" if n else "") for n in niobium]
        assert truth.classes[chosen].tolist() == expected
    chosen = b_column & inner(truth, (400, 400), 40)
    assert (truth.classes[chosen] == truth.kinds[chosen]).all()


def test_octahedra_turn_and_change_sense_across_a_boundary() -> None:
    truth = tm.datasets.perovskite((600, 600), tilt_rad=0.12, antiphase_boundaries=1, rotation_rad=0.0).truth
    places = truth.positions.numpy()
    oxygen = places[truth.kinds == "O"]
    tree = cKDTree(oxygen)
    titanium = np.isin(truth.kinds, ["Ti", "Nb"]) & inner(truth, (600, 600), 40)
    near = tree.query(places[titanium], k=4)[1]
    away = oxygen[near] - places[titanium][:, None]
    angle = np.arctan2(-away[..., 0], away[..., 1])
    turned = (angle + math.pi / 4) % (math.pi / 2) - math.pi / 4
    sense = turned.mean(1)
    cell = np.round((places[titanium] - 299.5) / CELL).astype(int).sum(1)
    at_boundary = np.abs(places[titanium][:, 1] - 299.5) < 1.5 * CELL
    chess = np.where(cell % 2 == 0, 1, -1) * np.sign(sense)
    left, right = (places[titanium][:, 1] < 290) & ~at_boundary, (places[titanium][:, 1] > 310) & ~at_boundary
    assert np.abs(turned[~at_boundary]) == pytest.approx(0.12, abs=1e-6)
    assert len(set(chess[left])) == len(set(chess[right])) == 1
    assert chess[left][0] == -chess[right][0]
    assert set(truth.grains) == {0, 1}


def test_rock_salt_order_alternates() -> None:
    truth = tm.datasets.perovskite((300, 300), ordering="rock salt", b_share=0.5).truth
    chosen = np.isin(truth.kinds, ["Ti", "Nb"])
    places, kinds = truth.positions.numpy()[chosen], truth.kinds[chosen]
    pairs = cKDTree(places).query_pairs(1.1 * CELL, output_type="ndarray")
    assert (kinds[pairs[:, 0]] != kinds[pairs[:, 1]]).all()
    random = tm.datasets.perovskite((600, 600), b_share=0.3).truth.kinds
    assert (random == "Nb").sum() / np.isin(random, ["Ti", "Nb"]).sum() == pytest.approx(0.3, abs=0.07)
    assert "Nb" not in tm.datasets.perovskite((200, 200), b_share=0.0).truth.kinds


def test_disks_are_dense_disordered_and_apart() -> None:
    specimen = tm.datasets.colloid((512, 512), packing=0.8)
    truth = specimen.truth
    radius = truth.more["radius_nm"] / 5.0
    pairs = cKDTree(truth.positions).query_pairs(2.2 * radius.max(), output_type="ndarray")
    distance = np.linalg.norm(np.diff(truth.positions.numpy()[pairs], axis=1)[:, 0], axis=1)
    overlap = 1 - distance / radius[pairs].sum(1)
    assert np.clip(overlap, 0, None).max() < 0.1
    assert specimen.image.data.gt(0.5 * specimen.image.data.quantile(0.9)).double().mean() == pytest.approx(
        0.8, abs=0.05
    )
    assert set(truth.kinds) == {"small", "large"}
    contacts = np.bincount(pairs[overlap > -0.05].ravel(), minlength=len(truth))
    chosen = inner(truth, (512, 512), 3 * radius.max())
    assert truth.classes[chosen].tolist() == [
        f"{k} {n}" for k, n in zip(truth.kinds[chosen], contacts[chosen], strict=True)
    ]


def test_one_size_of_disks() -> None:
    truth = tm.datasets.colloid((200, 200), size_ratio=1.0, large_share=0.0).truth
    assert set(truth.kinds) == {"small"}


def test_a_structure_of_ase_gives_the_same_image_as_the_data_set() -> None:
    ase_build = pytest.importorskip("ase.build")
    sheet = ase_build.mx2("MoS2", a=3.16, size=(1, 1, 1), vacuum=5.0)
    made = tm.datasets.from_atoms(sheet, shape=(200, 200))
    known = tm.datasets.mx2("Mo", "S", (200, 200))
    for kind, atoms in (("Mo", "Mo"), ("S2", "S+S")):
        assert (made.truth.species[made.truth.kinds == kind] == atoms).all()
    distance = cKDTree(made.truth.positions).query(made.truth.positions, k=2)[0][:, 1]
    assert distance == pytest.approx(0.316 / math.sqrt(3) / 0.015, rel=1e-3)
    contrast = [float(s.image.data.std() / s.image.data.mean()) for s in (made, known)]
    assert contrast[0] == pytest.approx(contrast[1], rel=0.02)


def test_a_molecule_is_seen_as_it_lies() -> None:
    ase = pytest.importorskip("ase")
    atoms = ase.Atoms("AuCAu", positions=[(0, 0, 0), (5, 0, 0), (0, 8, 3)])
    specimen = tm.datasets.from_atoms(atoms, 0.02)
    truth = specimen.truth
    carbon = truth.positions[torch.as_tensor(truth.kinds == "C")][0]
    gold = truth.positions[torch.as_tensor(truth.kinds == "Au")]
    low = gold[gold[:, 0].argmax()]
    assert float(carbon[1] - low[1]) * 0.02 == pytest.approx(0.5)
    assert float(gold[:, 0].max() - gold[:, 0].min()) * 0.02 == pytest.approx(0.8)
    assert specimen.shape == (90, 75)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda _: tm.datasets.from_atoms("MoS2"), tm.errors.InputTypeError, "ase.Atoms"),
        (lambda ase: tm.datasets.from_atoms(ase.Atoms()), tm.errors.InputError, "empty"),
        (
            lambda ase: tm.datasets.from_atoms(ase.Atoms("C"), shape=(500, 500)),
            tm.errors.InputError,
            "does not fill",
        ),
        (
            lambda ase: tm.datasets.from_atoms(ase.Atoms("C", cell=[0, 0, 5], pbc=True)),
            tm.errors.InputError,
            "no area",
        ),
        (lambda ase: tm.datasets.from_atoms(ase.Atoms("C"), merge_nm=-1.0), tm.errors.InputError, "merge_nm"),
    ],
    ids=["type", "empty", "small", "flat", "merge"],
)
def test_bad_structures_are_refused(call, error: type[Exception], message: str) -> None:
    ase = pytest.importorskip("ase")
    with pytest.raises(error, match=message):
        call(ase)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"b_share": 1.5}, "b_share"),
        ({"b_sites": ("Ti", "Ti")}, "four elements"),
        ({"a_site": "Xq"}, "no element"),
        ({"tilt_rad": 1.0}, "tilt_rad"),
        ({"antiphase_boundaries": -1}, "antiphase"),
        ({"lattice_nm": math.inf}, "lattice_nm"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else v,
)
def test_bad_perovskites_are_refused(options: dict, message: str) -> None:
    with pytest.raises(tm.errors.InputError, match=message):
        tm.datasets.perovskite(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"large_share": -0.1}, "large_share"),
        ({"packing": 0.95}, "packing"),
        ({"size_ratio": 0.5}, "size_ratio"),
        ({"radius_nm": 0.0}, "radius_nm"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else v,
)
def test_bad_colloids_are_refused(options: dict, message: str) -> None:
    with pytest.raises(tm.errors.InputError, match=message):
        tm.datasets.colloid(**options)
