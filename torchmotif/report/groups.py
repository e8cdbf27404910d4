"""What a reader can switch on and off: the motifs, the two reasons to be in none, and sites without a column."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from torchmotif.plot import Style, motif_style
from torchmotif.plot.style import AT_RIM as RIM

if TYPE_CHECKING:
    from torchmotif.report.shown import Shown

__all__ = ["EMPTY", "RIM", "UNLIKE", "Group", "brightness", "fences", "groups_of", "motif_title"]

UNLIKE, EMPTY = -1, -3  # no motif: it fits none; there is no column on the site


@dataclass(frozen=True)
class Group:
    """Columns that are shown and hidden together.

    Attributes
    ----------
    number : int
        The motif, or `UNLIKE`, `EMPTY` or `RIM`.
    name : str
    style : Style
    count : int
    share : float
        Of all columns.
    crystal : bool
        Whether it makes a sublattice: the crystal itself, not what is rare in it.
    """

    number: int
    name: str
    style: Style
    count: int
    share: float
    crystal: bool


def brightness(result: "Shown") -> np.ndarray:
    """Intensity of every column over the median of all, shape (n,), float64; 0 where it is not finite."""
    intensities = np.asarray(result.columns.intensities, np.float64)
    finite = intensities[np.isfinite(intensities)]
    typical = float(np.median(finite)) if finite.size else 1.0
    return np.nan_to_num(intensities / (typical or 1.0), nan=0.0, posinf=0.0, neginf=0.0)


def fences(values: np.ndarray) -> tuple[float, float, float]:
    """Median, and beyond what values are far out (Tukey, 1977): three times the middle half's width away from it."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    return middle, low - 3 * (high - low), high + 3 * (high - low)


def motif_title(result: "Shown", motif: int) -> str:
    """A motif by its number, and by what most of its columns are called."""
    name = None if result.motif_names is None else result.motif_names[motif]
    return f"motif {motif}: {name}" if name else f"motif {motif}"


def groups_of(result: "Shown") -> list[Group]:
    """All groups: the motifs in order, then the columns in none."""
    member = result.groups
    total = max(len(member), 1)
    made = result.sites.sublattices
    named = [(motif, motif_title(result, motif), motif_style(motif)) for motif in range(result.n_motifs)]
    named += [
        (UNLIKE, "unlike all motifs", motif_style(-1)),
        (EMPTY, "empty sites", Style("#FFFFFF", "D", "")),
        (RIM, "at the rim", motif_style(RIM)),
    ]
    counts = {number: int((member == number).sum()) for number, _, _ in named}
    counts[EMPTY] = len(result.empty_sites())
    return [
        Group(number, name, style, counts[number], counts[number] / total, number in made)
        for number, name, style in named
    ]
