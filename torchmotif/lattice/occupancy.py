"""Occupancy: which sites of the crystal are full, partly occupied or empty, and with what probability."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from torchmotif.columns import Columns
from torchmotif.columns.given import intensities_at, model_at
from torchmotif.columns.model import ImageModel
from torchmotif.lattice.places import expected_places, is_surrounded, kinds_of
from torchmotif.lattice.sites import Sites
from torchmotif.lattice.states import States, learn_states

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SiteTable", "occupancy_of"]

Values = NDArray[np.float64]

_FEWEST = 12  # like sites from which states are learnt
_AROUND = 60  # like sites around one, whose median says how bright a full one is there
_BATCH = 20_000  # sites whose surroundings are looked at together
_CUT = 2.3  # widths from the border within which a column is cut, as in `Columns.is_rim`
_CLOSEST = 0.01  # pixels: no place is known better from its neighbours


@dataclass(frozen=True, eq=False)
class SiteTable:
    """Sites of the crystal: the places where it has a column, one row for each.

    Columns that sit on a sublattice have a row, and sites without a column to which half of the translations of a
    sublattice lead, with columns on all sides. Where no lattice is known, each column is a site whose occupancy is not known. Columns
    between the sites have no row.

    Attributes
    ----------
    positions : array of shape (s, 2), float64
        (row, col) in pixels: of the column, where there is one, drawn to where the sites around lead, by how well both are known.
    position_errors : array of shape (s, 2), float64
        Their standard deviations.
    sublattice : array of shape (s,), int64
        The motif whose sublattice the site is of; -1 where none is known.
    column : array of shape (s,), int64
        Number of the column; -1 where none was found.
    intensities, intensity_errors : arrays of shape (s,), float64
        Of a joint fit of all sites at these positions, in the image's units times square pixels; NaN where nothing was measured.
    occupancy, occupancy_errors : arrays of shape (s,), float64
        The same relative to full sites of the kind around; NaN where states are not known.
    fraction : array of shape (s,), float64
        Occupancy of the most probable state: 1 of full sites, 0 of empty ones, 0.5 of those with half a full one's intensity.
    p_full, p_partial, p_empty : arrays of shape (s,), float64
        Probabilities, from a mixture learnt over all sites of the kind; see `learn_states`.
    lattice : Sites
        On which sublattice motifs and columns sit.
    """

    positions: Values
    position_errors: Values
    sublattice: NDArray[np.int64]
    column: NDArray[np.int64]
    intensities: Values
    intensity_errors: Values
    occupancy: Values
    occupancy_errors: Values
    fraction: Values
    p_full: Values
    p_partial: Values
    p_empty: Values
    lattice: Sites

    KINDS: ClassVar[dict[str, str]] = {  # of the arrays
        "positions": "f8",
        "position_errors": "f8",
        "sublattice": "i8",
        "column": "i8",
        "intensities": "f8",
        "intensity_errors": "f8",
        "occupancy": "f8",
        "occupancy_errors": "f8",
        "fraction": "f8",
        "p_full": "f8",
        "p_partial": "f8",
        "p_empty": "f8",
    }

    def __len__(self) -> int:
        """Count the sites."""
        return len(self.positions)

    def __repr__(self) -> str:
        """Say how many are full, partly occupied and empty."""
        full, partial, empty = (f"{number:,.0f}" for number in self.numbers)
        return f"SiteTable({len(self):,} sites: {full} full, {partial} partly occupied, {empty} empty)"

    @property
    def numbers(self) -> tuple[float, float, float]:
        """How many sites are full, partly occupied and empty, by the sums of their probabilities."""
        full, partial, empty = (float(np.nansum(p)) for p in (self.p_full, self.p_partial, self.p_empty))
        return full, partial, empty

    @property
    def columns(self) -> np.ndarray:
        """Sublattice of each column, see `Sites`."""
        return self.lattice.columns

    @property
    def motifs(self) -> np.ndarray:
        """Sublattice of each motif, see `Sites`."""
        return self.lattice.motifs

    @property
    def shares(self) -> np.ndarray:
        """Share of each motif's columns that sit there, see `Sites`."""
        return self.lattice.shares

    @property
    def sublattices(self) -> list[int]:
        """The motifs that make a sublattice, see `Sites`."""
        return self.lattice.sublattices

    def where(self, motif: int) -> str:
        """Where a motif sits, in words, see `Sites.where`."""
        return self.lattice.where(motif)

    @property
    def states(self) -> np.ndarray:
        """The most probable state of each site: "full", "partial", "empty", or "" where none is known; shape (s,)."""
        found = np.stack([self.p_full, self.p_partial, self.p_empty], axis=1)
        names = np.array(["full", "partial", "empty", ""])
        return names[np.where(np.isfinite(found).all(1), np.nan_to_num(found).argmax(1), 3)]

    @property
    def without_column(self) -> NDArray[np.bool_]:
        """Sites where no column was found and that are not full either; shape (s,).

        One state, or a broad one, takes places as full that are dark: a full site has at least half of its intensity.
        """
        return (self.column < 0) & ~((self.p_full >= 0.5) & (self.occupancy >= 0.5))

    def to_dataframe(self, pixel_size_nm: tuple[float, float] | None = None) -> "pd.DataFrame":
        """One row for each site.

        Parameters
        ----------
        pixel_size_nm : (float, float), optional
            Length of a pixel along (rows, columns).

        Returns
        -------
        pandas.DataFrame
            row_px, col_px, row_error_px, col_error_px; row_nm, col_nm with a pixel size; sublattice, column, intensity,
            intensity_error, occupancy, occupancy_error, fraction, p_full, p_partial, p_empty.
        """
        import pandas as pd

        table: dict[str, Any] = {}
        for axis, name in enumerate(("row", "col")):
            table[f"{name}_px"] = self.positions[:, axis]
        for axis, name in enumerate(("row", "col")):
            table[f"{name}_error_px"] = self.position_errors[:, axis]
        if pixel_size_nm is not None:
            for axis, name in enumerate(("row", "col")):
                table[f"{name}_nm"] = self.positions[:, axis] * pixel_size_nm[axis]
        table |= {
            "sublattice": self.sublattice,
            "column": self.column,
            "intensity": self.intensities,
            "intensity_error": self.intensity_errors,
            "occupancy": self.occupancy,
            "occupancy_error": self.occupancy_errors,
            "fraction": self.fraction,
            "p_full": self.p_full,
            "p_partial": self.p_partial,
            "p_empty": self.p_empty,
        }
        return pd.DataFrame(table)

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays of the table by name."""
        return {name: getattr(self, name) for name in self.KINDS}


def occupancy_of(pixels: Any, model: ImageModel, columns: Columns, sites: Sites) -> SiteTable:
    """The sites of an image, and how far each is occupied.

    Sites are fitted all together at known places: an intensity then needs no maximum, is not drawn up by noise, and its
    neighbours are accounted for. What full, partly occupied and empty sites look like is learnt from all like sites.

    Parameters
    ----------
    pixels : array of shape (h, w)
        Not finite where a pixel was not measured.
    model : ImageModel
        What the columns have in common.
    columns : Columns
        Arrays of numpy.
    sites : Sites
        Of these columns.

    Returns
    -------
    SiteTable
    """
    data = torch.as_tensor(np.ascontiguousarray(pixels, dtype=np.float32))
    shape = (data.shape[0], data.shape[1])
    at = np.asarray(columns.positions, np.float64)
    unknown = (sites.columns < 0) & ~sites.known
    rows = np.flatnonzero((sites.columns >= 0) | unknown)
    column = np.concatenate([rows, np.full(len(sites.empty), -1)])
    positions = np.concatenate([at[rows], sites.empty])
    sublattice = np.concatenate([sites.columns[rows], sites.empty_of])
    expected, joined, apart = expected_places(positions, sublattice, column >= 0, columns.spacing)

    keep = (column >= 0) | _within(data, sites.empty, len(rows), columns.spacing)
    for number, distance in apart.items():
        here = np.flatnonzero((column < 0) & (sublattice == number) & keep)
        keep[here] = is_surrounded(positions[here], at, distance, shape)
    column, positions, sublattice = column[keep], positions[keep], sublattice[keep]
    expected, joined = expected[keep], joined[keep]

    errors = np.full_like(positions, np.nan)
    if columns.position_errors is not None:
        errors[column >= 0] = np.asarray(columns.position_errors, np.float64)[column[column >= 0]]
    positions, errors = _drawn(positions, errors, expected, sublattice, column >= 0)
    positions = positions.clip(-0.5, np.array(shape) - 0.5)

    others = np.setdiff1d(np.arange(len(at)), rows)
    every = np.concatenate([positions, at[others]])
    fitted = intensities_at(data, model_at(data, model, every), every)
    values, noise = fitted.values[: len(positions)], fitted.errors[: len(positions)]
    cut = _CUT * np.array(model.width)
    near = (positions < cut) | (positions > np.array(shape) - 1 - cut)
    is_rim: NDArray[np.bool_] = np.asarray(near.any(axis=1))
    if columns.is_rim is not None:
        is_rim[column >= 0] |= np.asarray(columns.is_rim)[column[column >= 0]]
    kinds = kinds_of(sublattice, joined, values)
    known = _occupied(positions, values, noise, kinds, is_rim)
    return SiteTable(positions, errors, sublattice, column, values, noise, **known, lattice=sites)


def _within(data: torch.Tensor, empty: Values, before: int, spacing: float) -> NDArray[np.bool_]:
    """Which of the sites without a column, after so many others, lie within what was measured; the others do not."""
    h, w = data.shape
    margin = spacing / 2  # nearer to the border a column may be there and not be found
    within = ((empty > margin) & (empty < np.array([h, w]) - 1 - margin)).all(axis=1)
    hidden = (~torch.isfinite(data)).float()
    if bool(hidden.any()) and len(empty):
        side = 2 * int(np.ceil(margin)) + 1
        near = torch.nn.functional.max_pool2d(hidden[None, None], side, 1, side // 2)[0, 0].numpy() > 0
        row, col = np.rint(empty).astype(np.int64).clip(0, [h - 1, w - 1]).T
        within &= ~near[row, col]
    return np.concatenate([np.zeros(before, bool), within])


def _drawn(
    positions: Values,
    errors: Values,
    expected: Values,
    sublattice: NDArray[np.int64],
    has_column: NDArray[np.bool_],
) -> tuple[Values, Values]:
    """Places as their columns and the sites around tell them together, and their standard deviations.

    How far a site lies from where those around lead is learnt from all of its sublattice: what is left of the scatter between both
    once the errors of the columns are taken off.
    """
    positions, errors = positions.copy(), errors.copy()
    for number in np.unique(sublattice[sublattice >= 0]).tolist():
        here = (sublattice == number) & np.isfinite(expected).all(axis=1)
        seen = here & has_column
        if seen.sum() < _FEWEST:
            continue
        own = np.nan_to_num(errors[seen])
        away = positions[seen] - expected[seen]
        scatter = (1.4826 * np.median(np.abs(away), axis=0)) ** 2
        around = np.maximum(scatter - np.median(own, axis=0) ** 2, _CLOSEST**2)
        share = around / (around + own**2)
        positions[seen] = expected[seen] + share * away
        errors[seen] = np.sqrt(share) * own
        alone = here & ~has_column
        positions[alone], errors[alone] = expected[alone], np.sqrt(around)
    return positions, errors


def _occupied(
    positions: Values,
    intensities: Values,
    noise: Values,
    kinds: NDArray[np.int64],
    is_rim: NDArray[np.bool_],
) -> dict[str, Values]:
    """Occupancy of every site and its error, and the probabilities of its states."""
    names = ("occupancy", "occupancy_errors", "fraction", "p_full", "p_partial", "p_empty")
    found = {name: np.full(len(positions), np.nan) for name in names}
    fit = np.isfinite(intensities) & (noise > 0)
    for kind in np.unique(kinds[kinds >= 0]).tolist():
        here = np.flatnonzero((kinds == kind) & fit)
        learnt = here[~is_rim[here]]
        if len(learnt) < _FEWEST:
            learnt = here
        if len(learnt) < _FEWEST or not np.median(intensities[learnt]) > 0:
            continue
        level = _levels(positions, intensities, learnt, here)
        relative, error = intensities[here] / level, noise[here] / level
        inner = np.isin(here, learnt)
        states: States = learn_states(relative[inner], error[inner])
        error[~inner] = _wider(relative[~inner] / states.level - 1, error[~inner])
        found["occupancy"][here] = relative / states.level
        found["occupancy_errors"][here] = error / states.level
        found["fraction"][here] = states.fractions_of(relative, error)
        for name, values in states.probabilities(relative, error).items():
            found[f"p_{name}"][here] = values
    return found


def _wider(away: Values, errors: Values) -> Values:
    """Errors of sites that are cut, as large as their scatter about full ones: what shines in from beyond is not known."""
    if not len(away):
        return errors
    excess = (1.4826 * np.median(np.abs(away))) ** 2 - np.median(errors**2)
    wider: Values = np.sqrt(errors**2 + max(float(excess), 0.0))
    return wider


def _levels(
    positions: Values, intensities: Values, learnt: NDArray[np.int64], here: NDArray[np.int64]
) -> Values:
    """How bright full sites of a kind are around each of them, where that varies by more than noise makes it seem to.

    The median of the sites around, drawn to that of all by the share of its variance that is noise.
    """
    values = intensities[learnt]
    usual = float(np.median(values))
    most = min(_AROUND, len(learnt))
    tree = cKDTree(positions[learnt])
    parts = np.split(positions[here], range(_BATCH, len(here), _BATCH))
    around = np.concatenate(
        [np.median(values[tree.query(part, k=range(1, most + 1))[1]], axis=1) for part in parts]
    )
    lower, upper = np.quantile(values - around[np.isin(here, learnt)], [0.25, 0.75])
    noise = np.pi / 2 * ((upper - lower) / 1.349) ** 2 / most  # of a median
    total = float(np.mean((around - usual) ** 2))
    share = max(0.0, 1 - noise / total) if total > 0 else 0.0
    level: Values = usual + share * (around - usual)
    return np.maximum(level, usual / 10)
