"""Noise against theory: variance of moments, the gain of simulated and real images, the oracle at falling dose.

Run: python benchmarks/datasets/datasets_physics.py [part ...]; parts are named in `main`. Real images are read from $TORCHMOTIF_DATA, or ../shared/data; without
them their table is left out.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from scipy.ndimage import map_coordinates, shift
from scipy.spatial import cKDTree
from sklearn.metrics import adjusted_mutual_info_score

import torchmotif as tm
from torchmotif.datasets.ising import ising_draw, ising_energy

RESULTS = Path(__file__).parents[1] / "results"
DATA = Path(os.environ.get("TORCHMOTIF_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
DOSES = (1.0, 1 / 5, 1 / 10, 1 / 20, 1 / 50, 1 / 100)


def moments() -> dict[str, Any]:
    """Measured over predicted variance of the 66 moments of one expected patch, 200,000 draws."""
    specimen = tm.datasets.mose2((96, 96))
    middle = specimen.truth.positions.sub(48).norm(dim=1).argmin()
    expected = tm.extract_patches(specimen.image.data, specimen.truth.positions[middle][None], 33)[0]
    basis = tm.ZernikeBasis(10, 33, dtype=torch.float64)
    table = {}
    for dose in (1.0, 1 / 50):
        generator = torch.Generator().manual_seed(0)
        total, square, said = (torch.zeros(66, dtype=torch.float64) for _ in range(3))
        exact = tm.noise.moment_variance((expected * dose)[None], basis.basis)[0]
        rounds, batch = 40, 5000
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
    from rsciio import digitalmicrograph

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
    own = own_templates(specimen.image.numpy(), positions, classes, names, size)
    table: dict[str, Any] = {"columns": len(classes), "classes": names.tolist()}
    for dose in DOSES:
        image = specimen.draw(dose, torch.Generator().manual_seed(1)).data
        patches = tm.extract_patches(image, positions, size)
        said = tm.noise.oracle(patches, templates * dose, priors)
        parts = [
            tm.noise.oracle(p, o * dose, priors).labels
            for p, o in zip(patches.split(500), own.split(500), strict=True)
        ]
        exact = torch.cat(parts)
        table[f"1/{round(1 / dose)}"] = {
            "AMI, mean template of each class": round(
                float(adjusted_mutual_info_score(classes, names[said.labels])), 3
            ),
            "AMI, template at each column's own sub-pixel offset": round(
                float(adjusted_mutual_info_score(classes, names[exact])), 3
            ),
        }
    return table


def own_templates(
    image: np.ndarray, positions: torch.Tensor, classes: np.ndarray, names: np.ndarray, size: int
) -> torch.Tensor:
    """Templates (n, k, s, s): the mean expected surroundings of each class, at every column's own sub-pixel offset."""
    margin, bins = 4, 8
    step = np.arange(size + 2 * margin) - (size + 2 * margin - 1) / 2
    row = positions[:, 0, None, None].numpy() + step[:, None] + 0 * step
    col = positions[:, 1, None, None].numpy() + step + 0 * step[:, None]
    centred = map_coordinates(image, [row, col], order=5, output=np.float32, mode="nearest")
    means = np.stack([centred[classes == name].mean(0) for name in names])
    offset = torch.round((positions - torch.round(positions)) * bins).long()
    inner = slice(margin, margin + size)
    places = [
        (r / bins, c / bins)
        for r in range(-bins // 2, bins // 2 + 1)
        for c in range(-bins // 2, bins // 2 + 1)
    ]
    table = np.stack([shift(means, (0, *place), order=5)[:, inner, inner] for place in places])
    return torch.from_numpy(table.clip(min=0))[(offset + bins // 2) @ torch.tensor([bins + 1, 1])]


def ising() -> dict[str, Any]:
    """Energy per site of draws on the real graph of pentagons, as they are made and after four times as many sweeps."""
    centres = np.loadtxt(DATA / "POM_pentagon_centres.csv", delimiter=",", skiprows=1)[:, :2]
    pairs = neighbours(centres)

    def energies(sweeps: int, seeds: range, coupling: float) -> np.ndarray:
        drawn = (
            ising_draw(
                pairs,
                len(centres),
                filling=0.3,
                coupling=coupling,
                sweeps=sweeps,
                rng=np.random.default_rng(seed),
            )
            for seed in seeds
        )
        return np.array([ising_energy(np.where(filled, 1, -1), pairs) for filled in drawn]) / len(centres)

    table = {}
    for coupling in (-0.3, 0.1, 0.2):
        usual, long = energies(200, range(4), coupling), energies(800, range(100, 103), coupling)
        table[f"J/kT {coupling:g}"] = {
            "200 sweeps": round(float(usual.mean()), 4),
            "standard error": round(float(usual.std(ddof=1) / len(usual) ** 0.5), 4),
            "800 sweeps": round(float(long.mean()), 4),
            "its standard error": round(float(long.std(ddof=1) / len(long) ** 0.5), 4),
        }
    return table


def neighbours(centres: np.ndarray) -> np.ndarray:
    """Pairs of pentagons that share a side: those about 21 px apart."""
    return cKDTree(centres).query_pairs(25.0, output_type="ndarray")


def main() -> None:
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "moments": moments,
        "gain, simulated": gains,
        "oracle": oracles,
    }
    if DATA.exists():
        parts |= {"gain, real": real_gains, "Ising energy per site": ising}
    path = RESULTS / "datasets_physics.json"
    result: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    RESULTS.mkdir(exist_ok=True)
    for name in sys.argv[1:] or list(parts):
        result[name] = parts[name]()
        path.write_text(json.dumps(result, indent=1) + "\n")
        print(f"\n{name}")
        for row, values in result[name].items():
            print(f"  {row:24} {values}", flush=True)


if __name__ == "__main__":
    main()
