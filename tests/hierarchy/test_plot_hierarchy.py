from collections.abc import Callable, Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest

import torchmotif as tm
from torchmotif.hierarchy import compose
from torchmotif.plot_hierarchy import plot_atlas, plot_cells, plot_growth, plot_inclusions, plot_levels
from torchmotif.statistics import assembly_statistics

Lattice = Callable[[str, int], np.ndarray]


@pytest.fixture(scope="module")
def hierarchy() -> tm.MotifHierarchy:
    specimen = tm.datasets.mose2((300, 300))
    graph = tm.PlaneGraph.from_positions(specimen.truth.positions, specimen.truth.kinds.astype(str))
    return tm.MotifHierarchy(3).fit(graph)


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


def test_every_inner_column_has_its_cell(hierarchy: tm.MotifHierarchy) -> None:
    image = tm.datasets.mose2((300, 300)).image
    ax = plot_cells(hierarchy.graph_, image=image)
    assert len(ax.collections[0].get_paths()) == (~hierarchy.graph_.rim).sum()
    assert {text.get_text() for text in ax.get_legend().get_texts()} == {"Mo", "Se2", "V_Se"}
    assert [text.get_text() for text in ax.texts] == ["0.5 nm"]
    with pytest.raises(tm.errors.InputError, match="kinds must hold"):
        plot_cells(hierarchy.graph_, [1, 2])


def test_scale_bar_is_in_pixels_without_calibration(hierarchy: tm.MotifHierarchy) -> None:
    assert [text.get_text() for text in plot_cells(hierarchy.graph_).texts] == ["50 px"]


def test_levels_inclusions_atlas_and_growth_are_drawn(hierarchy: tm.MotifHierarchy) -> None:
    graph = hierarchy.graph_
    composition = compose(graph)
    assert len(plot_levels(graph, composition).axes) == len(composition.levels)
    names = [
        text.get_text() for text in plot_inclusions(graph, hierarchy.inclusions_).get_legend().get_texts()
    ]
    assert names[0] == f"V_Se: {hierarchy.inclusions_.counts[0]}"
    statistics = assembly_statistics(hierarchy, n_samples=20)
    titles = [ax.get_title() for ax in plot_atlas(hierarchy, statistics, n=6).axes]
    assert titles[0].startswith(f"{hierarchy.levels_[1].counts[0]}\nz ")
    assert len(plot_growth(hierarchy, statistics).axes) == 1
    with pytest.raises(tm.errors.InputError, match="no assemblies of 9"):
        plot_atlas(hierarchy, statistics, least_size=9)
