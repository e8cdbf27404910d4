import json
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from numpy.testing import assert_array_equal
from scipy.spatial import cKDTree
from sklearn.metrics import adjusted_mutual_info_score

import torchmotif as tm
from torchmotif.errors import InputError, OutputError, ReadError, TorchMotifWarning


@pytest.fixture(scope="module")
def specimen() -> tm.datasets.Specimen:
    return tm.datasets.mose2((320, 300), pixel_size_nm=0.02, vacancy_rate=0.06)


@pytest.fixture(scope="module")
def scan(specimen: tm.datasets.Specimen) -> tm.Micrograph:
    return specimen.draw(generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def result(scan: tm.Micrograph) -> tm.MotifResult:
    return tm.analyze(scan, progress=False)


def test_sites_of_a_simulated_specimen_are_told_apart(
    specimen: tm.datasets.Specimen, result: tm.MotifResult
) -> None:
    distance, nearest = cKDTree(specimen.truth.positions.numpy()).query(result.columns.positions)
    inside = (
        (result.columns.positions > 5) & (result.columns.positions < np.array(result.image.shape) - 6)
    ).all(axis=1)
    assert (distance[inside] < 1.5).mean() > 0.99
    inner = result.whole & (result.labels >= 0)
    kinds = specimen.truth.kinds[nearest[inner]]
    found = {kind: set(result.labels[inner][kinds == kind].tolist()) for kind in ("Mo", "Se2", "V_Se")}
    sites = [{motif for motif in found[kind] if (result.labels == motif).sum() > 5} for kind in found]
    assert not set.intersection(sites[0], sites[1])
    most = np.bincount(result.labels[inner][kinds == "V_Se"]).argmax()
    assert (kinds[result.labels[inner] == most] == "V_Se").mean() > 0.9


def test_a_perfect_crystal_has_two_motifs() -> None:
    perfect = tm.datasets.mose2((320, 300), pixel_size_nm=0.02, vacancy_rate=0.0)
    found = tm.analyze(perfect.draw(generator=torch.Generator().manual_seed(2)), progress=False)
    assert found.n_motifs == 2


def test_numpy_and_torch_images_give_the_same(scan: tm.Micrograph, result: tm.MotifResult) -> None:
    bare = tm.analyze(scan.numpy(), progress=False)
    assert_array_equal(bare.labels, result.labels)
    assert bare.image.pixel_size is None
    assert isinstance(result.labels, np.ndarray)


def test_columns_at_the_rim_are_labelled_from_what_is_there_of_their_patch(
    specimen: tm.datasets.Specimen, result: tm.MotifResult
) -> None:
    half = result.record["found"]["patch_size_px"] / 2
    rows, cols = result.image.shape
    edge = np.minimum(result.columns.positions, [rows - 1, cols - 1] - result.columns.positions).min(axis=1)
    rim = (edge < half - 1.5) & (result.labels >= 0)
    assert not result.whole[rim].any()
    kinds = specimen.truth.kinds[cKDTree(specimen.truth.positions.numpy()).query(result.columns.positions)[1]]
    heavy = np.array(
        [(kinds[result.whole & (result.labels == m)] == "Mo").mean() for m in range(result.n_motifs)]
    )
    right = (heavy[result.labels[rim]] > 0.5) == (kinds[rim] == "Mo")
    assert right.mean() > 0.95
    assert (result.labels[edge < half - 1.5] >= 0).mean() > 0.5
    assert (result.probabilities[result.labels == -1] == 0).all()
    assert any("rim" in note for note in result.record["notes"])


def test_the_table_has_nanometres_where_the_image_is_calibrated(result: tm.MotifResult) -> None:
    table = result.to_dataframe()
    assert list(table) == [
        "row_px",
        "col_px",
        "row_nm",
        "col_nm",
        "intensity",
        "motif",
        "probability",
        "family",
        "site",
        "at_rim",
    ]
    np.testing.assert_allclose(table["row_nm"], table["row_px"] * 0.02)
    assert result.counts.sum() == (table["motif"] >= 0).sum()


def test_families_are_told_and_saved(result: tm.MotifResult, tmp_path: Path) -> None:
    """Mo beside a vacancy is one motif in three directions."""
    turned = [family for family in result.families if len(family.motifs) > 1]
    assert sorted(motif for family in result.families for motif in family.motifs) == list(
        range(result.n_motifs)
    )
    assert len(turned) == 1
    assert len(turned[0].motifs) == 3
    assert np.diff(np.rad2deg(sorted(turned[0].angles_rad))) == pytest.approx(120, abs=6)
    table = result.to_dataframe()
    assert set(table["family"][table["motif"].isin(turned[0].motifs)]) == {turned[0].motifs[0]}
    assert (table["family"][table["motif"] < 0] == -1).all()
    result.save(tmp_path / "out", report=False)
    assert tm.MotifResult.load(tmp_path / "out").families == result.families


def test_a_saved_result_comes_back_whole(result: tm.MotifResult, tmp_path: Path) -> None:
    result.save(tmp_path / "out")
    names = {
        "columns.csv",
        "empty_sites.csv",
        "map.png",
        "motifs.png",
        "sites.csv",
        "sites.png",
        "report.html",
        "templates.safetensors",
        "arrays.safetensors",
        "run.json",
    }
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    loaded = tm.MotifResult.load(tmp_path / "out")
    for name in ("labels", "probabilities", "templates"):
        assert_array_equal(getattr(loaded, name), getattr(result, name))
        assert getattr(loaded, name).dtype == getattr(result, name).dtype
    assert_array_equal(loaded.columns.positions, result.columns.positions)
    assert_array_equal(loaded.columns.intensities, result.columns.intensities)
    assert loaded.columns.spacing == result.columns.spacing
    assert_array_equal(loaded.image.numpy(), result.image.numpy())
    assert loaded.image.pixel_size_nm == result.image.pixel_size_nm
    assert loaded.image.electrons_per_pixel == result.image.electrons_per_pixel
    assert loaded.record == json.loads(json.dumps(result.record))


def test_motifs_up_to_mirror_images_come_with_their_angles(tmp_path: Path) -> None:
    perfect = tm.datasets.mose2((240, 230), pixel_size_nm=0.02, vacancy_rate=0.0)
    scan = perfect.draw(generator=torch.Generator().manual_seed(3))
    found = tm.analyze(scan, equivalence="euclidean", progress=False)
    assert found.angles is not None
    assert found.mirrored is not None
    has_motif = found.labels >= 0
    assert_array_equal(np.isfinite(found.angles), has_motif)
    # One crystal: every column lies as the others, up to the motif's symmetry.
    for motif in range(found.n_motifs):
        turned = np.exp(3j * found.angles[found.labels == motif])
        assert abs(turned.mean()) > 0.9
    table = found.to_dataframe()
    np.testing.assert_allclose(table["angle_deg"], np.degrees(found.angles))
    assert_array_equal(table["mirrored"], found.mirrored)
    found.save(tmp_path / "out", report=False)
    loaded = tm.MotifResult.load(tmp_path / "out")
    assert_array_equal(loaded.angles, found.angles)
    assert_array_equal(loaded.mirrored, found.mirrored)
    assert "mirrored" not in tm.analyze(scan, equivalence="rotation", progress=False).to_dataframe()


def test_the_record_tells_how_to_repeat_the_run(result: tm.MotifResult, scan: tm.Micrograph) -> None:
    again = tm.analyze(scan, progress=False, **result.record["parameters"])
    assert_array_equal(again.labels, result.labels)
    assert again.record["input"]["pixels_sha256"] == result.record["input"]["pixels_sha256"]
    assert set(result.record["timings_s"]) == {"columns", "patches", "motifs", "checks"}
    assert "torch" in result.record["versions"]


def test_a_folder_that_exists_is_kept(result: tm.MotifResult, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result.save(out, report=False)
    with pytest.raises(OutputError, match="exists"):
        result.save(out, report=False)
    result.save(out, overwrite=True, report=False)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_of_somebody_else_is_never_replaced(result: tm.MotifResult, tmp_path: Path) -> None:
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter1.txt").write_text("years of work")
    with pytest.raises(OutputError, match="not a folder of results"):
        result.save(thesis, overwrite=True, report=False)
    assert (thesis / "chapter1.txt").read_text() == "years of work"


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("disk full")])
def test_a_save_that_breaks_off_leaves_nothing(
    result: tm.MotifResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises((KeyboardInterrupt, OutputError)):
        result.save(tmp_path / "deep" / "out", report=False)
    assert not (tmp_path / "deep" / "out").exists()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["run.json", "templates.safetensors", "arrays.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "cut", "rubbish"])
def test_a_damaged_folder_is_refused(result: tm.MotifResult, tmp_path: Path, name: str, damage: str) -> None:
    result.save(tmp_path / "out", report=False)
    path = tmp_path / "out" / name
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 - 3])
    else:
        path.write_bytes(b"\x00rubbish" * 50)
    with pytest.raises(ReadError):
        tm.MotifResult.load(tmp_path / "out")


def test_a_folder_of_a_later_version_is_refused(result: tm.MotifResult, tmp_path: Path) -> None:
    result.save(tmp_path / "out", report=False)
    path = tmp_path / "out" / "run.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(ReadError, match="later version"):
        tm.MotifResult.load(tmp_path / "out")


def test_it_draws_itself_in_a_notebook(result: tm.MotifResult) -> None:
    html = result._repr_html_()
    assert html.count("data:image/png;base64,") == 2
    assert f"{result.n_motifs} motifs" in html


def test_the_hierarchy_counts_neighbouring_motifs(result: tm.MotifResult) -> None:
    first = result.hierarchy.levels_[0]
    assert 0 < int(first.counts.sum()) < result.whole.sum()  # the outermost of them have no cell
    assert len(result.hierarchy.levels_) == 3


def test_the_hierarchy_leaves_out_columns_without_a_whole_patch(result: tm.MotifResult) -> None:
    graph, whole = result.hierarchy.graph_, np.flatnonzero(result.whole)
    assert 0 < result.whole.sum() < len(result.columns)
    np.testing.assert_array_equal(graph.positions, result.columns.positions[whole])
    np.testing.assert_array_equal(graph.labels, result.labels[whole])


def test_more_motifs_than_there_are_can_be_asked_for_and_saved(tmp_path: Path) -> None:
    perfect = tm.datasets.mose2((256, 256), vacancy_rate=0.0)
    with pytest.warns(TorchMotifWarning, match="only"):
        found = tm.analyze(perfect.image, n_motifs=20, progress=False)
    assert any("of the 20 motifs" in note for note in found.record["notes"])
    found.save(tmp_path / "out", report=False)
    assert tm.MotifResult.load(tmp_path / "out").n_motifs == found.n_motifs


def test_calibration_and_unknown_pixels_reach_the_columns(scan: tm.Micrograph) -> None:
    pixels = scan.numpy().copy()
    pixels[100:130, 100:130] = np.nan
    holed = scan.replace(pixels)
    with pytest.warns(TorchMotifWarning):
        found = tm.analyze(holed, progress=False)
    alone = tm.find_columns(holed)
    assert found.columns.spacing_nm == alone.spacing_nm
    assert_array_equal(found.columns.is_rim, alone.is_rim)


def test_an_offset_does_not_make_the_gain_negative(scan: tm.Micrograph) -> None:
    shifted = tm.Micrograph(scan.numpy() - 1.0, electrons_per_pixel=10.0)
    assert tm.analyze(shifted, progress=False).record["found"]["electrons_per_count"] == pytest.approx(
        1.0, rel=0.05
    )


def test_a_result_is_readable_by_others_and_an_old_one_comes_back(
    result: tm.MotifResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    result.save(out, report=False)
    assert {stat.S_IMODE(path.stat().st_mode) & 0o444 for path in out.iterdir()} == {0o444}
    before = (out / "run.json").read_bytes()
    real = Path.replace

    def breaks(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError("no space left")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", breaks)
    with pytest.raises(OutputError):
        result.save(out, overwrite=True, report=False)
    assert (out / "run.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("device", ["cuda", "nonsense"])
def test_a_device_that_is_not_there_is_refused(scan: tm.Micrograph, device: str) -> None:
    with pytest.raises(InputError, match="device"):
        tm.analyze(scan, device=device, progress=False)


@pytest.mark.parametrize("parameters", [{"random_state": -1}, {"n_motifs": 2.5}])
def test_parameters_that_are_no_whole_numbers_are_refused(parameters: dict[str, object]) -> None:
    with pytest.raises(InputError, match=next(iter(parameters))):
        tm.MotifClassifier().set_params(**parameters).fit(np.zeros((5, 9, 9)))


def test_some_pixels_may_be_nan_and_it_says_so(scan: tm.Micrograph) -> None:
    pixels = scan.numpy().copy()
    pixels[5:8, 5:8] = np.nan
    with pytest.warns(TorchMotifWarning, match=r"9 of \d+ pixels are not finite"):
        found = tm.analyze(pixels, progress=False)
    assert any("9 of" in note for note in found.record["notes"])
    assert found.n_motifs >= 2


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"patch_size": 301}, "patch_size must lie between 3 and the image's shorter side, 300 px"),
        ({"threshold": 1e9}, "no atomic columns"),
        ({"n_motifs": 10_000}, "n_motifs"),
    ],
    ids=["patch larger than image", "no columns", "too many motifs"],
)
def test_bad_parameters(scan: tm.Micrograph, parameters: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tm.analyze(scan, progress=False, **parameters)


def test_an_image_too_small_for_any_whole_patch_is_refused(scan: tm.Micrograph) -> None:
    with pytest.raises(InputError, match=r"none of the .* columns has a whole patch of 59 px"):
        tm.analyze(scan.numpy()[:60, :60], patch_size=59, progress=False)


@pytest.mark.real_data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("image", "table", "sublattices", "reach_px"),
    [
        ("MoSe2_80kV.tif", "MoSe2_80kV_columns.csv", (0, 1), 6.0),
        ("TiWSe2_1028_11_ADF2.dm4", "TiWSe2_1028_11_columns.csv", (0, 2), 1.6),
    ],
)
def test_sublattices_of_real_images_are_told_apart(
    real_data: Path, image: str, table: str, sublattices: tuple[int, int], reach_px: float
) -> None:
    found = tm.analyze(tm.read(real_data / image), progress=False)
    given = np.loadtxt(real_data / table, delimiter=",", skiprows=1)
    distance, nearest = cKDTree(found.columns.positions).query(given[:, :2])
    here = (distance < reach_px) & np.isin(given[:, 2], sublattices) & (found.labels[nearest] >= 0)
    assert here.sum() > 0.8 * (distance < reach_px).sum() - 60  # rim columns are in no motif
    assert adjusted_mutual_info_score(given[here, 2], found.labels[nearest[here]]) >= 0.7
