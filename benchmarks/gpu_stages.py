"""What `benchmarks/gpu.py` runs: every stage, its input, and how two results of it are compared."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from torch import Tensor

import torchmotif as tm

__all__ = ["Facts", "Stage", "stages"]

PIXEL_NM = 0.02055  # 9.2 px between columns: 4096 x 4096 px hold more than 100,000 whole patches of 65 px
ORDERS = {33: 10, 65: 20}
DOSES = (1.0, 1 / 50, 1 / 10, 1 / 200)  # in the order of interest
FRAME = 256
NEAR = 1.0  # px within which two columns are the same

Facts = dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """What is timed. `prepare` puts its input on a device and gives the call; `compare` says how two results differ."""

    name: str
    prepare: Callable[[torch.device], Callable[[], Any]]
    compare: Callable[[Any, Any], Facts]
    items: int = 1
    flops: float = 0.0
    traffic: float = 0.0  # bytes
    repeats: int = 5
    warm: bool = True
    on_cpu: bool = True


@cache
def drawn(side: int, dose: float = 1.0, seed: int = 0) -> Tensor:
    return torch.as_tensor(
        specimen(side).draw(dose, torch.Generator().manual_seed(seed)).data, dtype=torch.float32
    )


@cache
def specimen(side: int) -> tm.datasets.Specimen:
    return tm.datasets.mose2((side, side), PIXEL_NM, vacancy_rate=0.06)


def places(side: int, size: int, count: int) -> Tensor:
    """The first true positions whose patch of `size` pixels lies in the image."""
    at = specimen(side).truth.positions
    return at[tm.patches.inside(at, (side, side), size)][:count].contiguous()


def largest_difference(found: Any, expected: Any) -> Facts:
    """Of the largest value; where both are not finite, as at the rim of maps, they are alike."""
    scale = float(expected.abs().nan_to_num(0.0).max()) or 1.0
    apart = torch.where(found.cpu().isnan() & expected.isnan(), 0.0, (found.cpu() - expected).abs())
    return {"largest_difference": float(apart.max()) / scale}


def columns_apart(found: Any, expected: Any) -> Facts:
    """Columns of one without a partner in the other, and how far apart partners lie."""
    a, b = (np.asarray(torch.as_tensor(one.positions).cpu()) for one in (found, expected))
    apart = cKDTree(b).query(a)[0]
    near = apart < NEAR
    alone = int((~near).sum()) + max(len(b) - int(near.sum()), 0)
    return {"columns": len(a), "without_partner": alone, "largest_px": float(apart[near].max(initial=0.0))}


def labels_apart(found: Any, expected: Any) -> Facts:
    """The share of labels that differ under the best assignment of motifs to motifs."""
    a, b = (np.asarray(torch.as_tensor(one).cpu()) + 1 for one in (found, expected))
    if len(a) != len(b):
        return {"columns": [len(a), len(b)]}
    table = np.zeros((a.max(initial=0) + 1, b.max(initial=0) + 1))
    np.add.at(table, (a, b), 1)
    same = table[linear_sum_assignment(table, maximize=True)].sum()
    return {"motifs": [int(a.max(initial=0)), int(b.max(initial=0))], "labels_differ": 1 - same / len(a)}


def of_patches(side: int, counts: tuple[int, ...]) -> list[Stage]:
    """Extraction, projection from patches and from the image, at whole pixels and between them."""
    stages = []
    for size, order in ORDERS.items():
        at = places(side, size, counts[-1])
        n, k = len(at), (order + 1) * (order + 2) // 2
        work, patch = 2.0 * n * k * size**2, 4.0 * n * size**2

        def extract(device: torch.device, at: Tensor = at, size: int = size) -> Callable[[], Any]:
            image, here = drawn(side).to(device), at.to(device)
            return lambda: tm.extract_patches(image, here, size)

        def project(
            device: torch.device, at: Tensor = at, size: int = size, order: int = order
        ) -> Callable[[], Any]:
            basis, patches = (
                tm.ZernikeBasis(order, size, device=device),
                tm.extract_patches(drawn(side), at, size),
            )
            there = patches.to(device)
            return lambda: basis(there)

        def from_image(
            device: torch.device, at: Tensor = at, size: int = size, order: int = order
        ) -> Callable[[], Any]:
            basis, image, here = (
                tm.ZernikeBasis(order, size, device=device),
                drawn(side).to(device),
                at.to(device),
            )
            return lambda: basis.project(image, here)

        def from_whole(device: torch.device, at: Tensor = at, run: Any = from_image) -> Callable[[], Any]:
            return run(device, at.round())

        stages += [
            Stage(f"extract, {size} px", extract, largest_difference, n, 0, 2 * patch, 20),
            Stage(f"project patches, {size} px", project, largest_difference, n, work, patch, 20),
            Stage(f"project at whole pixels, {size} px", from_whole, largest_difference, n, work, patch, 20),
            Stage(f"project between pixels, {size} px", from_image, largest_difference, n, work, patch, 20),
        ]
    return stages


def of_image(side: int) -> list[Stage]:
    """Dense maps, principal components."""
    part = min(side, 1024)

    def maps(device: torch.device) -> Callable[[], Any]:
        basis, image = tm.ZernikeBasis(10, 33, device=device), drawn(side)[:part, :part].to(device)
        return lambda: basis.maps(image)

    vectors = tm.extract_patches(drawn(side), places(side, 33, 20_000), 33).flatten(1)

    def fit(device: torch.device) -> Callable[[], Any]:
        there = vectors.to(device)
        return lambda: torch.as_tensor(tm.PCA(20).fit(there).explained_variance_)

    def transform(device: torch.device) -> Callable[[], Any]:
        there, model = vectors.to(device), tm.PCA(20).fit(vectors[:2000].to(device))
        return lambda: model.transform(there)

    n, width = vectors.shape
    return [
        Stage(f"maps, {part}²", maps, largest_difference, part**2, 0, 4.0 * part**2 * 66, 5),
        Stage("PCA fit", fit, largest_difference, n, 2.0 * n * width**2, 4.0 * n * width, 5),
        # Components of two fits differ by their sign: its own figure is the time alone.
        Stage(
            "PCA transform",
            transform,
            lambda a, b: largest_difference(a.abs(), b.abs()),
            n,
            2.0 * n * width * 20,
            4.0 * n * width,
        ),
    ]


def of_columns(side: int, sizes: tuple[int, ...]) -> list[Stage]:
    def find(size: int) -> Stage:
        def prepare(device: torch.device) -> Callable[[], Any]:
            image = drawn(side)[:size, :size].contiguous().to(device)
            return lambda: tm.find_columns(image)

        return Stage(
            f"find_columns, {size}²", prepare, columns_apart, size**2, repeats=3, on_cpu=size <= 2048
        )

    return [find(size) for size in sizes]


def of_motifs(side: int, counts: tuple[int, ...]) -> list[Stage]:
    def sort(n: int, size: int, dose: float) -> Stage:
        at = places(side, size, n)

        def prepare(device: torch.device) -> Callable[[], Any]:
            patches = tm.extract_patches(drawn(side, dose), at, size).to(device)
            offsets = tm.patches.offsets(at, size).to(device)
            return lambda: tm.MotifClassifier(random_state=0).fit_predict(patches, offsets)

        on_cpu = n <= 10_000 or (size == 33 and dose == 1.0)
        return Stage(
            f"motifs, {len(at):,} of {size} px, dose {dose:g}",
            prepare,
            labels_apart,
            len(at),
            repeats=2,
            on_cpu=on_cpu,
        )

    return [sort(n, size, dose) for size in ORDERS for dose in DOSES for n in counts]


def end_to_end(side: int, frames: int) -> list[Stage]:
    part = min(side, 1024)

    def analyze(device: torch.device) -> Callable[[], Any]:
        image = drawn(side)[:part, :part].contiguous().to(device)
        return lambda: tm.analyze(image, progress=False).labels

    def in_store(device: torch.device, images: np.ndarray) -> Callable[[], Any]:
        def run() -> Any:
            with tempfile.TemporaryDirectory() as name:
                result = tm.field.analyze(
                    images, Path(name) / "store", workers=1, device=str(device), hierarchy=0, progress=False
                )
                return np.asarray(result.labels)

        return run

    def stack() -> np.ndarray:
        per = (side // FRAME) ** 2
        whole = [drawn(side, seed=1 + number // per) for number in range(0, frames, per)]
        tiles = [image.unfold(0, FRAME, FRAME).unfold(1, FRAME, FRAME).flatten(0, 1) for image in whole]
        return torch.cat(tiles)[:frames].numpy()

    field = min(side, 2048)
    return [
        Stage(f"analyze, {part}²", analyze, labels_apart, part**2, repeats=1),
        Stage(
            f"field, {field}², one worker",
            lambda device: in_store(device, drawn(side)[:field, :field].numpy()),
            labels_apart,
            field**2,
            repeats=1,
            on_cpu=False,
        ),
        Stage(
            f"{frames:,} frames of {FRAME}², to labels",
            lambda device: in_store(device, stack()),
            labels_apart,
            frames,
            repeats=1,
            warm=False,
            on_cpu=frames <= 32,
        ),
    ]


def stages(small: bool) -> list[Stage]:
    """In the order in which they run: what is of most interest first, should time run out."""
    side = 512 if small else 4096
    return [
        *of_patches(side, (1000,) if small else (100_000,)),
        *of_image(side),
        *of_columns(side, (256,) if small else (512, 2048, 4096)),
        *end_to_end(side, 4 if small else 200),
        *of_motifs(side, (300,) if small else (1_000, 10_000, 100_000)),
    ]
