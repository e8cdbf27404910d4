"""Columns of a crystal, and what is none: speckle beside it, amorphous films."""

import itertools
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.columns._crystal import _FEWEST, speckle, supports
from torchmotif.datasets.render import Window
from torchmotif.errors import InputError, TorchMotifWarning

d = tm.datasets
SHAPE = (300, 300)
AXES = (1.0, 1.0)


def lattice(spacing: float, angle: float, ratio: float, skew: float, rng: np.random.Generator) -> np.ndarray:
    """Columns of a Bravais lattice in the image, moved by a twentieth of the spacing."""
    number = np.stack(np.meshgrid(np.arange(-60, 61), np.arange(-60, 61)), -1).reshape(-1, 2)
    basis = spacing * np.array([[1.0, 0.0], [skew * ratio, ratio]])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    at = number @ basis @ turn + 150 + 0.05 * spacing * rng.standard_normal((len(number), 2)) / np.sqrt(2)
    return at[((at > 0) & (at < 299)).all(1)]


def at_random(spacing: float, rng: np.random.Generator) -> np.ndarray:
    """Places of which none is nearer to another than 0.6 of the spacing, as maxima of speckle are."""
    at = rng.uniform(0, 299, (int(6 * (299 / spacing) ** 2), 2))
    keep = np.ones(len(at), bool)
    for i, j in sorted(cKDTree(at).query_pairs(0.6 * spacing)):
        keep[j] &= not keep[i]
    return at[keep]


@settings(max_examples=20, deadline=None)
@given(
    spacing=st.floats(8, 24),
    angle=st.floats(0, 3),
    ratio=st.floats(0.9, 1.8),
    skew=st.floats(0, 0.5),
    seed=st.integers(0, 99),
)
def test_columns_of_any_lattice_support_each_other(
    spacing: float, angle: float, ratio: float, skew: float, seed: int
) -> None:
    at = lattice(spacing, angle, ratio, skew, np.random.default_rng(seed))
    clear, supported = supports({"positions": at}, spacing, AXES, SHAPE)
    assert clear.double().mean() > 0.95
    assert supported.double().mean() > 0.99


@settings(max_examples=20, deadline=None)
@given(spacing=st.floats(8, 24), seed=st.integers(0, 99))
def test_places_at_random_do_not(spacing: float, seed: int) -> None:
    at = at_random(spacing, np.random.default_rng(seed))
    clear, _ = supports({"positions": at}, spacing, AXES, SHAPE)
    assert clear.sum() < max(_FEWEST, 0.01 * len(at))  # too few to be taken for a crystal


def test_the_order_of_columns_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    at = np.concatenate([lattice(12.0, 0.3, 1.0, 0.5, rng)[:120], at_random(12.0, rng)[:150]])
    order = rng.permutation(len(at))
    one, other = (supports({"positions": each}, 12.0, AXES, SHAPE) for each in (at, at[order]))
    for mine, theirs in zip(one, other, strict=True):
        assert torch.equal(mine[order], theirs)


def test_images_side_by_side_are_told_as_each_alone() -> None:
    """Also those of few columns, whose nearest neighbours are then in other images."""
    rng = np.random.default_rng(0)
    many = [
        {
            "positions": np.concatenate(
                [lattice(12.0, 0.3 * i, 1.0, 0.5, rng)[:count], at_random(12.0, rng)[:beside]]
            )
        }
        for i, (count, beside) in enumerate([(200, 40), (15, 0), (2, 0), (30, 100)])
    ]
    for each in many:
        each["intensities"] = rng.random(len(each["positions"]))
    together = {name: np.concatenate([each[name] for each in many]) for name in many[0]}
    together["image"] = np.repeat(np.arange(4), [len(each["positions"]) for each in many])
    for told in (supports, speckle):
        alone = [told(each, 12.0, AXES, SHAPE) for each in many]
        found = told(together, 12.0, AXES, SHAPE)
        if told is speckle:
            assert torch.equal(found, torch.cat(alone))
        else:
            # Of 15 columns those farther away have no part in it.
            for one, parts in zip(found, zip(*alone, strict=True), strict=True):
                assert (one == torch.cat(parts)).double().mean() > 0.99


def test_only_what_is_fainter_is_left_out() -> None:
    rng = np.random.default_rng(0)
    crystal = lattice(12.0, 0.3, 1.0, 0.5, rng)
    crystal = crystal[np.hypot(*(crystal - 150).T) < 60]
    beside = at_random(12.0, rng)
    beside = beside[np.hypot(*(beside - 150).T) > 70]
    at, known = np.concatenate([crystal, beside]), np.arange(len(crystal) + len(beside)) < len(crystal)
    for brightness, left_out in ((0.3, ~known), (1.0, np.zeros(len(at), bool))):
        strength = np.where(known, 1.0, brightness) + 0.05 * rng.standard_normal(len(at))
        found = speckle({"positions": at, "intensities": strength}, 12.0, AXES, SHAPE)
        assert (found.numpy() == left_out).mean() > 0.99


@pytest.mark.parametrize("count", [0, 1, 3, 12])
def test_few_columns_stay(count: int) -> None:
    rng = np.random.default_rng(0)
    columns = {"positions": rng.uniform(0, 299, (count, 2)), "intensities": rng.random(count)}
    assert not speckle(columns, 12.0, AXES, SHAPE).any()


def shares(found: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Recall and precision."""
    near = 0.3 * np.median(cKDTree(truth).query(truth, 2)[0][:, 1])
    return (cKDTree(found).query(truth)[0] < near).mean(), (cKDTree(truth).query(found)[0] < near).mean()


@cache
def under_all() -> torch.Tensor:
    """300 nm of carbon, of atoms of weight one: a million, which take ten times longer to draw than columns to find."""
    scene = d.nanoparticle(SHAPE, carbon_nm=300.0, carbon_ends=None).scene
    probe, places, weights = scene.layers[-1]
    return scene.changed([(probe, places, torch.ones_like(weights))]).render(Window(0, 0, *SHAPE))


def test_particles_keep_their_columns_and_carbon_gives_none() -> None:
    """One test of all, for processes that share tests would draw the carbon each."""
    for axis, radius_nm in itertools.product(["001", "110"], [0.8, 1.2]):
        bare, covered = (
            d.nanoparticle(SHAPE, axis=axis, radius_nm=radius_nm, carbon_nm=nm, carbon_ends=None)
            for nm in (0.0, 300.0)
        )
        weight = covered.scene.layers[-1][2][0]  # the same atoms lie under every particle
        expected = bare.image.data + weight * under_all()
        image = torch.poisson(expected, generator=torch.Generator().manual_seed(1))
        recall, precision = shares(tm.find_columns(image).positions.numpy(), bare.truth.positions.numpy())
        assert recall >= 0.95, (axis, radius_nm)
        assert precision >= 0.9, (axis, radius_nm)


def film(width: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    field = gaussian_filter(rng.standard_normal(SHAPE), width)
    return (field / field.std() + 0.3 * rng.standard_normal(SHAPE)).astype(np.float32)


@pytest.mark.parametrize("width", [1.5, 3.0, 5.0])
def test_an_amorphous_film_gives_no_columns_and_says_so(width: float) -> None:
    with pytest.warns(TorchMotifWarning, match="nothing in it repeats"):
        assert len(tm.find_columns(film(width, 0))) == 0
    with pytest.raises(InputError, match="nothing in it repeats"):
        tm.analyze(film(width, 0), progress=False)


def test_with_a_spacing_its_maxima_are_given_and_doubted() -> None:
    with pytest.warns(TorchMotifWarning):
        result = tm.analyze(film(3.0, 1), spacing=18.0, progress=False)
    assert len(result.columns) > 100
    assert any("no regular neighbours" in one for one in result.warnings)


@pytest.mark.parametrize(
    "specimen",
    [
        lambda: d.colloid((400, 400)),
        lambda: d.pentagonal_oxide(SHAPE),
        lambda: d.mose2(SHAPE, grains=4, vacancy_rate=0.1),
        lambda: d.dumbbells(SHAPE),
        lambda: d.nanoparticle(SHAPE, radius_nm=0.6, carbon_nm=0.0),
    ],
    ids=["colloid", "oxide", "grains", "dumbbells", "small particle"],
)
def test_columns_without_a_simple_lattice_stay(specimen) -> None:
    made = specimen()
    drawn = made.draw(1.0, torch.Generator().manual_seed(1))
    columns = tm.find_columns(np.asarray(drawn.data))
    known = {name: np.asarray(getattr(columns, name)) for name in ("positions", "intensities")}
    assert not speckle(known, columns.spacing, AXES, drawn.shape).any()
    truth = made.truth.positions.numpy()
    inside = ((truth > 5) & (truth < np.array(drawn.shape) - 6)).all(1)
    if len(truth) < 500:  # the oxide's faint columns are others' business
        assert shares(np.asarray(columns.positions), truth[inside])[0] > 0.85


@pytest.mark.parametrize("nearest", [2.5, 3.0])
def test_columns_a_few_pixels_apart_are_found(nearest: float) -> None:
    specimen = d.rectangular(
        (200, 200),
        0.3 / nearest,
        ratio=1.0,
        rotation_rad=0.2,
        electrons_per_pixel=20.0,
        probe=d.GaussianProbe(0.06),
    )
    image = specimen.draw(1.0, torch.Generator().manual_seed(1))
    columns = tm.find_columns(np.asarray(image.data))
    assert columns.spacing == pytest.approx(nearest, rel=0.05)
    truth = specimen.truth.positions.numpy()
    inside = ((truth > 3) & (truth < 196)).all(1)
    near = 0.3 * nearest
    assert (cKDTree(columns.positions).query(truth[inside])[0] < near).mean() > 0.98
    assert (cKDTree(truth).query(columns.positions)[0] < near).mean() > 0.98


@pytest.mark.real_data
def test_the_particle_of_the_cases(real_data: Path) -> None:
    folder = real_data / "cases"
    if not folder.is_dir():
        pytest.skip("the folder of real images has no cases")
    pixels = np.load(folder / "nanoparticle_on_carbon.npy")
    truth = np.loadtxt(folder / "nanoparticle_on_carbon_truth.csv", delimiter=",", skiprows=1)[:, :2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = tm.analyze(pixels, progress=False)
    recall, precision = shares(np.asarray(result.columns.positions), truth)
    assert recall >= 0.95
    assert precision >= 0.95
    assert any("speckle" in note for note in result.record["notes"])
