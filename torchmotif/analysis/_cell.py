"""A result in a cell of a notebook: pictures, one of which grows where its corner is dragged, and says of each column what it is.

No script is run. What is used is what JupyterLab leaves of a notebook that is not trusted: pictures, titles, and styles of its list.
"""

from collections.abc import Iterable, Iterator
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from torchmotif.analysis._png import png
from torchmotif.plot._packed import frame_of
from torchmotif.plot.style import AT_RIM

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["cell_of"]

_POINTED = 2_000  # columns that can be pointed at: each adds 150 bytes, where the pictures have a million
_AROUND = 0.4  # spacings around a column, within which it is pointed at
_NONE = {-1: "unlike all motifs", AT_RIM: "at the rim, with too little of its patch"}


def cell_of(result: Any, motifs: "Figure", chart: "Figure") -> str:
    """HTML of a result: what it is, its motifs, and the map of its columns.

    Parameters
    ----------
    result : MotifResult
    motifs, chart : matplotlib Figure
        Its pictures; the image is on the first axes of the map.
    """
    frame = frame_of(chart)
    asked = len(result.columns) <= _POINTED
    drawn = png(chart)
    spots = "".join(_spots(result, chart, frame)) if asked else ""
    says = "drag its lower right corner to enlarge the map" + (
        "; point at a column to see what it is" * asked
    )
    return (
        f"<div><p>{escape(repr(result))}</p>"
        f'<img alt="mean patch of every motif" style="max-width:100%" src="{png(motifs)}">'
        f'<div style="width:{frame.width:.2f}in;overflow:hidden;resize:horizontal"><div style="position:relative">'
        f'<img alt="motifs on the image" style="display:block;width:100%" src="{drawn}">{spots}</div></div>'
        f"<p><small>{says}</small></p></div>"
    )


def _spots(result: Any, chart: "Figure", frame: Any) -> Iterator[str]:
    """Over each column an element whose title says what it is."""
    to_inches = chart.axes[0].transData + chart.dpi_scale_trans.inverted()
    places, reach = result.columns.positions[:, ::-1], _AROUND * result.columns.spacing
    corners = np.stack([to_inches.transform(places + step) for step in (-reach, reach)])
    # from the lower left corner of the frame, upwards, to its upper left one, downwards
    corners = (corners - [frame.x0, frame.y1]) * [100 / frame.width, -100 / frame.height]
    for said, (left, top), (wide, high) in zip(
        _said(result), corners.min(0), np.ptp(corners, axis=0), strict=True
    ):
        box = f"position:absolute;left:{left:.2f}%;top:{top:.2f}%;width:{wide:.2f}%;height:{high:.2f}%"
        yield f'<span title="{escape(said)}" style="{box}"></span>'


def _said(result: Any) -> Iterable[str]:
    """What each column is, in words."""
    names = [""] * len(result.columns) if result.names is None else result.names.words
    every = zip(result.columns.positions, result.groups, result.probabilities, names, strict=True)
    for number, ((row, col), group, probability, name) in enumerate(every):
        motif = _NONE.get(int(group), f"motif {group} ({probability:.0%})")
        yield f"column {number} at ({row:.1f}, {col:.1f}) px: {', '.join(filter(None, (str(name), motif)))}"
