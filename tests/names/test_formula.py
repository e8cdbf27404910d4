"""Formulas and what they allow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchmotif._elements import atomic_number
from torchmotif.errors import CompositionError, InputError
from torchmotif.names.formula import Composition, stack_of
from torchmotif.names.hosts import Scattering, find_hosts
from torchmotif.names.occupations import between, on_site


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("MoS2", ({"Mo": 1.0}, {"S": 2.0})),
        ("Mo2S4", ({"Mo": 1.0}, {"S": 2.0})),
        ("SrTiO3", ({"Sr": 1.0}, {"Ti": 1.0}, {"O": 3.0})),
        ("W0.3Mo0.7S2", ({"W": 0.3, "Mo": 0.7}, {"S": 2.0})),
        ("(Ba0.5Sr0.5)Nb2O6", ({"Ba": 0.5, "Sr": 0.5}, {"Nb": 2.0}, {"O": 6.0})),
        ("MoS1.2Se0.8", ({"Mo": 1.0}, {"S": 1.2, "Se": 0.8})),
    ],
)
def test_amounts_that_are_no_whole_numbers_share_a_site(
    text: str, groups: tuple[dict[str, float], ...]
) -> None:
    found = Composition.parse(text).groups
    assert sorted(map(str, found)) == sorted(map(str, groups)) or {frozenset(one) for one in found} == {
        frozenset(one) for one in groups
    }


@pytest.mark.parametrize(
    "text", ["", "mos2", "Xx2", "MoS-2", "Mo//S", "Mo1S0", "Fe[56]O", "D2O", None, 3, "Mo S2;"]
)
def test_what_is_no_formula_is_refused_with_the_remedy(text: object) -> None:
    with pytest.raises(InputError, match=r"MoS2|no element|Mo"):
        Composition.parse(text)


@given(st.text(max_size=12))
def test_any_text_is_a_formula_or_refused(text: str) -> None:
    try:
        found = Composition.parse(text)
    except InputError:
        return
    assert found.groups


@pytest.mark.parametrize("dopants", ["W", ["Q"], ["S"], {"W": "Nb"}])
def test_dopants_that_cannot_be_are_refused(dopants: object) -> None:
    with pytest.raises(InputError, match=r"dopants|no element"):
        Composition.parse("MoS2", dopants)  # type: ignore[arg-type]


def test_a_dopant_takes_the_place_of_its_like_or_of_what_is_said() -> None:
    free = Composition.parse("MoS2", ["W", "Se"])
    assert free.may_replace("W", "Mo")
    assert not free.may_replace("W", "S")
    assert free.may_replace("Se", "S")
    assert not free.may_replace("Se", "Mo")
    assert Composition.parse("MoS2", {"W": "S"}).may_replace("W", "S")


def test_every_way_to_occupy_a_site_has_one_name() -> None:
    composition = Composition.parse("MoS2", ["W"])
    hosts = [{"Mo": 1}, {"S": 2}]
    names = {one.name: one.atoms for one in on_site({"S": 2}, hosts, composition)}
    assert names["V_S"] == {"S": 1}
    assert names["V_S2"] == {}
    assert names["Mo_S2"] == {"Mo": 1}
    assert "W_Mo" in {one.name for one in on_site({"Mo": 1}, hosts, composition)}
    assert {"S_i", "Mo_i", "W_i"} <= {one.name for one in between(hosts, composition)}
    atoms = [tuple(sorted(one.items())) for one in names.values()]
    assert len(atoms) == len(set(atoms))


@given(st.floats(1.35, 1.95), st.sampled_from(["MoS2", "MoSe2", "WSe2", "WTe2", "PtSe2"]), st.booleans())
def test_hosts_follow_from_their_intensities(gamma: float, formula: str, swapped: bool) -> None:
    composition = Composition.parse(formula)
    metal, chalcogen = (next(iter(group)) for group in composition.groups)
    stacks = [{metal: 1}, {chalcogen: 2}]
    bright = Scattering(gamma, 0.0).of(stacks)
    number = {0: 1, 1: 0} if swapped else {0: 0, 1: 1}
    found = find_hosts(composition, {number[k]: float(bright[k]) for k in (0, 1)}, {0: 500, 1: 490})
    likely = found.stacks == {number[k]: stacks[k] for k in (0, 1)}
    # Where the two are nearly alike either may be meant, and another exponent makes up for it.
    assert likely or abs(found.scattering.gamma - 1.7) < abs(gamma - 1.7)


def test_perovskites_have_columns_of_a_metal_with_oxygen() -> None:
    composition = Composition.parse("SrTiO3")
    stacks = [{"Sr": 1}, {"Ti": 1, "O": 1}, {"O": 1}]
    bright = Scattering(1.7, 0.0).of(stacks)
    found = find_hosts(composition, dict(enumerate(bright.tolist())), {0: 400, 1: 400, 2: 800})
    assert found.stacks == dict(enumerate(stacks))
    seen = {0: float(bright[0]), 1: float(bright[1])}
    found = find_hosts(
        composition, seen, {0: 400, 1: 400}, columns=[stack_of("Sr"), stack_of("TiO"), stack_of("O")]
    )
    assert found.stacks == {0: stacks[0], 1: stacks[1]}


def test_a_formula_that_does_not_fit_is_refused_with_both_brightnesses() -> None:
    bright = Scattering(1.7, 0.0).of([{"Mo": 1}, {"S": 2}])
    with pytest.raises(CompositionError, match=r"WTe2 does not fit .* 1.00 : 0.39"):
        find_hosts(Composition.parse("WTe2"), dict(enumerate(bright.tolist())), {0: 500, 1: 500})


def test_an_exponent_that_is_given_is_kept() -> None:
    bright = Scattering(1.5, 0.0).of([{"Mo": 1}, {"S": 2}])
    found = find_hosts(Composition.parse("MoS2"), dict(enumerate(bright.tolist())), {0: 9, 1: 9}, gamma=1.5)
    assert found.scattering == (1.5, 0.0)


def test_elements_have_their_number() -> None:
    assert [atomic_number(symbol) for symbol in ("H", "Mo", "W")] == [1, 42, 74]
    with pytest.raises(InputError, match="'mo' is no element"):
        atomic_number("mo")
