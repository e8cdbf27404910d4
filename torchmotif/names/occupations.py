"""Occupations: what may be on a site in place of its host, each with its name and its atoms."""

from typing import NamedTuple

from torchmotif.names.formula import Composition, stack_name

__all__ = ["Occupation", "between", "on_site"]


class Occupation(NamedTuple):
    """One way to occupy a site."""

    name: str  # such as "S2", "V_S", "Mo_S2", "W_Mo", "Mo+S"
    atoms: dict[str, int]


def on_site(host: dict[str, int], hosts: list[dict[str, int]], composition: Composition) -> list[Occupation]:
    """What may be on a site: its host first, vacancies, antisites, dopants, adatoms; those of the same atoms once.

    Parameters
    ----------
    host : dict
        Atoms of the perfect site.
    hosts : list of dict
        Those of all sublattices.
    composition : Composition

    Returns
    -------
    list of Occupation

    Examples
    --------
    >>> mos2 = Composition.parse("MoS2", ["W"])
    >>> [one.name for one in on_site({"S": 2}, [{"Mo": 1}, {"S": 2}], mos2)]
    ['S2', 'V_S', 'V_S2', 'Mo_S2', 'Mo_S', 'S2+Mo', 'S2+S']
    """
    whole = stack_name(host)
    found = [Occupation(whole, host)]
    for element, n in host.items():
        found.append(Occupation(f"V_{element}", _changed(host, {element: -1})))
        found += [Occupation(f"V_{element}{n}", _changed(host, {element: -n}))] if n > 1 else []
    found += [Occupation(f"V_{whole}", {})]
    others = [one for one in hosts if set(one) != set(host)]
    for other in others:
        found.append(Occupation(f"{stack_name(other)}_{whole}", dict(other)))
    for element, n in host.items():
        for foreign in {e: None for other in others for e in other if e not in host}:
            found.append(Occupation(f"{foreign}_{element}", _changed(host, {element: -1, foreign: 1})))
        for foreign in composition.elements:
            replaces = foreign in composition.dopants and composition.may_replace(foreign, element)
            if foreign not in host and (replaces or composition.share_a_site(foreign, element)):
                for k in range(1, n + 1):
                    place = element if k == 1 else f"{element}{k}"
                    name = f"{foreign if k == 1 else f'{foreign}{k}'}_{place}"
                    found.append(Occupation(name, _changed(host, {element: -k, foreign: k})))
    for element in dict.fromkeys(e for one in hosts for e in one):
        found.append(Occupation(f"{whole}+{element}", _changed(host, {element: 1})))
    return _once(found)


def between(hosts: list[dict[str, int]], composition: Composition) -> list[Occupation]:
    """What may be between the sites: single atoms, and whole columns of a host."""
    elements = [*dict.fromkeys(e for one in hosts for e in one), *composition.dopants]
    single = [Occupation(f"{element}_i", {element: 1}) for element in elements]
    return _once([*single, *(Occupation(f"{stack_name(one)}_i", dict(one)) for one in hosts)])


def _changed(stack: dict[str, int], by: dict[str, int]) -> dict[str, int]:
    """A stack with atoms added and taken away."""
    changed = {e: stack.get(e, 0) + by.get(e, 0) for e in dict.fromkeys([*stack, *by])}
    return {e: n for e, n in changed.items() if n > 0}


def _once(occupations: list[Occupation]) -> list[Occupation]:
    """The first of those that are the same atoms."""
    kept: dict[tuple[tuple[str, int], ...], Occupation] = {}
    for one in occupations:
        kept.setdefault(tuple(sorted(one.atoms.items())), one)
    return list(kept.values())
