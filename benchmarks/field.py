"""Large fields and batches: time, memory, independence of tiles, and what happens when things go wrong.

Run: python benchmarks/field.py SECTION..., one or several of
scaling [SIDE...]  time, exponent against pixels and memory of all processes together, two workers
tiles    4096 x 4096 in tiles of 512, 1024 and as a whole
kill     kill -9 at 20 random moments, parent and workers, then the same call again
disk     a disk that is full, a store that is read-only (needs to mount a small file system: root)
worker   a LocalCluster of two workers, one killed; two runs on one store
batch    50 files, 5 of them bad
workers  two workers against one; dask's share of a single small image
"""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np

RESULTS = Path(__file__).parent / "results"
PIXEL_NM = 0.0187  # 2 million columns in 16384 x 16384 px
FOLDER = Path(os.environ.get("TORCHMOTIF_SCRATCH", tempfile.gettempdir())) / "torchmotif-field"


def drawn(side: int, dose: float = 0.1, vacancy_rate: float = 0.05) -> Path:
    """A field of simulated MoSe2 in a file, drawn by tiles in a process of its own, so that this one stays small."""
    path = FOLDER / f"field-{side}-{dose:g}.npy"
    if not path.exists():
        FOLDER.mkdir(exist_ok=True)
        code = (
            "import sys, numpy as np, torch, torchmotif as tm\n"
            "side, dose, rate, pixel, path = int(sys.argv[1]), *map(float, sys.argv[2:5]), sys.argv[5]\n"
            "specimen = tm.datasets.mose2((side, side), pixel, vacancy_rate=rate)\n"
            "generator = torch.Generator().manual_seed(0)\n"
            "out = np.lib.format.open_memmap(path, 'w+', np.uint8, (side, side))\n"
            "for (row, col), tile in specimen.tiles(1024):\n"
            "    counts = tile.draw(dose, generator).numpy()\n"
            "    out[row : row + len(counts), col : col + counts.shape[1]] = counts\n"
            "np.savez(path + '.truth.npz', positions=specimen.truth.positions, kinds=specimen.truth.kinds)\n"
        )
        partial = path.with_suffix(".part")
        subprocess.run(
            [
                sys.executable,
                "-c",
                code,
                str(side),
                str(dose),
                str(vacancy_rate),
                str(PIXEL_NM),
                str(partial),
            ],
            check=True,
        )
        Path(f"{partial}.truth.npz").replace(path.with_suffix(".truth.npz"))
        partial.replace(path)
    return path


class Memory:
    """Greatest resident set of this process and all its children together, sampled twenty times a second.

    Pages that processes share are counted once for each of them. The unique memory (USS), which counts them once, is
    sampled beside it, more rarely.
    """

    def __enter__(self) -> Self:
        import psutil

        self.peak = self.unique = 0
        self._over = threading.Event()
        self._process = psutil.Process()

        def sample() -> None:
            turn = 0
            while not self._over.wait(0.05):
                try:
                    family = [self._process, *self._process.children(recursive=True)]
                    self.peak = max(self.peak, sum(one.memory_info().rss for one in family))
                    if turn % 200 == 0:
                        self.unique = max(self.unique, sum(one.memory_full_info().uss for one in family))
                except psutil.Error:
                    continue
                turn += 1

        self._thread = threading.Thread(target=sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def analysed(path: Path, store: Path, **options: Any) -> Any:
    import torchmotif as tm

    shutil.rmtree(store, ignore_errors=True)
    return tm.field.analyze(path, store, pixel_size_nm=PIXEL_NM, progress=False, **options)


def scaling(sides: list[int]) -> dict[str, Any]:
    rows = []
    for side in sides:
        path = drawn(side)
        with Memory() as memory:
            start, spent = time.perf_counter(), processor_seconds()
            result = analysed(path, FOLDER / "scaling", workers=2, memory_budget="3GiB")
            seconds, busy = time.perf_counter() - start, processor_seconds() - spent
        truth = np.load(path.with_suffix(".truth.npz"))
        rows.append(
            {
                "side px": side,
                "columns": len(result),
                "seconds": round(seconds, 1),
                "processor s, all processes": round(busy, 1),
                "peak RSS, all processes MiB": memory.peak >> 20,
                "peak USS, all processes MiB": memory.unique >> 20,
                "stages s": result.record["timings_s"],
                "motifs": result.n_motifs,
                **scored(result, truth),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
        del result
    found: dict[str, Any] = {"runs": rows}
    if len(rows) > 1:
        pixels = 2 * np.log([row["side px"] for row in rows])
        for key in ("seconds", "processor s, all processes"):
            slope = np.polyfit(pixels, np.log([row[key] for row in rows]), 1)[0]
            found[f"exponent of {key}"] = round(float(slope), 3)
    return found


def processor_seconds() -> float:
    """Of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def scored(result: Any, truth: Any) -> dict[str, float]:
    """Recall and precision of the columns, and F1 of the vacancies, every motif counting for its most frequent kind."""
    from scipy.spatial import cKDTree

    distance, nearest = cKDTree(truth["positions"]).query(result.positions, workers=1)
    good = distance < 0.5 * result.images[0]["spacing"]
    kinds, labels = truth["kinds"][nearest], result.labels
    vacant = np.zeros(result.n_motifs, bool)
    for motif in range(result.n_motifs):
        names, counts = np.unique(kinds[good & (labels == motif)], return_counts=True)
        vacant[motif] = len(names) > 0 and names[counts.argmax()] == "V_Se"
    called = (labels >= 0) & vacant[labels]
    true = (kinds == "V_Se") & good & (labels >= 0)
    hits = (called & true).sum()
    return {
        "recall": round(len(np.unique(nearest[good])) / len(truth["positions"]), 5),
        "precision": round(float(good.mean()), 5),
        "F1 of vacancies": round(float(2 * hits / max(called.sum() + true.sum(), 1)), 4),
    }


def same_columns(a: Any, b: Any) -> dict[str, Any]:
    """How two results agree: columns without a partner within 1e-3 px, equal labels, and bit for bit."""
    from scipy.spatial import cKDTree

    distance, partner = cKDTree(b.positions).query(a.positions)
    once = len(np.unique(partner)) == len(a) == len(b)
    return {
        "columns": [len(a), len(b)],
        "each once": bool(once),
        "further apart than 1e-3 px": int((distance > 1e-3).sum()),
        "equal labels": float((a.labels == b.labels[partner]).mean()),
        "bit for bit": bool(np.array_equal(a.positions, b.positions) and np.array_equal(a.labels, b.labels)),
    }


def tiles() -> dict[str, Any]:
    path = drawn(4096)
    results = {
        tile: analysed(path, FOLDER / f"tiles-{tile}", tile=tile, workers=2) for tile in (512, 1024, 4096)
    }
    found = {f"{tile} against whole": same_columns(results[tile], results[4096]) for tile in (512, 1024)}
    distance = nearest_distance(results[4096].positions)
    found["closest two columns px"] = float(distance.min())
    return found


def nearest_distance(positions: np.ndarray) -> np.ndarray:
    from scipy.spatial import cKDTree

    return np.asarray(cKDTree(positions).query(positions, k=2)[0])[:, 1]


_SCRIPT = """
import sys
import torchmotif.field.grid as grid
grid._SIDE, grid._SPACINGS = 96, 8.0  # small blocks: many commits in little time; workers run these lines too
if __name__ == "__main__":
    import torchmotif as tm
    from torchmotif.errors import TorchMotifError
    source, store, workers = sys.argv[1:4]
    try:
        tm.field.analyze(source, store, pixel_size_nm=0.0187, tile=128, workers=int(workers), progress=False)
    except TorchMotifError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        raise SystemExit(2)
"""


def started(source: Path, store: Path, workers: int) -> subprocess.Popen[str]:
    script = FOLDER / "small_blocks.py"
    script.write_text(_SCRIPT)
    return subprocess.Popen(
        [sys.executable, str(script), str(source), str(store), str(workers)],
        stderr=subprocess.PIPE,
        text=True,
    )


def undisturbed(source: Path) -> Path:
    whole = FOLDER / "undisturbed"
    shutil.rmtree(whole, ignore_errors=True)
    assert started(source, whole, 1).wait() == 0
    return whole


def until_first_block(process: subprocess.Popen[str], store: Path) -> float:
    """Seconds until the run has finished a block, or has ended."""
    start = time.perf_counter()
    while process.poll() is None and not list(store.glob(".work/*/columns-*")):
        time.sleep(0.02)
    return time.perf_counter() - start


def kill(moments: int = 20) -> dict[str, Any]:
    import psutil

    import torchmotif as tm

    source = drawn(400, 1.0)
    whole = FOLDER / "undisturbed"
    shutil.rmtree(whole, ignore_errors=True)
    process = started(source, whole, 1)
    first = until_first_block(process, whole)
    start = time.perf_counter()
    assert process.wait() == 0
    seconds = time.perf_counter() - start
    reference, chance = tm.field.load(whole), random.Random(0)  # noqa: S311
    rows = []
    for number in range(moments):
        store = FOLDER / "killed"
        shutil.rmtree(store, ignore_errors=True)
        workers = 1 + (number % 3 == 2)
        process = started(source, store, workers)
        moment, victim = chance.uniform(0, 1), "parent"
        if number % 5:  # the others before the first block
            until_first_block(process, store)
        try:
            process.wait(moment * (seconds if number % 5 else first))
        except subprocess.TimeoutExpired:
            family = psutil.Process(process.pid).children(recursive=True)
            named = [one for one in family if "spawn_main" in " ".join(one.cmdline())]
            if number % 2 and named:  # a worker first, the parent a moment later
                victim = "worker, then parent"
                chance.choice(named).kill()
                time.sleep(0.3)
            process.kill()
            process.wait()
        finished = len(list(store.glob(".work/*/columns-*"))), len(list(store.glob(".work/*/labels-*")))
        again = started(source, store, workers)
        code = again.wait()
        if code:
            print(again.stderr.read() if again.stderr else "", file=sys.stderr)
        rows.append(
            {
                "killed": f"{'after' if number % 5 else 'before'} the first block",
                "at this share of the time": round(moment, 2),
                "victim": victim,
                "workers": workers,
                "blocks found, labelled": finished,
                "resumed": code == 0,
                "same": code == 0 and identical(reference, tm.field.load(store)),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return {
        "undisturbed s": round(first + seconds, 1),
        "kills": rows,
        "same": sum(row["same"] for row in rows),
    }


def identical(a: Any, b: Any) -> bool:
    """Whether two stores hold the same arrays, bit for bit."""
    names = [f"columns/{name}" for name in a.record["column_arrays"]]
    names += ["moments", "labels", "probabilities", "templates/0", "hierarchy/all"]
    return all(np.asarray(a.group[name]).tobytes() == np.asarray(b.group[name]).tobytes() for name in names)


def disk() -> dict[str, Any]:
    """A file system of few megabytes; then one that is read-only."""
    import torchmotif as tm

    source = drawn(400, 1.0)
    whole = undisturbed(source)
    mount = FOLDER / "small"
    mount.mkdir(exist_ok=True)
    found: dict[str, Any] = {}
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=500k", "none", str(mount)], check=True)
    try:
        process = started(source, mount / "store", 1)
        message = process.communicate()[1]
        parts = len(list((mount / "store").glob(".work/*/columns-*")))
        found["full disk"] = {
            "code": process.returncode,
            "message": message.strip().splitlines()[-1],
            "blocks kept": parts,
        }
        subprocess.run(["mount", "-o", "remount,size=64m", str(mount)], check=True)
        code = started(source, mount / "store", 1).wait()
        found["after room was made"] = {
            "code": code,
            "same as undisturbed": identical(tm.field.load(whole), tm.field.load(mount / "store")),
        }
        before = sorted(path.name for path in (mount / "store").rglob("*"))
        subprocess.run(["mount", "-o", "remount,ro", str(mount)], check=True)
        process = started(source, mount / "other", 1)
        message = process.communicate()[1]
        found["read-only"] = {"code": process.returncode, "message": message.strip().splitlines()[-1]}
        process = started(source, mount / "store", 1)
        message = process.communicate()[1]
        found["read-only, finished store"] = {
            "code": process.returncode,
            "message": message.strip().splitlines()[-1],
            "unchanged": before == sorted(path.name for path in (mount / "store").rglob("*")),
        }
    finally:
        subprocess.run(["umount", str(mount)], check=True)
    return found


def worker() -> dict[str, Any]:
    """One of two workers killed mid-run; a second run on the same store."""
    import psutil

    import torchmotif as tm

    source = drawn(400, 1.0)
    whole = undisturbed(source)
    store = FOLDER / "one-killed"
    shutil.rmtree(store, ignore_errors=True)
    process = started(source, store, 2)
    until_first_block(process, store)
    second = started(source, store, 1)
    family = psutil.Process(process.pid).children(recursive=True)
    victims = [one for one in family if "spawn_main" in " ".join(one.cmdline())]
    victims[0].kill()
    refused = second.communicate()[1].strip().splitlines()[-1]
    code = process.wait()
    return {
        "workers seen": len(victims),
        "code": code,
        "same as undisturbed": identical(tm.field.load(whole), tm.field.load(store)),
        "second run": {"code": second.returncode, "message": refused},
    }


def batch() -> dict[str, Any]:
    """50 files through the command line, five of them bad in ways of their own."""
    import torch

    import torchmotif as tm

    folder, store = FOLDER / "files", FOLDER / "batch"
    for path in (folder, store):
        shutil.rmtree(path, ignore_errors=True)
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    for i in range(45):
        specimen = tm.datasets.mose2((256, 256), PIXEL_NM, vacancy_rate=0.05, random_state=i)
        np.savez(
            folder / f"scan{i:02d}.npz", image=specimen.draw(1.0, generator).numpy(), pixel_size_nm=PIXEL_NM
        )
    good = (folder / "scan00.npz").read_bytes()
    (folder / "bad-cut.npz").write_bytes(good[: len(good) // 2])
    (folder / "bad-empty.npz").write_bytes(b"")
    np.savez(
        folder / "bad-noise.npz",
        image=np.random.default_rng(0).poisson(5, (256, 256)),
        pixel_size_nm=PIXEL_NM,
    )
    np.savez(folder / "bad-constant.npz", image=np.ones((256, 256)), pixel_size_nm=PIXEL_NM)
    np.savez(folder / "bad-uncalibrated.npz", image=np.load(folder / "scan00.npz")["image"])
    start = time.perf_counter()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torchmotif",
            "batch",
            str(folder / "*.npz"),
            "--out",
            str(store),
            "--workers",
            "2",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    result = tm.field.load(store)
    return {
        "seconds": round(time.perf_counter() - start, 1),
        "exit code": done.returncode,
        "results": len(result.images),
        "csv": len(list((store / "csv").iterdir())),
        "motifs": result.n_motifs,
        "reasons": {one["name"]: one["reason"] for one in result.record["failures"]},
    }


def workers() -> dict[str, Any]:
    """Two workers against one, and what the machinery costs where there is one small image."""
    import torchmotif as tm

    path, seconds = drawn(4096), {}
    for count in (1, 2):
        start = time.perf_counter()
        analysed(path, FOLDER / f"workers-{count}", workers=count)
        seconds[count] = time.perf_counter() - start
    import torch

    torch.set_num_threads(1)
    small = tm.read(drawn(512, 1.0))
    tm.analyze(small, progress=False)
    ways: dict[str, Callable[[], Any]] = {
        "analyze": lambda: tm.analyze(small, progress=False),
        "field.analyze": lambda: analysed(FOLDER / "field-512-1.npy", FOLDER / "small-field", hierarchy=0),
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(5):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            spent[name].append(time.perf_counter() - start)
    medians = {name: round(float(np.median(times)), 2) for name, times in spent.items()}
    return {
        "4096 x 4096, seconds with one and two workers": [round(seconds[1], 1), round(seconds[2], 1)],
        "speed-up": round(seconds[1] / seconds[2], 2),
        "512 x 512, median seconds": medians,
        "overhead s": round(medians["field.analyze"] - medians["analyze"], 2),
    }


def main() -> None:
    sections: dict[str, Callable[[], dict[str, Any]]] = {
        "tiles": tiles,
        "kill": kill,
        "disk": disk,
        "worker": worker,
        "batch": batch,
        "workers": workers,
    }
    words = sys.argv[1:]
    sides = [int(word) for word in words if word.isdigit()] or [2048, 4096]
    path = RESULTS / "field.json"
    result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    result["cores"] = os.cpu_count()
    for word in words:
        if word == "scaling":
            found = scaling(sides)
            result["scaling"] = found
        elif word in sections:
            found = result[word] = sections[word]()
        elif not word.isdigit():
            raise SystemExit(__doc__)
        else:
            continue
        print(json.dumps({word: found}, indent=1), flush=True)
    RESULTS.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    main()
