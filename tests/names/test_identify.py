"""Names by composition: simulated MX2, wrong formulas, calibration, files."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.errors import CompositionError, InputError, ReadError
from torchmotif.names import Names, identify_columns
from torchmotif.names._mixture import Levels, fit_mixture
from torchmotif.names.alike import formulas_alike
from torchmotif.names.formula import Composition
from torchmotif.names.hosts import _rivals, find_hosts


def truth_of(specimen: Any, result: tm.MotifResult) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True kinds of the sites off the border, the names at them ("-": nothing there), and their probabilities."""
    names = result.names
    assert names is not None
    places = np.vstack([result.columns.positions, names.empty_positions])
    words = np.concatenate([names.words, names.empty_words])
    sure = np.concatenate([names.probabilities, names.empty_probabilities])
    at = specimen.truth.positions.numpy()
    inner = ((at > 20) & (at < np.array(specimen.shape) - 21)).all(axis=1)
    away, near = cKDTree(places).query(at)
    there = away < 0.45 * result.columns.spacing
    return (
        specimen.truth.kinds[inner],
        np.where(there, words[near], "-")[inner],
        np.where(there, sure[near], 0)[inner],
    )


def test_every_kind_is_named_at_10_electrons_per_pixel(at_10: tuple[Any, tm.MotifResult]) -> None:
    specimen, result = at_10
    true, found, _ = truth_of(specimen, result.identify("MoS2", dopants=["W"]))
    for kind in np.unique(true):
        here = found[true == kind]  # a divacancy at the border may lack the neighbours that tell its site
        assert (here[here != "-"] == kind).mean() >= 0.95, kind
    assert (found == true).mean() > 0.995


def test_names_at_1_electron_per_pixel_are_as_sure_as_they_say(
    at_1: tuple[Any, tm.MotifResult], identified: tm.MotifResult
) -> None:
    true, found, sure = truth_of(at_1[0], identified)
    right = found == true
    assert right.mean() > 0.98
    assert abs(sure[sure > 0].mean() - right[sure > 0].mean()) < 0.01
    for kind in ("Mo", "S2", "W_Mo"):
        assert right[true == kind].mean() > 0.98, kind


@pytest.mark.slow
@pytest.mark.parametrize("dose", [10.0, 1.0, 0.5])
def test_the_composition_lies_within_its_error(dose: float) -> None:
    from tests.names.conftest import doped

    scores = []
    for seed in range(3):
        specimen, result = doped(dose, seed, (384, 384))
        table = result.identify("MoS2", dopants=["W"]).names.composition  # type: ignore[union-attr]
        atoms = "+".join(specimen.truth.species.tolist()).split("+")
        share = np.array([100 * atoms.count(e) / len([a for a in atoms if a]) for e in table["element"]])
        # The image's border cuts the lattice elsewhere than the truth, by at most a row of columns.
        scores.append((table["at_percent"].to_numpy() - share) / np.hypot(table["error"].to_numpy(), 0.3))
    assert np.abs(scores).max() < 3


def test_the_exponent_is_that_of_the_specimen(identified: tm.MotifResult) -> None:
    names = identified.names
    assert names is not None
    gamma, error = names.record["gamma"]
    assert abs(gamma - 1.7) < 0.05 < error < 0.1
    assert set(names.record["hosts"].values()) == {"Mo", "S2"}


@pytest.mark.parametrize("wrong", ["WTe2", "MoSe2", "PtTe2"])
def test_a_wrong_formula_is_refused(at_1: tuple[Any, tm.MotifResult], wrong: str) -> None:
    with pytest.raises(CompositionError, match=f"{wrong} does not fit the image"):
        at_1[1].identify(wrong)


def test_molybdenum_disulphide_is_said_to_fit_tungsten_diselenide_badly() -> None:
    counts = {0: 500, 1: 500}
    bright = {0: 2 * 34**1.7, 1: 74**1.7}  # Se2 and W
    assert find_hosts(Composition.parse("MoS2"), bright, counts).unusual
    assert not find_hosts(Composition.parse("WSe2"), bright, counts).unusual
    assert not find_hosts(
        Composition.parse("MoS2"), bright, counts, gamma=1.4
    ).unusual  # as it was said to be


@pytest.mark.parametrize(
    ("given", "other", "exchanged"),
    [("MoS2", "MoTe2", {0: "Te2", 1: "Mo"}), ("MoTe2", "MoS2", {0: "S2", 1: "Mo"})],
)
@pytest.mark.parametrize("gamma", [None, 1.7])
def test_formulas_that_intensities_do_not_tell_are_named(
    given: str, other: str, exchanged: dict[int, str], gamma: float | None
) -> None:
    z = {"MoS2": 16, "MoTe2": 52}[given]
    bright, counts = {0: 42**1.7, 1: 2 * z**1.7}, {0: 500, 1: 500}
    stacks = find_hosts(Composition.parse(given), bright, counts, gamma=gamma).stacks
    found = formulas_alike(Composition.parse(given), stacks, bright, counts, gamma=gamma)
    alike = {one["formula"]: one for one in found}
    assert given not in alike
    assert dict(zip(stacks, alike[other]["hosts"], strict=True)) == exchanged
    assert not {"WS2", "MoSe2", "WTe2"} & set(alike)


def test_a_formula_is_not_like_itself_with_its_elements_exchanged() -> None:
    stacks, counts = {0: {"Ge": 1}, 1: {"Sn": 1}}, {0: 500, 1: 500}
    bright = {0: 32**1.7, 1: 50**1.7}
    found = formulas_alike(Composition.parse("GeSn"), stacks, bright, counts, gamma=None)
    elements = [frozenset(one["hosts"]) for one in found]
    assert frozenset(["Ge", "Sn"]) not in elements
    assert len(set(elements)) == len(elements) > 0


def test_a_formula_that_no_other_is_like_has_no_note() -> None:
    bright, counts = {0: 2 * 34**1.7, 1: 74**1.7}, {0: 500, 1: 500}  # WSe2
    stacks = find_hosts(Composition.parse("WSe2"), bright, counts).stacks
    assert formulas_alike(Composition.parse("WSe2"), stacks, bright, counts, gamma=None) == []


def test_a_wrong_formula_says_which_may_be_meant(at_1: tuple[Any, tm.MotifResult]) -> None:
    wrong = at_1[1].identify("MoTe2").names
    assert wrong is not None
    assert [one for one in wrong.notes if "MoS2 (Mo, S2; Z^1." in one]
    assert json.loads(json.dumps(wrong.record))["alike"] == wrong.record["alike"]


def test_columns_scatter_as_their_kind_is_bright() -> None:
    rng, levels = np.random.default_rng(0), np.array([100.0, 50.0, 300.0])
    found = rng.poisson(np.repeat(levels, [2000, 200, 200])).astype(float)
    fitted = fit_mixture(found, np.sqrt(found), Levels(levels, 0.05 * levels), 1.0, np.ones(len(found), bool))
    np.testing.assert_allclose(fitted.scatter / fitted.scatter[0], np.sqrt(levels / 100), rtol=0.1)


def test_rare_kinds_are_as_many_as_there_are_where_noise_is_askew() -> None:
    rng, off = np.random.default_rng(0), []
    for _ in range(20):
        true = np.repeat([25.0, 50.0], [90, 2910])
        found = rng.poisson(true).astype(float)
        levels = Levels(np.array([50.0, 25.0, 75.0]), np.array([0.5, 1.5, 1.5]))
        fitted = fit_mixture(found, np.sqrt(found), levels, 1.0, np.ones(len(true), bool))
        off.append(fitted.probabilities[:, 1:3].sum(axis=0) - [90, 0])
    # Gaussians, with means by each column's own noise, miss 21 of the dim ones and take 3 of the others for brighter ones.
    assert np.abs(np.mean(off, axis=0)).max() < 5


def test_numbers_of_kinds_that_noise_does_not_mix_have_no_error() -> None:
    true = np.repeat([50.0, 100.0, 200.0], [40, 900, 7])
    found = np.random.default_rng(0).normal(true, 2.0)
    levels = Levels(np.array([100.0, 50.0, 200.0]), np.array([1.0, 2.0, 5.0]))
    fitted = fit_mixture(found, np.full(len(true), 2.0), levels, 0.0, np.ones(len(true), bool))
    assert np.sqrt(np.abs(np.diag(fitted.excess))).max() < 0.15  # before: 0.45 of a column for each kind


def test_numbers_of_kinds_that_noise_mixes_err_as_they_say() -> None:
    rng, levels = np.random.default_rng(0), Levels(np.array([100.0, 75.0]), np.array([0.01, 0.01]))
    scores = []
    for _ in range(60):
        true = np.repeat([100.0, 75.0], [2000, 20])
        found = rng.normal(true, 10.0)
        fitted = fit_mixture(found, np.full(len(true), 10.0), levels, 0.0, np.ones(len(true), bool))
        scores.append((fitted.probabilities[:, 1].sum() - 20) / np.sqrt(fitted.excess[1, 1]))
    assert 0.8 < np.sqrt(np.mean(np.square(scores))) < 1.25


@pytest.mark.parametrize("wrong", ["HfSe2", "CaF2"])
def test_a_formula_that_fits_with_an_unusual_exponent_is_said_to_fit_badly(
    at_1: tuple[Any, tm.MotifResult], wrong: str
) -> None:
    names = at_1[1].identify(wrong).names
    assert names is not None
    assert any("fits badly" in one for one in names.warnings)
    assert (
        names.notes == names.record["alike"] == []
    )  # others would fit as well: that is not what is to be said
    assert not any("fits badly" in one for one in at_1[1].identify("MoS2", dopants=["W"]).warnings)


def test_bad_arguments_are_named(at_1: tuple[Any, tm.MotifResult]) -> None:
    result = at_1[1]
    with pytest.raises(InputError, match="composition is no chemical formula"):
        result.identify("mos2")
    with pytest.raises(InputError, match="'Qq' is no element"):
        result.identify("MoQq2")
    with pytest.raises(InputError, match="composition: 'Qq' is no element"):
        result.identify("MoQq2")
    with pytest.raises(InputError, match="dopants: 'Qq' is no element"):
        result.identify("MoS2", dopants=["Qq"])
    with pytest.raises(InputError, match="gamma must lie between 1 and 2"):
        result.identify("MoS2", gamma=3.0)
    with pytest.raises(InputError, match="columns must be of the elements of MoS2"):
        result.identify("MoS2", columns=["Mo", "Se2"])
    dark = dataclasses.replace(
        result, record={**result.record, "found": {**result.record["found"], "polarity": "dark"}}
    )
    with pytest.raises(InputError, match="bright field"):
        dark.identify("MoS2")


def test_columns_without_errors_are_refused(at_1: tuple[Any, tm.MotifResult]) -> None:
    result = at_1[1]
    bare = dataclasses.replace(result.columns, intensity_errors=None)
    with pytest.raises(InputError, match="intensity errors"):
        identify_columns(result.image.measured(), bare, result.sites, "MoS2")


def test_adatoms_that_no_column_can_show_are_not_looked_for(at_1: tuple[Any, tm.MotifResult]) -> None:
    result = at_1[1]
    scan = result.image.measured()
    noisy = dataclasses.replace(
        result.columns, intensity_errors=2 * np.asarray(result.columns.intensity_errors)
    )
    names = identify_columns(scan, noisy, result.sites, "MoS2")
    assert "Mo+S" not in names.kinds
    assert any("Mo+S" in one and "not looked for" in one for one in names.warnings)
    clear = identify_columns(scan, result.columns, result.sites, "MoS2")
    assert "Mo+S" in clear.kinds
    assert not any("not looked for" in one for one in clear.warnings)


def test_dark_places_are_without_a_column_where_no_state_is_empty(at_1: tuple[Any, tm.MotifResult]) -> None:
    sites = at_1[1].sites
    dark = (sites.column < 0) & (sites.occupancy < 0.3)
    assert dark.sum() > 3
    one_state = dataclasses.replace(sites, p_full=np.ones_like(sites.p_full))
    assert one_state.without_column[dark].all()
    assert not one_state.without_column[sites.occupancy > 0.7].any()


def test_nothing_is_named_by_default(at_1: tuple[Any, tm.MotifResult]) -> None:
    assert at_1[1].names is None
    assert "name" not in at_1[1].to_dataframe()


def test_names_stand_in_tables_and_pictures(identified: tm.MotifResult) -> None:
    names = identified.names
    assert names is not None
    table = identified.to_dataframe()
    np.testing.assert_array_equal(table["name"], names.words)
    assert set(table["other_name"]) <= {"", *names.kinds}
    legend = identified.plot_map().get_legend()
    assert legend is not None
    assert any(text.get_text().startswith("V_S:") for text in legend.get_texts())
    assert "V_S2" in set(identified.empty_sites()["name"])
    assert identified.motif_names is not None
    assert {"Mo", "S2"} <= set(identified.motif_names)
    assert {"Mo", "S2"} <= set(identified.graph.label_names.tolist())
    assert set(identified.names.table()["name"]) >= {"Mo", "S2", "V_S", "W_Mo"}  # type: ignore[union-attr]


def test_names_survive_saving_and_loading(identified: tm.MotifResult, tmp_path: Path) -> None:
    identified.save(tmp_path / "out", report=False)
    again = tm.MotifResult.load(tmp_path / "out").names
    names = identified.names
    assert names is not None
    assert again is not None
    for field in dataclasses.fields(Names):
        before, after = getattr(names, field.name), getattr(again, field.name)
        if isinstance(before, np.ndarray):
            np.testing.assert_array_equal(before, after)
    assert again.kinds == names.kinds
    assert again.record["gamma"] == names.record["gamma"]
    assert (tmp_path / "out" / "composition.csv").read_text().startswith("element,at_percent,error")


def test_damaged_names_are_refused(identified: tm.MotifResult, tmp_path: Path) -> None:
    identified.save(tmp_path / "out", report=False)
    file = tmp_path / "out" / "names.safetensors"
    whole = file.read_bytes()
    for damaged in (b"", whole[:100], b"\xff" * 64, whole[: len(whole) // 2]):
        file.write_bytes(damaged)
        with pytest.raises(ReadError, match="no names that can be loaded"):
            tm.MotifResult.load(tmp_path / "out")


def test_a_field_and_its_images_have_the_same_names(
    at_1: tuple[Any, tm.MotifResult], identified: tm.MotifResult, tmp_path: Path
) -> None:
    np.savez(tmp_path / "scan.npz", image=at_1[1].image.numpy(), pixel_size_nm=0.015)
    field = tm.field.analyze(tmp_path / "scan.npz", tmp_path / "store", progress=False)
    named = field.identify("MoS2", dopants=["W"])
    for result in (named, tm.field.load(tmp_path / "store")):
        table = result.to_dataframe().sort_values(["row_px", "col_px"], ignore_index=True)
        np.testing.assert_array_equal(table["name"], identified.to_dataframe()["name"])
        assert result.names_of(0) is not None
        assert result[0].names is not None


def test_an_image_that_does_not_fit_is_said_and_the_others_are_named(
    at_1: tuple[Any, tm.MotifResult],
) -> None:
    other = tm.datasets.mose2((256, 256)).draw(generator=torch.Generator().manual_seed(0))
    several = tm.analyze([at_1[1].image, other], progress=False, learn="each", hierarchy=0).identify(
        "MoS2", dopants=["W"]
    )
    first, second = several.names_of(0), several.names_of(1)
    assert first is not None
    assert second is not None
    assert "V_S" in first.counts
    assert not second.counts
    assert any("does not fit" in one for one in second.warnings)


def test_other_matches_are_said_once_and_no_atoms_twice() -> None:
    stacks = [{"Sr": 1}, {"Nb": 1}, {"Nb": 1, "O": 1}]
    chosen, *others = (np.array(one) for one in ([0, 1, 1], [1, 0, 0], [1, 1, 0], [1, 0, 1], [2, 2, 0]))
    assert _rivals(stacks, chosen, others) == ["Nb, Sr", "NbO, Sr"]
    assert _rivals(stacks, chosen, [np.array([0, 0, 1])]) == ["the same on other sublattices"]


def test_names_have_the_colour_of_the_motif_that_they_are_most_of(identified: tm.MotifResult) -> None:
    looks, called = identified.looks, identified.motif_names
    assert looks is not None
    assert called is not None
    assert list(looks) == list(identified.names.counts)  # type: ignore[union-attr]
    assert len(set(looks.values())) == len(looks)
    for name, motif in looks.items():
        if name in called:
            assert motif == called.index(name)
        else:
            assert motif >= identified.n_motifs


def test_atoms_come_from_the_names(identified: tm.MotifResult) -> None:
    pytest.importorskip("ase")
    from torchmotif.export import named_atoms, species_of

    atoms = named_atoms(identified)
    counts = {symbol: atoms.get_chemical_symbols().count(symbol) for symbol in ("Mo", "S", "W")}
    assert counts["S"] > 1.8 * counts["Mo"] > 0 < counts["W"]
    assert identified.names is not None
    assert len(species_of(identified.names)["S2"]) == 2
