"""The simulated fields of field.py and field_faults.py, drawn once."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

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
