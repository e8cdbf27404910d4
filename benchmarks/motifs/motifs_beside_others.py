"""MotifClassifier.fit alone and beside two busy processes, as on a machine that others use too.

Run ``python benchmarks/motifs/motifs_beside_others.py [--rounds 5] [--threads 2] [--size 400]``; alone and beside take turns, and the
ratios of the medians are printed. The busy processes are loops of Python. A loop that is measured in the same way says what any
program of one thread loses, also to whatever else runs on the machine. ``--patches N`` times fits of N patches of 33 px instead,
with one thread and with several, which `fit` itself does not use.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
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


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    """Time on the clock, and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processor


def beside(rounds: int, pixels: int) -> None:
    patches, shifts = drawn(pixels, 37)
    works = {
        "fit": lambda: tm.MotifClassifier().fit(patches, shifts),
        "loop": lambda: sum(range(40_000_000)),
    }
    works["fit"]()
    alone: dict[str, list[float]] = {name: [] for name in works}
    together: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        said = []
        for name, work in works.items():
            clock, processor = seconds(work)
            with busy(BUSY):
                clock_beside, processor_beside = seconds(work)
            alone[name].append(clock)
            together[name].append(clock_beside)
            said.append(
                f"{name} {clock:6.2f} -> {clock_beside:6.2f} s (cpu {processor:.2f} -> {processor_beside:.2f})"
            )
        print("   ".join(said), flush=True)
    ratios = {name: statistics.median(together[name]) / statistics.median(alone[name]) for name in works}
    print(
        f"{len(patches)} patches, {torch.get_num_threads()} threads, beside {BUSY} busy processes over alone, medians:"
    )
    print({name: round(ratio, 2) for name, ratio in ratios.items()})


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
            taken.append(seconds(lambda: tm.MotifClassifier().fit(repeated, shifts[rows]))[0])
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
