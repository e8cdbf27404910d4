"""What each stage asks of a device, for the tests and for benchmarks/operations.py.

    python tests/fakegpu/stages.py STAGE [SIDE] [--device fakegpu|cpu] [--waits]

prints one line of JSON; "fakegpu" is the stand-in GPU, "cpu" takes the CPU for a device. `--waits` lists the lines of code
that wait. The device is registered for the whole process, so a test starts one for each stage.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
from counting import PRETENDED, Count, counted

import torchmotif as tm

__all__ = ["STAGES", "count_of", "device_called", "measured"]

PATCHES, MANY, FRAMES = 1088, 60_000, 16


def device_called(name: str) -> torch.device:
    """The stand-in for "fakegpu", which is registered now; the device that the CPU is taken for if it is "cpu"."""
    if name == "cpu":
        return PRETENDED
    from backend import DEVICE

    return DEVICE


def scan(side: int, seed: int = 1) -> torch.Tensor:
    """Simulated MoSe2, about 12 px between columns."""
    drawn = tm.datasets.mose2((side, side)).draw(generator=torch.Generator().manual_seed(seed))
    return torch.as_tensor(drawn.data).float()


def find_columns(side: int, device: torch.device) -> Callable[[], Any]:
    image = scan(side).to(device)
    return lambda: tm.find_columns(image)


def project(side: int, device: torch.device) -> Callable[[], Any]:
    """Of all columns, once the basis has the kernels of its offsets."""
    image, basis = scan(side).to(device), tm.ZernikeBasis(10, 33, device=device)
    at = torch.as_tensor(tm.datasets.mose2((side, side)).truth.positions).to(device)
    basis.project(image, at, outside="mask")
    return lambda: basis.project(image, at, outside="mask")


def fit(side: int, device: torch.device) -> Callable[[], Any]:
    """Of at most 1,088 patches; a small image has fewer."""
    image = scan(side)
    found = tm.find_columns(image)
    size = tm.patches.first_shell(found.spacing)
    at = found.positions[tm.patches.inside(found.positions, image.shape, size)][:PATCHES]
    patches, offsets = tm.extract_patches(image, at, size).to(device), tm.patches.offsets(at, size).to(device)
    return lambda: tm.MotifClassifier(random_state=0).fit(patches, offsets)


def fit_many(side: int, device: torch.device) -> Callable[[], Any]:
    """Of 60,000 patches of 21 px, more than are learnt on at once: those of an image, drawn again and again."""
    specimen = tm.datasets.mose2((side, side))
    at = specimen.truth.positions[tm.patches.inside(specimen.truth.positions, specimen.shape, 21)]
    expected = tm.extract_patches(torch.as_tensor(specimen.image.data).float(), at, 21)
    times = -(-MANY // len(at))
    patches = torch.poisson(expected.repeat(times, 1, 1), generator=torch.Generator().manual_seed(0))
    offsets = tm.patches.offsets(at, 21).repeat(times, 1)
    patches, offsets = patches[:MANY].to(device), offsets[:MANY].to(device)
    return lambda: tm.MotifClassifier(random_state=0).fit(patches, offsets)


def fit_oxide(side: int, device: torch.device) -> Callable[[], Any]:
    """Of a pentagonal oxide at a tenth of the dose: 37 motifs, a tree of eleven levels."""
    return _learnt(tm.datasets.pentagonal_oxide((side, side), random_state=3), 1 / 10, device)


def fit_bilayer(side: int, device: torch.device) -> Callable[[], Any]:
    """Of a twisted bilayer, where motifs vary continuously: ten levels."""
    return _learnt(tm.datasets.twisted_bilayer_mos2(shape=(side, side)), 1.0, device)


def fit_perovskite(side: int, device: torch.device) -> Callable[[], Any]:
    """Of a perovskite at a tenth of the dose."""
    return _learnt(tm.datasets.perovskite((side, side), random_state=3), 1 / 10, device)


def _learnt(specimen: tm.datasets.Specimen, dose: float, device: torch.device) -> Callable[[], Any]:
    """The motifs of a specimen, patches of the first shell at the true positions."""
    at = specimen.truth.positions
    size = tm.patches.first_shell(float(torch.cdist(at, at).kthvalue(2, dim=1).values.median()))
    at = at[tm.patches.inside(at, specimen.shape, size)]
    counts = torch.as_tensor(specimen.draw(dose, torch.Generator().manual_seed(3)).data)
    patches = tm.extract_patches(counts, at, size).to(device)
    offsets = tm.patches.offsets(at, size).to(device)
    return lambda: tm.MotifClassifier(random_state=0).fit(patches, offsets)


def analyze(side: int, device: torch.device) -> Callable[[], Any]:
    image = scan(side).to(device)
    return lambda: tm.analyze(image, progress=False)


def stack(side: int, device: torch.device) -> Callable[[], Any]:
    """Sixteen frames, each an array on the host."""
    frames = torch.stack([scan(side, seed) for seed in range(FRAMES)]).numpy()

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            store = Path(folder) / "stack.zarr"
            tm.field.analyze(frames, store, device=str(device), workers=1, progress=False)

    return run


# Name: what it is made of, the side of its image in pixels unless another is asked for.
STAGES: dict[str, tuple[Callable[[int, torch.device], Callable[[], Any]], int]] = {
    "find_columns": (find_columns, 512),
    "project": (project, 512),
    "fit": (fit, 512),
    "fit_many": (fit_many, 512),
    "fit_oxide": (fit_oxide, 450),
    "fit_bilayer": (fit_bilayer, 400),
    "fit_perovskite": (fit_perovskite, 500),
    "analyze": (analyze, 512),
    "stack": (stack, 256),
}


def count_of(stage: str, side: int | None = None, device: str = "fakegpu") -> Count:
    """Count a stage once."""
    make, usual = STAGES[stage]
    there = device_called(device)
    run = make(side or usual, there)
    with counted("cpu" if there == PRETENDED else there, inside=Path(tm.__file__).parent) as count:
        run()
    return count


def measured(count: Count) -> dict[str, Any]:
    """Its numbers, as JSON takes them."""
    numbers = {"operations": count.operations, "views": count.views, "waits": count.waits}
    return {**numbers, "by_kind": count.by_kind}


def main() -> None:
    parser = argparse.ArgumentParser(description="operations and waits of one stage")
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("side", type=int, nargs="?")
    parser.add_argument("--device", choices=["fakegpu", "cpu"], default="fakegpu")
    parser.add_argument(
        "--waits", action="store_true", help="the lines of code that wait, the most frequent first"
    )
    given = parser.parse_args()
    count = count_of(given.stage, given.side, given.device)
    if given.waits:
        for (kind, where), times in count.by_line.items():
            sys.stdout.write(f"{times:6d}  {kind:7s} {where}\n")
    sys.stdout.write(json.dumps(measured(count)) + "\n")


if __name__ == "__main__":
    main()
