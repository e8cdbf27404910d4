"""The groups of columns that a reader can switch on and off: the motifs, and the two reasons to be in none."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from torchmotif.plot import Style, motif_style
from torchmotif.plot.style import AT_RIM as RIM

if TYPE_CHECKING:
    from torchmotif.result import MotifResult

__all__ = ["RIM", "UNLIKE", "Group", "brightness", "groups_of"]

UNLIKE = -1  # no motif: it fits none


@dataclass(frozen=True)
class Group:
    """Columns that are shown and hidden together.

    Attributes
    ----------
    number : int
        The motif, or `UNLIKE` or `RIM`.
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


def brightness(result: "MotifResult") -> np.ndarray:
    """Intensity of every column over the median of all, shape (n,), float64; 0 where it is not finite."""
    intensities = np.asarray(result.columns.intensities, np.float64)
    finite = intensities[np.isfinite(intensities)]
    typical = float(np.median(finite)) if finite.size else 1.0
    return np.nan_to_num(intensities / (typical or 1.0), nan=0.0, posinf=0.0, neginf=0.0)


def groups_of(result: "MotifResult") -> list[Group]:
    """All groups: the motifs in order, then the columns in none."""
    member = result.groups
    total = max(len(member), 1)
    made = set(result.sites.columns.tolist()) - {-1}
    named = [(motif, f"motif {motif}", motif_style(motif)) for motif in range(result.n_motifs)]
    named += [
        (UNLIKE, "unlike all motifs", motif_style(-1)),
        (RIM, "at the rim", motif_style(RIM)),
    ]
    counts = {number: int((member == number).sum()) for number, _, _ in named}
    return [
        Group(number, name, style, counts[number], counts[number] / total, number in made)
        for number, name, style in named
    ]
