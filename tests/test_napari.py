"""The napari plugin: its layers, its reader and its manifest; napari itself is not needed."""

import tomllib
from importlib import import_module
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import yaml

import torchmotif as tm
from torchmotif import napari as plugin


@pytest.fixture(scope="module")
def result() -> tm.MotifResult:
    return tm.analyze(tm.datasets.mose2((160, 160), vacancy_rate=0.0).draw(), progress=False)


def test_the_columns_are_one_layer_in_the_colours_of_their_motifs(result: tm.MotifResult) -> None:
    ((data, values, _),) = (layer for layer in plugin.motif_layers(result) if layer[2] == "points")
    features = values["features"]
    columns = features["column"].to_numpy()
    assert sorted(columns) == list(range(len(result.columns)))
    np.testing.assert_array_equal(result.columns.positions[columns], data)
    np.testing.assert_array_equal(features["motif"], result.labels[columns])
    for motif in set(result.labels.tolist()):
        here = features["motif"].to_numpy() == motif
        assert set(np.array(values["face_color"])[here]) == {tm.plot.motif_style(motif).colour}
    assert features["motif"].is_monotonic_increasing  # the rarest are drawn last, on top
    assert values["scale"] == result.image.pixel_size_nm


def test_every_mean_patch_is_on_the_sheet_beside_the_image(result: tm.MotifResult) -> None:
    sheet, values, _ = plugin.motif_layers(result)[0]
    size = result.templates.shape[1]
    for motif, patch in enumerate(result.templates):
        row = motif * (size + 2)
        np.testing.assert_array_equal(sheet[row : row + size, :size], patch)
    assert values["translate"][1] > result.image.shape[1] * result.image.pixel_size_nm[1]


def test_without_calibration_layers_have_no_unit() -> None:
    assert plugin.image_layer(tm.Micrograph(np.zeros((8, 8))))[1] == {"name": "image"}


def test_a_saved_result_opens_as_its_layers(result: tm.MotifResult, tmp_path: Path) -> None:
    result.save(tmp_path / "result")
    path = str(tmp_path / "result")
    opened = plugin.reader(path)(path)
    assert [kind for _, _, kind in opened] == ["image", "image", "points"]
    assert opened[0][1]["name"] == "result"


def test_images_open_one_or_several(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("a.npy", "b.npy")]
    for path in paths:
        np.save(path, np.zeros((8, 9), np.uint16))
    assert [values["name"] for _, values, _ in plugin.reader(paths)(paths)] == ["a", "b"]


def test_other_folders_and_missing_files_are_left_to_other_plugins(tmp_path: Path) -> None:
    assert plugin.reader(str(tmp_path)) is None
    assert plugin.reader(str(tmp_path / "none.npy")) is None


def test_the_sample_is_an_image() -> None:
    ((data, values, kind),) = plugin.sample()
    assert kind == "image"
    assert data.shape == (512, 512)
    assert values["units"] == ("nm", "nm")


def test_the_manifest_names_what_is_there_and_is_announced() -> None:
    manifest = yaml.safe_load((files("torchmotif") / "napari.yaml").read_text())
    contributions = manifest["contributions"]
    commands = {command["id"]: command["python_name"] for command in contributions["commands"]}
    for python_name in commands.values():
        module, name = python_name.split(":")
        assert callable(getattr(import_module(module), name))
    for use in ("readers", "widgets", "sample_data"):
        assert {item["command"] for item in contributions[use]} <= set(commands)
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    assert manifest["name"] == project["name"]
    assert project["entry-points"]["napari.manifest"] == {"torchmotif": "torchmotif:napari.yaml"}
