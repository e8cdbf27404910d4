import builtins
import json
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest

import torchmotif as tm
from torchmotif.export import (
    assembly_atoms,
    cells_geojson,
    to_atoms,
    write_graphml,
    write_json,
    write_structure,
)
from torchmotif.statistics import assembly_statistics, growth_graph

STACKS = {
    "Mo": [("Mo", 0.0)],
    "Se2": [("Se", 1.67), ("Se", -1.67)],
    "V_Se": [("Se", 1.67)],
}


@pytest.fixture(scope="module")
def specimen() -> Any:
    return tm.datasets.mose2((300, 300), rotation_rad=0.0)


@pytest.fixture(scope="module")
def hierarchy(specimen: Any) -> tm.MotifHierarchy:
    graph = tm.PlaneGraph.from_positions(specimen.truth.positions, specimen.truth.kinds.astype(str))
    return tm.MotifHierarchy(4).fit(graph)


@pytest.mark.parametrize("suffix", ["extxyz", "xyz", "cif"])
def test_structure_is_read_back(specimen: Any, tmp_path: Path, suffix: str) -> None:
    ase_io = pytest.importorskip("ase.io")
    truth = specimen.truth
    atoms = to_atoms(truth.positions, truth.kinds, STACKS, pixel_size_nm=0.015)
    path = tmp_path / f"mose2.{suffix}"
    write_structure(path, atoms)
    read = ase_io.read(path)
    vacancies = (truth.kinds == "V_Se").sum()
    assert vacancies > 5
    symbols = read.symbols.formula.count()
    assert symbols == {
        "Mo": (truth.kinds == "Mo").sum(),
        "Se": 2 * (truth.kinds == "Se2").sum() + vacancies,
    }
    assert np.abs(read.positions - atoms.positions).max() < 1e-3
    plane = read.positions[:, :2] - read.positions[0, :2]
    column = atoms.arrays["column"]
    truth_plane = truth.positions.numpy()[column][:, ::-1] * [0.15, -0.15]
    assert np.abs(plane - (truth_plane - truth_plane[0])).max() < 0.1


def test_axes_are_as_seen() -> None:
    pytest.importorskip("ase")
    atoms = to_atoms(
        [[0, 0], [0, 10], [-10, 0]], [1, 2, 3], {i: [("C", 0.0)] for i in (1, 2, 3)}, pixel_size_nm=0.01
    )
    assert atoms.positions[1] - atoms.positions[0] == pytest.approx([1, 0, 0])
    assert atoms.positions[2] - atoms.positions[0] == pytest.approx([0, 1, 0])


def test_models_of_an_assembly(hierarchy: tm.MotifHierarchy) -> None:
    pytest.importorskip("ase")
    level = hierarchy.levels_[3]
    index = next(i for i, (labels, _) in enumerate(level.codes) if sorted(labels) == ["Mo"] * 3 + ["V_Se"])
    finite = assembly_atoms(hierarchy, 4, index, STACKS, pixel_size_nm=0.015, shells=0)
    assert finite.get_chemical_formula() == "Mo3Se"
    assert not finite.pbc.any()
    a = 0.3289 / 0.015
    cell = 4 * np.array([[0, a], [-a * 3**0.5 / 2, a / 2]])
    for occurrence in range(min(3, int(level.counts[index]))):
        try:
            model = assembly_atoms(
                hierarchy, 4, index, STACKS, pixel_size_nm=0.015, cell=cell, occurrence=occurrence
            )
        except tm.errors.InputError as error:
            assert "cell reaches beyond" in str(error)  # noqa: PT017
            continue
        assert model.symbols.formula.count()["Mo"] == 16
        assert model.pbc.tolist() == [True, True, False]
        distances = model.get_all_distances(mic=True) + 9 * np.eye(len(model))
        assert distances.min() == pytest.approx(2.53, abs=0.02)  # Mo-Se across the sides, too


def test_graphs_and_polygons_are_written(hierarchy: tm.MotifHierarchy, tmp_path: Path) -> None:
    growth = growth_graph(hierarchy, assembly_statistics(hierarchy, n_samples=20))
    write_graphml(tmp_path / "growth.graphml", growth)
    read = nx.read_graphml(tmp_path / "growth.graphml")
    assert nx.is_isomorphic(read, growth)
    assert read.nodes["2.0"]["labels"] == ".".join(hierarchy.levels_[1].codes[0][0])
    write_json(tmp_path / "levels.json", hierarchy)
    assert len(json.loads((tmp_path / "levels.json").read_text())["levels"]) == 4
    graph = hierarchy.graph_
    cells = json.loads(cells_geojson(graph))["features"]
    assert len(cells) == (~graph.rim).sum()
    middle = graph.positions[[cell["properties"]["node"] for cell in cells]]
    deep = int(
        np.abs(middle - graph.positions.mean(axis=0)).max(axis=1).argmin()
    )  # cells at the rim lack corners
    ring = np.array(cells[deep]["geometry"]["coordinates"][0])
    assert ring[0].tolist() == ring[-1].tolist()
    assert np.abs(ring[:-1].mean(axis=0)[::-1] - middle[deep]).max() < 1


def test_bad_input_is_refused(hierarchy: tm.MotifHierarchy, tmp_path: Path) -> None:
    pytest.importorskip("ase")
    points = [[0, 0], [0, 10]]
    with pytest.raises(tm.errors.InputError, match="missing"):
        to_atoms(points, ["Mo", "W"], STACKS, pixel_size_nm=0.015)
    with pytest.raises(tm.errors.InputError, match="one label for each"):
        to_atoms(points, ["Mo"], STACKS, pixel_size_nm=0.015)
    with pytest.raises(tm.errors.InputError, match="pixel_size_nm must be positive"):
        to_atoms(points, ["Mo", "Mo"], STACKS, pixel_size_nm=0.0)
    with pytest.raises(tm.errors.InputError, match="span an area"):
        to_atoms(points, ["Mo", "Mo"], STACKS, pixel_size_nm=0.015, cell=[[1, 0], [2, 0]])
    with pytest.raises(tm.errors.InputError, match="no assembly"):
        assembly_atoms(hierarchy, 9, 0, STACKS, pixel_size_nm=0.015)
    with pytest.raises(tm.errors.InputError, match="occurrence must be"):
        assembly_atoms(hierarchy, 2, 0, STACKS, pixel_size_nm=0.015, occurrence=10**6)
    with pytest.raises(tm.errors.InputError, match="reaches beyond"):
        assembly_atoms(hierarchy, 2, 0, STACKS, pixel_size_nm=0.015, cell=[[900, 0], [0, 900]])
    atoms = to_atoms(points, ["Mo", "Mo"], STACKS, pixel_size_nm=0.015)
    with pytest.raises(tm.errors.OutputError, match="cannot write"):
        write_structure(tmp_path / "nowhere" / "a.cif", atoms)


def test_missing_ase_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **options: Any) -> Any:
        if name == "ase":
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(tm.errors.MissingDependencyError, match=r"pip install 'torchmotif\[export\]'"):
        to_atoms([[0, 0]], ["Mo"], STACKS, pixel_size_nm=0.015)
