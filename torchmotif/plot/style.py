"""How a motif looks, in every picture and on every page: its colour, its marker, the hatching of its cells."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

__all__ = ["AT_RIM", "OTHER", "Style", "label_styles", "motif_style"]

# Okabe & Ito (2008) without black and grey, which the image itself has: told apart with every kind of colour vision.
_COLOURS = ("#E69F00", "#56B4E9", "#D55E00", "#009E73", "#F0E442", "#CC79A7", "#0072B2")
_MARKERS = "osD^vP"  # one for each seven motifs, so that 42 look different
_HATCHES = ("", "////", "....", "xxxx", "----", "++++")
OTHER = "#BBBBBB"
AT_RIM = -2  # in place of a motif: the column's patch reaches over the image's rim


class Style(NamedTuple):
    """The look of a motif.

    Attributes
    ----------
    colour : str
        As "#rrggbb".
    marker : str
        matplotlib's sign for the mark of a column.
    hatch : str
        matplotlib's sign for the hatching of a cell.
    """

    colour: str
    marker: str
    hatch: str


def motif_style(motif: int) -> Style:
    """Colour, marker and hatching of a motif; of -1, which is none, white; of -2, at the image's rim, grey.

    Examples
    --------
    >>> motif_style(0), motif_style(7).marker, motif_style(-1).colour
    (Style(colour='#E69F00', marker='o', hatch=''), 's', '#FFFFFF')
    """
    if motif == AT_RIM:
        return Style(OTHER, ".", "")
    if motif < 0:
        return Style("#FFFFFF", "X", "")
    again = motif // len(_COLOURS) % len(_MARKERS)
    return Style(_COLOURS[motif % len(_COLOURS)], _MARKERS[again], _HATCHES[again])


def label_styles(names: Iterable[Any], looks: Mapping[str, int] | None = None) -> list[Style]:
    """Looks of labels: of the motifs they number or that `looks` gives, else of their place among the names.

    Parameters
    ----------
    names : int or str, several
    looks : mapping of str to int, optional
        The motif whose look each name has, as of `MotifResult.looks`; names that are not in it look as what is in no motif.

    Returns
    -------
    list of Style

    Examples
    --------
    >>> [style.colour for style in label_styles([-1, 0])]
    ['#FFFFFF', '#E69F00']
    >>> [style.colour for style in label_styles(["Mo", "Se2"])]
    ['#E69F00', '#56B4E9']
    """
    names = list(names)
    if looks is not None:
        return [motif_style(looks.get(str(name), -1)) for name in names]
    try:
        return [motif_style(int(name)) for name in names]
    except ValueError:
        return [motif_style(place) for place in range(len(names))]
