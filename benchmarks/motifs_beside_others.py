"""MotifClassifier.fit alone and beside two busy processes, as on a machine that others use too.

Run ``python benchmarks/motifs_beside_others.py [--rounds 5] [--threads 2] [--size 400]``; alone and beside take turns, and the
ratio of the medians is printed with those of single rounds. The busy processes are loops of Python, one thread each. Say what
else ran on the machine: on busy cores the fit alone is slow as well. ``--patches N`` times fits of N patches of 33 px with one thread
and with several instead.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

import torchmotif as tm
from torchmotif.patches import inside, offsets

BUSY = 2


def spin() -> None:
    while True:
        pass


@contextmanager
def busy(processes: int) -> Iterator[None]:
    context = multiprocessing.get_context("spawn")
    running = [context.Process(target=spin, daemon=True) for _ in range(processes)]
    for process in running:
        process.start()
    time.sleep(1.0)  # until they have started
    try:
        yield
    finally:
        for process in running:
            process.terminate()
            process.join()


def drawn(pixels: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches and offsets of MoSe2 at a tenth of the dose."""
    specimen = tm.datasets.mose2((pixels, pixels))
    positions = specimen.truth.positions[inside(specimen.truth.positions, specimen.shape, size)]
    counts = torch.as_tensor(specimen.draw(1 / 10, torch.Generator().manual_seed(0)).data)
    return tm.extract_patches(counts, positions, size), offsets(positions, size)


def seconds(patches: torch.Tensor, shifts: torch.Tensor) -> float:
    start = time.perf_counter()
    tm.MotifClassifier().fit(patches, shifts)
    return time.perf_counter() - start


def beside(rounds: int, pixels: int) -> None:
    patches, shifts = drawn(pixels, 37)
    seconds(patches, shifts)
    alone, together = [], []
    for _ in range(rounds):
        alone.append(seconds(patches, shifts))
        with busy(BUSY):
            together.append(seconds(patches, shifts))
        print(f"alone {alone[-1]:6.2f} s   beside {BUSY} busy processes {together[-1]:6.2f} s", flush=True)
    ratio = statistics.median(together) / statistics.median(alone)
    print(f"{len(patches)} patches, {torch.get_num_threads()} threads: ratio of medians {ratio:.2f}")


def by_threads(count: int, threads: int, rounds: int) -> None:
    fit = tm.MotifClassifier._fit  # noqa: SLF001
    tm.MotifClassifier._fit = getattr(fit, "__wrapped__", fit)  # noqa: SLF001  # without its limit to one thread
    patches, shifts = drawn(900, 33)
    rows = torch.arange(count) % len(patches)
    if count > len(patches):  # repeated, with noise of their own
        repeated = torch.poisson(patches[rows].float(), generator=torch.Generator().manual_seed(1))
    else:
        repeated = patches[rows]
    times: dict[int, list[float]] = {1: [], threads: []}
    for _ in range(rounds):
        for number, taken in times.items():
            torch.set_num_threads(number)
            taken.append(seconds(repeated, shifts[rows]))
    print(count, {number: round(statistics.median(taken), 2) for number, taken in times.items()}, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--size", type=int, default=400, help="side of the image in pixels")
    parser.add_argument("--patches", type=int, nargs="*", help="times of fits of so many patches by threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for wanted in options.patches or ():
        by_threads(wanted, options.threads, options.rounds)
    if not options.patches:
        beside(options.rounds, options.size)
