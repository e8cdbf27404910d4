"""What the search for columns is up against in images: how unlike columns are, and what is too faint or too wide for it.

    python benchmarks/columns/columns_limits.py [overdispersion] [sulphur] [background] [hollows]

overdispersion: variance of the columns' elongations over what noise lets expect, in every real image.
sulphur: intensity over its error at the sites that the molybdenum lattice of SciLink_MoS2_Exp-000-2.npz predicts.
background: by how much the uncertain background and width enlarge the claimed errors of few counts, exactly, in three draws.
hollows: the dark centres of hexagons in simulated MoSe2, which are wide and overlap: found, and right, of those there.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from dose_sweep import DATA
from scipy.spatial import Delaunay, cKDTree

import torchmotif as tm
from torchmotif.columns import tiled
from torchmotif.columns._fit import Fit
from torchmotif.columns.calibrate import calibrate

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "columns"))
from probes import honeycomb

SUFFIXES = {".dm3", ".dm4", ".hspy", ".npz", ".png", ".tif"}
LARGEST = 1024  # pixels of a side that are looked at
DISTANCE = 0.3289 / 0.015  # px between hexagons of MoSe2 at 0.015 nm a pixel


def overdispersion() -> Iterator[str]:
    for path in sorted(DATA.iterdir()):
        if path.suffix in SUFFIXES:
            pixels = tm.read(path).numpy()[:LARGEST, :LARGEST].astype(np.float32)
            yield f"{path.name}: {calibrate([pixels]).overdispersion:.2f}"


def sulphur() -> Iterator[str]:
    """Molybdenum is found; the triangles of its lattice are of two kinds, one of which has sulphur in the middle."""
    scan = tm.read(DATA / "SciLink_MoS2_Exp-000-2.npz")
    pixels = torch.as_tensor(scan.numpy().astype(np.float32))
    columns, model = tm.find_columns(scan), calibrate([pixels])
    at = np.asarray(columns.positions)
    corners = at[Delaunay(at).simplices]
    sides = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2)
    corners = corners[(abs(sides / columns.spacing - 1) < 0.25).all(axis=1)]
    middles = corners.mean(axis=1)
    out = corners[:, 0] - middles
    turn = np.exp(3j * np.arctan2(out[:, 0], out[:, 1]))
    up = (turn * np.exp(-0.5j * np.angle((turn**2).mean()))).real > 0
    for name, kind in (("triangles one way", ~up), ("triangles the other way", up)):
        every = torch.from_numpy(np.concatenate([at, middles[kind]]))
        fixed = torch.arange(len(every)) >= len(at)
        fit = tiled.columns_at(pixels[None], model, every, torch.zeros_like(fixed, dtype=torch.long), fixed)
        z = (fit["intensities"] / fit["intensity_errors"])[fit["is_predicted"]]
        yield f"{name}: {len(z)}, intensity over error {z.median():.2f} in the median, {(z > 3).double().mean():.0%} above 3"


class Watched(Fit):
    """A fit of which is known, at its end, what claims would be with background and width as uncertain as they are."""

    ratios: ClassVar[list[float]] = []

    def covariance(self, *, draft: bool = False) -> torch.Tensor:
        """As ever; on the way the exact information of all unknowns is inverted."""
        if not draft:
            self.ratios.append(self.ratio())
        return super().covariance(draft=draft)

    def ratio(self) -> float:
        """Root mean square of the claimed position errors with background and width unknown, over that with both known."""
        width, intensity = self.shape.width.double(), self.intensity.double()[:, None, None]
        waves = []
        for axis, length in enumerate(self.data.shape[1:]):
            step = torch.arange(length).double() - self.positions[:, axis, None]
            wave = torch.exp(-(step**2) / (2 * width[axis] ** 2)) / width[axis]
            waves.append(
                (wave, wave * step / width[axis] ** 2, wave * (step**2 / width[axis] ** 3 - 1 / width[axis]))
            )
        (u, du, wu), (v, dv, wv) = ([part / (2 * np.pi) ** 0.5 for part in axis] for axis in waves)

        def pictures(rows: torch.Tensor, cols: torch.Tensor) -> torch.Tensor:
            return rows[:, :, None] * cols[:, None]

        columns = [pictures(u, v), intensity * pictures(du, v), intensity * pictures(u, dv)]
        columns = torch.stack(columns, dim=1).flatten(0, 1).flatten(1)
        widths = torch.stack(
            [(intensity * picture).sum(dim=0) for picture in (pictures(wu, v), pictures(u, wv))]
        )
        splines = torch.einsum("ra,cb->abrc", self.rows.double(), self.cols.double()).flatten(0, 1)
        slopes = torch.cat([columns, widths.flatten(1), splines.flatten(1)])
        information = (slopes * self.weights.double().flatten()) @ slopes.T
        many, every = len(columns), len(information)
        steady = 1e-9 * information.diagonal().max() * torch.eye(every).double()
        steady[:many] = 0
        known, unknown = (
            torch.linalg.inv(part).diagonal()[:many].view(-1, 3)[:, 1:].sum()
            for part in (information[:many, :many], information + steady)
        )
        return float((unknown / known).sqrt())


def background() -> Iterator[str]:
    import torchmotif.columns._search as module

    module.Fit = Watched
    scene = honeycomb()
    for seed in range(3):
        tm.find_columns(scene.draw(1 / 50, seed).numpy())
    module.Fit = Fit
    yield ", ".join(f"{100 * (ratio - 1):.2f} %" for ratio in Watched.ratios)


def hollows() -> Iterator[str]:
    specimen = tm.datasets.mose2((256, 256), 0.015, vacancy_rate=0.0)
    columns = specimen.truth.positions.numpy()

    def inner(at: np.ndarray) -> np.ndarray:
        return ((at > DISTANCE) & (at < 255 - DISTANCE)).all(axis=1)

    for dose in (1.0, 1 / 10):
        said = []
        for seed in range(8):
            image = specimen.draw(dose, torch.Generator().manual_seed(seed))
            found = tm.find_columns(image, polarity="dark", spacing=DISTANCE).positions.numpy()
            found = found[inner(found)]
            near = cKDTree(columns).query(found, k=3)[0] * 3**0.5 / DISTANCE
            said.append(f"{len(found)}, {int((abs(near - 1) < 0.25).all(axis=1).sum())}")
        yield f"dose {dose:g}, of {inner(columns).sum() / 2:g}: " + "; ".join(said)


def main() -> None:
    every = (overdispersion, sulphur, background, hollows)
    for part in every:
        if len(sys.argv) == 1 or part.__name__ in sys.argv[1:]:
            print(part.__name__)
            for line in part():
                print(" ", line, flush=True)


if __name__ == "__main__":
    main()
