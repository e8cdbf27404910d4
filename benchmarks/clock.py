"""One way to time: all that is compared takes turns in one process, and the median counts."""

import time
from collections.abc import Callable

import numpy as np

__all__ = ["medians"]


def medians(
    race: dict[str, Callable[[], object]],
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
    rest: float = 0.0,
) -> dict[str, float]:
    """Median seconds of each; all take turns, in a new order each time, after one warm-up each and some seconds of rest."""
    for run in race.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in race}
    for turn in range(repeats):
        for name in np.random.default_rng(turn).permutation(list(race)):
            time.sleep(rest)
            start = clock()
            race[name]()
            times[name].append(clock() - start)
    return {name: float(np.median(values)) for name, values in times.items()}
