"""What an image gives in memory, it gives into a store and on workers: the same, to the last bit."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

import torchmotif as tm
from torchmotif.analysis import plan
from torchmotif.analysis.learn import images_of
from torchmotif.columns import grid
from torchmotif.errors import InputError, ReadError

SHAPE = (220, 200)


@pytest.fixture(autouse=True)
def several_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four tiles in two batches."""
    monkeypatch.setattr(grid, "_SIDE", 96)
    monkeypatch.setattr(grid, "_SPACINGS", 1.0)
    monkeypatch.setattr(grid, "BATCH", 60_000)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=False,  # they see the small tiles
            protocol="tcp",
            dashboard_address=":0",
            silence_logs=50,
        ) as cluster,
        distributed.Client(cluster) as made,
    ):
        yield made


def image(electrons_per_pixel: float = 10.0) -> tm.Micrograph:
    specimen = tm.datasets.mose2(SHAPE, 0.025, vacancy_rate=0.05)
    return specimen.draw(electrons_per_pixel / 10, torch.Generator().manual_seed(0))


def darkened() -> tm.Micrograph:
    scan = image()
    return tm.Micrograph(scan.numpy() - 3.0, scan.pixel_size, electrons_per_pixel=10.0)


def without_dose() -> tm.Micrograph:
    return tm.Micrograph(image().numpy(), 0.025)


def on_carbon() -> np.ndarray:
    """Of which speckle is left out, in all tiles."""
    specimen = tm.datasets.nanoparticle(SHAPE, 0.02, radius_nm=1.4, carbon_nm=300.0, carbon_ends=None)
    return specimen.draw(1.0, torch.Generator().manual_seed(1)).numpy()


MASK = np.zeros(SHAPE, bool)
MASK[60:90, 110:150] = True


@pytest.mark.parametrize(
    ("scan", "options"),
    [
        (image, {"n_max": 16, "patch_size": 33}),
        (darkened, {}),
        (without_dose, {"threshold": 25.0}),
        (lambda: image(0.3), {"spacing": 7.2, "hierarchy": 0}),
        (image, {"mask": MASK}),
        (on_carbon, {"hierarchy": 0}),
        (image, {"equivalence": "rotation", "hierarchy": 0}),
    ],
    ids=["n_max", "dark level", "threshold", "low dose", "mask", "speckle", "rotation"],
)
def test_memory_store_and_workers_give_the_same(
    scan: Any, options: dict[str, Any], tmp_path: Path, client: Any
) -> None:
    given = scan()
    in_memory = tm.analyze(given, progress=False, **{k: v for k, v in options.items() if k != "hierarchy"})
    results = {
        "store": tm.field.analyze(given, tmp_path / "store", workers=1, progress=False, **options),
        "workers": tm.field.analyze(given, tmp_path / "workers", client=client, progress=False, **options),
    }
    stored = results["store"]
    for name in ("labels", "probabilities", "moments", "templates/0"):
        assert_array_equal(np.asarray(stored.group[name]), np.asarray(results["workers"].group[name]))
    for result in results.values():
        assert len(tiles_of(result)) == 4
        one = result[0]
        for item in fields(in_memory.columns):
            assert_array_equal(
                getattr(one.columns, item.name), getattr(in_memory.columns, item.name), item.name
            )
        for name in ("labels", "probabilities", "angles", "mirrored", "templates", "moments", "whole"):
            assert_array_equal(getattr(one, name), getattr(in_memory, name), name)
        for name in ("found", "notes", "parameters"):
            assert one.record[name] == in_memory.record[name]
        if options.get("hierarchy", 3):
            assert counted(result.hierarchy) == counted(in_memory.hierarchy)
    if "n_max" in options:
        assert in_memory.record["found"]["n_max"] == 16
        assert in_memory.moments.shape[1] == 17 * 18 / 2
    if scan is darkened:
        assert in_memory.record["found"]["electrons_per_count"] == pytest.approx(1.0, rel=0.05)
    assert any("speckle" in note for note in in_memory.record["notes"]) == (scan is on_carbon)
    if "mask" in options:
        at = np.rint(in_memory.columns.positions).astype(int).clip(0, np.array(SHAPE) - 1)
        assert not MASK[tuple(at.T)].any()


def counted(hierarchy: Any) -> list[dict[Any, int]]:
    """How often each assembly of every size occurs."""
    return [dict(zip(level.codes, level.counts.tolist(), strict=True)) for level in hierarchy.levels_]


def tiles_of(result: tm.field.FieldResult) -> np.ndarray:
    """The tiles that the columns fall into."""
    survey = plan.Survey.from_dict(result.record["surveys"][0])
    tiles = [survey.grid[number] for number in range(len(survey.grid))]
    return np.flatnonzero([tile.holds(result.positions, survey.shape).any() for tile in tiles])


def test_frames_of_a_stack_are_batches_whatever_they_come_from(tmp_path: Path, client: Any) -> None:
    specimen = tm.datasets.mose2((120, 110), 0.025, vacancy_rate=0.05)
    generator = torch.Generator().manual_seed(0)
    stack = np.stack([specimen.draw(1.0, generator).numpy() for _ in range(5)]).astype(np.uint16)
    in_memory = tm.analyze(stack, hierarchy=2, progress=False)
    options = {"hierarchy": 2, "progress": False}
    np.save(tmp_path / "stack.npy", stack)
    for number, (source, how) in enumerate(
        [(stack, {"workers": 1}), (stack, {"client": client}), (tmp_path / "stack.npy", {})]
    ):
        stored = tm.field.analyze(source, tmp_path / str(number), **how, **options)
        for name in (
            "labels",
            "probabilities",
            "moments",
            "templates/0",
            "hierarchy/all",
            "hierarchy/3",
            "columns/positions",
        ):
            assert_array_equal(np.asarray(stored.group[name]), np.asarray(in_memory.group[name]), name)
    assert len({one["spacing"] for one in in_memory.images}) == 1
    each = tm.analyze(stack, calibration="each", hierarchy=0, progress=False)
    assert len({one["spacing"] for one in each.images}) == 5
    assert abs(len(each) - len(in_memory)) < 0.01 * len(each)


def test_batches_are_told_by_shapes_alone() -> None:
    from torchmotif.analysis.sources import as_sources
    from torchmotif.analysis.store import Memory
    from torchmotif.columns.model import ImageModel

    model = ImageModel(7.0, 5.0, 1.0, (0.0, 9.0), None, False, (1.0, 1.0))
    sources = as_sources(np.zeros((7, 128, 128)))
    surveys = [
        plan.Survey((128, 128), model, 128, [""], 5.0, 0.0, 0, patch_size=21, level=5.0) for _ in sources
    ]
    images = [
        plan.Image(i, one, survey) for i, (one, survey) in enumerate(zip(sources, surveys, strict=True))
    ]
    batches = list(plan.batches_of(images, lambda _: 0, parts=Memory(), n_max=10))
    assert [len(batch.tiles) for batch in batches] == [3, 3, 1]  # 60,000 pixels hold three frames
    assert [image.number for image in images_of(batches)] == list(range(7))
    apart = list(plan.batches_of(images, lambda number: number, parts=Memory(), n_max=10))
    assert [len(batch.images) for batch in apart] == [1] * 7


def test_a_stored_image_has_what_a_result_has(tmp_path: Path) -> None:
    scan = image()
    np.savez(tmp_path / "scan.npz", image=scan.numpy(), pixel_size_nm=0.025)
    in_memory = tm.analyze(tm.read(tmp_path / "scan.npz"), progress=False)
    stored = tm.field.analyze(tmp_path / "scan.npz", tmp_path / "store", workers=1, progress=False)
    again = tm.field.load(tmp_path / "store")
    assert_array_equal(again.image.numpy(), in_memory.image.numpy())
    assert again.sites.motifs.tolist() == in_memory.sites.motifs.tolist()
    assert again[0].to_dataframe().equals(in_memory.to_dataframe())
    again.save(tmp_path / "folder", report=False)
    assert_array_equal(tm.MotifResult.load(tmp_path / "folder").labels, in_memory.labels)
    assert again.plot_map() is not None
    assert len(again.graph) == again.whole.sum()
    (tmp_path / "scan.npz").unlink()
    with pytest.raises(ReadError, match="no file"):
        tm.field.load(tmp_path / "store").result_of(0)
    assert_array_equal(stored.result_of(0, scan).labels, in_memory.labels)


def test_of_several_images_one_is_asked_for(tmp_path: Path) -> None:
    scans = [image(), darkened()]
    result = tm.analyze(scans, n_motifs=2, progress=False)
    assert [len(one.columns) for one in result] == [one["n_columns"] for one in result.images]
    assert result[1].image.electrons_per_pixel == 10.0
    with pytest.raises(InputError, match=r"2 images: say which with result\[i\]\.plot_map"):
        result.plot_map()
    assert not hasattr(result, "_repr_html_")
    stored = tm.field.analyze(scans, tmp_path / "store", n_motifs=2, workers=1, progress=False)
    assert_array_equal(stored.labels, result.labels)
    with pytest.raises(ReadError, match="in memory"):
        tm.field.load(stored.path).result_of(1)


def test_threads_of_one_process_give_the_same() -> None:
    scan, before = image(), torch.get_num_threads()
    one = tm.analyze(scan, n_motifs=2, progress=False)
    try:
        torch.set_num_threads(2)
        two = tm.analyze(scan, n_motifs=2, progress=False)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert_array_equal(one.columns.positions, two.columns.positions)
    assert_array_equal(one.probabilities, two.probabilities)
    assert_array_equal(one.templates, two.templates)
