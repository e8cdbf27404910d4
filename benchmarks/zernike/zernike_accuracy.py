"""Accuracy of the Zernike engine: radial polynomials, rotation, orthonormality, reconstruction.

python benchmarks/zernike/zernike_accuracy.py
"""

import json
import math
from fractions import Fraction
from pathlib import Path

import torch

import torchmotif as tm
from torchmotif.datasets.render import Window, gaussians
from torchmotif.zernike import orders, radial_polynomials

RESULTS = Path(__file__).parents[1] / "results"


def exact_radial_table(n_max: int, r: Fraction) -> list[list[Fraction]]:
    """R_n^m in exact arithmetic by the same recurrence, rows as `radial_polynomials`."""
    table = [[Fraction(1)]]
    for n in range(1, n_max + 1):
        below = {n - 1 - 2 * i: value for i, value in enumerate(table[n - 1])}
        before = {n - 2 - 2 * i: value for i, value in enumerate(table[n - 2])} if n > 1 else {}
        table.append(
            [
                r * (below.get(abs(m - 1), 0) + below.get(m + 1, 0)) - before.get(m, 0)
                for m in range(n, -1, -2)
            ]
        )
    return table


def radial_error(n_max: int, steps: int) -> float:
    """Largest error over all (n, m) at radii that float64 holds exactly."""
    radii = [Fraction(i, steps) for i in range(steps + 1)]
    ours = radial_polynomials(n_max, torch.tensor([float(r) for r in radii], dtype=torch.float64))
    worst = 0.0
    for column, r in enumerate(radii):
        for rows, exact in zip(ours, exact_radial_table(n_max, r), strict=True):
            worst = max(
                worst,
                *(abs(float(a) - float(b)) for a, b in zip(rows[:, column].tolist(), exact, strict=True)),
            )
    return worst


def patch(size: int, angle: float) -> torch.Tensor:
    """Simulated MoSe2 around a molybdenum column with a vacancy beside it, turned by `angle`."""
    scale = size / 65 / 0.0079  # pixels per nm
    cells = torch.cartesian_prod(torch.arange(-4.0, 5), torch.arange(-4.0, 5)).double()
    axes = 0.3289 * scale * torch.tensor([[0.0, 1.0], [-math.sqrt(3) / 2, 0.5]], dtype=torch.float64)
    selenium = cells @ axes + axes.sum(0) / 3
    weights = torch.cat([torch.full((len(cells),), 574.0), torch.full((len(cells),), 802.0)]).double()
    weights[len(cells) + 40] /= 2  # beside the centre
    cos, sin = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)
    positions = torch.cat([cells @ axes, selenium]) @ turn.T + (size - 1) / 2
    core, tail = (
        gaussians(Window(0, 0, size, size), positions, weights, sigma * scale) for sigma in (0.045, 0.135)
    )
    return 0.9 * core + 0.1 * tail


def main() -> None:
    results: dict[str, float] = {}
    for n_max, steps in ((60, 64), (200, 16)):
        results[f"radial polynomials, n <= {n_max}, largest error"] = radial_error(n_max, steps)
    for size, n_max in ((65, 20), (33, 10)):
        basis = tm.ZernikeBasis(n_max, size)
        still = basis(patch(size, 0.0)[None])[0]
        errors: dict[str, float] = dict.fromkeys(("moments", "power", "complete"), 0.0)
        for angle in (0.1, 0.5, 1.2, 2.9):
            turned = basis(patch(size, angle)[None])[0]
            pairs = {"moments": (turned, tm.rotate(still, angle))}
            for kind in ("power", "complete"):
                pairs[kind] = (tm.invariants(turned, kind), tm.invariants(still, kind))
            for name, (a, b) in pairs.items():
                errors[name] = max(errors[name], float((a - b).norm() / b.norm()))
        for name, error in errors.items():
            results[f"{name} of a turned patch, {size}/{n_max}, relative change"] = error
        flat = tm.zernike_basis(n_max, size, orthonormal=True).flatten(1)
        gram = flat @ flat.T / (math.pi * size**2 / 4)
        results[f"orthonormality, {size}/{n_max}, float32"] = float((gram - torch.eye(len(gram))).abs().max())
        for orthonormal in (False, True):
            spanned = tm.ZernikeBasis(n_max, size, orthonormal=orthonormal)
            coefficients = torch.randn(100, len(orders(n_max)), generator=torch.Generator().manual_seed(0))
            patches = spanned.reconstruct(coefficients)
            error = float((spanned.reconstruct(spanned(patches)) - patches).norm() / patches.norm())
            kind = "orthonormal" if orthonormal else "plain"
            results[f"reconstruction of patches in the span, {size}/{n_max}, {kind}, float32"] = error
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "zernike_accuracy.json").write_text(json.dumps(results, indent=1) + "\n")
    print("| what | value |\n|---|---|")
    for name, value in results.items():
        print(f"| {name} | {value:.2g} |")


if __name__ == "__main__":
    main()
