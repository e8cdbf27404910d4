"""Pictures of a result in files, and as text for a page."""

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchmotif.plot._beside import Drawing, draw
from torchmotif.plot._packed import ON_A_PAGE, packed, pixels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["pictures_in", "png"]


def png(figure: "Figure") -> str:
    """A figure as the address of a picture, which holds it, for a page; 100 pixels an inch."""
    packed_figure = packed(pixels(figure, ON_A_PAGE), ON_A_PAGE)
    return f"data:image/png;base64,{base64.b64encode(packed_figure).decode('ascii')}"


@contextmanager
def pictures_in(folder: Path) -> "Iterator[Callable[[str, dict[str, Any]], None]]":
    """Write sheets into a folder, each as NAME.png, at the end: they are drawn, or packed, while other work goes on.

    Parameters
    ----------
    folder : Path

    Yields
    ------
    function
        Takes the name of a sheet and its arguments.
    """
    asked: dict[str, Drawing] = {}

    def write(name: str, arguments: dict[str, Any]) -> None:
        asked[name] = draw(name, "png", arguments)

    yield write
    for name, drawing in asked.items():
        (folder / f"{name}.png").write_bytes(drawing.result())
