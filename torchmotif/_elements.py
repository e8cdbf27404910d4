"""Atomic numbers, and how strongly an atom scatters to a dark field detector."""

from collections.abc import Iterable

from torchmotif.errors import InputError

__all__ = ["GAMMA", "atomic_number", "homologues", "scattering"]

GAMMA = 1.7  # ADF intensity goes as Z^gamma (Krivanek et al., 2010)

_SYMBOLS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr "
    "Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir "
    "Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl "
    "Mc Lv Ts Og"
)
_NUMBER = {symbol: number for number, symbol in enumerate(_SYMBOLS.split(), start=1)}


def atomic_number(symbol: str) -> int:
    """Z of an element.

    Raises
    ------
    InputError
        If there is no such element.

    Examples
    --------
    >>> atomic_number("Mo")
    42
    """
    if symbol not in _NUMBER:
        raise InputError(f"{symbol!r} is no element; give a chemical symbol such as 'Mo' or 'Se'")
    return _NUMBER[symbol]


# Atomic numbers of the groups of the periodic table down to Bi; lanthanides and what is beyond have no homologues here.
_GROUPS = (
    (3, 11, 19, 37, 55), (4, 12, 20, 38, 56), (21, 39, 57),
    *((n, n + 18, n + 50) for n in range(22, 31)),
    (5, 13, 31, 49, 81), (6, 14, 32, 50, 82), (7, 15, 33, 51, 83), (8, 16, 34, 52), (9, 17, 35, 53),
)  # fmt: skip


def homologues(symbol: str) -> list[str]:
    """Elements of the same group of the periodic table, itself among them.

    Examples
    --------
    >>> homologues("S")
    ['O', 'S', 'Se', 'Te']
    """
    number, symbols = atomic_number(symbol), _SYMBOLS.split()
    group = next((one for one in _GROUPS if number in one), (number,))
    return [symbols[n - 1] for n in group]


def scattering(symbols: Iterable[str], gamma: float = GAMMA) -> list[float]:
    """Z^gamma of each element: intensity scattered to the detector, in arbitrary units.

    Raises
    ------
    InputError
        If there is no such element, or gamma lies outside the 1 to 2 between full screening and Rutherford.
    """
    if not 1 <= gamma <= 2:
        raise InputError(f"gamma must lie between 1 and 2, got {gamma}; annular dark field gives 1.6 to 1.9")
    return [atomic_number(symbol) ** gamma for symbol in symbols]
