"""Noise against theory: variance of moments, the gain of simulated and real images, the oracle at falling dose.

Run: python benchmarks/datasets_physics.py. Real images are read from $TORCHMOTIF_DATA, or ../shared/data; without
them their table is left out.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from scipy.spatial import cKDTree
from sklearn.metrics import adjusted_mutual_info_score

import torchmotif as tm
from torchmotif.datasets.ising import ising_draw, ising_energy

RESULTS = Path(__file__).parent / "results"
DATA = Path(os.environ.get("TORCHMOTIF_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
DOSES = (1.0, 1 / 5, 1 / 10, 1 / 20, 1 / 50, 1 / 100)


def moments() -> dict[str, Any]:
    """Measured over predicted variance of the 66 moments of one expected patch, 40,000 draws."""
    specimen = tm.datasets.mose2((96, 96))
    middle = specimen.truth.positions.sub(48).norm(dim=1).argmin()
    expected = tm.extract_patches(specimen.image.data, specimen.truth.positions[middle][None], 33)[0]
    basis = tm.ZernikeBasis(10, 33, dtype=torch.float64)
    table = {}
    for dose in (1.0, 1 / 50):
        generator = torch.Generator().manual_seed(0)
        total, square, said = (torch.zeros(66, dtype=torch.float64) for _ in range(3))
        exact = tm.noise.moment_variance((expected * dose)[None], basis.basis)[0]
        rounds, batch = 8, 5000
        for _ in range(rounds):
            patches = torch.poisson((expected * dose).expand(batch, -1, -1), generator=generator).double()
            values = basis(patches)
            total, square = total + values.sum(0), square + values.square().sum(0)
            said += tm.noise.moment_variance(patches, basis.basis).sum(0)
        n = rounds * batch
        measured = (square - total.square() / n) / (n - 1)
        ratio = measured / exact
        table[f"dose {dose:g}"] = {
            "mean of measured / predicted": round(float(ratio.mean()), 4),
            "largest deviation of the 66": round(float((ratio - 1).abs().max()), 4),
            "its expected statistical error": round((2 / n) ** 0.5, 4),
            "largest deviation, predicted from counts": round(float((said / n / exact - 1).abs().max()), 4),
        }
    return table


def gains() -> dict[str, Any]:
    """The gain of simulated images with gain 1/3.7 and offset 50: error, and its own error bar."""
    table = {}
    for electrons in (1.0, 2.0, 5.0, 10.0, 20.0, 50.0):
        specimen = tm.datasets.mose2((512, 512), electrons_per_pixel=electrons)
        found, error = [], []
        for seed in range(40):
            counts = specimen.draw(generator=torch.Generator().manual_seed(seed)).data
            gain = tm.noise.estimate_gain(counts * 3.7 + 50)
            found.append(gain.electrons_per_unit * 3.7)
            error.append(gain.error * 3.7)
        off, bar = np.array(found) - 1, np.array(error)
        table[f"{electrons:g} e/px"] = {
            "mean error": round(float(off.mean()), 4),
            "largest error": round(float(np.abs(off).max()), 4),
            "standard deviation": round(float(off.std()), 4),
            "mean error bar": round(float(bar.mean()), 4),
            "rms of error / error bar": round(float(np.sqrt(np.mean((off / bar) ** 2))), 2),
            "within two error bars": round(float(np.mean(np.abs(off) < 2 * bar)), 3),
        }
    return table


def real_images() -> dict[str, np.ndarray]:
    images = {
        name: tifffile.imread(DATA / f"{name}.tif")
        for name in ("MoSe2_80kV", "MoSe2_grain_boundary", "WS2Te2_cut")
    }
    with np.load(DATA / "SciLink_MoS2_Exp-000-2.npz") as file:
        images["SciLink_MoS2"] = file["image"]
    from rsciio import digitalmicrograph  # noqa: PLC0415 - extra `io`, GPL

    for path in sorted(DATA.glob("*.dm[34]")):
        images[path.stem] = digitalmicrograph.file_reader(str(path))[0]["data"]
    return images


def real_gains() -> dict[str, Any]:
    table = {}
    for name, image in real_images().items():
        gain = tm.noise.estimate_gain(image.astype(np.float64))
        table[name] = {
            "electrons per unit": float(f"{gain.electrons_per_unit:.3g}"),
            "relative error bar": round(gain.error / gain.electrons_per_unit, 3),
            "offset": float(f"{gain.offset:.4g}"),
            "electrons per pixel": float(f"{gain.electrons_per_pixel:.3g}"),
            "whiteness": round(gain.whiteness, 2),
        }
    return table


def oracles() -> dict[str, Any]:
    """AMI of the oracle with the six classes, 0.15 A/px, 10 e/px, patches of the first shell, and with own templates."""
    size, specimen = 33, tm.datasets.mose2((1010, 1010))
    truth = specimen.truth
    inside = ((truth.positions > 17) & (truth.positions < 992)).all(1)
    positions, classes = truth.positions[inside], truth.classes[inside.numpy()]
    expected = tm.extract_patches(specimen.image.data, positions, size)
    templates, names, priors = tm.noise.class_templates(expected, classes)
    own = own_templates(expected, positions, classes, names)
    table: dict[str, Any] = {"columns": len(classes), "classes": names.tolist()}
    for dose in DOSES:
        image = specimen.draw(dose, torch.Generator().manual_seed(1)).data
        patches = tm.extract_patches(image, positions, size)
        said = tm.noise.oracle(patches, templates * dose, priors)
        exact = tm.noise.oracle(patches, own * dose, priors)
        table[f"1/{round(1 / dose)}"] = {
            "AMI, mean template of each class": round(
                float(adjusted_mutual_info_score(classes, names[said.labels])), 3
            ),
            "AMI, template at each column's own sub-pixel offset": round(
                float(adjusted_mutual_info_score(classes, names[exact.labels])), 3
            ),
        }
    return table


def own_templates(
    expected: torch.Tensor, positions: torch.Tensor, classes: np.ndarray, names: np.ndarray
) -> torch.Tensor:
    """Templates (n, k, s, s): of each class the mean over columns of the same sub-pixel offset, to a third of a pixel."""
    bins = 3
    offset = positions - torch.round(positions)
    cell = ((offset + 0.5) * bins).long().clamp(0, bins - 1) @ torch.tensor([bins, 1])
    overall, _, _ = tm.noise.class_templates(expected, classes)
    table = overall.expand(bins**2, -1, -1, -1).clone()
    for c in range(bins**2):
        mine = (cell == c).numpy()
        found, kinds, _ = tm.noise.class_templates(expected[cell == c], classes[mine])
        table[c, np.searchsorted(names, kinds)] = found
    return table[cell]


def ising() -> dict[str, Any]:
    """Energy per site of draws on the real graph of pentagons against a run that goes on ten times as long."""
    path = DATA / "POM_pentagon_centres.csv"
    centres = np.loadtxt(path, delimiter=",", skiprows=1)[:, :2]
    pairs = neighbours(centres)
    table = {}
    for coupling in (-0.3, -0.1, 0.1, 0.2, 0.25):
        energy = [
            ising_energy(
                np.where(
                    ising_draw(
                        pairs,
                        len(centres),
                        filling=0.3,
                        coupling=coupling,
                        sweeps=sweeps,
                        rng=np.random.default_rng(seed),
                    ),
                    1,
                    -1,
                ),
                pairs,
            )
            / len(centres)
            for sweeps, seed in ((200, 0), (200, 1), (2000, 2))
        ]
        table[f"J/kT {coupling:g}"] = dict(
            zip(
                ("200 sweeps", "200 sweeps, other seed", "2000 sweeps"),
                [round(e, 4) for e in energy],
                strict=True,
            )
        )
    return table


def neighbours(centres: np.ndarray) -> np.ndarray:
    """Pairs of pentagons that share a side: those about 21 px apart."""
    return cKDTree(centres).query_pairs(25.0, output_type="ndarray")


def main() -> None:
    result: dict[str, Any] = {"moments": moments(), "gain, simulated": gains(), "oracle": oracles()}
    if DATA.exists():
        result["gain, real"] = real_gains()
        result["Ising energy per site"] = ising()
    for name, table in result.items():
        print(f"\n{name}")
        for row, values in table.items():
            print(f"  {row:24} {values}")
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "datasets_physics.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
