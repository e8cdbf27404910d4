"""What an image tells of the share of a column's intensity in a wider tail, common to all columns (decision 0034).

    python benchmarks/columns/columns_tail.py

Fisher information of Poisson counts: a honeycomb of 2,500 electrons a column, 12.7 px apart, width 3 px, 15 % of them in
a tail. The width of the tail is given; intensities, positions, the width of the core and the background, cubic splines
as in the fit, are unknown.
"""

import json
import math
import sys
from pathlib import Path

import torch
from torch import Tensor

from torchmotif.columns._profiles import gaussians, spline_basis

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "columns"))
from probes import Scene, honeycomb

RESULTS = Path(__file__).parents[1] / "results" / "columns_tail.json"
INTENSITY, SHARE, SPACING = 2500.0, 0.15, 22 / math.sqrt(3)


def profiles(scene: Scene, width: float) -> tuple[Tensor, Tensor]:
    """Gaussians of all columns along rows and columns with their derivatives by centre and width, (n, 3, side)."""
    rows, cols = (
        gaussians(torch.arange(length).double() - at[:, None], torch.tensor(width).double())
        for length, at in zip(scene.shape, scene.positions.double().unbind(1), strict=True)
    )
    return rows, cols


def images(rows: Tensor, cols: Tensor, row: int, col: int) -> Tensor:
    """One flat image per column: the product of a profile along rows and one along columns."""
    return (rows[:, row, :, None] * cols[:, col, None, :]).flatten(1)


def known(scene: Scene, wide: float) -> dict[str, float]:
    """Standard deviation of the share with all else known and with all else fitted."""
    core, tail = profiles(scene, scene.sigma), profiles(scene, wide * scene.sigma)

    def both(row: int, col: int) -> Tensor:
        return (1 - SHARE) * images(*core, row, col) + SHARE * images(*tail, row, col)

    value = both(0, 0)
    share = INTENSITY * (images(*tail, 0, 0) - images(*core, 0, 0)).sum(dim=0, keepdim=True)
    width = INTENSITY * (1 - SHARE) * torch.stack([images(*core, 2, 0), images(*core, 0, 2)]).sum(dim=1)
    splines = [spline_basis(length, 4 * SPACING, value) for length in scene.shape]
    background = torch.einsum("ha,wb->abhw", *splines).flatten(0, 1).flatten(1)
    moves = [INTENSITY * both(1, 0), INTENSITY * both(0, 1)]
    jacobian = torch.cat([share, width, background, value, *moves])
    expected = INTENSITY * value.sum(dim=0) + scene.background
    information = (jacobian / expected) @ jacobian.T
    alone = information[0, 0] ** -0.5
    scale = information.diagonal().rsqrt()
    fitted = torch.linalg.inv(information * scale[:, None] * scale[None])[0, 0].sqrt() * scale[0]
    return {
        "tail_over_core": wide,
        "columns": len(value),
        "sd_alone": float(alone),
        "sd_fitted": float(fitted),
        "information_left": float((alone / fitted) ** 2),
    }


def main() -> None:
    """Several widths of the tail; print a table, write the results."""
    scene, rows = honeycomb(vacancy=0.0), []
    for wide in (1.5, 2.0, 3.0, 5.0):
        rows.append(known(scene, wide))
        print(" ".join(f"{k}={v:.3g}" for k, v in rows[-1].items()), flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
