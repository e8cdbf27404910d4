"""Formulas that intensities do not tell from the one that was given: those of homologous elements."""

from itertools import islice, product
from typing import TypedDict

from torchmotif._elements import homologues
from torchmotif.errors import CompositionError
from torchmotif.names.formula import Composition, stack_name
from torchmotif.names.hosts import find_hosts

__all__ = ["Alike", "formulas_alike"]

_MOST = 100  # formulas that are tried: two elements have at most 25


class Alike(TypedDict):
    """A formula that fits the intensities as well."""

    formula: str
    hosts: list[str]  # the columns of its sublattices, in the order of those of the formula that was given
    gamma: float


def formulas_alike(
    composition: Composition,
    stacks: dict[int, dict[str, int]],
    brightness: dict[int, float],
    counts: dict[int, int],
    *,
    gamma: float | None,
) -> list[Alike]:
    """Formulas with elements of the same groups of the periodic table that would not be said to fit badly, the best first.

    A fitted exponent takes what unlike formulas differ by: MoS2 and MoTe2 are as bright with their sites exchanged. Elements that
    are neighbours in the table, which intensities never tell, are not tried.

    Parameters
    ----------
    composition : Composition
        The formula that was given.
    stacks : dict of int to dict
        What its sublattices hold.
    brightness, counts : dict
        Of every sublattice, as in `find_hosts`.
    gamma : float or None
        Exponent of Z, if it was given.

    Returns
    -------
    list of Alike
        Those with the same columns, on whichever sublattice; none where elements share a site.
    """
    if any(len(group) > 1 for group in composition.groups):
        return []
    elements = [next(iter(group)) for group in composition.groups]
    columns = _columns(stacks, dict(zip(elements, elements, strict=True)))
    found: list[tuple[float, Alike]] = []
    tried = {frozenset(zip(elements, composition.amounts, strict=True))}
    for one in islice(product(*map(homologues, elements)), _MOST):
        # PbSn is SnPb.
        same = frozenset(zip(one, composition.amounts, strict=True))
        if same in tried:
            continue
        tried.add(same)
        text = "".join(e if n == 1 else f"{e}{n}" for e, n in zip(one, composition.amounts, strict=True))
        try:
            other = find_hosts(Composition.parse(text), brightness, counts, gamma=gamma)
        except CompositionError:
            continue
        if other.fits_badly or _columns(other.stacks, dict(zip(one, elements, strict=True))) != columns:
            continue
        held = [stack_name(other.stacks[s]) for s in stacks]
        alike = Alike(formula=text, hosts=list(dict.fromkeys(held)), gamma=other.scattering.gamma)
        found.append((other.chi_square, alike))
    return [one for _, one in sorted(found, key=lambda pair: pair[0])]


def _columns(stacks: dict[int, dict[str, int]], known_as: dict[str, str]) -> set[frozenset[tuple[str, int]]]:
    """The columns that there are, with the elements of the formula that was given; dopants stay."""
    return {
        frozenset((known_as.get(element, element), n) for element, n in one.items())
        for one in stacks.values()
    }
