"""What a result shows in a cell of a notebook."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

import torchmotif as tm
from torchmotif.analysis import _cell

# What JupyterLab leaves of the HTML of a notebook that is not trusted (@jupyterlab/apputils 4.7, sanitizer), of what is used here.
LEFT_TAGS = {"div", "p", "small", "img", "span"}
LEFT_ATTRIBUTES = {"style", "title", "alt", "src"}
LEFT_STYLES = {"max-width", "width", "height", "left", "top", "position", "display", "overflow", "resize"}


class Elements(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.found if name == tag]


def styles(element: dict[str, str]) -> dict[str, str]:
    parts = (part.partition(":") for part in element.get("style", "").split(";") if part)
    return {name: value for name, _, value in parts}


@pytest.fixture(scope="module")
def result() -> tm.MotifResult:
    specimen = tm.datasets.mose2((200, 260), vacancy_rate=0.1, random_state=1)
    found = tm.analyze(specimen.draw(1.0, torch.Generator().manual_seed(0)), progress=False)
    assert isinstance(found, tm.MotifResult)
    return found


def test_front_ends_leave_all_of_it(result: tm.MotifResult) -> None:
    elements = Elements(result._repr_html_()).found
    assert {tag for tag, _ in elements} <= LEFT_TAGS
    assert {name for _, attributes in elements for name in attributes} <= LEFT_ATTRIBUTES
    assert {name for _, attributes in elements for name in styles(attributes)} <= LEFT_STYLES


def test_whoever_points_at_a_mark_is_told_of_its_column(result: tm.MotifResult) -> None:
    elements = Elements(result._repr_html_())
    drawn = elements.of("img")[1]["src"].removeprefix("data:image/png;base64,")
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(drawn))), float) / 255
    spots = elements.of("span")
    assert len(spots) == len(result.columns)
    size = np.array(picture.shape[:2])
    for number, spot in enumerate(spots):
        row, col = result.columns.positions[number]
        assert spot["title"].startswith(f"column {number} at ({row:.1f}, {col:.1f}) px: ")
        box = {name: float(value.rstrip("%")) / 100 for name, value in styles(spot).items() if "%" in value}
        middle = size * (box["top"] + box["height"] / 2, box["left"] + box["width"] / 2)
        at = np.clip(middle.astype(int), 0, size - 1)
        label = result.labels[number]
        if label < 0:
            assert not re.search(r"motif \d", spot["title"])
        else:
            assert f"motif {label} (" in spot["title"]
            assert np.abs(picture[*at] - to_rgb(tm.plot.motif_style(int(label))[0])).max() < 0.05


def test_too_many_columns_are_drawn_alone(result: tm.MotifResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cell, "_POINTED", len(result.columns) - 1)
    elements = Elements(result._repr_html_())
    assert len(elements.of("img")) == 2
    assert elements.of("span") == []


def test_names_are_text(result: tm.MotifResult) -> None:
    of = [result.columns.positions[(result.labels == motif) & result.whole][:6] for motif in (0, 1)]
    names = ('"><script>', "Mo")
    named = result.like({name: [tuple(at) for at in places] for name, places in zip(names, of, strict=True)})
    html = named._repr_html_()
    assert "<script>" not in html
    assert sum('px: "><script>, motif' in spot["title"] for spot in Elements(html).of("span")) >= 6
