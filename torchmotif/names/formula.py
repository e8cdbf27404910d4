"""Formulas: which elements there are, how many atoms of each, and which of them share a site."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import ceil, gcd
from typing import Any

from torchmotif._elements import atomic_number
from torchmotif.errors import InputError

__all__ = ["LIGHT", "Composition", "Dopants", "is_metal", "stack_name", "stack_of"]

Dopants = Sequence[str] | Mapping[str, str | None] | None

LIGHT = 10  # atomic number below which atoms may share a column with heavier ones, as O with Ti in perovskites along [001]
_TEXT = re.compile(r"[A-Za-z0-9.()\[\] ]+")
_ELEMENT = re.compile(r"[A-Z][a-z]?")
_WHOLE = 0.02  # of an amount: nearer to a whole number than this it is one
_MOST_ELEMENTS = 12
# Elements that take the place of anions: where a dopant sits unless it is said.
_NON_METALS = frozenset([
    "H", "He", "B", "C", "N", "O", "F", "Ne", "Si", "P", "S", "Cl", "Ar", "Ge", "As", "Se", "Br", "Kr", "Te", "I", "Xe",
])  # fmt: skip


@dataclass(frozen=True)
class Composition:
    """What a specimen is made of.

    Attributes
    ----------
    text : str
        The formula as it was given.
    groups : tuple of dict
        Elements that share a site and their atoms per formula unit: ``({"Mo": 0.7, "W": 0.3}, {"S": 2.0})``.
    dopants : dict
        Foreign elements, and the element whose place each takes; None for any metal, or any non-metal, as it is one itself.
    """

    text: str
    groups: tuple[dict[str, float], ...]
    dopants: dict[str, str | None]

    @classmethod
    def parse(cls, text: Any, dopants: Dopants = None) -> "Composition":
        """Read a formula such as "MoS2", "SrTiO3", "W0.3Mo0.7S2" or "(Ba0.5Sr0.5)Nb2O6".

        Amounts that are no whole numbers share a site with others, so that together they are one.

        Parameters
        ----------
        text : str
        dopants : sequence of str, or mapping of str to str, optional
            Foreign elements, or the element whose place each takes: ``{"W": "Mo"}``.

        Returns
        -------
        Composition

        Raises
        ------
        InputError
            If it is no formula, or names something that is no element.

        Examples
        --------
        >>> Composition.parse("W0.3Mo0.7S2").groups
        ({'W': 0.3, 'Mo': 0.7}, {'S': 2.0})
        """
        amounts = _amounts(text, "composition")
        foreign = _dopants(dopants, amounts)
        metals, others = (
            {e: n for e, n in amounts.items() if is_metal(e) is metal} for metal in (True, False)
        )
        groups = [*_sharing(metals), *_sharing(others)]
        whole = [ceil(sum(group.values()) - _WHOLE) for group in groups]
        unit = gcd(*whole)
        return cls(
            str(text).strip(), tuple({e: n / unit for e, n in group.items()} for group in groups), foreign
        )

    @cached_property
    def amounts(self) -> tuple[int, ...]:
        """Atoms of each group in a formula unit; sites that the formula leaves empty count."""
        return tuple(ceil(sum(group.values()) - _WHOLE) for group in self.groups)

    @property
    def elements(self) -> list[str]:
        """All elements, the dopants last."""
        return [*(element for group in self.groups for element in group), *self.dopants]

    def may_replace(self, dopant: str, element: str) -> bool:
        """Whether a dopant takes the place of an element."""
        host = self.dopants[dopant]
        return host == element if host is not None else is_metal(dopant) is is_metal(element)

    def share_a_site(self, one: str, other: str) -> bool:
        """Whether two elements of the formula share a site."""
        return one != other and any(one in group and other in group for group in self.groups)


def is_metal(symbol: str) -> bool:
    """Whether an element takes the place of a cation."""
    return symbol not in _NON_METALS


def stack_of(text: str) -> dict[str, int]:
    """The atoms of a column, from a formula such as "Se2" or "TiO"."""
    amounts = _amounts(text, "columns")
    uneven = [n for n in amounts.values() if abs(n - round(n)) > 1e-9]
    if uneven:
        raise InputError(f"columns must hold whole atoms, got {text!r}")
    return {element: round(n) for element, n in amounts.items()}


def stack_name(stack: Mapping[str, int]) -> str:
    """A column by its atoms, such as "Se2" or "TiO"."""
    return "".join(e if n == 1 else f"{e}{n}" for e, n in stack.items() if n)


def _amounts(text: Any, name: str) -> dict[str, float]:
    """Atoms of each element of a formula."""
    from periodictable import formula

    said = text.strip() if isinstance(text, str) else ""
    remedy = "give a formula such as 'MoS2', 'SrTiO3' or 'W0.3Mo0.7S2'"
    if not said or _TEXT.fullmatch(said) is None or "[" in said:
        raise InputError(f"{name} is no chemical formula: {text!r}; {remedy}")
    _check_elements(_ELEMENT.findall(said), name)
    try:
        found = {str(atom): float(n) for atom, n in formula(said).atoms.items()}
    except Exception as error:  # the parser's own kinds of error are many
        raise InputError(f"{name} is no chemical formula: {text!r}; {remedy}") from error
    if not found or min(found.values()) <= 0:
        raise InputError(f"{name} must have some of every element that it names, got {text!r}; {remedy}")
    if len(found) > _MOST_ELEMENTS:
        raise InputError(f"{name} has {len(found)} elements; name at most {_MOST_ELEMENTS}")
    for symbol in found:
        atomic_number(symbol)
    return found


def _dopants(given: Dopants, amounts: Mapping[str, float]) -> dict[str, str | None]:
    if isinstance(given, str):
        raise InputError(f"dopants must be a list of elements such as ['W'], got {given!r}")
    found = dict(given) if isinstance(given, Mapping) else dict.fromkeys(given or ())
    _check_elements(found, "dopants")
    for dopant, host in found.items():
        if dopant in amounts:
            raise InputError(f"dopants must be other elements than those of the composition, got {dopant!r}")
        if host is not None and host not in amounts:
            raise InputError(f"dopants: {dopant} takes the place of {host!r}, which the composition has not")
    return found


def _check_elements(symbols: Iterable[str], name: str) -> None:
    for symbol in symbols:
        try:
            atomic_number(symbol)
        except InputError as error:
            raise InputError(f"{name}: {error}") from error


def _sharing(amounts: Mapping[str, float]) -> list[dict[str, float]]:
    """Groups of elements whose amounts are whole together; those left over are sites that are not all filled."""
    groups = [{e: n} for e, n in amounts.items() if _is_whole(n)]
    rest = [e for e, n in amounts.items() if not _is_whole(n)]
    while rest:
        options = (some for size in range(2, len(rest) + 1) for some in combinations(rest, size))
        some: Iterable[str] = next((one for one in options if _is_whole(sum(amounts[e] for e in one))), ())
        if not some:
            groups += [{e: amounts[e]} for e in rest]
            break
        groups.append({e: amounts[e] for e in some})
        rest = [e for e in rest if e not in set(some)]
    return groups


def _is_whole(amount: float) -> bool:
    return round(amount) > 0 and abs(amount - round(amount)) <= _WHOLE
