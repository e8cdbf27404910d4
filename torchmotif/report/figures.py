"""Pictures as parts of the page."""

import re
from itertools import count
from typing import Any

from torchmotif.plot._beside import Drawing, draw

__all__ = ["InlineSvg", "inline_svg"]

_numbers = count()


class InlineSvg:
    """A picture that stands in a page: black takes the colour of the text, names are the picture's own.

    It is waited for where the page is put together, since another process may be drawing it.

    Parameters
    ----------
    drawing : Drawing
    label : str
        What it shows, for those who cannot see it.
    """

    def __init__(self, drawing: Drawing, label: str) -> None:
        self._drawing, self._label, self._own = drawing, label, f"f{next(_numbers)}-"

    def __html__(self) -> str:
        """What stands in the page: matplotlib's own, whose texts are drawn as paths."""
        from markupsafe import escape

        text = self._drawing.result().decode()
        text = text[text.index("<svg") :]
        text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        text = re.sub(r'\bid="', f'id="{self._own}', text)
        text = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{self._own}", text)
        text = re.sub(r"#000000\b|#262626\b", "currentColor", text)
        width = re.search(r'<svg[^>]*? width="([\d.]+)pt"', text)
        shown = f' style="max-width:{float(width[1]) * 4 / 3:.0f}px"' if width else ""
        text = re.sub(r'(<svg[^>]*?) height="[\d.]+pt"', r"\1", text, count=1)
        text = re.sub(r'(<svg[^>]*?) width="[\d.]+pt"', r"\1", text, count=1)
        return text.replace("<svg", f'<svg role="img" aria-label="{escape(self._label)}"{shown}', 1)


def inline_svg(sheet: str, label: str, **arguments: Any) -> InlineSvg:
    """Have a sheet of `torchmotif.plot._sheets` drawn to stand in a page.

    Parameters
    ----------
    sheet : str
    label : str
        What it shows, for those who cannot see it.
    arguments
        Of the sheet.
    """
    return InlineSvg(draw(sheet, "svg", arguments), label)
