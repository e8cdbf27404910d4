"""Names by examples: labels and probabilities from a few columns of each kind, in the same image and in others."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.errors import InputError, InputTypeError, ReadError

KINDS = ("Mo", "Se2", "V_Se")


@pytest.fixture(scope="module")
def pair() -> list[tuple[np.ndarray, tm.MotifResult]]:
    """Two images of MoSe2 at a tenth of the dose: true kinds of their columns, and the results."""
    found = []
    for seed in (0, 1):
        specimen = tm.datasets.mose2((400, 400), random_state=seed)
        result = tm.analyze(specimen.draw(0.1, torch.Generator().manual_seed(seed)), progress=False)
        away, near = cKDTree(specimen.truth.positions.numpy()).query(result.columns.positions)
        found.append((np.where(away < 4, specimen.truth.kinds[near], "?"), result))
    return found


def places(true: np.ndarray, result: tm.MotifResult, n: int = 4, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        kind: result.columns.positions[
            rng.choice(np.flatnonzero(result.whole & (true == kind)), n, replace=False)
        ]
        for kind in KINDS
    }


def f1(found: np.ndarray, true: np.ndarray, kind: str) -> float:
    return float(
        2 * ((found == kind) & (true == kind)).sum() / ((found == kind).sum() + (true == kind).sum())
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_four_examples_name_all_columns(pair: list[tuple[np.ndarray, tm.MotifResult]], seed: int) -> None:
    true, result = pair[0]
    names = result.like(places(true, result, seed=seed)).names
    assert names is not None
    for kind in KINDS:
        assert f1(names.words[result.whole], true[result.whole], kind) > 0.97, kind
    sure, right = names.probabilities[result.whole], (names.words == true)[result.whole]
    assert abs(sure.mean() - right.mean()) < 0.02
    assert (names.columns[~result.whole] == -1).all()


def test_examples_of_one_image_name_another(pair: list[tuple[np.ndarray, tm.MotifResult]]) -> None:
    (true, first), (other, second) = pair
    examples = first.examples(places(true, first))
    assert repr(examples) == "Examples(Mo 4, Se2 4, V_Se 4)"
    names = second.like(examples).names
    assert names is not None
    for kind in KINDS:
        assert f1(names.words[second.whole], other[second.whole], kind) > 0.95, kind


def test_other_images_learn_kinds_not_single_columns(pair: list[tuple[np.ndarray, tm.MotifResult]]) -> None:
    true, first = pair[0]
    second = pair[1][1]
    learnt = [first.examples(places(true, first, seed=seed)) for seed in (0, 1)]
    vacancies = first.whole & (true == "V_Se")
    bright = first.columns.intensities / np.median(first.columns.intensities[first.whole])
    one, other = (some.features[some.kind == some.kinds.index("V_Se"), -1] for some in learnt)
    assert np.ptp(one) == 0  # what single columns show beyond their kind stays where they are
    assert abs(one[0] - other[0]) < 0.1 * bright[vacancies].std()
    assert abs(one[0] - bright[vacancies].mean()) < 0.3 * bright[vacancies].std()
    names = [second.like(some).names for some in learnt]
    assert names[0] is not None
    assert names[1] is not None
    assert (names[0].words == names[1].words).mean() > 0.998


def test_kinds_that_are_the_same_are_said_to_be(pair: list[tuple[np.ndarray, tm.MotifResult]]) -> None:
    true, result = pair[0]
    at = places(true, result)
    apart = result.like(at).names
    assert apart is not None
    assert apart.warnings == []
    assert (apart.table()["contrast"] > 4).all()
    assert set(apart.table()["next"]) <= set(KINDS)
    mixed = result.like({"Mo": at["Mo"], "A": at["Se2"], "B": places(true, result, seed=1)["Se2"]}).names
    assert mixed is not None
    assert [one for one in mixed.warnings if one.startswith("names: A and B are ")]


def test_right_examples_are_not_doubted(pair: list[tuple[np.ndarray, tm.MotifResult]]) -> None:
    (true, first), (_, second) = pair
    for seed in range(4):
        at = places(true, first, n=5, seed=seed)
        learnt = first.examples(at)
        assert learnt.doubts == []
        for named in (first.like(at), second.like(learnt)):
            assert named.names is not None
            assert named.names.warnings == []


@pytest.mark.parametrize("wrong", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("kind", "taken"), [("V_Se", "Se2"), ("Se2", "V_Se"), ("V_Se", "Mo")])
def test_wrong_examples_are_said_here_and_in_other_images(
    pair: list[tuple[np.ndarray, tm.MotifResult]], kind: str, taken: str, wrong: int
) -> None:
    (true, first), (_, second) = pair
    ten = places(true, first, n=10)
    at = {one: some[:5] for one, some in ten.items()}
    at[kind] = np.concatenate([at[kind][wrong:], ten[taken][5 : 5 + wrong]])
    for named in (first.like(at), second.like(first.examples(at))):
        assert named.names is not None
        said = [one for one in named.names.warnings if kind in one]
        assert said
        if wrong == 1:  # and it is that one
            row, col = ten[taken][5]
            assert any(f"({row:.1f}, {col:.1f})" in one and "leave out what is wrong" in one for one in said)


def test_examples_of_several_images_are_said_with_their_image(
    pair: list[tuple[np.ndarray, tm.MotifResult]], tmp_path: Path
) -> None:
    both = tm.analyze([pair[0][1].image, pair[1][1].image], progress=False, hierarchy=0)
    true, first = pair[0]
    at = places(true, first, n=5)
    at["V_Se"], at["Se2"] = np.concatenate([at["V_Se"][1:], at["Se2"][:1]]), at["Se2"][1:]
    lines = [f"{kind},{row},{col},0" for kind, some in at.items() for row, col in some]
    (tmp_path / "examples.csv").write_text("\n".join(["name,row_px,col_px,image", *lines]))
    names = both.like(tmp_path / "examples.csv").names_of(1)
    assert names is not None
    assert any("examples of V_Se of image 0 are unlike" in one for one in names.warnings)


@pytest.mark.parametrize("seed", [2, 6])
def test_a_kind_that_no_column_is_like_is_said(
    pair: list[tuple[np.ndarray, tm.MotifResult]], seed: int
) -> None:
    true, first = pair[0]
    perfect = tm.datasets.mose2((400, 400), vacancy_rate=0.0, random_state=seed)
    scan = perfect.draw(0.1, torch.Generator().manual_seed(seed))
    second = tm.analyze(scan, patch_size=first.templates.shape[-1], progress=False)
    names = second.like(first.examples(places(true, first))).names
    assert names is not None
    assert names.counts.keys() == {"Mo", "Se2"}
    assert [one for one in names.warnings if "no column here is like V_Se" in one]


def test_one_kind_alone_is_found(pair: list[tuple[np.ndarray, tm.MotifResult]]) -> None:
    (true, first), (other, second) = pair
    at = {"V_Se": places(true, first)["V_Se"][:3]}
    names, across = first.like(at).names, second.like(first.examples(at)).names
    assert names is not None
    assert across is not None
    assert f1(names.words[first.whole], true[first.whole], "V_Se") > 0.97
    assert f1(across.words[second.whole], other[second.whole], "V_Se") > 0.95


def test_of_one_kind_alone_unlike_surroundings_may_be_another(
    pair: list[tuple[np.ndarray, tm.MotifResult]],
) -> None:
    true, first = pair[0]
    names = first.like({"Mo": places(true, first)["Mo"][:3]}).names
    assert names is not None
    named = names.words[first.whole] == "Mo"
    assert (true[first.whole][named] == "Mo").mean() > 0.98
    assert named.sum() > 0.8 * (true[first.whole] == "Mo").sum()  # those beside vacancies may be missed


def test_a_kind_that_nobody_pointed_at_has_no_name(at_10: tuple[Any, tm.MotifResult]) -> None:
    specimen, result = at_10
    away, near = cKDTree(specimen.truth.positions.numpy()).query(result.columns.positions)
    true = np.where(away < 4, specimen.truth.kinds[near], "?")
    at = {
        kind: result.columns.positions[np.flatnonzero(result.whole & (true == kind))[:5]]
        for kind in ("Mo", "S2", "V_S")
    }
    names = result.like(at).names
    assert names is not None
    dopants = result.whole & (true == "W_Mo")
    assert dopants.sum() >= 4
    assert (names.words[dopants] == "").mean() > 0.9


def test_half_empty_sites_are_not_empty_ones(at_10: tuple[Any, tm.MotifResult]) -> None:
    specimen, result = at_10
    away, near = cKDTree(specimen.truth.positions.numpy()).query(result.columns.positions)
    true = np.where(away < 4, specimen.truth.kinds[near], "?")
    at = {
        kind: result.columns.positions[np.flatnonzero(result.whole & (true == other))[:5]]
        for kind, other in (("Mo", "Mo"), ("full", "S2"), ("bright", "Mo_S2"))
    }
    names = result.like(at).names
    assert names is not None
    half = result.whole & (true == "V_S")
    assert half.sum() >= 12
    assert (names.words[half] == "").mean() > 0.9
    regular = result.whole & (specimen.truth.classes[near] == "S2")  # with no foreign neighbour
    assert (names.words[regular] == "full").mean() > 0.99


def test_a_table_does_the_same_as_a_mapping(
    pair: list[tuple[np.ndarray, tm.MotifResult]], tmp_path: Path
) -> None:
    true, result = pair[0]
    at = places(true, result)
    lines = [f"{kind},{row},{col}" for kind, some in at.items() for row, col in some]
    (tmp_path / "examples.csv").write_text("\n".join(["name,row_px,col_px", *lines]))
    one, other = result.like(at).names, result.like(tmp_path / "examples.csv").names
    assert one is not None
    assert other is not None
    np.testing.assert_array_equal(one.words, other.words)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("V_Se,9000,12", r"line 3: no column is at \(9000, 12\)"),
        ("V_Se,1,1", r"line 3: (no column is at|the column at)"),
        ("V_Se,x,12", "line 3: row_px and col_px must be numbers"),
        ("V_Se,nan,12", "line 3: row_px and col_px must be finite"),
        (",200,200", "line 3: a name must be text"),
    ],
)
def test_a_line_that_is_no_example_is_named(
    pair: list[tuple[np.ndarray, tm.MotifResult]], tmp_path: Path, line: str, says: str
) -> None:
    true, result = pair[0]
    row, col = places(true, result)["Mo"][0]
    (tmp_path / "examples.csv").write_text(f"name,row_px,col_px\nMo,{row},{col}\n{line}\n")
    with pytest.raises(InputError, match=says):
        result.like(tmp_path / "examples.csv")


def test_bad_examples_are_refused(pair: list[tuple[np.ndarray, tm.MotifResult]], tmp_path: Path) -> None:
    true, result = pair[0]
    at = places(true, result)
    with pytest.raises(InputError, match="is already 'Mo'"):
        result.like({"Mo": at["Mo"], "Se2": at["Mo"]})
    with pytest.raises(InputError, match="pairs"):
        result.like({"Mo": [1, 2, 3]})
    with pytest.raises(InputError, match="name a column at least"):
        result.like({})
    with pytest.raises(InputTypeError, match="must be a mapping"):
        result.like(3)
    with pytest.raises(ReadError, match="cannot be read"):
        result.like(tmp_path / "none.csv")
    (tmp_path / "bad.csv").write_text("kind,row,col\n")
    with pytest.raises(InputError, match="must have a header"):
        result.like(tmp_path / "bad.csv")
    (tmp_path / "empty.csv").write_text("name,row_px,col_px\n")
    with pytest.raises(InputError, match="has no line"):
        result.like(tmp_path / "empty.csv")


def test_examples_of_one_image_name_a_batch(pair: list[tuple[np.ndarray, tm.MotifResult]]) -> None:
    true, first = pair[0]
    both = tm.analyze([first.image, pair[1][1].image], progress=False, hierarchy=0)
    named = both.like(places(true, both[0]) if len(both[0].columns) == len(true) else places(true, first))
    names = named.names_of(1)
    assert names is not None
    assert set(names.counts) == set(KINDS)


def test_patches_of_another_size_are_refused(pair: list[tuple[np.ndarray, tm.MotifResult]]) -> None:
    true, first = pair[0]
    other = tm.analyze(first.image, patch_size=13, progress=False)
    with pytest.raises(InputError, match="patch_size"):
        other.like(first.examples(places(true, first)))
