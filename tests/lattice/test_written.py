"""What the columns do inside motifs as a user gets it: tables, pictures, the report's layers, napari."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import pyplot as plt

import torchmotif as tm
from torchmotif.errors import TorchMotifWarning
from torchmotif.napari import inside_layers as napari_layers
from torchmotif.report.inside import inside_layers as report_layers


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


def analysed(specimen: Any) -> tm.MotifResult:
    return tm.analyze(specimen.draw(generator=torch.Generator().manual_seed(0)), progress=False)


@pytest.fixture(scope="module")
def polar() -> tm.MotifResult:
    return analysed(tm.datasets.polar_perovskite((256, 256), displacement_pm=15.0))


@pytest.fixture(scope="module")
def bilayer() -> tm.MotifResult:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TorchMotifWarning)  # its columns overlap
        return analysed(tm.datasets.twisted_bilayer_mos2(0.12, (300, 300)))


def test_polar_domains_on_one_lattice_are_one_grain_and_their_columns_are_displaced(
    polar: tm.MotifResult,
) -> None:
    assert len(polar.grains) == 1
    assert polar.columns.is_fixed is not None
    assert polar.columns.is_fixed.sum() > 50  # oxygen, whose places were not fitted, makes no displacement
    assert polar.displacements().known.sum() > 100


def test_a_polar_crystal_is_written_whole(polar: tm.MotifResult, tmp_path: Path) -> None:
    polar.save(tmp_path / "out", inside=True, report=False)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    tables = {"grains", "boundaries", "dislocations", "strain", "displacement", "polarisation"}
    assert {f"{name}.csv" for name in tables} <= names
    assert {f"{name}.png" for name in ("grains", "strain", "displacement", "polarisation")} <= names
    assert "layers.csv" not in names
    columns = pd.read_csv(tmp_path / "out" / "columns.csv")
    assert (columns["grain"] == polar.grains.labels).all()
    assert "layer" not in columns
    assert len(tm.MotifResult.load(tmp_path / "out").columns) == len(columns)


def test_what_has_no_lattice_is_written_with_a_warning(tmp_path: Path) -> None:
    result = analysed(tm.datasets.colloid((200, 200)))
    with pytest.warns(TorchMotifWarning, match="no lattice"):
        result.save(tmp_path / "out", inside=True, report=False)
    assert (tmp_path / "out" / "columns.csv").is_file()
    assert not (tmp_path / "out" / "grains.csv").exists()


@pytest.mark.filterwarnings("ignore:grains")
def test_layers_have_a_table_a_picture_and_a_place_in_columns_and_report(
    bilayer: tm.MotifResult, tmp_path: Path
) -> None:
    layers = bilayer.layers
    bilayer.save(tmp_path / "out", inside=True, report=False)
    assert (tmp_path / "out" / "layers.png").is_file()
    table = pd.read_csv(tmp_path / "out" / "layers.csv")
    assert table["columns"].tolist() == [((layers.labels == i) & ~layers.shared).sum() for i in (0, 1)]
    assert table["a_nm"].to_numpy() == pytest.approx(0.316, abs=0.001)
    turned = table["orientation_deg"][1] - table["orientation_deg"][0]
    assert (turned - table["twist_deg"][1] + 30) % 60 == pytest.approx(30, abs=1e-6)
    columns = pd.read_csv(tmp_path / "out" / "columns.csv")
    assert (columns["layer"] == layers.labels).all()
    assert (columns["both_layers"] == layers.shared).all()
    axes = tm.plot.layer_map(
        layers, image=bilayer.image.measured(), pixel_size_nm=bilayer.image.pixel_size_nm
    )
    legend = axes.get_legend()
    assert legend is not None
    assert any("both" in text.get_text() for text in legend.get_texts())
    marks = next(values for _, values, _ in napari_layers(bilayer) if values["name"] == "layers")
    assert ((marks["features"]["layer"] == "both layers") == layers.shared).all()
    shown = next(one for one in report_layers(bilayer, 3) if one["name"] == "layers")
    assert shown["words"][2] == "both layers"
    assert (shown["values"][:-3, 0] == layers.parts).all()


def test_layers_of_the_report_have_a_word_for_each_class(polar: tm.MotifResult) -> None:
    shown = {one["name"]: one for one in report_layers(polar, 0)}
    assert {"grains", "displacement", "polarisation", "rotation"} <= set(shown)
    assert "layers" not in shown  # one lattice explains the columns
    for one in shown.values():
        assert len(one["values"]) == len(one["errors"]) == len(polar.columns)
    assert shown["grains"]["words"] == [f"grain 0, {polar.grains[0].orientation_deg[0]:.2f}°"]


def test_pictures_of_fields_say_what_is_shown(polar: tm.MotifResult) -> None:
    field = polar.polarisation()
    axes = tm.plot.displacement_map(field, smooth=26.0)
    assert "significant" in " ".join(text.get_text() for text in axes.texts)
    for one in tm.plot.strain_map(polar.strain(), components=("shear", "rotation_rad")):
        assert "±" in one.get_title()
    line = tm.plot.profile(field.profile(0.1, width=26.0), ("row_shift_px",), pixel_size_nm=0.015, xlabel="x")
    assert line.get_xlabel() == "x, nm"
    kinds = np.where(np.arange(len(polar.columns)) % 2 == 0, 1, -1)
    assert tm.plot.phase_map(polar.columns.positions, kinds).get_legend() is not None
    with pytest.raises(tm.errors.InputError, match="shape"):
        tm.plot.phase_map(polar.columns.positions, kinds[1:])


def test_napari_gets_arrows_and_points(polar: tm.MotifResult) -> None:
    assert [kind for _, _, kind in napari_layers(polar)] == ["shapes", "vectors"]
    (_, _, first), (place, values, second) = napari_layers(polar, polar.strain())
    assert (first, second) == ("shapes", "points")
    assert len(place) == len(values["features"]) > 100


def test_a_component_may_be_named_alone_and_keeps_its_unit(polar: tm.MotifResult) -> None:
    (axes,) = tm.plot.strain_map(polar.strain(), components="shear")
    assert axes.get_title().startswith("shear, %")
    field = polar.polarisation()
    (axes,) = tm.plot.strain_map(field, components="row_shift_px", level=None)
    (marks,) = (one for one in axes.collections if len(one.get_offsets()) > 0)
    assert np.sort(np.asarray(marks.get_array())) == pytest.approx(np.sort(field.values[field.known, 0]))
    with pytest.raises(tm.errors.InputError, match="got \\['exx'\\]"):
        tm.plot.strain_map(polar.strain(), components="exx")
    with pytest.raises(tm.errors.InputError, match="displacements"):
        tm.plot.displacement_map(polar.strain())  # type: ignore[arg-type]


def test_domains_of_polarisation_are_classes(polar: tm.MotifResult) -> None:
    field = polar.polarisation()
    cations = np.zeros(len(polar.labels), bool)
    cations[field.columns] = True
    found = polar.split(cations, by="polarisation")
    assert len(found) == 2
    assert "no more" in repr(found)
    up = field.values[:, 0] < 0
    same = (found.labels[field.columns] == 0) == up
    assert max(same.mean(), 1 - same.mean()) > 0.95


@pytest.mark.parametrize("constants", [{"a_nm": 3.905}, {"a_nm": 0.3905, "gamma_deg": 120.0}])
def test_lattice_constants_that_no_grain_has_are_refused(
    polar: tm.MotifResult, constants: dict[str, float]
) -> None:
    assert polar.strain({"a_nm": 0.3905}).known.any()
    with pytest.raises(tm.errors.InputError, match="gamma_deg"):
        polar.strain(constants)
