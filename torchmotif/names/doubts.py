"""Doubts: what is said of examples that are unlike their kind, of kinds that are too near, and of kinds without a column."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from torchmotif.names.names import COMPETES

__all__ = ["of_contrast", "of_examples", "of_numbers", "of_thickness"]

Floats = NDArray[np.float64]

_MOST_SAID = 5  # places of a kind that a warning names
# Standard deviations of a column: less than that apart, two kinds may be halves of one. Those of a Gaussian are 2.65 apart; of
# simulated MoSe2 at 1, 1/10 and 1/20 of the dose, where all examples of V_Se were Se2 and the like, 0.2 to 3.4; right kinds 5.2 and more.
_HALVES = 3.5


def of_contrast(kinds: Sequence[str], contrast: Floats, where: str = "") -> list[str]:
    """Say which kinds single columns hardly tell apart, or may be one.

    Parameters
    ----------
    kinds : sequence of j str
    contrast : array of shape (j, j)
        In standard deviations of one column, inf from each to itself.
    where : str
        Said of the examples, such as " of image 2".

    Returns
    -------
    list of str
    """
    return [
        f"names: {kinds[a]} and {kinds[b]} are {contrast[a, b]:.1f} standard deviations of a column apart by their examples{where}: "
        "single columns may be either, or both kinds be one; check the examples, or give more"
        for a, b in np.argwhere(np.triu(contrast < _HALVES)).tolist()
    ]


def of_examples(
    kinds: Sequence[str], kind: NDArray[np.int64], places: Floats, alone: Floats, where: str = ""
) -> list[str]:
    """Say which examples would not have the name that they were given for.

    Parameters
    ----------
    kinds : sequence of j str
    kind : array of shape (m,), int64
        What each example was said to be.
    places : array of shape (m, 2), float64
        (row, col) in pixels.
    alone : array of shape (m, j + 1), float64
        Probability of each to be of every kind, and last of none, if it were no example.
    where : str
        Said of the examples, such as " of image 2".

    Returns
    -------
    list of str
        One for each kind that has examples which would so seldom be of it by chance.
    """
    # So that of right examples one is said in at most one of twenty draws, whatever their number.
    unlike = np.take_along_axis(alone, kind[:, None], axis=1)[:, 0] < COMPETES / max(len(kind), 1)
    other = alone.argmax(axis=1)
    said = []
    for k in np.unique(kind[unlike]).tolist():
        parts = []
        for o in np.unique(other[unlike & (kind == k)]).tolist():
            at = places[unlike & (kind == k) & (other == o)]
            shown = ", ".join(f"({row:.1f}, {col:.1f})" for row, col in at[:_MOST_SAID].tolist())
            more = f" and {len(at) - _MOST_SAID} more" if len(at) > _MOST_SAID else ""
            parts.append(f"{shown}{more} as {kinds[o] if o < len(kinds) else 'none of the kinds'}")
        said.append(
            f"names: examples of {kinds[k]}{where} are unlike its other columns: without them one would take "
            f"{', '.join(parts)}; check these and the other examples of {kinds[k]}, leave out what is wrong, or give more"
        )
    return said


def of_numbers(kinds: Sequence[str], counts: NDArray[np.int64], own: NDArray[np.int64]) -> list[str]:
    """Say which kinds no column is like.

    Parameters
    ----------
    kinds : sequence of j str
    counts : array of shape (j,), int64
        Columns that have the name of each, examples among them.
    own : array of shape (j,), int64
        Examples of each that are columns of this image.

    Returns
    -------
    list of str
    """
    return [
        f"names: no column {f'but its {own[k]} example{s}' if own[k] else 'here'} is like {kinds[k]}: right if there is no other; "
        "otherwise check its examples, or give more"
        for k in np.flatnonzero(counts <= own).tolist()
        for s in ["" if own[k] == 1 else "s"]
    ]


def of_thickness(counts: Mapping[str, int]) -> str:
    """Say which names stand for the thickness of the specimen rather than for other atoms.

    Parameters
    ----------
    counts : mapping of str to int
        Columns of each name that are the host by what surrounds them; of "", columns without a name.

    Returns
    -------
    str
    """
    parts = [f"{n:,} {name}" for name, n in counts.items() if name]
    parts += [f"{n:,} columns without a name" for name, n in counts.items() if not name]
    return (
        f"names: {', '.join(parts)} are as bright as the columns around them: intensities change from column to column as the "
        "thickness of a specimen does, which is far likelier here than other or missing atoms; take them for the host, or crop the "
        "image to a part of one thickness"
    )
