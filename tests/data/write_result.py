"""Writes a result as this version does, to be kept: ``python tests/data/write_result.py tests/data/result_v2``.

Run once for every format of the folder, by the last version that writes it, and never again: later versions must load what
is there. result_v1 is of 0.1.0.dev0. The pictures and the report, which are not loaded, are left out.
"""

import sys
import tempfile
from pathlib import Path

import torch

import torchmotif as tm

LOADED = ("run.json", "arrays.safetensors", "templates.safetensors", "columns.csv")


def main() -> None:
    target = Path(sys.argv[1])
    specimen = tm.datasets.mose2((112, 120), vacancy_rate=0.08, random_state=3)
    drawn = specimen.draw(generator=torch.Generator().manual_seed(0))
    scan = tm.Micrograph(
        drawn.numpy().astype("uint16"),
        drawn.pixel_size,
        drawn.unit,
        {"name": "kept result", "note": 'Å, "quotes" & <tags>'},
        electrons_per_pixel=drawn.electrons_per_pixel,
    )
    result = tm.analyze(scan, progress=False)
    result.record["platform"] = "any"
    target.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        result.save(Path(folder) / "out", report=False)
        for name in LOADED:
            (target / name).write_bytes((Path(folder) / "out" / name).read_bytes())


if __name__ == "__main__":
    main()
