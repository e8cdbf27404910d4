"""The sections of field.py in which things go wrong: kills, full disks, dead workers, bad files."""

import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from field_drawn import FOLDER, PIXEL_NM, drawn

__all__ = ["batch", "disk", "kill", "worker"]

_SCRIPT = """
import sys
import torchmotif.columns.grid as grid
grid._SIDE, grid._SPACINGS, grid.BATCH = 96, 8.0, 1  # small batches: many commits in little time; workers run these lines too
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
