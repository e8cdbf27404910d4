"""Runs with dask, and runs that are killed. Workers import this file's script anew, so that small blocks hold there too."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import torchmotif as tm
from torchmotif.analysis import engine
from torchmotif.analysis.plan import Image, Survey, batches_of
from torchmotif.analysis.sources import Source
from torchmotif.analysis.store import Memory
from torchmotif.columns.model import ImageModel

SCRIPT = """
import sys
import torchmotif.columns.grid as grid
grid._SIDE, grid._SPACINGS, grid.BATCH = 48, 1.0, 30_000
if __name__ == "__main__":
    import torchmotif as tm
    source, store, workers = sys.argv[1:]
    tm.field.analyze(
        source, store, pixel_size_nm=0.025, tile=96, n_motifs=2, hierarchy=2, workers=int(workers), progress=False
    )
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("script") / "small_blocks.py"
    path.write_text(SCRIPT)
    return path


def started(script: Path, scan: Path, store: Path, workers: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(script), str(scan), str(store), str(workers)])


@pytest.fixture(scope="module")
def whole(script: Path, scan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run with one worker leaves that nothing stops."""
    store = tmp_path_factory.mktemp("whole") / "whole"
    assert started(script, scan, store, 1).wait() == 0
    return store


def same(a: Path, b: Path) -> bool:
    one, other = tm.field.load(a), tm.field.load(b)
    names = [
        "columns/positions",
        "columns/intensities",
        "labels",
        "probabilities",
        "moments",
        "hierarchy/all",
    ]
    return all(np.asarray(one.group[n]).tobytes() == np.asarray(other.group[n]).tobytes() for n in names)


@pytest.mark.slow
def test_kill_9_and_two_workers_leave_the_same_store(
    script: Path, scan: Path, whole: Path, tmp_path: Path
) -> None:
    store = tmp_path / "killed"
    for kind, workers in (("columns", 1), ("labels", 2)):
        process = started(script, scan, store, workers)
        while not list(store.glob(f".work/*/{kind}-*")) and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert started(script, scan, store, 1).wait() == 0
    assert same(whole, store)


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced(script: Path, scan: Path, whole: Path, tmp_path: Path) -> None:
    import psutil

    store = tmp_path / "one-dies"
    process = started(script, scan, store, 2)
    while not list(store.glob(".work/*/columns-*")) and process.poll() is None:
        time.sleep(0.01)
    children = psutil.Process(process.pid).children(recursive=True)
    workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    workers[0].kill()
    assert process.wait() == 0
    assert same(whole, store)


def test_the_budget_decides_how_many_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.os, "cpu_count", lambda: 8)
    assert engine._count(None, None, None) == 8
    assert engine._count(None, None, 3 << 30) == 3
    assert engine._count(5, None, 1 << 30) == 1
    assert engine._count(5, None, None) == 5


def test_gpus_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert engine._count(None, "cuda", None) == 3
    assert engine._count(None, "cuda:1", None) == 1
    assert engine.device_of_worker("cuda") == "cuda:0"
    assert engine.device_of_worker("cuda:2") == "cuda:2"
    assert engine.device_of_worker(None) is None
    names = iter(range(5))
    monkeypatch.setattr("distributed.get_worker", lambda: type("Worker", (), {"name": next(names)}))
    assert [engine.device_of_worker("cuda") for _ in range(5)] == [
        "cuda:0", "cuda:1", "cuda:2", "cuda:0", "cuda:1",
    ]  # fmt: skip


@pytest.mark.parametrize("shape", [(100, 100), (512, 513), (1300, 700), (4096, 300)], ids=str)
@pytest.mark.parametrize("most", [1, 800_000, 2048**2], ids=str)
def test_every_pixel_lies_in_one_block_and_every_block_in_one_batch(
    shape: tuple[int, int], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torchmotif.columns.grid.BATCH", most)
    model = ImageModel(10.0, 0.0, 1.0, (0.0, 1.0), None, False, (1.0, 1.0))
    survey = Survey(shape, model, 512, [], 0.0, 0.0, 0, patch_size=31)
    images = [Image(i, Source(str(i)), survey) for i in range(3)]
    grid, seen = survey.grid, []
    count = np.zeros(shape, int)
    for number in range(len(grid)):
        top, left, bottom, right = grid[number].core
        count[top:bottom, left:right] += 1
    assert (count == 1).all()
    for batch in batches_of(images, lambda _: 0, parts=Memory(), n_max=10):
        seen += [(batch.images[place].number, tile) for place, tile in batch.tiles]
        assert len(batch.tiles) == 1 or len(batch.tiles) * np.prod(grid.window) <= most
    assert seen == [(image, tile) for image in range(3) for tile in range(len(grid))]
    rng = np.random.default_rng(0)
    positions = rng.uniform(-0.5, np.array(shape) - 0.5, (500, 2))
    owners = sum(grid[number].holds(positions, shape).astype(int) for number in range(len(grid)))
    assert (owners == 1).all()
