from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.text import Text

import torchmotif as tm
from torchmotif.hierarchy import compose
from torchmotif.plot import atlas, cells, growth, inclusions, levels
from torchmotif.statistics import assembly_statistics

Lattice = Callable[[str, int], np.ndarray]


@pytest.fixture(scope="module")
def hierarchy() -> tm.MotifHierarchy:
    specimen = tm.datasets.mose2((300, 300))
    graph = tm.PlaneGraph.from_positions(specimen.truth.positions, specimen.truth.kinds.astype(str))
    return tm.MotifHierarchy(3).fit(graph)


def texts(ax: object) -> list[str]:
    return [text.get_text() for text in ax.findobj(Text)]  # type: ignore[attr-defined]


def test_every_inner_column_has_its_cell(hierarchy: tm.MotifHierarchy) -> None:
    image = tm.datasets.mose2((300, 300)).image
    ax = cells(hierarchy.graph_, image=image)
    assert sum(len(kind.get_paths()) for kind in ax.collections) == (~hierarchy.graph_.rim).sum()
    assert {text.get_text() for text in ax.get_legend().get_texts()} == {"Mo", "Se2", "V_Se"}
    assert "1 nm" in texts(ax)
    with pytest.raises(tm.errors.InputError, match="kinds must hold"):
        cells(hierarchy.graph_, [1, 2])


def test_scale_bar_is_in_pixels_without_calibration(hierarchy: tm.MotifHierarchy) -> None:
    assert "50 px" in texts(cells(hierarchy.graph_))


def test_levels_inclusions_atlas_and_growth_are_drawn(hierarchy: tm.MotifHierarchy) -> None:
    graph = hierarchy.graph_
    composition = compose(graph)
    assert len(levels(graph, composition)) == len(composition.levels)
    names = [text.get_text() for text in inclusions(graph, hierarchy.inclusions_).get_legend().get_texts()]
    assert names[0] == f"V_Se: {hierarchy.inclusions_.counts[0]}"
    statistics = assembly_statistics(hierarchy, n_samples=20)
    titles = [ax.get_title() for ax in atlas(hierarchy, statistics, n=6)]
    assert titles[0].startswith(f"{hierarchy.levels_[1].counts[0]}\nz ")
    assert growth(hierarchy, statistics).get_legend() is not None
    with pytest.raises(tm.errors.InputError, match="no assemblies of 9"):
        atlas(hierarchy, statistics, least_size=9)
