"""identify: names of columns from a chemical formula, by how bright they are."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from torchmotif._checks import real_number
from torchmotif.errors import CompositionError, InputError
from torchmotif.lattice import SiteTable
from torchmotif.names._mixture import Levels, fit_mixture, main_level
from torchmotif.names._thickness import hosts_of_other_thickness
from torchmotif.names.alike import Alike, formulas_alike
from torchmotif.names.doubts import of_thickness
from torchmotif.names.formula import Composition, Dopants, stack_name, stack_of
from torchmotif.names.hosts import TOLERANCE, Hosts, find_hosts
from torchmotif.names.names import CLEAR, Names, likeliest
from torchmotif.names.occupations import Occupation, between, on_site
from torchmotif.names.tally import Tally

__all__ = ["check_stacks", "identify_columns"]

Floats = NDArray[np.float64]

_FEWEST = 12  # columns of a sublattice that tell how bright it is
_AROUND = 6  # columns of which most sit on sites where one between the sites is an interstitial
# Standard errors of its intensity that a column between the sites needs: what noise alone makes there, of 1,000 places at
# 1 electron per pixel 5, has 2 to 4.
_SURE = 5.0
_UNNAMED = 0.1  # of all columns, from which a formula is said to explain too few


@dataclass(frozen=True, eq=False)
class _Measured:
    """Intensities of all columns, then of all empty sites, and the sublattice of each."""

    intensities: Floats
    errors: Floats
    site: NDArray[
        np.int64
    ]  # -1 between the sites, -2 where no lattice is known, or what is there may be noise
    counted: NDArray[np.bool_]  # not cut off at the image's border
    positions: Floats  # in square pixels
    slope: float


def identify_columns(
    image: Any,
    columns: Any,
    sites: SiteTable,
    composition: str,
    *,
    dopants: Dopants = None,
    gamma: float | None = None,
    stacks: "list[str] | None" = None,
    pixel_size_nm: tuple[float, float] | None = None,
) -> Names:
    """Name the columns of an annular dark field image by the atoms that its composition allows.

    Sublattices are matched to columns of atoms by their relative intensities, proportional to the sum of Z^gamma; then each
    column of a sublattice to the host, a vacancy, an antisite, a dopant or an adatom by a mixture with the columns' own errors.

    Parameters
    ----------
    image : array of shape (h, w)
        The image that they are of; only its shape is asked for, since near the border an empty site may be a column not found.
    columns : Columns
        With intensity errors.
    sites : SiteTable
    composition : str
        Such as "MoS2".
    dopants : sequence of str, or mapping of str to str, optional
        Foreign elements that may be there; or of each the element whose place it takes.
    gamma : float, optional
        Exponent of Z, 1 to 2; by default it is fitted.
    stacks : list of str, optional
        The columns that there are along the beam, such as ``["Sr", "TiO", "O"]``; by default what the formula allows.
    pixel_size_nm : (float, float), optional
        (row, col), by which neighbours are told where pixels are oblong.

    Returns
    -------
    Names

    Raises
    ------
    InputError
        If the formula is none, or names elements that are not known.
    CompositionError
        If the formula does not fit the image.
    """
    parsed = Composition.parse(composition, dopants)
    if gamma is not None:
        gamma = real_number("gamma", gamma, 1.0, 2.0, "annular dark field gives 1.6 to 1.9")
    given = check_stacks(stacks, parsed)
    row_nm, col_nm = pixel_size_nm or (1.0, 1.0)
    measured = _measured(image, columns, sites, row_nm / col_nm)
    brightness, counts = _levels(measured)
    if not brightness:
        raise CompositionError(
            f"{composition} cannot be matched: no sublattice of {_FEWEST} columns is known; take a larger image, or set spacing="
        )
    hosts = find_hosts(parsed, brightness, counts, gamma=gamma, columns=given)
    # Of a formula that fits badly that is to be said, not that others would fit: which it is was hardly given.
    told = given or hosts.fits_badly
    alike = [] if told else formulas_alike(parsed, hosts.stacks, brightness, counts, gamma=gamma)
    names = _named(
        measured,
        hosts,
        parsed,
        n_columns=len(columns),
        empty_positions=sites.positions[sites.without_column],
        brightness=brightness,
    )
    names.record.update(alike=alike, notes=_notes(parsed, hosts, alike))
    return names


def check_stacks(stacks: "list[str] | None", composition: Composition) -> "list[dict[str, int]] | None":
    """The atoms of columns that are given by name, None for none; an InputError says that the formula does not have them."""
    if stacks is None:
        return None
    found = [stack_of(one) for one in stacks]
    unknown = {e for one in found for e in one} - set(composition.elements)
    if not found or unknown:
        raise InputError(
            f"columns must be of the elements of {composition.text}, such as ['Sr', 'TiO'], got {list(stacks)}"
        )
    return found


def _measured(image: Any, columns: Any, sites: SiteTable, aspect: float = 1.0) -> _Measured:
    """What is known of the intensities of columns and of empty sites; pixels are higher than wide by the aspect."""
    if columns.intensity_errors is None:
        raise InputError("columns have no intensity errors; find them with refine=True")
    bright, errors = (np.asarray(one, np.float64) for one in (columns.intensities, columns.intensity_errors))
    site = np.asarray(sites.columns).copy()
    square = np.array([aspect, 1.0])
    positions = np.asarray(columns.positions) * square
    if len(site) > _AROUND:
        near = np.asarray(cKDTree(positions).query(positions, k=_AROUND + 1)[1])[:, 1:]
        site[(site < 0) & ((site[near] >= 0).mean(axis=1) <= 0.5)] = -2
    rim = np.zeros(len(site), bool) if columns.is_rim is None else np.asarray(columns.is_rim, bool)
    if columns.is_saturated is not None:
        rim = rim | np.asarray(columns.is_saturated, bool)
    noise = (site < 0) & (bright < _SURE * errors)
    site[noise] = -2
    empty = sites.without_column
    at_empty, error_of_empty, place = (
        sites.intensities[empty],
        sites.intensity_errors[empty],
        sites.positions[empty],
    )
    good = np.isfinite(bright) & np.isfinite(errors) & (errors > 0)
    typical = float(np.median(errors[good])) if good.any() else 1.0
    slope = _slope(bright[good], errors[good])
    margin = columns.spacing / 2
    inside = ((place > margin) & (place < np.array(np.shape(image)) - 1 - margin)).all(axis=1)
    usable = inside & np.isfinite(at_empty) & (error_of_empty > 0)
    return _Measured(
        np.concatenate([np.where(good, bright, 0.0), np.where(usable, at_empty, 0.0)]),
        np.concatenate([np.where(good, errors, typical), np.where(usable, error_of_empty, typical)]),
        np.concatenate([np.where(good, site, -2), np.where(usable, sites.sublattice[empty], -2)]),
        np.concatenate([good & ~rim, usable]),
        np.concatenate([positions, place * square]).astype(np.float64),
        slope,
    )


def _slope(intensities: Floats, errors: Floats) -> float:
    """How fast the variance of an intensity grows with it, by the median slope between dark and bright columns."""
    order = np.argsort(intensities)
    dark, bright = order[: len(order) // 3], order[-(len(order) // 3) :]
    if len(dark) < 4:
        return 0.0
    step = float(np.median(intensities[bright]) - np.median(intensities[dark]))
    if step <= 0:
        return 0.0
    return max(float(np.median(errors[bright] ** 2) - np.median(errors[dark] ** 2)) / step, 0.0)


def _levels(measured: _Measured) -> tuple[dict[int, float], dict[int, int]]:
    """Of every sublattice, how bright most of its columns are and how many it has."""
    brightness, counts = {}, {}
    for one in np.unique(measured.site[measured.site >= 0]).tolist():
        here = (measured.site == one) & measured.counted
        if here.sum() >= _FEWEST:
            level = main_level(measured.intensities[here], measured.errors[here])
            if level > 0:
                brightness[one], counts[one] = level, int(here.sum())
    return brightness, counts


def _named(
    measured: _Measured,
    hosts: Hosts,
    composition: Composition,
    *,
    n_columns: int,
    empty_positions: Floats,
    brightness: dict[int, float],
) -> Names:
    """The names, once it is known what each sublattice holds."""
    whole = list({stack_name(one): one for one in hosts.stacks.values()}.values())
    kinds: dict[str, Occupation] = {}
    n = len(measured.site)
    best, second = np.full(n, -1), np.full(n, -1)
    first, then = np.zeros(n), np.zeros(n)
    tally = Tally(composition)
    thin = np.zeros(n, bool)  # taken for something else because of their thickness
    unseen: dict[str, None] = {}
    places = [*hosts.stacks, -1]
    for one in places:
        here = np.flatnonzero(measured.site == one)
        if not len(here):
            continue
        options, levels = _options(one, hosts, whole, composition, brightness)
        learnt = measured.counted[here]
        if one >= 0:
            options, levels, left_out = _told(options, levels, float(np.median(measured.errors[here])))
            unseen |= dict.fromkeys(left_out, None)
        fitted = fit_mixture(
            measured.intensities[here], measured.errors[here], levels, measured.slope, learnt
        )
        for option in options:
            kinds.setdefault(option.name, option)
        numbers = [*(list(kinds).index(option.name) for option in options), -1]
        if one >= 0:
            rows = here[learnt]
            thin[rows] = hosts_of_other_thickness(
                measured.positions[rows],
                measured.intensities[rows],
                measured.errors[rows],
                fitted.only(learnt),
                measured.slope,
            )
        names, chosen = likeliest(fitted.probabilities, numbers)
        best[here], second[here] = names.T
        first[here], then[here] = chosen.T
        host = stack_name(hosts.stacks[one]) if one >= 0 else "between the sites"
        tally.add(options, fitted, learnt, host)
    best[measured.site == -2], first[measured.site == -2] = -1, 0.0
    used = slice(n_columns, n)
    seen = measured.site[used] >= 0
    record: dict[str, Any] = {
        "by": "composition",
        "formula": composition.text,
        "dopants": composition.dopants,
        "gamma": [hosts.scattering.gamma, hosts.scattering.gamma_error],
        "hosts": {str(s): stack_name(stack) for s, stack in hosts.stacks.items()},
        "chi_square": hosts.chi_square,
        "atoms": {name: dict(kind.atoms) for name, kind in kinds.items()},
        "table": tally.rows(),
        "composition_at_percent": tally.at_percent(),
    }
    unnamed = float(((best < 0) & ~thin)[:n_columns].mean()) if n_columns else 0.0
    record["warnings"] = _warnings(hosts, composition, tally, unnamed)
    if thin.any():
        record["varying"] = {
            [*kinds, ""][k]: int((best[thin] == k).sum()) for k in np.unique(best[thin]).tolist()
        }
        record["warnings"].append(of_thickness(record["varying"]))
    if unseen:
        record["warnings"].append(
            f"names: {', '.join(unseen)} are not looked for: such columns are less than {CLEAR:.0f} standard errors of a column "
            "from those without the adatom"
        )
    return Names(
        list(kinds),
        best[:n_columns],
        first[:n_columns],
        second[:n_columns],
        then[:n_columns],
        empty_positions[seen],
        best[used][seen],
        first[used][seen],
        record,
    )


def _options(
    site: int,
    hosts: Hosts,
    whole: list[dict[str, int]],
    composition: Composition,
    brightness: dict[int, float],
) -> tuple[list[Occupation], Levels]:
    """What may be on a sublattice, or between them, and how bright each would be."""
    power = hosts.scattering
    options = on_site(hosts.stacks[site], whole, composition) if site >= 0 else between(whole, composition)
    atoms = [one.atoms for one in options]

    def at(gamma: float) -> Floats:
        """How bright each is, in units of the site's host, or between the sites of all hosts."""
        those = [site] if site >= 0 else list(hosts.stacks)
        unit = [np.log(brightness[s] / power.of([hosts.stacks[s]], gamma)[0]) for s in those]
        return np.asarray(np.exp(np.mean(unit)) * power.of(atoms, gamma))

    expected = at(power.gamma)
    apart = np.abs(expected - expected[0]) if site >= 0 else expected
    by_gamma = np.abs(at(power.gamma + power.gamma_error) - expected)
    return options, Levels(expected, np.hypot(TOLERANCE * apart, by_gamma) + 1e-3 * expected.max())


def _told(
    options: list[Occupation], levels: Levels, error: float
) -> tuple[list[Occupation], Levels, list[str]]:
    """What is left without adatoms that no column can show, and the names of these.

    How many there are would be read off the tail of the noise beside the host: at half an electron per pixel the composition of
    MoS2 was off by 1.4 of its errors with them, by 1.2 without.
    """
    apart = np.abs(levels.expected - levels.expected[0])
    kept = [k for k, one in enumerate(options) if "+" not in one.name or apart[k] >= CLEAR * error]
    left_out = [one.name for k, one in enumerate(options) if k not in kept]
    return [options[k] for k in kept], Levels(levels.expected[kept], levels.tolerance[kept]), left_out


def _notes(composition: Composition, hosts: Hosts, alike: list[Alike]) -> list[str]:
    """What intensities cannot say of a formula."""
    own = _columns_at(composition.text, list(map(stack_name, hosts.stacks.values())), hosts.scattering.gamma)
    others = [_columns_at(one["formula"], one["hosts"], one["gamma"]) for one in alike]
    return (
        [f"intensities alone do not tell {own} from {', '.join(others)}: which it is was given, not found"]
        if others
        else []
    )


def _columns_at(formula: str, columns: list[str], gamma: float) -> str:
    return f"{formula} ({', '.join(dict.fromkeys(columns))}; Z^{gamma:.2f})"


def _warnings(hosts: Hosts, composition: Composition, tally: Tally, unnamed: float) -> list[str]:
    """What is doubtful, with what to do."""
    said = []
    text = composition.text
    if hosts.fits_badly:
        said.append(
            f"names: {text} fits badly: its intensities would go with Z^{hosts.scattering.gamma:.2f}, usual are 1.6 to 1.9; check the "
            "composition, or give gamma"
        )
    if hosts.rivals:
        here = ", ".join({stack_name(one): None for one in hosts.stacks.values()})
        said.append(
            f"names: the columns of {text} were taken for {here}, and {' or '.join(hosts.rivals)} fit hardly worse; "
            "name those that there are with columns=..."
        )
    if hosts.unseen:
        said.append(
            f"names: no column of {', '.join(hosts.unseen)} is seen; the composition is of the columns that are"
        )
    if unnamed > _UNNAMED:
        said.append(
            f"names: {unnamed:.0%} of the columns fit no name that {text} allows; check the composition, or name dopants"
        )
    rows = [row for row in tally.rows() if row["count"]]
    unclear = [row for row in rows if row["contrast"] is not None and row["contrast"] < CLEAR]
    said += [
        f"names: {row['name']} and {row['next']} on {row['site']} are {row['contrast']:.1f} standard errors of a column apart: "
        "single columns may be either"
        for row in unclear
    ]
    if unclear:
        said.append(
            "names: such columns count as the likelier of the two in the composition, whose error does not hold that the other may be meant"
        )
    return said
