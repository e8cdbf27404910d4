"""Hosts: which atoms each sublattice of an image holds, by how bright its columns are."""

from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from torchmotif._elements import GAMMA, atomic_number
from torchmotif.errors import CompositionError
from torchmotif.names.formula import LIGHT, Composition, stack_name

__all__ = ["GAMMAS", "TOLERANCE", "Hosts", "Scattering", "find_hosts"]

# Exponent of Z in the intensity of annular dark field images: 1.6 to 1.9 of most (Krivanek et al., 2010), 1.3 where the inner
# angle is small, 2 is Rutherford's. MoSe2_80kV has 1.83, simulated specimens 1.7.
GAMMAS = (1.3, 2.0)
_GAMMA_SPREAD = 0.15  # about the usual `GAMMA`
# Of an intensity, by which Z^gamma may be wrong: detector, channelling, thermal motion. Se2 and V_Se of MoSe2_80kV are off by
# 0.02. Twice as much, and WSe2 passes for MoS2.
TOLERANCE = 0.05
_STEPS = 29  # of gamma that are tried
_RATIO = (
    1.35  # by which shares of sites may differ from the formula: vacancies, and columns at the image's border
)
_UNSEEN = 0.35  # of the faintest column that is seen: what is fainter may not be seen at all
_UNSEEN_PRICE, _DOPANT_PRICE, _LESS_LIGHT_PRICE = 4.0, 2.0, 1.0  # in units of chi-square
_MOST = 3  # atoms of an element in a column of one formula unit
_MOST_CLASSES = 4  # of sublattices of unlike brightness that are matched together; others follow them
_REFUSED = 9.0  # chi-square at which a formula does not fit: 3 standard deviations
_BADLY = 4.0  # and at which it is said to fit badly
_USUAL = (1.6, 1.9)  # gamma of most images (Krivanek et al., 2010)
_BEYOND = 1.5  # standard errors of gamma beyond these at which a formula is said to fit badly
_RIVAL = 4.0  # by which another match may be worse and is named


class Scattering(NamedTuple):
    """How much more an element scatters than another: Z^gamma."""

    gamma: float
    gamma_error: float

    def of(self, stacks: "list[dict[str, int]]", gamma: float | None = None) -> NDArray[np.float64]:
        """Intensity of each stack of atoms in arbitrary units."""
        power = self.gamma if gamma is None else gamma
        return np.array([sum(n * atomic_number(e) ** power for e, n in one.items()) for one in stacks])


@dataclass(frozen=True, eq=False)
class Hosts:
    """What sublattices hold.

    Attributes
    ----------
    stacks : dict of int to dict
        Atoms of a column of each sublattice: ``{0: {"Mo": 1}, 1: {"S": 2}}``.
    scattering : Scattering
        Exponent that fits their intensities, with its standard error.
    chi_square : float
        Squared deviations from Z^gamma, and of gamma from its usual value, in units of their expected size; more where an element
        is not seen. Above 4 the formula fits badly.
    rivals : list of str
        Other ways to match them that are hardly worse, in words, each once.
    unseen : list of str
        Elements of the formula none of whose columns are seen.
    fitted : bool
        Whether the exponent was fitted, not given.
    """

    stacks: dict[int, dict[str, int]]
    scattering: Scattering
    chi_square: float
    rivals: list[str]
    unseen: list[str]
    fitted: bool = True

    @property
    def fits_badly(self) -> bool:
        """Whether intensities are beyond what the formula should have, or go with an unusual exponent."""
        return self.chi_square > _BADLY or self.unusual

    @property
    def unusual(self) -> bool:
        """Whether the fitted exponent lies beyond those of most images, by more than its error may have it."""
        gamma, error = self.scattering
        low, high = _USUAL
        return self.fitted and max(low - gamma, gamma - high) > _BEYOND * error


def find_hosts(
    composition: Composition,
    brightness: dict[int, float],
    counts: dict[int, int],
    *,
    gamma: float | None = None,
    columns: "list[dict[str, int]] | None" = None,
) -> Hosts:
    """Match sublattices to columns of atoms that a formula allows.

    Parameters
    ----------
    composition : Composition
    brightness : dict of int to float
        Intensity of most columns of each sublattice.
    counts : dict of int to int
        Columns of each sublattice.
    gamma : float, optional
        Exponent of Z; by default it is fitted between 1.3 and 2.
    columns : list of dict, optional
        The columns that there are, where they are known; by default pure ones, and heavier atoms with light ones.

    Returns
    -------
    Hosts

    Raises
    ------
    CompositionError
        If no match explains the brightness, or the shares of sites.
    """
    members = _classes(brightness, counts)[:_MOST_CLASSES]
    level = np.array(
        [np.average([brightness[s] for s in one], weights=[counts[s] for s in one]) for one in members]
    )
    share = np.array([sum(counts[s] for s in one) for one in members], float)
    stacks = columns or _stacks(composition)
    match = np.array(list(product(range(len(stacks)), repeat=len(members))))
    price, unseen = _prices(composition, stacks, match, share / share.sum(), level)
    grid = np.array([gamma]) if gamma is not None else np.linspace(*GAMMAS, _STEPS)
    log = np.log(np.stack([Scattering(power, 0.0).of(stacks) for power in grid], axis=1))
    residual = np.log(level)[None, :, None] - log[match]
    residual -= residual.mean(axis=1, keepdims=True)
    misfit = (residual**2).sum(axis=1) / TOLERANCE**2
    prior = 0.0 if gamma is not None else ((grid - GAMMA) / _GAMMA_SPREAD) ** 2
    score = misfit + prior + price[:, None]
    best, at = np.unravel_index(int(score.argmin()), score.shape)
    if not np.isfinite(score[best, at]) or misfit[best, at] > _REFUSED:
        raise CompositionError(
            _refusal(composition, level, share, stacks, match, score=misfit + price[:, None], grid=grid)
        )
    weight = np.exp(-0.5 * (score[best] - score[best].min()))
    mean = float((weight * grid).sum() / weight.sum())
    spread = float(np.sqrt((weight * (grid - mean) ** 2).sum() / weight.sum()))
    found = {s: stacks[k] for one, k in zip(members, match[best], strict=True) for s in one}
    found |= _followers(brightness, found, stacks, Scattering(mean, spread))
    order = np.argsort(score.min(axis=1), kind="stable")
    near = [match[i] for i in order[1:4] if score[i].min() < score[best].min() + _RIVAL]
    return Hosts(
        found,
        Scattering(mean, spread),
        float(score[best, at]),
        _rivals(stacks, match[best], near),
        [element for element, missing in zip(_heads(composition), unseen[best], strict=True) if missing],
        gamma is None,
    )


def _classes(brightness: dict[int, float], counts: dict[int, int]) -> list[list[int]]:
    """Sublattices, those of the same brightness together where there are many, as in several grains; the most frequent first."""
    classes: list[list[int]] = []
    many = len(brightness) > _MOST_CLASSES
    for one in sorted(brightness, key=lambda s: brightness[s]):
        if many and classes and brightness[one] < brightness[classes[-1][0]] * (1 + TOLERANCE):
            classes[-1].append(one)
        else:
            classes.append([one])
    return sorted(classes, key=lambda some: -sum(counts[s] for s in some))


def _stacks(composition: Composition) -> list[dict[str, int]]:
    """The columns that a formula allows: atoms of one element, and light atoms beside heavier ones."""
    light, found = [], []
    for group, amount in zip(composition.groups, composition.amounts, strict=True):
        names = [
            *group,
            *(d for d in composition.dopants if any(composition.may_replace(d, e) for e in group)),
        ]
        pure = [{e: n} for e in names for n in range(1, min(amount, _MOST) + 1)]
        found += pure
        light += [one for one in pure if all(atomic_number(e) < LIGHT for e in one)]
    heavy = [one for one in found if one not in light]
    return found + [{**one, **other} for one in heavy for other in light]


def _prices(
    composition: Composition,
    stacks: list[dict[str, int]],
    match: NDArray[np.int64],
    share: NDArray[np.float64],
    level: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """What each match costs beside its misfit, inf where the formula does not allow it; and which groups it leaves unseen."""
    amounts = np.array(composition.amounts, float)
    group_of = {e: i for i, group in enumerate(composition.groups) for e in group}
    for dopant in composition.dopants:
        host = next((e for e in group_of if composition.may_replace(dopant, e)), None)
        if host is not None:
            group_of[dopant] = group_of[host]
    atoms = np.zeros((len(stacks), len(amounts)))
    foreign = np.zeros(len(stacks))
    for i, stack in enumerate(stacks):
        for element, n in stack.items():
            if element in group_of:
                atoms[i, group_of[element]] += n
            foreign[i] += element in composition.dopants
    filled = (share[None, :, None] * atoms[match]).sum(axis=1) / amounts
    light = np.array([atomic_number(e) < LIGHT for e in _heads(composition)])
    seen, heavy = filled > 0, np.where(light, 0.0, filled).max(axis=1, keepdims=True)
    most = np.where(heavy > 0, heavy, filled.max(axis=1, keepdims=True))  # cells of the formula that are seen
    fits = (light | ~seen | (filled * _RATIO >= most)).all(axis=1) & (filled <= most * _RATIO).all(axis=1)
    power = Scattering(GAMMA, 0.0)
    of_group = power.of([{e: n} for e, n in zip(_heads(composition), composition.amounts, strict=True)])
    of_stack = power.of(stacks)[match].min(axis=1, keepdims=True)
    unseen = ~seen
    hidden = unseen & ~light
    fits &= (~hidden | (of_group < _UNSEEN * of_stack)).all(axis=1) & (level > 0).all()
    missing = (light & (filled * _RATIO < most)).sum(axis=1)
    price = (
        _UNSEEN_PRICE * hidden.sum(axis=1)
        + _LESS_LIGHT_PRICE * missing
        + _DOPANT_PRICE * foreign[match].sum(axis=1)
    )
    return np.where(fits, price, np.inf), unseen


def _heads(composition: Composition) -> list[str]:
    """The most frequent element of each group."""
    return [max(group, key=lambda e: group[e]) for group in composition.groups]


def _followers(
    brightness: dict[int, float],
    found: dict[int, dict[str, int]],
    stacks: list[dict[str, int]],
    power: Scattering,
) -> dict[int, dict[str, int]]:
    """Sublattices beyond the frequent ones, by the nearest brightness."""
    scale = np.exp(np.mean([np.log(brightness[s] / power.of([one])[0]) for s, one in found.items()]))
    return {
        s: stacks[int(np.abs(np.log(power.of(stacks) * scale / level)).argmin())]
        for s, level in brightness.items()
        if s not in found
    }


def _in_words(stacks: list[dict[str, int]], match: NDArray[np.int64]) -> str:
    return ", ".join(stack_name(stacks[k]) for k in match)


def _rivals(
    stacks: list[dict[str, int]], chosen: NDArray[np.int64], others: list[NDArray[np.int64]]
) -> list[str]:
    """Other matches in words: each column of atoms once, since several sublattices may have it."""

    def said(match: NDArray[np.int64]) -> str:
        return ", ".join(dict.fromkeys(stack_name(stacks[k]) for k in match))

    words = dict.fromkeys(said(one) for one in others)
    own = said(chosen)
    return [
        *(one for one in words if one != own),
        *(["the same on other sublattices"] if own in words else []),
    ]


def _refusal(
    composition: Composition,
    level: NDArray[np.float64],
    share: NDArray[np.float64],
    stacks: list[dict[str, int]],
    match: NDArray[np.int64],
    *,
    score: NDArray[np.float64],
    grid: NDArray[np.float64],
) -> str:
    """Why a formula does not fit."""
    order = np.argsort(-level)
    seen = " : ".join(f"{level[k] / level.max():.2f}" for k in order)
    said = f"{composition.text} does not fit the image: its sublattices are as bright as {seen}"
    sites = " : ".join(f"{share[k] / share.sum():.0%}" for k in order)
    best, at = np.unravel_index(int(score.argmin()), score.shape)
    if np.isfinite(score[best, at]):
        expected = Scattering(float(grid[at]), 0.0).of([stacks[k] for k in match[best]])
        would = " : ".join(f"{expected[k] / expected.max():.2f}" for k in order)
        return f"{said}, and {_in_words(stacks, match[best][order])} would be {would} at the most likely Z^{grid[at]:.2f}; check the composition, or give gamma"
    return f"{said}, with {sites} of the sites, which no columns of this formula are; check the composition, or name those that there are with columns=..."
