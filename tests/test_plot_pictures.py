"""Every picture against one that was looked at. Texts are left out: fonts differ between machines."""

from collections.abc import Callable, Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.testing.compare import compare_images
from matplotlib.text import Text

import torchmotif as tm
from torchmotif import plot
from torchmotif.hierarchy import compose
from torchmotif.statistics import assembly_statistics

BASELINE = Path(__file__).parent / "baseline"
TOLERANCE = 8.0  # root mean square of the difference, of 255


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


def honeycomb() -> tuple[np.ndarray, np.ndarray]:
    """Positions and labels of a small honeycomb with some vacancies."""
    row, col = np.mgrid[0:9, 0:10]
    cell = np.stack([row * 15.0 + 8, col * 17.3 + (row % 2) * 8.66 + 4], axis=-1).reshape(-1, 2)
    positions = np.concatenate([cell, cell + np.array([10.0, 0.0])])
    labels = np.repeat([0, 1], len(cell))
    labels[[100, 113, 127, 131]] = 2
    return positions, labels


@pytest.fixture(scope="module")
def graph() -> tm.PlaneGraph:
    return tm.PlaneGraph.from_positions(*honeycomb())


def image() -> np.ndarray:
    positions, labels = honeycomb()
    row, col = np.mgrid[0:140, 0:180]
    values = np.zeros((140, 180))
    for (r, c), label in zip(positions, labels, strict=True):
        values += (1.0, 0.6, 0.2)[label] * np.exp(-((row - r) ** 2 + (col - c) ** 2) / 18)
    return values


def axes(width: float = 3.0, height: float = 2.4) -> Axes:
    return Figure(figsize=(width, height), dpi=72).add_axes((0.08, 0.08, 0.88, 0.88))


def motif_map(_: tm.PlaneGraph) -> Axes:
    positions, labels = honeycomb()
    return plot.motif_map(image(), positions, labels, spacing=10.0, pixel_size_nm=(0.02, 0.02), ax=axes())


def forty_motifs(_: tm.PlaneGraph) -> Axes:
    positions, _labels = honeycomb()
    return plot.motif_map(
        image(), positions, np.arange(len(positions)) % 41 - 1, spacing=14.0, ax=axes(6, 4.8)
    )


def motif_gallery(_: tm.PlaneGraph) -> Axes:
    row, col = np.mgrid[-8:9, -8:9]
    patches = np.stack([np.exp(-(row**2 + col**2) / width) for width in (8.0, 30.0, 60.0)])
    figure = Figure(figsize=(4.5, 1.8), dpi=72)
    drawn = plot.motif_gallery(patches, np.array([50, 20, 0]), pixel_size_nm=(0.02, 0.02), figure=figure)
    return drawn[0]


def moment_layout(_: tm.PlaneGraph) -> Axes:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(-1, 9), 12)
    points = rng.normal(size=(120, 2)) + 6 * np.stack([labels % 3, labels // 3], axis=1)
    return plot.moment_layout(points, labels, ax=axes())


def moment_spectrum(_: tm.PlaneGraph) -> Axes:
    orders = np.array([(n, m) for n in range(7) for m in range(-n, n + 1, 2)])
    power = 10.0 ** (4 - orders[:, 0])
    return plot.moment_spectrum(orders, power, power**0.5, np.full(len(orders), 0.3), ax=axes())


def symmetry_maps(_: tm.PlaneGraph) -> Axes:
    row, col = np.mgrid[0:40, 0:50] / 8.0
    maps = np.stack([np.sin(row) * np.sin(col), np.cos(row) ** 2])
    maps[:, :4] = np.nan
    figure = Figure(figsize=(5, 2), dpi=72)
    return plot.symmetry_maps(maps, (2, 3), pixel_size_nm=(0.02, 0.02), figure=figure)[0]


def dose_curves(_: tm.PlaneGraph) -> Axes:
    scores = np.clip(np.linspace(1.2, 0.1, 20).reshape(4, 5) - 0.05 * np.arange(5), 0, 1)
    return plot.dose_curves((0.5, 0.2, 0.1, 0.02), scores, (900, 400, 80, 20, 9), survives=0.8, ax=axes())


def cells(graph: tm.PlaneGraph) -> Axes:
    return plot.cells(graph, image=image(), pixel_size_nm=0.02, ax=axes())


def levels(graph: tm.PlaneGraph) -> Axes:
    composition = compose(graph)
    figure = Figure(figsize=(3.0 * len(composition.levels), 2.4), dpi=72)
    return plot.levels(
        graph, composition, axes=figure.subplots(1, len(composition.levels), squeeze=False)[0]
    )[0]


def inclusions(graph: tm.PlaneGraph) -> Axes:
    return plot.inclusions(graph, tm.MotifHierarchy(1, matrix=[0, 1]).fit(graph).inclusions_, ax=axes())


def atlas(graph: tm.PlaneGraph) -> Axes:
    hierarchy = tm.MotifHierarchy(3).fit(graph)
    figure = Figure(figsize=(6.0, 3.4), dpi=72)
    return plot.atlas(hierarchy, assembly_statistics(hierarchy, n_samples=20), n=8, figure=figure)[0]


def growth(graph: tm.PlaneGraph) -> Axes:
    hierarchy = tm.MotifHierarchy(3).fit(graph)
    return plot.growth(hierarchy, assembly_statistics(hierarchy, n_samples=20), ax=axes())


PICTURES: list[Callable[[tm.PlaneGraph], Axes]] = [
    motif_map, forty_motifs, motif_gallery, moment_layout, moment_spectrum, symmetry_maps, dose_curves, cells,
    levels, inclusions, atlas, growth,
]  # fmt: skip


@pytest.mark.skipif(
    mpl.__version_info__ < (3, 11), reason="matplotlib before 3.11 puts images half a pixel elsewhere"
)
@pytest.mark.parametrize("draw", PICTURES, ids=lambda draw: draw.__name__)
def test_the_picture_is_as_it_was(
    draw: Callable[[tm.PlaneGraph], Axes], graph: tm.PlaneGraph, tmp_path: Path
) -> None:
    figure = plot.figure_of(draw(graph))
    for artist in (*figure.findobj(Text), *figure.findobj(Legend)):
        artist.set_visible(False)
    drawn = tmp_path / f"{draw.__name__}.png"
    figure.savefig(drawn, dpi=72)
    expected = BASELINE / drawn.name
    assert expected.exists(), f"there is no {expected}: look at {drawn} and put it there"
    assert compare_images(str(expected), str(drawn), TOLERANCE) is None


@pytest.mark.parametrize("draw", PICTURES, ids=lambda draw: draw.__name__)
def test_the_picture_is_of_vectors(
    draw: Callable[[tm.PlaneGraph], Axes], graph: tm.PlaneGraph, tmp_path: Path
) -> None:
    plot.figure_of(draw(graph)).savefig(tmp_path / "picture.pdf")
    assert (tmp_path / "picture.pdf").read_bytes().count(b"/Subtype /Image") <= 4  # images, never marks


def test_a_motif_has_one_colour_in_all_pictures(graph: tm.PlaneGraph) -> None:
    wanted = {plot.motif_style(motif).colour.lower() for motif in range(3)}
    from matplotlib.colors import to_hex

    for draw in (motif_map, cells):
        found = {to_hex(colour) for mark in draw(graph).collections for colour in mark.get_facecolor()}
        assert wanted <= found, draw.__name__
