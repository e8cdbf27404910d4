"""A device and the clock for it: times, memory, launches, and what the device could do at best."""

import cProfile
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_stages import Facts, Stage

__all__ = ["Bench"]

LONG = 6.0  # s; a call that takes longer is not profiled: the profile of its operations would fill the memory


class Bench:
    """A device and the clock for it."""

    def __init__(self, device: torch.device, small: bool, profiles: Path | None = None) -> None:
        self.device, self.cuda, self.profiles = device, device.type == "cuda", profiles
        side = 512 if small else 8192 if self.cuda else 2048
        matrix = torch.ones(side, side, device=device)
        product, copy = (self.timed(call, 10)[0]["least"] for call in (lambda: matrix @ matrix, matrix.clone))
        self.flops, self.bandwidth = 2.0 * side**3 / product, 8.0 * side**2 / copy

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def timed(self, call: Callable[[], Any], repeats: int, warm: bool = True) -> tuple[Facts, Any]:
        result = call() if warm else None
        self.wait()
        taken = []
        for _ in range(repeats):
            start = time.perf_counter()
            result = call()
            self.wait()
            taken.append(time.perf_counter() - start)
        q1, q3 = np.quantile(taken, [0.25, 0.75])
        return {
            "seconds": statistics.median(taken),
            "iqr": float(q3 - q1),
            "least": min(taken),
            "runs": repeats,
        }, result

    def measured(self, stage: Stage, repeats: int, warm: bool) -> tuple[Facts, Any]:
        """Times of a stage, its share of the roof, and on a GPU its memory and launches."""
        call = stage.prepare(self.device)
        if self.cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
        facts, result = self.timed(call, repeats, warm)
        roof = max(stage.flops / self.flops, stage.traffic / self.bandwidth)
        if roof:
            facts["share_of_roof"] = roof / facts["seconds"]
        if self.cuda:
            facts["peak_mib"] = (torch.cuda.max_memory_allocated(self.device) - before) / 2**20
            facts |= self.seen(call, facts["seconds"])
        if self.profiles is not None and facts["seconds"] < LONG:
            self.keep(call, stage.name)
        return facts, result

    def profiled(self, call: Callable[[], Any]) -> Any:
        from torch.profiler import ProfilerActivity, profile

        kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.cuda else [])]
        with profile(activities=kinds) as seen:
            call()
            self.wait()
        return seen

    def seen(self, call: Callable[[], Any], seconds: float) -> Facts:
        """Launches, copies and waits of a call; the share of its time in which the device computes."""
        if seconds >= LONG:
            return {}
        # As they were recorded: to sum them up by `key_averages` takes a hundred times as long as the call.
        events = self.profiled(call).profiler.kineto_results.events()
        kinds = {"launches": "LaunchKernel", "copies": "MemcpyAsync", "waits": "Synchronize"}
        names = [event.name() for event in events]
        counts = {what: sum(part in name for name in names) for what, part in kinds.items()}
        on_device = torch.autograd.DeviceType.CUDA
        computing = sum(event.duration_ns() for event in events if event.device_type() == on_device) / 1e9
        return {**counts, "device_busy": min(computing / seconds, 1.0)}

    def keep(self, call: Callable[[], Any], name: str) -> None:
        """A stage's operations by time on the device and on the host, and Python's own profile."""
        assert self.profiles is not None
        self.profiles.mkdir(parents=True, exist_ok=True)
        plain = self.profiles / re.sub(r"[^A-Za-z0-9]+", "-", name)
        events = self.profiled(call).key_averages()
        orders = (*(["self_device_time_total"] if self.cuda else []), "self_cpu_time_total", "count")
        tables = [events.table(sort_by=order, row_limit=30, max_name_column_width=60) for order in orders]
        plain.with_suffix(".txt").write_text("\n".join(tables))
        python = cProfile.Profile()
        python.runcall(call)
        python.dump_stats(plain.with_suffix(".pstats"))
