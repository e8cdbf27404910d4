"""Rows of the page of results about time and memory."""

import json
import os
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
from results import ANALYSIS, COLUMNS, ROOT, Found, listed, row

import torchmotif as tm

PRICE = "Time and memory"


@row(
    PRICE,
    "find_columns, 2048 x 2048 px, one thread: processor time, peak memory above that before",
    COLUMNS,
    readme=True,
)
def find_2048() -> Found:
    from columns_speed import find

    got = find(2048)
    more = got["peak_gib"] - got["before_gib"]
    text = f"{got['cpu_seconds']:.1f} s for {got['columns']:,} columns, {more:.2f} GiB"
    return Found(text, None, {"cpu_seconds": got["cpu_seconds"], "gib": more})


@row(
    PRICE,
    "find_columns with guidance over that without, MoSe2 and four grains, 1024 x 1024 px",
    COLUMNS,
    target="<= 1.5",
)
def price_of_guidance() -> Found:
    from end_to_end import row as scored

    ratios = {}
    for name in ("MoSe2", "grains"):
        times = [
            [scored(name, 0.50, "1", 1024, 0, blind=blind, with_oracle=False)["seconds"] for _ in range(2)]
            for blind in (False, True)
        ]
        ratios[name] = min(times[0]) / min(times[1])
    return Found(listed(ratios, 2), max(ratios.values()) <= 1.5, ratios)


@row(PRICE, "From 100,000 patches of 33 px to labels, relative dose 1 and 1/50: time over that of PCA(20) and k-means told the number, AMI of both",
     "torchmotif.motifs.classifier", target="<= 1.5", readme=True)  # fmt: skip
def price_of_motifs() -> Found:
    from motifs_price import raced

    rows = [raced(100_000, 33, 10, dose, 1) for dose in (1.0, 1 / 50)]
    text = "; ".join(
        f"{one['ratio']:.2f} times, AMI {one['ami']:.2f} and {one['ami of k-means']:.2f}" for one in rows
    )
    return Found(text, max(one["ratio"] for one in rows) <= 1.5)


@row(
    PRICE,
    "60 frames of 256 x 256 px from pixels to labels, one thread: frames a second; F1 of every kind",
    ANALYSIS,
)
def stack() -> Found:
    from stack import measured

    got = measured(60)
    return Found(f"{got['frames_per_cpu_second']:.2f}; {listed(got['f1'])}", None)


@row(
    PRICE,
    "A field of 4096 x 4096 px with two workers: wall clock, memory of all processes; recall, precision",
    ANALYSIS,
    threads=2,
)
def field_4096() -> Found:
    from field import scaling

    got = scaling([4096])["runs"][0]
    memory = got["peak USS, all processes MiB"]
    return Found(f"{got['seconds']:.0f} s, {memory:,} MiB; {got['recall']:.4f}, {got['precision']:.4f}", None)


@row(
    PRICE,
    "10,000 patches cut out and projected, 33 px to order 10, 65 px to order 20: time of motif-learn over ours",
    "torchmotif.zernike",
)
def zernike_speed() -> Found:
    from zernike_speed import measure

    rows = measure(1, 7)
    got = [rows[f"extract + project 10,000, {name}"] for name in ("33/10", "65/20")]
    ours = ", ".join(f"{1e3 * one['torchmotif']:.0f} ms" for one in got)
    theirs = [one["motif-learn"] / one["torchmotif"] for one in got if "motif-learn" in one]
    return Found(
        ", ".join(f"{one:.1f}" for one in theirs) + f" ({ours})"
        if theirs
        else f"{ours}; motif-learn is not installed",
        None,
    )


@row(
    PRICE,
    "Largest error of the radial polynomials to order 200 against exact fractions",
    "torchmotif.zernike",
    target="< 1e-14",
)
def radial_error() -> Found:
    from zernike_accuracy import radial_error as error_of

    worst = error_of(200, 20)
    return Found(f"{worst:.1e}", worst < 1e-14)


@row(
    PRICE,
    "torchmotif analyze of 512 x 512 px from the shell: wall clock on two cores",
    "torchmotif.cli",
    threads=2,
    target="<= 6 s",
)
def from_the_shell() -> Found:
    specimen = tm.datasets.mose2((512, 512))
    # As it is installed: with its modules compiled, which an environment that writes no bytecode does anew at each start.
    environment = {key: one for key, one in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as name:
        np.save(f"{name}/scan.npy", specimen.draw(1.0, torch.Generator().manual_seed(0)).numpy())
        times = []
        for turn in range(3):
            start = time.perf_counter()
            command = [
                sys.executable,
                "-m",
                "torchmotif",
                "analyze",
                f"{name}/scan.npy",
                "--out",
                f"{name}/{turn}",
            ]
            subprocess.run(command, env=environment, check=True, capture_output=True)
            times.append(time.perf_counter() - start)
    return Found(f"{sorted(times)[1]:.1f} s", sorted(times)[1] <= 6)


@row(PRICE, "What a GPU is asked for, counted on a stand-in: operations and waits of the host of find_columns at 2048 x 2048 px, of fit of 1,088 patches",
     COLUMNS, "torchmotif.motifs.classifier", target="30,000 and 150; 20,000 and 100")  # fmt: skip
def operations() -> Found:
    from operations import FOLDER, output_of

    got = [
        json.loads(output_of(str(FOLDER / "stages.py"), *stage).splitlines()[-1])
        for stage in (("find_columns", "2048"), ("fit", "512"))
    ]
    text = "; ".join(f"{one['operations']:,} and {one['waits']}" for one in got)
    met = all(
        one["operations"] <= a and one["waits"] <= b
        for one, a, b in zip(got, (30_000, 20_000), (150, 100), strict=True)
    )
    return Found(text, met)


@row(PRICE, "On an H100: 33 px patches to moments a second; 4096 x 4096 px to columns; 10,000 patches of 33 px to labels",
     COLUMNS, "torchmotif.motifs.classifier", target="100 million; 1.5 s; 0.5 s for 100,000")  # fmt: skip
def gpu() -> Found:
    """From the file that gpu.py wrote where there was a GPU."""
    told = json.loads((ROOT / "benchmarks" / "results" / "gpu.json").read_text())
    rows = {row["stage"]: row for row in told["rows"] if "seconds" in row}
    project, columns, motifs = (
        rows[name]
        for name in ("project patches, 33 px", "find_columns, 4096²", "motifs, 10,000 of 33 px, dose 1")
    )
    speed, about = (
        project["items_per_second"] / 1e6,
        f"{told['machine']['device']}, {told['machine']['date']}",
    )
    met = speed >= 100 and columns["seconds"] <= 1.5 and motifs["seconds"] <= 0.5
    text = f"{speed:.0f} million; {columns['seconds']:.2f} s; {motifs['seconds']:.2f} s ({about})"
    return Found(text, met)
