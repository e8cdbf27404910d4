import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

import torchmotif as tm
from torchmotif.analysis import stages, store
from torchmotif.errors import InputError, InputTypeError, OutputError, ReadError, TorchMotifWarning

pytestmark = pytest.mark.usefixtures("small_blocks")
PIXEL_NM = 0.025


def analyzed(source: Any, folder: Path, **options: Any) -> tm.field.FieldResult:
    options = {"workers": 1, "hierarchy": 2, "progress": False, "pixel_size_nm": PIXEL_NM} | options
    return tm.field.analyze(source, folder, **options)


def arrays(result: tm.field.FieldResult) -> dict[str, bytes]:
    names = [f"columns/{name}" for name in result.record["column_arrays"]]
    names += ["labels", "probabilities", "moments", "templates/0", "hierarchy/all"]
    return {name: np.asarray(result.group[name]).tobytes() for name in names}


@pytest.fixture(scope="module")
def whole(scan: Path, tmp_path_factory: pytest.TempPathFactory) -> tm.field.FieldResult:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torchmotif.columns.grid._SIDE", 96)
        patch.setattr("torchmotif.columns.grid._SPACINGS", 1.0)
        patch.setattr("torchmotif.columns.grid.BATCH", 30_000)
        return analyzed(scan, tmp_path_factory.mktemp("whole") / "store", tile=4096)


def test_columns_are_those_of_the_specimen_each_once(
    whole: tm.field.FieldResult, specimen: tm.datasets.Specimen
) -> None:
    assert whole.images[0]["block_px"] == 128
    truth = specimen.truth.positions.numpy()
    inner = ((truth > 4) & (truth < np.array([215, 195]))).all(axis=1)
    distance, found = cKDTree(whole.positions).query(truth)
    assert distance[inner].max() < 1.0
    assert len(np.unique(found[inner])) == inner.sum()
    assert cKDTree(whole.positions).query(whole.positions, k=2)[0][:, 1].min() > 2.0


def test_columns_are_those_of_the_image_as_a_whole(whole: tm.field.FieldResult, scan: Path) -> None:
    columns = tm.find_columns(np.load(scan))
    distance, found = cKDTree(columns.positions).query(whole.positions)
    assert abs(len(columns) - len(whole)) <= 3
    assert np.quantile(distance, 0.95) < 0.02
    ratio = whole.columns.intensities / columns.intensities[found]
    assert abs(np.median(ratio) - 1) < 0.01


def test_the_result_does_not_depend_on_tiles(whole: tm.field.FieldResult, scan: Path, tmp_path: Path) -> None:
    assert arrays(analyzed(scan, tmp_path / "store", tile=128)) == arrays(whole)


@pytest.mark.slow
def test_workers_of_a_cluster_give_the_same(whole: tm.field.FieldResult, scan: Path, tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=False,  # they see the small blocks
        protocol="tcp",
        dashboard_address=":0",
        silence_logs=50,
    ) as cluster:
        by_address = analyzed(scan, tmp_path / "address", workers=None, scheduler=cluster.scheduler_address)
        assert arrays(by_address) == arrays(whole)
        with distributed.Client(cluster) as client:
            assert arrays(analyzed(scan, tmp_path / "client", workers=None, client=client)) == arrays(whole)


def test_motifs_separate_the_kinds(whole: tm.field.FieldResult, specimen: tm.datasets.Specimen) -> None:
    _, nearest = cKDTree(specimen.truth.positions.numpy()).query(whole.positions)
    kinds = specimen.truth.kinds[nearest]
    inner = np.isfinite(
        np.asarray(whole.moments[:])[:, 0]
    )  # of those at the rim a part of the patch is there
    first, second = (set(kinds[inner & (whole.labels == motif)]) for motif in (0, 1))
    assert {frozenset(first), frozenset(second)} == {frozenset({"Mo"}), frozenset({"Se2"})}
    rim = whole.labels == -1
    assert (whole.probabilities[rim] == 0).all()
    assert whole.counts.sum() + rim.sum() == len(whole)
    assert whole.templates.shape[0] == whole.n_motifs


def test_motifs_learnt_on_a_sample_are_those_of_all_columns(
    whole: tm.field.FieldResult, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of the rarest kinds, of 13 columns, half would be fewer than a motif has.
    monkeypatch.setattr("torchmotif.analysis.learn._LEARNT", 6 * len(whole.labels) // 10)
    sampled = analyzed(scan, tmp_path / "sampled")
    assert sampled.positions.tobytes() == whole.positions.tobytes()
    assert tm.metrics.ami(sampled.labels, whole.labels) > 0.95


def test_assemblies_are_those_of_the_whole_graph(whole: tm.field.FieldResult) -> None:
    inner = np.isfinite(np.asarray(whole.moments[:])[:, 0])  # the motif of the others is not known
    graph = tm.PlaneGraph.from_positions(whole.positions[inner], whole.labels[inner])
    expected = tm.MotifHierarchy(2).fit(graph)
    for found, level in zip(whole.hierarchy.levels_, expected.levels_, strict=True):
        assert dict(zip(found.codes, found.counts.tolist(), strict=True)) == dict(
            zip(level.codes, level.counts.tolist(), strict=True)
        )


def test_the_store_is_read_again_and_is_plain_zarr(whole: tm.field.FieldResult) -> None:
    again = tm.field.load(whole.path)
    assert len(again) == len(whole)
    table = again.to_dataframe()
    places = ["row_px", "col_px", "row_nm", "col_nm"]
    assert list(table) == [*places, "intensity", "motif", "probability", "family", "site", "at_rim"]
    assert again.families == again[0].families
    np.testing.assert_allclose(table["row_nm"], table["row_px"] * PIXEL_NM)
    assert again.columns.spacing_nm == pytest.approx(again.columns.spacing * PIXEL_NM)
    assert json.loads((whole.path / "zarr.json").read_text())["zarr_format"] == 3
    assert again.moments.shape == (len(whole), 66)
    assert not (whole.path / ".work").exists()


def test_a_killed_run_goes_on_to_the_same_result(
    whole: tm.field.FieldResult, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits: list[str] = []
    commit = store.Work.commit

    def dying(work: store.Work, name: str, values: Any) -> None:
        if len(commits) == limit:
            raise KeyboardInterrupt
        commits.append(name)
        commit(work, name, values)

    monkeypatch.setattr(store.Work, "commit", dying)
    for limit in (2, 6, 10):  # noqa: B007  # twice in the first pass, once in the second
        with pytest.raises(KeyboardInterrupt):
            analyzed(scan, tmp_path / "store")
        with pytest.raises(ReadError, match="not finished"):
            tm.field.load(tmp_path / "store")
    limit = -1
    assert arrays(analyzed(scan, tmp_path / "store")) == arrays(whole)
    assert len(commits) == len(set(commits))  # nothing was done twice


def test_damaged_parts_are_made_again(
    whole: tm.field.FieldResult, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torchmotif.analysis.driver.rows_to_keep", _interrupt)
    with pytest.raises(KeyboardInterrupt):
        analyzed(scan, tmp_path / "store")
    monkeypatch.undo()
    monkeypatch.setattr("torchmotif.columns.grid._SIDE", 96)
    monkeypatch.setattr("torchmotif.columns.grid._SPACINGS", 1.0)
    monkeypatch.setattr("torchmotif.columns.grid.BATCH", 30_000)
    parts = sorted(tmp_path.glob("store/.work/*/columns-*"))
    parts[0].write_bytes(parts[0].read_bytes()[:-5] + b"wrong")
    parts[1].write_bytes(b"")
    assert arrays(analyzed(scan, tmp_path / "store")) == arrays(whole)


def _interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_other_parameters_or_another_source_are_refused(whole: tm.field.FieldResult, scan: Path) -> None:
    with pytest.raises(InputError, match=r"n_max=4 instead of 10.*restart"):
        analyzed(scan, whole.path, n_max=4)
    other = np.load(scan)
    other[5, 5] += 1
    with pytest.raises(InputError, match="source has changed"):
        analyzed(other, whole.path)
    assert arrays(tm.field.load(whole.path)) == arrays(whole)
    with pytest.raises(InputError, match=r"source has changed: frame 0, frame 1 added, scan\.npy missing\)"):
        analyzed(np.stack([other, other]), whole.path)
    with pytest.raises(InputTypeError, match="client"):
        analyzed(scan, whole.path, client=3)
    for device in (None, "cpu"):  # the same again is there already
        assert len(analyzed(scan, whole.path, device=device)) == len(whole)
    with pytest.raises(InputError, match="motif_group"):
        whole.templates_of(5)
    with pytest.raises(InputError, match="image"):
        whole.hierarchy_of(1)


def test_a_source_that_changes_while_it_is_read_is_noticed(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "growing.npy"
    path.write_bytes(scan.read_bytes())
    find = stages.columns_of_tiles

    def meddling(*arguments: Any, **options: Any) -> Any:
        pixels = np.load(path, mmap_mode="r+")
        pixels[-1, -1] += 1
        pixels.flush()
        return find(*arguments, **options)

    monkeypatch.setattr(stages, "columns_of_tiles", meddling)
    with pytest.raises(ReadError, match=r"growing\.npy has changed"):
        analyzed(path, tmp_path / "store")


def test_a_full_disk_and_a_read_only_store_lose_nothing(
    whole: tm.field.FieldResult, scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, count = store._write, 0

    def failing(path: Path, data: bytes) -> None:
        nonlocal count
        count += len(data) > 1000
        if count > 4:
            raise OSError(number, os.strerror(number))
        write(path, data)

    monkeypatch.setattr(store, "_write", failing)
    number = 28  # ENOSPC
    with pytest.raises(OutputError, match="disk is full"):
        analyzed(scan, tmp_path / "store")
    number, count = 30, 5  # EROFS
    with pytest.raises(OutputError, match="read-only"):
        analyzed(scan, tmp_path / "other")
    monkeypatch.setattr(store, "_write", write)
    assert len(list(tmp_path.glob("store/.work/*/columns-*"))) >= 1
    assert arrays(analyzed(scan, tmp_path / "store")) == arrays(whole)


def test_two_runs_on_one_store_are_refused(scan: Path, tmp_path: Path) -> None:
    with (
        store.claimed(tmp_path / "store"),
        pytest.raises(OutputError, match=rf"in use.*process {os.getpid()}"),
    ):
        analyzed(scan, tmp_path / "store")


@pytest.mark.parametrize("kind", ["numpy", "torch", "zarr", "dask", "micrograph", "tif"])
def test_every_kind_of_source_gives_the_same_columns(kind: str, scan: Path, tmp_path: Path) -> None:
    pixels = np.load(scan)[:140, :140]
    reference = analyzed(pixels.copy(), tmp_path / "reference", hierarchy=0, n_motifs=1)
    source: Any = pixels
    if kind == "torch":
        source = torch.from_numpy(pixels.astype(np.int32))
    elif kind == "zarr":
        import zarr

        source = zarr.create_array(tmp_path / "source.zarr", data=pixels, chunks=(50, 50))
    elif kind == "dask":
        import dask.array

        source = dask.array.from_array(pixels, chunks=64)
    elif kind == "micrograph":
        source = tm.Micrograph(pixels, PIXEL_NM)
    elif kind == "tif":
        import tifffile

        source = tmp_path / "scan.tif"
        tifffile.imwrite(source, pixels)
    found = analyzed(source, tmp_path / "store", hierarchy=0, n_motifs=1)
    np.testing.assert_allclose(found.positions, reference.positions, atol=1e-4)


def test_empty_tiles_are_no_trouble_and_empty_images_say_so(
    specimen: tm.datasets.Specimen, tmp_path: Path
) -> None:
    pixels = specimen.draw(1.0, torch.Generator().manual_seed(1)).numpy()
    pixels[:110] = np.random.default_rng(0).poisson(0.5, (110, 200))
    result = analyzed(pixels, tmp_path / "store")
    assert (result.positions[:, 0] > 105).all()
    assert len(result) > 100
    noise = np.random.default_rng(0).poisson(5.0, (200, 200))
    with pytest.raises(InputError, match="no regular spacing"):
        analyzed(noise, tmp_path / "noise")
    with pytest.raises(InputError, match="constant"):
        analyzed(np.ones((200, 200)), tmp_path / "constant")
    assert not (tmp_path / "noise" / "zarr.json").exists()


def test_an_image_that_is_mostly_not_finite_says_so(scan: Path, tmp_path: Path) -> None:
    pixels = np.load(scan).astype(np.float32)
    whole = analyzed(pixels, tmp_path / "whole", hierarchy=0)
    wide = np.concatenate([pixels, np.full((220, 300), np.nan, np.float32)], axis=1)
    with pytest.warns(TorchMotifWarning, match="66000 of 110000 pixels are not finite"):
        result = analyzed(wide, tmp_path / "store", hierarchy=0)
    # Where pixels were measured the columns are the same, and where none was there is none.
    assert result.positions[:, 1].max() < pixels.shape[1]
    inner = whole.positions[whole.positions[:, 1] < pixels.shape[1] - 10]
    assert (cKDTree(result.positions).query(inner)[0] < 0.5).mean() > 0.98


def test_a_grid_that_is_not_square_and_pixels_that_are_not_finite(
    specimen: tm.datasets.Specimen, tmp_path: Path
) -> None:
    pixels = specimen.draw(1.0, torch.Generator().manual_seed(2)).numpy().astype(np.float32)
    pixels[100:104, 50:60] = np.nan
    with pytest.warns(TorchMotifWarning, match="40 of 44000 pixels are not finite"):
        result = analyzed(pixels, tmp_path / "store", pixel_size_nm=(PIXEL_NM, PIXEL_NM * 1.0), hierarchy=0)
    assert len(result) > 400


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 8}, "tile must be larger than a patch"),
        ({"patch_size": 41, "tile": 32}, "tile must be larger than a patch, 41"),
        ({"patch_size": 401, "tile": 4096}, "do not fit"),
        ({"hierarchy": -1}, "hierarchy"),
        ({"n_motifs": 0}, "n_motifs"),
        ({"spacing": 1.0}, "spacing"),
        ({"workers": 0}, "workers"),
        ({"memory_budget": "much"}, "memory_budget"),
        ({"memory_budget": "10 MB"}, "memory_budget must be at least"),
        ({"client": object(), "scheduler": "tcp://nowhere:1"}, "not both"),
        ({"pixel_size_nm": -1.0}, "pixel_size_nm"),
        ({"threshold": float("nan")}, "threshold"),
        ({"threshold": -1}, "threshold"),
        ({"memory_budget": "inf"}, "memory_budget must be bytes"),
        ({"memory_budget": "1e400"}, "memory_budget must be bytes"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(value),
)
def test_bad_arguments_are_named(options: dict[str, Any], message: str, scan: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        analyzed(scan, tmp_path / "store", **options)


@pytest.mark.parametrize(
    ("source", "error"),
    [
        (np.zeros(5), InputError),
        (np.zeros((2, 2, 2, 2)), InputError),
        (np.zeros((40, 40), complex), InputTypeError),
        (7, InputTypeError),
        ([], InputTypeError),
        (np.zeros((0, 40, 40)), InputError),
        ("nowhere.npy", ReadError),
        (np.zeros((8, 8)), InputError),
    ],
    ids=["line", "4-D", "complex", "number", "empty list", "no frames", "no file", "tiny"],
)
def test_sources_that_hold_no_image_are_refused(source: Any, error: type[Exception], tmp_path: Path) -> None:
    with pytest.raises(error):
        analyzed(source, tmp_path / "store")
