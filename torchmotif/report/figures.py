"""Figures of matplotlib as parts of the page."""

import io
import re
from itertools import count
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["bare_figure", "inline_svg"]

_numbers = count()


def bare_figure(
    width_in: float,
    height_in: float,
    margins_in: tuple[float, float, float, float],
    *,
    grid: tuple[int, int] = (1, 1),
    gaps_in: tuple[float, float] = (0.0, 0.0),
) -> "Figure":
    """A figure without pyplot: no window, nothing to close. What is drawn does not lay it out, which takes as long as to draw it.

    Parameters
    ----------
    width_in, height_in : float
        Inches.
    margins_in : (float, float, float, float)
        Left, bottom, right and top of all axes, in inches.
    grid : (int, int)
        Rows and columns of axes.
    gaps_in : (float, float)
        Between rows, where titles stand, and between columns, in inches.

    Examples
    --------
    >>> figure = bare_figure(4.0, 3.0, (0.5, 0.5, 0.0, 0.0), grid=(2, 1), gaps_in=(0.5, 0.0))
    >>> (figure.add_subplot(2, 1, 1).get_position().size * (4.0, 3.0)).tolist()
    [3.5, 1.0]
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), dpi=150)
    left, bottom, right, top = margins_in
    high = (height_in - bottom - top - gaps_in[0] * (grid[0] - 1)) / grid[0]
    wide = (width_in - left - right - gaps_in[1] * (grid[1] - 1)) / grid[1]
    figure.subplots_adjust(
        left / width_in,
        bottom / height_in,
        1 - right / width_in,
        1 - top / height_in,
        hspace=gaps_in[0] / high,
        wspace=gaps_in[1] / wide,
    )
    return figure


def inline_svg(figure: "Figure", label: str) -> Any:
    """A figure as SVG to stand in a page: black takes the colour of the text, names are the figure's own.

    Parameters
    ----------
    figure : matplotlib Figure
    label : str
        What it shows, for those who cannot see it.

    Returns
    -------
    markupsafe.Markup
    """
    from markupsafe import Markup, escape

    buffer = io.StringIO()
    # Laid out so that nothing lies beyond its edge: no second pass for a tight frame.
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    own = f"f{next(_numbers)}-"
    text = re.sub(r'\bid="', f'id="{own}', text)
    text = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{own}", text)
    text = re.sub(r"#000000\b|#262626\b", "currentColor", text)
    width = re.search(r'<svg[^>]*? width="([\d.]+)pt"', text)
    shown = f' style="max-width:{float(width[1]) * 4 / 3:.0f}px"' if width else ""
    text = re.sub(r'(<svg[^>]*?) height="[\d.]+pt"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) width="[\d.]+pt"', r"\1", text, count=1)
    text = text.replace("<svg", f'<svg role="img" aria-label="{escape(label)}"{shown}', 1)
    return Markup(text)  # noqa: S704  # matplotlib's own, its texts drawn as paths
