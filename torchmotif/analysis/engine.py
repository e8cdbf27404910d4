"""Who does the calls of a stage, this process or dask's workers; and what becomes of those that fail."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import as_completed
from contextlib import contextmanager
from itertools import islice
from typing import Any

from torchmotif._threads import MOST_THREADS, threads_of_one
from torchmotif.analysis.plan import Batch
from torchmotif.columns import grid
from torchmotif.errors import InputError, MissingDependencyError, OutputError, TorchMotifError

__all__ = ["Engine", "device_of_worker", "engine_for"]

_BASE = 450 << 20  # bytes that a process takes that has imported torch and dask
_SMALL = 2048 * 2048  # pixels that one process is done with before workers have started
_AHEAD = 3  # tasks per worker that are handed out
_PER_BATCH = 300 << 20  # bytes that a batch takes while its columns are fitted

_Call = tuple[Any, ...]
_Found = list[tuple[Any, str | None]]  # results, each with why there is none
_Task = tuple[Callable[..., Any], Sequence[_Call], bool]


class Engine:
    """Runs the calls of a stage, in this process or on the workers of a dask client.

    Parameters
    ----------
    client : distributed.Client, optional
        None: in this process.
    threads : int
        Tasks that this process does at once, each on one thread of torch.
    on_host : bool
        Whether batches are worked on there, too, and not on an accelerator.
    progress : bool
        Show a bar on a terminal or in a notebook.
    tile : int
        Side in pixels of what a worker does at a time.
    tolerant : bool
        Whether images that fail are noted in `failures`, each a name with its reason, rather than raised.
    failures : sequence of dict
        Of images that could not even be opened.
    """

    def __init__(
        self,
        client: Any = None,
        *,
        threads: int = 1,
        on_host: bool = True,
        progress: bool = True,
        tile: int = 2048,
        tolerant: bool = False,
        failures: Sequence[dict[str, str]] = (),
    ) -> None:
        self.client, self.threads, self.on_host, self.progress = client, threads, on_host, progress
        self.tile, self.tolerant, self.failures = tile, tolerant, list(failures)

    def fail(self, name: str, reason: str) -> None:
        """Note a failure."""
        self.failures.append({"name": name, "reason": reason})

    def nothing(self) -> InputError:
        """What to raise where no image is left."""
        reasons = "; ".join(f"{one['name']}: {one['reason']}" for one in self.failures)
        return InputError(f"no image could be analysed: {reasons or 'the source holds none'}")

    def map(
        self, function: Callable[..., Any], calls: Sequence[_Call], what: str, *, tolerant: bool = True
    ) -> tuple[dict[int, Any], dict[int, str]]:
        """Results of calls by their number, and, where that is tolerated, why the others have none.

        A call that died with its worker is done again by another one. Where one raises, those that had not begun are not begun.
        """
        from tqdm.auto import tqdm

        # Only on workers is it worth the while to hand out several batches at once.
        batched = calls and isinstance(calls[0][0], Batch) and self.client is not None
        each = max(1, self.tile**2 // grid.BATCH) if batched else 1
        starts = range(0, len(calls), each)
        tasks = [(function, calls[first : first + each], tolerant and self.tolerant) for first in starts]
        values: dict[int, Any] = {}
        reasons: dict[int, str] = {}
        silent = None if self.progress else True
        with tqdm(total=len(tasks), desc=what, disable=silent, leave=False, unit="tile") as bar:
            for number, found in self._here(tasks) if self.client is None else self._there(tasks):
                for i, (value, reason) in enumerate(found, start=each * number):
                    if reason is None:
                        values[i] = value
                    else:
                        reasons[i] = reason
                bar.update()
        return values, reasons

    def _here(self, tasks: Sequence[_Task]) -> Iterator[tuple[int, _Found]]:
        # An accelerator takes one batch after the other; what the host does is shared out all the same.
        of_device = not self.on_host and bool(tasks) and isinstance(tasks[0][1][0][0], Batch)
        threads = 1 if of_device else min(self.threads, len(tasks))
        if threads < 2:
            for number, task in enumerate(tasks):
                yield number, _in_turn(*task)
            return
        with threads_of_one(threads) as pool:
            futures = {pool.submit(_in_turn, *task): number for number, task in enumerate(tasks)}
            try:
                for future in as_completed(futures):
                    yield futures[future], future.result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _there(self, tasks: Sequence[_Task]) -> Iterator[tuple[int, _Found]]:
        from distributed import KilledWorker
        from distributed import as_completed as as_ended

        ahead = _AHEAD * max(1, len(self.client.ncores()))  # what is handed out lies in this process's memory
        waiting = iter(enumerate(tasks))
        futures: dict[Any, int] = {}

        def submitted(count: int) -> list[Any]:
            new = {self.client.submit(_in_turn, *task, pure=False): i for i, task in islice(waiting, count)}
            futures.update(new)
            return list(new)

        running = as_ended(submitted(ahead))
        try:
            for future in running:
                number = futures.pop(future)
                yield number, future.result()
                future.release()
                for new in submitted(1):
                    running.add(new)
        except KilledWorker as error:
            raise TorchMotifError(
                "workers died again and again on the same tile, most likely for want of memory; set workers= to fewer, "
                "or memory_budget= to less, and run the same command again: what was finished is kept"
            ) from error
        finally:
            self.client.cancel([future for future in futures if not future.done()])


def _in_turn(function: Callable[..., Any], calls: Sequence[_Call], tolerant: bool) -> _Found:
    """The results, each with why there is none; a store that cannot be written is nobody's fault but its own."""
    found: _Found = []
    for call in calls:
        try:
            found.append((function(*call), None))
        except (OutputError, MemoryError):
            raise
        except Exception as error:  # readers fail on damaged files in whatever way they meet the damage
            if not tolerant:
                raise
            found.append((None, str(error).strip() or type(error).__name__))
    return found


@contextmanager
def engine_for(
    *,
    pixels: int,
    device: str | None,
    workers: int | None = None,
    client: Any = None,
    scheduler: str | None = None,
    memory_budget: int | None = None,
    **how: Any,
) -> Iterator[Engine]:
    """The engine for a run over so many pixels; how it runs is said as to `Engine`.

    Raises
    ------
    InputError
        If the arguments contradict each other, or the budget does not hold one worker.
    MissingDependencyError
        If dask is needed and not there.
    """
    if client is not None and scheduler is not None:
        raise InputError("give client= or scheduler=, not both")
    count = _count(workers, device, memory_budget)
    if client is None and scheduler is None and (count == 1 or (workers is None and pixels <= _SMALL)):
        import torch

        on_host = (device or "cpu").startswith("cpu")
        threads = min(torch.get_num_threads(), MOST_THREADS, _count(MOST_THREADS, None, memory_budget))
        yield Engine(threads=threads, on_host=on_host, **how)
        return
    try:
        import dask
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise MissingDependencyError(
            "workers are run by dask: pip install 'torchmotif[field]', or set workers=1"
        ) from error
    if client is not None:
        yield Engine(client, **how)
    elif scheduler is not None:
        try:
            own = Client(scheduler, timeout="30s")
        except (OSError, ValueError) as error:
            raise InputError(f"scheduler: nobody answers at {scheduler}: {error}") from error
        with own:
            yield Engine(own, **how)
    else:
        quiet = {
            "distributed.worker.memory.terminate": False,  # the budget is kept by what is run, not by killing
            "distributed.worker.memory.pause": False,
            "distributed.worker.memory.spill": False,
            "distributed.worker.memory.target": False,
            # dask's own default gives every freed megabyte back at once: half of the time then goes into page faults
            "distributed.nanny.pre-spawn-environ": {
                "MALLOC_TRIM_THRESHOLD_": 1 << 27,
                "MALLOC_MMAP_THRESHOLD_": 1 << 27,
                "OMP_NUM_THREADS": 1,
            },
        }
        with (
            dask.config.set(quiet),
            LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                processes=True,
                dashboard_address=":0",  # any free port: dask's own may be taken by another run
                scheduler_kwargs={"dashboard": False},
                silence_logs=50,
                preload="torchmotif.analysis._interrupts",
            ) as cluster,
            Client(cluster) as own,
        ):
            yield Engine(own, **how)


def _count(workers: int | None, device: str | None, memory_budget: int | None) -> int:
    """How many workers: one for each GPU, else one for each core, as many as the budget holds."""
    if workers is None:
        if device is not None and device.startswith("cuda"):
            import torch

            workers = max(1, torch.cuda.device_count()) if device == "cuda" else 1
        else:
            workers = os.cpu_count() or 1
    if memory_budget is None:
        return workers
    if memory_budget < _BASE + _PER_BATCH:
        raise InputError(
            f"memory_budget must be at least {(_BASE + _PER_BATCH) >> 20} MiB, what one process takes, "
            f"got {memory_budget >> 20} MiB"
        )
    room = (memory_budget - _BASE) // (_BASE + _PER_BATCH)  # beside the process that hands out the tasks
    return max(1, min(workers, room))


def device_of_worker(device: str | None) -> str | None:
    """The device of this process: "cuda" is shared out among the workers of a machine in turn."""
    if device != "cuda":
        return device
    import torch

    count = torch.cuda.device_count()
    try:
        from distributed import get_worker

        name = get_worker().name
    except (ImportError, ValueError):  # no worker: this process has the first
        return "cuda:0"
    rank = name if isinstance(name, int) else sum(str(name).encode())
    return f"cuda:{rank % max(count, 1)}"
